package replica

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/ipfs/go-cid"

	"github.com/talka-grid/talka/workunits"
)

// world is a year of volunteers that come and go, in virtual time. Each is there 40 %
// of the time (8 hours on, 12 off in the mean), lives for a while and is replaced by
// a new one; all of an operator are away together for two days now and then; one in
// twenty throws away what it promised to keep. The keeper is the real one.
type world struct {
	rng      *rand.Rand
	life     time.Duration
	nodes    []*volunteer
	outage   []time.Time // of each operator, until when
	next     int
	keeper   *Keeper
	coming   []Effect
	moved    int64
	lost     int
	risky    int // object-steps at risk, or without a replica online
	away     int
	steps    int
	lostEver map[cid.Cid]bool
}

type volunteer struct {
	Peer
	operator int
	on       bool
	until    time.Time // of this session or pause
	dies     time.Time
	liar     bool
	has      map[cid.Cid]bool
}

const (
	operators = 20
	step      = 30 * time.Minute
	objects   = 30
	objectMiB = 64
)

func (w *world) exp(mean time.Duration) time.Duration {
	return time.Duration(w.rng.ExpFloat64() * float64(mean))
}

func (w *world) join(now time.Time) *volunteer {
	op := w.rng.IntN(operators)
	v := &volunteer{
		Peer: Peer{node(w.next), fmt.Sprint(op), fmt.Sprint(w.next % 150)}, operator: op, on: true,
		until: now.Add(w.exp(8 * time.Hour)), dies: now.Add(w.exp(w.life)), liar: w.rng.IntN(20) == 0, has: map[cid.Cid]bool{},
	}
	w.next++
	return v
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
			mean := 12 * time.Hour
			if v.on {
				mean = 8 * time.Hour
			}
			v.until = v.until.Add(w.exp(mean))
		}
		if v.on && now.After(w.outage[v.operator]) {
			there[v.Node] = v
			w.keeper.Heard(now, v.Peer)
		}
	}
	return there
}

// act does what the keeper said half an hour ago.
func (w *world) act(now time.Time, there map[workunits.NodeID]*volunteer) {
	for _, e := range w.coming {
		to := there[e.To]
		switch {
		case to == nil:
		case e.Kind == Audit && to.has[e.Root]:
			w.keeper.Passed(now, e.Root, e.To)
		case e.Kind == Audit:
			w.keeper.Failed(e.Root, e.To)
		case e.Kind == Place:
			for _, s := range e.Sources {
				if from := there[s]; from != nil && from.has[e.Root] {
					w.moved += objectMiB << 20
					to.has[e.Root] = !to.liar
					w.keeper.Stored(now, e.Root, e.To)
					break
				}
			}
		}
	}
	w.coming = w.keeper.Tick(now, w.rng)
}

// count looks what is left.
func (w *world) count(now time.Time, there map[workunits.NodeID]*volunteer) {
	alive := map[cid.Cid]int{}
	online := map[cid.Cid]bool{}
	for _, v := range w.nodes {
		for c, has := range v.has {
			if has {
				alive[c]++
				online[c] = online[c] || there[v.Node] != nil
			}
		}
	}
	for i := range objects {
		c := root(i)
		if h, _ := w.keeper.Health(now, c); h.State == AtRisk {
			w.risky++
		}
		if !online[c] {
			w.away++
		}
		if alive[c] == 0 && !w.lostEver[c] {
			w.lostEver[c] = true
			w.lost++
		}
		w.steps++
	}
}

// year runs a year; the publisher leaves after three days.
func year(seed uint64, life time.Duration, goal Goal) *world {
	w := &world{
		rng: rand.New(rand.NewPCG(seed, 1)), life: life, keeper: New(float64(1 << 20)),
		outage: make([]time.Time, operators), lostEver: map[cid.Cid]bool{},
	}
	for range 120 {
		w.nodes = append(w.nodes, w.join(start))
	}
	publisher := w.join(start)
	publisher.liar, publisher.dies, publisher.until, publisher.Operator = false, start.Add(72*time.Hour), start.Add(72*time.Hour), ""
	w.nodes = append(w.nodes, publisher)
	for i := range objects {
		publisher.has[root(i)] = true
		w.keeper.Keep(start, Object{Root: root(i), Bytes: objectMiB << 20, Leaves: objectMiB, Goal: goal}, publisher.Node)
	}
	for now := start; now.Sub(start) < 365*24*time.Hour; now = now.Add(step) {
		there := w.live(now)
		w.act(now, there)
		if now.Sub(start)%(6*time.Hour) == 0 {
			w.count(now, there)
		}
	}
	return w
}

// TestYear shows loss for an object and year, and what repair costs, with no anchors
// at all. A Markov model of eight copies of independent volunteers, where detection
// and repair take two days, gives 4.3e-6 for lives of 90 days and 3.2e-3 for 30, with
// 2.5 times the object moved a month at 90.
func TestYear(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		life  time.Duration
		goal  Goal
		lost  int
		moved float64 // times the object, a month
	}{
		{90 * 24 * time.Hour, DefaultGoal(3), 0, 10},
		{30 * 24 * time.Hour, DefaultGoal(3), 0, 20},
	} {
		t.Run(fmt.Sprint(c.life.Hours()/24, " days"), func(t *testing.T) {
			t.Parallel()
			w := year(1, c.life, c.goal)
			moved := float64(w.moved) / objects / (objectMiB << 20) / 12
			t.Logf("%d of %d objects lost in a year; repair moves %.1f times the object a month; %.2f %% of the time none is online, %.2f %% at risk",
				w.lost, objects, moved, 100*float64(w.away)/float64(w.steps), 100*float64(w.risky)/float64(w.steps))
			if w.lost > c.lost || moved > c.moved {
				t.Error("more than wanted")
			}
		})
	}
}

// TestYearOfOne shows that the world is as hard as it says: single replicas are lost.
func TestYearOfOne(t *testing.T) {
	t.Parallel()
	w := year(1, 30*24*time.Hour, Goal{Copies: 1, Most: 1})
	if w.lost < objects/4 {
		t.Errorf("one replica each, and %d of %d are lost only", w.lost, objects)
	}
}

// BenchmarkYear runs many worlds, for the loss that TestYear is too short to see.
func BenchmarkYear(b *testing.B) {
	for _, days := range []int{90, 30} {
		for _, copies := range []int{3, 5, 8} {
			b.Run(fmt.Sprintf("life=%dd/most=%d", days, copies), func(b *testing.B) {
				lost, years, moved := 0, 0, 0.0
				for b.Loop() {
					w := year(uint64(years), time.Duration(days)*24*time.Hour, Goal{Copies: min(copies, 3), Available: 0.99, Most: copies})
					lost += w.lost
					years += objects
					moved += float64(w.moved) / (objectMiB << 20) / 12
				}
				b.ReportMetric(float64(lost)/float64(years), "loss/object-year")
				b.ReportMetric(moved/float64(years), "moved/month")
			})
		}
	}
}
