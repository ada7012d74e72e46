package lawsim

import (
	"math/rand/v2"
	"slices"
)

// Config is one run. Equal configurations give equal runs.
type Config struct {
	Name       string
	Seed       uint64
	Volunteers int
	Units      int
	Scheme     string  // see NewScheme
	Law        Law     // nil for that of verdict; what the scheme asks, if it asks a law
	Backend    string  // what applies this project's law: "" for a Light with random draws, BackendBook or BackendLight
	Error      float64 // that the job asks for; 0 for the tables' own
	HistoryCap int     // largest stake that the scheme counts; 0 for no cap
	Adversary  Adversary
	Share      float64 // of the volunteers that are the adversary's
	// Price is what a new identity costs, in executions: a volunteer that was
	// proven wrong and comes again sits out so many turns.
	Price   int
	History int     // stake that honest volunteers begin with
	Past    int     // stake that the adversary's identities begin with; later ones have none
	Ringers float64 // share of units whose result the publisher knows and compares
	Churn   float64 // chance of an honest volunteer to leave in a turn; a newcomer takes its place
}

// Backends that give equal runs, Light at a hundredth of the cost.
const (
	BackendBook  = "book"
	BackendLight = "light"
)

// volunteer is a machine; it may go through several identities.
type volunteer struct {
	id     int // identity
	bad    bool
	joiner bool // never begins a cheat
	cheats int  // begun by this identity
	done   int  // copies by this identity
	out    int  // turns that it still sits out
	came   int  // the turn in which this identity came
	// waiting are the units of this identity, until the first of them is accepted.
	waiting []int32
	served  bool // one of them was
	gone    bool
}

// World is one run under way.
type World struct {
	c      Config
	rng    *rand.Rand
	scheme Scheme
	stakes staking // the scheme, if it is one
	people []volunteer
	owner  []int // volunteer by identity

	fresh, begun []int        // units that want copies: their first, or a further one
	held         []int        // those whose further one had better wait
	place        []int        // of a unit in its list; -1 for none
	wrong        map[int]bool // units that the adversary answered, and whether wrongly
	next         int          // unit that nobody was given yet
	touched      [][]int32    // volunteers that executed a unit

	seconds, given int // copies after the first: all, and those of the poor
	report         Report
}

// Source is where all of a run's choices come from.
func (c Config) Source() *rand.Rand { return rand.New(rand.NewPCG(c.Seed, 0x1a55)) }

// Run runs a configuration to its end.
func Run(c Config) Report {
	rng := c.Source()
	return Play(c, NewScheme(c, rng), rng)
}

// Play is Run with a scheme and a source of the caller's.
func Play(c Config, scheme Scheme, rng *rand.Rand) Report {
	w := newWorld(c, scheme, rng)
	limit := 100*c.Units/c.Volunteers + 1000
	for w.report.Turns < limit && w.report.Accepted < c.Units {
		w.turn()
	}
	for u := range c.Units {
		if d, ok := w.scheme.Result(u); ok && d != Right {
			w.report.Wrong++
		}
	}
	return w.report
}

func newWorld(c Config, scheme Scheme, rng *rand.Rand) *World {
	w := &World{c: c, rng: rng, scheme: scheme, place: make([]int, c.Units), wrong: map[int]bool{}, touched: make([][]int32, c.Units)}
	w.stakes, _ = w.scheme.(staking)
	if c.Ringers > 0 {
		w.enter(-1)
		w.stakes.Trust(publisher)
	}
	bad := int(float64(c.Volunteers)*c.Share + 0.5)
	for i := range c.Volunteers {
		v := volunteer{bad: i < bad}
		v.joiner = v.bad && c.Adversary.Joiners > 0 && float64(i) < c.Adversary.Joiners*float64(bad)
		w.people = append(w.people, v)
		w.enter(i)
		if w.stakes != nil {
			past := c.History
			if v.bad {
				past = c.Past
			}
			w.stakes.Grant(w.people[i].id, past)
		}
	}
	return w
}

// publisher is the identity that compares ringers.
const publisher = 0

// enter gives a volunteer a new identity; -1 is the publisher.
func (w *World) enter(i int) {
	w.scheme.Join()
	if i >= 0 {
		v := &w.people[i]
		v.id, v.cheats, v.done = len(w.owner), 0, 0
		v.came, v.waiting, v.served = w.report.Turns, nil, false
	}
	w.owner = append(w.owner, i)
}

// turn lets every volunteer execute one copy, in a random order.
func (w *World) turn() {
	w.report.Turns++
	for _, i := range w.rng.Perm(len(w.people)) {
		v := &w.people[i]
		switch {
		case v.gone:
		case v.out > 0:
			if v.out--; v.out == 0 {
				w.enter(i)
			}
		default:
			if w.c.Churn > 0 && !v.bad && w.rng.Float64() < w.c.Churn {
				w.enter(i)
			}
			w.refill()
			if u, ok := w.pick(i); ok {
				w.execute(i, u)
			}
		}
	}
}

// refill keeps two units a volunteer on offer.
func (w *World) refill() {
	for w.next < w.c.Units && len(w.fresh)+len(w.begun) < 2*w.c.Volunteers {
		w.put(&w.fresh, w.next)
		w.next++
	}
}

func (w *World) put(list *[]int, u int) {
	w.place[u] = len(*list)
	*list = append(*list, u)
}

func (w *World) take(list *[]int, u int) {
	l := *list
	last := l[len(l)-1]
	l[w.place[u]] = last
	w.place[last] = w.place[u]
	w.place[u] = -1
	*list = l[:len(l)-1]
}

// pick is a random unit that wants a copy and that the volunteer has no part in.
func (w *World) pick(i int) (u int, ok bool) {
	from, end := 0, len(w.fresh)+len(w.begun)
	poor := w.poor(i)
	if poor && !w.stakes.Begins() {
		from = len(w.fresh)
	}
	checks := !poor || w.stakes.Checks(w.given, w.seconds)
	if !checks {
		end = len(w.fresh)
	}
	fits := func(u int) bool {
		return !slices.Contains(w.touched[u], int32(i)) && (!poor || !w.stakes.Opened(u))
	}
	u, ok = w.walk(end-from, fits, func(at int) int {
		if at += from; at < len(w.fresh) {
			return w.fresh[at]
		}
		return w.begun[at-len(w.fresh)]
	})
	if !ok && checks {
		return w.walk(len(w.held), fits, func(at int) int { return w.held[at] })
	}
	return u, ok
}

// walk looks among n units from a random place: where most were touched, that finds
// the rest.
func (w *World) walk(n int, fits func(u int) bool, unit func(at int) int) (u int, ok bool) {
	if n <= 0 {
		return 0, false
	}
	for try, at := 0, w.rng.IntN(n); try < min(n, 64); try++ {
		if u = unit(at); fits(u) {
			return u, true
		}
		if at++; at == n {
			at = 0
		}
	}
	return 0, false
}

// poor reports whether a volunteer is one that stewards keep from some copies.
func (w *World) poor(i int) bool { return w.stakes != nil && w.stakes.Poor(w.people[i].id) }

func (w *World) execute(i, u int) {
	v := &w.people[i]
	w.report.Executed++
	if !v.bad {
		w.report.Honest++
	}
	if len(w.touched[u]) == 0 {
		w.take(&w.fresh, u)
	} else {
		w.drop(u)
		w.seconds++
		if w.poor(i) {
			w.given++
		}
	}
	d := w.answer(i, u)
	if a := w.c.Adversary; v.bad && a.Leave && a.Cheats > 0 && v.cheats >= a.Cheats {
		defer func() { v.out = w.c.Price + 1 }()
	}
	v.done++
	w.touched[u] = append(w.touched[u], int32(i))
	if !v.bad && !v.served {
		v.waiting = append(v.waiting, int32(u))
	}
	changed, burned := w.scheme.Commit(u, v.id, d)
	w.want(u)
	w.follow(changed, burned)
	if d, accepted := w.scheme.Result(u); accepted && d != Right && w.rng.Float64() < w.c.Ringers {
		w.follow(w.scheme.Commit(u, publisher, Right))
	}
}

// follow does what a copy leads to.
func (w *World) follow(changed, burned []int) {
	for _, c := range slices.Compact(slices.Sorted(slices.Values(changed))) {
		w.reconcile(c)
	}
	for _, id := range slices.Sorted(slices.Values(burned)) {
		if i := w.owner[id]; w.people[i].id == id {
			w.burn(i)
		}
	}
}

// reconcile puts a unit where its verdict belongs.
func (w *World) reconcile(u int) {
	_, accepted := w.scheme.Result(u)
	switch listed := w.place[u] >= 0; {
	case accepted && listed:
		w.drop(u)
		w.report.Accepted++
		w.serve(u)
	case !accepted && !listed:
		w.want(u)
		w.report.Accepted--
	}
}

// want puts a unit where those are that want a further copy, drop takes it from there.
func (w *World) want(u int) {
	if left := w.next < w.c.Units || len(w.fresh) > 0; left && w.stakes != nil && w.stakes.Waits(u) {
		w.put(&w.held, u)
		return
	}
	w.put(&w.begun, u)
}

func (w *World) drop(u int) {
	if at := w.place[u]; at < len(w.held) && w.held[at] == u {
		w.take(&w.held, u)
		return
	}
	w.take(&w.begun, u)
}

// serve notes for whom a unit was the first to be accepted.
func (w *World) serve(u int) {
	for _, i := range w.touched[u] {
		v := &w.people[i]
		if !v.bad && !v.served && slices.Contains(v.waiting, int32(u)) {
			v.served, v.waiting = true, nil
			w.report.Served++
			w.report.Waited += w.report.Turns - v.came
		}
	}
}

func (w *World) burn(i int) {
	v := &w.people[i]
	if v.bad {
		w.report.Burns++
		v.gone = !w.c.Adversary.Reenter
	} else {
		w.report.FalseBurns++
	}
	v.out = w.c.Price + 1
	for _, u := range slices.Clone(w.held) {
		if w.touched[u][0] == int32(i) {
			w.drop(u)
			w.want(u)
		}
	}
}
