package verdict

import (
	"math"
	"slices"

	"github.com/talka-grid/talka/workunits"
)

const (
	// overhead is how many executions a unit takes on average where the error
	// asked for is turned into the law's eps: the accepted wrong rate is at most
	// eps times the overhead.
	overhead = 2

	always     = 0.8 // chances from here on mean a further copy
	strikesOut = 3   // strikes that close an identity

	// again is the share of the copies before a burned volunteer's first contradicted
	// one that count no more. If it were all, those would be dear who work honestly
	// for long before they lie. The less it is, the more may be left of lies: whose
	// are missed with a chance above several gains by telling several, and keeps up to
	// 1.67 times what is allowed. So what such are allowed is divided by margin; what
	// that is beyond 1.67 is for chance, as what few liars leave varies by half.
	again   = 0.15
	shortly = 16 // before that copy, as a part of the log up to it, nothing is spared
	several = again / (1 + again)
	margin  = 2
)

// Crowd is how many volunteers must have a stake before any is held to be poor
// among them: fewer could not make up for what is then asked.
const Crowd = 8

// Law is the arithmetic of trust for one job's policy.
type Law struct{ p workunits.Policy }

// LawOf is the law of a policy that passes workunits.Manifest.Check.
func LawOf(p workunits.Policy) Law { return Law{p} }

// eps is the wrong rate that the law aims at.
func (l Law) eps() float64 { return l.p.Error / overhead }

// Chance is the probability that m agreeing copies need another one, 1 from 0.8
// on; first is the first committer's stake and group the stake of all of them,
// in units of this job, bar what Bar is of all volunteers' stakes.
func (l Law) Chance(m int, first, group, bar float64) float64 {
	switch {
	case m >= l.Copies(first, bar):
		return 0
	case l.p.Mode == workunits.VerifyNone, m < int(l.p.MinCopies):
		return 1
	}
	f, j := l.p.Share, l.p.Price
	q := min(
		1-Delta(l.risk(first+j))/math.Pow(f, float64(m-1)),
		1-Delta(l.risk(group+float64(m)*j))) / (1 - f)
	if q >= always {
		return 1
	}
	return max(q, 0)
}

// risk is how many wrong copies a stake, with the price of its identities, is allowed
// to leave where Delta is asked: x, or less of it where telling several of them pays.
func (l Law) risk(stake float64) float64 {
	x := l.eps() * stake / l.p.Share
	return max(min(x, several), x/margin)
}

// Waits reports whether a further copy had better wait: the lot of a unit's only copy asks
// for one at the first committer's stake, and would not at patient times that.
func (l Law) Waits(first, lot float64) bool {
	later := patient*first + l.p.Price
	q := l.Chance(1, later, later, 0)
	return q < always && lot >= q
}

// patient is how many times its stake a volunteer is given to earn, while there are units
// without copies, before others execute again what only its stake is too small for.
const patient = 4

// Copies is how many agreeing copies are always enough; without a cap the
// greatest integer. A cap lets more pass than the law would where the first
// committer has little to lose. As long as all have little there is no help for
// it. But once others have more, who comes, takes one wrong result and leaves
// would find the cap for ever: a first committer that is poor among others takes
// one copy more.
func (l Law) Copies(first, bar float64) int {
	switch {
	case l.p.Mode == workunits.VerifyNone:
		return max(1, int(l.p.MinCopies))
	case l.p.MaxAgree == 0:
		return math.MaxInt
	}
	n := max(2, int(l.p.MaxAgree), int(l.p.MinCopies))
	if first+l.p.Price < poor*bar {
		n++
	}
	return n
}

// Expected is how many agreeing copies a unit takes on average where every
// volunteer is honest and has the same stake, in units of this job.
func (l Law) Expected(stake float64) float64 {
	copies, reached := 0.0, 1.0
	for m := 1; m <= 64 && reached > 0; m++ {
		copies += reached
		reached *= l.Chance(m, stake, float64(m)*stake, 0)
	}
	return copies
}

// poor is the share of the bar below which a first committer is poor, often the chance of
// a check from which on its first copies are little help.
const (
	poor  = 0.5
	often = 0.5
)

// Bar is what a volunteer of the poorer sort has: the poorest that together hold
// the assumed colluders' share of all stakes have no more each. Crowds without
// stake do not lower it, nor does a rich volunteer raise it for all others; in a
// job where all began together it is nearly what everybody has. It is 0 where
// fewer than Crowd have a stake.
func (l Law) Bar(stakes []uint64) float64 {
	stakes = slices.DeleteFunc(slices.Sorted(slices.Values(stakes)), func(s uint64) bool { return s == 0 })
	if len(stakes) < Crowd {
		return 0
	}
	var all, held float64
	for _, s := range stakes {
		all += float64(s)
	}
	for _, s := range stakes {
		if held += float64(s); held > l.p.Share*all {
			return float64(s)
		}
	}
	return 0
}

// Vouches is the chance that a result which m agreeing copies got accepted is
// wrong, times the share of copies that went into it: at least eps, and more where the
// cap accepted earlier than the law would have. A group of colluders
// of which c wrong copies are missed with chance d each expects c*d^c survivors,
// and pays for them with the first committer's stake and the identity's price.
func (l Law) Vouches(m int, first, bar float64) float64 {
	f := l.p.Share
	if l.p.Mode == workunits.VerifyNone {
		return 1 // by whoever lets volunteers decide alone
	}
	missed := math.Pow(f, float64(m-1))
	eps := l.eps()
	if m < l.Copies(first, bar) {
		return eps
	}
	most := missed
	for c := 2.0; c*math.Pow(missed, c) > most; c++ {
		most = c * math.Pow(missed, c)
	}
	return max(eps, min(f*missed, f*most/max(first+l.p.Price, 1e-9)))
}

// Poor reports whether a volunteer is poor among others and its first copies are
// mostly checked. Those are little help then, since the copies that they take would
// do about as many units without them: such a volunteer is better given further copies.
func (l Law) Poor(stake, bar float64) bool {
	return stake+l.p.Price < poor*bar && l.Chance(1, stake, stake, bar) >= often
}

// Checks reports whether a further copy may go to a newcomer, a volunteer without
// stake that nobody trusts, or to a poor one, after so many of all further copies
// so far went to such. It binds only where others can take the copy. It is half
// of the colluders' share, since there are colluders among the others, too.
func (l Law) Checks(poor, all int) bool {
	return float64(poor+1) <= l.p.Share/2*float64(all+1)
}

// Begins reports whether poor volunteers may be given first copies, after so many
// copies of volunteers that were burned, and so many accepted units. It binds
// only where others can take the copy: who is burned, comes again, earns and is
// burned makes all others' work dearer, and is kept to a share of it.
func (l Law) Begins(burned, accepted int) bool {
	return float64(burned) <= l.p.Share/8*float64(accepted)
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
	middle := math.Floor(math.E * x)
	for c := max(2, middle-2); c <= middle+3; c++ {
		best = min(best, math.Pow(x/c, 1/c))
	}
	return best
}

// Again is the share of the copies before a burned volunteer's first contradicted
// one that count no more: all where nothing was checked.
func (l Law) Again() float64 {
	if l.p.Mode == workunits.VerifyNone {
		return 1
	}
	return again
}

// Since is the place in a burned volunteer's log from which on nothing is spared, given
// that of its first contradicted copy.
func (l Law) Since(first uint64) uint64 { return first - first/shortly }

// support is what stands behind one result in a dispute.
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

// unlike bounds how likely colluders may win a dispute against a side with as
// much to lose. At f = 0.2 it takes four copies against one: three are colluders'
// with f squared, which ruined fifteen honest volunteers in a million copies.
const unlike = 0.03

// Decides reports whether the winner's support settles a dispute against the
// second. A lead of two copies is not enough where either side has much to lose
// or little to show: a plain majority would let newcomers ruin veterans.
func (l Law) Decides(winner, second support) bool {
	if winner.copies < second.copies+2 {
		return false
	}
	poor := min(winner.most, second.most) + l.p.Price
	rich := max(winner.most, second.most) + l.p.Price
	if rich <= 0 {
		return false
	}
	tau := min(Delta(l.eps()*poor/l.p.Share), unlike*poor/rich)
	return l.doubt(winner) <= tau*l.doubt(second)
}
