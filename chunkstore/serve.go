package chunkstore

import (
	"context"
	"errors"
	"sync"

	blocks "github.com/ipfs/go-block-format"
	"github.com/ipfs/go-cid"

	"github.com/talka-grid/talka/workunits"
)

// opened is what leases let peers have: their roots and all that is known to be
// below them, here or not. It is gathered when a peer first asks, and anew after
// a lease has ended; in between it grows with the leases and with what arrives.
type opened struct {
	mu    sync.Mutex
	set   map[cid.Cid]bool // nil while it is not known
	until int64            // the first of these leases expires then; 0: none does
}

// ServeRecords lets peers have records that are not in the store as well: those
// that the function returns, which is nil for others. It is called from many
// goroutines. The store neither counts nor keeps them.
func (s *Store) ServeRecords(records func(workunits.Digest) []byte) { s.records.Store(&records) }

// served returns a record that is not in the store for peers, nil if it is none.
func (s *Store) served(c cid.Cid) []byte {
	records := s.records.Load()
	if d, ok := workunits.RecordDigest(c); ok && records != nil && !s.denied(c) {
		return (*records)(d)
	}
	return nil
}

// Serve reads a chunk for a peer: the error is ErrNotFound unless peers may have
// it and it is here. It reads into buf, which may be nil, if that has room for the
// chunk and one byte more.
func (s *Store) Serve(c cid.Cid, buf []byte) ([]byte, error) {
	if s.leased(c) {
		if data, err := s.get(c, buf); !errors.Is(err, ErrNotFound) {
			return data, err
		}
	}
	if raw := s.served(c); raw != nil {
		return raw, nil
	}
	return nil, notFound(c)
}

// Served reports whether peers may have a chunk, if it is here.
func (s *Store) Served(c cid.Cid) bool { return s.leased(c) || s.served(c) != nil }

// leased reports whether a lease lets peers have a chunk.
func (s *Store) leased(c cid.Cid) bool {
	s.open.mu.Lock()
	defer s.open.mu.Unlock()
	if s.open.until != 0 && s.now().Unix() >= s.open.until {
		s.open.set = nil
	}
	if s.open.set == nil {
		var roots []cid.Cid
		s.open.until = 0
		for _, l := range s.Leases() {
			if !l.Withheld {
				roots = append(roots, l.Root)
				s.open.ends(l)
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

// add opens a lease's root and all below it.
func (o *opened) add(s *Store, l Lease) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.ends(l)
	if o.set != nil && s.reach(o.set, []cid.Cid{l.Root}) != nil {
		o.set = nil
	}
}

// ends notes when a lease expires. The lock is held.
func (o *opened) ends(l Lease) {
	if l.Expires != 0 && (o.until == 0 || l.Expires < o.until) {
		o.until = l.Expires
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

// Blockstore is what a protocol that serves peers sees of a store: its chunks, and
// the records that ServeRecords adds.
type Blockstore struct{ *Store }

// Get is Store.Get.
func (b Blockstore) Get(ctx context.Context, c cid.Cid) (blocks.Block, error) {
	got, err := b.Store.Get(ctx, c)
	if errors.Is(err, ErrNotFound) {
		if raw := b.served(c); raw != nil {
			return blocks.NewBlockWithCid(raw, c)
		}
	}
	return got, err
}

// GetSize is Store.GetSize, but 1 for a chunk without bytes: bitswap never sends what
// has a size of 0, and whoever wants a folder with an empty file would wait for ever.
func (b Blockstore) GetSize(ctx context.Context, c cid.Cid) (int, error) {
	size, err := b.Store.GetSize(ctx, c)
	if err != nil {
		raw := b.served(c)
		if raw == nil {
			return 0, err
		}
		size = len(raw)
	}
	return max(size, 1), nil
}

// Has is Store.Has.
func (b Blockstore) Has(ctx context.Context, c cid.Cid) (bool, error) {
	here, err := b.Store.Has(ctx, c)
	return here || b.served(c) != nil, err
}
