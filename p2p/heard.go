package p2p

import (
	"maps"
	"slices"
	"sync"

	"github.com/libp2p/go-libp2p/core/peer"
)

// maxHeard is how many peers that were heard of in one way are remembered.
const maxHeard = 64

// heard are peers that somebody told of, with the places to try. One more than
// maxHeard takes the place of any: those who are there are told of again. It is
// safe for concurrent use.
type heard struct {
	mu  sync.Mutex
	all map[peer.ID]peer.AddrInfo // nil before the first
}

// add remembers a peer and reports whether it was not known before.
func (h *heard) add(p peer.AddrInfo) (news bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.all == nil {
		h.all = map[peer.ID]peer.AddrInfo{}
	}
	_, known := h.all[p.ID]
	if !known && len(h.all) >= maxHeard {
		for old := range h.all {
			delete(h.all, old)
			break
		}
	}
	h.all[p.ID] = p
	return !known
}

// peers lists them, ascending.
func (h *heard) peers() (all []peer.AddrInfo) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, p := range slices.Sorted(maps.Keys(h.all)) {
		all = append(all, h.all[p])
	}
	return all
}
