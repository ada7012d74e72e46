package p2p

import (
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/control"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"

	"github.com/talka-grid/talka/workunits"
)

// maxListed bounds the allow list and the block list, each.
const maxListed = 1 << 12

// gate is libp2p's connection gater: it lets in, and dials, whom the lists
// permit. A node's identity is known once a connection is secured, so that is
// where a dialler is turned away; it learns nothing but that something answers.
type gate struct {
	mu    sync.RWMutex
	allow map[peer.ID]bool // nil: all but the blocked
	block map[peer.ID]bool
	shuns map[peer.ID]time.Time // who is kept away for what it did, and until when
}

// set puts in the lists of the config.
func (g *gate) set(allow, block []workunits.NodeID) error {
	if len(allow) > maxListed || len(block) > maxListed {
		return fmt.Errorf("%d nodes are allowed and %d blocked, at most %d of each can be", len(allow), len(block), maxListed)
	}
	read := func(ids []workunits.NodeID) (map[peer.ID]bool, error) {
		set := map[peer.ID]bool{}
		for _, id := range ids {
			p, err := peerID(id)
			if err != nil {
				return nil, err
			}
			set[p] = true
		}
		return set, nil
	}
	var err error
	if len(allow) > 0 {
		if g.allow, err = read(allow); err != nil {
			return fmt.Errorf("allow: %w", err)
		}
	}
	if g.block, err = read(block); err != nil {
		return fmt.Errorf("block: %w", err)
	}
	return nil
}

func (g *gate) lets(p peer.ID) bool {
	g.mu.RLock()
	defer g.mu.RUnlock()
	return !g.block[p] && (g.allow == nil || g.allow[p]) && !time.Now().Before(g.shuns[p])
}

// shun keeps a peer away for shunTime. It reports false if that is so already.
func (g *gate) shun(p peer.ID, now time.Time) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if now.Before(g.shuns[p]) {
		return false
	}
	if g.shuns == nil {
		g.shuns = map[peer.ID]time.Time{}
	}
	maps.DeleteFunc(g.shuns, func(_ peer.ID, until time.Time) bool { return !now.Before(until) })
	if len(g.shuns) >= maxShunned {
		for other := range g.shuns {
			delete(g.shuns, other)
			break
		}
	}
	g.shuns[p] = now.Add(shunTime)
	return true
}

// Block cuts off a node and keeps it away until the host ends or the block is
// taken back. Blocking twice is blocking once.
func (h *Host) Block(id workunits.NodeID, block bool) error {
	p, err := peerID(id)
	if err != nil {
		return fmt.Errorf("block: %w", err)
	}
	if p == h.base.ID() {
		return fmt.Errorf("block %s: it is this node", id)
	}
	h.gate.mu.Lock()
	if full := len(h.gate.block) >= maxListed && !h.gate.block[p]; block && full {
		h.gate.mu.Unlock()
		return fmt.Errorf("block %s: %d nodes are blocked already: %w", id, maxListed, ErrTooLarge)
	}
	if block {
		h.gate.block[p] = true
	} else {
		delete(h.gate.block, p)
	}
	h.gate.mu.Unlock()
	if block {
		_ = h.base.Network().ClosePeer(p) // it is gone either way
		h.cache.forget(id)
	}
	return nil
}

// forget drops a peer from the cache.
func (c *peerCache) forget(id workunits.NodeID) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.list = slices.DeleteFunc(c.list, func(p cachedPeer) bool { return p.ID == id })
}

// InterceptPeerDial implements connmgr.ConnectionGater.
func (g *gate) InterceptPeerDial(p peer.ID) bool { return g.lets(p) }

// InterceptAddrDial implements connmgr.ConnectionGater.
func (g *gate) InterceptAddrDial(peer.ID, ma.Multiaddr) bool { return true }

// InterceptAccept implements connmgr.ConnectionGater.
func (g *gate) InterceptAccept(network.ConnMultiaddrs) bool { return true }

// InterceptSecured implements connmgr.ConnectionGater.
func (g *gate) InterceptSecured(_ network.Direction, p peer.ID, _ network.ConnMultiaddrs) bool {
	return g.lets(p)
}

// InterceptUpgraded implements connmgr.ConnectionGater.
func (g *gate) InterceptUpgraded(network.Conn) (bool, control.DisconnectReason) { return true, 0 }
