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
		_, err = s.read(c)
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

// setAsideNow reports whether a chunk lies among the damaged.
func (s *Store) setAsideNow(c cid.Cid) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, there := s.damaged[c.String()]
	return there && s.chunks[c] == nil
}

// Torn lists the roots with a lease that are not whole here, because content was
// damaged or has not come yet.
func (s *Store) Torn(ctx context.Context) (list []cid.Cid, err error) {
	for _, root := range s.keptRoots() {
		switch err := s.whole(ctx, root); {
		case errors.Is(err, ErrNotFound):
			list = append(list, root)
		case err != nil && !errors.Is(err, ErrForeign): // malformed for good
			return nil, err
		}
	}
	return list, nil
}
