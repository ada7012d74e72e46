package steward

import (
	"cmp"
	"encoding/binary"
	"maps"
	"math"
	"slices"
)

// Times after which a steward grants what another should, in milliseconds: units
// that want a further copy, and first copies once it has none of its own to grant.
const (
	idleWant  = 20_000
	idleFirst = 5_000
)

// want is an open unit that was granted before: it wants a further copy, which
// may be under way.
type want struct {
	since uint64 // the last copy that counts, or when it was granted first
	count int    // copies that counted then
	lot   uint64 // by chance, from the draws
	first node   // who committed its first copy
}

// ready lists the wanted units that this steward may grant now.
type ready struct {
	now, late shelf    // late are those that wait, see [verdict.Book.Waits]
	stale     []uint32 // units to be looked at again
}

// shelf is units of which each is found at once.
type shelf struct {
	list []uint32
	at   map[uint32]int // place in list
}

// drawLots is how many ready units are looked at for one request.
const drawLots = 512

func (s *shelf) add(u uint32) {
	s.at[u] = len(s.list)
	s.list = append(s.list, u)
}

func (s *shelf) remove(u uint32) {
	i, ok := s.at[u]
	if !ok {
		return
	}
	last := s.list[len(s.list)-1]
	s.list[i], s.at[last] = last, i
	s.list = s.list[:len(s.list)-1]
	delete(s.at, u)
}

// remove takes a unit from the list.
func (r *ready) remove(u uint32) {
	r.now.remove(u)
	r.late.remove(u)
}

// has reports whether the list has a unit.
func (r *ready) has(u uint32) bool {
	_, now := r.now.at[u]
	_, late := r.late.at[u]
	return now || late
}

// offers brings the list of ready units up to date.
func (m *Machine) offers() *ready {
	m.active() // may have changed
	r := &m.ready
	if r.now.at == nil {
		r.now.at, r.late.at = map[uint32]int{}, map[uint32]int{}
		r.stale = r.stale[:0]
		for u := range m.wanting {
			r.stale = append(r.stale, u)
		}
	}
	slices.Sort(r.stale)
	for _, u := range slices.Compact(r.stale) {
		r.remove(u)
		w := m.wanting[u]
		if w == nil || m.underWay(u) || !m.grants(u) && !m.takesOver(u, w) {
			continue
		}
		w.lot, w.first = math.Float64bits(m.book.Lot(u, node{})), m.book.FirstCommitter(u)
		if m.book.Waits(u) {
			r.late.add(u)
		} else {
			r.now.add(u)
		}
	}
	r.stale = r.stale[:0]
	return r
}

// maxRegrant is how often a steward grants a unit until its grants hold up others'
// no more.
const maxRegrant = 3

// underWay reports whether a copy of the unit is under way that may come to count.
func (m *Machine) underWay(u uint32) bool {
	return slices.ContainsFunc(m.book.Outstanding(u), func(r ref) bool {
		return r.Author == m.self || m.book.GrantedBy(u, r.Author) <= maxRegrant && !m.shunned(r.Author)
	})
}

// takesOver reports whether this steward grants a unit whose turn it is not: those
// before it had long to do so.
func (m *Machine) takesOver(u uint32, w *want) bool {
	return m.now >= w.since+idleWant && m.isActive() && m.mayGrant(u, m.self)
}

// unkept reports whether the active stewards had long to keep a unit's result, and
// too few did: those that are next keep it, too.
func (m *Machine) unkept(u uint32) bool {
	since, ok := m.agreed[u]
	return ok && m.now >= since+idleWant
}

// takeOver looks now and then for units that others should grant or keep and do not.
func (m *Machine) takeOver() {
	if m.beat != m.now+Heartbeat {
		return
	}
	for u, w := range m.wanting {
		if m.book.Waits(u) {
			w.since = m.now // it is not wanted yet
		}
	}
	if m.beats%5 != 0 {
		return
	}
	for _, u := range slices.Sorted(maps.Keys(m.agreed)) {
		if v := m.book.Unit(u); m.unkept(u) && v.Agreed() {
			m.store(u, v)
		}
	}
	for u, w := range m.wanting {
		if !m.ready.has(u) && m.now >= w.since+idleWant {
			m.ready.stale = append(m.ready.stale, u)
		}
	}
}

// offer is a unit that a volunteer may get.
type offer struct {
	unit  uint32
	lot   uint64
	first node
}

// lots orders units for a volunteer by chance, which nobody can know before
// the draws on their copies.
func (m *Machine) lots(from node, units []uint32) []offer {
	own := lotOf(from)
	if n := len(units); n > drawLots { // a part that begins at the volunteer's place
		at := int(own % uint64(n))
		units = slices.Concat(units[at:], units[:at])[:drawLots]
	}
	list := make([]offer, len(units))
	for i, u := range units {
		w := m.wanting[u]
		list[i] = offer{u, mix(w.lot ^ own), w.first}
	}
	slices.SortFunc(list, func(x, y offer) int { return cmp.Or(cmp.Compare(x.lot, y.lot), cmp.Compare(x.unit, y.unit)) })
	return list
}

// lotOf is a volunteer's part in a lot.
func lotOf(n node) uint64 { return binary.BigEndian.Uint64(n[8:]) }

// mix spreads a number over all 64 bits (the finalizer of SplitMix64).
func mix(x uint64) uint64 {
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}
