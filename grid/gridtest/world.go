package gridtest

import (
	"container/heap"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"strings"

	"github.com/talka-grid/talka/grid/wire"
	"github.com/talka-grid/talka/workunits"
)

// Times of the simulation, in milliseconds.
const (
	epoch       = 1_800_000_000_000 // of virtual time
	tickTime    = 250
	dialFailure = 400    // until a node learns that another is not there
	fetchTime   = 60     // beyond the latency
	largeTime   = 4_000  // beyond that, of a large result, if the job does not say
	compareTime = 3_000  // that a comparator program takes
	lateTime    = 40_000 // at whose multiples late volunteers commit
	findTime    = 5_000  // between two searches for a job
)

// Network is how frames travel.
type Network struct {
	MinLatency, MaxLatency uint64  // milliseconds one way
	Loss                   float64 // chance that a frame breaks its stream
}

// World is a simulated grid. Make it with New.
type World struct {
	Net  Network
	Fast bool // segments are signed by a hash that only the simulator can check
	// Gather is the time in milliseconds between two answers of a steward, which
	// takes what arrives in it together, as the driver does; 0 for an answer to
	// each input.
	Gather uint64
	seed   uint64
	rng    *rand.Rand
	now    uint64
	next   uint64 // number of the next event, which orders events of one time

	queue eventQueue
	nodes []*Node // in the order they were added
	byID  map[workunits.NodeID]*Node
	sides map[*Node]int // of a partition; nil while there is none
	links map[[2]workunits.NodeID]uint64

	parsed map[workunits.Digest]workunits.Segment // whose signatures were checked

	job  *Job
	gone int // volunteers that vanished, see Churn
	log  io.Writer
	obs  observer
	err  error // the first invariant that broke
}

// New returns an empty world; log, which may be nil, gets its transcript.
func New(seed uint64, log io.Writer) *World {
	if log == nil {
		log = io.Discard
	}
	return &World{
		Net: Network{MinLatency: 10, MaxLatency: 40}, seed: seed, rng: rand.New(rand.NewPCG(seed, 1)), now: epoch,
		byID: map[workunits.NodeID]*Node{}, links: map[[2]workunits.NodeID]uint64{}, parsed: map[workunits.Digest]workunits.Segment{}, log: log, obs: newObserver(),
	}
}

// Err is the first invariant that broke, nil if all held.
func (w *World) Err() error { return w.err }

func (w *World) fail(format string, args ...any) {
	if w.err == nil {
		w.err = fmt.Errorf("at %s: %s", w.clock(), fmt.Sprintf(format, args...))
	}
}

// Elapsed is the virtual time since the world began, in milliseconds.
func (w *World) Elapsed() uint64 { return w.now - epoch }

func (w *World) clock() string {
	return fmt.Sprintf("%d.%03ds", w.Elapsed()/1000, w.Elapsed()%1000)
}

func (w *World) printf(format string, args ...any) {
	fmt.Fprintf(w.log, "%9s  %s\n", w.clock(), fmt.Sprintf(format, args...))
}

// Node returns a node by name, nil if there is none.
func (w *World) Node(name string) *Node {
	for _, n := range w.nodes {
		if n.Name == name {
			return n
		}
	}
	return nil
}

func (w *World) name(id workunits.NodeID) string {
	if n := w.byID[id]; n != nil {
		return n.Name
	}
	return ""
}

func (w *World) names(ids []workunits.NodeID) string {
	list := make([]string, 0, len(ids))
	for _, id := range ids {
		list = append(list, w.name(id))
	}
	slices.Sort(list)
	return strings.Join(list, " ")
}

type event struct {
	at, seq uint64
	node    *Node // nil for the world
	life    int   // the node's life that the event belongs to
	do      func()
}

type eventQueue []event

func (q eventQueue) Len() int      { return len(q) }
func (q eventQueue) Swap(i, j int) { q[i], q[j] = q[j], q[i] }
func (q *eventQueue) Push(x any)   { *q = append(*q, x.(event)) }
func (q eventQueue) Less(i, j int) bool {
	return q[i].at < q[j].at || q[i].at == q[j].at && q[i].seq < q[j].seq
}

func (q *eventQueue) Pop() any {
	old := *q
	e := old[len(old)-1]
	*q = old[:len(old)-1]
	return e
}

// after runs do on a node in the given number of milliseconds, unless the node
// crashes before; a nil node stands for the world.
func (w *World) after(n *Node, delay uint64, do func()) {
	e := event{at: w.now + delay, seq: w.next, node: n, do: do}
	if n != nil {
		e.life = n.life
	}
	w.next++
	heap.Push(&w.queue, e)
}

// Run lets time pass until the condition holds after some event or the limit in
// milliseconds is over, and reports whether the condition held. It stops early
// when an invariant breaks.
func (w *World) Run(until func() bool, limit uint64) bool {
	end := w.now + limit
	for w.err == nil {
		if until() {
			return true
		}
		if len(w.queue) == 0 || w.queue[0].at > end {
			w.now = end
			return false
		}
		e := heap.Pop(&w.queue).(event)
		w.now = e.at
		if e.node == nil || e.node.up && e.node.life == e.life {
			e.do()
		}
	}
	return false
}

func (w *World) latency() uint64 {
	return w.Net.MinLatency + w.rng.Uint64N(w.Net.MaxLatency-w.Net.MinLatency+1)
}

// reaches reports whether frames of x arrive at y now.
func (w *World) reaches(x, y *Node) bool {
	return y.up && (w.sides == nil || w.sides[x] == w.sides[y])
}

// Partition splits the nodes into sides that do not reach each other; nodes
// that no side names stay together on one of their own. None heals.
func (w *World) Partition(sides ...[]*Node) {
	w.sides = nil
	for i, side := range sides {
		if w.sides == nil {
			w.sides = map[*Node]int{}
		}
		for _, n := range side {
			w.sides[n] = i + 1
		}
	}
}

// send carries a frame. The sender learns of a failure to connect; a stream
// that breaks on the way may or may not be noticed.
func (w *World) send(from, to *Node, m wire.Message) {
	frame := wire.Encode(m)
	w.obs.sent(m, len(frame))
	if !from.disk.steward || !to.disk.steward {
		w.obs.crowd += len(frame)
	}
	if len(frame) > wire.MaxFrame {
		w.fail("%s sends a frame of %d bytes to %s", from.Name, len(frame), to.Name)
	}
	if !w.reaches(from, to) || from.knows[to.ID] != to.addr {
		w.after(from, dialFailure, func() { from.unreachable(to.ID) })
		return
	}
	if w.rng.Float64() < w.Net.Loss {
		if w.rng.IntN(2) == 0 {
			w.after(from, dialFailure, func() { from.unreachable(to.ID) })
		}
		return
	}
	link := [2]workunits.NodeID{from.ID, to.ID}
	w.links[link] = max(w.links[link], w.now+w.latency())
	w.after(to, w.links[link]-w.now, func() {
		if w.sides != nil && w.sides[from] != w.sides[to] {
			return
		}
		got, err := wire.Decode(frame)
		if err != nil {
			w.fail("%s sent a frame to %s that does not decode: %v", from.Name, to.Name, err)
			return
		}
		to.knows[from.ID] = from.addr
		to.receive(from.ID, got)
	})
}
