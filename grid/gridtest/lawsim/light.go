package lawsim

import (
	"cmp"
	"maps"
	"slices"

	"github.com/talka-grid/talka/workunits/verdict"
)

// Law is what a job's policy makes of stakes; verdict.Law is the real one.
type Law interface {
	Chance(m int, first, group, bar float64) float64
	Settles(winner, second verdict.Side) bool
	Doubt(verdict.Side) float64
	Poor(stake, bar float64) bool
	Begins(burned, accepted int) bool
	Checks(poor, all int) bool
	Again() float64
	Since(first uint64) uint64
	Waits(first, lot float64) bool
}

// Lots are the draws on copies, numbered as the copies come.
type Lots interface {
	// Next is the number of the next copy's draw.
	Next() int
	// Of is what a draw says of a unit, in [0,1).
	Of(number, unit int) float64
}

// Light applies a law to copies with the least bookkeeping of stakes, burns and
// backtracking. It knows no statements. As in a Book, a copy is judged with the
// stakes that were known when it was drawn, one that is alone also with later ones.
type Light struct {
	law    Law
	share  float64 // of stakes that colluders may hold, see verdict.Law.Bar
	cap    int     // largest stake from earlier jobs that counts; 0 for no cap
	lots   Lots
	units  []unit
	people []person
	ranks  ranks

	accepted int // units
	burned   int // copies of those who were burned

	told    int     // times that stakes were told, once before each draw
	grown   []int32 // whose stakes changed since
	changed []int   // by the copy at hand
	again   []int   // disputes to look at again
	reached []int32 // units of liars that were contradicted earlier than was known
}

type unit struct {
	copies   []copied
	credit   []int32 // whose stakes it raises
	result   Digest  // once it is accepted
	accepted bool
	disputed bool // copies that count differ
	mixed    bool // any do
}

type person struct {
	stake   int
	history int // from earlier jobs
	trusted bool
	units   []int32
	peaks   []peak   // of its stake, descending
	asking  []asking // its units that have its copy alone, descending by lot

	burned bool
	first  int // place of its first copy of a mixed unit, once burned
	lot    int // of that copy
}

// peak is the most that was told of a stake from a time on.
type peak struct{ told, stake int }

// asking is a unit that wants another copy beside its only one.
type asking struct {
	lot  float64
	unit int32
}

// NewLight returns the scheme for so many units.
func NewLight(law Law, share float64, units, historyCap int, lots Lots) *Light {
	return &Light{law: law, share: share, cap: historyCap, lots: lots, units: make([]unit, units)}
}

// Join adds the next volunteer.
func (l *Light) Join() { l.people = append(l.people, person{}) }

// Grant gives a volunteer stake from earlier jobs.
func (l *Light) Grant(who, stake int) {
	if l.cap > 0 {
		stake = min(stake, l.cap)
	}
	l.people[who].history = stake
	l.ranks.move(0, l.Stake(who))
	l.grown = append(l.grown, int32(who))
}

// Trust lets a volunteer's copies decide alone.
func (l *Light) Trust(who int) { l.people[who].trusted = true }

// Result is the accepted result of a unit.
func (l *Light) Result(u int) (Digest, bool) {
	return l.units[u].result, l.units[u].accepted
}

// Shown reports whether everybody sees that results of the unit differ.
func (l *Light) Shown(u int) bool { return l.units[u].disputed }

// Stake is a volunteer's count of copies in accepted units, and what it brought.
func (l *Light) Stake(who int) int { return l.people[who].stake + l.people[who].history }

// Poor reports whether a volunteer is poor among the others.
func (l *Light) Poor(who int) bool {
	return l.law.Poor(float64(l.Stake(who)), l.ranks.bar(l.share))
}

// Begins reports whether the poor may be given first copies.
func (l *Light) Begins() bool { return l.law.Begins(l.burned, l.accepted) }

// Checks reports whether the poor may be given further copies after so many.
func (l *Light) Checks(poor, all int) bool { return l.law.Checks(poor, all) }

// Commit is a volunteer's copy of a unit.
func (l *Light) Commit(u, who int, d Digest) (changed, burned []int) {
	l.changed = nil
	l.tell()
	x, p := &l.units[u], &l.people[who]
	c := copied{who: int32(who), told: l.told, place: int32(len(p.units) + 1), digest: d, lot: int32(l.lots.Next()), bar: int(l.ranks.bar(l.share))}
	x.copies = append(x.copies, c)
	for _, o := range x.copies {
		c.seen = append(c.seen, int32(l.Stake(int(o.who))))
	}
	x.copies[len(x.copies)-1] = c
	p.units = append(p.units, int32(u))
	for units := append(l.due(), int32(u)); len(units) > 0; {
		for _, u := range units {
			l.judge(int(u))
		}
		burned = append(burned, l.settle()...)
		units, l.reached = l.reached, nil
	}
	return l.changed, burned
}

// tell notes the stakes as they are.
func (l *Light) tell() {
	l.told++
	slices.Sort(l.grown)
	l.grown = slices.Compact(l.grown)
	for _, who := range l.grown {
		p, stake := &l.people[who], l.Stake(int(who))
		for len(p.peaks) > 0 && p.peaks[len(p.peaks)-1].stake <= stake {
			p.peaks = p.peaks[:len(p.peaks)-1]
		}
		p.peaks = append(p.peaks, peak{l.told, stake})
	}
}

// due lists units whose only copies are enough with what was told now.
func (l *Light) due() (units []int32) {
	for _, who := range l.grown {
		p, stake := &l.people[who], float64(l.Stake(int(who)))
		if len(p.asking) == 0 {
			continue
		}
		q := l.law.Chance(1, stake, stake, 0)
		for len(p.asking) > 0 && q < mandatory && p.asking[0].lot >= q {
			units = append(units, p.asking[0].unit)
			p.asking = p.asking[1:]
		}
	}
	l.grown = l.grown[:0]
	return units
}

// alone is the largest stake that was told since the draw on a unit's only copy.
func (l *Light) alone(c copied) int {
	peaks := l.people[c.who].peaks
	i, _ := slices.BinarySearchFunc(peaks, c.told, func(p peak, told int) int { return p.told - told })
	if i == len(peaks) {
		return int(c.seen[0])
	}
	return max(int(c.seen[0]), peaks[i].stake)
}

// Opened reports whether any of a unit's copies is open.
func (l *Light) Opened(u int) bool {
	return slices.ContainsFunc(l.units[u].copies, func(c copied) bool { return c.open })
}

// Waits reports whether a further copy of a unit had better wait.
func (l *Light) Waits(u int) bool {
	list := l.counting(u)
	return len(list) == 1 && !l.units[u].accepted && l.law.Waits(float64(list[0].seen[0]), l.lots.Of(int(list[0].lot), u))
}

// counting lists a unit's copies that count; several of people who were burned do
// not where there are no others.
func (l *Light) counting(u int) []copied {
	list := l.standing(u)
	if len(list) > 1 && !slices.ContainsFunc(list, func(c copied) bool { return !l.people[c.who].burned }) {
		return nil
	}
	return list
}

// standing lists the copies that count by themselves.
func (l *Light) standing(u int) (list []copied) {
	x := &l.units[u]
	void := func(c copied) bool { return !l.counts(u, c) }
	if !slices.ContainsFunc(x.copies, void) {
		return x.copies
	}
	for i, c := range x.copies {
		if void(c) {
			continue
		}
		var seen []int32
		for j, o := range x.copies[:i+1] {
			if !void(o) {
				seen = append(seen, c.seen[j])
			}
		}
		c.seen = seen
		list = append(list, c)
	}
	return list
}

// counts reports whether a copy does: those of somebody burned do only well before
// its first one of a mixed unit, and if the draw on that one does not ask for the unit.
func (l *Light) counts(u int, c copied) bool {
	p := &l.people[c.who]
	return !p.burned || uint64(c.place) < l.law.Since(uint64(p.first)) && l.lots.Of(p.lot, u) >= l.law.Again()
}

// judge works out a unit and opens what it asks for. Copies stay sealed until
// there are enough, or until open ones differ.
func (l *Light) judge(u int) {
	x := &l.units[u]
	was, list := x.accepted, l.counting(u)
	open := openOf(list)
	enough := l.enough(u, open) || l.enough(u, list)
	if enough || len(votes(open)) > 1 {
		for i := range x.copies {
			x.copies[i].open = x.copies[i].open || l.counts(u, x.copies[i])
		}
		open = list
	}
	if !x.mixed && len(votes(openOf(x.copies))) > 1 {
		x.mixed = true
		for _, c := range x.copies {
			l.reach(c)
		}
	}
	x.disputed = len(votes(open)) > 1
	if x.accepted = enough && !x.disputed; x.accepted {
		x.result = list[0].digest
	}
	if was != x.accepted {
		l.credit(u, list)
	}
	if x.mixed {
		l.again = append(l.again, u)
	}
}

// reach notes a copy of a mixed unit, if it is one of somebody burned.
func (l *Light) reach(c copied) {
	if p := &l.people[c.who]; p.burned && int(c.place) < p.first {
		l.reached = append(l.reached, p.units[:p.first-1]...)
		p.first, p.lot = int(c.place), int(c.lot)
	}
}

func openOf(copies []copied) (open []copied) {
	for _, c := range copies {
		if c.open {
			open = append(open, c)
		}
	}
	return open
}

// credit gives or takes what the unit's change is worth to its supporters.
func (l *Light) credit(u int, supporters []copied) {
	l.changed = append(l.changed, u)
	x := &l.units[u]
	for _, who := range x.credit {
		l.raise(int(who), -1)
	}
	x.credit = x.credit[:0]
	if !x.accepted {
		l.accepted--
		return
	}
	l.accepted++
	for _, c := range supporters {
		l.raise(int(c.who), 1)
		x.credit = append(x.credit, c.who)
	}
}

func (l *Light) raise(who, by int) {
	if l.people[who].burned {
		return
	}
	l.ranks.move(l.Stake(who), l.Stake(who)+by)
	l.people[who].stake += by
	l.grown = append(l.grown, int32(who))
}

// enough reports whether the law asks for no further copy.
func (l *Light) enough(u int, copies []copied) bool {
	if len(copies) == 0 {
		return false
	}
	last := copies[len(copies)-1]
	group, first := 0, int(last.seen[0])
	for i, c := range copies {
		if l.people[c.who].trusted {
			return true
		}
		group += int(last.seen[i])
	}
	lot := l.lots.Of(int(last.lot), u)
	if len(copies) == 1 {
		first = l.alone(last)
		group = first
	}
	q := l.law.Chance(len(copies), float64(first), float64(group), float64(last.bar))
	enough := q < mandatory && lot >= q
	if len(copies) == 1 && !enough && !l.people[last.who].burned {
		p := &l.people[last.who]
		i, found := slices.BinarySearchFunc(p.asking, lot, func(a asking, lot float64) int { return cmp.Compare(lot, a.lot) })
		if !found {
			p.asking = slices.Insert(p.asking, i, asking{lot, int32(u)})
		}
	}
	return enough
}

// mandatory is the chance from which on another copy is always asked for.
const mandatory = 0.8

// settle decides the disputes that the law decides, in rounds, and takes back
// what the losers supported.
func (l *Light) settle() (burned []int) {
	for {
		var losers []int
		for _, u := range l.again {
			losers = append(losers, l.losers(u)...)
		}
		l.again = nil
		slices.Sort(losers)
		losers = slices.Compact(losers)
		if len(losers) == 0 {
			return burned
		}
		burned = append(burned, losers...)
		l.burn(losers)
	}
}

// burn takes away the losers' stakes and copies, and works out again what they
// had part in.
func (l *Light) burn(losers []int) {
	touched := map[int]bool{}
	for _, w := range losers {
		p := &l.people[w]
		l.burned += len(p.units)
		l.ranks.move(l.Stake(w), 0)
		p.stake, p.history, p.burned, p.first, p.asking = 0, 0, true, len(p.units)+1, nil
		l.grown = append(l.grown, int32(w))
		for _, u := range p.units {
			touched[int(u)] = true
			if x := &l.units[u]; x.mixed {
				l.reach(x.copies[slices.IndexFunc(x.copies, func(c copied) bool { return int(c.who) == w })])
			}
		}
	}
	for _, u := range slices.Sorted(maps.Keys(touched)) {
		l.judge(u)
	}
}

// losers are the volunteers against whom a dispute is decided, as things stood
// before anybody was burned or as they are now.
func (l *Light) losers(u int) (who []int) {
	if who = l.losersOf(openOf(l.units[u].copies)); len(who) == 0 {
		who = l.losersOf(openOf(l.counting(u)))
	}
	return slices.DeleteFunc(who, func(w int) bool { return l.people[w].burned })
}

func (l *Light) losersOf(copies []copied) (who []int) {
	groups := votes(copies)
	sides := make([]verdict.Side, len(groups))
	best, second := -1, -1
	for i, g := range groups {
		sides[i].Copies = g.copies
		for _, c := range copies {
			if c.digest != g.digest {
				continue
			}
			sides[i].Most = max(sides[i].Most, float64(c.seen[len(c.seen)-1]))
			if l.people[c.who].trusted {
				return except(copies, g.digest)
			}
		}
	}
	for i := range sides {
		switch {
		case best < 0 || l.law.Doubt(sides[i]) < l.law.Doubt(sides[best]):
			best, second = i, best
		case second < 0 || l.law.Doubt(sides[i]) < l.law.Doubt(sides[second]):
			second = i
		}
	}
	if second < 0 || !l.law.Settles(sides[best], sides[second]) {
		return nil
	}
	return except(copies, groups[best].digest)
}

func except(copies []copied, d Digest) (who []int) {
	for _, c := range copies {
		if c.digest != d {
			who = append(who, int(c.who))
		}
	}
	return who
}
