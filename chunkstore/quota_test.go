package chunkstore

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/ipfs/boxo/ipld/merkledag"
	blocks "github.com/ipfs/go-block-format"
	"github.com/ipfs/go-cid"
)

const kib = 1 << 10

func chunkOf(t testing.TB, seed uint64) blocks.Block {
	t.Helper()
	return raw(t, noise(seed, 64*kib))
}

// parent is a node that refers to others.
func parent(t testing.TB, children ...blocks.Block) blocks.Block {
	t.Helper()
	node := new(merkledag.ProtoNode)
	if err := node.SetCidBuilder(builder(BLAKE3)); err != nil {
		t.Fatal(err)
	}
	for _, c := range children {
		child, err := merkledag.NewRawNodeWPrefix(c.RawData(), c.Cid().Prefix())
		if err != nil {
			t.Fatal(err)
		}
		if c.Cid().Prefix().Codec == cid.DagProtobuf {
			inner, err := merkledag.DecodeProtobufBlock(c)
			if err != nil {
				t.Fatal(err)
			}
			if err := node.AddNodeLink("", inner); err != nil {
				t.Fatal(err)
			}
			continue
		}
		if err := node.AddNodeLink("", child); err != nil {
			t.Fatal(err)
		}
	}
	return node
}

func TestQuotaLeastRecentlyUsedGoesFirst(t *testing.T) {
	t.Parallel()
	s := open(t, t.TempDir(), 4*64*kib)
	a, b, c, d, e := chunkOf(t, 1), chunkOf(t, 2), chunkOf(t, 3), chunkOf(t, 4), chunkOf(t, 5)
	put(t, s, a, b, c, d)
	if _, err := s.Get(t.Context(), a.Cid()); err != nil { // b is the oldest now
		t.Fatal(err)
	}
	put(t, s, e)
	if has(t, s, b.Cid()) || !has(t, s, a.Cid()) || !has(t, s, d.Cid()) || !has(t, s, e.Cid()) {
		t.Error("not the least recently used one went")
	}
	if got := onDisk(t, s); got > s.cfg.Quota || got != s.Stat().Bytes {
		t.Errorf("%d bytes on disk, %+v", got, s.Stat())
	}
}

// TestQuotaLeases keeps a leased DAG through every pressure, then lets it go.
func TestQuotaLeases(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := open(t, dir, 5*64*kib)
	a, b := chunkOf(t, 1), chunkOf(t, 2)
	root := parent(t, parent(t, a), b)
	inner, err := Links(root)
	if err != nil {
		t.Fatal(err)
	}
	put(t, s, a, b, parent(t, a), root)
	if err := s.Keep(Lease{Root: root.Cid(), Reason: "input"}); err != nil {
		t.Fatal(err)
	}
	for i := range uint64(20) {
		put(t, s, chunkOf(t, 100+i))
		if i == 10 {
			closed(t, s)
			s = open(t, dir, 5*64*kib)
		}
	}
	for _, c := range append(inner, root.Cid(), a.Cid(), b.Cid()) {
		if !has(t, s, c) {
			t.Errorf("%s is leased and went", c)
		}
	}
	if err := s.Release(Lease{Root: root.Cid(), Reason: "input"}); err != nil {
		t.Fatal(err)
	}
	for i := range uint64(5) {
		put(t, s, chunkOf(t, 200+i))
	}
	if has(t, s, a.Cid()) || has(t, s, b.Cid()) {
		t.Error("a released DAG outlasts what is newer")
	}
}

func TestQuotaFull(t *testing.T) {
	t.Parallel()
	s := open(t, t.TempDir(), 2*64*kib)
	a, b, c := chunkOf(t, 1), chunkOf(t, 2), chunkOf(t, 3)
	put(t, s, a, b)
	if err := errors.Join(s.Keep(Lease{Root: a.Cid(), Reason: "own"}), s.Keep(Lease{Root: b.Cid(), Reason: "result"})); err != nil {
		t.Fatal(err)
	}
	err := s.Put(t.Context(), c)
	if !errors.Is(err, ErrFull) {
		t.Fatalf("%v, want ErrFull", err)
	}
	for _, want := range []string{"131072 bytes in 2 files are kept", "at most 131072", "raise the disk limit", "the store is full"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%q does not say %q", err, want)
		}
	}
	if !has(t, s, a.Cid()) || !has(t, s, b.Cid()) || has(t, s, c.Cid()) {
		t.Error("what is leased went")
	}
	if err := s.Release(Lease{Root: a.Cid(), Reason: "own"}); err != nil {
		t.Fatal(err)
	}
	put(t, s, c)
	if has(t, s, a.Cid()) || !has(t, s, b.Cid()) {
		t.Error("something else than the released chunk went")
	}
}

// TestQuotaTooLarge evicts nothing for what would not fit anyway.
func TestQuotaTooLarge(t *testing.T) {
	t.Parallel()
	s := open(t, t.TempDir(), 100*kib)
	a, b := chunkOf(t, 1), raw(t, noise(2, 101*kib))
	put(t, s, a)
	if err := s.Put(t.Context(), b); !errors.Is(err, ErrFull) {
		t.Errorf("%v", err)
	}
	if !has(t, s, a.Cid()) {
		t.Error("evicted in vain")
	}
}

// TestQuotaBelowKept opens a store with a quota below what is kept in it: nothing of
// that goes, nothing more comes, and the error says what to do.
func TestQuotaBelowKept(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := open(t, dir, 0)
	a, b, loose := chunkOf(t, 1), chunkOf(t, 2), chunkOf(t, 3)
	put(t, s, a, b, loose)
	if err := errors.Join(s.Keep(Lease{Root: a.Cid(), Reason: "own data"}), s.Keep(Lease{Root: b.Cid(), Reason: "result"})); err != nil {
		t.Fatal(err)
	}
	closed(t, s)
	s = open(t, dir, 64*kib)
	err := s.Put(t.Context(), raw(t, []byte("x")))
	if !errors.Is(err, ErrFull) || !strings.Contains(err.Error(), "raise the disk limit or remove content") {
		t.Errorf("%v", err)
	}
	if !has(t, s, a.Cid()) || !has(t, s, b.Cid()) || len(s.Leases()) != 2 {
		t.Error("what is kept went")
	}
	if err := errors.Join(s.Release(Lease{Root: a.Cid(), Reason: "own data"}), s.Release(Lease{Root: b.Cid(), Reason: "result"})); err != nil {
		t.Fatal(err)
	}
	put(t, s, raw(t, []byte("x")))
	if st := s.Stat(); st.Bytes > 64*kib || st.Bytes != onDisk(t, s) {
		t.Errorf("%+v", st)
	}
}

// TestQuotaConcurrent never has more on disk than the quota, whatever is put,
// kept, released and read at once.
func TestQuotaConcurrent(t *testing.T) {
	t.Parallel()
	const quota = 16 * 64 * kib
	s := open(t, t.TempDir(), quota)
	pinned := chunkOf(t, 1<<40)
	put(t, s, pinned)
	if err := s.Keep(Lease{Root: pinned.Cid(), Reason: "own"}); err != nil {
		t.Fatal(err)
	}
	var group sync.WaitGroup
	var stored atomic.Int64
	for w := range uint64(8) {
		group.Go(func() {
			for i := range uint64(20) {
				b := chunkOf(t, 1000*(w%4)+i) // each by two writers
				err := s.Put(t.Context(), b)
				if err == nil {
					stored.Add(1)
				} else if !errors.Is(err, ErrFull) {
					t.Error(err)
				}
				s.mu.Lock() // nothing goes meanwhile, so nothing is counted twice
				if disk := onDisk(t, s); s.used > quota || disk > quota {
					t.Errorf("%d bytes in the books, %d on disk", s.used, disk)
				}
				s.mu.Unlock()
				if i%8 == 0 {
					if err := errors.Join(s.Keep(Lease{Root: b.Cid(), Reason: "job"}), s.Release(Lease{Root: b.Cid(), Reason: "job"})); err != nil {
						t.Error(err)
					}
				}
				if _, err := s.Get(t.Context(), b.Cid()); err != nil && !errors.Is(err, ErrNotFound) {
					t.Error(err)
				}
			}
		})
	}
	group.Wait()
	if got := onDisk(t, s); got > quota || got != s.Stat().Bytes {
		t.Errorf("%d bytes on disk, %+v", got, s.Stat())
	}
	if !has(t, s, pinned.Cid()) {
		t.Error("what is leased went")
	}
	if stored.Load() < 8*20*9/10 {
		t.Errorf("only %d of 160 puts found room although next to nothing is leased", stored.Load())
	}
	closed(t, s)
	if again := open(t, s.dir, quota); again.Stat() != s.Stat() {
		t.Errorf("%+v after opening, %+v before", again.Stat(), s.Stat())
	}
}

// TestQuotaAddCoversItself adds a file beside others until it does not fit: an
// add that succeeds is whole.
func TestQuotaAddCoversItself(t *testing.T) {
	t.Parallel()
	s := open(t, t.TempDir(), 5<<20)
	path := filepath.Join(t.TempDir(), "file")
	for seed := range uint64(3) {
		if err := os.WriteFile(path, noise(seed, 3<<20), 0o600); err != nil {
			t.Fatal(err)
		}
		a, err := s.Add(t.Context(), path, nil)
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Materialise(t.Context(), a.Cid, filepath.Join(t.TempDir(), "back")); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(path, noise(9, 6<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Add(t.Context(), path, nil); !errors.Is(err, ErrFull) {
		t.Fatalf("added more than fits: %v", err)
	}
	if len(s.held) > 0 {
		t.Errorf("%d chunks are covered for ever", len(s.held))
	}
	if onDisk(t, s) > 5<<20 {
		t.Error("over quota")
	}
}

func TestQuotaHold(t *testing.T) {
	t.Parallel()
	s := open(t, t.TempDir(), 3*64*kib)
	a, b, c := chunkOf(t, 1), chunkOf(t, 2), chunkOf(t, 3)
	root := parent(t, a)
	release := s.Hold(root.Cid()) // before it is here
	again := s.Hold(root.Cid())
	put(t, s, root, a)
	again()
	for i := range uint64(8) {
		put(t, s, chunkOf(t, 10+i))
	}
	if !has(t, s, a.Cid()) || !has(t, s, root.Cid()) {
		t.Error("what is held went")
	}
	release()
	put(t, s, b, c)
	if has(t, s, a.Cid()) {
		t.Error("held after release")
	}
	if len(s.roots) > 0 {
		t.Errorf("%v", s.roots)
	}
}

// TestQuotaDamaged counts what was set aside, and drops it before anything else.
func TestQuotaDamaged(t *testing.T) {
	t.Parallel()
	s := open(t, t.TempDir(), 3*64*kib)
	a, b, c, d := chunkOf(t, 1), chunkOf(t, 2), chunkOf(t, 3), chunkOf(t, 4)
	put(t, s, a, b, c)
	if err := rewrite(s.path(b.Cid()), noise(9, 64*kib)); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Get(t.Context(), b.Cid()); !errors.Is(err, ErrNotFound) {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(s.folder("damaged"), b.Cid().String())); err != nil {
		t.Errorf("not set aside: %v", err)
	}
	if got := s.Stat().Bytes; got != 3*64*kib {
		t.Errorf("%d bytes, damaged ones take room too", got)
	}
	put(t, s, d)
	if !has(t, s, c.Cid()) || !has(t, s, d.Cid()) || onDisk(t, s) > 3*64*kib {
		t.Error("a good chunk went before a damaged one")
	}
}

// TestQuotaMalformedRoot leases a node that cannot be read as one.
func TestQuotaMalformedRoot(t *testing.T) {
	t.Parallel()
	s := open(t, t.TempDir(), 2*64*kib)
	p := builder(BLAKE3).(cid.V1Builder)
	bad := block(t, cid.Prefix{Version: 1, Codec: p.Codec, MhType: p.MhType, MhLength: 32}, []byte("\xff\xff no protobuf"))
	if _, err := Links(bad); !errors.Is(err, ErrForeign) {
		t.Errorf("links of a malformed node: %v", err)
	}
	put(t, s, bad, chunkOf(t, 1))
	if err := s.Keep(Lease{Root: bad.Cid(), Reason: "job"}); err != nil {
		t.Fatal(err)
	}
	put(t, s, chunkOf(t, 2), chunkOf(t, 3))
	if !has(t, s, bad.Cid()) {
		t.Error("what is leased went")
	}
}

func TestKeepUndefined(t *testing.T) {
	t.Parallel()
	if err := open(t, t.TempDir(), 0).Keep(Lease{Root: cid.Undef, Reason: "own"}); !errors.Is(err, ErrForeign) {
		t.Error(err)
	}
}
