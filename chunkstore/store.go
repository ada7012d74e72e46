// Package chunkstore keeps content on disk by its CID: adding and writing out
// files and folders, verifying every block, leases, and a hard quota.
//
// Content is UnixFS over CIDv1: raw leaves of 1 MiB, 1,024 links a node, BLAKE3
// for what Talka makes, sha2-256 accepted, no block above 2 MiB. A chunk is one
// file, written beside its place and renamed into it, so that a crash leaves no
// half of one and a damaged file costs only itself. [Store.Sync] is the commit
// point: what was put before it survives a power cut.
//
// A lease with a reason keeps a root and all below it; what no lease keeps goes
// when the quota needs room. The quota is checked before a write and always holds.
//
// A Store is safe for concurrent use. One process has a directory open.
package chunkstore

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"

	blocks "github.com/ipfs/go-block-format"
	"github.com/ipfs/go-cid"
	ipld "github.com/ipfs/go-ipld-format"
	mh "github.com/multiformats/go-multihash"
	_ "github.com/multiformats/go-multihash/register/blake3" // the hash of what Talka makes
)

// MaxBlock is the largest block that is stored or fetched, in bytes.
const MaxBlock = 2 << 20

// Errors of a store.
var (
	ErrNotFound = errors.New("content is not in the store")
	ErrFull     = errors.New("the store is full")
	ErrDamaged  = errors.New("content does not match its CID")
	ErrForeign  = errors.New("content of a kind that is not stored")
)

// Config says how much a store may hold.
type Config struct {
	Quota int64 // bytes of chunks on disk; 0 for no limit
}

// Store is a directory of chunks. Make it with Open.
type Store struct {
	dir string
	cfg Config

	mu    sync.Mutex
	sizes map[cid.Cid]int64 // chunks here
	used  int64
	dirty map[string]bool // files not synced yet
}

// Open opens or makes a store.
func Open(dir string, cfg Config) (*Store, error) {
	s := &Store{dir: dir, cfg: cfg, sizes: map[cid.Cid]int64{}, dirty: map[string]bool{}}
	for _, sub := range []string{"chunks", "leases", "tmp", "damaged"} {
		if err := os.MkdirAll(filepath.Join(dir, sub), 0o700); err != nil {
			return nil, fmt.Errorf("open store: %w", err)
		}
	}
	if err := s.load(); err != nil {
		return nil, fmt.Errorf("open store: %w", err)
	}
	return s, nil
}

// load learns what is here from the files' names, and drops unfinished writes.
func (s *Store) load() error {
	tmp := filepath.Join(s.dir, "tmp")
	if err := os.RemoveAll(tmp); err != nil {
		return err
	}
	if err := os.Mkdir(tmp, 0o700); err != nil {
		return err
	}
	return filepath.WalkDir(filepath.Join(s.dir, "chunks"), func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		c, err := cid.Decode(d.Name())
		if err != nil {
			return nil // not a file of ours
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		s.sizes[c] = info.Size()
		s.used += info.Size()
		return nil
	})
}

// Verify reports whether data is the content that c names, by the rules of this
// package. It is the one place that decides this.
func Verify(c cid.Cid, data []byte) error {
	p := c.Prefix()
	switch {
	case p.Version != 1 && p.Codec != cid.DagProtobuf, p.MhType != mh.BLAKE3 && p.MhType != mh.SHA2_256, p.MhLength != 32:
		return fmt.Errorf("%s: %w", c, ErrForeign)
	case len(data) > MaxBlock:
		return fmt.Errorf("%s: %d bytes, limit %d: %w", c, len(data), MaxBlock, ErrForeign)
	}
	got, err := p.Sum(data)
	if err != nil {
		return fmt.Errorf("%s: %w", c, err)
	}
	if !got.Equals(c) {
		return fmt.Errorf("%s: %w", c, ErrDamaged)
	}
	return nil
}

// path is where a chunk is; the last characters spread chunks over folders.
func (s *Store) path(c cid.Cid) string {
	name := c.String()
	return filepath.Join(s.dir, "chunks", name[len(name)-2:], name)
}

// Has reports whether a chunk is here.
func (s *Store) Has(_ context.Context, c cid.Cid) (bool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, ok := s.sizes[c]
	return ok, nil
}

// GetSize returns a chunk's size in bytes.
func (s *Store) GetSize(_ context.Context, c cid.Cid) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	n, ok := s.sizes[c]
	if !ok {
		return 0, ipld.ErrNotFound{Cid: c}
	}
	return int(n), nil
}

// Get reads and verifies a chunk. A damaged one is set aside, and missing from
// then on, so that it is fetched again.
func (s *Store) Get(ctx context.Context, c cid.Cid) (blocks.Block, error) {
	if ok, _ := s.Has(ctx, c); !ok {
		return nil, ipld.ErrNotFound{Cid: c}
	}
	data, err := os.ReadFile(s.path(c))
	if err == nil {
		err = Verify(c, data)
	}
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, ErrDamaged) {
		s.setAside(c)
		return nil, ipld.ErrNotFound{Cid: c}
	}
	if err != nil {
		return nil, fmt.Errorf("read chunk: %w", err)
	}
	return blocks.NewBlockWithCid(data, c)
}

func (s *Store) setAside(c cid.Cid) {
	s.mu.Lock()
	defer s.mu.Unlock()
	_ = os.Rename(s.path(c), filepath.Join(s.dir, "damaged", c.String())) // it may be gone
	s.forget(c)
}

// forget drops a chunk from the books. The lock is held.
func (s *Store) forget(c cid.Cid) {
	s.used -= s.sizes[c]
	delete(s.sizes, c)
	delete(s.dirty, s.path(c))
}

// Put verifies and stores a chunk.
func (s *Store) Put(ctx context.Context, b blocks.Block) error {
	c, data := b.Cid(), b.RawData()
	if ok, _ := s.Has(ctx, c); ok {
		return nil
	}
	if err := Verify(c, data); err != nil {
		return err
	}
	if err := s.reserve(ctx, c, int64(len(data))); err != nil {
		return err
	}
	if err := s.write(c, data); err != nil {
		s.mu.Lock()
		s.forget(c)
		s.mu.Unlock()
		return fmt.Errorf("write chunk: %w", err)
	}
	return nil
}

// reserve takes room for a chunk before it is written.
func (s *Store) reserve(ctx context.Context, c cid.Cid, n int64) error {
	for tried := false; ; tried = true {
		s.mu.Lock()
		if s.cfg.Quota == 0 || s.used+n <= s.cfg.Quota {
			if _, ok := s.sizes[c]; !ok {
				s.sizes[c], s.used = n, s.used+n
			}
			s.mu.Unlock()
			return nil
		}
		used := s.used
		s.mu.Unlock()
		if tried {
			return fmt.Errorf("%d bytes are kept of at most %d: raise the disk limit or remove content: %w", used, s.cfg.Quota, ErrFull)
		}
		if err := s.collect(ctx); err != nil {
			return err
		}
	}
}

func (s *Store) write(c cid.Cid, data []byte) error {
	path := s.path(c)
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	f, err := os.CreateTemp(filepath.Join(s.dir, "tmp"), "chunk")
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err = errors.Join(err, f.Close()); err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	s.mu.Lock()
	s.dirty[path] = true
	s.mu.Unlock()
	return nil
}

// PutMany stores chunks; it ends at the first error.
func (s *Store) PutMany(ctx context.Context, list []blocks.Block) error {
	for _, b := range list {
		if err := s.Put(ctx, b); err != nil {
			return err
		}
	}
	return nil
}

// DeleteBlock removes a chunk, kept or not.
func (s *Store) DeleteBlock(_ context.Context, c cid.Cid) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, ok := s.sizes[c]; !ok {
		return nil
	}
	if err := os.Remove(s.path(c)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	s.forget(c)
	return nil
}

// AllKeysChan sends the CIDs of all chunks that are here now.
func (s *Store) AllKeysChan(ctx context.Context) (<-chan cid.Cid, error) {
	s.mu.Lock()
	all := make([]cid.Cid, 0, len(s.sizes))
	for c := range s.sizes {
		all = append(all, c)
	}
	s.mu.Unlock()
	out := make(chan cid.Cid)
	go func() {
		defer close(out)
		for _, c := range all {
			select {
			case out <- c:
			case <-ctx.Done():
				return
			}
		}
	}()
	return out, nil
}

// Sync makes everything put so far survive a power cut.
func (s *Store) Sync() error {
	s.mu.Lock()
	dirty := s.dirty
	s.dirty = map[string]bool{}
	s.mu.Unlock()
	folders := map[string]bool{}
	for path := range dirty {
		folders[filepath.Dir(path)] = true
		if err := syncFile(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			s.mu.Lock()
			for path := range dirty {
				s.dirty[path] = true
			}
			s.mu.Unlock()
			return fmt.Errorf("sync: %w", err)
		}
	}
	for folder := range folders {
		if err := syncFile(folder); err != nil {
			return fmt.Errorf("sync: %w", err)
		}
	}
	return nil
}

func syncFile(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

// Stat tells what a store holds.
type Stat struct {
	Chunks int
	Bytes  int64
	Quota  int64
}

// Stat tells what the store holds.
func (s *Store) Stat() Stat {
	s.mu.Lock()
	defer s.mu.Unlock()
	return Stat{Chunks: len(s.sizes), Bytes: s.used, Quota: s.cfg.Quota}
}

// Keep leases a root and all below it for a reason; a later reason replaces it.
func (s *Store) Keep(root cid.Cid, reason string) error {
	path := filepath.Join(s.dir, "leases", root.String())
	tmp := filepath.Join(s.dir, "tmp", "lease-"+root.String())
	if err := os.WriteFile(tmp, []byte(reason), 0o600); err != nil {
		return fmt.Errorf("keep %s: %w", root, err)
	}
	if err := os.Rename(tmp, path); err != nil {
		return fmt.Errorf("keep %s: %w", root, err)
	}
	s.mu.Lock()
	s.dirty[path] = true
	s.mu.Unlock()
	return nil
}

// Release ends the lease of a root.
func (s *Store) Release(root cid.Cid) error {
	err := os.Remove(filepath.Join(s.dir, "leases", root.String()))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// Leases returns the reason for each root that is kept.
func (s *Store) Leases() (map[cid.Cid]string, error) {
	entries, err := os.ReadDir(filepath.Join(s.dir, "leases"))
	if err != nil {
		return nil, err
	}
	leases := map[cid.Cid]string{}
	for _, e := range entries {
		c, err := cid.Decode(e.Name())
		if err != nil {
			continue
		}
		reason, err := os.ReadFile(filepath.Join(s.dir, "leases", e.Name()))
		if err != nil {
			return nil, err
		}
		leases[c] = strings.TrimSpace(string(reason))
	}
	return leases, nil
}

// collect removes what no lease keeps. It does not stop other callers; a root
// that is being added is safe once it is kept, and is put again if it went.
func (s *Store) collect(ctx context.Context) error {
	leases, err := s.Leases()
	if err != nil {
		return err
	}
	kept := map[cid.Cid]bool{}
	for root := range leases {
		if err := s.walk(ctx, root, func(c cid.Cid) bool {
			fresh := !kept[c]
			kept[c] = true
			return fresh
		}); err != nil {
			return err
		}
	}
	keys, err := s.AllKeysChan(ctx)
	if err != nil {
		return err
	}
	for c := range keys {
		if !kept[c] {
			if err := s.DeleteBlock(ctx, c); err != nil {
				return err
			}
		}
	}
	return nil
}

// walk visits what is here of a DAG, parents first, below a chunk only if visit
// says so.
func (s *Store) walk(ctx context.Context, root cid.Cid, visit func(cid.Cid) bool) error {
	todo := []cid.Cid{root}
	for len(todo) > 0 {
		c := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		if !visit(c) || c.Prefix().Codec != cid.DagProtobuf {
			continue
		}
		b, err := s.Get(ctx, c)
		if ipld.IsNotFound(err) {
			continue
		}
		if err != nil {
			return err
		}
		links, err := Links(b)
		if err != nil {
			return err
		}
		todo = append(todo, links...)
	}
	return nil
}
