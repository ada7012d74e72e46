package steward_test

import (
	"fmt"
	"math/rand/v2"
	"runtime"
	"testing"
	"time"

	"github.com/talka-grid/talka/grid/steward"
	"github.com/talka-grid/talka/grid/volunteer"
	"github.com/talka-grid/talka/grid/wire"
	"github.com/talka-grid/talka/workunits"
	"github.com/talka-grid/talka/workunits/ledger"
)

// A benchJob is played by three stewards and their volunteers, all of them real
// machines with real signatures. Units take no time, frames no longer than a
// steward's answer.
const (
	benchBatch      = 64
	benchBatches    = 1024 // so that the few small grants at the end of a job do not decide
	benchVolunteers = 24
	benchGather     = 20 // milliseconds
)

type benchNode struct {
	id        workunits.NodeID
	steward   *steward.Machine
	volunteer *volunteer.Machine
	waiting   []steward.Input
	spent     time.Duration // in the steward's steps
}

type benchGrid struct {
	nodes []*benchNode
	byID  map[workunits.NodeID]*benchNode
	now   uint64
}

// newBenchGrid starts a job of so many batches whose volunteers the publisher
// trusts or, with checked, does not.
func newBenchGrid(tb testing.TB, batches uint32, checked bool) *benchGrid {
	tb.Helper()
	names := []string{"p", "s1", "s2"}
	for i := range benchVolunteers {
		names = append(names, fmt.Sprint("v", i))
	}
	m := workunits.Manifest{
		Network: "test", Publisher: idOf("p"), Project: "test", Name: "test", Units: batches * benchBatch, Days: 30, Active: 3, Listed: 8, Shard: 512,
		Program: workunits.Link{Cid: workunits.RawCid(workunits.Sum(nil))},
		Limits:  workunits.Limits{Memory: 1 << 20, Output: 1, Wall: 1000, Tries: 2},
		Policy:  workunits.Policy{Mode: workunits.VerifyAudit, Error: 1e-2, Share: 0.2, Price: 10, MaxAgree: 2, Compare: workunits.Comparator{Kind: workunits.CompareBytes}},
	}
	for _, n := range names[3:] {
		if !checked {
			m.Policy.Trusted = append(m.Policy.Trusted, idOf(n))
		}
	}
	id, _, err := m.Sign(keyOf("p"))
	if err != nil {
		tb.Fatal(err)
	}
	g := &benchGrid{byID: map[workunits.NodeID]*benchNode{}, now: start}
	var list []workunits.Steward
	for i, name := range names {
		key := keyOf(name)
		enc, _ := workunits.EncryptionKey(key)
		n := &benchNode{id: idOf(name)}
		seed := workunits.Sum([]byte(name))
		author := ledger.NewAuthor(key, ledger.New(m.Network, id))
		if i < 3 {
			list = append(list, workunits.Steward{Node: n.id, Enc: enc})
			n.steward = steward.New(steward.Config{Key: key, Job: id, Manifest: m, Author: author, Secret: seed, Rand: rand.NewChaCha8(seed),
				Identity: steward.Identify(workunits.Identity{Arch: "amd64", Enc: enc}, m, seed)})
		} else {
			n.volunteer = volunteer.New(volunteer.Config{Self: n.id, Arch: "amd64", Rand: rand.NewChaCha8(seed)})
			n.volunteer.Step(g.now, volunteer.SetPolicy{Policy: volunteer.Policy{Slots: benchBatch, Memory: m.Limits.Memory}})
			g.act(n, n.volunteer.Step(g.now, volunteer.Join{Job: id, Manifest: m, Stewards: list, Author: author,
				Identity: workunits.Identity{Arch: "amd64", Enc: enc, Length: 1}}))
		}
		g.nodes, g.byID[n.id] = append(g.nodes, n), n
	}
	g.nodes[0].waiting = []steward.Input{steward.Publish{Stewards: list}}
	return g
}

// round lets every steward answer what waits for it, and the clock of all nodes
// go on.
func (g *benchGrid) round() {
	g.now += benchGather
	for _, n := range g.nodes {
		if n.volunteer != nil {
			g.act(n, n.volunteer.Step(g.now, volunteer.Tick{}))
			continue
		}
		n.waiting = append(n.waiting, steward.Tick{})
		in := n.waiting
		n.waiting = nil
		began := time.Now()
		fx := n.steward.Step(g.now, in...)
		n.spent += time.Since(began)
		for _, o := range fx.Send {
			g.deliver(n, o)
		}
		for _, f := range fx.Fetch {
			n.waiting = append(n.waiting, steward.Fetched{Fetch: f})
		}
	}
}

func (g *benchGrid) deliver(from *benchNode, o wire.Outgoing) {
	to := g.byID[o.To]
	if to.steward != nil {
		to.waiting = append(to.waiting, steward.Received{From: from.id, Msg: o.Msg})
	} else {
		g.act(to, to.volunteer.Step(g.now, volunteer.Received{From: from.id, Msg: o.Msg}))
	}
}

// act sends what a volunteer says, and finishes its units at once.
func (g *benchGrid) act(n *benchNode, fx volunteer.Effects) {
	for _, o := range fx.Send {
		g.deliver(n, o)
	}
	for _, r := range fx.Run {
		block, d := workunits.Outcome{How: workunits.Exited, Out: workunits.OutFile{Size: 1, Data: []byte{byte(r.Unit)}}}.Encode()
		g.act(n, n.volunteer.Step(g.now, volunteer.Finished{Task: r.Task, Result: workunits.Result{Digest: d}, Block: block, Millis: 1}))
	}
}

// BenchmarkSteward measures the busiest of three stewards: copies a second, all
// its checks of signatures and its own signatures included, that it takes from
// grants to accepted units in batches.
func BenchmarkSteward(b *testing.B) {
	for _, checked := range []bool{false, true} {
		b.Run(map[bool]string{false: "one copy", true: "two copies"}[checked], func(b *testing.B) {
			for b.Loop() {
				g := newBenchGrid(b, benchBatches, checked)
				for !g.nodes[0].steward.Book().Done() {
					if g.round(); g.now > start+600_000 {
						b.Fatalf("the job does not end: %v", g.nodes[0].steward.Book().Counts())
					}
				}
				copies := float64(g.nodes[0].steward.Book().Copies())
				busiest := max(g.nodes[0].spent, g.nodes[1].spent, g.nodes[2].spent)
				b.ReportMetric(copies/busiest.Seconds(), "copies/s")
				b.ReportMetric(copies, "copies")
				b.ReportMetric(float64(g.now-start)/1000, "virtual-s")
			}
		})
	}
}

// BenchmarkRestart measures how a steward starts again while most units of a job are
// done: copies a second that it reads until it answers, from all statements or from a
// snapshot, and the heap that it then holds beside the snapshot and the stored bytes.
func BenchmarkRestart(b *testing.B) {
	g := newBenchGrid(b, benchBatches/2, true)
	was := g.nodes[0].steward
	for was.Book().Untouched() > benchBatches/2*benchBatch/10 {
		g.round()
	}
	raw, c := was.Author.Ledger().Segments(), was.Config
	load := func() *ledger.Ledger {
		l := ledger.New(c.Manifest.Network, c.Job)
		l.ReadWith(func(place uint64) ([]byte, error) { return raw[place-1], nil })
		return l
	}
	all := func() *ledger.Ledger {
		l := load()
		for i, r := range raw {
			if err := l.Restore(r, uint64(i+1)); err != nil {
				b.Fatal(err)
			}
		}
		return l
	}
	outline, snapshot := all().Outline(), was.Book().Snapshot()
	restart := func(b *testing.B, ledgerOf func() *ledger.Ledger, snapshot []byte) {
		before := heapNow()
		var m *steward.Machine
		for b.Loop() {
			c := c
			c.Author, c.Snapshot = ledger.NewAuthor(c.Key, ledgerOf()), snapshot
			m = steward.New(c)
			m.Step(g.now, steward.Tick{})
		}
		b.ReportMetric(float64(m.Book().Copies()*b.N)/b.Elapsed().Seconds(), "copies/s")
		b.ReportMetric((float64(heapNow())-before)/(1<<20), "MiB")
		runtime.KeepAlive(m)
	}
	b.Run("statements", func(b *testing.B) { restart(b, all, nil) })
	b.Run("snapshot", func(b *testing.B) {
		restart(b, func() *ledger.Ledger {
			l := load()
			if _, err := l.Recall(outline); err != nil {
				b.Fatal(err)
			}
			return l
		}, snapshot)
	})
	runtime.KeepAlive(g)
}

// heapNow is what the heap holds, in bytes.
func heapNow() float64 {
	var s runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&s)
	return float64(s.HeapAlloc)
}
