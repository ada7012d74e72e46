package lawsim

import "slices"

// Quorum accepts what so many copies agree on: 2-of-3 and the like. It remembers
// nobody.
type Quorum struct {
	agree, of int // of so many copies at most; the unit then begins anew
	units     []counted
}

type counted struct {
	copies   []copied
	accepted bool
	shown    bool
	result   Digest
}

// NewQuorum returns the scheme for so many units.
func NewQuorum(agree, of, units int) *Quorum {
	return &Quorum{agree: agree, of: of, units: make([]counted, units)}
}

// Join adds the next volunteer.
func (q *Quorum) Join() {}

// Commit is a volunteer's copy of a unit.
func (q *Quorum) Commit(u, who int, d Digest) (changed, burned []int) {
	x := &q.units[u]
	x.copies = append(x.copies, copied{who: int32(who), digest: d})
	for _, g := range votes(x.copies) {
		if g.copies >= q.agree {
			x.accepted, x.result = true, g.digest
			return []int{u}, nil
		}
	}
	if len(x.copies) >= q.of {
		x.copies = nil
	}
	return nil, nil
}

// Result is the accepted result of a unit.
func (q *Quorum) Result(u int) (Digest, bool) { return q.units[u].result, q.units[u].accepted }

// Shown is false: nothing is open before a unit is decided.
func (q *Quorum) Shown(int) bool { return false }

// Stake is nothing.
func (q *Quorum) Stake(int) int { return 0 }

// Adaptive is BOINC's adaptive replication: a volunteer with n >= 10 consecutive
// valid results is believed alone but for one result in n; anybody else's result
// needs another that agrees, and so it stays once results differ. An invalid
// result sets n to 0; what was accepted before stays.
// Source: https://github.com/BOINC/boinc/wiki/AdaptiveReplication.
type Adaptive struct {
	draw  func() float64
	valid []int // consecutive, by volunteer
	units []counted
}

// NewAdaptive returns the scheme for so many units.
func NewAdaptive(units int, draw func() float64) *Adaptive {
	return &Adaptive{draw: draw, units: make([]counted, units)}
}

// Join adds the next volunteer.
func (a *Adaptive) Join() { a.valid = append(a.valid, 0) }

// trustAfter is how many valid results in a row make a volunteer reliable.
const trustAfter = 10

// Commit is a volunteer's copy of a unit.
func (a *Adaptive) Commit(u, who int, d Digest) (changed, burned []int) {
	x := &a.units[u]
	n := a.valid[who]
	x.copies = append(x.copies, copied{who: int32(who), digest: d})
	groups := votes(x.copies)
	x.shown = len(groups) > 1
	alone := len(x.copies) == 1 && n >= trustAfter && a.draw() >= 1/float64(n)
	i := slices.IndexFunc(groups, func(g vote) bool { return g.copies >= 2 || alone })
	if i < 0 {
		return nil, nil
	}
	x.accepted, x.result = true, groups[i].digest
	for _, c := range x.copies {
		if c.digest == x.result {
			a.valid[c.who]++
		} else {
			a.valid[c.who] = 0
		}
	}
	x.copies = nil
	return []int{u}, nil
}

// Result is the accepted result of a unit.
func (a *Adaptive) Result(u int) (Digest, bool) { return a.units[u].result, a.units[u].accepted }

// Shown reports whether results of the unit differ.
func (a *Adaptive) Shown(u int) bool { return a.units[u].shown }

// Stake is a volunteer's consecutive valid results.
func (a *Adaptive) Stake(who int) int { return a.valid[who] }
