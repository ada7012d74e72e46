package steward

import (
	"cmp"
	"slices"

	"github.com/ipfs/go-cid"

	"github.com/talka-grid/talka/grid/wire"
	"github.com/talka-grid/talka/workunits"
)

// Limits on what is remembered of volunteers' data.
const (
	maxHolders = 1 << 12 // volunteers
	maxServed  = 1 << 10
	hinted     = 6 // nodes in a reply
	// deferral is how long a volunteer without the large inputs waits for first copies
	// that those who hold them could take, in milliseconds.
	deferral = 10_000
)

// near is where the large inputs of a job are, as volunteers say. A word costs
// nothing, so it decides who gets first copies alone and never who checks.
type near struct {
	held   map[node]holder
	served []node // who got a grant, and so has the inputs or fetches them, in order
	late   map[node]uint64
}

type holder struct {
	roots []cid.Cid // by their bytes
	units int       // that it asked for last
	at    uint64
}

// noteHeld remembers what a volunteer says that it holds of the job's content.
func (m *Machine) noteHeld(from node, w wire.WorkRequest) {
	if m.near.held == nil {
		m.near.held, m.near.late = map[node]holder{}, map[node]uint64{}
	}
	h := holder{units: int(w.Units), at: m.now}
	for _, l := range w.Held {
		if m.needs(l.Cid) {
			h.roots = append(h.roots, l.Cid)
		}
	}
	if len(h.roots) == 0 {
		delete(m.near.held, from)
	} else if _, known := m.near.held[from]; known || len(m.near.held) < maxHolders {
		m.near.held[from] = h
	}
}

// needs reports whether content is a program or an input of the job's units.
func (m *Machine) needs(c cid.Cid) bool {
	return c == m.Manifest.Program.Cid || m.Manifest.Table != nil && c == m.Manifest.Table.Cid ||
		slices.ContainsFunc(m.Manifest.Inputs, func(in workunits.Input) bool { return in.Cid.Cid == c })
}

// Holders lists the volunteers that say they hold one of the job's inputs, by id.
func (m *Machine) Holders(root cid.Cid) (list []workunits.NodeID) {
	for n, h := range m.near.held {
		if slices.Contains(h.roots, root) {
			list = append(list, n)
		}
	}
	slices.SortFunc(list, node.Compare)
	return list
}

// leaves reports whether a volunteer is to leave first copies to others for a moment:
// those hold large inputs that it does not, were here lately, and can take all that is
// left. So at the end of a job nobody fetches what takes longer than the rest.
func (m *Machine) leaves(from node) bool {
	mine, others := m.near.held[from], 0
	for n, h := range m.near.held {
		more := slices.ContainsFunc(h.roots, func(c cid.Cid) bool { return !slices.Contains(mine.roots, c) })
		if n != from && more && m.now < h.at+asking {
			others += h.units
		}
	}
	if others == 0 {
		delete(m.near.late, from)
		return false
	}
	left := 0
	for s := uint32(0); s < m.Manifest.Shards() && left <= others; s++ {
		if first, end := m.bounds(s); m.primary(s) {
			left += int(end - max(m.cursor[s], first))
		}
	}
	if left > others {
		delete(m.near.late, from)
		return false
	}
	since, waits := m.near.late[from]
	if !waits && len(m.near.late) < maxHolders {
		m.near.late[from], since = m.now, m.now
	}
	return m.now < since+deferral
}

// serve notes that a volunteer has been granted units.
func (m *Machine) serve(n node) {
	if !slices.Contains(m.near.served, n) && len(m.near.served) < maxServed {
		m.near.served = append(m.near.served, n)
	}
}

// hints names a few who have the program and the inputs, or fetch them now: by chance
// among the stewards and the volunteers, so that they feed each other. The publisher,
// who had them first, is for the first two alone; others come to it if nobody else
// gives.
func (m *Machine) hints(from node) (list []node) {
	lot := func(n node) uint64 { return mix(lotOf(n) ^ lotOf(from)) }
	byLot := func(a, b node) int { return cmp.Or(cmp.Compare(lot(a), lot(b)), a.Compare(b)) }
	offer := func(n node) {
		i, known := slices.BinarySearchFunc(list, n, byLot)
		if known || i == hinted || n == from || n == m.Manifest.Publisher {
			return
		}
		list = slices.Insert(list, i, n)
		list = list[:min(len(list), hinted)]
	}
	for _, n := range m.near.served {
		offer(n)
	}
	for n := range m.near.held {
		offer(n)
	}
	for _, n := range m.keepers() {
		offer(n)
	}
	if len(list) < 2 {
		list = append(list, m.Manifest.Publisher)
	}
	return list
}

// jobHints names whom this steward fetches the program and the inputs from: the first
// two others of the list take them from the publisher, the next from those before
// them. It asks everybody when that has failed.
func (m *Machine) jobHints() (list []node) {
	for _, s := range m.book.Stewards() {
		if s.Node == m.self {
			break
		}
		list = append(list, s.Node)
	}
	if len(list) > 2 && !m.retried {
		return slices.DeleteFunc(list, func(n node) bool { return n == m.Manifest.Publisher })
	}
	return append(m.keepers(), list...)
}
