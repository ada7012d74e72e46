package verdict

import (
	"cmp"
	"encoding/binary"
	"maps"
	"math"
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
}

// same reports whether two verdicts are equal in what anyone acts on.
func (u Unit) same(o Unit) bool {
	return u.State == o.State && u.Canonical == o.Canonical && u.Contested == o.Contested && u.Support == o.Support &&
		u.Copies == o.Copies && u.Opening == o.Opening && slices.Equal(u.Unsealed, o.Unsealed)
}

// Agreed reports whether the unit has a result, stored or not.
func (u Unit) Agreed() bool { return u.Opening != workunits.Ref{} }

// copyOf is one volunteer's counted copy of a unit.
type copyOf struct {
	c       *commit
	g       *grant
	arch    string
	open    bool
	opening ref
	result  workunits.Result
}

func (k copyOf) who() node { return k.c.Author }

// platform is what honest copies of one unit may differ by.
func (k copyOf) platform() string {
	if k.g.Canonical {
		return "canonical"
	}
	return k.arch
}

// Unit returns the verdict on a unit as of the statements read.
func (b *Book) Unit(u uint32) Unit {
	if v, ok := b.units[u]; ok {
		return v
	}
	return Unit{State: Open, Canonical: b.manifest.Canonical}
}

// touch works out the verdicts on units that statements may have changed, and
// settles disputes that they may have changed: those on the units themselves,
// and those of volunteers whose stakes moved.
func (b *Book) touch(units []uint32) []uint32 {
	disputed, staged := false, false
	for _, u := range units {
		if u >= b.manifest.Units {
			staged = staged || b.manifest.Reduces(u)
			continue
		}
		before := b.mixed[u]
		disputed = b.judge(u) || before || b.mixed[u] || disputed
	}
	if changed, d := b.judgeStage(staged); changed || d {
		units, disputed = append(slices.Clone(units), b.manifest.Units), disputed || d
	}
	if disputed {
		units = slices.Concat(units, b.settle())
	}
	return units
}

// judge works out one unit and keeps the counts. It reports whether the stake
// of somebody in a dispute moved.
func (b *Book) judge(u uint32) (moved bool) {
	if b.disagree(u) {
		b.mixed[u] = true
		for _, k := range b.all(u) {
			b.party[k.who()] = true
		}
	} else {
		delete(b.mixed, u)
	}
	old, known := b.units[u]
	if known {
		b.counts[old.State]--
	}
	v := b.work(u)
	b.below(u, old, v)
	b.units[u] = v
	b.counts[v.State]++
	was, is := old.credited(), v.credited()
	for _, n := range was {
		b.stakes[n]--
	}
	for _, n := range is {
		b.stakes[n]++
	}
	return !slices.Equal(was, is) && slices.ContainsFunc(slices.Concat(was, is), func(n node) bool { return b.party[n] })
}

// credited lists whose stakes the unit raises.
func (u Unit) credited() []node {
	if u.State != Accepted {
		return nil
	}
	return u.Volunteers
}

// all lists every valid copy of a unit in a fixed order, one for a volunteer and
// way to execute: its first in its log that is not lost. Burned and forked volunteers' copies are
// among them.
func (b *Book) all(u uint32) []copyOf {
	refs := slices.Clone(b.byUnit[u])
	slices.SortFunc(refs, func(x, y ref) int {
		return cmp.Or(x.Author.Compare(y.Author), cmp.Compare(x.Seq, y.Seq))
	})
	var list []copyOf
	for _, r := range refs {
		k, ok := b.copy(u, b.commits[r])
		if ok && !b.lost(u, k.c) && !slices.ContainsFunc(list, func(o copyOf) bool { return o.who() == r.Author && o.g.Canonical == k.g.Canonical }) {
			list = append(list, k)
		}
	}
	return slices.DeleteFunc(list, func(k copyOf) bool { return b.conflicted(k, list) })
}

// copy checks one commit's copy of a unit against its grant.
func (b *Book) copy(u uint32, c *commit) (k copyOf, ok bool) {
	g := b.grants[c.Grant]
	_, named := slices.BinarySearch(c.Units, u)
	if g == nil || !named || g.hash != c.Bound || g.To != c.Author || !b.listed[g.Author] || !b.binds(g, u) {
		return k, false
	}
	if _, granted := slices.BinarySearch(g.Units, u); !granted {
		return k, false
	}
	k = copyOf{c: c, g: g, arch: g.Arch}
	for _, o := range c.opened[u] {
		if !k.open || less(o.ref, k.opening) {
			k.open, k.opening, k.result = true, o.ref, o.Result
		}
	}
	return k, true
}

func less(x, y ref) bool {
	return cmp.Or(x.Author.Compare(y.Author), cmp.Compare(x.Seq, y.Seq)) < 0
}

// conflicted tells copies of stewards that granted the unit or keep an opening
// of it; nobody checks itself. The publisher's own word stands in its own job.
func (b *Book) conflicted(k copyOf, list []copyOf) bool {
	if !b.listed[k.who()] || k.who() == b.manifest.Publisher {
		return false
	}
	return slices.ContainsFunc(list, func(o copyOf) bool {
		return o.g.Author == k.who() || slices.Contains(o.g.Custodians, k.who())
	})
}

// disagree reports whether opened results of a unit differ.
func (b *Book) disagree(u uint32) bool {
	if len(b.byUnit[u]) < 2 {
		return false
	}
	groups := groupsOf(b.all(u))
	return len(groups) > 1
}

// group is the copies that opened to one digest.
type group struct {
	digest digest
	copies []copyOf
}

// groupsOf sorts opened copies into groups, ascending by digest.
func groupsOf(copies []copyOf) (groups []group) {
	for _, k := range copies {
		if !k.open {
			continue
		}
		i := slices.IndexFunc(groups, func(g group) bool { return g.digest == k.result.Digest })
		if i < 0 {
			i = len(groups)
			groups = append(groups, group{digest: k.result.Digest})
		}
		groups[i].copies = append(groups[i].copies, k)
	}
	slices.SortFunc(groups, func(x, y group) int { return slices.Compare(x.digest[:], y.digest[:]) })
	return groups
}

// byPlatform reports whether results differ as architectures may: two of them
// have no result in common, or the publisher trusts a copy on one and another
// one differs from it.
func (b *Book) byPlatform(plain []copyOf) bool {
	digests := map[string]map[digest]bool{}
	for _, k := range plain {
		if !k.open {
			continue
		}
		if digests[k.arch] == nil {
			digests[k.arch] = map[digest]bool{}
		}
		digests[k.arch][k.result.Digest] = true
		if b.manifest.Trusts(k.who()) && slices.ContainsFunc(plain, func(o copyOf) bool {
			return o.open && o.arch != k.arch && o.result.Digest != k.result.Digest
		}) {
			return true
		}
	}
	for _, x := range digests {
		for _, y := range digests {
			if !slices.ContainsFunc(slices.Collect(maps.Keys(x)), func(d digest) bool { return y[d] }) {
				return true
			}
		}
	}
	return false
}

// counting lists the copies of a unit that count, one for a volunteer: canonical
// ones where all are or where plain ones differ by platform, else plain ones.
func (b *Book) counting(u uint32) (list []copyOf, canonical bool) {
	list = b.all(u)
	canonical = b.manifest.Canonical
	if !canonical && b.mixed[u] {
		canonical = b.byPlatform(slices.DeleteFunc(slices.Clone(list), func(k copyOf) bool { return k.g.Canonical }))
	}
	return slices.DeleteFunc(list, func(k copyOf) bool {
		return b.burned[k.who()] || b.forked[k.who()] || k.g.Canonical != canonical
	}), canonical
}

// follows reports whether x was granted by someone who held y's commit.
func follows(x, y copyOf) bool {
	r, ok := y.c.receipts[x.g.Author]
	return ok && r.hash == y.c.hash && r.seq < x.g.Seq
}

// longest is the longest run of copies that follow one another, first to last.
// Hash chains make "follows" free of cycles.
func longest(list []copyOf) []copyOf {
	best := make([][]copyOf, len(list))
	var run func(i int) []copyOf
	run = func(i int) []copyOf {
		if best[i] != nil {
			return best[i]
		}
		best[i] = []copyOf{list[i]} // also what a cycle through a broken hash would meet
		var before []copyOf
		for j := range list {
			if j != i && follows(list[i], list[j]) {
				if r := run(j); len(r) > len(before) {
					before = r
				}
			}
		}
		best[i] = append(slices.Clone(before), list[i])
		return best[i]
	}
	var top []copyOf
	for i := range list {
		if r := run(i); len(r) > len(top) {
			top = r
		}
	}
	return top
}

// work is the verdict on a unit from the statements and the burned volunteers.
func (b *Book) work(u uint32) Unit {
	if b.manifest.Reduces(u) && b.stage.state != Open {
		return Unit{State: b.stage.state, Canonical: b.manifest.Canonical}
	}
	list, canonical := b.counting(u)
	groups := groupsOf(list)
	v := Unit{State: Pending, Canonical: canonical, Copies: len(list), Voids: b.voids(u)}
	if len(groups) > 1 {
		v.Contested = true
		v.Unsealed = b.unsealed(u, list)
		if len(v.Unsealed) == 0 && !slices.ContainsFunc(list, func(k copyOf) bool { return !k.open }) {
			v.State = Open
		}
		return b.failing(v)
	}
	chain := longest(list)
	v.Support = len(chain)
	if b.stands(u, list) {
		// Copies that came later are opened as evidence, and hold nothing up.
		v.Unsealed = b.unsealed(u, list)
		b.agree(u, groups[0], &v)
		return v
	}
	enough, drawn := b.enough(u, chain, list)
	switch {
	case !enough:
		if drawn || len(chain) == 0 {
			v.State = Open
		}
		return b.failing(v)
	case !drawn:
		return v
	}
	v.Unsealed = b.unsealed(u, list)
	if len(groups) == 0 || len(v.Unsealed) > 0 {
		return v
	}
	b.agree(u, groups[0], &v)
	return v
}

// stands reports whether the open copies, which agree, are enough by themselves.
func (b *Book) stands(u uint32, list []copyOf) bool {
	open := slices.DeleteFunc(slices.Clone(list), func(k copyOf) bool { return !k.open })
	if len(open) == 0 {
		return false
	}
	enough, drawn := b.enough(u, longest(open), open)
	return enough && drawn
}

// agree names the result of the only group left and counts who keeps it.
func (b *Book) agree(u uint32, g group, v *Unit) {
	first := slices.MinFunc(g.copies, func(x, y copyOf) int {
		return cmp.Or(x.opening.Author.Compare(y.opening.Author), cmp.Compare(x.opening.Seq, y.opening.Seq))
	})
	v.Opening, v.Result = first.opening, first.result
	named := map[ref]bool{}
	for _, k := range g.copies {
		v.Volunteers = append(v.Volunteers, k.who())
		for _, o := range k.c.opened[u] {
			named[o.ref] = true
		}
	}
	keepers := map[node]bool{}
	for _, k := range b.kept[u] {
		if b.listed[k.by] && named[k.opening] {
			keepers[k.by] = true
		}
	}
	switch {
	case len(keepers) >= b.keepers:
		v.State = Accepted
	case !slices.ContainsFunc(g.copies, func(k copyOf) bool { return !b.GivenUp(k.c.ref) }):
		v.State = Open
	}
}

func (b *Book) failing(v Unit) Unit {
	if v.Voids >= int(b.manifest.Limits.Tries) {
		v.State = Failed
	}
	return v
}

// voids counts grants whose copy of the unit came back void.
func (b *Book) voids(u uint32) int {
	grants := map[ref]bool{}
	for _, r := range b.byUnit[u] {
		c := b.commits[r]
		g := b.grants[c.Grant]
		if g == nil || g.To != c.Author || !b.listed[g.Author] || b.burned[c.Author] || !b.binds(g, u) {
			continue
		}
		if slices.ContainsFunc(c.Void, func(x workunits.VoidUnit) bool { return x.Unit == u }) {
			grants[c.Grant] = true
		}
	}
	return len(grants)
}

// unsealed lists the commits among copies that are drawn and not open.
func (b *Book) unsealed(u uint32, list []copyOf) (due []ref) {
	for _, k := range list {
		if !k.open && b.drawn(u, k, list) {
			due = append(due, k.c.ref)
		}
	}
	return due
}

// enough reports whether the law asks for no further copy beyond the chain, and
// whether the draws on its last copy are in. Values that are withheld make the
// copy mandatory.
func (b *Book) enough(u uint32, chain, list []copyOf) (enough, drawn bool) {
	if len(chain) == 0 {
		return false, false
	}
	last := chain[len(chain)-1]
	drawn = b.drawn(u, last, list)
	if slices.ContainsFunc(list, func(k copyOf) bool { return b.manifest.Trusts(k.who()) }) {
		return true, drawn
	}
	var group float64
	for _, k := range chain {
		group += float64(b.stakeOf(k.who()))
	}
	chance := b.law.Chance(len(chain), float64(b.stakeOf(chain[0].who())), group)
	switch {
	case chance <= 0:
		return true, drawn
	case chance >= 0.8:
		return false, drawn
	}
	return drawn && !b.asks(u, last, list, chance), drawn
}

func (b *Book) stakeOf(n node) int {
	s := b.stakes[n]
	if c := int(b.manifest.Policy.HistoryCap); c > 0 {
		s = min(s, c)
	}
	return s
}

// drawers lists the stewards whose draws on a copy count for the unit: listed,
// with the receipt that fixed the value, and not executing the unit themselves.
func (b *Book) drawers(k copyOf, list []copyOf) (who []node) {
	for _, s := range append([]workunits.Steward{{Node: b.manifest.Publisher}}, b.list...) {
		d, ok := k.c.draws[s.Node]
		r, got := k.c.receipts[s.Node]
		executes := slices.ContainsFunc(list, func(o copyOf) bool { return o.who() == s.Node })
		if ok && got && r.index == d.Index && r.hash == k.c.hash && !slices.Contains(who, s.Node) &&
			(!executes || s.Node == b.manifest.Publisher) {
			who = append(who, s.Node)
		}
	}
	return who
}

// drawn reports whether the draws on a copy are in the ledger: the publisher's
// alone, or those of two other stewards.
func (b *Book) drawn(_ uint32, k copyOf, list []copyOf) bool {
	who := b.drawers(k, list)
	return len(who) >= 2 || len(who) == 1 && who[0] == b.manifest.Publisher
}

// asks is the draw itself: whether any pair of values, or the publisher's alone,
// asks for another copy.
func (b *Book) asks(u uint32, k copyOf, list []copyOf, chance float64) bool {
	who := b.drawers(k, list)
	if who[0] == b.manifest.Publisher {
		v := k.c.draws[who[0]].Value
		return fraction(b.job, u, v, v) < chance
	}
	for i, x := range who {
		for _, y := range who[i+1:] {
			if fraction(b.job, u, k.c.draws[x].Value, k.c.draws[y].Value) < chance {
				return true
			}
		}
	}
	return false
}

// fraction maps two values, job and unit to [0,1).
func fraction(job workunits.JobID, u uint32, x, y digest) float64 {
	b := append(append(append([]byte(nil), x[:]...), y[:]...), job[:]...)
	h := workunits.Sum(binary.BigEndian.AppendUint32(b, u))
	return float64(binary.BigEndian.Uint64(h[:])>>11) / (math.MaxUint64>>11 + 1)
}
