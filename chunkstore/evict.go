package chunkstore

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"

	blocks "github.com/ipfs/go-block-format"
	"github.com/ipfs/go-cid"
)

// reserve takes room for n bytes before they are written.
func (s *Store) reserve(ctx context.Context, n int64) error {
	for {
		s.mu.Lock()
		if s.fits(n) {
			s.used += n
			s.files++
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

// room is an amount of disk.
type room struct{ bytes, files int64 }

// over is by how much a file of n bytes more would break the quota; what is not
// above zero would not. The lock is held.
func (s *Store) over(n int64) (r room) {
	if s.cfg.Quota > 0 {
		r.bytes = s.used + n - s.cfg.Quota
	}
	if s.cfg.Files > 0 {
		r.files = s.files + 1 - s.cfg.Files
	}
	return r
}

// fits reports whether a file of n bytes has room. The lock is held.
func (s *Store) fits(n int64) bool { r := s.over(n); return r.bytes <= 0 && r.files <= 0 }

// rounds is how often an eviction looks again because chunks were used while it
// looked.
const rounds = 4

// makeRoom evicts what makes room for n bytes.
func (s *Store) makeRoom(n int64) error {
	s.evicting.Lock()
	defer s.evicting.Unlock()
	for range rounds {
		s.mu.Lock()
		start, enough := s.clock, s.fits(n)
		s.mu.Unlock()
		if enough {
			return nil // another caller made it
		}
		if err := s.dropExpired(); err != nil {
			return err
		}
		kept, spare, err := s.covered()
		if err != nil {
			return err
		}
		done, quiet, err := s.evict(n, kept, spare, start)
		if done || err != nil {
			return err
		}
		if quiet {
			break
		}
	}
	st := s.Stat()
	return fmt.Errorf("%d bytes in %d files are kept or in use, of at most %d in %d: raise the disk limit or remove content: %w",
		st.Bytes, st.Files, s.cfg.Quota, s.cfg.Files, ErrFull)
}

// evict removes damaged chunks, then others that are not kept and were not used
// since start, spare ones last, until n bytes have room and a little more, so that not
// every write evicts. It removes nothing if that would not do. Quiet tells whether
// nothing was used meanwhile.
func (s *Store) evict(n int64, kept, spare map[cid.Cid]bool, start int64) (done, quiet bool, err error) {
	type candidate struct {
		c     cid.Cid
		spare bool
		chunk
	}
	s.mu.Lock()
	var list []candidate
	var free room
	for c, k := range s.chunks {
		if !k.linked && !kept[c] && s.held[c] == 0 && k.used <= start {
			list = append(list, candidate{c, spare[c], *k})
			free.bytes += int64(k.size)
			free.files++
		}
	}
	for _, size := range s.damaged {
		free.bytes += size
		free.files++
	}
	quiet = s.clock == start
	if over := s.over(n); over.bytes > free.bytes || over.files > free.files {
		s.mu.Unlock()
		return false, quiet, nil
	}
	err = s.dropDamaged()
	s.mu.Unlock()
	slices.SortFunc(list, func(a, b candidate) int {
		if a.spare != b.spare {
			if b.spare {
				return -1
			}
			return 1
		}
		return cmp.Compare(a.used, b.used)
	})
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
	return s.fits(n), quiet, err
}

// evictOne evicts one chunk, unless it was taken up meanwhile or there is room.
func (s *Store) evictOne(c cid.Cid, n, start int64) (done bool, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if over := s.over(n + s.cfg.Quota/32); over.bytes <= 0 && over.files <= -s.cfg.Files/32 {
		return true, nil
	}
	if k := s.chunks[c]; k == nil || k.linked || k.used > start || s.held[c] > 0 {
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
		s.files--
		delete(s.damaged, name)
	}
	return nil
}

// covered is what leases and running work cover of what is here, and what spare
// leases do.
func (s *Store) covered() (kept, spare map[cid.Cid]bool, err error) {
	s.mu.Lock()
	firm := slices.Collect(maps.Keys(s.roots))
	var loose []cid.Cid
	for root, list := range s.leases {
		if slices.ContainsFunc(list, func(l Lease) bool { return !l.Spare }) {
			firm = append(firm, root)
		} else {
			loose = append(loose, root)
		}
	}
	s.mu.Unlock()
	kept, spare = map[cid.Cid]bool{}, map[cid.Cid]bool{}
	return kept, spare, errors.Join(s.reach(kept, firm), s.reach(spare, loose))
}

// Expire ends the leases whose time is over, which count for nothing already, and
// removes what is known of them.
func (s *Store) Expire() error {
	s.evicting.Lock()
	defer s.evicting.Unlock()
	return s.dropExpired()
}

// dropExpired is Expire for those who hold evicting.
func (s *Store) dropExpired() error {
	now := s.now()
	return s.releaseNow(func(l Lease) bool { return l.over(now) })
}

// reach adds what can be reached from some chunks, them included, to a set. What
// is in the set is taken to be there with all below.
func (s *Store) reach(set map[cid.Cid]bool, from []cid.Cid) error {
	for todo := from; len(todo) > 0; {
		c := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		if set[c] {
			continue
		}
		set[c] = true
		links, err := s.children(c)
		if err != nil {
			return err
		}
		for _, l := range links {
			if !set[l] {
				todo = append(todo, l)
			}
		}
	}
	return nil
}

// children is what a chunk that is here refers to; none if it is malformed, for
// then nothing can be reached through it.
func (s *Store) children(c cid.Cid) ([]cid.Cid, error) {
	if c.Prefix().Codec != cid.DagProtobuf {
		return nil, nil
	}
	data, err := s.read(c, nil)
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
