package verdict

import (
	"encoding/binary"
	"fmt"
	"maps"
	"slices"

	"lukechampine.com/blake3"

	"github.com/talka-grid/talka/workunits"
)

// Stewards is the succession list.
func (b *Book) Stewards() []workunits.Steward { return b.list }

// Listed reports whether a node is on the succession list.
func (b *Book) Listed(n node) bool { a := b.authors[n]; return a != nil && a.listed }

// KeepersWanted is how many stewards must keep a result before it is accepted.
func (b *Book) KeepersWanted() int { return b.keepers }

// Keepers counts the stewards that keep the job's manifest, program and inputs.
func (b *Book) Keepers() (n int) {
	for _, a := range b.authors {
		if a.jobKept {
			n++
		}
	}
	return n
}

// Keeps reports whether a steward said that it keeps the job.
func (b *Book) Keeps(n node) bool { a := b.authors[n]; return a != nil && a.jobKept }

// Sealed is the publisher's seal, nil before it.
func (b *Book) Sealed() *workunits.Seal { return b.seal }

// Cancelled is the publisher's cancellation, nil for none.
func (b *Book) Cancelled() *workunits.Cancel { return b.cancelled }

// Spent lists the units that have failed because their own tries are spent, ascending;
// a second stage that has failed with others is not among them.
func (b *Book) Spent() (units []uint32) {
	b.settle()
	for u := range b.total {
		if with := b.manifest.Reduces(u) && b.stage.state == Failed; b.State(u) == Failed && !with {
			units = append(units, u)
		}
	}
	return units
}

// Collected reports whether the publisher said that it has all it wants of the job.
func (b *Book) Collected() bool { return b.collected }

// Identity is what an author's log began with.
func (b *Book) Identity(n node) (workunits.Identity, bool) {
	if a := b.authors[n]; a != nil && a.identity != nil {
		return *a.identity, true
	}
	return workunits.Identity{}, false
}

// Digests lists the different results that a unit's copies opened to, ascending.
func (b *Book) Digests(u uint32) (list []workunits.Digest) {
	for _, k := range b.all(u) {
		if k.open && !slices.Contains(list, k.digest) {
			list = append(list, k.digest)
		}
	}
	slices.SortFunc(list, compareDigests)
	return list
}

// Drawn reports whether the draws on a commit are in the ledger for a unit.
func (b *Book) Drawn(u uint32, r workunits.Ref) bool {
	list := b.current(u)
	i := slices.IndexFunc(list, func(k copyOf) bool { return k.ref == r })
	return i >= 0 && b.drawn(b.drawers(list[i], list))
}

// Lot orders volunteers by chance for a unit's next copy: a hash of the draws on
// its copies and the volunteer. The lowest lot goes first; nobody can know it
// before the draws.
func (b *Book) Lot(u uint32, n workunits.NodeID) float64 {
	var seed digest
	for _, c := range b.look(u).commits {
		for _, m := range c.marks {
			for i := range seed {
				seed[i] ^= m.value[i]
			}
		}
	}
	return fraction(b.job, u, seed, digest(n))
}

// Counts tells how many units are in each state, the second stage among them.
func (b *Book) Counts() map[State]int {
	b.settle()
	c := map[State]int{}
	for s, n := range b.counts {
		c[State(s)] = n
	}
	c[Open] += b.Untouched()
	return c
}

// Untouched counts the units that no statement names.
func (b *Book) Untouched() int { return int(b.total) - b.named }

// Done reports whether every unit is accepted or has failed.
func (b *Book) Done() bool {
	b.settle()
	return b.counts[Accepted]+b.counts[Failed] == int(b.total)
}

// Copies is how many copies were committed, void ones included.
func (b *Book) Copies() int { return b.copies }

// Expired is how many grants stewards gave up.
func (b *Book) Expired() (n int) {
	for _, g := range b.grants {
		if g.ended {
			n++
		}
	}
	return n
}

// GivenUp reports whether stewards gave a commit up that they had receipted: two
// of them, or the publisher.
func (b *Book) GivenUp(r workunits.Ref) bool {
	c := b.commits[r]
	return c != nil && c.known && b.givenUp(c)
}

// GivenUpBy reports whether a steward gave a commit up that it had receipted, whatever
// others say. That it ended the grant before is no word on the commit.
func (b *Book) GivenUpBy(r workunits.Ref, n workunits.NodeID) bool {
	c := b.commits[r]
	return c != nil && c.known && slices.ContainsFunc(c.grant.expiry, func(x by) bool { return x.id == n && c.receipted(x) })
}

func (b *Book) givenUp(c *commit) bool { return b.word(c.grant.expiry, c.receipted) }

// receipted reports whether a log has the receipt of the commit before a place.
func (c *commit) receipted(x by) bool {
	return slices.ContainsFunc(c.marks, func(m mark) bool { return m.author == x.author && m.got && m.receipt < x.seq })
}

// opensUnit reports whether the commit's copy of a unit is open.
func (c *commit) opensUnit(u uint32) bool {
	i, named := slices.BinarySearch(c.body.Units, u)
	return named && i < len(c.opened) && c.opened[i].first != nil
}

// Supporters lists the commits with open copies that agree on the unit's result.
func (b *Book) Supporters(u uint32) (commits []workunits.Ref) {
	if v := b.Unit(u); !v.Agreed() {
		return nil
	}
	list, _ := b.counting(u, b.current(u), everyRound)
	for _, k := range openOf(list) {
		commits = append(commits, k.ref)
	}
	return commits
}

// Volunteers lists who committed copies, ascending.
func (b *Book) Volunteers() []workunits.NodeID {
	set := map[node]bool{}
	for r, c := range b.commits {
		if c.known {
			set[r.Author] = true
		}
	}
	return slices.SortedFunc(maps.Keys(set), workunits.NodeID.Compare)
}

// Results is the digest of all verdicts in unit order: what a seal is about.
func (b *Book) Results() workunits.Digest {
	var sum []byte
	for u := range b.total {
		if b.State(u) == Accepted {
			d := b.look(u).result
			sum = binary.BigEndian.AppendUint32(sum, u)
			sum = append(sum, d[:]...)
		}
	}
	return workunits.Sum(sum)
}

// Digest is of everything that anyone acts on: the state, result and needs of
// each unit, the stakes, the faults. Equal sets of statements give equal digests.
func (b *Book) Digest() workunits.Digest {
	h := blake3.New(len(digest{}), nil)
	for u := range b.total {
		if b.look(u).named {
			_, _ = fmt.Fprintf(h, "%d %+v\n", u, b.Unit(u).shown())
		}
	}
	_, _ = fmt.Fprintf(h, "%x %v %v %v %d %d", workunits.Encode(b.Stakes()), b.Faults(), b.list, b.Counts(), b.copies, b.Expired())
	return digest(h.Sum(nil))
}

// Outstanding lists the grants of a unit's inputs that have neither a commit for
// it nor an expiry.
func (b *Book) Outstanding(u uint32) (grants []workunits.Ref) {
	r := b.look(u)
	for _, g := range r.grants {
		if !g.ended && g.by.listed && b.binds(g, u) && !slices.ContainsFunc(r.commits, func(c *commit) bool { return c.grant == g }) {
			grants = append(grants, g.ref)
		}
	}
	return grants
}

// Grant returns a grant by its place.
func (b *Book) Grant(r workunits.Ref) (workunits.Grant, bool) {
	g := b.grants[r]
	if g == nil || !g.known {
		return workunits.Grant{}, false
	}
	return g.body, true
}

// Commit returns a commit by its place, with its chain hash.
func (b *Book) Commit(r workunits.Ref) (workunits.Commit, workunits.Digest, bool) {
	c := b.commits[r]
	if c == nil || !c.known {
		return workunits.Commit{}, digest{}, false
	}
	return c.body, c.hash, true
}

// Touched lists who has had part in a unit with its inputs: volunteers that were
// granted it, and stewards that granted, drew or keep openings of its copies.
func (b *Book) Touched(u uint32) (volunteers, stewards []workunits.NodeID) {
	r := b.look(u)
	for _, g := range r.grants {
		if !b.binds(g, u) {
			continue
		}
		volunteers = append(volunteers, g.body.To)
		stewards = append(append(stewards, g.Author), g.body.Custodians...)
	}
	for _, c := range r.commits {
		for _, m := range c.marks {
			if m.drew {
				stewards = append(stewards, m.id)
			}
		}
	}
	return volunteers, stewards
}

// Copy is a committed copy of a unit, as people look at it.
type Copy struct {
	Volunteer workunits.NodeID
	Open      bool             // its result is known
	Result    workunits.Digest // zero until it is open
	Class     workunits.Digest // the result that stands for those which it agrees with
}

// CopiesOf lists the copies of a unit that are not void, those of burned
// volunteers among them, in a fixed order.
func (b *Book) CopiesOf(u uint32) []Copy {
	b.settle()
	list := []Copy{}
	for _, k := range b.all(u) {
		list = append(list, Copy{k.Author, k.open, k.digest, k.class})
	}
	return list
}

// FirstCommitter is who committed the unit's first copy, zero for none.
func (b *Book) FirstCommitter(u uint32) (n workunits.NodeID) {
	b.settle()
	if list, _ := b.counting(u, b.current(u), everyRound); len(list) > 0 {
		return longest(list)[0].Author
	}
	return n
}

// Received reports whether a steward's receipt of a commit is in the ledger,
// and whether its draw is.
func (b *Book) Received(r workunits.Ref, by workunits.NodeID) (receipt, draw bool) {
	if c := b.commits[r]; c != nil && c.known {
		for _, m := range c.marks {
			if m.id == by {
				return m.got, m.drew
			}
		}
	}
	return false, false
}

// Stored reports whether a steward said that it keeps the unit's result as an
// opening names it.
func (b *Book) Stored(u uint32, by workunits.NodeID, openings ...workunits.Ref) bool {
	return slices.ContainsFunc(b.look(u).kept, func(k keeper) bool { return k.by.id == by && slices.Contains(openings, *k.opening) })
}

// Named reports whether any statement is about the unit.
func (b *Book) Named(u uint32) bool {
	_, asleep := b.asleep(u)
	return asleep || b.look(u).named
}

// Committed reports whether a volunteer committed a result of the unit that
// counts beside further copies: both are canonical, or neither is.
func (b *Book) Committed(u uint32, n workunits.NodeID) bool {
	return b.CommittedBut(u, n, func(workunits.NodeID) bool { return false })
}

// CommittedBut is Committed without the copies for grants that are not here, of stewards
// that are not waited for.
func (b *Book) CommittedBut(u uint32, n workunits.NodeID, hides func(steward workunits.NodeID) bool) bool {
	r := b.look(u)
	if !slices.ContainsFunc(r.commits, func(c *commit) bool { return c.Author == n }) {
		return false
	}
	canonical := b.Unit(u).Canonical
	return slices.ContainsFunc(r.commits, func(c *commit) bool {
		_, named := slices.BinarySearch(c.body.Units, u)
		if c.Author != n || !named || !c.opensUnit(u) && b.givenUp(c) {
			return false
		}
		return !c.grant.known && !hides(c.grant.Author) || c.grant.known && c.grant.body.Canonical == canonical && b.binds(c.grant, u)
	})
}

// Voided reports whether a volunteer's copy of the unit came back void or was
// given up.
func (b *Book) Voided(u uint32, n workunits.NodeID) bool {
	return slices.ContainsFunc(b.look(u).commits, func(c *commit) bool {
		if c.grant.known && !b.binds(c.grant, u) {
			return false
		}
		return c.Author == n && (c.voids(u) || !c.opensUnit(u) && b.givenUp(c))
	})
}
