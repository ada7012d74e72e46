package steward

import (
	"maps"
	"slices"

	"github.com/talka-grid/talka/grid/wire"
	"github.com/talka-grid/talka/workunits"
)

// Times of a volunteer that holds units, in milliseconds. One that is gone is
// noticed before its lease ends; what it commits later counts all the same.
const (
	knockTime = 5_000  // of silence until it is asked for a sign of life
	goneTime  = 15_000 // until its units are granted again, or a quarter of the lease if that is longer
)

// touch is how this steward stands with a volunteer that holds units of its grants,
// which may be this node: that one is never silent, but begins anew with its steward.
type touch struct {
	heard, knocked uint64
	grants         []ref // outstanding, in their order
}

// met notes a sign of life of a volunteer.
func (m *Machine) met(n node) {
	if t := m.touches[n]; t != nil {
		t.heard = m.now
	}
}

// hold and release keep the list of what a volunteer holds.
func (m *Machine) hold(r ref, n node) {
	t := m.touches[n]
	if t == nil {
		t = &touch{}
		m.touches[n] = t
	}
	t.heard, t.grants = m.now, append(t.grants, r)
}

func (m *Machine) release(r ref, n node) {
	t := m.touches[n]
	if t == nil {
		return
	}
	t.grants = slices.DeleteFunc(t.grants, func(other ref) bool { return other == r })
	if len(t.grants) == 0 {
		delete(m.touches, n)
	}
}

// gone reports whether the volunteer of a grant of this steward's has been silent
// for too long.
func (m *Machine) gone(r ref) bool {
	g, ok := m.book.Grant(r)
	if !ok || r.Author != m.self || g.To == m.self {
		return false
	}
	t := m.touches[g.To]
	return t != nil && m.now >= t.heard+max(goneTime, g.Lease/4)
}

// forgotten is the oldest grant of this steward's whose lease runs and which its
// volunteer has not in hand, though there was time for the reply; nil if there is
// none. Reply and volunteer can be lost, and neither is a reason for units to wait.
func (m *Machine) forgotten(n node, busy []uint64) []byte {
	t := m.touches[n]
	if t == nil {
		return nil
	}
	for _, r := range t.grants {
		g, ok := m.book.Grant(r)
		end := m.leases[r]
		if ok && m.now >= end-g.Lease+knockTime && m.now < end && !slices.Contains(busy, r.Seq) {
			return m.ledger.Segment(r)
		}
	}
	return nil
}

// knock asks volunteers that are silent for a sign of life.
func (m *Machine) knock() {
	for _, n := range slices.SortedFunc(maps.Keys(m.touches), node.Compare) {
		t := m.touches[n]
		if n != m.self && m.now >= max(t.heard, t.knocked)+knockTime {
			t.knocked = m.now
			m.send(n, wire.Pull{Job: m.Job, Part: true, Ask: true, Have: []workunits.LogHead{m.ledger.Head(n)}})
		}
	}
}
