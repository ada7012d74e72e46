package replica

import (
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/ipfs/go-cid"

	"github.com/talka-grid/talka/workunits"
)

// world is a year of volunteers that come and go, in virtual time. Each is there 40 %
// of the time (8 hours on, 12 off in the mean), lives for a while and is replaced by
// a new one; all of an operator are away together for two days now and then; one in
// twenty throws away what it promised to keep. The keeper is the real one.
type world struct {
	scenario
	rng      *rand.Rand
	nodes    []*volunteer
	outage   []time.Time // of each operator, until when
	next     int
	keeper   *Keeper
	coming   []Effect
	moved    int64
	lost     int
	risky    int // object-steps at risk
	away     int // object-steps in which nobody could have it
	steps    int
	lostEver map[cid.Cid]bool
}

// scenario is what differs between worlds.
type scenario struct {
	name    string
	objects int
	time    time.Duration
	life    time.Duration // mean, of a volunteer
	goal    Goal
	code    Code // from the beginning
	until   time.Duration
	anchors int // nodes that are there 99 % of the time and stay
}

type volunteer struct {
	Peer
	operator       int
	on             bool
	session, pause time.Duration // mean of a session, of a pause
	until          time.Time     // of this session or pause
	dies           time.Time
	liar           bool
	has            map[cid.Cid]map[int]bool // pieces
}

const (
	operators      = 20
	step           = 30 * time.Minute
	objectSize     = CutBytes
	publisherStays = 72 * time.Hour // the publisher leaves
	yearLong       = 365 * 24 * time.Hour
)

func (w *world) exp(mean time.Duration) time.Duration {
	return time.Duration(w.rng.ExpFloat64() * float64(mean))
}

func (w *world) join(now time.Time) *volunteer {
	op := w.rng.IntN(operators)
	v := &volunteer{
		Peer: Peer{node(w.next), fmt.Sprint(op), fmt.Sprint(w.next % 150)}, operator: op, on: true, session: 8 * time.Hour, pause: 12 * time.Hour,
		until: now.Add(w.exp(8 * time.Hour)), dies: now.Add(w.exp(w.life)), liar: w.rng.IntN(20) == 0, has: map[cid.Cid]map[int]bool{},
	}
	w.next++
	return v
}

// steady makes a node that stays.
func (w *world) steady(now time.Time, operator string, until time.Duration) *volunteer {
	v := w.join(now)
	v.liar, v.dies, v.until, v.Operator, v.operator = false, now.Add(until), now.Add(until), operator, -1
	return v
}

func (v *volunteer) take(c cid.Cid, piece int) {
	if v.has[c] == nil {
		v.has[c] = map[int]bool{}
	}
	v.has[c][piece] = !v.liar
}

// live lets half an hour pass.
func (w *world) live(now time.Time) map[workunits.NodeID]*volunteer {
	for op := range w.outage {
		if w.rng.Float64() < step.Hours()/(90*24) {
			w.outage[op] = now.Add(48 * time.Hour)
		}
	}
	there := map[workunits.NodeID]*volunteer{}
	for i, v := range w.nodes {
		if now.After(v.dies) {
			w.nodes[i] = w.join(now)
			v = w.nodes[i]
		}
		for now.After(v.until) {
			v.on = !v.on
			mean := v.pause
			if v.on {
				mean = v.session
			}
			v.until = v.until.Add(w.exp(mean))
		}
		if v.on && (v.operator < 0 || now.After(w.outage[v.operator])) {
			there[v.Node] = v
			w.keeper.Heard(now, v.Peer)
		}
	}
	return there
}

// held is what can be had of an object from nodes: it is whole, or these pieces.
func held(nodes []*volunteer, c cid.Cid) (whole bool, pieces int) {
	var seen [maxPieces]bool
	for _, v := range nodes {
		for p, ok := range v.has[c] {
			switch {
			case !ok:
			case p == Whole:
				whole = true
			case !seen[p]:
				seen[p] = true
				pieces++
			}
		}
	}
	return whole, pieces
}

// act does what the keeper said half an hour ago.
func (w *world) act(now time.Time, there map[workunits.NodeID]*volunteer) {
	rebuilt := map[cid.Cid]bool{} // from pieces, in this step
	for _, e := range w.coming {
		to := there[e.To]
		switch {
		case e.Kind == Cut:
			o := w.keeper.objects[e.Root].Object
			o.Code = DefaultCode()
			w.keeper.Keep(now, o)
		case to == nil:
		case e.Kind == Audit && to.has[e.Root][e.Piece]:
			w.keeper.Passed(now, e.Root, e.To)
		case e.Kind == Audit:
			w.keeper.Failed(now, e.Root, e.To)
		case e.Kind == Place:
			w.make(now, e, to, there, rebuilt)
		}
	}
	w.coming = w.keeper.Tick(now, w.rng)
}

// make makes a replica from the sources that are there still.
func (w *world) make(now time.Time, e Effect, to *volunteer, there map[workunits.NodeID]*volunteer, rebuilt map[cid.Cid]bool) {
	var from []*volunteer
	for _, s := range e.Sources {
		if v := there[s]; v != nil {
			from = append(from, v)
		}
	}
	whole, pieces := held(from, e.Root)
	size := int64(objectSize)
	if e.Piece != Whole {
		size /= int64(DefaultCode().Need)
	}
	switch {
	case whole:
	case e.Piece != Whole && pieces >= DefaultCode().Need:
		if !rebuilt[e.Root] {
			w.moved += objectSize
			rebuilt[e.Root] = true
		}
	default:
		return
	}
	w.moved += size
	to.take(e.Root, e.Piece)
	w.keeper.Stored(now, e.Root, e.To, e.Piece)
}

// count looks what is left.
func (w *world) count(now time.Time, there map[workunits.NodeID]*volunteer) {
	var online []*volunteer
	for _, v := range w.nodes {
		if there[v.Node] != nil {
			online = append(online, v)
		}
	}
	for i := range w.objects {
		c := root(i)
		if h, _ := w.keeper.Health(now, c); h.State == AtRisk {
			w.risky++
		}
		if whole, pieces := held(online, c); !whole && pieces < DefaultCode().Need {
			w.away++
		}
		if whole, pieces := held(w.nodes, c); !whole && pieces < DefaultCode().Need && !w.lostEver[c] {
			w.lostEver[c] = true
			w.lost++
		}
		w.steps++
	}
}

// year runs a year; the publisher leaves after three days.
func (s scenario) year(seed uint64) *world {
	w := &world{
		scenario: s, rng: rand.New(rand.NewPCG(seed, 1)), keeper: New(float64(1<<20), DefaultTimes()),
		outage: make([]time.Time, operators), lostEver: map[cid.Cid]bool{},
	}
	for range 120 {
		w.nodes = append(w.nodes, w.join(start))
	}
	for i := range s.anchors {
		v := w.steady(start, fmt.Sprint("anchor ", i), 10*yearLong)
		v.session, v.pause, v.until = 99*time.Hour, time.Hour, start.Add(w.exp(99*time.Hour))
		w.nodes = append(w.nodes, v)
	}
	publisher := w.steady(start, "", publisherStays)
	w.nodes = append(w.nodes, publisher)
	for i := range w.objects {
		publisher.take(root(i), Whole)
		o := Object{Root: root(i), Bytes: objectSize, Leaves: objectSize >> 20, Goal: s.goal, Code: s.code, Until: start.Add(s.until)}
		w.keeper.Keep(start, o, publisher.Node)
	}
	for now := start; now.Sub(start) < s.time; now = now.Add(step) {
		there := w.live(now)
		w.act(now, there)
		if now.Sub(start)%(6*time.Hour) == 0 {
			w.count(now, there)
		}
	}
	return w
}
