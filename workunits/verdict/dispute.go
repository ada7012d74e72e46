package verdict

import (
	"cmp"
	"encoding/binary"
	"maps"
	"slices"

	"github.com/talka-grid/talka/workunits"
)

// settle works out who is burned, from nothing, in rounds: each round judges the
// disputed units with the stakes that undisputed units give while the burned
// count for nothing, and burns those on a losing side. Rounds end when nobody is
// added. The result depends on the set of statements alone. It returns the units
// whose verdict changed.
func (b *Book) settle() (changed []uint32) {
	before, inputs := b.units, b.stage.inputs
	b.burned = map[node]bool{}
	for {
		b.recount()
		losers := map[node]bool{}
		for _, u := range slices.Sorted(maps.Keys(b.mixed)) {
			for _, n := range b.losers(u) {
				losers[n] = true
			}
		}
		if len(losers) == 0 {
			break
		}
		maps.Copy(b.burned, losers)
	}
	for _, u := range slices.Sorted(maps.Keys(b.units)) {
		if !before[u].same(b.units[u]) || b.manifest.Reduces(u) && inputs != b.stage.inputs {
			changed = append(changed, u)
		}
	}
	return changed
}

// recount works out every unit that statements name, and the stakes.
func (b *Book) recount() {
	known := slices.Collect(maps.Keys(b.units))
	b.units, b.counts, b.stakes, b.stage.stale = map[uint32]Unit{}, [4]int{}, map[node]int{}, b.manifest.Reduce != nil
	for _, u := range slices.Sorted(slices.Values(known)) {
		b.restage() // matters to the last one only, the second stage
		b.judge(u)
	}
}

// losers are the volunteers against whom a disputed unit is decided. Copies are
// held against those of their own platform only: elsewhere both may be right.
func (b *Book) losers(u uint32) (who []node) {
	list, _ := b.counting(u)
	for _, k := range list {
		groups := groupsOf(slices.DeleteFunc(slices.Clone(list), func(o copyOf) bool { return o.platform() != k.platform() }))
		if w := b.winner(groups); w >= 0 && k.open && k.result.Digest != groups[w].digest {
			who = append(who, k.who())
		}
	}
	return who
}

// winner is the index of the group that wins a dispute, -1 while none does.
func (b *Book) winner(groups []group) int {
	if len(groups) < 2 {
		return -1
	}
	for i, g := range groups {
		if slices.ContainsFunc(g.copies, func(k copyOf) bool { return k.who() == b.manifest.Publisher }) {
			return i
		}
	}
	trusted := slices.IndexFunc(groups, b.vouched)
	if trusted >= 0 {
		if slices.ContainsFunc(groups[trusted+1:], b.vouched) {
			return -1 // those whom the publisher trusts differ: the publisher must judge
		}
		return trusted
	}
	supports := make([]support, len(groups))
	for i, g := range groups {
		supports[i].copies = len(longest(g.copies))
		for _, k := range g.copies {
			supports[i].most = max(supports[i].most, float64(b.stakeOf(k.who())))
		}
	}
	order := make([]int, len(groups))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(i, j int) int { return cmp.Compare(b.law.doubt(supports[i]), b.law.doubt(supports[j])) })
	if b.law.Decides(supports[order[0]], supports[order[1]]) {
		return order[0]
	}
	return -1
}

func (b *Book) vouched(g group) bool {
	return slices.ContainsFunc(g.copies, func(k copyOf) bool { return b.manifest.Trusts(k.who()) })
}

// Fault is a node that the ledger speaks against, with the units that show it.
type Fault struct {
	Node  workunits.NodeID
	Name  workunits.FaultName
	Units []uint32
}

// Faults lists them, ascending by node, then by name.
func (b *Book) Faults() (list []Fault) {
	for n := range b.burned {
		list = append(list, Fault{n, workunits.FaultWrong, b.wrong(n)})
	}
	for n := range b.forked {
		list = append(list, Fault{Node: n, Name: workunits.FaultEquivocation})
	}
	for n := range b.badDraws {
		list = append(list, Fault{Node: n, Name: workunits.FaultDraw})
	}
	slices.SortFunc(list, func(x, y Fault) int { return cmp.Or(x.Node.Compare(y.Node), cmp.Compare(x.Name, y.Name)) })
	return list
}

// wrong lists the disputed units on which the node's copy opened to a digest
// other than the agreed one.
func (b *Book) wrong(n node) (units []uint32) {
	for _, u := range slices.Sorted(maps.Keys(b.mixed)) {
		v := b.Unit(u)
		for _, k := range b.all(u) {
			if k.who() == n && k.open && v.Agreed() && k.result.Digest != v.Result.Digest {
				units = append(units, u)
			}
		}
	}
	return units
}

// Burned reports whether the node was proven wrong in this job.
func (b *Book) Burned(n workunits.NodeID) bool { return b.burned[n] || b.forked[n] }

// BurnedNodes lists who was proven wrong, ascending.
func (b *Book) BurnedNodes() []workunits.NodeID {
	return slices.SortedFunc(maps.Keys(b.burned), workunits.NodeID.Compare)
}

// Digests lists the different results that a unit's copies opened to, ascending.
func (b *Book) Digests(u uint32) (list []workunits.Digest) {
	for _, g := range groupsOf(b.all(u)) {
		list = append(list, g.digest)
	}
	return list
}

// Drawn reports whether the draws on a commit are in the ledger for a unit.
func (b *Book) Drawn(u uint32, r workunits.Ref) bool {
	list := b.all(u)
	i := slices.IndexFunc(list, func(k copyOf) bool { return k.c.ref == r })
	return i >= 0 && b.drawn(u, list[i], list)
}

// Lot orders volunteers by chance for a unit's next copy: a hash of the draws on
// its copies and the volunteer. The lowest lot goes first; nobody can know it
// before the draws.
func (b *Book) Lot(u uint32, n workunits.NodeID) float64 {
	var seed digest
	for _, r := range b.byUnit[u] {
		for _, d := range b.commits[r].draws {
			for i := range seed {
				seed[i] ^= d.Value[i]
			}
		}
	}
	return fraction(b.job, u, seed, digest(n))
}

// Counts tells how many units are in each state, the second stage among them.
func (b *Book) Counts() map[State]int {
	c := map[State]int{}
	for s, n := range b.counts {
		c[State(s)] = n
	}
	c[Open] += int(b.manifest.Total()) - len(b.units)
	return c
}

// Done reports whether every unit is accepted or has failed.
func (b *Book) Done() bool {
	return b.counts[Accepted]+b.counts[Failed] == int(b.manifest.Total())
}

// Copies is how many copies were committed, void ones included.
func (b *Book) Copies() int { return b.copies }

// Expired is how many grants stewards gave up.
func (b *Book) Expired() (n int) {
	for r := range b.expired {
		if b.ended(r) {
			n++
		}
	}
	return n
}

// ended reports whether a steward gave a grant up.
func (b *Book) ended(grant ref) bool {
	return slices.ContainsFunc(b.expired[grant], func(e ref) bool { return b.listed[e.Author] })
}

// GivenUp reports whether a steward gave a commit up that it had receipted.
func (b *Book) GivenUp(r workunits.Ref) bool {
	c := b.commits[r]
	return c != nil && slices.ContainsFunc(b.expired[c.Grant], func(e ref) bool {
		got, ok := c.receipts[e.Author]
		return ok && got.seq < e.Seq && b.listed[e.Author]
	})
}

// lost reports whether a commit was given up and its copy of the unit is not open.
func (b *Book) lost(u uint32, c *commit) bool { return len(c.opened[u]) == 0 && b.GivenUp(c.ref) }

// Supporters lists the commits with open copies of the unit's agreed result.
func (b *Book) Supporters(u uint32) (commits []workunits.Ref) {
	v := b.Unit(u)
	list, _ := b.counting(u)
	for _, k := range list {
		if v.Agreed() && k.open && k.result.Digest == v.Result.Digest {
			commits = append(commits, k.c.ref)
		}
	}
	return commits
}

// Volunteers lists who committed copies, ascending.
func (b *Book) Volunteers() []workunits.NodeID {
	set := map[node]bool{}
	for r := range b.commits {
		set[r.Author] = true
	}
	return slices.SortedFunc(maps.Keys(set), workunits.NodeID.Compare)
}

// Stakes is the table of stakes, ascending by volunteer; burned volunteers
// stand in it with a strike.
func (b *Book) Stakes() workunits.StakeTable {
	var t workunits.StakeTable
	for n, s := range b.stakes {
		if s > 0 && !b.Burned(n) {
			t.Stakes = append(t.Stakes, workunits.Stake{Node: n, Units: uint64(s)})
		}
	}
	for _, n := range slices.Collect(maps.Keys(b.burned)) {
		t.Stakes = append(t.Stakes, workunits.Stake{Node: n, Strikes: 1})
	}
	slices.SortFunc(t.Stakes, func(x, y workunits.Stake) int { return x.Node.Compare(y.Node) })
	return t
}

// Head is the fingerprint of this book's verdict over the given logs.
func (b *Book) Head(logs []workunits.LogHead) workunits.Head {
	return workunits.Head{Logs: logs, Set: workunits.Sum(workunits.Encode(logs)), Stakes: workunits.Sum(workunits.Encode(b.Stakes()))}
}

// Results is the digest of all verdicts in unit order: what a seal is about.
func (b *Book) Results() workunits.Digest {
	var sum []byte
	for u := range b.manifest.Total() {
		if v := b.Unit(u); v.State == Accepted {
			sum = binary.BigEndian.AppendUint32(sum, u)
			sum = append(sum, v.Result.Digest[:]...)
		}
	}
	return workunits.Sum(sum)
}

// Outstanding lists the grants of a unit's inputs that have neither a commit for
// it nor an expiry.
func (b *Book) Outstanding(u uint32) (grants []workunits.Ref) {
	for _, r := range b.granted[u] {
		if b.ended(r) || !b.listed[r.Author] || !b.binds(b.grants[r], u) {
			continue
		}
		if !slices.ContainsFunc(b.byUnit[u], func(c ref) bool { return b.commits[c].Grant == r }) {
			grants = append(grants, r)
		}
	}
	return grants
}

// Grant returns a grant by its place.
func (b *Book) Grant(r workunits.Ref) (workunits.Grant, bool) {
	g, ok := b.grants[r]
	if !ok {
		return workunits.Grant{}, false
	}
	return g.Grant, true
}

// Commit returns a commit by its place, with its chain hash.
func (b *Book) Commit(r workunits.Ref) (workunits.Commit, workunits.Digest, bool) {
	c, ok := b.commits[r]
	if !ok {
		return workunits.Commit{}, digest{}, false
	}
	return c.Commit, c.hash, true
}

// Touched lists who has had part in a unit with its inputs: volunteers that were
// granted it, and stewards that granted, drew or keep openings of its copies.
func (b *Book) Touched(u uint32) (volunteers, stewards []workunits.NodeID) {
	for _, r := range b.granted[u] {
		g := b.grants[r]
		if !b.binds(g, u) {
			continue
		}
		volunteers = append(volunteers, g.To)
		stewards = append(append(stewards, r.Author), g.Custodians...)
	}
	for _, r := range b.byUnit[u] {
		stewards = slices.AppendSeq(stewards, maps.Keys(b.commits[r].draws))
	}
	return volunteers, stewards
}

// FirstCommitter is who committed the unit's first copy, zero for none.
func (b *Book) FirstCommitter(u uint32) (n workunits.NodeID) {
	if list, _ := b.counting(u); len(list) > 0 {
		return longest(list)[0].who()
	}
	return n
}

// Received reports whether a steward's receipt of a commit is in the ledger,
// and whether its draw is.
func (b *Book) Received(r workunits.Ref, by workunits.NodeID) (receipt, draw bool) {
	c := b.commits[r]
	if c == nil {
		return false, false
	}
	_, receipt = c.receipts[by]
	_, draw = c.draws[by]
	return receipt, draw
}

// Stored reports whether a steward said that it keeps the unit's result as an
// opening names it.
func (b *Book) Stored(u uint32, by workunits.NodeID, openings ...workunits.Ref) bool {
	return slices.ContainsFunc(b.kept[u], func(k keeper) bool { return k.by == by && slices.Contains(openings, k.opening) })
}

// Named reports whether any statement is about the unit.
func (b *Book) Named(u uint32) bool {
	_, ok := b.units[u]
	return ok
}

// Committed reports whether a volunteer committed a result of the unit that
// counts beside further copies: both are canonical, or neither is.
func (b *Book) Committed(u uint32, n workunits.NodeID) bool {
	canonical := b.Unit(u).Canonical
	return slices.ContainsFunc(b.byUnit[u], func(r ref) bool {
		c := b.commits[r]
		_, named := slices.BinarySearch(c.Units, u)
		g := b.grants[c.Grant]
		return r.Author == n && named && (g == nil || g.Canonical == canonical && b.binds(g, u)) && !b.lost(u, c)
	})
}

// Voided reports whether a volunteer's copy of the unit came back void or was
// given up.
func (b *Book) Voided(u uint32, n workunits.NodeID) bool {
	return slices.ContainsFunc(b.byUnit[u], func(r ref) bool {
		c := b.commits[r]
		if g := b.grants[c.Grant]; g != nil && !b.binds(g, u) {
			return false
		}
		return r.Author == n && (b.lost(u, c) || slices.ContainsFunc(c.Void, func(v workunits.VoidUnit) bool { return v.Unit == u }))
	})
}

// Stake is a volunteer's count of copies in accepted units, 0 once burned.
func (b *Book) Stake(n workunits.NodeID) int {
	if b.Burned(n) {
		return 0
	}
	return b.stakes[n]
}
