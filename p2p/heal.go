package p2p

import (
	"cmp"
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
// to directRarely. At first it is directSoon where the direct way was there until now,
// and when this node has learned anew how it is seen.
const (
	directSoon   = 2 * time.Second
	directAfter  = 15 * time.Second
	directRarely = time.Hour
	seeFirst     = time.Minute // between two connections for the sake of seeAnew
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
// not know yet how it is seen from outside; nor does it when the direct connection
// ends and the relayed one beside it lives on, as when a router gets another
// address. Of the two the one with the greater id acts; soon after such an end the
// other does as well, but later, since the first may not have noticed it.
func (h *Host) goDirect() {
	now, direct := time.Now(), map[peer.ID]bool{}
	for _, p := range h.members() {
		conns := h.base.Network().ConnsToPeer(p)
		if slices.ContainsFunc(conns, func(c network.Conn) bool { return !c.Stat().Limited }) {
			delete(h.manager.detours, p)
			direct[p] = true
			continue
		}
		d, known := h.manager.detours[p]
		switch {
		case !known && h.manager.direct[p] && len(h.manager.detours) < maxFailed:
			h.reach.doubt()
			h.manager.detours[p] = h.soon(p)
		case !known && len(h.manager.detours) < maxFailed:
			h.manager.detours[p] = detour{now.Add(directAfter), directAfter}
		case !known || !h.acts(p, d) || now.Before(d.next) || h.inUse(conns):
		default:
			wait := min(max(4*d.wait, directAfter), directRarely)
			h.manager.detours[p] = detour{now.Add(jitter(wait)), wait}
			h.log.Debug("a peer is connected through a relay only; connecting anew", "peer", p)
			h.reconnect(p)
		}
	}
	h.manager.direct = direct
	maps.DeleteFunc(h.manager.detours, func(_ peer.ID, d detour) bool { return now.Sub(d.next) > directRarely })
}

// soon is a detour that is to end soon.
func (h *Host) soon(p peer.ID) detour {
	wait := directSoon
	if h.base.ID() < p {
		wait *= 3
	}
	return detour{time.Now().Add(wait), directSoon}
}

// acts reports whether this node is the one to make a connection direct.
func (h *Host) acts(p peer.ID, d detour) bool { return h.base.ID() > p || d.wait == directSoon }

// seeAnew connects anew to one of those who can tell how this node is seen from
// outside, once that is in doubt. When the router in front gets
// another address, connections of QUIC go on over it, and no end of them says so:
// what libp2p knows is the address that each had when it began.
func (h *Host) seeAnew() {
	if !h.reach.doubtful(time.Now()) {
		return
	}
	var can []network.Conn
	for _, p := range h.members() {
		conns := h.base.Network().ConnsToPeer(p)
		if len(conns) != 1 || conns[0].Stat().Limited || conns[0].Stat().Direction != network.DirOutbound || !manet.IsPublicAddr(conns[0].RemoteMultiaddr()) {
			continue
		}
		if !h.inUse(conns) {
			can = append(can, conns[0])
		}
	}
	if len(can) == 0 {
		return
	}
	shuffle(can)
	// A peer behind a router of its own was reached through a hole, which may be gone.
	rank := func(c network.Conn) int {
		if h.canRelay(c.RemotePeer()) {
			return 0
		}
		return 1
	}
	idlest := slices.MinFunc(can, func(a, b network.Conn) int {
		return cmp.Or(cmp.Compare(rank(a), rank(b)), cmp.Compare(a.Stat().NumStreams, b.Stat().NumStreams))
	})
	h.log.Debug("this node may be seen otherwise; connecting anew to a peer that sees its address", "peer", idlest.RemotePeer())
	h.reconnect(idlest.RemotePeer())
	for p := range h.manager.detours {
		h.manager.detours[p] = h.soon(p)
	}
}

// nextDirect is the time until goDirect has something to do.
func (h *Host) nextDirect(now time.Time) time.Duration {
	next := directRarely
	for p, d := range h.manager.detours {
		switch wait := d.next.Sub(now); {
		case !h.acts(p, d):
		case wait > 0:
			next = min(next, wait)
		default: // it was in use
			next = min(next, directAfter)
		}
	}
	return next
}

// inUse reports whether data is under way on one of the connections.
func (h *Host) inUse(conns []network.Conn) bool {
	return slices.ContainsFunc(conns, func(c network.Conn) bool {
		return slices.ContainsFunc(c.GetStreams(), func(s network.Stream) bool { return h.carries(s.Protocol()) })
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
