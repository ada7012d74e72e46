package exchange

import (
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/talka-grid/talka/workunits"
)

// TestCrowd has volunteers ask at once for what one publisher has: they feed one
// another, and the publisher sends no more than it would to four of them.
func TestCrowd(t *testing.T) {
	t.Parallel()
	const volunteers, size = 10, 24 * mib
	path := file(t, 9, size)
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.dial = w.far(20 * time.Millisecond)
		var sent atomic.Int64
		var nodes []*Exchange
		var hints []workunits.NodeID
		for i := range volunteers + 1 {
			m, err := NewMeter(filepath.Join(t.TempDir(), "traffic"), Limits{Up: 5e6})
			if err != nil {
				t.Fatal(err)
			}
			x := New(Config{Self: id(byte(i + 1)), Store: store(t, 0), Streams: w, Meter: m})
			w.serve[x.cfg.Self] = func(s Stream) { x.Serve(id(0), s) }
			nodes, hints = append(nodes, x), append(hints, x.cfg.Self)
		}
		w.wrap(hints[0], func(s Stream) Stream { return served{s, &sent} })
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
		if ratio > 4 {
			t.Error("the publisher sent too much")
		}
	})
}
