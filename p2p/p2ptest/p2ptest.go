// Package p2ptest runs real hosts, with QUIC, TLS, DHT and gossip, over a
// simulated network in virtual time: a minute of silence costs nothing, and no
// test has to sleep or to guess how long something takes on this machine.
//
// [Run] opens the bubble (see testing/synctest). Everything that talks must be
// made in it, and nothing in it may wait for the world outside: no sockets, no
// processes. Runs are not repeatable bit for bit, since goroutines are scheduled
// freely and keys are random.
//
// A Network is safe for concurrent use.
package p2ptest

import (
	"context"
	"crypto/ed25519"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/libp2p/go-libp2p"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/p2p/transport/quicreuse"
	"github.com/marcopolo/simnet"
	"github.com/quic-go/quic-go"
	"go.uber.org/fx"

	"github.com/talka-grid/talka/p2p"
	"github.com/talka-grid/talka/workunits"
)

const (
	port = 8000
	// bits is the bandwidth of a node, each way, in bits per second.
	bits = 20_000_000
	// flows is the number of queues of a link; the default of 128 makes up most
	// of the memory of a large run.
	flows = 8
	// linger is the time after which the last timers of closed hosts have fired.
	linger = 2 * time.Minute
)

// Network is a simulated network. Every node has a public address of its own,
// in a range of its own.
type Network struct {
	t   *testing.T
	sim *simnet.Simnet

	sent atomic.Uint64 // bytes

	mu    sync.Mutex
	loss  func() bool // whether the next packet is lost; nil for none
	cut   map[netip.Addr]bool
	nodes map[*p2p.Host]*node
}

type node struct {
	addr netip.Addr
	stop func() error
}

// Run calls f in a bubble of virtual time, with a network in which packets take
// the given time from node to node. Afterwards it stops all hosts that still
// run, and fails the test if any goroutine survives them.
func Run(t *testing.T, latency time.Duration, f func(t *testing.T, nw *Network)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		nw := &Network{
			t:     t,
			sim:   &simnet.Simnet{LatencyFunc: simnet.StaticLatency(latency), Logger: slog.New(slog.DiscardHandler)},
			cut:   map[netip.Addr]bool{},
			nodes: map[*p2p.Host]*node{},
		}
		nw.sim.Start()
		defer nw.close()
		f(t, nw)
	})
}

func (nw *Network) close() {
	var group sync.WaitGroup
	for _, h := range nw.hosts() {
		group.Go(func() { nw.Stop(h) })
	}
	group.Wait()
	time.Sleep(linger) // virtual
	nw.sim.Close()
}

func (nw *Network) hosts() (all []*p2p.Host) {
	nw.mu.Lock()
	defer nw.mu.Unlock()
	for h := range nw.nodes {
		all = append(all, h)
	}
	return all
}

// Key is the key of the i-th node.
func Key(i int) ed25519.PrivateKey {
	seed := workunits.Sum(fmt.Appendf(nil, "p2ptest %d", i))
	return ed25519.NewKeyFromSeed(seed[:])
}

// addrOf is the address of the i-th node. Neighbours share no /16, so that
// nothing that spreads over ranges takes them for one.
func addrOf(i int) netip.Addr {
	return netip.AddrFrom4([4]byte{byte(20 + i/250%70), byte(1 + i%250), 0, byte(1 + i/17500)})
}

// Host makes and runs the i-th node: Key, Listen and Libp2p of the config are
// replaced. setup, if set, registers handlers. A node that was stopped or cut
// may be made again, with the same key and address.
func (nw *Network) Host(i int, cfg p2p.Config, setup func(h *p2p.Host)) *p2p.Host {
	nw.t.Helper()
	addr := addrOf(i)
	nw.mu.Lock()
	delete(nw.cut, addr)
	nw.mu.Unlock()
	cfg.Key = Key(i)
	cfg.Listen = []string{fmt.Sprintf("/ip4/%s/udp/%d/quic-v1", addr, port)}
	cfg.NoNAT = true
	cfg.Libp2p = []libp2p.Option{nw.quic()}
	h, err := p2p.New(cfg)
	if err != nil {
		nw.t.Fatal(err)
	}
	if setup != nil {
		setup(h)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- h.Run(ctx) }()
	nw.mu.Lock()
	defer nw.mu.Unlock()
	nw.nodes[h] = &node{addr: addr, stop: func() error {
		cancel()
		return <-done
	}}
	return h
}

// Peer is how to reach a host that runs.
func Peer(h *p2p.Host) p2p.Peer { return p2p.Peer{ID: h.ID(), Addrs: h.Addrs()} }

// Stop ends a host in good order and waits for it.
func (nw *Network) Stop(h *p2p.Host) {
	nw.mu.Lock()
	n := nw.nodes[h]
	delete(nw.nodes, h)
	nw.mu.Unlock()
	if n == nil {
		return
	}
	if err := n.stop(); err != nil {
		nw.t.Errorf("stop: %v", err)
	}
}

// Cut takes a host off the network without a word, as a power failure or a
// pulled cable does. Join undoes it.
func (nw *Network) Cut(h *p2p.Host) { nw.setCut(h, true) }

// Join puts a host back that was cut.
func (nw *Network) Join(h *p2p.Host) { nw.setCut(h, false) }

func (nw *Network) setCut(h *p2p.Host, cut bool) {
	nw.mu.Lock()
	defer nw.mu.Unlock()
	if n := nw.nodes[h]; n != nil {
		nw.cut[n.addr] = cut
	}
}

// Lose makes the network lose every packet for which f, which is called for one
// after the other, returns true.
func (nw *Network) Lose(f func() bool) {
	nw.mu.Lock()
	defer nw.mu.Unlock()
	nw.loss = f
}

// Sent is how many bytes all nodes have sent so far, headers below QUIC's not
// counted, lost ones included.
func (nw *Network) Sent() uint64 { return nw.sent.Load() }

func (nw *Network) lost() bool {
	nw.mu.Lock()
	defer nw.mu.Unlock()
	return nw.loss != nil && nw.loss()
}

func (nw *Network) reachable(a net.Addr) bool {
	u, ok := a.(*net.UDPAddr)
	if !ok {
		return true
	}
	addr, _ := netip.AddrFromSlice(u.IP)
	nw.mu.Lock()
	defer nw.mu.Unlock()
	return !nw.cut[addr.Unmap()]
}

// Until looks at a condition, again and again in virtual time, and fails the
// test if it does not hold within the given time. It returns how long it took.
func (nw *Network) Until(within time.Duration, what string, cond func() bool) time.Duration {
	nw.t.Helper()
	begun := time.Now()
	for !cond() {
		if time.Since(begun) > within {
			nw.t.Fatalf("%s: did not happen within %s", what, within)
		}
		time.Sleep(10 * time.Millisecond) // virtual
	}
	return time.Since(begun)
}

// cable is a node's connection to the network.
type cable struct {
	*simnet.SimConn
	nw   *Network
	from *net.UDPAddr
}

// WriteTo sends a packet, which is lost if either end is cut off, or by chance.
func (c cable) WriteTo(b []byte, to net.Addr) (int, error) {
	c.nw.sent.Add(uint64(len(b)))
	if !c.nw.reachable(c.from) || !c.nw.reachable(to) || c.nw.lost() {
		return len(b), nil
	}
	return c.SimConn.WriteTo(b, to)
}

// source tells QUIC which address a host has; there is just one.
type source struct{ ip atomic.Pointer[net.IP] }

// PreferredSourceIPForDestination implements quicreuse.SourceIPSelector.
func (s *source) PreferredSourceIPForDestination(*net.UDPAddr) (net.IP, error) {
	return *s.ip.Load(), nil
}

// quic connects a host's QUIC transport to the network.
func (nw *Network) quic() libp2p.Option {
	link := simnet.LinkSettings{BitsPerSecond: bits, FlowBucketCount: flows}
	src := &source{}
	return libp2p.QUICReuse(
		func(l fx.Lifecycle, reset quic.StatelessResetKey, token quic.TokenGeneratorKey, opts ...quicreuse.Option) (*quicreuse.ConnManager, error) {
			m, err := quicreuse.NewConnManager(reset, token, opts...)
			if err == nil {
				l.Append(fx.StopHook(m.Close))
			}
			return m, err
		},
		quicreuse.OverrideSourceIPSelector(func() (quicreuse.SourceIPSelector, error) { return src, nil }),
		quicreuse.OverrideListenUDP(func(_ string, a *net.UDPAddr) (net.PacketConn, error) {
			src.ip.Store(&a.IP)
			return cable{nw.sim.NewEndpoint(a, simnet.NodeBiDiLinkSettings{Downlink: link, Uplink: link}), nw, a}, nil
		}))
}

// Stranger makes an unadorned libp2p host at the i-th address: a peer that does
// as it likes. The caller closes it.
func (nw *Network) Stranger(i int, more ...libp2p.Option) host.Host {
	nw.t.Helper()
	h, err := libp2p.New(append(more,
		libp2p.ListenAddrStrings(fmt.Sprintf("/ip4/%s/udp/%d/quic-v1", addrOf(i), port)),
		libp2p.ResourceManager(&network.NullResourceManager{}),
		libp2p.DisableMetrics(), libp2p.DisableRelay(), libp2p.DisableIdentifyAddressDiscovery(), nw.quic())...)
	if err != nil {
		nw.t.Fatal(err)
	}
	return h
}
