package chunkstore

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	blocks "github.com/ipfs/go-block-format"
)

// TestLeaseExpires has leases end by themselves, be renewed, and survive a restart
// with their time.
func TestLeaseExpires(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	now := time.Unix(1_000_000, 0)
	reopen := func() *Store {
		s := open(t, dir, 3*64*kib)
		s.now = func() time.Time { return now }
		return s
	}
	s := reopen()
	a, b := chunkOf(t, 1), chunkOf(t, 2)
	put(t, s, a, b)
	for _, l := range []Lease{
		{Root: a.Cid(), Reason: "result", For: "job", Expires: now.Unix() + 10},
		{Root: a.Cid(), Reason: "result", For: "job", Expires: now.Unix() + 5}, // no less than before
		{Root: b.Cid(), Reason: "result", For: "job", Expires: now.Unix() + 5},
		{Root: b.Cid(), Reason: "result", For: "job", Expires: now.Unix() + 20},
	} {
		if err := s.Keep(l); err != nil {
			t.Fatal(err)
		}
	}
	for _, step := range []struct {
		at    int64
		a, b  bool // are served
		roots int
	}{{0, true, true, 2}, {9, true, true, 2}, {10, false, true, 1}, {20, false, false, 0}} {
		now = time.Unix(1_000_000+step.at, 0)
		closed(t, s)
		s = reopen()
		if s.Served(a.Cid()) != step.a || s.Served(b.Cid()) != step.b || len(s.Leases()) != step.roots {
			t.Errorf("after %d s: a is served %t, b %t, leases %+v", step.at, s.Served(a.Cid()), s.Served(b.Cid()), s.Leases())
		}
		for i := range uint64(4) {
			put(t, s, chunkOf(t, 100+10*uint64(step.at)+i)) // presses
		}
		if has(t, s, a.Cid()) != step.a || has(t, s, b.Cid()) != step.b {
			t.Errorf("after %d s: a is here %t, b %t", step.at, has(t, s, a.Cid()), has(t, s, b.Cid()))
		}
	}
	if err := s.Keep(Lease{Root: a.Cid(), Reason: "result", For: "job", Expires: now.Unix() + 10}); err != nil {
		t.Fatal(err)
	}
	if err := s.Keep(Lease{Root: a.Cid(), Reason: "result", For: "job"}); err != nil {
		t.Fatal(err)
	}
	if l := s.Leases(); len(l) != 1 || l[0].Expires != 0 {
		t.Errorf("kept for good: %+v", l)
	}
	left, err := os.ReadDir(filepath.Join(dir, "leases"))
	if err != nil || len(left) != 1 {
		t.Errorf("%d files of leases, %v", len(left), err)
	}
}

// TestLeaseExpiresWhileServed stops serving at the time, without a restart.
func TestLeaseExpiresWhileServed(t *testing.T) {
	t.Parallel()
	s := open(t, t.TempDir(), 0)
	now := time.Unix(1_000_000, 0)
	s.now = func() time.Time { return now }
	a := chunkOf(t, 1)
	put(t, s, a)
	if s.Served(a.Cid()) {
		t.Error("served for no reason")
	}
	if err := s.Keep(Lease{Root: a.Cid(), Reason: "got", Spare: true, Expires: now.Unix() + 5}); err != nil {
		t.Fatal(err)
	}
	if !s.Served(a.Cid()) {
		t.Error("not served")
	}
	now = now.Add(5 * time.Second)
	if s.Served(a.Cid()) {
		t.Error("served after it expired")
	}
}

// TestSpare evicts what nobody keeps before what is spare, the least recently used
// first in each class, and what is kept never.
func TestSpare(t *testing.T) {
	t.Parallel()
	s := open(t, t.TempDir(), 4*64*kib)
	firm, spare1, spare2, loose := chunkOf(t, 1), chunkOf(t, 2), chunkOf(t, 3), chunkOf(t, 4)
	put(t, s, spare2, spare1, firm, loose)
	for _, l := range []Lease{
		{Root: firm.Cid(), Reason: "own data"}, {Root: spare1.Cid(), Reason: "got", Spare: true}, {Root: spare2.Cid(), Reason: "got", Spare: true},
		{Root: firm.Cid(), Reason: "got", Spare: true}, // as well
	} {
		if err := s.Keep(l); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := s.Get(t.Context(), loose.Cid()); err != nil { // the last used of all
		t.Fatal(err)
	}
	for i, gone := range []blocks.Block{loose, spare2, spare1} {
		next := chunkOf(t, 10+uint64(i))
		put(t, s, next)
		if has(t, s, gone.Cid()) || !has(t, s, firm.Cid()) {
			t.Errorf("chunk %d: the wrong one went", i)
		}
		if err := s.Keep(Lease{Root: next.Cid(), Reason: "own data"}); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Put(t.Context(), chunkOf(t, 20)); !errors.Is(err, ErrFull) {
		t.Errorf("%v, want ErrFull", err)
	}
	if torn, err := s.Torn(t.Context()); err != nil || len(torn) > 0 {
		t.Errorf("what was spare is missed: %v, %v", torn, err)
	}
}

// TestTornIsPutAgain cuts a chunk as a power cut does, and adds it again after the
// restart: it is whole then, although its name was there.
func TestTornIsPutAgain(t *testing.T) {
	t.Parallel()
	for name, spoil := range spoils {
		for _, crashed := range []bool{true, false} {
			dir := t.TempDir()
			s := open(t, dir, 0)
			a := chunkOf(t, 1)
			put(t, s, a)
			closed(t, s)
			if crashed {
				if err := os.Remove(s.indexPath()); err != nil {
					t.Fatal(err)
				}
			}
			if err := errors.Join(os.Chmod(s.path(a.Cid()), 0o600), spoil(s.path(a.Cid()))); err != nil {
				t.Fatal(err)
			}
			s = open(t, dir, 0)
			put(t, s, a)
			if b, err := s.Get(t.Context(), a.Cid()); err != nil || string(b.RawData()) != string(a.RawData()) {
				t.Errorf("%s, crashed %t: %v", name, crashed, err)
			}
			closed(t, s)
		}
	}
}
