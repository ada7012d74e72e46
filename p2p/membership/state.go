package membership

import (
	"crypto/ed25519"
	"fmt"
	"slices"
	"time"

	"github.com/talka-grid/talka/workunits"
)

// State is what a node keeps of its private network. Methods that change it
// leave slices of earlier copies alone.
type State struct {
	Version  int      `cbor:"v"` // 1
	Network  string   `cbor:"net"`
	Key      Key      `cbor:"key"`
	Own      Proof    `cbor:"own"`
	Removals Removals `cbor:"removals"`
	Issued   []Issued `cbor:"issued"` // what this node issued that is still valid, oldest first
}

// Issued is a certificate that an issuer remembers.
type Issued struct {
	Subject workunits.NodeID `cbor:"of"`
	Invite  bool             `cbor:"invite"`
	Via     workunits.NodeID `cbor:"via"` // the invite by which the node came; zero for none
	At      uint64           `cbor:"at"`
	Until   uint64           `cbor:"until"`
}

// New makes a network and its first member, who issues.
func New(name string, network ed25519.PrivateKey, node workunits.NodeID, now time.Time, valid time.Duration) (State, error) {
	s := State{Version: 1, Network: name, Key: KeyOf(network), Own: Proof{Node: node}}
	return s, s.RenewOwn(network, now, valid)
}

// RenewOwn makes the issuer's own certificate anew. It needs none that is valid.
func (s *State) RenewOwn(network ed25519.PrivateKey, now time.Time, valid time.Duration) error {
	node := s.Own.Node
	c, err := s.Issue(network, Certificate{Subject: node, By: node}, workunits.NodeID{}, now, valid)
	if err == nil {
		s.Own = Proof{Cert: c, Node: node}
	}
	return err
}

// ParseState reads and checks the encoding of a state, all signatures included.
// Whether the node is still a member is for Check.
func ParseState(b []byte) (State, error) {
	s, err := workunits.Decode[State](b, MaxState)
	if err != nil {
		return s, err
	}
	switch {
	case s.Version != 1:
		return s, fmt.Errorf("version %d, want 1", s.Version)
	case len(s.Issued) > MaxIssued:
		return s, fmt.Errorf("%d certificates, at most %d are remembered", len(s.Issued), MaxIssued)
	}
	if err := s.Own.check(s.Key, s.Network, s.Own.Node); err != nil {
		return s, err
	}
	return s, s.Removals.check(s.Key, s.Network)
}

// Encode is the inverse of ParseState.
func (s State) Encode() []byte { return workunits.Encode(s) }

// Check reports whether the proof makes the node a member now. The error wraps
// ErrNoMember.
func (s State) Check(p Proof, node workunits.NodeID, now time.Time) error {
	if err := p.check(s.Key, s.Network, node); err != nil {
		return err
	}
	return s.Stands(p, now)
}

// Stands is Check for a proof that was checked before.
func (s State) Stands(p Proof, now time.Time) error {
	switch {
	case millis(now) >= p.Cert.Until:
		return fmt.Errorf("%w at %s", ErrExpired, p.Cert.Ends().Format(time.RFC3339))
	case s.Removals.void(p):
		return ErrRemoved
	}
	return nil
}

func (s State) stands(p Proof, now time.Time) bool { return s.Stands(p, now) == nil }

// Issue signs a certificate of the state's network and remembers it. Subject,
// Invite and By are set; via is the invite by which the node came, if it did.
// A node that was removed before is a member again.
func (s *State) Issue(network ed25519.PrivateKey, c Certificate, via workunits.NodeID, now time.Time, valid time.Duration) (Certificate, error) {
	if KeyOf(network) != s.Key {
		return c, fmt.Errorf("the key is not that of network %q", s.Network)
	}
	at := millis(now)
	for _, r := range s.Removals.Nodes {
		if r.Node == c.Subject {
			at = max(at, r.At+1)
		}
	}
	if c.Invite {
		at = max(at, s.Removals.Invites+1)
	}
	c.Network, c.Issued, c.Until = s.Network, at, at+uint64(max(valid.Milliseconds(), 0))
	c, err := Issue(network, c)
	if err != nil {
		return c, err
	}
	list := slices.DeleteFunc(slices.Clone(s.Issued), func(i Issued) bool { return i.Until <= millis(now) || i.Subject == c.Subject })
	if len(list) >= MaxIssued {
		return c, fmt.Errorf("%d certificates are valid, at most %d can be", len(list), MaxIssued)
	}
	list = append(list, Issued{c.Subject, c.Invite, via, c.Issued, c.Until})
	s.Issued = list
	return c, nil
}

// Renew issues a node that has shown p, which was checked, a certificate of its own
// if that is due. By is the issuer.
func (s *State) Renew(network ed25519.PrivateKey, by workunits.NodeID, p Proof, now time.Time, valid time.Duration) (c Certificate, renewed bool, err error) {
	spoken := p.Node != p.Cert.Subject && !p.Cert.Invite
	if spoken || !p.Due(now) || !s.stands(p, now) {
		return c, false, nil
	}
	via := workunits.NodeID{}
	if p.Cert.Invite {
		via = p.Cert.Subject
	} else if i := slices.IndexFunc(s.Issued, func(i Issued) bool { return i.Subject == p.Node }); i >= 0 {
		via = s.Issued[i].Via
	}
	c, err = s.Issue(network, Certificate{Subject: p.Node, By: by}, via, now, valid)
	return c, err == nil, err
}

// Renewed takes a new certificate of the node's own. It reports whether it was
// newer than the old one.
func (s *State) Renewed(c Certificate, now time.Time) (bool, error) {
	p := Proof{Cert: c, Node: s.Own.Node}
	if err := s.Check(p, s.Own.Node, now); err != nil {
		return false, err
	}
	if !s.Own.Cert.Invite && c.Issued <= s.Own.Cert.Issued {
		return false, nil
	}
	s.Own = p
	return true, nil
}

// Remove takes back the network's word from a node, or from an invite by its key,
// and from all invites: the node may have kept one.
func (s *State) Remove(network ed25519.PrivateKey, node workunits.NodeID, now time.Time) error {
	switch {
	case KeyOf(network) != s.Key:
		return fmt.Errorf("the key is not that of network %q", s.Network)
	case node == s.Own.Node:
		return fmt.Errorf("%s is this node, which issues", node)
	}
	at := millis(now)
	long := uint64(MaxValid.Milliseconds())
	nodes := slices.DeleteFunc(slices.Clone(s.Removals.Nodes), func(r Removed) bool { return r.Node == node || r.At+long < at })
	if len(nodes) >= MaxRemoved {
		return fmt.Errorf("%d nodes are removed already", len(nodes))
	}
	nodes = append(nodes, Removed{Node: node, At: at})
	slices.SortFunc(nodes, func(a, b Removed) int { return a.Node.Compare(b.Node) })
	r := Removals{Network: s.Network, Number: s.Removals.Number + 1, Invites: at, Nodes: nodes}
	r.Sig = ed25519.Sign(network, r.signed())
	s.Removals = r
	s.Issued = slices.DeleteFunc(slices.Clone(s.Issued), func(i Issued) bool { return i.Subject == node || i.Invite })
	return nil
}

// Take takes a list of removals from a peer. It reports whether it is newer than
// the state's own.
func (s *State) Take(r Removals) (bool, error) {
	if err := r.check(s.Key, s.Network); err != nil {
		return false, err
	}
	if r.Number <= s.Removals.Number {
		return false, nil
	}
	s.Removals = r
	return true, nil
}

// Pass is what an invite to a private network carries: a certificate, and the
// private key that it names unless it names a node.
type Pass struct {
	Key    Key         `cbor:"key"`
	Cert   Certificate `cbor:"cert"`
	Secret []byte      `cbor:"secret"` // seed of an Ed25519 key, or empty
}

// Check looks at all but the time.
func (p Pass) Check(network string) error {
	if err := p.Cert.check(p.Key, network); err != nil {
		return err
	}
	if p.Cert.Invite != (len(p.Secret) == ed25519.SeedSize) || !p.Cert.Invite && len(p.Secret) > 0 {
		return fmt.Errorf("%w: the certificate and the key do not fit", ErrNoMember)
	}
	if p.Cert.Invite && workunits.NodeIDOf(ed25519.NewKeyFromSeed(p.Secret)) != p.Cert.Subject {
		return fmt.Errorf("%w: the key is not the one that the certificate names", ErrNoMember)
	}
	return nil
}

// Admit makes a node a member by the pass.
func (p Pass) Admit(node workunits.NodeID, now time.Time) (State, error) {
	s := State{Version: 1, Network: p.Cert.Network, Key: p.Key}
	if err := p.Check(s.Network); err != nil {
		return s, err
	}
	if p.Cert.Invite {
		s.Own = p.Cert.For(ed25519.NewKeyFromSeed(p.Secret), node)
	} else {
		s.Own = Proof{Cert: p.Cert, Node: node}
	}
	return s, s.Check(s.Own, node, now)
}
