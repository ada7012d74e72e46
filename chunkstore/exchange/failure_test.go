package exchange

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ipfs/boxo/ipld/merkledag"
	"github.com/ipfs/boxo/ipld/unixfs"
	blocks "github.com/ipfs/go-block-format"
	"github.com/ipfs/go-cid"
	mh "github.com/multiformats/go-multihash"

	"github.com/talka-grid/talka/chunkstore"
	"github.com/talka-grid/talka/workunits"
)

// absent is the CID of content that nobody has.
func absent(t testing.TB) cid.Cid {
	t.Helper()
	c, err := cid.Prefix{Version: 1, Codec: cid.Raw, MhType: mh.BLAKE3, MhLength: 32}.Sum([]byte("absent"))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestNobodyHasIt(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	var hints []workunits.NodeID
	for n := range byte(20) {
		hints = append(hints, id(n+1))
		if n%2 == 0 { // the others are away
			w.node(t, n+1)
		}
	}
	f := &finder{nodes: hints[:3]}
	for name, cfg := range map[string]Config{
		"hints only": {}, "finder": {Finder: f}, "finder of nobody": {Finder: new(finder)}, "fallback": {Fallback: broken{}},
	} {
		cfg.Self, cfg.Store, cfg.Streams = id(99), store(t, 0), w
		for _, hints := range [][]workunits.NodeID{nil, hints, {id(99)}} {
			if err := New(cfg).Fetch(t.Context(), absent(t), hints, nil); !errors.Is(err, ErrNotFound) {
				t.Errorf("%s, %d hints: %v", name, len(hints), err)
			}
		}
	}
	if f.calls != 3 {
		t.Errorf("the finder was asked %d times in 3 fetches", f.calls)
	}
}

// broken fails at once.
type broken struct{}

func (broken) Session(context.Context) func(context.Context, cid.Cid) (Found, error) {
	return func(context.Context, cid.Cid) (Found, error) { return Found{}, errAway }
}

// endless waits until it may no longer.
type endless struct{}

func (endless) Session(context.Context) func(context.Context, cid.Cid) (Found, error) {
	return func(ctx context.Context, _ cid.Cid) (Found, error) {
		<-ctx.Done()
		return Found{}, context.Cause(ctx)
	}
}

// TestFallbackEnds does not wait for ever for what bitswap cannot find.
func TestFallbackEnds(t *testing.T) {
	t.Parallel()
	s, c := store(t, 0), absent(t)
	synctest.Test(t, func(t *testing.T) {
		x := New(Config{Self: id(1), Store: s, Streams: newWorld(t), Fallback: endless{}})
		started := time.Now()
		if err := x.Fetch(t.Context(), c, nil, nil); !errors.Is(err, ErrNotFound) {
			t.Errorf("%v", err)
		}
		if took := time.Since(started); took != otherTime {
			t.Errorf("took %v", took)
		}
	})
}

// elsewhere has what a store holds.
type elsewhere struct{ s *chunkstore.Store }

func (e elsewhere) Session(context.Context) func(context.Context, cid.Cid) (Found, error) {
	return func(ctx context.Context, c cid.Cid) (Found, error) {
		b, err := e.s.Get(ctx, c)
		if err != nil {
			return Found{}, err
		}
		return Found{b.RawData(), "elsewhere"}, nil
	}
}

// lying gives these bytes, whatever it is asked for.
type lying []byte

func (l lying) Session(context.Context) func(context.Context, cid.Cid) (Found, error) {
	return func(context.Context, cid.Cid) (Found, error) { return Found{l, "liar"}, nil }
}

// TestLyingFallback believes what comes by other means no more than what peers send.
func TestLyingFallback(t *testing.T) {
	t.Parallel()
	for data, want := range map[string]error{
		"other": chunkstore.ErrDamaged, "": chunkstore.ErrDamaged, string(make([]byte, chunkstore.MaxBlock+1)): chunkstore.ErrForeign,
	} {
		s := store(t, 0)
		x := New(Config{Self: id(1), Store: s, Streams: newWorld(t), Fallback: lying(data)})
		if err := x.Fetch(t.Context(), absent(t), nil, nil); !errors.Is(err, want) || s.Stat().Chunks > 0 {
			t.Errorf("%d bytes: %v, %+v; want %v", len(data), err, s.Stat(), want)
		}
	}
}

func TestFinderAndFallback(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	_, from := w.node(t, 1)
	path := file(t, 1, 10*mib)
	a := add(t, from, path)
	for name, cfg := range map[string]Config{
		"finder":   {Finder: &finder{nodes: []workunits.NodeID{id(7), id(1)}}},
		"fallback": {Fallback: elsewhere{from}},
	} {
		cfg.Self, cfg.Store, cfg.Streams = id(2), store(t, 0), w
		if err := New(cfg).Fetch(t.Context(), a.Cid, []workunits.NodeID{id(8)}, nil); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		whole(t, cfg.Store, a.Cid, path)
	}
}

// TestStoreFull ends a fetch with what the store says.
func TestStoreFull(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	_, from := w.node(t, 1)
	a := add(t, from, file(t, 1, 10*mib))
	for _, cfg := range []Config{{}, {Fallback: elsewhere{from}}} {
		cfg.Self, cfg.Store, cfg.Streams = id(2), store(t, 4*mib), w
		x := New(cfg)
		err := x.Fetch(t.Context(), a.Cid, []workunits.NodeID{id(1)}, nil)
		if !errors.Is(err, chunkstore.ErrFull) || errors.Is(err, ErrNotFound) {
			t.Errorf("%v", err)
		}
		if x.isBanned(id(1)) {
			t.Error("the source is banned for it")
		}
	}
}

// TestDiskFails has the disk refuse everything from the middle of a fetch on: the error
// says so and nobody is blamed. Once the disk is well the rest comes.
func TestDiskFails(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	_, from := w.node(t, 1)
	path := file(t, 1, 10*mib)
	a := add(t, from, path)
	dir := t.TempDir()
	s, err := chunkstore.Open(dir, chunkstore.Config{})
	if err != nil {
		t.Fatal(err)
	}
	x := New(Config{Self: id(2), Store: s, Streams: w})
	tmp, broken := filepath.Join(dir, "tmp"), false
	err = x.Fetch(t.Context(), a.Cid, []workunits.NodeID{id(1)}, func(done, _ int64) {
		if done >= 4*mib && !broken {
			broken = true
			if err := os.Rename(tmp, tmp+"~"); err != nil {
				t.Error(err)
			}
		}
	})
	if err == nil || errors.Is(err, ErrNotFound) || !strings.Contains(err.Error(), "write chunk") || x.isBanned(id(1)) {
		t.Errorf("%v; the source is banned: %t", err, x.isBanned(id(1)))
	}
	if err := os.Rename(tmp+"~", tmp); err != nil {
		t.Fatal(err)
	}
	had, came := s.Stat().Bytes, int64(0)
	if err := x.Fetch(t.Context(), a.Cid, []workunits.NodeID{id(1)}, func(done, _ int64) { came = done }); err != nil {
		t.Fatal(err)
	}
	whole(t, s, a.Cid, path)
	if had < 4*mib || came > 10*mib+1000-had {
		t.Errorf("%d bytes were here, and %d came again", had, came)
	}
}

// TestForeignHash asks nobody for content that no node could store, by its own name or
// that of a part.
func TestForeignHash(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	x, s := w.node(t, 1)
	f := &finder{}
	x.cfg.Finder = f
	hints := []workunits.NodeID{id(2)}
	for name, p := range map[string]cid.Prefix{
		"sha2-512":     {Version: 1, Codec: cid.Raw, MhType: mh.SHA2_512, MhLength: 64},
		"identity":     {Version: 1, Codec: cid.Raw, MhType: mh.IDENTITY, MhLength: -1},
		"short blake3": {Version: 1, Codec: cid.Raw, MhType: mh.BLAKE3, MhLength: 16},
	} {
		c, err := p.Sum([]byte("content"))
		if err != nil {
			t.Fatal(err)
		}
		_, block := x.Block(t.Context(), c, hints)
		for what, err := range map[string]error{
			"itself": x.Fetch(t.Context(), c, hints, nil), "a part": x.Fetch(t.Context(), fileNode(t, s, []uint64{7}, c), hints, nil), "one chunk": block,
		} {
			if !errors.Is(err, chunkstore.ErrForeign) || !strings.Contains(err.Error(), "another hash") {
				t.Errorf("%s, %s: %v", name, what, err)
			}
		}
	}
	if f.calls > 0 || w.opens(id(2)) > 0 {
		t.Errorf("the finder was asked %d times, a peer %d", f.calls, w.opens(id(2)))
	}
}

func TestCause(t *testing.T) {
	t.Parallel()
	s, c := store(t, 0), absent(t)
	cause := errors.New("after 5 s")
	for _, fallback := range []Fallback{nil, endless{}} {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t)
			hints := []workunits.NodeID{id(1)}
			if fallback == nil {
				w.serve[id(1)] = silent
			}
			x := New(Config{Self: id(2), Store: s, Streams: w, Fallback: fallback})
			ctx, cancel := context.WithTimeoutCause(t.Context(), 5*second, cause)
			defer cancel()
			started := time.Now()
			if err := x.Fetch(ctx, c, hints, nil); !errors.Is(err, cause) {
				t.Errorf("%v", err)
			}
			if took := time.Since(started); took != 5*second {
				t.Errorf("took %v", took)
			}
		})
	}
}

// TestSilentSource does not hold up a fetch that others can serve.
func TestSilentSource(t *testing.T) {
	t.Parallel()
	path := file(t, 1, 20*mib)
	s, to := store(t, 0), store(t, 0)
	a := add(t, s, path)
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		good := New(Config{Self: id(2), Store: s, Streams: w})
		w.serve[id(1)] = silent
		w.serve[id(2)] = func(s Stream) { good.Serve(id(3), s) }
		x := New(Config{Self: id(3), Store: to, Streams: w})
		started := time.Now()
		if err := x.Fetch(t.Context(), a.Cid, []workunits.NodeID{id(1), id(2)}, nil); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(started); took > 3*stealAfter {
			t.Errorf("a silent source held it up for %v", took)
		}
	})
	whole(t, to, a.Cid, path)
}

func TestAllSilent(t *testing.T) {
	t.Parallel()
	s, c := store(t, 0), absent(t)
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.serve[id(1)], w.serve[id(2)] = silent, silent
		x := New(Config{Self: id(3), Store: s, Streams: w})
		started := time.Now()
		if err := x.Fetch(t.Context(), c, []workunits.NodeID{id(1), id(2)}, nil); !errors.Is(err, ErrNotFound) {
			t.Errorf("%v", err)
		}
		if took := time.Since(started); took > blockTime+stealAfter {
			t.Errorf("took %v", took)
		}
	})
}

// dag puts folder nodes into a store.
func dag(t testing.TB, s *chunkstore.Store, children ...*merkledag.ProtoNode) *merkledag.ProtoNode {
	t.Helper()
	n := unixfs.EmptyDirNode()
	if err := n.SetCidBuilder(cid.V1Builder{Codec: cid.DagProtobuf, MhType: mh.BLAKE3, MhLength: -1}); err != nil {
		t.Fatal(err)
	}
	for i, c := range children {
		if err := n.AddNodeLink(fmt.Sprint(i), c); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Put(t.Context(), n); err != nil {
		t.Fatal(err)
	}
	return n
}

// TestHostileDags fetches DAGs that are small and seem endless.
func TestHostileDags(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	_, from := w.node(t, 1)
	hints := []workunits.NodeID{id(1)}

	chain := dag(t, from)
	for range maxLevels + 1 {
		chain = dag(t, from, chain)
	}
	// Each node is reached over as many ways as there are numbers of Fibonacci.
	one := dag(t, from)
	two := dag(t, from, one)
	for range 60 {
		one, two = two, dag(t, from, two, one)
	}
	// A trillion files, each of the same few folders.
	wide := dag(t, from)
	for range 4 {
		wide = dag(t, from, slices.Repeat([]*merkledag.ProtoNode{wide}, 1000)...)
	}
	malformed, err := blocks.NewBlockWithCid([]byte("\xff\xff"), mustSum(t, []byte("\xff\xff")))
	if err != nil {
		t.Fatal(err)
	}
	if err := from.Put(t.Context(), malformed); err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct {
		root cid.Cid
		want error
	}{
		"chain": {chain.Cid(), chunkstore.ErrForeign}, "ladder": {two.Cid(), nil}, "wide": {wide.Cid(), nil},
		"wide, of nothing": {fileNode(t, from, slices.Repeat([]uint64{1}, 2000), absences(t, 2000)...), ErrNotFound},
		"malformed":        {malformed.Cid(), chunkstore.ErrForeign},
	} {
		keep(t, from, test.root)
		x := New(Config{Self: id(2), Store: store(t, 0), Streams: w})
		if err := x.Fetch(t.Context(), test.root, hints, nil); !errors.Is(err, test.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestManyChunks counts what lies below before it is fetched.
func TestManyChunks(t *testing.T) {
	t.Parallel()
	x, s := newWorld(t).node(t, 1)
	root := fileNode(t, s, slices.Repeat([]uint64{1}, 2000), absences(t, 2000)...)
	level := []chunkstore.Step{chunkstore.Selection{}.First(root)}
	for most, want := range map[int]error{2000: nil, 1999: chunkstore.ErrForeign} {
		next, err := x.fetch(t.Context(), root, nil).below(level, map[chunkstore.Step]bool{}, most)
		if !errors.Is(err, want) || err == nil && len(next) != most {
			t.Errorf("at most %d: %d steps, %v", most, len(next), err)
		}
	}
}

// absences are CIDs of so many chunks that nobody has.
func absences(t testing.TB, n int) (list []cid.Cid) {
	t.Helper()
	for i := range n {
		c, err := absent(t).Prefix().Sum(fmt.Append(nil, "absent ", i))
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, c)
	}
	return list
}

func mustSum(t testing.TB, data []byte) cid.Cid {
	t.Helper()
	c, err := cid.Prefix{Version: 1, Codec: cid.DagProtobuf, MhType: mh.BLAKE3, MhLength: 32}.Sum(data)
	if err != nil {
		t.Fatal(err)
	}
	return c
}
