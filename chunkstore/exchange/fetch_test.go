package exchange

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
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

const mib = 1 << 20

func TestFetchFolder(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.dial = loopback(t)
	_, from := w.node(t, 1)
	x, to := w.node(t, 2)
	dir := filepath.Join(t.TempDir(), "tree")
	files := map[string][]byte{"empty": nil, "a/b/c/deep": []byte("deep"), "a/big": noise(1, 3*mib+17), "again": noise(1, 3*mib+17)}
	for i := range 100 {
		files[fmt.Sprintf("many/%02d", i)] = fmt.Append(nil, i)
	}
	for name, data := range files {
		path := filepath.Join(dir, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	a := add(t, from, dir)
	var last int64
	progress := func(done, _ int64) {
		if done < last {
			t.Errorf("progress went from %d to %d", last, done)
		}
		last = done
	}
	if err := x.Fetch(t.Context(), a.Cid, []workunits.NodeID{id(1)}, progress); err != nil {
		t.Fatal(err)
	}
	if got := to.Stat(); got.Chunks != a.Chunks || got.Bytes != last {
		t.Errorf("%+v and %d bytes of progress for %+v", got, last, a)
	}
	dest := filepath.Join(t.TempDir(), "back")
	if err := to.Materialise(t.Context(), a.Cid, dest); err != nil {
		t.Fatal(err)
	}
	for name, data := range files {
		got, err := os.ReadFile(filepath.Join(dest, filepath.FromSlash(name)))
		if err != nil || string(got) != string(data) {
			t.Errorf("%s: %d bytes, %v", name, len(got), err)
		}
	}
	// What is here is not fetched again, from nobody.
	if err := x.Fetch(t.Context(), a.Cid, nil, func(int64, int64) { t.Error("fetched again") }); err != nil {
		t.Error(err)
	}
}

func TestFetchRecord(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	_, from := w.node(t, 1)
	x, to := w.node(t, 2)
	record := []byte("a record")
	if err := from.PutRecord(t.Context(), record); err != nil {
		t.Fatal(err)
	}
	d := workunits.Sum(record)
	if err := x.Fetch(t.Context(), workunits.RecordCid(d), []workunits.NodeID{id(1)}, nil); err != nil {
		t.Fatal(err)
	}
	if got, err := to.Record(t.Context(), d); err != nil || string(got) != string(record) {
		t.Errorf("%q, %v", got, err)
	}
}

// served counts the bytes that a node writes.
type served struct {
	Stream
	n *atomic.Int64
}

func (s served) Write(p []byte) (int, error) {
	n, err := s.Stream.Write(p)
	s.n.Add(int64(n))
	return n, err
}

// TestSourcesShare holds each of two sources back until the other is asked too.
func TestSourcesShare(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	_, a := w.node(t, 1)
	_, b := w.node(t, 2)
	x, to := w.node(t, 3)
	path := file(t, 1, 40*mib)
	added := add(t, a, path)
	add(t, b, path)
	var counts [3]atomic.Int64
	for n := range byte(2) {
		w.wrap(id(n+1), func(s Stream) Stream { return served{s, &counts[n+1]} })
	}
	root := mustBlock(t, a, added.Cid)
	if err := to.Put(t.Context(), root); err != nil { // leaves only
		t.Fatal(err)
	}
	var asked [3]sync.Once
	var is [3]chan struct{}
	for i := range is {
		is[i] = make(chan struct{})
	}
	w.before = func(n workunits.NodeID) {
		asked[n[0]].Do(func() { close(is[n[0]]) })
		<-is[1]
		<-is[2]
	}
	if err := x.Fetch(t.Context(), added.Cid, []workunits.NodeID{id(1), id(2)}, nil); err != nil {
		t.Fatal(err)
	}
	whole(t, to, added.Cid, path)
	one, two := counts[1].Load(), counts[2].Load()
	t.Logf("%d and %d bytes", one, two)
	if one < mib || two < mib {
		t.Error("one of them did nothing")
	}
}

func mustBlock(t testing.TB, s *chunkstore.Store, c cid.Cid) blocks.Block {
	t.Helper()
	b, err := s.Get(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// spoil changes one byte of the answer.
type spoil struct {
	Stream
	at int
}

func (s *spoil) Write(p []byte) (int, error) {
	p = append([]byte(nil), p...)
	if s.at >= 0 && s.at < len(p) {
		p[s.at] ^= 1
	}
	s.at -= len(p)
	return s.Stream.Write(p)
}

func TestWrongChunkBans(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	_, liar := w.node(t, 1)
	_, good := w.node(t, 2)
	x, to := w.node(t, 3)
	path := file(t, 1, 20*mib)
	a := add(t, liar, path)
	add(t, good, path)
	w.wrap(id(1), func(s Stream) Stream { return &spoil{s, 300} })
	hints := []workunits.NodeID{id(1), id(2)}
	if err := x.Fetch(t.Context(), a.Cid, hints, nil); err != nil {
		t.Fatal(err)
	}
	whole(t, to, a.Cid, path)
	// One of them may have given it all; make sure that the liar is asked.
	b := add(t, liar, file(t, 2, mib))
	add(t, good, file(t, 2, mib))
	_ = x.Fetch(t.Context(), b.Cid, hints[:1], nil)
	before := w.opens(id(1))
	if before == 0 || !x.isBanned(id(1)) {
		t.Fatal("the liar is not banned")
	}
	if x.isBanned(id(2)) {
		t.Error("the honest one is banned")
	}
	c := add(t, liar, file(t, 3, mib))
	if err := x.Fetch(t.Context(), c.Cid, hints[:1], nil); !errors.Is(err, ErrNotFound) {
		t.Errorf("%v", err)
	}
	if w.opens(id(1)) != before {
		t.Error("a banned source was asked again")
	}
}

// TestSourceDies breaks every stream of a source after some MiB.
func TestSourceDies(t *testing.T) {
	t.Parallel()
	for name, sources := range map[string][]workunits.NodeID{
		"beside another":      {id(1), id(2)},
		"alone, and comes up": {id(1)},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			_, a := w.node(t, 1)
			_, b := w.node(t, 2)
			x, to := w.node(t, 3)
			path := file(t, 1, 24*mib)
			added := add(t, a, path)
			add(t, b, path)
			w.wrap(id(1), func(s Stream) Stream { return &cut{s, 5*mib + 100} })
			if err := x.Fetch(t.Context(), added.Cid, sources, nil); err != nil {
				t.Fatal(err)
			}
			whole(t, to, added.Cid, path)
		})
	}
}

func TestResume(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	_, half := w.node(t, 1)
	_, all := w.node(t, 2)
	x, to := w.node(t, 3)
	path := file(t, 1, 20*mib)
	a := add(t, all, path)
	links, err := chunkstore.Links(mustBlock(t, all, a.Cid))
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range append(links[:10:10], a.Cid) {
		if err := half.Put(t.Context(), mustBlock(t, all, c)); err != nil {
			t.Fatal(err)
		}
	}
	err = x.Fetch(t.Context(), a.Cid, []workunits.NodeID{id(1)}, nil)
	if !errors.Is(err, ErrNotFound) || !strings.Contains(err.Error(), a.Cid.String()) {
		t.Fatalf("%v", err)
	}
	if got := to.Stat().Chunks; got != 11 {
		t.Errorf("%d chunks of 11 came", got)
	}
	// What came is served already.
	other, there := w.node(t, 4)
	if err := other.Fetch(t.Context(), links[3], []workunits.NodeID{id(3)}, nil); err != nil || there.Stat().Chunks != 1 {
		t.Errorf("from the half: %v", err)
	}
	var fetched int64
	if err := x.Fetch(t.Context(), a.Cid, []workunits.NodeID{id(2)}, func(done, _ int64) { fetched = done }); err != nil {
		t.Fatal(err)
	}
	if fetched != 10*mib {
		t.Errorf("%d bytes were fetched again or too few", fetched)
	}
	whole(t, to, a.Cid, path)
}

func TestDamagedIsFetchedAgain(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	_, from := w.node(t, 1)
	dir := t.TempDir()
	to, err := chunkstore.Open(dir, chunkstore.Config{})
	if err != nil {
		t.Fatal(err)
	}
	x := New(Config{Self: id(2), Store: to, Streams: w})
	path := file(t, 1, 3*mib)
	a := add(t, from, path)
	hints := []workunits.NodeID{id(1)}
	if err := x.Fetch(t.Context(), a.Cid, hints, nil); err != nil {
		t.Fatal(err)
	}
	links, err := chunkstore.Links(mustBlock(t, from, a.Cid))
	if err != nil {
		t.Fatal(err)
	}
	found, err := filepath.Glob(filepath.Join(dir, "chunks", "*", links[1].String()))
	if err != nil || len(found) != 1 {
		t.Fatal(found, err)
	}
	if err := os.WriteFile(found[0], []byte("rotten"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := to.Materialise(t.Context(), a.Cid, filepath.Join(t.TempDir(), "x")); !errors.Is(err, chunkstore.ErrNotFound) {
		t.Errorf("damaged: %v", err)
	}
	if err := x.Fetch(t.Context(), a.Cid, hints, nil); err != nil {
		t.Fatal(err)
	}
	whole(t, to, a.Cid, path)
}

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

func (broken) Block(context.Context, cid.Cid) (blocks.Block, error) { return nil, errAway }

// endless waits until it may no longer.
type endless struct{}

func (endless) Block(ctx context.Context, _ cid.Cid) (blocks.Block, error) {
	<-ctx.Done()
	return nil, context.Cause(ctx)
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

func (e elsewhere) Block(ctx context.Context, c cid.Cid) (blocks.Block, error) {
	return e.s.Get(ctx, c)
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
	path := file(t, 1, 40*mib)
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
		"chain": {chain.Cid(), chunkstore.ErrForeign}, "ladder": {two.Cid(), nil}, "malformed": {malformed.Cid(), chunkstore.ErrForeign},
	} {
		x := New(Config{Self: id(2), Store: store(t, 0), Streams: w})
		if err := x.Fetch(t.Context(), test.root, hints, nil); !errors.Is(err, test.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func mustSum(t testing.TB, data []byte) cid.Cid {
	t.Helper()
	c, err := cid.Prefix{Version: 1, Codec: cid.DagProtobuf, MhType: mh.BLAKE3, MhLength: 32}.Sum(data)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// TestManyFetches runs fetches of one root at once, each from the last.
func TestManyFetches(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	_, from := w.node(t, 1)
	x, to := w.node(t, 2)
	path := file(t, 1, 6*mib)
	a := add(t, from, path)
	var group sync.WaitGroup
	for range 6 {
		group.Go(func() {
			if err := x.Fetch(t.Context(), a.Cid, []workunits.NodeID{id(1)}, nil); err != nil {
				t.Error(err)
			}
		})
	}
	group.Wait()
	whole(t, to, a.Cid, path)
	if st := to.Stat(); st.Chunks != a.Chunks {
		t.Errorf("%+v for %+v", st, a)
	}
}
