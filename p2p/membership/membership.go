// Package membership says who belongs to a private network. It decides only;
// package p2p carries its records and closes connections.
//
// # Words
//
// A private network is a name and a key. Whoever has the private half of the key,
// the network key, says who is a member: an issuer. The public half is what
// members know of each other and nobody else does; it seals what they show.
//
// A [Certificate] is the network key's word, until a time, that a node is a member,
// or that whoever has an invite's key is. A [Proof] is what a node shows: a
// certificate that names it, or one that names a key which signed for the node. The
// latter serves two: the bearer of an invite, and the hosts without an identity of
// their own with which a member's AutoNAT dials.
//
// [Removals] is the issuer's numbered list of whom it takes back its word from. The
// highest number counts. An issuer renews the certificates of members that it meets;
// who came by an invite gets one of its own at the first meeting. There is to be one
// issuer at a time: of two lists with the same number one is lost.
//
// A [State] is all that a node keeps of its network, in one file.
//
// # Encoding
//
// Records are dag-cbor (see workunits.Encode), times milliseconds since 1970.
// Signatures are Ed25519 over a domain and the BLAKE3 digest of the record without
// its signature. testdata/vectors.json holds samples that must not change.
//
// Everything is a pure function of its arguments, safe for concurrent use on
// different values.
package membership

import (
	"crypto/ed25519"
	"encoding/base32"
	"errors"
	"fmt"
	"time"

	"github.com/talka-grid/talka/workunits"
)

// Limits of the records.
const (
	MaxValid   = 400 * 24 * time.Hour // of a certificate
	MaxRemoved = 1024                 // nodes on a list of removals
	MaxIssued  = 1 << 13              // certificates that an issuer remembers
	// MaxProof, MaxRemovals and MaxState are the most bytes of their encodings.
	MaxProof    = 1 << 10
	MaxRemovals = 64 << 10
	MaxState    = 2 << 20
)

// Errors of Check. All wrap ErrNoMember.
var (
	ErrNoMember = errors.New("no member of the network")
	ErrExpired  = fmt.Errorf("%w: its membership has expired", ErrNoMember)
	ErrRemoved  = fmt.Errorf("%w: its membership was taken back", ErrNoMember)
)

// Key is the public half of a network key. Members keep it to themselves.
type Key [ed25519.PublicKeySize]byte

// KeyOf is the public half of a network key.
func KeyOf(network ed25519.PrivateKey) (k Key) {
	copy(k[:], network.Public().(ed25519.PublicKey))
	return k
}

// String is a short name of the key, which does not give it away.
func (k Key) String() string {
	d := workunits.Sum(append([]byte("talka/1 network name\x00"), k[:]...))
	return base32.NewEncoding("abcdefghijklmnopqrstuvwxyz234567").WithPadding(base32.NoPadding).EncodeToString(d[:10])
}

// Certificate is the network key's word that whoever has the private key of
// Subject is a member.
type Certificate struct {
	Network string           `cbor:"net"`
	Subject workunits.NodeID `cbor:"of"`
	Invite  bool             `cbor:"invite"` // Subject is the key of an invite, not a node
	By      workunits.NodeID `cbor:"by"`     // the node that issued it, and renews it
	Issued  uint64           `cbor:"issued"`
	Until   uint64           `cbor:"until"`
	Sig     []byte           `cbor:"sig"`
}

func (c Certificate) signed() []byte {
	c.Sig = nil
	return digest("talka/1 member\x00", c)
}

func digest(domain string, record any) []byte {
	d := workunits.Sum(workunits.Encode(record))
	return append([]byte(domain), d[:]...)
}

// Issue signs a certificate: all fields are set but the signature.
func Issue(network ed25519.PrivateKey, c Certificate) (Certificate, error) {
	c.Sig = ed25519.Sign(network, c.signed())
	return c, c.check(KeyOf(network), c.Network)
}

// check looks at all but the time.
func (c Certificate) check(k Key, name string) error {
	switch {
	case workunits.ValidName(c.Network) != nil || c.Network != name:
		return fmt.Errorf("%w: the certificate is of another network", ErrNoMember)
	case c.Subject.IsZero() || c.By.IsZero():
		return fmt.Errorf("%w: the certificate names nobody", ErrNoMember)
	case c.Until <= c.Issued || c.Until-c.Issued > uint64(MaxValid.Milliseconds()):
		return fmt.Errorf("%w: the certificate has no span of time up to %s", ErrNoMember, MaxValid)
	case len(c.Sig) != ed25519.SignatureSize || !ed25519.Verify(k[:], c.signed(), c.Sig):
		return fmt.Errorf("%w: the certificate is not signed by the network", ErrNoMember)
	}
	return nil
}

// Ends is when the certificate ends to be valid.
func (c Certificate) Ends() time.Time { return time.UnixMilli(int64(min(c.Until, 1<<62))).UTC() }

// Proof is what a node shows. Word is empty if the certificate names the node
// itself, else the signature of the named key over the node.
type Proof struct {
	Cert Certificate      `cbor:"cert"`
	Node workunits.NodeID `cbor:"node"`
	Word []byte           `cbor:"word"`
}

// word is what the named key signs for a node.
func word(network string, node workunits.NodeID) []byte {
	return digest("talka/1 member speaks for\x00", struct {
		Network string           `cbor:"net"`
		Node    workunits.NodeID `cbor:"node"`
	}{network, node})
}

// For makes a proof for a node from a certificate and the key that it names.
func (c Certificate) For(named ed25519.PrivateKey, node workunits.NodeID) Proof {
	p := Proof{Cert: c, Node: node}
	if c.Subject != node {
		p.Word = ed25519.Sign(named, word(c.Network, node))
	}
	return p
}

// check looks at all but the time and removals.
func (p Proof) check(k Key, name string, node workunits.NodeID) error {
	if err := p.Cert.check(k, name); err != nil {
		return err
	}
	if p.Node != node {
		return fmt.Errorf("%w: what it shows is another node's", ErrNoMember)
	}
	if p.Cert.Subject == node {
		if p.Cert.Invite || len(p.Word) > 0 {
			return fmt.Errorf("%w: the proof is malformed", ErrNoMember)
		}
		return nil
	}
	if len(p.Word) != ed25519.SignatureSize || !ed25519.Verify(p.Cert.Subject[:], word(name, node), p.Word) {
		return fmt.Errorf("%w: nobody with a certificate speaks for it", ErrNoMember)
	}
	return nil
}

// Due reports whether an issuer should make the proof's node a new certificate:
// it came by an invite, or half of its time is over.
func (p Proof) Due(now time.Time) bool {
	return p.Cert.Invite || millis(now) >= p.Cert.Issued+(p.Cert.Until-p.Cert.Issued)/2
}

func millis(t time.Time) uint64 { return uint64(max(t.UnixMilli(), 0)) }

// Removals is whom the network key takes back its word from.
type Removals struct {
	Network string    `cbor:"net"`
	Number  uint64    `cbor:"number"`  // 0 for the empty list, which nobody signs
	Invites uint64    `cbor:"invites"` // invites that were issued until then are void
	Nodes   []Removed `cbor:"nodes"`   // ascending, without repetition
	Sig     []byte    `cbor:"sig"`
}

// Removed is a node whose certificates that were issued until a time are void.
type Removed struct {
	_    struct{} `cbor:",toarray"`
	Node workunits.NodeID
	At   uint64
}

func (r Removals) signed() []byte {
	r.Sig = nil
	return digest("talka/1 removals\x00", r)
}

func (r Removals) check(k Key, name string) error {
	if r.Number == 0 {
		if r.Network != "" || r.Invites != 0 || len(r.Nodes)+len(r.Sig) > 0 {
			return errors.New("list of removals without a number")
		}
		return nil
	}
	if r.Network != name || len(r.Nodes) > MaxRemoved {
		return fmt.Errorf("list of %d removals for network %.70q, want at most %d for %q", len(r.Nodes), r.Network, MaxRemoved, name)
	}
	for i := range r.Nodes {
		if i > 0 && r.Nodes[i-1].Node.Compare(r.Nodes[i].Node) >= 0 {
			return errors.New("list of removals out of order")
		}
	}
	if len(r.Sig) != ed25519.SignatureSize || !ed25519.Verify(k[:], r.signed(), r.Sig) {
		return errors.New("list of removals is not signed by the network")
	}
	return nil
}

// void reports whether the list takes back what the proof rests on.
func (r Removals) void(p Proof) bool {
	if p.Cert.Invite && p.Cert.Issued <= r.Invites {
		return true
	}
	for _, n := range r.Nodes {
		if (n.Node == p.Node || n.Node == p.Cert.Subject) && p.Cert.Issued <= n.At {
			return true
		}
	}
	return false
}
