package oracle

import (
	"encoding/binary"
	"math"
	"math/big"
	"slices"

	"github.com/talka-grid/talka/workunits"
	"github.com/talka-grid/talka/workunits/verdict"
)

// Law is the arithmetic of trust as the design states it, written down apart from
// the one that nodes use: each is held against the other.
type Law struct {
	Eps       float64 // wrong rate aimed at, for each copy
	Share     float64 // f0, the assumed share of colluding volunteers
	Price     float64 // J, of an identity, in units
	MinCopies int     // at least so many agreeing copies
	MaxAgree  int     // so many agreeing copies are always enough; 0 for no cap
	None      bool    // volunteers are simply trusted
}

// Of is the law of a policy: eps is the error asked for over two copies a unit.
func Of(p workunits.Policy) Law {
	return Law{Eps: p.Error / 2, Share: p.Share, Price: p.Price, MinCopies: int(p.MinCopies), MaxAgree: int(p.MaxAgree),
		None: p.Mode == workunits.VerifyNone}
}

// Delta is delta(x) = min over c >= 1 of (x/c)^(1/c), clamped to [0,1].
func Delta(x float64) float64 {
	if x <= 0 {
		return 0
	}
	least := math.Min(x, 1)
	// ln of a term, (ln x - ln c)/c, falls until c = e*x and rises after it.
	for c := math.Max(1, math.Floor(math.E*x)-10); c <= math.E*x+2; c++ {
		least = math.Min(least, math.Pow(x/c, 1/c))
	}
	return least
}

// Bar is the stake that a volunteer must have half of, but for an identity's
// price, not to be poor: that of the poorest volunteer who is richer than those
// who together hold the assumed colluders' share of all stakes, or the richest of
// them in part. Fewer than eight with a stake are no crowd to be poor in.
func (l Law) Bar(stakes []uint64) float64 {
	var all float64
	staked := 0
	for _, s := range stakes {
		all += float64(s)
		if s > 0 {
			staked++
		}
	}
	bar := math.Inf(1)
	for _, s := range stakes {
		var upTo float64 // that volunteers with no more hold
		for _, t := range stakes {
			if t <= s {
				upTo += float64(t)
			}
		}
		if upTo > l.Share*all {
			bar = math.Min(bar, float64(s))
		}
	}
	if staked < 8 {
		return 0
	}
	return bar
}

// Chance is q: the probability that m agreeing copies need one more, given the
// first committer's stake, that of the whole group, and the bar.
func (l Law) Chance(m int, first, group, bar float64) float64 {
	enough := max(l.MaxAgree, l.MinCopies, 2)
	if first+l.Price < bar/2 {
		enough++
	}
	switch {
	case l.None:
		if m < max(l.MinCopies, 1) {
			return 1
		}
		return 0
	case l.MaxAgree > 0 && m >= enough:
		return 0
	case m < l.MinCopies:
		return 1
	}
	f := l.Share
	blind := (1 - Delta(l.left(first+l.Price))/math.Pow(f, float64(m-1))) / (1 - f)
	known := (1 - Delta(l.left(group+float64(m)*l.Price))) / (1 - f)
	if q := math.Min(blind, known); q < 0.8 {
		return math.Max(0, q)
	}
	return 1
}

// left is x, the wrong copies that a stake may leave; of what is more than r/(1+r) the
// half, if that is more.
func (l Law) left(stake float64) float64 {
	x, r := l.Eps*stake/l.Share, l.Again()
	if x <= r/(1+r) || l.None {
		return x
	}
	return math.Max(r/(1+r), x/2)
}

// Poor reports whether a volunteer has, with the price of its identity, less than
// half of the bar, and would be checked half of the time or more if it commits first.
func (l Law) Poor(stake, bar float64) bool {
	return stake+l.Price < bar/2 && l.Chance(1, stake, stake, bar) >= 0.5
}

// Checks keeps the copies of the poor, this one among them, to half of f0 of all
// further copies.
func (l Law) Checks(poor, all int) bool { return float64(poor)+1 <= l.Share*float64(all+1)/2 }

// Begins keeps the poor from first copies while those of the burned are more than
// an eighth of f0 of the accepted units.
func (l Law) Begins(burned, accepted int) bool { return 8*float64(burned) <= l.Share*float64(accepted) }

// Again is the share of what a liar did before it was first contradicted that counts
// no more: three twentieths, and all of it where nothing is checked.
func (l Law) Again() float64 {
	if l.None {
		return 1
	}
	return 0.15
}

// Since is the place from which on nothing of a log counts that was first contradicted
// at another: fifteen sixteenths of the way.
func (l Law) Since(first uint64) uint64 { return first - first/16 }

// Waits reports whether a further copy is put off: with four times the stake, the identity's
// price counted in again, the lot would ask for none.
func (l Law) Waits(first, lot float64) bool {
	q := l.Chance(1, 4*first+l.Price, 4*first+l.Price, 0)
	return q < 1 && lot >= q
}

// Doubt is D = min(f0, f0/((1-f0)e(n_max+J))) * f0^(m-1); nobody is sure doubt.
func (l Law) Doubt(s verdict.Side) float64 {
	if s.Copies == 0 {
		return 1
	}
	d, n := l.Share, s.Most+l.Price
	if n > 0 {
		d = math.Min(d, l.Share/((1-l.Share)*math.E*n))
	}
	return d * math.Pow(l.Share, float64(s.Copies-1))
}

// Settles reports whether a dispute is decided for winner against second.
func (l Law) Settles(winner, second verdict.Side) bool {
	if winner.Copies-second.Copies < 2 {
		return false
	}
	lo := math.Min(winner.Most, second.Most) + l.Price
	hi := math.Max(winner.Most, second.Most) + l.Price
	if hi <= 0 {
		return false // identities are free and nobody has anything to lose
	}
	tau := math.Min(Delta(l.Eps*lo/l.Share), 0.03*lo/hi)
	return l.Doubt(winner) <= tau*l.Doubt(second)
}

// Fraction makes a number in [0,1) of two values for a unit: the first 53 bits of
// the hash of values, job and unit.
func Fraction(job workunits.JobID, u uint32, x, y workunits.Digest) float64 {
	text := slices.Concat(x[:], y[:], job[:], binary.BigEndian.AppendUint32(nil, u))
	h := workunits.Sum(text)
	n := new(big.Int).Rsh(new(big.Int).SetBytes(h[:8]), 11)
	f, _ := new(big.Rat).SetFrac(n, big.NewInt(1<<53)).Float64()
	return f
}
