package chunkstore

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"

	blocks "github.com/ipfs/go-block-format"
	"github.com/ipfs/go-cid"
)

// died is what a crashing store panics with.
type died struct{}

// story is work of every kind that changes the disk. It says what has to be there
// whatever comes later.
type story struct {
	list  []blocks.Block
	file  string       // is linked
	after map[int]bool // chunks that are synced and kept
	kept  []Lease      // leases that are synced

	linked cid.Cid // once that is synced
}

// run works until it is done or the store dies at its n-th step. What is left
// dirty is returned.
func (h *story) run(t *testing.T, dir string, n int) (dirty []string, done bool) {
	t.Helper()
	s, steps := crashing(t, dir, n)
	if s == nil {
		return nil, false
	}
	defer func() {
		if r := recover(); r != nil {
			if _, ok := r.(died); !ok {
				panic(r)
			}
			done = false
			for path, content := range s.dirty {
				if content {
					dirty = append(dirty, path)
				}
			}
			_ = s.lock.Close() // as the system does for the dead
		}
	}()
	*steps = 0
	put(t, s, h.list[0], h.list[1])
	h.keep(t, s, Lease{Root: h.list[0].Cid(), Reason: "own data"})
	h.sync(t, s, 0)
	h.keep(t, s, Lease{Root: h.list[0].Cid(), Reason: "job input", For: "job"}) // written over
	put(t, s, h.list[2])
	h.keep(t, s, Lease{Root: h.list[2].Cid(), Reason: "result", Withheld: true})
	linked := addLinked(t, s, h.file)
	h.sync(t, s, 2)
	h.linked = linked.Cid
	h.kept = slices.DeleteFunc(h.kept, func(l Lease) bool { return l.For == "job" })
	if err := s.ReleaseFor("job"); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(os.Chmod(s.path(h.list[1].Cid()), 0o600), os.Truncate(s.path(h.list[1].Cid()), 3)); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Get(t.Context(), h.list[1].Cid()); !errors.Is(err, ErrNotFound) { // sets it aside
		t.Fatal(err)
	}
	put(t, s, h.list[3:]...) // presses out what is not kept
	return nil, s.Close() == nil
}

func (h *story) keep(t *testing.T, s *Store, l Lease) {
	t.Helper()
	if err := s.Keep(l); err != nil {
		t.Fatal(err)
	}
}

func (h *story) sync(t *testing.T, s *Store, chunk int) {
	t.Helper()
	if err := s.Sync(); err != nil {
		t.Fatal(err)
	}
	h.after[chunk] = true
	h.kept = s.Leases()
}

const crashQuota = 4000

// crashing opens a store that dies at its n-th step; nil if that is in Open.
func crashing(t *testing.T, dir string, n int) (s *Store, steps *int) {
	t.Helper()
	s, err := Open(dir, Config{Quota: crashQuota})
	if err != nil {
		t.Fatal(err)
	}
	steps = new(int)
	s.crash = func() {
		if *steps++; *steps == n {
			panic(died{})
		}
	}
	return s, steps
}

// check opens what is left and looks that nothing is lost that was promised.
func (h *story) check(t *testing.T, name, dir string) {
	t.Helper()
	s, err := Open(dir, Config{Quota: crashQuota})
	if err != nil {
		t.Errorf("%s: does not open: %v", name, err)
		return
	}
	defer closed(t, s)
	if _, err := s.Scrub(t.Context(), func(context.Context, int) error { return nil }); err != nil {
		t.Errorf("%s: scrub: %v", name, err)
	}
	for i, promised := range h.after {
		if b, err := s.Get(t.Context(), h.list[i].Cid()); promised && (err != nil || string(b.RawData()) != string(h.list[i].RawData())) {
			t.Errorf("%s: chunk %d was synced: %v", name, i, err)
		}
	}
	if h.linked.Defined() {
		if _, err := s.Get(t.Context(), h.linked); err != nil {
			t.Errorf("%s: linked content was synced: %v", name, err)
		}
	}
	leases := s.Leases()
	for _, l := range h.kept {
		if !slices.Contains(leases, l) {
			t.Errorf("%s: lease %+v was synced; there are %+v", name, l, leases)
		}
	}
	if st, disk := s.Stat(), onDisk(t, s); st.Bytes != disk || st.Bytes > crashQuota {
		t.Errorf("%s: the books say %d bytes, the disk %d", name, st.Bytes, disk)
	}
	if left, err := os.ReadDir(s.folder("tmp")); err != nil || len(left) > 0 {
		t.Errorf("%s: tmp holds %v, %v", name, left, err)
	}
	put(t, s, h.list...) // what was lost comes again
	if b, err := s.Get(t.Context(), h.list[len(h.list)-1].Cid()); err != nil || len(b.RawData()) == 0 {
		t.Errorf("%s: %v", name, err)
	}
}

// spoils are what a power cut may do to a file that was not synced.
var spoils = map[string]func(path string) error{
	"as it is": func(string) error { return nil },
	"gone":     os.Remove,
	"empty":    func(path string) error { return os.Truncate(path, 0) },
	"half": func(path string) error {
		info, err := os.Stat(path)
		if err != nil {
			return err
		}
		return os.Truncate(path, info.Size()/2)
	},
}

// TestCrashPoints has the process die after every change of the disk, and the
// power fail at that moment: each file that was not synced is as it is, gone,
// empty or half.
func TestCrashPoints(t *testing.T) {
	t.Parallel()
	var list []blocks.Block
	for i := range 6 {
		list = append(list, raw(t, noise(uint64(i), 900)))
	}
	file := input(t, map[string][]byte{"": noise(9, 700)})
	points := 0
	for n, done := 1, false; !done && n < 1000; n++ {
		for how, spoil := range spoils {
			h := &story{list: list, file: file, after: map[int]bool{}}
			dir := t.TempDir()
			var dirty []string
			if dirty, done = h.run(t, dir, n); done {
				break
			}
			for _, path := range dirty {
				_ = os.Chmod(path, 0o600) // chunks are read-only
				if err := spoil(path); err != nil && !errors.Is(err, os.ErrNotExist) {
					t.Fatal(err)
				}
			}
			h.check(t, fmt.Sprintf("step %d, %s", n, how), dir)
			points++
		}
	}
	if points < 100 {
		t.Errorf("%d crash points only", points)
	}
}

// TestIndex looks that a store that was closed in order opens by its index, with
// the order of use, and one whose index is false by its folders.
func TestIndex(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := open(t, dir, 3000)
	list := []blocks.Block{raw(t, noise(1, 900)), raw(t, noise(2, 900)), raw(t, noise(3, 900))}
	put(t, s, list...)
	if _, err := s.Get(t.Context(), list[0].Cid()); err != nil { // the first is the last used
		t.Fatal(err)
	}
	closed(t, s)
	index := filepath.Join(dir, "index")
	saved := readFile(t, index)
	s = open(t, dir, 3000)
	if _, err := os.Lstat(index); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the index of an open store: %v", err)
	}
	put(t, s, raw(t, noise(4, 900)))
	if !has(t, s, list[0].Cid()) || has(t, s, list[1].Cid()) {
		t.Error("the order of use is lost")
	}
	closed(t, s)
	for at := range saved { // every byte is looked at
		false1 := slices.Clone(saved)
		false1[at] ^= 1
		books := &Store{chunks: map[cid.Cid]*chunk{}}
		if books.readIndex(false1) || books.readIndex(saved[:at]) {
			t.Fatalf("an index with byte %d wrong, or cut there, was believed", at)
		}
	}
	if err := os.WriteFile(index, saved[:len(saved)/2], 0o600); err != nil {
		t.Fatal(err)
	}
	s = open(t, dir, 3000)
	defer closed(t, s)
	if st := s.Stat(); st.Bytes != onDisk(t, s) || st.Chunks == 0 {
		t.Errorf("%+v", st)
	}
}

// TestScrub finds each damaged byte, in cold chunks too.
func TestScrub(t *testing.T) {
	t.Parallel()
	s := open(t, t.TempDir(), 0)
	defer closed(t, s)
	a, b := raw(t, noise(1, 300)), raw(t, noise(2, 300))
	top := parent(t, a, b)
	put(t, s, a, b, top)
	if err := s.Keep(Lease{Root: top.Cid(), Reason: "own data"}); err != nil {
		t.Fatal(err)
	}
	free := func(context.Context, int) error { return nil }
	if done, err := s.Scrub(t.Context(), free); err != nil || done.Chunks != 3 || len(done.Damaged) != 0 {
		t.Fatalf("%+v, %v", done, err)
	}
	for at := range a.RawData() {
		data := slices.Clone(a.RawData())
		data[at] ^= 4
		if err := rewrite(s.path(a.Cid()), data); err != nil {
			t.Fatal(err)
		}
		done, err := s.Scrub(t.Context(), free)
		if err != nil || !slices.Equal(done.Damaged, []cid.Cid{a.Cid()}) || done.Chunks != 2 {
			t.Fatalf("byte %d: %+v, %v", at, done, err)
		}
		torn, err := s.Torn(t.Context())
		if err != nil || !slices.Equal(torn, []cid.Cid{top.Cid()}) {
			t.Fatalf("torn: %v, %v", torn, err)
		}
		if st := s.Stat(); st.Damaged != 1 || st.DamagedBytes != 300 || st.Bytes != onDisk(t, s) {
			t.Fatalf("%+v", st)
		}
		put(t, s, a)
	}
	if torn, err := s.Torn(t.Context()); err != nil || len(torn) != 0 {
		t.Errorf("torn: %v, %v", torn, err)
	}
	if err := s.Keep(Lease{Root: a.Cid(), Reason: "job input", For: "one"}); err != nil {
		t.Fatal(err)
	}
	if err := s.Keep(Lease{Root: a.Cid(), Reason: "job input", For: "another"}); err != nil {
		t.Fatal(err)
	}
	want := []Usage{{"job input", 1, 300}, {"own data", 1, int64(600 + len(top.RawData()))}}
	if got, err := s.Usage(); err != nil || !slices.Equal(got, want) {
		t.Errorf("usage %+v, %v; want %+v", got, err, want)
	}
	stop := errors.New("enough")
	if _, err := s.Scrub(t.Context(), func(context.Context, int) error { return stop }); !errors.Is(err, stop) {
		t.Errorf("pace: %v", err)
	}
}
