package steward

import (
	"io"

	"github.com/talka-grid/talka/workunits"
)

// Audited is the publisher's own copy of a unit, executed to check those of others
// whether the law asks for it or not. Whoever said otherwise is proven wrong by it.
type Audited struct {
	Unit   uint32
	Arch   string
	Result workunits.Result
	Block  []byte // the result's record, nil if the store holds it
	Millis uint64 // of processor time
}

func (Audited) input() {}

// audited states the copy as the publisher's volunteer would. The publisher is its
// own custodian and opens the copy once it has drawn on it: until then the unit's
// verdict is what it was. Other nodes' audits say nothing.
func (m *Machine) audited(in Audited) {
	if !m.publisher() || m.mute() || in.Unit >= m.Manifest.Total() || m.book.Committed(in.Unit, m.self) {
		return
	}
	units := []uint32{in.Unit}
	m.speak(workunits.Grant{To: m.self, Units: units, Inputs: m.book.Inputs(in.Unit), Lease: 1, Custodians: []node{m.self},
		Arch: in.Arch, Canonical: m.canonical(in.Unit)})
	grant := ref{Author: m.self, Seq: m.ledger.Len(m.self) - 1}
	opening := workunits.SealedOpening{Results: []workunits.Result{in.Result}}
	if _, err := io.ReadFull(m.Rand, opening.Seed[:]); err != nil {
		panic(err) // the generator never fails
	}
	if len(in.Block) > 0 {
		m.fx.Blocks = append(m.fx.Blocks, in.Block)
	}
	name := workunits.Copy{Network: m.Manifest.Network, Job: m.Job, Volunteer: m.self, Unit: in.Unit}
	m.speak(workunits.Commit{Grant: grant, Bound: m.ledger.Last(m.self), Units: units,
		Hashes: []workunits.Digest{name.CommitHash(in.Result.Digest, opening.Nonce(in.Unit))},
		Sealed: []workunits.Sealed{{To: m.self, Data: opening.Seal(m.pub, m.Rand)}}, Millis: in.Millis})
	m.event("audited", m.self, in.Unit, "")
}
