package p2p

import (
	"encoding/hex"
	"slices"

	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/p2p/discovery/mdns"
	ma "github.com/multiformats/go-multiaddr"
	manet "github.com/multiformats/go-multiaddr/net"

	"github.com/talka-grid/talka/workunits"
)

// lanPeers are the nodes that multicast DNS has found: anybody on the LAN may
// claim anything, so they are no more than places to try.
type lanPeers struct {
	heard
	woke func()
	anew chan struct{} // has a token when the LAN may be another one
}

// HandlePeerFound implements mdns.Notifee. Only addresses of the LAN count, or
// one machine on it could send all the others to any place on the internet.
func (l *lanPeers) HandlePeerFound(info peer.AddrInfo) {
	addrs := slices.DeleteFunc(slices.Clone(info.Addrs), func(a ma.Multiaddr) bool {
		return !manet.IsPrivateAddr(a) || manet.IsIPLoopback(a) || len(a.Bytes()) > maxAddrLen
	})
	if _, ok := nodeID(info.ID); !ok || len(addrs) == 0 {
		return
	}
	if l.add(peer.AddrInfo{ID: info.ID, Addrs: best(addrs, maxAddrs)}) {
		l.woke()
	}
}

// listenLAN looks for members on the LAN, and lets them find this node, until
// the host ends. The name that goes over the LAN does not tell the network's.
func (h *Host) listenLAN() {
	if h.lan || h.cfg.NoNAT {
		return
	}
	name := workunits.Sum(append([]byte("talka lan "), h.secret()...))
	for h.ctx.Err() == nil {
		service := mdns.NewMdnsService(h.base, "_talka-"+hex.EncodeToString(name[:6])+"._udp", &h.local)
		err := service.Start()
		if err != nil {
			h.log.Info("peers on the LAN cannot be found by themselves", "error", err)
		}
		select {
		case <-h.local.anew: // interfaces that came later are not listened to
		case <-h.ctx.Done():
		}
		if err == nil {
			err = service.Close()
		}
		if err != nil {
			h.log.Debug("multicast DNS", "error", err)
		}
	}
}
