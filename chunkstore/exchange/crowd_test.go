package exchange

import (
	"math"
	"math/rand/v2"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/talka-grid/talka/workunits"
)

// TestCrowd has volunteers ask at once for what one publisher has: they feed one
// another, and the publisher sends no more than it would to half of them. Most often it
// is less than a third.
func TestCrowd(t *testing.T) {
	t.Parallel()
	const volunteers, size = 10, 24 * mib
	path := file(t, 9, size)
	synctest.Test(t, func(t *testing.T) {
		nodes, hints, sent := swarm(t, volunteers+1)
		root := add(t, nodes[0].cfg.Store, path).Cid
		begun := time.Now()
		var group sync.WaitGroup
		for _, x := range nodes[1:] {
			keep(t, x.cfg.Store, root)
			group.Go(func() {
				if err := x.Fetch(t.Context(), root, hints, nil); err != nil {
					t.Error(err)
				}
			})
		}
		group.Wait()
		ratio := float64(sent.Load()) / size
		t.Logf("%d had it after %v; the publisher sent it %.1f times", volunteers, time.Since(begun).Round(100*time.Millisecond), ratio)
		if ratio > volunteers/2 {
			t.Error("the publisher sent too much")
		}
	})
}

// swarm is so many nodes 20 ms apart with an uplink of 5 MB/s, and what the first one
// has sent.
func swarm(t *testing.T, n int) (nodes []*Exchange, all []workunits.NodeID, sent *atomic.Int64) {
	t.Helper()
	w := newWorld(t)
	w.dial = w.far(20 * time.Millisecond)
	for i := range n {
		m, err := NewMeter(filepath.Join(t.TempDir(), "traffic"), Limits{Up: 5e6})
		if err != nil {
			t.Fatal(err)
		}
		x := New(Config{Self: id(byte(i + 1)), Store: store(t, 0), Streams: w, Meter: m})
		w.serve[x.cfg.Self] = func(s Stream) { x.Serve(id(0), s) }
		nodes, all = append(nodes, x), append(all, x.cfg.Self)
	}
	sent = new(atomic.Int64)
	w.wrap(all[0], func(s Stream) Stream { return served{s, sent} })
	return nodes, all, sent
}

// BenchmarkCrowd has 50 volunteers ask at once for 64 MiB that one publisher has, each
// sent to others as stewards do it, all with an uplink of 8 MB/s and next to each other: how long the last one takes beside
// one alone, for each doubling of the crowd, and how often the publisher sends it.
func BenchmarkCrowd(b *testing.B) {
	const volunteers, size, uplink = 50, 64 * mib, 8e6
	path := file(b, 10, size)
	for b.Loop() {
		alone, _ := crowd(b, path, 1, uplink)
		all, sent := crowd(b, path, volunteers, uplink)
		b.ReportMetric(alone.Seconds(), "alone-s")
		b.ReportMetric(all.Seconds(), "all-s")
		b.ReportMetric(all.Seconds()/alone.Seconds()/math.Log2(volunteers), "alones-a-doubling")
		b.ReportMetric(float64(sent)/size, "times-sent")
	}
}

// crowd is how long it takes until so many have it, and what the publisher sent.
func crowd(b *testing.B, path string, volunteers int, uplink int64) (time.Duration, int64) {
	b.Helper()
	w := newWorld(b)
	w.dial = loopback(b)
	var sent atomic.Int64
	var nodes []*Exchange
	var all []workunits.NodeID
	for i := range volunteers + 1 {
		m, err := NewMeter(filepath.Join(b.TempDir(), "traffic"), Limits{Up: uplink})
		if err != nil {
			b.Fatal(err)
		}
		self := id(byte(i + 1))
		x := New(Config{Self: self, Store: store(b, 0), Streams: member{w, self}, Meter: m})
		w.hosts[self] = func(from workunits.NodeID, s Stream) {
			if i == 0 {
				s = served{s, &sent}
			}
			x.Serve(from, s)
		}
		nodes, all = append(nodes, x), append(all, self)
	}
	root := add(b, nodes[0].cfg.Store, path).Cid
	rng := rand.New(rand.NewPCG(1, 1))
	begun := time.Now()
	var group sync.WaitGroup
	for i, x := range nodes[1:] {
		keep(b, x.cfg.Store, root)
		near := nearTo(rng, all, i)
		group.Go(func() {
			if err := x.FetchNear(b.Context(), root, near, all[:1], nil); err != nil {
				b.Errorf("volunteer %d, after %v: %v", i, time.Since(begun), err)
			}
		})
	}
	group.Wait()
	return time.Since(begun), sent.Load()
}
