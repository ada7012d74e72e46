package chunkstore

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"

	blocks "github.com/ipfs/go-block-format"
	"github.com/ipfs/go-cid"
)

// Keep leases a root and all below it for a reason; a later reason replaces it.
// What is missing of it is covered as soon as it is put.
func (s *Store) Keep(root cid.Cid, reason string) error {
	if !root.Defined() {
		return fmt.Errorf("keep: undefined CID: %w", ErrForeign)
	}
	s.evicting.Lock()
	defer s.evicting.Unlock()
	path := filepath.Join(s.folder("leases"), root.String())
	tmp := filepath.Join(s.folder("tmp"), "lease-"+root.String())
	if err := os.WriteFile(tmp, []byte(reason), 0o600); err != nil {
		return fmt.Errorf("keep %s: %w", root, err)
	}
	if err := os.Rename(tmp, path); err != nil {
		return fmt.Errorf("keep %s: %w", root, err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.leases[root] = reason
	s.dirty[path] = true
	return nil
}

// Release ends the lease of a root.
func (s *Store) Release(root cid.Cid) error {
	s.evicting.Lock()
	defer s.evicting.Unlock()
	path := filepath.Join(s.folder("leases"), root.String())
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("release %s: %w", root, err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.leases, root)
	s.dirty[path] = true // its folder is to be synced
	return nil
}

// Leases returns the reason for each root that is kept.
func (s *Store) Leases() (map[cid.Cid]string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return maps.Clone(s.leases), nil
}

// Hold covers a root and all below it, here or yet to come, while work with it
// runs; it ends with the process at the latest. Call release once.
func (s *Store) Hold(root cid.Cid) (release func()) {
	s.evicting.Lock()
	defer s.evicting.Unlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.roots[root]++
	return func() { s.unhold(s.roots, root) }
}

// holdChunk covers one chunk.
func (s *Store) holdChunk(c cid.Cid) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.held[c]++
}

func (s *Store) unhold(holds map[cid.Cid]int, list ...cid.Cid) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, c := range list {
		if holds[c]--; holds[c] == 0 {
			delete(holds, c)
		}
	}
}

// reserve takes room for n bytes before they are written.
func (s *Store) reserve(ctx context.Context, n int64) error {
	for {
		s.mu.Lock()
		if s.over(n) <= 0 {
			s.used += n
			s.mu.Unlock()
			return nil
		}
		s.mu.Unlock()
		if err := ctx.Err(); err != nil {
			return context.Cause(ctx)
		}
		if err := s.makeRoom(n); err != nil {
			return err
		}
	}
}

// over is by how much n bytes more would break the quota. The lock is held.
func (s *Store) over(n int64) int64 {
	if s.cfg.Quota == 0 {
		return 0
	}
	return s.used + n - s.cfg.Quota
}

// rounds is how often an eviction looks again because chunks were used while it
// looked.
const rounds = 4

// makeRoom evicts what makes room for n bytes.
func (s *Store) makeRoom(n int64) error {
	s.evicting.Lock()
	defer s.evicting.Unlock()
	for range rounds {
		s.mu.Lock()
		start, enough := s.clock, s.over(n) <= 0
		s.mu.Unlock()
		if enough {
			return nil // another caller made it
		}
		kept, err := s.covered()
		if err != nil {
			return err
		}
		done, quiet, err := s.evict(n, kept, start)
		if done || err != nil {
			return err
		}
		if quiet {
			break
		}
	}
	return fmt.Errorf("%d bytes are kept or in use of at most %d: raise the disk limit or remove content: %w",
		s.Stat().Bytes, s.cfg.Quota, ErrFull)
}

// evict removes damaged chunks, then others that are not kept and were not used
// since start, until n bytes have room and a little more, so that not every write
// evicts. It removes nothing if that would not do. Quiet tells whether nothing
// was used meanwhile.
func (s *Store) evict(n int64, kept map[cid.Cid]bool, start int64) (done, quiet bool, err error) {
	type candidate struct {
		c cid.Cid
		chunk
	}
	s.mu.Lock()
	var list []candidate
	var free int64
	for c, k := range s.chunks {
		if !kept[c] && s.held[c] == 0 && k.used <= start {
			list = append(list, candidate{c, *k})
			free += k.size
		}
	}
	for _, size := range s.damaged {
		free += size
	}
	quiet = s.clock == start
	if s.over(n) > free {
		s.mu.Unlock()
		return false, quiet, nil
	}
	err = s.dropDamaged()
	s.mu.Unlock()
	slices.SortFunc(list, func(a, b candidate) int { return cmp.Compare(a.used, b.used) })
	for _, k := range list {
		if err != nil {
			break
		}
		done, err = s.evictOne(k.c, n, start)
		if done {
			break
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.over(n) <= 0, quiet, err
}

// evictOne evicts one chunk, unless it was taken up meanwhile or there is room.
func (s *Store) evictOne(c cid.Cid, n, start int64) (done bool, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.over(n+s.cfg.Quota/32) <= 0 {
		return true, nil
	}
	if k := s.chunks[c]; k == nil || k.used > start || s.held[c] > 0 {
		return false, nil
	}
	return false, s.remove(c)
}

// dropDamaged removes what was set aside. The lock is held.
func (s *Store) dropDamaged() error {
	for name, size := range s.damaged {
		if err := os.RemoveAll(filepath.Join(s.folder("damaged"), name)); err != nil {
			return err
		}
		s.used -= size
		delete(s.damaged, name)
	}
	return nil
}

// covered is what leases and running work cover of what is here.
func (s *Store) covered() (map[cid.Cid]bool, error) {
	s.mu.Lock()
	todo := slices.AppendSeq(slices.Collect(maps.Keys(s.leases)), maps.Keys(s.roots))
	s.mu.Unlock()
	kept := map[cid.Cid]bool{}
	for len(todo) > 0 {
		c := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		if kept[c] {
			continue
		}
		kept[c] = true
		links, err := s.children(c)
		if err != nil {
			return nil, err
		}
		for _, l := range links {
			if !kept[l] {
				todo = append(todo, l)
			}
		}
	}
	return kept, nil
}

// children is what a chunk that is here refers to; none if it is malformed, for
// then nothing can be reached through it.
func (s *Store) children(c cid.Cid) ([]cid.Cid, error) {
	if c.Prefix().Codec != cid.DagProtobuf {
		return nil, nil
	}
	data, err := s.read(c)
	if errors.Is(err, ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	b, err := blocks.NewBlockWithCid(data, c)
	if err != nil {
		return nil, err
	}
	links, err := Links(b)
	if errors.Is(err, ErrForeign) {
		return nil, nil
	}
	return links, err
}
