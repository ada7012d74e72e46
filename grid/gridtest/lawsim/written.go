package lawsim

import (
	"math"

	"github.com/talka-grid/talka/workunits/verdict"
)

// Written is the arithmetic of trust as the design states it, written down apart
// from the one that nodes use: each is held against the other.
type Written struct {
	Eps       float64 // wrong rate aimed at, for each copy
	Share     float64 // f0, the assumed share of colluding volunteers
	Price     float64 // J, of an identity, in units
	MinCopies int     // at least so many agreeing copies
	MaxAgree  int     // so many agreeing copies are always enough; 0 for no cap
}

// Delta is delta(x) = min over c >= 1 of (x/c)^(1/c), clamped to [0,1].
func Delta(x float64) float64 {
	if x <= 0 {
		return 0
	}
	least := math.Min(x, 1)
	// ln of a term, (ln x - ln c)/c, falls until c = e*x and rises after it.
	for c := 1.0; c <= math.E*x+2; c++ {
		least = math.Min(least, math.Pow(x/c, 1/c))
	}
	return least
}

// Chance is q: the probability that m agreeing copies need one more, given the
// first committer's stake and that of the whole group.
func (l Written) Chance(m int, first, group float64) float64 {
	switch {
	case m < l.MinCopies:
		return 1
	case l.MaxAgree > 0 && m >= max(l.MaxAgree, l.MinCopies):
		return 0
	}
	f := l.Share
	blind := (1 - Delta(l.Eps*(first+l.Price)/f)/math.Pow(f, float64(m-1))) / (1 - f)
	known := (1 - Delta(l.Eps*(group+float64(m)*l.Price)/f)) / (1 - f)
	return min(1, max(0, min(blind, known)))
}

// Doubt is D = min(f0, f0/((1-f0)e(n_max+J))) * f0^(m-1).
func (l Written) Doubt(s verdict.Side) float64 {
	f := l.Share
	return math.Min(f, f/((1-f)*math.E*(s.Most+l.Price))) * math.Pow(f, float64(s.Copies-1))
}

// Settles reports whether a dispute is decided for winner against second.
func (l Written) Settles(winner, second verdict.Side) bool {
	if winner.Copies-second.Copies < 2 {
		return false
	}
	lo := math.Min(winner.Most, second.Most) + l.Price
	hi := math.Max(winner.Most, second.Most) + l.Price
	if hi == 0 {
		return false // identities are free and nobody has anything to lose
	}
	tau := math.Min(Delta(l.Eps*lo/l.Share), 0.1*lo/hi)
	return l.Doubt(winner) <= tau*l.Doubt(second)
}
