package exchange

import (
	"bufio"
	"context"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ipfs/go-cid"

	"github.com/talka-grid/talka/chunkstore"
	"github.com/talka-grid/talka/workunits"
)

// onLine is a stream whose pieces go out over a line that takes them as they come,
// whosever they are.
type onLine struct {
	Stream
	line *Meter
}

func (s onLine) Write(p []byte) (n int, err error) {
	for part := range slices.Chunk(p, piece) {
		if err := s.line.Send(context.Background(), "all", len(part)); err != nil {
			return n, err
		}
		m, err := s.Stream.Write(part)
		if n += m; err != nil {
			return n, err
		}
	}
	return n, nil
}

// holder is a member with a file, whose node has no limits, at a line of so many bytes a
// second.
func holder(t *testing.T, w *world, path string, rate int64) (root cid.Cid, leaves []cid.Cid) {
	t.Helper()
	line, err := NewMeter(filepath.Join(t.TempDir(), "traffic"), Limits{Up: rate})
	if err != nil {
		t.Fatal(err)
	}
	x := New(Config{Self: id(1), Store: store(t, 0), Streams: w})
	w.hosts[id(1)] = func(from workunits.NodeID, s Stream) { x.Serve(from, onLine{s, line}) }
	root = add(t, x.cfg.Store, path).Cid
	if leaves, err = chunkstore.Links(mustBlock(t, x.cfg.Store, root)); err != nil {
		t.Fatal(err)
	}
	return root, leaves
}

// TestFair has a peer that asks on forty streams for all it can, and one that fetches,
// share a holder that limits nothing: each gets half of what it can give, but for the
// chunks that are in memory for the first when the other comes.
func TestFair(t *testing.T) {
	t.Parallel()
	const size, rate, streams = 48 * mib, 20e6, 40
	path := file(t, 11, size)
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.dial = w.far(10 * time.Millisecond)
		root, leaves := holder(t, w, path, rate)
		greedy := member{w, id(2)}
		ctx, cancel := context.WithCancel(t.Context())
		var taken atomic.Int64
		var group sync.WaitGroup
		for range streams {
			s, err := greedy.Open(ctx, id(1), Protocol)
			if err != nil {
				t.Fatal(err)
			}
			context.AfterFunc(ctx, func() { _ = s.Reset() })
			group.Go(func() {
				r, out := bufio.NewReader(s), bufio.NewWriter(s)
				var buf []byte
				for i := 0; ; i++ {
					if writeRequest(out, leaves[i%len(leaves):][:1]) != nil {
						return
					}
					if _, err := readAnswer(r, &buf, func(n, _ int) error { taken.Add(int64(n)); return nil }); err != nil {
						return
					}
				}
			})
		}
		time.Sleep(10 * time.Second) // it has all to itself
		x := New(Config{Self: id(3), Store: store(t, 0), Streams: member{w, id(3)}})
		before, begun := taken.Load(), time.Now()
		if err := x.Fetch(t.Context(), root, []workunits.NodeID{id(1)}, nil); err != nil {
			t.Error(err)
		}
		t.Logf("%v; the other got %d bytes of %d meanwhile", time.Since(begun), taken.Load()-before, size)
		if got := taken.Load() - before; got > size*13/10 {
			t.Error("that is not half for each")
		}
		cancel()
		group.Wait()
	})
}

// TestSlowHolder has twenty peers fetch at once from one holder at a line of 1 MB/s,
// which nobody gives up.
func TestSlowHolder(t *testing.T) {
	t.Parallel()
	path := file(t, 12, 7*mib)
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.dial = w.far(10 * time.Millisecond)
		root, _ := holder(t, w, path, 1e6)
		var group sync.WaitGroup
		for i := range byte(20) {
			x := New(Config{Self: id(i + 2), Store: store(t, 0), Streams: member{w, id(i + 2)}})
			group.Go(func() {
				if err := x.Fetch(t.Context(), root, []workunits.NodeID{id(1)}, nil); err != nil {
					t.Error(err)
				}
			})
		}
		group.Wait()
	})
}
