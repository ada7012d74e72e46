package verdict

import (
	"slices"

	"github.com/talka-grid/talka/workunits"
)

// What a steward that starts again takes from the book instead of from each of the
// many statements of a ledger. But for KeepsResult none of it looks at units that are
// packed, and that only where the unit's page does not tell.

// Delivery is a commit, as a steward finds it that starts again.
type Delivery struct {
	workunits.Ref
	workunits.Commit
	Granted  bool // its grant is here
	Received bool // the steward's receipt is, too
}

// Promise is a steward's receipt of a commit, and its draw that goes with it.
type Promise struct {
	By       workunits.NodeID
	Commit   workunits.Ref
	Received bool
	Place    uint64 // of the receipt in its log
	Index    uint32 // that the receipt fixed
	Drawn    uint32 // index of the draw, 0 for none
}

// EachGrant calls f for every grant that is here, in any order. Where runs is not
// set no unit's Outstanding has it.
func (b *Book) EachGrant(f func(r workunits.Ref, g workunits.Grant, runs bool)) {
	b.settle()
	for r, g := range b.grants {
		if g.known {
			f(r, g.body, b.runs(g))
		}
	}
}

// runs reports whether a grant may be outstanding for one of its units.
func (b *Book) runs(g *grant) bool {
	return !g.ended && g.by.listed && slices.ContainsFunc(g.body.Units, func(u uint32) bool {
		return b.binds(g, u) && !slices.ContainsFunc(g.naming, func(c *commit) bool { return !c.surplus && c.answers(u) })
	})
}

// answers reports whether the commit has a copy of the unit, be it void.
func (c *commit) answers(u uint32) bool {
	_, named := slices.BinarySearch(c.body.Units, u)
	return named || c.voids(u)
}

// EachCommit calls f for every commit that is here, ascending by author and place.
func (b *Book) EachCommit(by workunits.NodeID, f func(d Delivery)) {
	list := make([]*commit, 0, len(b.commits))
	for _, c := range b.commits {
		if c.known {
			list = append(list, c)
		}
	}
	slices.SortFunc(list, func(x, y *commit) int { return compareRefs(x.ref, y.ref) })
	for _, c := range list {
		got := slices.ContainsFunc(c.marks, func(m mark) bool { return m.id == by && m.got })
		f(Delivery{c.ref, c.body, c.grant.known, got})
	}
}

// EachPromise calls f for every receipt and draw, those of commits that are not here
// among them, in any order.
func (b *Book) EachPromise(f func(p Promise)) {
	for r, c := range b.commits {
		for _, m := range c.marks {
			f(Promise{By: m.id, Commit: r, Received: m.got, Place: m.receipt, Index: m.index, Drawn: m.drawn})
		}
	}
}

// Unopened lists the units of which a copy that was drawn on is not open, whatever
// their state, ascending: no other unit is due to be opened.
func (b *Book) Unopened() (units []uint32) {
	for _, c := range b.commits {
		if c.open == len(c.body.Units) || !slices.ContainsFunc(c.marks, func(m mark) bool { return m.drew }) {
			continue
		}
		for i, u := range c.body.Units {
			if u < b.total && (c.open == 0 || c.opened[i].first == nil) {
				units = append(units, u)
			}
		}
	}
	slices.Sort(units)
	return slices.Compact(units)
}

// KeepsResult reports whether a steward said that it keeps the result of an accepted
// unit, whichever opening it named.
func (b *Book) KeepsResult(u uint32, n workunits.NodeID) bool {
	b.settle()
	is := func(a *author) bool { return a.id == n }
	if p, asleep := b.asleep(u); asleep && slices.ContainsFunc(p.keepers, is) {
		return true
	}
	r := b.look(u)
	return r.state == Accepted && slices.ContainsFunc(b.keeping(u, r.result), is)
}
