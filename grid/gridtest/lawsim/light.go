package lawsim

import (
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
}

// Light applies a law to copies with the least bookkeeping of stakes, burns and
// backtracking. It knows no statements. As in a Book, a copy is judged with the
// stakes that were known when it was drawn.
type Light struct {
	law    Law
	share  float64                // of stakes that colluders may hold, see verdict.Law.Bar
	cap    int                    // largest stake from earlier jobs that counts; 0 for no cap
	draw   func(unit int) float64 // of the next copy
	units  []unit
	people []person
	ranks  ranks

	accepted int // units
	burned   int // copies of those who were burned

	changed []int // by the copy at hand
	again   []int // disputes to look at again
}

type unit struct {
	copies   []copied // of those not burned
	credit   []int32  // whose stakes it raises
	accepted bool
	disputed bool
}

type person struct {
	stake   int
	history int // from earlier jobs
	burned  bool
	trusted bool
	units   []int32
}

// NewLight returns the scheme for so many units.
func NewLight(law Law, share float64, units, historyCap int, draw func(unit int) float64) *Light {
	return &Light{law: law, share: share, cap: historyCap, draw: draw, units: make([]unit, units)}
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
}

// Trust lets a volunteer's copies decide alone.
func (l *Light) Trust(who int) { l.people[who].trusted = true }

// Result is the accepted result of a unit.
func (l *Light) Result(u int) (Digest, bool) {
	if !l.units[u].accepted {
		return 0, false
	}
	return l.units[u].copies[0].digest, true
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
	l.changed, l.again = nil, nil
	x, p := &l.units[u], &l.people[who]
	c := copied{who: int32(who), digest: d, draw: l.draw(u), bar: int(l.ranks.bar(l.share))}
	x.copies = append(x.copies, c)
	for _, o := range x.copies {
		c.seen = append(c.seen, int32(l.Stake(int(o.who))))
	}
	x.copies[len(x.copies)-1] = c
	p.units = append(p.units, int32(u))
	l.judge(u)
	l.again = append(l.again, u)
	return l.changed, l.settle()
}

// judge works out a unit and opens what it asks for. Copies stay sealed until
// there are enough, or until open ones differ.
func (l *Light) judge(u int) {
	x := &l.units[u]
	was := x.accepted
	var open []copied
	for _, c := range x.copies {
		if c.open {
			open = append(open, c)
		}
	}
	enough := l.enough(open) || l.enough(x.copies)
	if enough || len(votes(open)) > 1 {
		for i := range x.copies {
			x.copies[i].open = true
		}
		open = x.copies
	}
	x.disputed = len(votes(open)) > 1
	x.accepted = enough && !x.disputed
	if was != x.accepted {
		l.credit(u)
	}
}

// credit gives or takes what the unit's change is worth to its supporters.
func (l *Light) credit(u int) {
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
	for _, c := range x.copies {
		l.raise(int(c.who), 1)
		x.credit = append(x.credit, c.who)
	}
}

func (l *Light) raise(who, by int) {
	l.ranks.move(l.Stake(who), l.Stake(who)+by)
	l.people[who].stake += by
}

// enough reports whether the law asks for no further copy.
func (l *Light) enough(copies []copied) bool {
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
	q := l.law.Chance(len(copies), float64(first), float64(group), float64(last.bar))
	return q < mandatory && last.draw >= q
}

// mandatory is the chance from which on another copy is always asked for.
const mandatory = 0.8

// settle decides the disputes that the law decides, in rounds, and takes back
// what the losers supported.
func (l *Light) settle() (burned []int) {
	for {
		var losers []int
		for _, u := range l.again {
			if l.units[u].disputed {
				losers = append(losers, l.losers(&l.units[u])...)
			}
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

// burn takes away the losers' copies and their stakes, and works out again what
// they had part in.
func (l *Light) burn(losers []int) {
	touched := map[int]bool{}
	for _, w := range losers {
		p := &l.people[w]
		p.burned = true
		l.burned += len(p.units)
		for _, u := range p.units {
			touched[int(u)] = true
		}
	}
	var order []int
	for u := range touched {
		order = append(order, u)
	}
	slices.Sort(order)
	for _, u := range order {
		x := &l.units[u]
		if x.accepted {
			x.accepted = false
			l.credit(u)
		}
		l.strip(x)
	}
	for _, w := range losers {
		p := &l.people[w]
		l.ranks.move(l.Stake(w), 0)
		p.stake, p.history, p.units = 0, 0, nil
	}
	for _, u := range order {
		l.judge(u)
		l.again = append(l.again, u)
	}
}

// strip takes the copies of those who are burned from a unit, and their stakes
// from what the draws on later copies saw.
func (l *Light) strip(x *unit) {
	for i := len(x.copies) - 1; i >= 0; i-- {
		if !l.people[x.copies[i].who].burned {
			continue
		}
		x.copies = slices.Delete(x.copies, i, i+1)
		for j := i; j < len(x.copies); j++ {
			x.copies[j].seen = slices.Delete(x.copies[j].seen, i, i+1)
		}
	}
}

// losers are the volunteers against whom a dispute is decided.
func (l *Light) losers(x *unit) (who []int) {
	groups := votes(x.copies)
	sides := make([]verdict.Side, len(groups))
	best, second := -1, -1
	for i, g := range groups {
		sides[i].Copies = g.copies
		for _, c := range x.copies {
			if c.digest != g.digest {
				continue
			}
			sides[i].Most = max(sides[i].Most, float64(c.seen[len(c.seen)-1]))
			if l.people[c.who].trusted {
				return l.except(x, g.digest)
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
	return l.except(x, groups[best].digest)
}

func (l *Light) except(x *unit, d Digest) (who []int) {
	for _, c := range x.copies {
		if c.digest != d {
			who = append(who, int(c.who))
		}
	}
	return who
}
