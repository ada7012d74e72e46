package p2p

import (
	"fmt"
	"math"
	"net/netip"
	"time"

	"github.com/libp2p/go-libp2p"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/protocol"
	rcmgr "github.com/libp2p/go-libp2p/p2p/host/resource-manager"
	"github.com/libp2p/go-libp2p/p2p/net/connmgr"
	"github.com/libp2p/go-libp2p/x/rate"
)

// Streams that one peer may hold open towards this node, by protocol. The
// second frame stream of a peer replaces its first, see receive.
const (
	maxFrameStreams     = 4
	maxCatalogueStreams = 2
	maxPeersStreams     = 2
	maxMemberStreams    = 2
	maxNamedStreams     = 64
	maxPeerStreams      = 256 // of all protocols
	maxPeerConns        = 8
)

// dialSlack is how many connections may be under way beside the established:
// one dial tries several addresses.
const dialSlack = 32

// connManager closes the least useful connections when three quarters of the places
// are taken, so that there is room again soon: a full node can neither ask nor be
// asked, and a lookup in the DHT dials a dozen peers. What it keeps is besides what
// is protected here, by the DHT and by gossip.
func connManager(l Limits) (*connmgr.BasicConnMgr, error) {
	keep := max(l.Connections/2-maxProtect, 2)
	return connmgr.NewConnManager(keep, l.Connections*3/4,
		connmgr.WithGracePeriod(5*time.Second), connmgr.WithSilencePeriod(2*time.Second))
}

// resourceManager refuses what goes beyond the limits. libp2p's own defaults
// (8 connections and 0.2 new ones per second for an address) would shut out
// the second half of a class room.
func (h *Host) resourceManager() (network.ResourceManager, error) {
	l := h.cfg.Limits
	scaling := rcmgr.DefaultLimits
	libp2p.SetDefaultServiceLimits(&scaling)
	const fewStreams = 64
	conns := l.Connections + dialSlack
	limits := rcmgr.PartialLimitConfig{
		System: rcmgr.ResourceLimits{
			Conns: rcmgr.LimitVal(conns), ConnsInbound: rcmgr.LimitVal(l.Connections), ConnsOutbound: rcmgr.LimitVal(conns),
			Streams: rcmgr.LimitVal(conns * fewStreams), StreamsInbound: rcmgr.LimitVal(conns * fewStreams), StreamsOutbound: rcmgr.LimitVal(conns * fewStreams),
			FD: rcmgr.LimitVal(conns), Memory: rcmgr.LimitVal64(l.Memory),
		},
		Transient: rcmgr.ResourceLimits{
			Conns: rcmgr.LimitVal(conns), ConnsInbound: rcmgr.LimitVal(l.Connections), ConnsOutbound: rcmgr.LimitVal(conns),
			FD: rcmgr.LimitVal(conns), Memory: rcmgr.LimitVal64(l.Memory / 4),
		},
		PeerDefault: rcmgr.ResourceLimits{
			Conns: maxPeerConns, ConnsInbound: maxPeerConns, ConnsOutbound: maxPeerConns,
			Streams: 512, StreamsInbound: maxPeerStreams, StreamsOutbound: 256, Memory: rcmgr.LimitVal64(l.Memory / 2),
		},
		// The windows of a connection's streams may take half of it. What they hold is
		// what comes from a distant peer in a round trip.
		Conn:         rcmgr.ResourceLimits{Memory: rcmgr.LimitVal64(l.Memory / 2)},
		ProtocolPeer: map[protocol.ID]rcmgr.ResourceLimits{},
	}
	limits.ProtocolPeerDefault = rcmgr.ResourceLimits{StreamsInbound: maxNamedStreams}
	limits.ProtocolPeer[h.protocol("grid")] = rcmgr.ResourceLimits{StreamsInbound: maxFrameStreams}
	limits.ProtocolPeer[h.protocol("peers")] = rcmgr.ResourceLimits{StreamsInbound: maxPeersStreams}
	limits.ProtocolPeer[h.protocol("member")] = rcmgr.ResourceLimits{StreamsInbound: maxMemberStreams}
	limits.ProtocolPeer[h.protocol("catalogue")] = rcmgr.ResourceLimits{StreamsInbound: maxCatalogueStreams}
	options := []rcmgr.Option{
		rcmgr.WithLimitPerSubnet(
			[]rcmgr.ConnLimitPerSubnet{{PrefixLength: 32, ConnCount: l.PerIP}},
			[]rcmgr.ConnLimitPerSubnet{{PrefixLength: 56, ConnCount: l.PerIP}, {PrefixLength: 48, ConnCount: 2 * l.PerIP}}),
		rcmgr.WithNetworkPrefixLimit(prefixLimits(private4()), prefixLimits(private6())),
		rcmgr.WithConnRateLimiters(rateLimiter(l)),
	}
	if h.metrics == nil {
		options = append(options, rcmgr.WithMetricsDisabled())
	}
	m, err := rcmgr.NewResourceManager(rcmgr.NewFixedLimiter(limits.Build(scaling.Scale(1<<30, 4096))), options...)
	if err != nil {
		return nil, fmt.Errorf("resource limits: %w", err)
	}
	return m, nil
}

// private4 and private6 are the ranges whose addresses say nothing about who
// is behind them: a laboratory, a home, a provider's NAT, this machine.
func private4() []netip.Prefix {
	return prefixes("127.0.0.0/8", "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "169.254.0.0/16", "100.64.0.0/10")
}

func private6() []netip.Prefix { return prefixes("::1/128", "fc00::/7", "fe80::/10") }

func prefixes(list ...string) []netip.Prefix {
	var all []netip.Prefix
	for _, s := range list {
		all = append(all, netip.MustParsePrefix(s))
	}
	return all
}

func prefixLimits(unlimited []netip.Prefix) []rcmgr.NetworkPrefixLimit {
	var all []rcmgr.NetworkPrefixLimit
	for _, p := range unlimited {
		all = append(all, rcmgr.NetworkPrefixLimit{Network: p, ConnCount: math.MaxInt})
	}
	return all
}

func rateLimiter(l Limits) *rate.Limiter {
	perIP := rate.Limit{RPS: float64(l.NewPerIP) / 60, Burst: l.NewPerIP}
	twice := rate.Limit{RPS: 2 * perIP.RPS, Burst: 2 * perIP.Burst}
	limiter := &rate.Limiter{SubnetRateLimiter: rate.SubnetLimiter{
		IPv4SubnetLimits: []rate.SubnetLimit{{PrefixLength: 32, Limit: perIP}},
		IPv6SubnetLimits: []rate.SubnetLimit{{PrefixLength: 56, Limit: perIP}, {PrefixLength: 48, Limit: twice}},
		GracePeriod:      time.Minute,
	}}
	for _, p := range append(private4(), private6()...) {
		limiter.NetworkPrefixLimits = append(limiter.NetworkPrefixLimits, rate.PrefixLimit{Prefix: p})
	}
	return limiter
}
