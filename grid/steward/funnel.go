package steward

import (
	"cmp"
	"maps"
	"slices"

	"github.com/talka-grid/talka/grid/phrase"
)

// Times and bounds of what is remembered of requests.
const (
	FunnelTime = 120_000 // milliseconds that a request counts
	maxAsked   = 1 << 12 // volunteers
)

// NoUnit is the reason for a volunteer that may have units of the job, though none
// of those that want a copy now: it has had its part in them, or others are to
// take them.
var NoUnit = phrase.New("no_unit", "no unit here wants a copy of yours now").Text

// lastAsk is what a volunteer's latest request came to; no reason means a grant.
type lastAsk struct {
	at     uint64
	reason string
}

// Funnel tells which other nodes asked this steward for units within FunnelTime, and with what
// success.
type Funnel struct {
	Stewards int       // that act now
	Asked    int       // volunteers
	Granted  int       // whose latest request brought a grant
	Holding  int       // that hold units of this steward's now, itself too
	Refused  []Refusal // the most frequent first
}

// Refusal is a reason why volunteers got nothing.
type Refusal struct {
	Reason     string
	Volunteers int
}

// tally remembers what a request came to.
func (m *Machine) tally(from node, reason string) {
	if from == m.self {
		return
	}
	if _, known := m.requests[from]; !known && len(m.requests) >= maxAsked {
		m.forgetAsks()
		if len(m.requests) >= maxAsked {
			return
		}
	}
	m.requests[from] = lastAsk{m.now, reason}
}

func (m *Machine) forgetAsks() {
	maps.DeleteFunc(m.requests, func(_ node, a lastAsk) bool { return m.now > a.at+FunnelTime })
}

// Funnel is for those who want to know why a job does not go on.
func (m *Machine) Funnel() Funnel {
	m.forgetAsks()
	f := Funnel{Stewards: len(m.active()), Asked: len(m.requests), Holding: len(m.touches)}
	counts := map[string]int{}
	for _, a := range m.requests {
		if a.reason == "" {
			f.Granted++
		} else {
			counts[a.reason]++
		}
	}
	for reason, n := range counts {
		f.Refused = append(f.Refused, Refusal{reason, n})
	}
	slices.SortFunc(f.Refused, func(a, b Refusal) int {
		return cmp.Or(cmp.Compare(b.Volunteers, a.Volunteers), cmp.Compare(a.Reason, b.Reason))
	})
	return f
}
