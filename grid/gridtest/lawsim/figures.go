package lawsim

import "encoding/json"

// Figure is one of the numbers by which the law is judged, and what it may be at
// most, or at least where that is said.
type Figure struct {
	Name  string  `json:"figure"`
	Value float64 `json:"value"`
	Aim   float64 `json:"aim"`
	Met   bool    `json:"met"`
}

// AtMost is the figure that is to be no more than its aim.
func AtMost(name string, value, aim float64) Figure { return Figure{name, value, aim, value <= aim} }

func (f Figure) String() string {
	b, err := json.Marshal(f)
	if err != nil {
		panic(err)
	}
	return string(b)
}

// Row is a run of the table and what it came to.
type Row struct {
	Config
	Line Line
}

// Figures judges the rows of a table by the worst of each kind. The rate of wrong
// results that a strategy leaves is the mean of its runs.
func Figures(rows []Row) []Figure {
	copies := func(l Line) float64 { return l.CopiesPerUnit }
	wrong := func(l Line) float64 { return l.Wrong }
	first := func(l Line) float64 { return l.FirstAccepted }
	law := func(r Row) bool { return r.Scheme == "cap-2" }
	honest := func(name string) func(Row) bool {
		return func(r Row) bool { return law(r) && r.Name == name && r.Line.Share == 0 }
	}
	lying := func(name string) func(Row) bool {
		return func(r Row) bool { return law(r) && r.Name == name && r.Line.Share > 0 }
	}
	churned := func(r Row) bool { return law(r) && r.Churn > 0 }
	undone := func(l Line) float64 { return 1 - l.Completed }
	list := []Figure{
		AtMost("cold, honest: copies a unit", most(rows, honest("cold"), copies), 2),
		AtMost("cold, most wrong of 20 %: copies a unit", worst(rows, lying("cold")).CopiesPerUnit, 2.3),
		AtMost("cold, dearest of 20 %: copies a unit", most(rows, lying("cold"), copies), 2.3),
		AtMost("cold, 20 %: wrong results", most(rows, lying("cold"), wrong), 6e-4),
		AtMost("long, honest: copies a unit", most(rows, honest("long"), copies), 1.21),
		AtMost("long, most wrong of 20 %: copies a unit", worst(rows, lying("long")).CopiesPerUnit, 1.35),
		AtMost("long, dearest of 20 %: copies a unit", most(rows, lying("long"), copies), 1.35),
		AtMost("long, 20 %: wrong results", mostMean(rows, lying("long"), wrong), 8e-5),
		AtMost("newcomers wait for an accepted unit, cold: turns", most(rows, lying("cold"), first), 10),
		AtMost("newcomers wait for an accepted unit, churn: turns", most(rows, churned, first), 10),
		AtMost("false burns per million honest copies, all without re-entry", falseBurns(rows, func(r Row) bool { return law(r) && !r.Adversary.Reenter }), 5),
		AtMost("churn 30 %: units not completed", most(rows, churned, undone), 0),
	}
	return list
}

// most is the greatest value among the rows that are meant.
func most(rows []Row, of func(Row) bool, value func(Line) float64) (v float64) {
	for _, r := range rows {
		if of(r) {
			v = max(v, value(r.Line))
		}
	}
	return v
}

// mostMean is the greatest mean of an adversary's rows among those that are meant.
func mostMean(rows []Row, of func(Row) bool, value func(Line) float64) (v float64) {
	sum, runs := map[string]float64{}, map[string]float64{}
	for _, r := range rows {
		if of(r) {
			sum[r.Adversary.Name] += value(r.Line)
			runs[r.Adversary.Name]++
		}
	}
	for a, n := range runs {
		v = max(v, sum[a]/n)
	}
	return v
}

// falseBurns is that of all the rows that are meant: there are too few to judge
// single rows by.
func falseBurns(rows []Row, of func(Row) bool) float64 {
	var burns, copies float64
	for _, r := range rows {
		if of(r) {
			n := r.Line.HonestPerUnit * float64(r.Line.Units)
			burns += r.Line.FalseBurns / 1e6 * n
			copies += n
		}
	}
	return 1e6 * burns / max(1, copies)
}

// worst is the line with the most wrong results.
func worst(rows []Row, of func(Row) bool) (w Line) {
	for _, r := range rows {
		if of(r) && (r.Line.Wrong > w.Wrong || w.Name == "") {
			w = r.Line
		}
	}
	return w
}
