package lawsim

import (
	"cmp"
	"math/rand/v2"

	"github.com/talka-grid/talka/workunits"
	"github.com/talka-grid/talka/workunits/verdict"
)

// Digest stands for a result: Right, or one of the wrong ones.
type Digest int32

// Results. From Own on, every number is the error of one copy alone.
const (
	Right Digest = iota
	Agreed
	Own
)

// Scheme decides which results are accepted. Volunteers and units are numbered;
// copies of a unit follow one another, each committed before the next is drawn.
type Scheme interface {
	// Join adds the next volunteer.
	Join()
	// Commit is a volunteer's copy of a unit. It returns the units that were
	// accepted or reopened, some perhaps more than once, and who was burned.
	Commit(unit, who int, d Digest) (changed, burned []int)
	// Result is the accepted result of a unit.
	Result(unit int) (Digest, bool)
	// Shown reports whether everybody sees that results of the unit differ.
	Shown(unit int) bool
	// Stake is what the scheme holds a volunteer to be worth.
	Stake(who int) int
}

// staking is a scheme of this project's law.
type staking interface {
	// Grant gives a volunteer stake from earlier jobs, before the first copy.
	Grant(who, stake int)
	// Trust lets a volunteer's copies decide alone; it is the publisher.
	Trust(who int)
	// Poor, Begins and Checks are verdict.Law's, as things stand.
	Poor(who int) bool
	Begins() bool
	Checks(poor, all int) bool
	// Opened reports whether there are results of a unit to be read, if only of those who
	// were proven wrong.
	Opened(unit int) bool
	// Waits reports whether a further copy of a unit had better wait until there are no
	// units without copies.
	Waits(unit int) bool
}

// Policy is the verification that the tables are about: an eps of 1e-4 for each
// copy against a fifth of the volunteers.
func Policy(maxAgree uint32) workunits.Policy {
	return workunits.Policy{Mode: workunits.VerifyAudit, Error: 2e-4, Share: 0.2, Price: 10, MaxAgree: maxAgree,
		Compare: workunits.Comparator{Kind: workunits.CompareBytes}}
}

// NewScheme makes a scheme by name: cap-2 and strict are this project's law,
// boinc is Adaptive, 2-of-2 and 3-of-5 are quorums. With Config.Backend "book"
// the law's are played by a Book, and with "light" by a Light with its draws.
func NewScheme(c Config, r *rand.Rand) Scheme {
	p := Policy(0)
	switch c.Scheme {
	case "boinc":
		return NewAdaptive(c.Units, r.Float64)
	case "2-of-2":
		return NewQuorum(2, 2, c.Units)
	case "3-of-5":
		return NewQuorum(3, 5, c.Units)
	case "cap-2":
		p = Policy(2)
	case "strict":
	default:
		panic("lawsim: no scheme " + c.Scheme)
	}
	p.HistoryCap, p.Error = uint32(c.HistoryCap), cmp.Or(c.Error, p.Error)
	law := c.Law
	if law == nil {
		law = verdict.LawOf(p)
	}
	switch c.Backend {
	case BackendBook:
		return NewBook(p, c.Units)
	case BackendLight:
		return NewLight(law, p.Share, c.Units, c.HistoryCap, newDraws())
	}
	return NewLight(law, p.Share, c.Units, c.HistoryCap, &random{seed: r.Uint64()})
}

// copied is a copy as schemes keep it.
type copied struct {
	who    int32
	place  int32 // in its volunteer's log
	told   int   // how often stakes were told when it was drawn
	digest Digest
	lot    int32 // number of the draw on it
	open   bool
	seen   []int32 // stakes at the draw, of the unit's volunteers up to this one
	bar    int     // at the draw
}

// votes groups copies by digest, in the order in which digests came up.
func votes(copies []copied) (groups []vote) {
next:
	for _, c := range copies {
		for i := range groups {
			if groups[i].digest == c.digest {
				groups[i].copies++
				continue next
			}
		}
		groups = append(groups, vote{c.digest, 1})
	}
	return groups
}

type vote struct {
	digest Digest
	copies int
}

// random are draws made up from a seed.
type random struct {
	seed uint64
	next int
}

// Next is the number of the next copy's draw.
func (r *random) Next() int { r.next++; return r.next }

// Of is what a draw says of a unit.
func (r *random) Of(number, unit int) float64 {
	return rand.New(rand.NewPCG(r.seed, uint64(number)<<32|uint64(unit))).Float64()
}
