package workunits

import (
	"crypto/ed25519"
	"errors"
	"fmt"
)

// Bounds of a contribution.
const (
	MaxContribution = 16 << 20 // bytes
	maxVouchers     = 256
	maxContributed  = 1 << 53 // of each count
)

// domainContribution is that of Contribution's signature.
const domainContribution = "talka/1 contribution\x00"

// Contribution is what a node gave, for others to check. What it says of itself is
// its own word, under its signature. Evidence is the word of publishers: a signed
// manifest of a project names a table of stakes, and the table holds what the node
// had earned in the project's jobs before that one.
type Contribution struct {
	Network  string     `cbor:"net"`
	Node     NodeID     `cbor:"node"`
	Made     uint64     `cbor:"made"`     // seconds since 1970
	Accepted uint64     `cbor:"accepted"` // its copies in accepted units, by its own word
	Copies   uint64     `cbor:"copies"`   // that it executed, by its own word
	Millis   uint64     `cbor:"millis"`   // of processor time that they took, by its own word
	Evidence []Evidence `cbor:"evidence"` // one for a project
	Sig      []byte     `cbor:"sig"`
}

// Evidence is a publisher's word, see Contribution.
type Evidence struct {
	Manifest []byte `cbor:"manifest"` // a job's block
	Table    []byte `cbor:"table"`    // the record that it names
}

// Vouched is what a publisher says that a node earned in its project.
type Vouched struct {
	Project ProjectID `json:"project"`
	Millis  uint64    `json:"millis"` // nominal time of accepted copies, see Manifest.Nominal
	Strikes uint32    `json:"strikes"`
	Job     JobID     `json:"job"`     // whose manifest says so
	Created uint64    `json:"created"` // when that was made, in seconds since 1970
}

func (c Contribution) unsigned() []byte {
	c.Sig = nil
	return Encode(c)
}

// Sign sets the node and the signature and returns the contribution's bytes.
func (c Contribution) Sign(key ed25519.PrivateKey) []byte {
	c.Node = NodeIDOf(key)
	c.Sig = sign(key, domainContribution, c.unsigned())
	return Encode(c)
}

// ParseContribution checks a contribution with all its evidence and returns what
// publishers vouch for, in the order of the evidence.
func ParseContribution(raw []byte) (c Contribution, list []Vouched, err error) {
	if c, err = Decode[Contribution](raw, MaxContribution); err != nil {
		return c, nil, fmt.Errorf("contribution: %w", err)
	}
	if err := verify(c.Node, domainContribution, c.unsigned(), c.Sig); err != nil {
		return c, nil, err
	}
	if len(c.Evidence) > maxVouchers {
		return c, nil, fmt.Errorf("contribution with %d pieces of evidence, limit %d: %w", len(c.Evidence), maxVouchers, ErrTooLarge)
	}
	if max(c.Accepted, c.Copies, c.Millis, c.Made) > maxContributed {
		return c, nil, errors.New("contribution with a count that nobody reaches")
	}
	seen := map[ProjectID]bool{}
	for i, e := range c.Evidence {
		v, err := e.vouch(c.Network, c.Node)
		if err == nil && seen[v.Project] {
			err = fmt.Errorf("a second one for %s", v.Project)
		}
		if err != nil {
			return c, nil, fmt.Errorf("evidence %d: %w", i, err)
		}
		seen[v.Project] = true
		list = append(list, v)
	}
	return c, list, nil
}

// vouch is what evidence says of a node of the network.
func (e Evidence) vouch(network string, node NodeID) (v Vouched, err error) {
	id, m, err := ParseManifest(e.Manifest)
	if err != nil {
		return v, err
	}
	if m.Network != network {
		return v, errors.New("a job of another network")
	}
	t, err := m.ParseStanding(e.Table)
	if err != nil {
		return v, err
	}
	s := t.of(node)
	if s.Millis == 0 && s.Strikes == 0 {
		return v, errors.New("a table of stakes without this node")
	}
	return Vouched{Project: m.ProjectID(), Millis: s.Millis, Strikes: s.Strikes, Job: id, Created: m.Created}, nil
}
