package steward

import (
	"encoding/binary"
	"io"
	"math"

	"github.com/talka-grid/talka/workunits"
	"github.com/talka-grid/talka/workunits/verdict"
)

// Spare tells a publisher's machine that its node could execute a unit now.
type Spare struct{}

func (Spare) input() {}

// Audit asks the publisher's node to execute an accepted unit, and to answer with
// Audited.
type Audit struct {
	Unit      uint32
	Canonical bool
	Inputs    workunits.Digest
	Hints     []workunits.NodeID
}

// auditLease is the lease of the publisher's grants to itself after the fact, in
// milliseconds; no other is as short.
const auditLease = 1

// auditTries is how many units are looked at for one that is accepted.
const auditTries = 64

// spare asks for a unit's execution while the publisher audited fewer than the
// policy's share of those accepted. The unit is chosen after its volunteers have
// committed, by chance and nothing else: nobody can do well just where it is seen.
func (m *Machine) spare() {
	share := m.Manifest.Policy.Audit
	if !m.publisher() || m.mute() || m.book.Cancelled() != nil || share == 0 ||
		float64(m.audits) >= math.Ceil(share*float64(m.book.Counts()[verdict.Accepted])) {
		return
	}
	for range auditTries {
		var b [8]byte
		if _, err := io.ReadFull(m.Rand, b[:]); err != nil {
			panic(err) // the generator never fails
		}
		u := uint32(binary.BigEndian.Uint64(b[:]) % uint64(m.Manifest.Total()))
		if m.book.State(u) == verdict.Accepted && !m.book.Committed(u, m.self) {
			v := m.book.Unit(u)
			m.fx.Audit = &Audit{Unit: u, Canonical: m.Canonically(u), Inputs: m.book.Inputs(u), Hints: v.Volunteers}
			return
		}
	}
}

// Canonically reports whether this node's audit of a unit makes NaNs canonical: as
// its copies do, and where plain copies count on another architecture only.
func (m *Machine) Canonically(u uint32) bool {
	return m.book.Unit(u).Canonical || m.Identity.Arch != m.book.Home()
}

// Audited is the publisher's own copy of a unit, executed to check those of others
// whether the law asks for it or not. Whoever said otherwise is proven wrong by it.
type Audited struct {
	Unit      uint32
	Canonical bool // as Canonically said
	Arch      string
	Result    workunits.Result
	Block     []byte // the result's record, nil if the store holds it
	Millis    uint64 // of processor time
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
	m.speak(workunits.Grant{To: m.self, Units: units, Inputs: m.book.Inputs(in.Unit), Lease: auditLease, Custodians: []node{m.self},
		Arch: in.Arch, Canonical: in.Canonical})
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
