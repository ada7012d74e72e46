package exchange

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	blocks "github.com/ipfs/go-block-format"
	"github.com/ipfs/go-cid"

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
	keep(t, from, workunits.RecordCid(d))
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
	path := file(t, 1, 20*mib)
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
	path := file(t, 1, 6*mib)
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
			path := file(t, 1, 12*mib)
			added := add(t, a, path)
			add(t, b, path)
			w.wrap(id(1), func(s Stream) Stream { return &cut{s, 2*mib + 100} })
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
	keep(t, half, a.Cid)
	keep(t, to, a.Cid)
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
	if err := errors.Join(os.Remove(found[0]), os.WriteFile(found[0], []byte("rotten"), 0o600)); err != nil {
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

// TestWithheld asks for content that no lease covers, that a withheld one does,
// and that is served from then on.
func TestWithheld(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	_, from := w.node(t, 1)
	a, err := from.Add(t.Context(), file(t, 1, 3*mib), nil)
	if err != nil {
		t.Fatal(err)
	}
	for name, lease := range map[string]*chunkstore.Lease{
		"cache": nil, "withheld": {Root: a.Cid, Reason: "result", Withheld: true}, "opened": {Root: a.Cid, Reason: "result"},
	} {
		if lease == nil {
			err = from.Release(chunkstore.Lease{Root: a.Cid, Reason: "result"})
		} else {
			err = from.Keep(*lease)
		}
		if err != nil {
			t.Fatal(err)
		}
		s := store(t, 0)
		x := New(Config{Self: id(2), Store: s, Streams: w})
		err := x.Fetch(t.Context(), a.Cid, []workunits.NodeID{id(1)}, nil)
		if served := err == nil; served != (name == "opened") || !served && (!errors.Is(err, ErrNotFound) || s.Stat().Chunks > 0) {
			t.Errorf("%s: %v, %+v", name, err, s.Stat())
		}
	}
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
