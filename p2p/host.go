package p2p

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p"
	dht "github.com/libp2p/go-libp2p-kad-dht"
	pubsub "github.com/libp2p/go-libp2p-pubsub"
	"github.com/libp2p/go-libp2p/core/connmgr"
	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/event"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/peerstore"
	"github.com/libp2p/go-libp2p/core/protocol"
	"github.com/libp2p/go-libp2p/p2p/host/eventbus"
	routedhost "github.com/libp2p/go-libp2p/p2p/host/routed"
	"github.com/libp2p/go-libp2p/p2p/net/swarm"
	ma "github.com/multiformats/go-multiaddr"
	manet "github.com/multiformats/go-multiaddr/net"

	"github.com/talka-grid/talka/workunits"
)

// Errors that callers can act upon.
var (
	// ErrNetwork means that the peer or the invite belongs to another network.
	ErrNetwork = errors.New("another network")
	// ErrUnreachable means that no connection to the peer could be made. Later
	// it may succeed.
	ErrUnreachable = errors.New("peer is unreachable")
	// ErrAddr means that an address is none.
	ErrAddr = errors.New("no address of a peer")
	// ErrTooLarge means that what was to be sent exceeds a limit of this package.
	ErrTooLarge = errors.New("too large")
	// ErrClosed means that the host has ended.
	ErrClosed = errors.New("network is closed")
)

// seedTTL is how long the addresses of seeds are tried without being confirmed.
const seedTTL = time.Hour

// Host is a node's place in its network. See the package comment.
type Host struct {
	cfg    Config
	log    *slog.Logger
	self   workunits.NodeID
	lan    bool // listens on loopback only
	base   host.Host
	routed host.Host // base that asks the DHT where a peer is
	dht    *dht.IpfsDHT
	gossip *pubsub.PubSub // nil without gossip
	topic  *pubsub.Topic  // nil without gossip

	ctx        context.Context // ends with the host
	cancel     context.CancelFunc
	started    chan struct{} // closed by Run
	known      chan struct{} // closed when the DHT has its first peer
	links      links
	inbound    inbound
	cache      *peerCache
	newcomer   chan struct{} // has one when a member came since the cache was noted
	keys       provided
	manager    manager
	local      lanPeers
	reach      reachability
	introduced introduced
	gate       gate
	club       *club    // nil in an open network
	metrics    *metrics // nil without
	scores     scores
	spoken     connmgr.DecayingTag // on those to whom frames were sent
	pulls      chan peer.ID        // peers to pull announcements from

	mu       sync.Mutex
	running  bool
	closed   bool
	handlers handlers
	probing  map[string]struct{} // connections by id
	group    sync.WaitGroup
}

// handlers are what callers registered.
type handlers struct {
	frames    func(ctx context.Context, from workunits.NodeID, frame []byte)
	validate  Validator
	deliver   func(data []byte)
	catalogue Catalogue
}

// New listens and prepares everything; the host does its work in Run. Close it
// if Run is never called.
func New(cfg Config) (*Host, error) {
	cfg, listen, err := cfg.checked()
	if err != nil {
		return nil, fmt.Errorf("p2p: %w", err)
	}
	h := &Host{
		cfg: cfg, log: cfg.Logger, self: workunits.NodeIDOf(cfg.Key), lan: onlyLoopback(listen),
		started: make(chan struct{}), known: make(chan struct{}), pulls: make(chan peer.ID, 64), probing: map[string]struct{}{},
		keys: newProvided(), manager: newManager(), links: newLinks(), inbound: newInbound(), newcomer: make(chan struct{}, 1),
	}
	h.introduced.asked = map[peer.ID]time.Time{}
	h.local.woke, h.local.anew, h.reach.woke = h.manager.wake, make(chan struct{}, 1), h.manager.wake
	if err := h.gate.set(cfg.Allow, cfg.Block); err != nil {
		return nil, fmt.Errorf("p2p: %w", err)
	}
	if cfg.Metrics != nil {
		h.metrics = newMetrics(cfg.Network)
	}
	if h.club, err = cfg.Private.open(h.self, cfg.Key, cfg.Network); err != nil {
		return nil, fmt.Errorf("p2p: %w", err)
	}
	h.ctx, h.cancel = context.WithCancel(context.Background())
	if h.cache, err = readCache(cfg.CachePath, cfg.Network); err != nil {
		h.log.Warn("peer cache is unreadable and will be replaced", "path", cfg.CachePath, "error", err)
	}
	if err := h.open(listen); err != nil {
		return nil, errors.Join(fmt.Errorf("p2p: %w", err), h.Close())
	}
	return h, nil
}

// open builds the libp2p host. It listens last, so that whoever connects finds
// every protocol in place.
func (h *Host) open(listen []ma.Multiaddr) error {
	options, err := h.options()
	if err != nil {
		return err
	}
	if h.base, err = libp2p.New(append(options, h.cfg.Libp2p...)...); err != nil {
		return err
	}
	if h.dht, err = h.newDHT(); err != nil {
		return fmt.Errorf("dht: %w", err)
	}
	h.routed = routedhost.Wrap(h.base, h.dht)
	if err := h.openGossip(); err != nil {
		return fmt.Errorf("gossip: %w", err)
	}
	h.base.SetStreamHandler(h.protocol("grid"), h.streamHandler(h.receive))
	h.base.SetStreamHandler(h.protocol("peers"), h.streamHandler(h.tell))
	if h.club != nil {
		h.base.SetStreamHandler(h.protocol("member"), h.streamHandler(h.hear))
	}
	if !h.cfg.NoCatalogue {
		h.base.SetStreamHandler(h.protocol("catalogue"), h.streamHandler(h.answer))
	}
	events, err := h.base.EventBus().Subscribe([]any{
		new(event.EvtPeerIdentificationCompleted), new(event.EvtPeerIdentificationFailed),
		new(event.EvtPeerProtocolsUpdated), new(event.EvtPeerConnectednessChanged),
	}, eventbus.BufSize(256), eventbus.Name("talka"))
	if err != nil {
		return err
	}
	h.spawn(func() { h.watch(events) })
	h.spawn(h.watchReach)
	for _, seed := range h.seeds() {
		h.base.Peerstore().AddAddrs(seed.ID, seed.Addrs, seedTTL)
	}
	h.base.Network().Notify(&network.NotifyBundle{ConnectedF: h.doubted})
	if err := h.base.Network().Listen(listen...); err != nil {
		return fmt.Errorf("listen: %w", err)
	}
	return nil
}

func (h *Host) options() ([]libp2p.Option, error) {
	key, err := crypto.UnmarshalEd25519PrivateKey(h.cfg.Key)
	if err != nil {
		return nil, err
	}
	limits, err := h.resourceManager()
	if err != nil {
		return nil, err
	}
	conns, err := connManager(h.cfg.Limits)
	if err != nil {
		return nil, err
	}
	if h.spoken, err = spokenTag(conns); err != nil {
		return nil, err
	}
	options := []libp2p.Option{
		libp2p.Identity(key),
		libp2p.NoListenAddrs,
		libp2p.ResourceManager(&inUse{ResourceManager: limits, conns: conns, carries: h.carries, streams: map[peer.ID]int{}}),
		libp2p.ConnectionManager(conns),
		libp2p.ConnectionGater(&h.gate),
		libp2p.UserAgent("talka"),
		libp2p.SwarmOpts(swarm.WithDialRanker(rankDials)),
		libp2p.WithDialTimeout(15 * time.Second),
	}
	counting, err := h.metricsOptions()
	if err != nil {
		return nil, err
	}
	options = slices.Concat(options, h.transports(), counting)
	return append(options, h.reachOptions()...), nil
}

// secret is what the nodes of the network know: its name, and in a private network
// the key that they keep to themselves.
func (h *Host) secret() []byte {
	if h.club == nil {
		return []byte(h.cfg.Network)
	}
	return append([]byte(h.cfg.Network+"\x00"), h.club.Private.State.Key[:]...)
}

// protocol is the id of one of the network's protocols.
func (h *Host) protocol(name string) protocol.ID {
	return protocol.ID("/talka/" + h.cfg.Network + "/" + name + "/1")
}

func onlyLoopback(listen []ma.Multiaddr) bool {
	return !slices.ContainsFunc(listen, func(a ma.Multiaddr) bool { return !manet.IsIPLoopback(a) })
}

// Run does the host's work until ctx ends: it finds peers, keeps connections,
// answers, announces and writes the cache. Then it closes everything, waits for
// all of it, and returns. It may be called once.
func (h *Host) Run(ctx context.Context) error {
	h.mu.Lock()
	if h.running || h.closed {
		h.mu.Unlock()
		return fmt.Errorf("p2p: run: %w", ErrClosed)
	}
	h.running = true
	h.mu.Unlock()
	defer context.AfterFunc(ctx, h.cancel)()
	close(h.started)
	h.spawn(h.listenGossip)
	h.spawn(h.pullCatalogues)
	h.spawn(h.keepMembers)
	h.spawn(h.manage)
	h.spawn(h.keepLookout)
	h.spawn(h.provideAll)
	h.spawn(h.keepCache)
	h.spawn(h.listenLAN)
	<-h.ctx.Done()
	return h.Close()
}

// Close ends the host and waits for all that it started. It is what Run does at
// its end; further calls do nothing.
func (h *Host) Close() error {
	h.mu.Lock()
	if h.closed {
		h.mu.Unlock()
		return nil
	}
	h.closed = true
	h.mu.Unlock()
	h.cancel()
	h.group.Wait()
	var errs []error
	if h.dht != nil {
		errs = append(errs, h.dht.Close())
	}
	if h.base != nil {
		errs = append(errs, h.base.Close())
	}
	return errors.Join(errs...)
}

// enter makes Close wait for one more h.group.Done. It reports false if the
// host has ended.
func (h *Host) enter() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if !h.closed {
		h.group.Add(1)
	}
	return !h.closed
}

// spawn runs f, which ends with h.ctx, on a goroutine that Close waits for,
// unless the host has ended.
func (h *Host) spawn(f func()) {
	if !h.enter() {
		return
	}
	go func() {
		defer h.group.Done()
		f()
	}()
}

// registered returns what callers have registered by now.
func (h *Host) registered() handlers {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.handlers
}

// ID is the node's id.
func (h *Host) ID() workunits.NodeID { return h.self }

// Libp2p is the host itself, for packages below this one. It asks the DHT for
// peers whose addresses it does not know.
func (h *Host) Libp2p() host.Host { return h.routed }

// Addrs are the addresses at which others may reach the node, best first, each
// with its id. They change as the node learns how it is seen from outside.
func (h *Host) Addrs() []string {
	all := []string{}
	for _, a := range best(h.base.Addrs(), maxAddrs) {
		all = append(all, a.String()+"/p2p/"+h.self.String())
	}
	return all
}

// Peers lists the connected peers of the network, by id.
func (h *Host) Peers() []PeerInfo {
	all := []PeerInfo{}
	for _, p := range h.members() {
		conns := h.base.Network().ConnsToPeer(p)
		id, ok := nodeID(p)
		if !ok || len(conns) == 0 {
			continue
		}
		info := describe(id, conns, h.base.Peerstore().LatencyEWMA(p))
		info.Protected = h.base.ConnManager().IsProtected(p, protectTag)
		info.Score = h.scores.of(p)
		all = append(all, info)
	}
	slices.SortFunc(all, func(a, b PeerInfo) int { return a.ID.Compare(b.ID) })
	return all
}

// Near reports whether a connected member is reached on the LAN or this machine
// alone: none of its connections leads to the internet, and one is direct.
func (h *Host) Near(id workunits.NodeID) bool {
	p, err := peerID(id)
	return err == nil && h.member(p) && h.NearPeer(p)
}

// NearPeer is Near for members and guests.
func (h *Host) NearPeer(p peer.ID) bool {
	conns := h.base.Network().ConnsToPeer(p)
	remote := func(c network.Conn) bool {
		ip, err := manet.ToIP(c.RemoteMultiaddr())
		return err != nil || !ip.IsLoopback() && !ip.IsPrivate() && !ip.IsLinkLocalUnicast()
	}
	direct := func(c network.Conn) bool { return !c.Stat().Limited }
	return slices.ContainsFunc(conns, direct) && !slices.ContainsFunc(conns, remote)
}

// members are the connected peers that speak the network's protocols.
func (h *Host) members() []peer.ID {
	return slices.DeleteFunc(h.base.Network().Peers(), func(p peer.ID) bool { return !h.member(p) })
}

// member reports whether the peer has shown the network's protocols.
func (h *Host) member(p peer.ID) bool {
	member, _ := h.standing(p)
	return member
}

// standing reports whether the peer has shown protocols of this network, or of
// another one. It is neither for a guest, and for a peer that has just begun and
// is still about to tell.
func (h *Host) standing(p peer.ID) (member, foreign bool) {
	all, err := h.base.Peerstore().GetProtocols(p)
	if err != nil {
		return false, false
	}
	ours := "/talka/" + h.cfg.Network + "/"
	for _, proto := range all {
		if strings.HasPrefix(string(proto), ours) {
			return true, false
		}
		foreign = foreign || strings.HasPrefix(string(proto), "/talka/")
	}
	return false, foreign
}

// Connect makes a connection to the peer unless there is one. Without an
// address it asks the DHT, as it does if none of the known ones answers. The
// error wraps ErrUnreachable or ErrNetwork.
func (h *Host) Connect(ctx context.Context, to Peer) error {
	info, err := to.info()
	if err != nil {
		return fmt.Errorf("connect: %w", err)
	}
	return h.connect(ctx, info)
}

// Visit makes a connection to whoever is at an address, which ends with
// /p2p/ID: a member, or a guest such as an IPFS implementation. The error wraps
// ErrUnreachable, or ErrAddr if there is no such address.
func (h *Host) Visit(ctx context.Context, addr string) error {
	if len(addr) > maxAddrLen {
		return fmt.Errorf("%w: %d characters, at most %d are allowed", ErrAddr, len(addr), maxAddrLen)
	}
	info, err := peer.AddrInfoFromString(addr)
	if err != nil || len(info.Addrs) == 0 {
		return fmt.Errorf("%w: %q: want one such as /ip4/192.0.2.1/tcp/4001/p2p/12D3Koo…", ErrAddr, addr)
	}
	if info.ID == h.base.ID() {
		return fmt.Errorf("%w: %s is this node", ErrAddr, addr)
	}
	h.base.Peerstore().AddAddrs(info.ID, info.Addrs, peerstore.RecentlyConnectedAddrTTL)
	if err := h.base.Connect(network.WithAllowLimitedConn(ctx, "talka"), *info); err != nil {
		return fmt.Errorf("connect to %s: %w: %w", addr, ErrUnreachable, err)
	}
	return nil
}

func (h *Host) connect(ctx context.Context, info peer.AddrInfo) error {
	if info.ID == h.base.ID() {
		return fmt.Errorf("connect: %w: it is this node", ErrUnreachable)
	}
	h.base.Peerstore().AddAddrs(info.ID, info.Addrs, peerstore.RecentlyConnectedAddrTTL)
	if err := h.routed.Connect(network.WithAllowLimitedConn(ctx, "talka"), info); err != nil {
		return fmt.Errorf("connect to %s: %w: %w", info.ID, ErrUnreachable, err)
	}
	if err := h.confirm(ctx, info.ID); err != nil {
		h.rejectLater(info.ID)
		return fmt.Errorf("connect to %s: %w", info.ID, err)
	}
	return nil
}

// confirm waits until a connected peer has shown to be a member, or not to be
// one. Most have before; but a connection may be younger than what is known of
// the peer, and a peer younger than its protocols.
func (h *Host) confirm(ctx context.Context, p peer.ID) error {
	connected := func() bool { return h.base.Network().Connectedness(p) != network.NotConnected }
	if h.member(p) && connected() {
		return nil
	}
	events, err := h.base.EventBus().Subscribe([]any{
		new(event.EvtPeerIdentificationCompleted), new(event.EvtPeerProtocolsUpdated), new(event.EvtPeerConnectednessChanged),
	}, eventbus.BufSize(64))
	if err != nil {
		return err
	}
	defer events.Close()
	ctx, cancel := context.WithTimeout(ctx, strangerGrace)
	defer cancel()
	for {
		member, foreign := h.standing(p)
		switch {
		case foreign:
			return ErrNetwork
		case !connected():
			return ErrUnreachable // it hung up, as those do that block this node
		case member:
			return nil
		}
		select {
		case <-events.Out():
		case <-ctx.Done():
			return ErrNetwork
		case <-h.ctx.Done():
			return ErrClosed
		}
	}
}
