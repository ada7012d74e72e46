package p2p

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"
	manet "github.com/multiformats/go-multiaddr/net"

	"github.com/talka-grid/talka/workunits"
)

// Limits on what is kept of one peer.
const (
	maxAddrs   = 16  // addresses
	maxAddrLen = 256 // bytes of an address, as text and encoded
)

// Peer is a node and where it may be found. Addresses are multiaddrs, with or
// without /p2p/ and the id at their end; none means "ask the DHT".
type Peer struct {
	ID    workunits.NodeID `json:"id"`
	Addrs []string         `json:"addrs"`
}

// info checks the peer and returns libp2p's form of it.
func (p Peer) info() (peer.AddrInfo, error) {
	id, err := peerID(p.ID)
	if err != nil {
		return peer.AddrInfo{}, err
	}
	if len(p.Addrs) > maxAddrs {
		return peer.AddrInfo{}, fmt.Errorf("peer %s has %d addresses, at most %d are allowed", p.ID, len(p.Addrs), maxAddrs)
	}
	info := peer.AddrInfo{ID: id}
	for _, s := range p.Addrs {
		a, err := parseAddr(s, id)
		if err != nil {
			return peer.AddrInfo{}, fmt.Errorf("peer %s: address %.80q: %w", p.ID, s, err)
		}
		info.Addrs = append(info.Addrs, a)
	}
	return info, nil
}

// parseAddr reads an address of the peer and removes the peer's id at its end.
func parseAddr(s string, id peer.ID) (ma.Multiaddr, error) {
	if len(s) > maxAddrLen {
		return nil, fmt.Errorf("%d characters, at most %d are allowed", len(s), maxAddrLen)
	}
	a, err := ma.NewMultiaddr(s)
	if err != nil {
		return nil, err
	}
	rest, of := peer.SplitAddr(a)
	if of == "" {
		rest = a
	} else if of != id {
		return nil, fmt.Errorf("belongs to %s", of)
	}
	if len(rest) == 0 {
		return nil, errors.New("names no place")
	}
	return rest, nil
}

// peerOf is the inverse of Peer.info. It keeps the best maxAddrs addresses.
func peerOf(id workunits.NodeID, addrs []ma.Multiaddr) Peer {
	p := Peer{ID: id, Addrs: []string{}}
	for _, a := range best(addrs, maxAddrs) {
		if s := a.String(); len(s) <= maxAddrLen {
			p.Addrs = append(p.Addrs, s)
		}
	}
	return p
}

// best returns up to n addresses: public ones first, loopback last.
func best(addrs []ma.Multiaddr, n int) []ma.Multiaddr {
	sorted := slices.Clone(addrs)
	slices.SortStableFunc(sorted, func(a, b ma.Multiaddr) int { return cmp.Compare(distance(a), distance(b)) })
	return sorted[:min(n, len(sorted))]
}

func distance(a ma.Multiaddr) int {
	switch {
	case manet.IsIPLoopback(a):
		return 2
	case manet.IsPrivateAddr(a):
		return 1
	}
	return 0
}

// peerID is libp2p's name of a node.
func peerID(id workunits.NodeID) (peer.ID, error) {
	if id.IsZero() {
		return "", errors.New("peer without an id")
	}
	key, err := crypto.UnmarshalEd25519PublicKey(id[:])
	if err != nil {
		return "", fmt.Errorf("peer %s: %w", id, err)
	}
	return peer.IDFromPublicKey(key)
}

// nodeID is the inverse of peerID; ok is false for keys of other types.
func nodeID(p peer.ID) (id workunits.NodeID, ok bool) {
	key, err := p.ExtractPublicKey()
	if err != nil || key.Type() != crypto.Ed25519 {
		return id, false
	}
	raw, err := key.Raw()
	if err != nil || len(raw) != len(id) {
		return id, false
	}
	copy(id[:], raw)
	return id, true
}

// Direction tells who opened a connection.
type Direction string

// The directions.
const (
	Inbound  Direction = "inbound"
	Outbound Direction = "outbound"
)

// PeerInfo describes a connected peer.
type PeerInfo struct {
	ID        workunits.NodeID
	Addrs     []string      // the other end of each connection
	Relayed   bool          // true if no connection is direct
	LAN       bool          // a connection stays on the LAN or on this machine
	Latency   time.Duration // smoothed round trip, 0 if not measured yet
	Direction Direction     // of the oldest connection
	Protected bool          // never closed for want of room
	Score     float64       // what gossip thinks of it; below 0 is bad
}

// describe builds the info from the peer's connections, at least one.
func describe(id workunits.NodeID, conns []network.Conn, latency time.Duration) PeerInfo {
	oldest := slices.MinFunc(conns, func(a, b network.Conn) int { return a.Stat().Opened.Compare(b.Stat().Opened) })
	info := PeerInfo{ID: id, Addrs: []string{}, Relayed: true, LAN: onLAN(conns), Latency: latency, Direction: Outbound}
	if oldest.Stat().Direction == network.DirInbound {
		info.Direction = Inbound
	}
	for _, c := range conns {
		info.Addrs = append(info.Addrs, c.RemoteMultiaddr().String())
		info.Relayed = info.Relayed && c.Stat().Limited
	}
	slices.Sort(info.Addrs)
	return info
}
