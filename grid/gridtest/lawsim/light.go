package lawsim

import (
	"slices"

	"github.com/talka-grid/talka/workunits/verdict"
)

// Law is what a job's policy makes of stakes; verdict.Law is the real one.
type Law interface {
	Chance(m int, first, group float64) float64
	Settles(winner, second verdict.Side) bool
	Doubt(verdict.Side) float64
}

// Light applies a law to copies with the least bookkeeping of stakes, burns and
// backtracking. It knows no statements.
type Light struct {
	law     Law
	cap     int            // largest stake that counts; 0 for no cap
	Draw    func() float64 // of the next copy
	units   []unit
	people  []person
	dispute map[int]bool // units whose opened results differ
	chances map[[3]int]float64

	changed []int // by the copy at hand
	again   []int // disputes to look at again
}

type unit struct {
	copies   []copied // of those not burned
	open     bool     // results are opened as they come
	accepted bool
}

type person struct {
	stake    int
	burned   bool
	trusted  bool
	disputes []int // units in dispute that it has a copy of
	units    []int32
}

// NewLight returns the scheme for so many units.
func NewLight(law Law, units, historyCap int, draw func() float64) *Light {
	return &Light{law: law, cap: historyCap, Draw: draw, units: make([]unit, units), dispute: map[int]bool{}, chances: map[[3]int]float64{}}
}

// Join adds the next volunteer.
func (l *Light) Join() { l.people = append(l.people, person{}) }

// Grant gives a volunteer stake from earlier jobs.
func (l *Light) Grant(who, stake int) { l.people[who].stake += stake }

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
func (l *Light) Shown(u int) bool { return l.dispute[u] }

// Stake is a volunteer's count of copies in accepted units.
func (l *Light) Stake(who int) int { return l.people[who].stake }

// Commit is a volunteer's copy of a unit.
func (l *Light) Commit(u, who int, d Digest) (changed, burned []int) {
	l.changed, l.again = nil, nil
	x, p := &l.units[u], &l.people[who]
	x.copies = append(x.copies, copied{int32(who), d, l.Draw()})
	p.units = append(p.units, int32(u))
	if l.dispute[u] {
		p.disputes = append(p.disputes, u)
	}
	l.judge(u)
	l.again = append(l.again, u)
	return l.changed, l.settle()
}

// judge works out a unit.
func (l *Light) judge(u int) {
	x := &l.units[u]
	was := x.accepted
	groups := 0
	if x.open || l.enough(x) {
		x.open = len(x.copies) > 0
		groups = len(votes(x.copies))
	}
	x.accepted = groups == 1 && l.enough(x)
	if (groups > 1) != l.dispute[u] {
		l.mark(u, groups > 1)
	}
	if was != x.accepted {
		l.credit(u)
	}
}

// credit gives or takes what the unit's change is worth to its supporters, and
// notes the disputes whose stakes that moves.
func (l *Light) credit(u int) {
	l.changed = append(l.changed, u)
	by := -1
	if l.units[u].accepted {
		by = 1
	}
	for _, c := range l.units[u].copies {
		p := &l.people[c.who]
		p.stake += by
		l.again = append(l.again, p.disputes...)
	}
}

// mark keeps who has part in a dispute.
func (l *Light) mark(u int, disputed bool) {
	if disputed {
		l.dispute[u] = true
	} else {
		delete(l.dispute, u)
	}
	for _, c := range l.units[u].copies {
		p := &l.people[c.who]
		if disputed {
			p.disputes = append(p.disputes, u)
		} else {
			p.disputes = slices.DeleteFunc(p.disputes, func(o int) bool { return o == u })
		}
	}
}

// enough reports whether the law asks for no further copy.
func (l *Light) enough(x *unit) bool {
	if len(x.copies) == 0 {
		return false
	}
	group := 0
	for _, c := range x.copies {
		if l.people[c.who].trusted {
			return true
		}
		group += l.counted(c)
	}
	key := [3]int{len(x.copies), l.counted(x.copies[0]), group}
	q, known := l.chances[key]
	if !known {
		q = l.law.Chance(key[0], float64(key[1]), float64(key[2]))
		l.chances[key] = q
	}
	return q < mandatory && x.copies[len(x.copies)-1].draw >= q
}

// mandatory is the chance from which on another copy is always asked for.
const mandatory = 0.8

// counted is the stake that a decision sees.
func (l *Light) counted(c copied) int {
	s := l.people[c.who].stake
	if l.cap > 0 {
		s = min(s, l.cap)
	}
	return s
}

// settle decides the disputes that the law decides, in rounds of equal stakes,
// and takes back what the losers supported.
func (l *Light) settle() (burned []int) {
	for {
		var losers []int
		for _, u := range l.again {
			if l.dispute[u] {
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
		if l.dispute[u] {
			l.mark(u, false)
		}
		x.copies = slices.DeleteFunc(x.copies, func(c copied) bool { return l.people[c.who].burned })
	}
	for _, w := range losers {
		l.people[w].stake, l.people[w].units = 0, nil
	}
	for _, u := range order {
		l.judge(u)
		l.again = append(l.again, u)
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
			sides[i].Most = max(sides[i].Most, float64(l.counted(c)))
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
