package p2p

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p"
	"github.com/libp2p/go-libp2p/core/event"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/p2p/host/autorelay"
	basichost "github.com/libp2p/go-libp2p/p2p/host/basic"
	"github.com/libp2p/go-libp2p/p2p/host/eventbus"
	"github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/proto"
	"github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/relay"
	"github.com/libp2p/go-libp2p/p2p/protocol/holepunch"
	ma "github.com/multiformats/go-multiaddr"
	manet "github.com/multiformats/go-multiaddr/net"

	"github.com/talka-grid/talka/workunits"
)

// Limits of the relay service that publicly reachable nodes offer to members.
// libp2p's default of 128 KiB for a circuit lets no result through.
const (
	relayBytes    = 64 << 20
	relayDuration = 30 * time.Minute
	relaySlots    = 32
	relayPerIP    = 16
	relayLook     = 5 * time.Second // between two looks for relays
	relayAgain    = time.Minute     // before a relay that refused is asked again: it may not have known this node yet
)

// reachOptions are about being reached behind NATs. A host on loopback needs
// none of it.
func (h *Host) reachOptions() []libp2p.Option {
	if h.lan || h.cfg.NoNAT {
		return []libp2p.Option{libp2p.DisableRelay(), libp2p.DisableIdentifyAddressDiscovery()}
	}
	options := []libp2p.Option{
		libp2p.EnableRelay(),
		libp2p.NATManager(func(n network.Network) basichost.NATManager {
			r := newRouter(n)
			h.reach.setRouter(r)
			return r
		}),
		libp2p.EnableHolePunching(holepunch.WithTracer(&h.reach)),
		libp2p.EnableNATService(),
		libp2p.EnableAutoNATv2(),
		libp2p.EnableRelayService(relay.WithResources(relayResources()), relay.WithACL(membersOnly{h})),
	}
	if h.cfg.Seed {
		// It serves at once, even as the first node that anybody can reach, when
		// nobody is there to confirm it.
		return append(options, libp2p.ForceReachabilityPublic())
	}
	return append(options, libp2p.EnableAutoRelayWithPeerSource(h.relays,
		autorelay.WithMinInterval(relayLook), autorelay.WithBackoff(relayAgain), autorelay.WithBootDelay(relayLook), autorelay.WithMinCandidates(1)))
}

func relayResources() relay.Resources {
	r := relay.DefaultResources()
	r.Limit = &relay.RelayLimit{Duration: relayDuration, Data: relayBytes}
	r.MaxReservations = relaySlots
	r.MaxReservationsPerIP = relayPerIP
	return r
}

// membersOnly keeps strangers from using this node as their relay.
type membersOnly struct{ h *Host }

func (m membersOnly) AllowReserve(p peer.ID, _ ma.Multiaddr) bool { return m.h.member(p) }

func (m membersOnly) AllowConnect(src peer.ID, _ ma.Multiaddr, dest peer.ID) bool {
	return m.h.member(src) && m.h.member(dest)
}

// relays offers connected peers that can relay, at most num. It is called while
// the host is made, too.
func (h *Host) relays(_ context.Context, num int) <-chan peer.AddrInfo {
	found := make(chan peer.AddrInfo, max(num, 0))
	defer close(found)
	select {
	case <-h.started:
	default:
		return found
	}
	for _, p := range h.members() {
		if len(found) == cap(found) {
			break
		}
		if h.canRelay(p) {
			found <- h.base.Peerstore().PeerInfo(p)
		}
	}
	return found
}

// canRelay reports whether a peer serves as a relay, as those do that are publicly
// reachable.
func (h *Host) canRelay(p peer.ID) bool {
	can, err := h.base.Peerstore().FirstSupportedProtocol(p, proto.ProtoIDv2Hop)
	return err == nil && can != ""
}

// Reach tells how others can reach a node, as far as it knows. What others say
// of it takes some minutes to become known.
type Reach struct {
	// Loopback means that the node listens for this machine only.
	Loopback bool
	// Public and Private mean that others outside have tried: with success, in
	// vain (or are about to: a node with private addresses only counts as private
	// until then). Neither means that nobody has said so yet.
	Public, Private bool
	// UDP and TCP are what the router in front of the node does, if it is known.
	UDP, TCP Router
	// Router means that a router takes orders (UPnP, NAT-PMP, PCP); Forwards,
	// that it forwards a port.
	Router, Forwards bool
	// Relays are the peers by which others reach the node indirectly.
	Relays []workunits.NodeID
	// Punched and Failed count attempts to make a relayed connection direct.
	Punched, Failed int
	// QUIC and Other count direct connections to members outside the LAN, LAN
	// those on it, Relayed those that only go through a relay.
	QUIC, Other, LAN, Relayed int
	// Listen are the addresses that the node listens on.
	Listen []string
}

// Router is how a router treats connections that begin inside.
type Router string

// The routers. An easy one keeps the port for all that a node talks to, so that
// two nodes behind such routers reach each other directly. A hard one does not.
const (
	UnknownRouter Router = ""
	EasyRouter    Router = "easy"
	HardRouter    Router = "hard"
)

// reachability is what libp2p has told of it.
type reachability struct {
	mu              sync.Mutex
	public, private bool // AutoNAT's first version: of the node
	reached         bool // its second: of an address
	assumed         bool // private, before anybody had looked
	udp, tcp        Router
	router          *router // nil without
	relays          []ma.Multiaddr
	punched, failed int
	woke            func()        // called when there is a doubt
	doubts          int           // reasons to doubt how the node is seen from outside
	seen            int           // of them, those that seeAnew has answered
	seeNext         time.Time     // none is answered before
	seeWait         time.Duration // from then to the time after it
}

func (r *reachability) setRouter(m *router) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.router = m
}

// anew forgets what was assumed of the place, and looks for a router again. What
// others have found out stays until libp2p says otherwise.
func (r *reachability) anew() {
	r.mu.Lock()
	router := r.router
	r.assumed, r.seeNext, r.seeWait = false, time.Time{}, 0
	r.mu.Unlock()
	if router != nil {
		router.anew(time.Now())
	}
}

// seek looks for a router again if there is none, now and then.
func (r *reachability) seek(now time.Time) {
	r.mu.Lock()
	router := r.router
	r.mu.Unlock()
	if router != nil {
		router.seek(now)
	}
}

// Trace implements holepunch.EventTracer.
func (r *reachability) Trace(e *holepunch.Event) {
	end, ok := e.Evt.(*holepunch.EndHolePunchEvt)
	if !ok {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if end.Success {
		r.punched++
		r.seeNext, r.seeWait = time.Time{}, 0
	} else {
		r.failed++
		r.doubts++
		r.woke()
	}
}

// doubt notes a reason to doubt how the node is seen from outside, as a failed attempt
// to make a hole is one.
func (r *reachability) doubt() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.doubts++
	r.woke()
}

// doubtful reports whether there is a doubt that nothing was done about, and that it
// is now to be.
func (r *reachability) doubtful(now time.Time) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.doubts == r.seen || now.Before(r.seeNext) {
		return false
	}
	r.seeWait = min(max(4*r.seeWait, seeFirst), directRarely)
	r.seen, r.seeNext = r.doubts, now.Add(jitter(r.seeWait))
	return true
}

// assume takes the node to be behind a router as soon as a connection goes outside
// while all its own addresses are private. AutoNAT says the same, or otherwise,
// half a minute later; until then nobody behind such a router could be reached,
// since relays are asked only by who knows that it needs them.
func (h *Host) assume(conn network.Conn) {
	if h.lan || h.cfg.NoNAT || h.cfg.Seed || conn.Stat().Limited || !manet.IsPublicAddr(conn.RemoteMultiaddr()) {
		return
	}
	own, err := h.base.Network().InterfaceListenAddresses()
	if err != nil || slices.ContainsFunc(own, manet.IsPublicAddr) || !h.reach.assume() {
		return
	}
	emitter, err := h.base.EventBus().Emitter(new(event.EvtLocalReachabilityChanged), eventbus.Stateful)
	if err == nil {
		err = errors.Join(emitter.Emit(event.EvtLocalReachabilityChanged{Reachability: network.ReachabilityPrivate}), emitter.Close())
	}
	if err != nil {
		h.log.Debug("cannot tell that the node is behind a router", "error", err)
	}
}

// assume notes that the node is taken to be private. It reports false if that
// was done before, or more is known.
func (r *reachability) assume() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.assumed || r.public || r.private || r.reached {
		return false
	}
	r.assumed = true
	return true
}

// watchReach notes what libp2p finds out about the node's place in the internet.
func (h *Host) watchReach() {
	events, err := h.base.EventBus().Subscribe([]any{
		new(event.EvtLocalReachabilityChanged), new(event.EvtHostReachableAddrsChanged),
		new(event.EvtNATDeviceTypeChanged), new(event.EvtAutoRelayAddrsUpdated),
	}, eventbus.Name("talka-reach"))
	if err != nil {
		h.log.Error("cannot watch reachability", "error", err)
		return
	}
	defer events.Close()
	for {
		select {
		case e := <-events.Out():
			h.reach.note(e)
		case <-h.ctx.Done():
			return
		}
	}
}

func (r *reachability) note(e any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch e := e.(type) {
	case event.EvtLocalReachabilityChanged:
		r.public, r.private = e.Reachability == network.ReachabilityPublic, e.Reachability == network.ReachabilityPrivate
	case event.EvtHostReachableAddrsChanged:
		r.reached = len(e.Reachable) > 0
	case event.EvtAutoRelayAddrsUpdated:
		r.relays = e.RelayAddrs
	case event.EvtNATDeviceTypeChanged:
		kind := UnknownRouter
		switch e.NatDeviceType {
		case network.NATDeviceTypeEndpointIndependent:
			kind = EasyRouter
		case network.NATDeviceTypeEndpointDependent:
			kind = HardRouter
		}
		if e.TransportProtocol == network.NATTransportUDP {
			r.udp = kind
		} else {
			r.tcp = kind
		}
	}
}

// Reach tells how others can reach the node.
func (h *Host) Reach() Reach {
	listen := h.base.Network().ListenAddresses()
	out := h.reach.now(listen)
	out.Loopback = h.lan
	for _, a := range best(listen, maxAddrs) {
		out.Listen = append(out.Listen, a.String())
	}
	for _, p := range h.members() {
		switch conns := h.base.Network().ConnsToPeer(p); {
		case len(conns) == 0:
		case !slices.ContainsFunc(conns, func(c network.Conn) bool { return !c.Stat().Limited }):
			out.Relayed++
		case onLAN(conns):
			out.LAN++
		case slices.ContainsFunc(conns, func(c network.Conn) bool { return c.ConnState().Transport == "quic-v1" }):
			out.QUIC++
		default:
			out.Other++
		}
	}
	return out
}

func (r *reachability) now(listen []ma.Multiaddr) Reach {
	r.mu.Lock()
	defer r.mu.Unlock()
	out := Reach{
		Public: r.public || r.reached, Private: r.private && !r.reached,
		UDP: r.udp, TCP: r.tcp, Punched: r.punched, Failed: r.failed,
		Relays: []workunits.NodeID{}, Listen: []string{},
	}
	if r.router != nil {
		out.Router = r.router.HasDiscoveredNAT()
		out.Forwards = slices.ContainsFunc(listen, func(a ma.Multiaddr) bool { return r.router.GetMapping(a) != nil })
	}
	for _, a := range r.relays {
		text, err := a.ValueForProtocol(ma.P_P2P)
		if err != nil {
			continue
		}
		p, err := peer.Decode(text)
		if err != nil {
			continue
		}
		if id, ok := nodeID(p); ok && !slices.Contains(out.Relays, id) {
			out.Relays = append(out.Relays, id)
		}
	}
	slices.SortFunc(out.Relays, workunits.NodeID.Compare)
	return out
}

// onLAN reports whether one of the connections is direct and stays on the LAN.
func onLAN(conns []network.Conn) bool {
	return slices.ContainsFunc(conns, func(c network.Conn) bool {
		return !c.Stat().Limited && manet.IsPrivateAddr(c.RemoteMultiaddr())
	})
}
