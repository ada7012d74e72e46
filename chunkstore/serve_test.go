package chunkstore

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/ipfs/go-cid"
)

// TestServed follows what peers may have through leases, arrivals and restarts.
func TestServed(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := open(t, dir, 0)
	leaf, other := chunkOf(t, 1), chunkOf(t, 2)
	inner := parent(t, leaf)
	root := parent(t, inner, other)
	check := func(step string, want ...cid.Cid) {
		t.Helper()
		for _, c := range []cid.Cid{leaf.Cid(), other.Cid(), inner.Cid(), root.Cid()} {
			data, err := s.Serve(c, nil)
			if got := err == nil; got != slices.Contains(want, c) || !got && (data != nil || !errors.Is(err, ErrNotFound)) {
				t.Errorf("%s: serving %s: %v", step, c, err)
			}
		}
	}
	lease := Lease{Root: root.Cid(), Reason: "result", For: "job"}
	withheld := lease
	withheld.Withheld = true
	keep := func(l Lease) {
		t.Helper()
		if err := s.Keep(l); err != nil {
			t.Fatal(err)
		}
	}
	put(t, s, root, leaf)
	check("not kept")
	keep(withheld)
	check("withheld")
	keep(lease)
	check("opened", root.Cid()) // what leads to the leaf is not here
	put(t, s, inner)
	check("arrived", root.Cid(), inner.Cid(), leaf.Cid())
	put(t, s, other)
	check("whole", root.Cid(), inner.Cid(), leaf.Cid(), other.Cid())
	keep(withheld)
	check("withheld again, too late", root.Cid(), inner.Cid(), leaf.Cid(), other.Cid())
	keep(Lease{Root: inner.Cid(), Reason: "own"})
	closed(t, s)
	s = open(t, dir, 0)
	check("opened again", root.Cid(), inner.Cid(), leaf.Cid(), other.Cid())
	if err := s.ReleaseFor("job"); err != nil {
		t.Fatal(err)
	}
	check("released", inner.Cid(), leaf.Cid())
	if err := s.Release(Lease{Root: inner.Cid(), Reason: "own"}); err != nil {
		t.Fatal(err)
	}
	check("all released")
	if got := s.Leases(); len(got) > 0 {
		t.Errorf("leases %v", got)
	}
}

// TestUnreadableLease keeps what a torn lease names, and does not serve it.
func TestUnreadableLease(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := open(t, dir, 0)
	b := chunkOf(t, 1)
	put(t, s, b)
	if err := s.Keep(Lease{Root: b.Cid(), Reason: "own"}); err != nil {
		t.Fatal(err)
	}
	closed(t, s)
	if err := os.WriteFile(filepath.Join(dir, "leases", b.Cid().String()), []byte(`[{"reas`), 0o600); err != nil {
		t.Fatal(err)
	}
	s = open(t, dir, 0)
	if got := s.Leases(); len(got) != 1 || !got[0].Withheld || s.Served(b.Cid()) {
		t.Errorf("%v", got)
	}
}

func TestInUse(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := open(t, dir, 0)
	if _, err := Open(dir, Config{}); !errors.Is(err, ErrInUse) || !strings.Contains(err.Error(), "another directory") {
		t.Errorf("%v", err)
	}
	closed(t, s)
	closed(t, open(t, dir, 0))
}

// TestQuotaFiles bounds files as the quota does bytes.
func TestQuotaFiles(t *testing.T) {
	t.Parallel()
	s, err := Open(t.TempDir(), Config{Files: 4})
	if err != nil {
		t.Fatal(err)
	}
	pinned := chunkOf(t, 1)
	put(t, s, pinned)
	if err := s.Keep(Lease{Root: pinned.Cid(), Reason: "own"}); err != nil {
		t.Fatal(err)
	}
	for i := range uint64(10) {
		b := chunkOf(t, 100+i)
		put(t, s, b)
		if st := s.Stat(); st.Files > 4 || int64(st.Chunks) != st.Files {
			t.Fatalf("%+v", st)
		}
		if i < 3 {
			if err := s.Keep(Lease{Root: b.Cid(), Reason: "own", For: "x"}); err != nil {
				t.Fatal(err)
			}
		}
		if i == 2 {
			if err := s.Put(t.Context(), chunkOf(t, 200)); !errors.Is(err, ErrFull) || !strings.Contains(err.Error(), "in 4 files") {
				t.Errorf("%v", err)
			}
			if err := s.ReleaseFor("x"); err != nil {
				t.Fatal(err)
			}
		}
	}
	if !has(t, s, pinned.Cid()) {
		t.Error("what is leased went")
	}
}

// TestView lends a tree: what Materialise writes, without new files for what is
// one chunk.
func TestView(t *testing.T) {
	t.Parallel()
	s := open(t, t.TempDir(), 0)
	path := tree(t, map[string][]byte{"a": []byte("a"), "d/b": []byte("b"), "d/large": noise(1, 2*leafSize), "d/empty": nil})
	a, err := s.Add(t.Context(), path, nil)
	if err != nil {
		t.Fatal(err)
	}
	dest := filepath.Join(t.TempDir(), "view")
	if err := s.View(t.Context(), a.Cid, dest); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(hashes(t, path), hashes(t, dest)); diff != "" {
		t.Error(diff)
	}
	info, err := os.Stat(filepath.Join(dest, "a"))
	if err != nil {
		t.Fatal(err)
	}
	own, err := os.Stat(s.path(raw(t, []byte("a")).Cid()))
	if err != nil {
		t.Fatal(err)
	}
	if !os.SameFile(info, own) || info.Mode().Perm()&0o222 != 0 {
		t.Errorf("a file of one chunk is another one, or may be written: %v", info.Mode())
	}
	if err := os.RemoveAll(dest); err != nil {
		t.Fatal(err)
	}
	if got, err := s.Get(t.Context(), raw(t, []byte("a")).Cid()); err != nil || string(got.RawData()) != "a" {
		t.Errorf("after the view: %v", err)
	}
}
