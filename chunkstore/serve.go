package chunkstore

import (
	"context"
	"sync"

	"github.com/ipfs/go-cid"
)

// opened is what leases let peers have: their roots and all that is known to be
// below them, here or not. It is gathered when a peer first asks, and anew after
// a lease has ended; in between it grows with the leases and with what arrives.
type opened struct {
	mu  sync.Mutex
	set map[cid.Cid]bool // nil while it is not known
}

// Serve reads a chunk for a peer: the error is ErrNotFound unless it is here and a
// lease lets peers have it.
func (s *Store) Serve(c cid.Cid) ([]byte, error) {
	if !s.Served(c) {
		return nil, notFound(c)
	}
	b, err := s.Get(context.Background(), c)
	if err != nil {
		return nil, err
	}
	return b.RawData(), nil
}

// Served reports whether peers may have a chunk, if it is here.
func (s *Store) Served(c cid.Cid) bool {
	s.open.mu.Lock()
	defer s.open.mu.Unlock()
	if s.open.set == nil {
		var roots []cid.Cid
		for _, l := range s.Leases() {
			if !l.Withheld {
				roots = append(roots, l.Root)
			}
		}
		s.open.set = map[cid.Cid]bool{}
		if s.reach(s.open.set, roots) != nil {
			s.open.set = nil // the disk failed; the next one to ask finds out again
			return false
		}
	}
	return s.open.set[c]
}

// add opens a root and all below it.
func (o *opened) add(s *Store, root cid.Cid) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.set != nil && s.reach(o.set, []cid.Cid{root}) != nil {
		o.set = nil
	}
}

// came opens what an open chunk refers to, now that it is here.
func (o *opened) came(s *Store, c cid.Cid) {
	if c.Prefix().Codec != cid.DagProtobuf {
		return
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	if !o.set[c] {
		return
	}
	links, err := s.children(c)
	if err != nil || s.reach(o.set, links) != nil {
		o.set = nil
	}
}

// forget has the set gathered anew.
func (o *opened) forget() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.set = nil
}
