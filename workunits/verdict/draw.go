package verdict

import (
	"encoding/binary"
	"math"
	"slices"

	"github.com/talka-grid/talka/workunits"
)

// drawers lists the marks of the stewards whose draws on a copy count for the
// unit, ascending: listed, with the receipt that fixed the value, and not
// executing the unit themselves. The list is good until the next call.
func (b *Book) drawers(k copyOf, list []copyOf) []*mark {
	who := b.who[:0]
	for i := range k.marks {
		m := &k.marks[i]
		if !m.valid(k) {
			continue
		}
		if m.id == b.manifest.Publisher || !slices.ContainsFunc(list, func(o copyOf) bool { return o.by == m.author }) {
			who = append(who, m)
		}
	}
	slices.SortFunc(who, func(x, y *mark) int { return x.id.Compare(y.id) })
	b.who = who
	return who
}

// valid reports whether the mark is a listed steward's draw on just this copy, of
// a value that was fixed when it received the commit.
func (m *mark) valid(k copyOf) bool {
	return m.listed && m.got && m.drew && m.index == m.drawn && m.hash == k.hash && (m.anchor == 0 || m.anchor < m.receipt)
}

// outstanding reports whether draws go with a value that is not here: waits, while
// it may come, and withheld once the publisher or two other stewards say that it is
// not waited for. Whoever sees the others' values first could otherwise show its
// own only where that asks for no copy.
func (b *Book) outstanding(k copyOf, who []*mark, list []copyOf) (waits, withheld bool) {
	if b.ownDraw(who) >= 0 {
		return false, false
	}
	for _, m := range who {
		i := slices.IndexFunc(k.marks, func(o mark) bool { return o.id == m.with })
		if i < 0 || !k.marks[i].listed || !k.marks[i].got || k.marks[i].hash != k.hash || k.marks[i].valid(k) ||
			slices.ContainsFunc(list, func(o copyOf) bool { return o.by == k.marks[i].author }) {
			continue
		}
		if b.unavailing(k.marks[i].author) {
			withheld = true
		} else {
			waits = true
		}
	}
	return waits, withheld
}

// unavailing reports whether a steward's draws are not waited for.
func (b *Book) unavailing(a *author) bool {
	var said []by
	for _, x := range slices.Concat(a.gone, a.owing) {
		said = append(said, by{author: x})
	}
	return b.word(said, func(x by) bool { return x.id != a.id })
}

// drawn reports whether the draws on a copy are in the ledger: the publisher's
// alone, or those of two other stewards.
func (b *Book) drawn(who []*mark) bool { return len(who) >= 2 || b.ownDraw(who) >= 0 }

func (b *Book) ownDraw(who []*mark) int {
	return slices.IndexFunc(who, func(m *mark) bool { return m.id == b.manifest.Publisher })
}

// lot is the draw itself: another copy is asked for with any chance above it. It is the
// publisher's alone, or the least of any pair of values.
func (b *Book) lot(u uint32, who []*mark) float64 {
	if i := b.ownDraw(who); i >= 0 {
		return fraction(b.job, u, who[i].value, who[i].value)
	}
	least := 1.0
	for i, x := range who {
		for _, y := range who[i+1:] {
			least = min(least, fraction(b.job, u, x.value, y.value))
		}
	}
	return least
}

// fraction maps two values, job and unit to [0,1).
func fraction(job workunits.JobID, u uint32, x, y digest) float64 {
	b := append(append(append(make([]byte, 0, 3*len(x)+4), x[:]...), y[:]...), job[:]...)
	h := workunits.Sum(binary.BigEndian.AppendUint32(b, u))
	return float64(binary.BigEndian.Uint64(h[:])>>11) / (math.MaxUint64>>11 + 1)
}
