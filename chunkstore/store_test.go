package chunkstore

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	blocks "github.com/ipfs/go-block-format"
	"github.com/ipfs/go-cid"
	ipld "github.com/ipfs/go-ipld-format"
	mh "github.com/multiformats/go-multihash"

	"github.com/talka-grid/talka/workunits"
)

func open(t testing.TB, dir string, quota int64) *Store {
	t.Helper()
	s, err := Open(dir, Config{Quota: quota})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func closed(t testing.TB, s *Store) {
	t.Helper()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}

// rewrite changes a file, as a disk that goes bad does.
func rewrite(path string, data []byte) error {
	return errors.Join(os.Remove(path), os.WriteFile(path, data, 0o600))
}

// noise is n bytes that depend on the seed alone.
func noise(seed uint64, n int) []byte {
	var key [32]byte
	for i := range 8 {
		key[i] = byte(seed >> (8 * i))
	}
	data := make([]byte, n)
	rand.NewChaCha8(key).Read(data) //nolint:errcheck // it never fails
	return data
}

func block(t testing.TB, p cid.Prefix, data []byte) blocks.Block {
	t.Helper()
	c, err := p.Sum(data)
	if err != nil {
		t.Fatal(err)
	}
	b, err := blocks.NewBlockWithCid(data, c)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func raw(t testing.TB, data []byte) blocks.Block {
	t.Helper()
	return block(t, cid.Prefix{Version: 1, Codec: cid.Raw, MhType: mh.BLAKE3, MhLength: 32}, data)
}

func put(t testing.TB, s *Store, list ...blocks.Block) {
	t.Helper()
	if err := s.PutMany(t.Context(), list); err != nil {
		t.Fatal(err)
	}
}

func has(t testing.TB, s *Store, c cid.Cid) bool {
	t.Helper()
	ok, err := s.Has(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	return ok
}

// onDisk is what the store's chunks take, written or being written.
func onDisk(t testing.TB, s *Store) (n int64) {
	t.Helper()
	for _, sub := range []string{"chunks", "tmp", "damaged"} {
		err := filepath.WalkDir(s.folder(sub), func(_ string, d os.DirEntry, err error) error {
			if errors.Is(err, os.ErrNotExist) {
				return nil // written or evicted meanwhile
			}
			if err != nil || d.IsDir() || strings.HasPrefix(d.Name(), "lease") {
				return err
			}
			info, err := d.Info()
			if errors.Is(err, os.ErrNotExist) {
				return nil
			}
			if err == nil {
				n += info.Size()
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return n
}

func TestPutVerifies(t *testing.T) {
	t.Parallel()
	s := open(t, t.TempDir(), 0)
	good := raw(t, []byte("content"))
	wrong, err := blocks.NewBlockWithCid([]byte("other"), raw(t, []byte("promised")).Cid())
	if err != nil {
		t.Fatal(err)
	}
	prefix := func(fn uint64, n int) cid.Prefix {
		return cid.Prefix{Version: 1, Codec: cid.Raw, MhType: fn, MhLength: n}
	}
	for name, test := range map[string]struct {
		b    blocks.Block
		want error
	}{
		"blake3":       {good, nil},
		"sha2-256":     {block(t, prefix(mh.SHA2_256, 32), []byte("content")), nil},
		"version 0":    {block(t, cid.Prefix{Version: 0, Codec: cid.DagProtobuf, MhType: mh.SHA2_256, MhLength: 32}, nil), nil},
		"empty":        {raw(t, nil), nil},
		"largest":      {raw(t, make([]byte, MaxBlock)), nil},
		"other bytes":  {wrong, ErrDamaged},
		"too large":    {raw(t, make([]byte, MaxBlock+1)), ErrForeign},
		"sha2-512":     {block(t, prefix(mh.SHA2_512, 64), []byte("content")), ErrForeign},
		"short blake3": {block(t, prefix(mh.BLAKE3, 20), []byte("content")), ErrForeign},
		"identity":     {block(t, prefix(mh.IDENTITY, -1), []byte("content")), ErrForeign},
	} {
		if err := s.Put(t.Context(), test.b); !errors.Is(err, test.want) {
			t.Errorf("%s: %v, want %v", name, err, test.want)
		}
		if ok := has(t, s, test.b.Cid()); ok != (test.want == nil) {
			t.Errorf("%s: here: %t", name, ok)
		}
	}
	if err := Verify(cid.Undef, nil); !errors.Is(err, ErrForeign) {
		t.Errorf("undefined CID: %v", err)
	}
}

func TestMissing(t *testing.T) {
	t.Parallel()
	s := open(t, t.TempDir(), 0)
	c := raw(t, []byte("absent")).Cid()
	_, get := s.Get(t.Context(), c)
	_, size := s.GetSize(t.Context(), c)
	_, record := s.Record(t.Context(), workunits.Sum([]byte("absent")))
	for name, err := range map[string]error{
		"get": get, "size": size, "record": record,
		"materialise": s.Materialise(t.Context(), c, filepath.Join(t.TempDir(), "x")),
	} {
		if !errors.Is(err, ErrNotFound) || !ipld.IsNotFound(err) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestRecords(t *testing.T) {
	t.Parallel()
	s := open(t, t.TempDir(), 0)
	record := []byte("a record")
	if err := s.PutRecord(t.Context(), record); err != nil {
		t.Fatal(err)
	}
	got, err := s.Record(t.Context(), workunits.Sum(record))
	if err != nil || string(got) != string(record) {
		t.Fatalf("%q, %v", got, err)
	}
	err = s.Materialise(t.Context(), workunits.RecordCid(workunits.Sum(record)), filepath.Join(t.TempDir(), "x"))
	if !errors.Is(err, ErrForeign) {
		t.Errorf("a record is no file: %v", err)
	}
}

// TestDamage changes chunks on disk in the ways that disks do.
func TestDamage(t *testing.T) {
	t.Parallel()
	for name, damage := range map[string]func(path string) error{
		"bit":    func(path string) error { return rewrite(path, []byte("chunk 1 is here, changed")) },
		"short":  func(path string) error { return os.Truncate(path, 3) },
		"empty":  func(path string) error { return os.Truncate(path, 0) },
		"longer": func(path string) error { return os.Truncate(path, MaxBlock+1) },
		"gone":   os.Remove,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := open(t, t.TempDir(), 0)
			other, b := raw(t, []byte("chunk 0")), raw(t, []byte("chunk 1 is here"))
			put(t, s, other, b)
			if err := damage(s.path(b.Cid())); err != nil {
				t.Fatal(err)
			}
			if _, err := s.Get(t.Context(), b.Cid()); !errors.Is(err, ErrNotFound) {
				t.Fatalf("damaged: %v", err)
			}
			if has(t, s, b.Cid()) {
				t.Error("damaged, and said to be here")
			}
			if _, err := s.Get(t.Context(), other.Cid()); err != nil {
				t.Errorf("its neighbour: %v", err)
			}
			if got, disk := s.Stat().Bytes, onDisk(t, s); got != disk {
				t.Errorf("%d bytes in the books, %d on disk", got, disk)
			}
			put(t, s, b)
			if got, err := s.Get(t.Context(), b.Cid()); err != nil || string(got.RawData()) != "chunk 1 is here" {
				t.Errorf("put again: %v", err)
			}
			if got, disk := s.Stat().Bytes, onDisk(t, s); got != disk {
				t.Errorf("%d bytes in the books, %d on disk", got, disk)
			}
		})
	}
}

// TestOpenAfterCrash opens what a crash leaves: half written files, strangers'
// files, chunks, leases and damaged chunks.
func TestOpenAfterCrash(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := open(t, dir, 0)
	b, bad := raw(t, []byte("whole")), raw(t, []byte("goes bad"))
	put(t, s, b, bad)
	if err := os.Truncate(s.path(bad.Cid()), 2); err != nil {
		t.Fatal(err)
	}
	_, _ = s.Get(t.Context(), bad.Cid()) // sets it aside
	if err := s.Keep(Lease{Root: b.Cid(), Reason: "own"}); err != nil {
		t.Fatal(err)
	}
	if err := s.Sync(); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{"tmp/chunk123", "chunks/README", "leases/.nfs1", "chunks/zz/" + b.Cid().String()} {
		path = filepath.Join(dir, filepath.FromSlash(path))
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte("half"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	closed(t, s)
	s = open(t, dir, 0)
	if left, err := os.ReadDir(filepath.Join(dir, "tmp")); err != nil || len(left) > 0 {
		t.Errorf("tmp holds %v, %v", left, err)
	}
	if got, err := s.Get(t.Context(), b.Cid()); err != nil || string(got.RawData()) != "whole" {
		t.Errorf("%v", err)
	}
	if has(t, s, bad.Cid()) {
		t.Error("a damaged chunk is back")
	}
	if got := s.Leases(); !slices.Equal(got, []Lease{{Root: b.Cid(), Reason: "own"}}) {
		t.Errorf("leases %v", got)
	}
	if got := s.Stat(); got.Chunks != 1 || got.Bytes != int64(len("whole")+2) {
		t.Errorf("%+v", got)
	}
}

func TestOpenFails(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(path, Config{}); err == nil {
		t.Error("opened a file")
	}
}

func TestDeleteAndKeys(t *testing.T) {
	t.Parallel()
	s := open(t, t.TempDir(), 0)
	a, b := raw(t, []byte("a")), raw(t, []byte("bb"))
	put(t, s, a, b)
	for range 2 { // deleting what is gone is no error
		if err := s.DeleteBlock(t.Context(), a.Cid()); err != nil {
			t.Fatal(err)
		}
	}
	keys, err := s.AllKeysChan(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var got []cid.Cid
	for c := range keys {
		got = append(got, c)
	}
	if len(got) != 1 || got[0] != b.Cid() {
		t.Errorf("keys %v", got)
	}
	if n, err := s.GetSize(t.Context(), b.Cid()); n != 2 || err != nil {
		t.Errorf("size %d, %v", n, err)
	}
	if st := s.Stat(); st.Bytes != 2 || st.Chunks != 1 {
		t.Errorf("%+v", st)
	}
}

// TestSameChunkAtOnce has readers see a chunk only once it is wholly here, and
// writers of one chunk count it once.
func TestSameChunkAtOnce(t *testing.T) {
	t.Parallel()
	s := open(t, t.TempDir(), 0)
	for round := range 20 {
		b := raw(t, noise(uint64(round), 1<<16))
		var group sync.WaitGroup
		for range 4 {
			group.Go(func() {
				if err := s.Put(t.Context(), b); err != nil {
					t.Error(err)
				}
			})
			group.Go(func() {
				for range 20 {
					ok, _ := s.Has(t.Context(), b.Cid())
					if _, err := s.Get(t.Context(), b.Cid()); ok && err != nil {
						t.Errorf("here, but: %v", err)
					}
				}
			})
		}
		group.Wait()
		if !has(t, s, b.Cid()) {
			t.Fatal("put, and not here")
		}
	}
	if st := s.Stat(); st.Bytes != 20<<16 || st.Bytes != onDisk(t, s) || st.Chunks != 20 {
		t.Errorf("%+v, %d on disk", st, onDisk(t, s))
	}
}

func TestSync(t *testing.T) {
	t.Parallel()
	s := open(t, t.TempDir(), 0)
	var group sync.WaitGroup
	for i := range 8 {
		group.Go(func() {
			b := raw(t, fmt.Append(nil, i))
			if err := errors.Join(s.Put(t.Context(), b), s.Keep(Lease{Root: b.Cid(), Reason: "own"}), s.Sync()); err != nil {
				t.Error(err)
			}
			if i%2 == 0 {
				if err := errors.Join(s.DeleteBlock(t.Context(), b.Cid()), s.Release(Lease{Root: b.Cid(), Reason: "own"}), s.Sync()); err != nil {
					t.Error(err)
				}
			}
		})
	}
	group.Wait()
	if len(s.dirty) > 0 {
		t.Errorf("not synced: %v", s.dirty)
	}
}

// TestSyncFails keeps what could not be synced for the next try.
func TestSyncFails(t *testing.T) {
	t.Parallel()
	s := open(t, t.TempDir(), 0)
	b := raw(t, []byte("x"))
	put(t, s, b)
	shard := filepath.Dir(s.path(b.Cid()))
	if err := os.Rename(shard, shard+"~"); err != nil {
		t.Fatal(err)
	}
	if err := s.Sync(); err == nil {
		t.Fatal("synced a folder that is gone")
	}
	if err := os.Rename(shard+"~", shard); err != nil {
		t.Fatal(err)
	}
	if !s.dirty[s.path(b.Cid())] {
		t.Error("the chunk counts as synced")
	}
	if err := s.Sync(); err != nil || len(s.dirty) > 0 {
		t.Errorf("%v, %v", err, s.dirty)
	}
}

func TestPutAfterCancel(t *testing.T) {
	t.Parallel()
	s := open(t, t.TempDir(), 0)
	b := raw(t, []byte("x"))
	mine, err := s.claim(t.Context(), b.Cid(), b.RawData()) // a writer that never ends
	if !mine || err != nil {
		t.Fatal(mine, err)
	}
	cause := errors.New("the caller has enough")
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(cause)
	if err := s.Put(ctx, b); !errors.Is(err, cause) {
		t.Errorf("%v", err)
	}
}

func TestWriteFails(t *testing.T) {
	t.Parallel()
	s := open(t, t.TempDir(), 0)
	b := raw(t, []byte("x"))
	if err := os.RemoveAll(s.folder("tmp")); err != nil {
		t.Fatal(err)
	}
	err := s.Put(t.Context(), b)
	if err == nil || !strings.Contains(err.Error(), "write chunk") {
		t.Fatalf("%v", err)
	}
	if has(t, s, b.Cid()) || s.Stat().Bytes != 0 {
		t.Errorf("a failed write left %+v", s.Stat())
	}
	if err := os.Mkdir(s.folder("tmp"), 0o700); err != nil {
		t.Fatal(err)
	}
	put(t, s, b)
}

// writings are the ways in which a file comes into a store from this machine.
func writings(t testing.TB, path string) map[string]func(s *Store, progress func(done, total int64)) error {
	t.Helper()
	from := open(t, t.TempDir(), 0)
	defer closed(t, from)
	a, err := from.Add(t.Context(), path, nil)
	if err != nil {
		t.Fatal(err)
	}
	var car bytes.Buffer
	if err := from.Export(t.Context(), a.Cid, Selection{}, &car); err != nil {
		t.Fatal(err)
	}
	return map[string]func(s *Store, progress func(done, total int64)) error{
		"add": func(s *Store, progress func(done, total int64)) error {
			_, err := s.Add(t.Context(), path, progress)
			return err
		},
		"import": func(s *Store, progress func(done, total int64)) error {
			_, err := s.Import(t.Context(), bytes.NewReader(car.Bytes()), progress)
			return err
		},
	}
}

// TestDiskFails has the disk refuse everything from the middle of an add or an import
// on: the error says so, nothing is counted that is not there, what was there stays, and
// once the disk is well the same goes through.
func TestDiskFails(t *testing.T) {
	t.Parallel()
	for name, write := range writings(t, input(t, map[string][]byte{"": noise(2, 8*leafSize)})) {
		s := open(t, t.TempDir(), 0)
		kept := raw(t, noise(1, 1000))
		put(t, s, kept)
		if err := s.Keep(Lease{Root: kept.Cid(), Reason: "own data"}); err != nil {
			t.Fatal(err)
		}
		broken := false
		err := write(s, func(done, _ int64) {
			if done >= 4*leafSize && !broken {
				broken = true
				if err := os.Rename(s.folder("tmp"), s.folder("tmp")+"~"); err != nil {
					t.Error(err)
				}
			}
		})
		if err == nil || !broken || errors.Is(err, ErrFull) || !strings.Contains(err.Error(), "write chunk") {
			t.Errorf("%s: %v", name, err)
		}
		if st := s.Stat(); st.Bytes != onDisk(t, s) || len(s.held) > 0 || len(s.writing) > 0 {
			t.Errorf("%s: %+v, %d bytes on disk, %d chunks covered for ever", name, st, onDisk(t, s), len(s.held))
		}
		if _, err := s.Get(t.Context(), kept.Cid()); err != nil {
			t.Errorf("%s: what was there: %v", name, err)
		}
		if err := os.Rename(s.folder("tmp")+"~", s.folder("tmp")); err != nil {
			t.Fatal(err)
		}
		if err := write(s, nil); err != nil {
			t.Errorf("%s, once the disk is well: %v", name, err)
		}
		closed(t, s)
	}
}
