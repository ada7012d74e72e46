package p2p

import (
	"context"
	"time"

	"github.com/libp2p/go-libp2p"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/p2p/host/autorelay"
	"github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/proto"
	"github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/relay"
	ma "github.com/multiformats/go-multiaddr"
)

// Limits of the relay service that publicly reachable nodes offer to members.
// libp2p's default of 128 KiB for a circuit lets no result through.
const (
	relayBytes    = 64 << 20
	relayDuration = 30 * time.Minute
	relaySlots    = 32
	relayPerIP    = 16
	relayLook     = 5 * time.Second // between two looks for relays
)

// reachOptions are about being reached behind NATs. A host on loopback needs
// none of it.
func (h *Host) reachOptions() []libp2p.Option {
	if h.lan || h.cfg.NoNAT {
		return []libp2p.Option{libp2p.DisableRelay(), libp2p.DisableIdentifyAddressDiscovery()}
	}
	resources := relay.DefaultResources()
	resources.Limit = &relay.RelayLimit{Duration: relayDuration, Data: relayBytes}
	resources.MaxReservations = relaySlots
	resources.MaxReservationsPerIP = relayPerIP
	options := []libp2p.Option{
		libp2p.EnableRelay(),
		libp2p.NATPortMap(),
		libp2p.EnableHolePunching(),
		libp2p.EnableNATService(),
		libp2p.EnableAutoNATv2(),
		libp2p.EnableRelayService(relay.WithResources(resources), relay.WithACL(membersOnly{h})),
	}
	if h.cfg.Seed {
		// It serves at once, even as the first node that anybody can reach, when
		// nobody is there to confirm it.
		return append(options, libp2p.ForceReachabilityPublic())
	}
	return append(options, libp2p.EnableAutoRelayWithPeerSource(h.relays,
		autorelay.WithMinInterval(relayLook), autorelay.WithBootDelay(relayLook), autorelay.WithMinCandidates(1)))
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
		if can, err := h.base.Peerstore().FirstSupportedProtocol(p, proto.ProtoIDv2Hop); err == nil && can != "" {
			found <- h.base.Peerstore().PeerInfo(p)
		}
	}
	return found
}
