package lawsim

import "encoding/json"

// Report is what a run came to.
type Report struct {
	Executed   int // copies
	Honest     int // copies by honest volunteers
	Accepted   int // units
	Wrong      int // units accepted with a wrong result
	FalseBurns int // of honest volunteers
	Burns      int // of the adversary's identities
	Served     int // honest identities that had a copy in an accepted unit
	Waited     int // turns until they had, together
	Turns      int // until the last unit was accepted; everybody executes one copy a turn
}

// Line is a report as tables and tools read it: one JSON object.
type Line struct {
	Name          string  `json:"name"`
	Seed          uint64  `json:"seed"`
	Scheme        string  `json:"scheme"`
	Volunteers    int     `json:"volunteers"`
	Units         int     `json:"units"`
	Adversary     string  `json:"adversary"`
	Share         float64 `json:"share"`
	CopiesPerUnit float64 `json:"copies_per_unit"`
	HonestPerUnit float64 `json:"honest_copies_per_unit"`
	Wrong         float64 `json:"wrong"` // share of the accepted units
	FalseBurns    float64 `json:"false_burns_per_million"`
	Burns         int     `json:"burns"`
	Completed     float64 `json:"completed"` // share of the units
	Turns         int     `json:"turns"`
	FirstAccepted float64 `json:"first_accepted_turns"` // of an honest newcomer, on average
	BytesPerCopy  float64 `json:"bytes_per_copy"`
}

// Line is the report of a run of c.
func (r Report) Line(c Config) Line {
	return Line{
		Name: c.Name, Seed: c.Seed, Scheme: c.Scheme, Volunteers: c.Volunteers, Units: c.Units,
		Adversary: c.Adversary.Name, Share: c.Share,
		CopiesPerUnit: float64(r.Executed) / float64(c.Units), HonestPerUnit: float64(r.Honest) / float64(c.Units), Wrong: float64(r.Wrong) / float64(max(1, r.Accepted)),
		FalseBurns: 1e6 * float64(r.FalseBurns) / float64(max(1, r.Honest)), Burns: r.Burns,
		Completed: float64(r.Accepted) / float64(c.Units), Turns: r.Turns, FirstAccepted: float64(r.Waited) / float64(max(1, r.Served)), BytesPerCopy: BytesPerCopy(Batch),
	}
}

func (l Line) String() string {
	b, err := json.Marshal(l)
	if err != nil {
		panic(err)
	}
	return string(b)
}
