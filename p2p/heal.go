package p2p

import (
	"context"
	"maps"
	"slices"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/p2p/net/swarm"
	ma "github.com/multiformats/go-multiaddr"
	manet "github.com/multiformats/go-multiaddr/net"
)

// deafFor is how long gossip may fail to reach a connected member before the
// connection is made anew. The node with the greater id waits three times as
// long, so that the two do not do it at once.
const deafFor = 15 * time.Second

// directAfter is how long a peer may be connected through a relay only before the
// connection is made anew, see goDirect; then four times as long, and so on, up
// to directRarely.
const (
	directAfter  = 15 * time.Second
	directRarely = time.Hour
)

// detour is a member that is connected through a relay only.
type detour struct {
	next time.Time     // when the connection is to be made anew
	wait time.Duration // from then to the time after it
}

// rankDials gives QUIC on a LAN or on loopback time to succeed before TCP is
// tried beside it: libp2p's 30 ms pass on a busy machine, both connections come
// about, and one is closed in the face of a peer that has begun to use it.
func rankDials(addrs []ma.Multiaddr) []network.AddrDelay {
	ranked := swarm.DefaultDialRanker(addrs)
	for i, r := range ranked {
		if manet.IsPrivateAddr(r.Addr) {
			ranked[i].Delay = 8 * r.Delay
		}
	}
	return ranked
}

// healGossip connects anew to members that gossip does not reach. Gossipsub
// forgets a peer's subscriptions when its own stream to that peer breaks, as
// happens when one of two connections is closed; but the peer, whose stream is
// whole, never repeats them.
func (h *Host) healGossip() {
	if h.topic == nil {
		return
	}
	now := time.Now()
	heard := h.topic.ListPeers()
	deaf := map[peer.ID]bool{}
	for _, p := range h.members() {
		if h.gossips(p) && (!slices.Contains(heard, p) || !h.gossipsTo(p)) {
			deaf[p] = true
		}
	}
	maps.DeleteFunc(h.manager.deaf, func(p peer.ID, _ time.Time) bool { return !deaf[p] })
	for p := range deaf {
		since, known := h.manager.deaf[p]
		if !known {
			h.manager.deaf[p] = now
			continue
		}
		patience := deafFor
		if h.base.ID() > p {
			patience *= 3
		}
		if now.Sub(since) > patience {
			delete(h.manager.deaf, p)
			h.log.Debug("gossip does not reach a peer; connecting anew", "peer", p)
			h.reconnect(p)
		}
	}
}

// goDirect connects anew to members that are connected through a relay only.
// libp2p tries to make a relayed connection direct once, when it comes about;
// and it does not, or in vain, if one of the two nodes has just begun and does
// not know yet how it is seen from outside. Of the two the one with the greater
// id acts.
func (h *Host) goDirect() {
	now := time.Now()
	for _, p := range h.members() {
		conns := h.base.Network().ConnsToPeer(p)
		if slices.ContainsFunc(conns, func(c network.Conn) bool { return !c.Stat().Limited }) {
			delete(h.manager.detours, p)
			continue
		}
		d, known := h.manager.detours[p]
		switch {
		case !known && len(h.manager.detours) < maxFailed:
			h.manager.detours[p] = detour{now.Add(directAfter), directAfter}
		case !known || h.base.ID() < p || now.Before(d.next) || h.busy(conns):
		default:
			wait := min(4*d.wait, directRarely)
			h.manager.detours[p] = detour{now.Add(jitter(wait)), wait}
			h.log.Debug("a peer is connected through a relay only; connecting anew", "peer", p)
			h.reconnect(p)
		}
	}
	maps.DeleteFunc(h.manager.detours, func(_ peer.ID, d detour) bool { return now.Sub(d.next) > directRarely })
}

// nextDirect is the time until goDirect has something to do.
func (h *Host) nextDirect(now time.Time) time.Duration {
	next := directRarely
	for p, d := range h.manager.detours {
		if wait := d.next.Sub(now); wait > 0 && h.base.ID() > p {
			next = min(next, wait)
		}
	}
	return next
}

// busy reports whether something is under way on the connections, beside the
// streams that are always there.
func (h *Host) busy(conns []network.Conn) bool {
	standing, _ := h.gossipProtocols()
	standing = append(standing, h.protocol("grid"))
	return slices.ContainsFunc(conns, func(c network.Conn) bool {
		return slices.ContainsFunc(c.GetStreams(), func(s network.Stream) bool { return !slices.Contains(standing, s.Protocol()) })
	})
}

// gossips reports whether the peer is connected directly, as gossipsub wants
// it, and takes part in gossip.
func (h *Host) gossips(p peer.ID) bool {
	protocols, _ := h.gossipProtocols()
	proto, err := h.base.Peerstore().FirstSupportedProtocol(p, protocols...)
	return err == nil && proto != "" && h.base.Network().Connectedness(p) == network.Connected
}

// gossipsTo reports whether there is a gossip stream to the peer.
func (h *Host) gossipsTo(p peer.ID) bool {
	protocols, _ := h.gossipProtocols()
	for _, c := range h.base.Network().ConnsToPeer(p) {
		for _, s := range c.GetStreams() {
			if s.Stat().Direction == network.DirOutbound && slices.Contains(protocols, s.Protocol()) {
				return true
			}
		}
	}
	return false
}

// reconnect closes all connections to the peer and makes a new one.
func (h *Host) reconnect(p peer.ID) {
	info := h.base.Peerstore().PeerInfo(p)
	_ = h.base.Network().ClosePeer(p) // it is gone either way
	ctx, cancel := context.WithTimeout(h.ctx, dialTime)
	defer cancel()
	if err := h.connect(ctx, info); err != nil && h.ctx.Err() == nil {
		h.log.Debug("cannot connect", "peer", p, "error", err)
	}
}
