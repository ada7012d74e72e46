package p2p

import (
	"crypto/sha256"
	"math/bits"
	"net/netip"

	dht "github.com/libp2p/go-libp2p-kad-dht"
	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"
)

const (
	// bucketSize and alpha are the DHT's k and α: libp2p's own 20 and 10 make a
	// small network a full mesh.
	bucketSize = 8
	alpha      = 3
	// maxOfBucket is how many peers of one neighbourhood a bucket of the routing
	// table holds, so that identities that one hand made up near a key do not fill
	// it. A network that lives in one neighbourhood loses spare ways only.
	maxOfBucket = bucketSize / 2
)

// diverse is the routing table's filter: it reports whether a connected peer may
// be in the table, or stay. Peers without a public address are not limited.
func (h *Host) diverse(d any, p peer.ID) bool {
	table := d.(*dht.IpfsDHT).RoutingTable()
	if table == nil || table.Find(p) != "" {
		return true
	}
	var addrs []ma.Multiaddr
	for _, c := range h.base.Network().ConnsToPeer(p) {
		if !c.Stat().Limited { // a relay's place is not the peer's
			addrs = append(addrs, c.RemoteMultiaddr())
		}
	}
	others := map[peer.ID][]ma.Multiaddr{}
	for _, other := range table.ListPeers() {
		others[other] = h.base.Peerstore().Addrs(other)
	}
	return room(h.base.ID(), p, addrs, others)
}

// room reports whether a peer at the addresses may come into self's routing
// table, beside those that are in it.
func room(self, p peer.ID, addrs []ma.Multiaddr, others map[peer.ID][]ma.Multiaddr) bool {
	places, near := neighbourhoods(addrs), 0
	bucket := commonBits(self, p)
	for other, theirs := range others {
		if commonBits(self, other) != bucket {
			continue
		}
		for place := range neighbourhoods(theirs) {
			if places[place] {
				near++
				break
			}
		}
	}
	return near < maxOfBucket
}

// neighbourhoods are those of the public ones among the addresses.
func neighbourhoods(addrs []ma.Multiaddr) map[netip.Prefix]bool {
	all := map[netip.Prefix]bool{}
	for _, a := range addrs {
		if _, err := a.ValueForProtocol(ma.P_CIRCUIT); err == nil {
			continue
		}
		if place := neighbourhood(a); place.IsValid() {
			all[place] = true
		}
	}
	return all
}

// commonBits is how many leading bits the places of two peers in the DHT share.
func commonBits(a, b peer.ID) (n int) {
	x, y := sha256.Sum256([]byte(a)), sha256.Sum256([]byte(b))
	for i := range x {
		if d := x[i] ^ y[i]; d != 0 {
			return n + bits.LeadingZeros8(d)
		}
		n += 8
	}
	return n
}
