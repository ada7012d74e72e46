package verdict

import (
	"cmp"
	"slices"

	"github.com/talka-grid/talka/workunits"
)

// Fate is what became of a copy.
type Fate string

// The fates of a copy. Only FateCounts and FateSealed speak for a result.
const (
	FateGranted    Fate = "granted"          // a lease without a commit
	FateExpired    Fate = "expired"          // its lease ended without a commit
	FateVoid       Fate = "void"             // came back without a result
	FateSealed     Fate = "sealed"           // committed, not open yet
	FateCounts     Fate = "counts"           // open
	FateGivenUp    Fate = "given up"         // committed, and nobody could open it
	FateWrong      Fate = "proven wrong"     // its volunteer was, in this unit or another
	FateForked     Fate = "equivocated"      // its volunteer told two stories
	FateConflict   Fate = "conflict"         // its volunteer granted the unit or keeps its openings
	FateAgain      Fate = "again"            // a further copy of one volunteer
	FateUngranted  Fate = "ungranted"        // no listed steward granted it as it was committed
	FateOtherInput Fate = "other inputs"     // of inputs that the unit does not have
	FatePlatform   Fate = "other arithmetic" // copies of another platform count: canonical or plain, on the publisher's architecture
)

// Told is one copy of a unit as the statements tell it.
type Told struct {
	Grant     workunits.Ref // its author is the steward that granted it
	Volunteer workunits.NodeID
	Arch      string
	Canonical bool
	Keepers   []workunits.NodeID // of its sealed openings

	Commit   *workunits.Ref   // nil before
	Receipts []workunits.Ref  // of its commit, ascending by author
	Draws    []workunits.Ref  // ascending by author
	Opening  *workunits.Ref   // the least place of one, nil while it is sealed
	Result   workunits.Digest // once it is open
	Void     workunits.VoidReason
	Fate     Fate
}

// A Story tells how the verdict on a unit came about: every copy that was granted
// or committed, in an order in which each comes after those that it followed.
type Story struct {
	Unit
	Waits  bool               // see [Book.Waits]
	Burned []workunits.NodeID // against whom this unit speaks, ascending
	Copies []Told
}

// Story tells a unit's story as of the statements read.
func (b *Book) Story(u uint32) Story {
	s := Story{Unit: b.Unit(u), Waits: b.Waits(u)}
	r := b.look(u)
	all := b.current(u)
	counted, _ := b.counting(u, all, everyRound)
	for _, c := range r.commits {
		t := b.tell(u, c)
		t.Fate = b.fate(u, c, all, counted)
		s.Copies = append(s.Copies, t)
	}
	for _, g := range r.grants {
		if !slices.ContainsFunc(r.commits, func(c *commit) bool { return c.grant == g }) {
			t := told(g)
			t.Fate = FateGranted
			if g.ended {
				t.Fate = FateExpired
			}
			s.Copies = append(s.Copies, t)
		}
	}
	if d := b.disputed[u]; d != nil {
		for _, l := range d.parties {
			if _, lost := l.loses[u]; lost && !slices.Contains(s.Burned, l.by.id) {
				s.Burned = append(s.Burned, l.by.id)
			}
		}
		slices.SortFunc(s.Burned, workunits.NodeID.Compare)
	}
	slices.SortStableFunc(s.Copies, func(x, y Told) int { return cmp.Or(b.rank(u, x)-b.rank(u, y), compareRefs(x.Grant, y.Grant)) })
	return s
}

// rank is how many commits of the unit a copy's grant followed: more than those
// that it followed have.
func (b *Book) rank(u uint32, t Told) (n int) {
	for _, c := range b.look(u).commits {
		i := slices.IndexFunc(c.marks, func(m mark) bool { return m.id == t.Grant.Author })
		if i >= 0 && c.marks[i].got && c.marks[i].receipt < t.Grant.Seq {
			n++
		}
	}
	return n
}

func told(g *grant) Told {
	return Told{Grant: g.ref, Volunteer: g.body.To, Arch: g.body.Arch, Canonical: g.body.Canonical, Keepers: g.body.Custodians}
}

func (b *Book) tell(u uint32, c *commit) Told {
	t := told(c.grant)
	t.Volunteer, t.Commit = c.Author, &c.ref
	for _, m := range c.marks {
		if m.got {
			t.Receipts = append(t.Receipts, ref{Author: m.id, Seq: m.receipt})
		}
		if m.drew {
			t.Draws = append(t.Draws, ref{Author: m.id, Seq: m.draw})
		}
	}
	slices.SortFunc(t.Receipts, compareRefs)
	slices.SortFunc(t.Draws, compareRefs)
	if c.opensUnit(u) {
		i, _ := slices.BinarySearch(c.body.Units, u)
		t.Opening, t.Result = c.opened[i].first, c.opened[i].digest
	}
	if i := slices.IndexFunc(c.body.Void, func(x workunits.VoidUnit) bool { return x.Unit == u }); i >= 0 {
		t.Void = c.body.Void[i].Reason
	}
	return t
}

// fate says what became of a commit's copy, given the copies of the unit that
// stand, and those of them that count.
func (b *Book) fate(u uint32, c *commit, all, counted []copyOf) Fate {
	is := func(k copyOf) bool { return k.commit == c }
	k, valid := b.copy(u, c)
	switch g := c.grant; {
	case slices.ContainsFunc(counted, is) && !k.open:
		return FateSealed
	case slices.ContainsFunc(counted, is):
		return FateCounts
	case c.voids(u):
		return FateVoid
	case c.by.forked:
		return FateForked
	case c.life != nil && c.life.burned > 0:
		return FateWrong
	case g.known && g.by.listed && !b.binds(g, u):
		return FateOtherInput
	case g.known && !c.opensUnit(u) && b.givenUp(c):
		return FateGivenUp
	case !valid:
		return FateUngranted
	case slices.ContainsFunc(counted, func(o copyOf) bool { return o.by == c.by }):
		return FateAgain
	case slices.ContainsFunc(all, is):
		return FatePlatform
	}
	return FateConflict
}
