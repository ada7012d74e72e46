package p2p

import (
	"cmp"
	"context"
	"maps"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"
	manet "github.com/multiformats/go-multiaddr/net"
)

// The peer manager keeps a node in touch with some members of its network, of
// its own choice, whoever else may dial it.
const (
	minPeers    = 8  // fewer, and it looks for more
	wantPeers   = 10 // and stops looking at
	minOwn      = 4  // of them dialled by this node: whoever dials it may be one and the same
	maxProtect  = 12 // peers that are never closed for want of room
	maxDialled  = 6  // of which so many dialled this node
	maxOfRange  = 3  // and so many are of one neighbourhood
	dialsAtOnce = 4
	dialTime    = 15 * time.Second
	lookTime    = 20 * time.Second
	lookSoon    = 250 * time.Millisecond // after something has changed
	lookRarely  = time.Minute            // when nothing comes of it
	retryFirst  = 5 * time.Second        // a peer that could not be reached, or hung up, is left alone
	retryLast   = 10 * time.Minute
	staysAfter  = 10 * time.Second // a connection is there to stay
	maxFailed   = 1024
	protectTag  = "talka"
)

// manager is the peer manager's state. Only manage uses it, but for the channel.
type manager struct {
	woken     chan struct{}
	anew      chan struct{} // has a token when nothing counts that was tried before
	failed    map[peer.ID]failure
	protected map[peer.ID]bool
	met       bool                  // the node has told the rendezvous that it is there
	deaf      map[peer.ID]time.Time // members that gossip does not reach, since when
	detours   map[peer.ID]detour    // members that are reached through a relay only
	direct    map[peer.ID]bool      // members that were not when the manager last looked
}

type failure struct {
	until time.Time
	wait  time.Duration
}

func newManager() manager {
	return manager{woken: make(chan struct{}, 1), anew: make(chan struct{}, 1), failed: map[peer.ID]failure{}, protected: map[peer.ID]bool{}, deaf: map[peer.ID]time.Time{}, detours: map[peer.ID]detour{}}
}

// wake makes the manager look at the peers soon.
func (m *manager) wake() { wake(m.woken) }

// manage looks at the peers whenever they change, and now and then. If looking
// does not help it waits longer each time.
func (h *Host) manage() {
	wait, known := lookSoon, h.known
	for {
		if h.lookAround() {
			wait = lookSoon
		}
		if len(h.manager.deaf) > 0 {
			wait = min(wait, deafFor)
		}
		wait = min(wait, h.nextDirect(time.Now()))
		select {
		case <-known:
			known = nil
		case <-time.After(jitter(wait)):
			wait = min(2*wait, lookRarely)
		case <-h.manager.anew:
			h.manager.forgetFailures()
			wait = lookSoon
		case <-h.manager.woken:
			wait = lookSoon
			select { // several changes come together
			case <-time.After(lookSoon):
			case <-h.ctx.Done():
			}
		case <-h.ctx.Done():
			return
		}
	}
}

// lookAround does what is to be done now. It reports whether a peer was gained.
func (h *Host) lookAround() (gained bool) {
	h.forgive(time.Now())
	h.protect()
	h.healGossip()
	h.seeAnew()
	h.goDirect()
	have := h.members()
	if len(have) == 0 {
		gained = h.dialSome(h.seeds(), wantPeers)
	}
	if h.dht.RoutingTable().Size() > 0 && !h.manager.met {
		// From now on provideAll repeats it.
		h.manager.met = h.Provide(h.ctx, h.rendezvous()) == nil
	}
	have = h.members()
	own := len(slices.DeleteFunc(slices.Clone(have), func(p peer.ID) bool { return !h.dialled(p) }))
	if n := len(have); n > 0 && (n < minPeers || own < minOwn) {
		gained = h.dialSome(h.candidates(), max(wantPeers-n, minOwn-own)) || gained
	}
	return gained
}

// seeds are the peers to begin with: those of the config, the cache and the LAN.
func (h *Host) seeds() (all []peer.AddrInfo) {
	for _, p := range slices.Concat(h.cfg.Peers, h.cache.peers()) {
		if info, err := p.info(); err == nil && info.ID != h.base.ID() {
			all = append(all, info)
		}
	}
	return append(all, h.local.peers()...)
}

// candidates are members that the node may not be connected to: those that met
// at the rendezvous, those in the routing table, those that members tell of, and
// the seeds.
func (h *Host) candidates() []peer.AddrInfo {
	ctx, cancel := context.WithTimeout(h.ctx, lookTime)
	defer cancel()
	all := h.findProviders(ctx, h.rendezvous(), maxFound)
	for _, p := range h.dht.RoutingTable().ListPeers() {
		all = append(all, h.base.Peerstore().PeerInfo(p))
	}
	h.askAround()
	return slices.Concat(all, h.introduced.peers(), h.seeds())
}

// dialSome connects to up to n of the candidates, in random order, those from
// address ranges without a peer first. It reports whether one was gained.
func (h *Host) dialSome(candidates []peer.AddrInfo, n int) bool {
	var (
		mu     sync.Mutex
		gained int
		group  sync.WaitGroup
	)
	queue := h.inOrder(candidates)
	for range dialsAtOnce {
		group.Go(func() {
			for {
				mu.Lock()
				if gained >= n || len(queue) == 0 || h.ctx.Err() != nil {
					mu.Unlock()
					return
				}
				next := queue[0]
				queue = queue[1:]
				mu.Unlock()
				err := h.dialOne(next)
				mu.Lock()
				h.fail(next.ID) // unless it stays, see forgive
				if err == nil {
					gained++
				}
				mu.Unlock()
			}
		})
	}
	group.Wait()
	return gained > 0
}

func (h *Host) dialOne(info peer.AddrInfo) error {
	ctx, cancel := context.WithTimeout(h.ctx, dialTime)
	defer cancel()
	err := h.connect(ctx, info)
	if err != nil && h.ctx.Err() == nil {
		h.log.Debug("cannot connect", "peer", info.ID, "error", err)
	}
	return err
}

// inOrder removes duplicates and those not to be dialled, and sorts the rest.
func (h *Host) inOrder(candidates []peer.AddrInfo) []peer.AddrInfo {
	now := time.Now()
	byID := map[peer.ID]peer.AddrInfo{}
	for _, c := range candidates {
		if c.ID == h.base.ID() || h.club.removed(c.ID) || h.manager.failed[c.ID].until.After(now) || h.base.Network().Connectedness(c.ID) != network.NotConnected {
			continue
		}
		known := byID[c.ID]
		byID[c.ID] = peer.AddrInfo{ID: c.ID, Addrs: append(known.Addrs, c.Addrs...)}
	}
	held := map[netip.Prefix]int{}
	for _, c := range h.base.Network().Conns() {
		held[neighbourhood(c.RemoteMultiaddr())]++
	}
	crowd := func(p peer.AddrInfo) (n int) {
		for _, a := range p.Addrs {
			if g := neighbourhood(a); g.IsValid() {
				n = max(n, held[g])
			}
		}
		return n
	}
	queue := slices.Collect(maps.Values(byID))
	shuffle(queue)
	slices.SortStableFunc(queue, func(a, b peer.AddrInfo) int { return cmp.Compare(crowd(a), crowd(b)) })
	return queue
}

// neighbourhood is the range of a public address that is likely in one hand: an
// IPv4 /16 or an IPv6 /32. Other addresses have none.
func neighbourhood(a ma.Multiaddr) netip.Prefix {
	ip, err := manet.ToIP(a)
	if err != nil || !manet.IsPublicAddr(a) {
		return netip.Prefix{}
	}
	addr, _ := netip.AddrFromSlice(ip)
	addr = addr.Unmap()
	bits := 32
	if addr.Is4() {
		bits = 16
	}
	p, err := addr.Prefix(bits)
	if err != nil {
		return netip.Prefix{}
	}
	return p
}

// forgive forgets the failures of peers that are there to stay. A peer that does not
// want this node has connected, as it seems, before its refusal comes: it is left
// alone for longer and longer, like one that cannot be reached.
func (h *Host) forgive(now time.Time) {
	stays := func(c network.Conn) bool { return now.Sub(c.Stat().Opened) > staysAfter }
	maps.DeleteFunc(h.manager.failed, func(p peer.ID, _ failure) bool {
		return slices.ContainsFunc(h.base.Network().ConnsToPeer(p), stays)
	})
}

// fail remembers that a peer could not be reached, so that it is left alone.
func (h *Host) fail(p peer.ID) {
	now := time.Now()
	if len(h.manager.failed) >= maxFailed {
		maps.DeleteFunc(h.manager.failed, func(_ peer.ID, f failure) bool { return f.until.Before(now) })
		if len(h.manager.failed) >= maxFailed {
			clear(h.manager.failed)
		}
	}
	wait := min(max(2*h.manager.failed[p].wait, retryFirst), retryLast)
	h.manager.failed[p] = failure{until: now.Add(jitter(wait)), wait: wait}
}

// dialled reports whether this node opened a connection to the peer.
func (h *Host) dialled(p peer.ID) bool {
	return slices.ContainsFunc(h.base.Network().ConnsToPeer(p), func(c network.Conn) bool { return c.Stat().Direction == network.DirOutbound })
}

// protect keeps some members from being closed for room, see protectable.
func (h *Host) protect() {
	var have []tie
	for _, p := range h.members() {
		l := tie{id: p, own: h.dialled(p)}
		for _, c := range h.base.Network().ConnsToPeer(p) {
			if place := neighbourhood(c.RemoteMultiaddr()); place.IsValid() {
				l.place = place
			}
		}
		have = append(have, l)
	}
	shuffle(have)
	chosen := protectable(have, h.manager.protected)
	conns := h.base.ConnManager()
	for p := range h.manager.protected {
		if !chosen[p] {
			conns.Unprotect(p, protectTag)
		}
	}
	for p := range chosen {
		conns.Protect(p, protectTag)
	}
	h.manager.protected = chosen
}

// tie is what the choice of protected peers needs of a member.
type tie struct {
	id    peer.ID
	own   bool         // this node dialled it
	place netip.Prefix // the neighbourhood of its public address, if it has one
}

// protectable chooses whom to protect: first those that this node dialled, of
// them those that were protected before, and none beyond its kind's share.
// Whoever has many identities, all in one place or all dialling this node,
// does not take all places.
func protectable(have []tie, before map[peer.ID]bool) map[peer.ID]bool {
	rank := func(l tie) (n int) {
		if !l.own {
			n += 2
		}
		if !before[l.id] {
			n++
		}
		return n
	}
	slices.SortStableFunc(have, func(a, b tie) int { return cmp.Compare(rank(a), rank(b)) })
	chosen := map[peer.ID]bool{}
	dialledUs, near := 0, map[netip.Prefix]int{}
	for _, l := range have {
		if len(chosen) == maxProtect {
			break
		}
		if (!l.own && dialledUs == maxDialled) || (l.place.IsValid() && near[l.place] == maxOfRange) {
			continue
		}
		chosen[l.id] = true
		near[l.place]++
		if !l.own {
			dialledUs++
		}
	}
	return chosen
}
