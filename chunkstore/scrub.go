package chunkstore

import (
	"context"
	"errors"

	"github.com/ipfs/go-cid"
)

// Scrubbed tells what reading everything came to.
type Scrubbed struct {
	Chunks  int
	Bytes   int64
	Damaged []cid.Cid // were set aside: they are missing now
}

// Scrub reads and verifies every chunk, cold ones too. Each damaged one is set
// aside, as Get does. Pace is called before each chunk with its size in bytes, so
// that the disk stays free for others; its error ends the scrub, as does one of the
// disk.
func (s *Store) Scrub(ctx context.Context, pace func(ctx context.Context, n int) error) (done Scrubbed, err error) {
	keys, err := s.AllKeysChan(ctx)
	if err != nil {
		return done, err
	}
	for c := range keys {
		size, err := s.GetSize(ctx, c)
		if err != nil {
			continue // gone meanwhile
		}
		if err := pace(ctx, size); err != nil {
			return done, err
		}
		_, err = s.read(c, nil)
		switch {
		case err == nil:
			done.Chunks++
			done.Bytes += int64(size)
		case !errors.Is(err, ErrNotFound):
			return done, err
		case s.setAsideNow(c):
			done.Damaged = append(done.Damaged, c)
		}
	}
	return done, context.Cause(ctx)
}

// Inspect reads and verifies all that is here of a root, as Scrub does, at once.
func (s *Store) Inspect(ctx context.Context, root cid.Cid) error {
	defer s.Hold(root)()
	seen := map[cid.Cid]bool{root: true}
	for todo := []cid.Cid{root}; len(todo) > 0; {
		c := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if c.Prefix().Codec != cid.DagProtobuf {
			if _, err := s.read(c, nil); err != nil && !errors.Is(err, ErrNotFound) {
				return err
			}
			continue
		}
		links, err := s.children(c)
		if err != nil {
			return err
		}
		for _, l := range links {
			if !seen[l] {
				seen[l] = true
				todo = append(todo, l)
			}
		}
		if len(seen) > maxVisits {
			return errVisits
		}
	}
	return nil
}

// setAsideNow reports whether a chunk lies among the damaged.
func (s *Store) setAsideNow(c cid.Cid) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, there := s.damaged[c.String()]
	return there && s.chunks[c] == nil
}

// Torn lists the roots with a lease, other than a spare one, that are not whole
// here, because content was damaged or has not come yet.
func (s *Store) Torn(ctx context.Context) (list []cid.Cid, err error) {
	seen := map[cid.Cid]bool{}
	for _, l := range s.Leases() {
		root := l.Root
		if l.Spare || seen[root] {
			continue
		}
		seen[root] = true
		switch err := s.whole(ctx, root); {
		case errors.Is(err, ErrNotFound):
			list = append(list, root)
		case err != nil && !errors.Is(err, ErrForeign): // malformed for good
			return nil, err
		}
	}
	return list, nil
}
