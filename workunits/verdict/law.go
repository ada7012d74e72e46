package verdict

import (
	"math"

	"github.com/talka-grid/talka/workunits"
)

// overhead is how many executions a unit takes on average where the error asked
// for is turned into the law's eps: the accepted wrong rate is at most eps times
// the overhead.
const overhead = 2

// Law is the arithmetic of trust for one job's policy.
type Law struct{ p workunits.Policy }

// eps is the wrong rate that the law aims at.
func (l Law) eps() float64 { return l.p.Error / overhead }

// Chance is the probability that m agreeing copies need another one; first is
// the first committer's stake and group the stake of all of them, in units.
//
// This version asks for a second copy of every unit (chance 1), and of more
// where the policy's minimum or its strictness says so. The stakes are where the
// adaptive law takes its input.
func (l Law) Chance(m int, first, group float64) float64 {
	_, _ = first, group
	if m >= l.Copies() {
		return 0
	}
	return 1
}

// Copies is how many agreeing copies are always enough.
func (l Law) Copies() int {
	if l.p.Mode == workunits.VerifyNone {
		return max(1, int(l.p.MinCopies))
	}
	least := 3 // strict: no cap
	if l.p.MaxAgree > 0 {
		least = max(2, int(l.p.MaxAgree))
	}
	return max(least, int(l.p.MinCopies))
}

// Delta is the largest chance of missing a wrong copy for which every number c
// of wrong copies leaves at most x expected survivors under backtracking:
// delta(x) = min over c >= 1 of (x/c)^(1/c).
func Delta(x float64) float64 {
	if x <= 0 {
		return 0
	}
	best := min(x, 1)
	// The minimum lies at c = e*x; beyond it the terms grow towards 1.
	for c := 2.0; c <= math.E*x+2 && c < 1e6; c++ {
		best = min(best, math.Pow(x/c, 1/c))
	}
	return best
}

// group is the support of one digest in a dispute.
type support struct {
	copies int     // that follow one another
	most   float64 // largest stake among its volunteers
}

// doubt is the chance that a group of colluders of this size and stake agreed
// on a wrong digest.
func (l Law) doubt(g support) float64 {
	f := l.p.Share
	if g.copies == 0 {
		return 1
	}
	d := f
	if n := g.most + l.p.Price; n > 0 {
		d = min(f, f/((1-f)*math.E*n))
	}
	return d * math.Pow(f, float64(g.copies-1))
}

// Decides reports whether the winner's support settles a dispute against the
// second. A lead of two copies is not enough where either side has much to lose
// or little to show: a plain majority would let newcomers ruin veterans.
func (l Law) Decides(winner, second support) bool {
	if winner.copies < second.copies+2 {
		return false
	}
	poor := min(winner.most, second.most) + l.p.Price
	rich := max(winner.most, second.most) + l.p.Price
	if rich == 0 {
		return false
	}
	tau := min(Delta(l.eps()*poor/l.p.Share), 0.1*poor/rich)
	return l.doubt(winner) <= tau*l.doubt(second)
}
