package verdict

import (
	"cmp"
	"maps"
	"math"
	"slices"

	"github.com/talka-grid/talka/workunits"
)

// everyRound stands for the end of settling.
const everyRound = math.MaxInt

// dispute is a unit with different results.
type dispute struct {
	parties []*life
	queued  bool
}

// settle works out who is burned and then the units whose verdicts may have
// changed, which it returns.
//
// Who is burned is defined in rounds: each round judges all disputed units while
// those burned in the rounds before count for nothing, and burns the losers;
// rounds end when nobody is added. Every life keeps the round that burned it, and
// what changes is worked out from there: a life is burned in the round after the
// first in which one of its units speaks against it. That fixes all rounds by
// induction, so it does not matter in which order changes are followed up.
func (b *Book) settle() (units []uint32) {
	if len(b.dirty) == 0 {
		return nil
	}
	for _, u := range b.dirty {
		b.contest(u)
	}
	b.burn()
	b.fade()
	units, b.dirty = b.dirty, nil
	for _, u := range units {
		b.unit(u).dirty = false
		if !b.manifest.Reduces(u) {
			b.judge(u)
		}
	}
	return b.judgeStage(units)
}

// contest notes who is in dispute about a unit.
func (b *Book) contest(u uint32) {
	d := b.disputed[u]
	if d == nil && b.unanimous(u) {
		return
	}
	list := b.all(u)
	if !mixed(list) {
		list = nil
	}
	if d == nil && list == nil {
		return
	}
	if d == nil {
		d = &dispute{}
		b.disputed[u] = d
	}
	for _, l := range d.parties {
		delete(l.party, u)
	}
	var parties []*life
	for _, k := range list {
		l := k.life
		if l.party == nil {
			l.party, l.loses = map[uint32]*commit{}, map[uint32]int{}
		}
		if c := l.party[u]; c == nil || k.Seq < c.Seq {
			l.party[u] = k.commit
		}
		parties = append(parties, l)
	}
	for _, l := range d.parties {
		if !slices.Contains(parties, l) {
			b.loses(l, u, 0)
			b.reach(l, u)
		}
	}
	for _, l := range parties {
		b.reach(l, u)
	}
	d.parties = parties
	b.queue(u)
}

// reach notes from where on a burn takes a life's copies back, after what is known
// of a disputed unit changed.
func (b *Book) reach(l *life, u uint32) {
	was := l.first
	l.first = nil
	for _, c := range l.party {
		if l.first == nil || c.Seq < l.first.Seq {
			l.first = c
		}
	}
	if l.burned > 0 && (l.first != was || l.first == l.party[u]) {
		b.touch(l.units) // what stands is a matter of the draws on that copy, too
	}
}

// spared reports whether a copy of a burned life stands all the same: it was committed
// before the first one that is contradicted, and not shortly before, and the draws on
// that one do not ask for the unit.
func (b *Book) spared(u uint32, k copyOf) bool {
	first := k.life.first
	if first == nil || k.Seq >= b.law.Since(first.Seq) {
		return false
	}
	who := b.drawers(copyOf{commit: first}, nil)
	return b.drawn(who) && b.lot(u, who) >= b.law.Again()
}

// unanimous reports whether no two commits opened a unit to different results,
// which is what most units come to.
func (b *Book) unanimous(u uint32) bool {
	var first *opened
	for _, c := range b.look(u).commits {
		i, named := slices.BinarySearch(c.body.Units, u)
		switch {
		case !named || i >= len(c.opened) || c.opened[i].first == nil:
		case first == nil:
			first = &c.opened[i]
		case c.opened[i].digest != first.digest:
			return false
		}
	}
	return true
}

func (b *Book) queue(u uint32) {
	if d := b.disputed[u]; d != nil && !d.queued {
		d.queued = true
		b.disputes = append(b.disputes, u)
	}
}

// loses notes the round in which a unit speaks against a life, 0 for never.
func (b *Book) loses(l *life, u uint32, round int) {
	if l.loses[u] == round {
		return
	}
	if l.loses[u] = round; round == 0 {
		delete(l.loses, u)
	}
	old, first := l.burned, 0
	for _, r := range l.loses {
		if first == 0 || r < first {
			first = r
		}
	}
	if b.ends(l, first); old == l.burned {
		return
	}
	for other := range l.party {
		b.queue(other)
	}
	if old == 0 || l.burned == 0 {
		b.touch(l.units)
	}
}

// burn follows changes of disputes up until nothing more changes. A life whose
// burn lost its ground may for a while hold another's up and be held by it, which
// only the growing rounds end; then starting anew is cheaper.
func (b *Book) burn() {
	budget := 1000 + 100*len(b.disputes)
	for len(b.disputes) > 0 {
		if budget--; budget == 0 {
			b.anew()
		}
		u := b.disputes[0]
		b.disputes = b.disputes[1:]
		b.follow(u)
	}
	b.disputes = nil
}

// follow works out one disputed unit's losers with the rounds as they are.
func (b *Book) follow(u uint32) {
	d := b.disputed[u]
	d.queued = false
	if len(d.parties) == 0 {
		delete(b.disputed, u)
		return
	}
	list := b.all(u)
	rounds := []int{0}
	for _, l := range d.parties {
		if l.burned > 0 && !slices.Contains(rounds, l.burned) {
			rounds = append(rounds, l.burned)
		}
	}
	slices.Sort(rounds)
	lost := map[*life]int{}
	for _, r := range rounds {
		for _, l := range b.losers(u, list, r) {
			if lost[l] == 0 {
				lost[l] = r + 1
			}
		}
	}
	for _, l := range d.parties {
		b.loses(l, u, lost[l])
	}
}

// ends notes the round that burned a life, 0 for none.
func (b *Book) ends(l *life, round int) {
	if l.burned = round; round > 0 {
		b.burned[l] = true
	} else {
		delete(b.burned, l)
	}
}

// anew burns everyone again, round by round.
func (b *Book) anew() {
	lives := map[*life]int{} // with the round before
	for _, d := range b.disputed {
		for _, l := range d.parties {
			lives[l] = l.burned
			b.ends(l, 0)
			clear(l.loses)
		}
	}
	all := slices.Sorted(maps.Keys(b.disputed))
	for round, more := 0, true; more; round++ {
		more = false
		for _, u := range all {
			for _, l := range b.losers(u, b.all(u), round) {
				if l.burned == 0 {
					b.ends(l, round+1)
					more = true
				}
				if _, ok := l.loses[u]; !ok {
					l.loses[u] = round + 1
				}
			}
		}
	}
	for l, old := range lives {
		if (old == 0) != (l.burned == 0) {
			b.touch(l.units)
		}
	}
	for _, u := range all {
		b.queue(u)
	}
}

// losers are the lives against which a disputed unit is decided after a round.
// Those of one platform alone count, so only they are held against each other:
// elsewhere both may be right. Copies of the second stage are held against those of equal inputs only,
// whether these are its inputs still. A copy that was never drawn burns nobody.
func (b *Book) losers(u uint32, all []copyOf, round int) (who []*life) {
	if b.manifest.Reduces(u) {
		for rest := all; len(rest) > 0; {
			in := rest[0].grant.body.Inputs
			other := func(k copyOf) bool { return k.grant.body.Inputs != in }
			who = append(who, b.losersOf(u, slices.DeleteFunc(slices.Clone(rest), other), round)...)
			rest = slices.DeleteFunc(slices.Clone(rest), func(k copyOf) bool { return !other(k) })
		}
		return who
	}
	return b.losersOf(u, all, round)
}

// losersOf is losers among copies of equal inputs.
func (b *Book) losersOf(u uint32, all []copyOf, round int) (who []*life) {
	if len(b.classify(u, all)) > 0 {
		return nil // who differs is not known yet
	}
	list, _ := b.counting(u, all, round)
	groups := groupsOf(list)
	w := b.winner(groups, list)
	for i, g := range groups {
		for _, k := range g.copies {
			if w >= 0 && i != w && b.drawn(b.drawers(k, list)) {
				who = append(who, k.life)
			}
		}
	}
	return who
}

// winner is the index of the group that wins a dispute, -1 while none does.
func (b *Book) winner(groups []group, list []copyOf) int {
	if len(groups) < 2 {
		return -1
	}
	for i, g := range groups {
		if slices.ContainsFunc(g.copies, func(k copyOf) bool { return k.publisher(b) }) {
			return i
		}
	}
	trusted := func(g group) bool { return slices.ContainsFunc(g.copies, func(k copyOf) bool { return k.by.trusted }) }
	if i := slices.IndexFunc(groups, trusted); i >= 0 {
		if slices.ContainsFunc(groups[i+1:], trusted) {
			return -1 // those whom the publisher trusts differ: the publisher must judge
		}
		return i
	}
	supports := make([]support, len(groups))
	order := make([]int, len(groups))
	for i, g := range groups {
		order[i] = i
		supports[i] = support{len(longest(g.copies)), -b.manifest.Policy.Price}
		for _, k := range g.copies {
			supports[i].most = max(supports[i].most, b.stakeAt(k, b.drawers(k, list)))
		}
	}
	slices.SortStableFunc(order, func(i, j int) int { return cmp.Compare(b.law.doubt(supports[i]), b.law.doubt(supports[j])) })
	if b.law.Decides(supports[order[0]], supports[order[1]]) {
		return order[0]
	}
	return -1
}

// Fault is a node that the ledger speaks against, with the units that show it.
type Fault struct {
	Node  workunits.NodeID
	Name  workunits.FaultName
	Units []uint32
}

// Faults lists them, ascending by node, then by name.
func (b *Book) Faults() (list []Fault) {
	b.settle()
	for n, a := range b.authors {
		if a.burns() > 0 {
			f := Fault{Node: n, Name: workunits.FaultWrong}
			for _, l := range a.lives {
				f.Units = slices.AppendSeq(f.Units, maps.Keys(l.loses))
			}
			slices.Sort(f.Units)
			f.Units = slices.Compact(f.Units)
			list = append(list, f)
		}
		if a.forked {
			list = append(list, Fault{Node: n, Name: workunits.FaultEquivocation})
		}
		if a.badDraw {
			list = append(list, Fault{Node: n, Name: workunits.FaultDraw})
		}
	}
	slices.SortFunc(list, func(x, y Fault) int { return cmp.Or(x.Node.Compare(y.Node), cmp.Compare(x.Name, y.Name)) })
	return list
}

// Burned reports whether the node was proven wrong in this job.
func (b *Book) Burned(n workunits.NodeID) bool {
	b.settle()
	a := b.authors[n]
	return a != nil && (a.forked || a.burns() > 0)
}

// Wrong reports whether a copy of the node was proven wrong in this job: what Burned
// does, but for those who were burned for two histories alone.
func (b *Book) Wrong(n workunits.NodeID) bool {
	b.settle()
	a := b.authors[n]
	return a != nil && a.burns() > 0
}

// BurnedNodes lists who was proven wrong, ascending.
func (b *Book) BurnedNodes() (list []workunits.NodeID) {
	b.settle()
	for l := range b.burned {
		list = append(list, l.by.id)
	}
	slices.SortFunc(list, workunits.NodeID.Compare)
	return slices.Compact(list)
}
