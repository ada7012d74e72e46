package verdict

import (
	"slices"

	"github.com/talka-grid/talka/workunits"
)

// State is how far a unit is.
type State uint8

// The states of a unit.
const (
	Open     State = iota // wants a copy
	Pending               // waits for statements: on its copies, or on what it is made from
	Accepted              // its verdict names a result
	Failed                // too many copies were void
)

func (s State) String() string { return [...]string{"open", "pending", "accepted", "failed"}[s] }

// Unit is the verdict on a unit.
type Unit struct {
	State     State
	Canonical bool // further copies must make NaNs canonical
	Contested bool // results differ and the law does not decide yet
	Support   int  // agreeing copies that follow one another
	Copies    int  // copies that count
	Voids     int

	// Unsealed lists commits whose openings of this unit are due.
	Unsealed []workunits.Ref
	// Opening names the result once copies agree; it is to be stored, and
	// accepted when enough stewards keep it.
	Opening    workunits.Ref
	Result     workunits.Result
	Volunteers []workunits.NodeID // that support the result

	// Compare lists pairs of results, the first opened first, which the job's
	// comparator is to be asked about.
	Compare [][2]workunits.Digest
}

// shown is the unit with what it holds by pointers left out or followed.
func (u Unit) shown() Unit {
	if u.Result.Storage != nil {
		u.Result.Encryption += " at " + u.Result.Storage.Cid.String()
		u.Result.Storage = nil
	}
	return u
}

// Agreed reports whether the unit has a result, stored or not.
func (u Unit) Agreed() bool { return u.Opening != workunits.Ref{} }

// copyOf is one volunteer's counted copy of a unit.
type copyOf struct {
	*commit
	open   bool
	digest        // of its result
	first  *ref   // its opening
	class  digest // the digest that stands for those which it agrees with
}

func (k copyOf) publisher(b *Book) bool { return k.Author == b.manifest.Publisher }

// Unit returns the verdict on a unit as of the statements read.
func (b *Book) Unit(u uint32) Unit {
	b.settle()
	r := b.look(u)
	switch {
	case len(r.commits) == 0 && !b.manifest.Reduces(u):
		return Unit{State: Open, Canonical: b.manifest.Canonical}
	case r.view != nil:
		return *r.view
	}
	v, _ := b.work(u)
	return v
}

// judge works out one unit and keeps the counts and credits.
func (b *Book) judge(u uint32) {
	r := b.unit(u)
	b.counts[r.state]--
	delete(b.alone, u)
	v, supporters := b.work(u)
	if b.manifest.Reduce != nil && u < b.manifest.Units && (r.result != v.Result.Digest || r.state != v.State) {
		b.stage.stale = true
	}
	if r.view == nil {
		r.view = new(Unit)
	}
	r.state, r.result, *r.view = v.State, v.Result.Digest, v
	b.counts[v.State]++
	if v.State == Accepted || v.State == Failed {
		if b.fresh = append(b.fresh, u); len(b.fresh) >= maxFresh {
			b.fade()
		}
	}
	for _, l := range r.credit {
		l.credit--
	}
	r.credit = r.credit[:0]
	for _, l := range supporters {
		if v.State == Accepted {
			l.credit++
			r.credit = append(r.credit, l)
		}
	}
}

// maxFresh bounds how many views of units that want nothing more are kept.
const maxFresh = 1 << 12

// fade drops the views of units that want nothing more.
func (b *Book) fade() {
	for _, u := range b.fresh {
		if r := b.unit(u); r.state == Accepted || r.state == Failed {
			r.view = nil
		}
	}
	b.fresh = b.fresh[:0]
}

// all lists every valid copy of a unit in a fixed order, one for each life of a
// volunteer and way to execute: its first in its log that is not lost. Copies of
// burned lives and forked volunteers are among them.
func (b *Book) all(u uint32) []copyOf { return b.allIn(make([]copyOf, 0, len(b.look(u).commits)), u) }

// allIn is all in the room of a list that is not needed any more.
func (b *Book) allIn(list []copyOf, u uint32) []copyOf {
	list = list[:0]
	for _, c := range b.look(u).commits {
		k, ok := b.copy(u, c)
		if ok && !slices.ContainsFunc(list, func(o copyOf) bool {
			return o.life == c.life && sameWork(o.grant, c.grant)
		}) {
			list = append(list, k)
		}
	}
	if slices.ContainsFunc(list, func(k copyOf) bool { return k.by.listed }) {
		all := slices.Clone(list)
		list = slices.DeleteFunc(list, func(k copyOf) bool { return b.conflicted(k, all) })
	}
	b.classify(u, list)
	return list
}

// sameWork reports whether two grants are for the same execution.
func sameWork(g, h *grant) bool {
	return g.body.Canonical == h.body.Canonical && g.body.Inputs == h.body.Inputs
}

// current is all without copies of inputs that the unit does not have now.
func (b *Book) current(u uint32) []copyOf { return b.currentIn(nil, u) }

func (b *Book) currentIn(list []copyOf, u uint32) []copyOf {
	list = b.allIn(list, u)
	if !b.manifest.Reduces(u) {
		return list
	}
	list = slices.DeleteFunc(list, func(k copyOf) bool { return !b.binds(k.grant, u) })
	b.classify(u, list)
	return list
}

// copy checks one commit's copy of a unit against its grant.
func (b *Book) copy(u uint32, c *commit) (k copyOf, ok bool) {
	i, named := slices.BinarySearch(c.body.Units, u)
	g := c.grant
	if !named || !g.known || !g.by.listed || g.hash != c.body.Bound || g.body.To != c.Author || g.body.Inputs != b.inputs && !b.manifest.Reduces(u) ||
		int(c.by.strikes)+g.life >= strikesOut {
		return k, false
	}
	if _, granted := slices.BinarySearch(g.body.Units, u); !granted {
		return k, false
	}
	k.commit = c
	if i < len(c.opened) && c.opened[i].first != nil {
		o := &c.opened[i]
		k.open, k.digest, k.first, k.class = true, o.digest, o.first, o.digest
	}
	return k, k.open || !b.givenUp(c)
}

// conflicted tells copies of stewards that granted the unit or keep an opening
// of it; nobody checks itself. The publisher's own word stands in its own job.
func (b *Book) conflicted(k copyOf, list []copyOf) bool {
	if !k.by.listed || k.publisher(b) {
		return false
	}
	return slices.ContainsFunc(list, func(o copyOf) bool {
		return o.grant.body.Inputs == k.grant.body.Inputs && (o.grant.by == k.by || slices.Contains(o.grant.body.Custodians, k.Author))
	})
}

// group is the open copies that agree.
type group struct {
	class  digest
	copies []copyOf
}

// groupsOf sorts opened copies into groups, ascending by class.
func groupsOf(copies []copyOf) (groups []group) {
	for _, k := range copies {
		if !k.open {
			continue
		}
		i := slices.IndexFunc(groups, func(g group) bool { return g.class == k.class })
		if i < 0 {
			i = len(groups)
			groups = append(groups, group{class: k.class})
		}
		groups[i].copies = append(groups[i].copies, k)
	}
	slices.SortFunc(groups, func(x, y group) int { return slices.Compare(x.class[:], y.class[:]) })
	return groups
}

// mixed reports whether open copies differ.
func mixed(list []copyOf) bool {
	var class *digest
	for i := range list {
		switch {
		case !list[i].open:
		case class == nil:
			class = &list[i].class
		case *class != list[i].class:
			return true
		}
	}
	return false
}

// counting lists those copies of a unit that count, one for a volunteer and all
// of one platform, while lives burned after the round still count. What burned ones
// were spared counts, unless several of them speak alone.
func (b *Book) counting(u uint32, all []copyOf, round int) (list []copyOf, canonical bool) {
	return b.countingIn(u, make([]copyOf, 0, len(all)), all, round)
}

func (b *Book) countingIn(u uint32, list, all []copyOf, round int) ([]copyOf, bool) {
	on, whatever := b.platform(all)
	list = list[:0]
	stands := func(k copyOf) bool { return k.life.burned == 0 || k.life.burned > round }
	for _, k := range all {
		if !k.by.forked && (stands(k) || b.spared(u, k)) && (whatever || k.platform() == on && b.may(k)) &&
			!slices.ContainsFunc(list, func(o copyOf) bool { return o.by == k.by }) {
			list = append(list, k)
		}
	}
	if len(list) > 1 && !slices.ContainsFunc(list, stands) {
		list = list[:0]
	}
	return list, on == canonically
}

// follows reports whether x was granted by someone who held y's commit.
func follows(x, y copyOf) bool {
	i := slices.IndexFunc(y.marks, func(m mark) bool { return m.author == x.grant.by })
	return i >= 0 && y.marks[i].got && y.marks[i].hash == y.hash && y.marks[i].receipt < x.grant.Seq
}

// sooner reports whether x was received before y: by more of the stewards that
// received both. A further copy, late or spare, does not take the place of the one
// that was drawn on before: its own draws would be a second chance.
func sooner(x, y copyOf) bool {
	lead := 0
	for _, m := range x.marks {
		i := slices.IndexFunc(y.marks, func(o mark) bool { return o.author == m.author })
		if i < 0 || !m.listed || !m.got || !y.marks[i].got {
			continue
		}
		if m.receipt < y.marks[i].receipt {
			lead++
		} else {
			lead--
		}
	}
	return lead > 0
}

// better reports whether a run of copies is taken before another one: the longer
// one, of equals the one that is longer balanced, then that whose last copy, or the
// last that is not the same, came sooner.
func better(x, y []copyOf) bool {
	if len(x) != len(y) {
		return len(x) > len(y)
	}
	if a, b := len(balanced(x)), len(balanced(y)); a != b {
		return a > b
	}
	for i := len(x) - 1; i >= 0; i-- {
		if x[i].commit != y[i].commit {
			return sooner(x[i], y[i])
		}
	}
	return false
}

// longest is the longest run of copies that follow one another, first to last,
// as far as one grantor's copies count beside the others', see better. Hash chains
// make "follows" free of cycles.
func longest(list []copyOf) []copyOf {
	switch len(list) {
	case 0, 1:
		return list
	case 2:
		return longestOfTwo(list)
	}
	best := make([][]copyOf, len(list))
	var run func(i int) []copyOf
	run = func(i int) []copyOf {
		if best[i] != nil {
			return best[i]
		}
		best[i] = []copyOf{list[i]} // also what a cycle through a broken hash would meet
		top := best[i]
		for j := range list {
			if j != i && follows(list[i], list[j]) {
				if r := append(slices.Clone(run(j)), list[i]); better(r, top) {
					top = r
				}
			}
		}
		best[i] = top
		return top
	}
	var top []copyOf
	for i := range list {
		if r := balanced(run(i)); better(r, top) {
			top = r
		}
	}
	return top
}

// longestOfTwo is longest of two copies, which is what most units have.
func longestOfTwo(list []copyOf) []copyOf {
	switch x, y := list[0], list[1]; {
	case follows(y, x):
		return balanced(list)
	case follows(x, y):
		return balanced([]copyOf{y, x})
	case sooner(y, x):
		return list[1:]
	}
	return list[:1]
}

// work is the verdict on a unit from the statements and the burned volunteers,
// and whose copies support its result.
func (b *Book) work(u uint32) (v Unit, supporters []*life) {
	if b.manifest.Reduces(u) && b.stage.state != Open {
		return Unit{State: b.stage.state, Canonical: b.manifest.Canonical}, nil
	}
	room := &b.room
	room.all = b.currentIn(room.all, u)
	all := room.all
	list, canonical := b.countingIn(u, room.list, all, everyRound)
	room.list = list
	v = Unit{State: Pending, Canonical: canonical, Copies: len(list), Voids: b.voids(u)}
	if v.Compare = b.classify(u, all); len(v.Compare) > 0 {
		v.Unsealed = b.unsealed(list)
		return v, nil
	}
	if mixed(list) {
		v.Contested = true
		v.Unsealed = b.unsealed(list)
		if len(v.Unsealed) == 0 && !slices.ContainsFunc(list, func(k copyOf) bool { return !k.open }) {
			v.State = Open
		}
		return b.failing(u, v), nil
	}
	chain := longest(list)
	v.Support = len(chain)
	open := openIn(room.open, list)
	if room.open = open; len(open) > 0 {
		if enough, _ := b.enough(u, longest(open), open); enough {
			// Copies that came later are opened as evidence, and hold nothing up.
			v.Unsealed = b.unsealed(list)
			return v, b.agree(u, open, &v)
		}
	}
	if enough, drawn := b.enough(u, chain, list); !enough {
		if drawn || len(chain) == 0 {
			v.State = Open
		}
		return b.failing(u, v), nil
	}
	v.Unsealed = b.unsealed(list)
	if len(open) == 0 || len(v.Unsealed) > 0 {
		return v, nil
	}
	return v, b.agree(u, open, &v)
}

func openOf(list []copyOf) []copyOf { return openIn(make([]copyOf, 0, len(list)), list) }

func openIn(open, list []copyOf) []copyOf {
	open = open[:0]
	for _, k := range list {
		if k.open {
			open = append(open, k)
		}
	}
	return open
}

// agree names the result of copies that agree, which is that of the first
// opened, and counts who keeps it. The supporters are good until the next call.
func (b *Book) agree(u uint32, copies []copyOf, v *Unit) (supporters []*life) {
	first := slices.MinFunc(copies, func(x, y copyOf) int {
		switch { // first the result that the others were compared with
		case x.digest == y.digest:
			return compareRefs(*x.first, *y.first)
		case x.class == x.digest:
			return -1
		case y.class == y.digest:
			return 1
		}
		return compareRefs(*x.first, *y.first)
	})
	v.Opening, v.Result = *first.first, b.result(u, first)
	v.Volunteers, supporters = make([]node, 0, len(copies)), b.room.lives[:0]
	served := false
	for _, k := range copies {
		v.Volunteers, supporters = append(v.Volunteers, k.Author), append(supporters, k.life)
		served = served || !b.givenUp(k.commit)
	}
	b.room.lives = supporters
	by := make([]*author, 0, 8)
	for _, k := range b.look(u).kept {
		if k.by.listed && !slices.Contains(by, k.by) && slices.ContainsFunc(copies, func(c copyOf) bool {
			return c.digest == first.digest && c.opens(u, k.opening)
		}) {
			by = append(by, k.by)
		}
	}
	switch {
	case len(by) >= b.keepers:
		v.State = Accepted
	case !served:
		v.State = Open
	}
	return supporters
}

// result is what a copy's first opening names.
func (b *Book) result(u uint32, k copyOf) workunits.Result {
	if r, ok := b.stored[storedAt{k.first, u}]; ok {
		return r
	}
	return workunits.Result{Digest: k.digest}
}

// opens reports whether the opening fits the commit's copy of the unit.
func (c *commit) opens(u uint32, at *ref) bool {
	i, named := slices.BinarySearch(c.body.Units, u)
	return named && i < len(c.opened) && (c.opened[i].first == at || slices.Contains(c.opened[i].more, at))
}

func (b *Book) failing(u uint32, v Unit) Unit {
	if v.Voids >= int(b.manifest.Limits.Tries)*(1+b.retries[u]) {
		v.State = Failed
	}
	return v
}

// voids counts grants whose copy of the unit came back void, those of one steward up
// to one more than all others', so that none can fail a unit with volunteers of its
// own. What the publisher grants is not limited.
func (b *Book) voids(u uint32) int {
	grants := b.voided(u)
	most := 0
	for _, g := range grants {
		own := 0
		for _, o := range grants {
			if o.by == g.by && !g.by.free {
				own++
			}
		}
		most = max(most, own)
	}
	return min(len(grants), 2*(len(grants)-most)+1)
}

// voided lists grants whose copy of the unit came back void.
func (b *Book) voided(u uint32) (grants []*grant) {
	for _, c := range b.look(u).commits {
		g := c.grant
		if len(c.body.Void) == 0 || !g.known || g.body.To != c.Author || !g.by.listed || c.life.burned > 0 || !b.binds(g, u) || slices.Contains(grants, g) {
			continue
		}
		if c.voids(u) {
			grants = append(grants, g)
		}
	}
	return grants
}

func (c *commit) voids(u uint32) bool {
	return slices.ContainsFunc(c.body.Void, func(x workunits.VoidUnit) bool { return x.Unit == u })
}

// unsealed lists the commits among copies that are drawn and not open.
func (b *Book) unsealed(list []copyOf) (due []ref) {
	for _, k := range list {
		if !k.open && b.drawn(b.drawers(k, list)) {
			due = append(due, k.ref)
		}
	}
	return due
}
