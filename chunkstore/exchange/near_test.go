package exchange

import (
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ipfs/go-cid"

	"github.com/talka-grid/talka/chunkstore"
	"github.com/talka-grid/talka/workunits"
)

// tardy is a stream on which the first answer takes its time.
type tardy struct {
	Stream
	wait time.Duration
	once *sync.Once
}

func (s tardy) Write(p []byte) (int, error) {
	s.once.Do(func() { time.Sleep(s.wait) }) // in virtual time
	return s.Stream.Write(p)
}

// TestLateHolder fetches from one that has the root alone and takes 4.5 s for it, and one
// that has all and takes 7 s: the second is late for the root, and not given up for it.
func TestLateHolder(t *testing.T) {
	t.Parallel()
	path := file(t, 13, 3*mib)
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		_, half := w.node(t, 1)
		_, all := w.node(t, 2)
		x, to := w.node(t, 3)
		root := add(t, all, path).Cid
		if err := half.Put(t.Context(), mustBlock(t, all, root)); err != nil {
			t.Fatal(err)
		}
		keep(t, half, root)
		for n, wait := range map[byte]time.Duration{1: 4500 * time.Millisecond, 2: 7 * second} {
			w.wrap(id(n), func(s Stream) Stream { return tardy{s, wait, new(sync.Once)} })
		}
		if err := x.Fetch(t.Context(), root, []workunits.NodeID{id(1), id(2)}, nil); err != nil {
			t.Fatal(err)
		}
		whole(t, to, root, path)
	})
}

// TestCrowdIsWaitedFor has everybody who is named still fetch: the publisher, which is
// asked last, has the leaves after 14 s only.
func TestCrowdIsWaitedFor(t *testing.T) {
	t.Parallel()
	path := file(t, 14, 3*mib)
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		_, near := w.node(t, 1)
		_, last := w.node(t, 2)
		x, to := w.node(t, 3)
		from := store(t, 0)
		root := add(t, from, path).Cid
		leaves, err := chunkstore.Links(mustBlock(t, from, root))
		if err != nil {
			t.Fatal(err)
		}
		keep(t, near, root)
		keep(t, last, root)
		put := func(s *chunkstore.Store, list ...cid.Cid) {
			for _, c := range list {
				if err := s.Put(t.Context(), mustBlock(t, from, c)); err != nil {
					t.Error(err)
				}
			}
		}
		put(last, root)
		time.AfterFunc(14*second, func() { put(last, leaves...) })
		if err := x.FetchNear(t.Context(), root, []workunits.NodeID{id(1)}, []workunits.NodeID{id(2)}, nil); err != nil {
			t.Fatal(err)
		}
		whole(t, to, root, path)
	})
}
