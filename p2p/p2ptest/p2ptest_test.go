package p2ptest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/talka-grid/talka/p2p"
	"github.com/talka-grid/talka/workunits"
)

const oneWay = 50 * time.Millisecond

// swarm makes n nodes that are told of the first one only.
func swarm(nw *Network, n int, setup func(i int, h *p2p.Host)) []*p2p.Host {
	var all []*p2p.Host
	cfg := p2p.Config{Network: "sim"}
	for i := range n {
		if i > 0 {
			cfg.Peers = []p2p.Peer{Peer(all[0])}
		}
		all = append(all, nw.Host(i, cfg, func(h *p2p.Host) {
			if setup != nil {
				setup(i, h)
			}
		}))
	}
	return all
}

func eachHas(all []*p2p.Host, n int) func() bool {
	return func() bool {
		return !slices.ContainsFunc(all, func(h *p2p.Host) bool { return len(h.Peers()) < n })
	}
}

// Twenty nodes that know one seed link to each other, and everyone hears an
// announcement within a second.
func TestTwentyNodes(t *testing.T) {
	t.Parallel()
	const n = 20
	Run(t, oneWay, func(t *testing.T, nw *Network) {
		heard := make(chan time.Time, n*n)
		all := swarm(nw, n, func(_ int, h *p2p.Host) {
			h.Announcements(func(workunits.NodeID, []byte) p2p.Verdict { return p2p.Accept }, func([]byte) { heard <- time.Now() })
		})
		took := nw.Until(10*time.Second, "every node has 8 peers", eachHas(all, 8))
		t.Logf("every node had 8 peers after %s", took)
		time.Sleep(3 * time.Second) // some heartbeats of gossip, in virtual time
		begun := time.Now()
		if err := all[7].Announce(t.Context(), []byte("news")); err != nil {
			t.Fatal(err)
		}
		nw.Until(time.Second, "all hear the news", func() bool { return len(heard) == n-1 })
		var last time.Duration
		for range n - 1 {
			last = max(last, (<-heard).Sub(begun))
		}
		c := workunits.RawCid(workunits.Sum([]byte("a job")))
		begun = time.Now()
		if err := all[3].Provide(t.Context(), c); err != nil {
			t.Fatal(err)
		}
		provided := time.Since(begun)
		found, err := all[12].FindProviders(t.Context(), c, 1)
		if err != nil || len(found) != 1 || found[0].ID != all[3].ID() {
			t.Fatalf("found %v, %v", found, err)
		}
		t.Logf("heard by all after %s; provided in %s, found in %s", last, provided, time.Since(begun)-provided)
	})
}

// A node whose power fails is noticed within seconds by those who send to
// it, long before its transport would; and reached again as soon as it is back.
func TestPowerFailure(t *testing.T) {
	t.Parallel()
	Run(t, oneWay, func(t *testing.T, nw *Network) {
		frames := make(chan string, 1024)
		collect := func(i int, h *p2p.Host) {
			h.HandleFrames(func(_ context.Context, _ workunits.NodeID, frame []byte) { frames <- string(frame) })
		}
		all := swarm(nw, 3, collect)
		nw.Until(10*time.Second, "all are connected", eachHas(all, 2))
		send := func(text string) error {
			ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
			defer cancel()
			return all[0].Send(ctx, all[2].ID(), []byte(text))
		}
		if err := send("one"); err != nil || <-frames != "one" {
			t.Fatal("the first frame did not arrive", err)
		}
		nw.Cut(all[2])
		took := nw.Until(25*time.Second, "sending fails", func() bool {
			time.Sleep(time.Second) // virtual
			return send("lost") != nil
		})
		t.Logf("noticed after %s", took)
		for len(frames) > 0 {
			t.Errorf("%q passed a cut cable", <-frames)
		}
		nw.Stop(all[2])
		again := nw.Host(2, p2p.Config{Network: "sim", Peers: []p2p.Peer{Peer(all[1])}}, func(h *p2p.Host) { collect(2, h) })
		took = nw.Until(time.Minute, "a frame arrives", func() bool {
			_ = send("two")
			select {
			case f := <-frames:
				return f == "two"
			case <-time.After(time.Second):
				return false
			}
		})
		t.Logf("reached again after %s", took)
		if again.ID() != all[2].ID() {
			t.Error("it came back as somebody else")
		}
	})
}

// A restarted node is reached at once although its peers have not noticed that
// their connections to it are dead.
func TestQuickRestart(t *testing.T) {
	t.Parallel()
	Run(t, oneWay, func(t *testing.T, nw *Network) {
		frames := make(chan string, 1024)
		all := swarm(nw, 2, nil)
		nw.Until(10*time.Second, "both are connected", eachHas(all, 1))
		if err := all[0].Send(t.Context(), all[1].ID(), []byte("to nobody")); err != nil {
			t.Fatal(err)
		}
		nw.Cut(all[1])
		nw.Stop(all[1])
		again := nw.Host(1, p2p.Config{Network: "sim", Peers: []p2p.Peer{Peer(all[0])}}, func(h *p2p.Host) {
			h.HandleFrames(func(_ context.Context, _ workunits.NodeID, frame []byte) { frames <- string(frame) })
		})
		nw.Until(10*time.Second, "it is back", eachHas([]*p2p.Host{again}, 1))
		took := nw.Until(10*time.Second, "a frame arrives", func() bool {
			if err := all[0].Send(t.Context(), again.ID(), []byte("hello")); err != nil {
				t.Error(err)
			}
			select {
			case <-frames:
				return true
			case <-time.After(time.Second):
				return false
			}
		})
		t.Logf("reached again %s after it had connected", took)
	})
}

// meet connects a stranger to a host. It shows the host's protocols if it is to
// pass for a member.
func meet(t *testing.T, s host.Host, h *p2p.Host, member bool) peer.ID {
	t.Helper()
	if member {
		s.SetStreamHandler("/talka/sim/grid/1", func(in network.Stream) { _ = in.Reset() })
	}
	info, err := peer.AddrInfoFromString(h.Addrs()[0])
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Connect(t.Context(), *info); err != nil {
		t.Fatal(err)
	}
	return info.ID
}

type emptyCatalogue struct{}

func (emptyCatalogue) Live() [][]byte     { return nil }
func (emptyCatalogue) Learn([]byte) error { return errors.New("no") }

// Gossip between two nodes heals after one's stream to the other has broken.
func TestGossipHeals(t *testing.T) {
	t.Parallel()
	Run(t, oneWay, func(t *testing.T, nw *Network) {
		heard := make(chan string, 64)
		all := swarm(nw, 2, func(_ int, h *p2p.Host) {
			h.Announcements(func(workunits.NodeID, []byte) p2p.Verdict { return p2p.Accept }, func(data []byte) { heard <- string(data) })
		})
		nw.Until(10*time.Second, "both are connected", eachHas(all, 1))
		time.Sleep(5 * time.Second) // virtual
		say := func(i int, text string) bool {
			if err := all[i].Announce(t.Context(), []byte(text)); err != nil {
				t.Fatal(err)
			}
			select {
			case got := <-heard:
				return got == text
			case <-time.After(5 * time.Second):
				return false
			}
		}
		if !say(0, "before") {
			t.Fatal("gossip never worked")
		}
		for _, c := range all[0].Libp2p().Network().Conns() {
			for _, s := range c.GetStreams() {
				if s.Stat().Direction == network.DirOutbound && strings.Contains(string(s.Protocol()), "meshsub") {
					_ = s.Reset()
				}
			}
		}
		time.Sleep(2 * time.Minute) // virtual
		for i := range all {
			if !say(i, fmt.Sprint("after ", i)) {
				t.Errorf("node %d is not heard", i)
			}
		}
	})
}

// With the seed gone, the others stay together and find who comes by one of them.
func TestSeedGone(t *testing.T) {
	t.Parallel()
	Run(t, oneWay, func(t *testing.T, nw *Network) {
		all := swarm(nw, 5, nil)
		nw.Until(10*time.Second, "all are connected", eachHas(all, 4))
		nw.Cut(all[0])
		time.Sleep(10 * time.Minute) // virtual
		rest := all[1:]
		if !eachHas(rest, 3)() {
			t.Error("the others lost each other")
		}
		late := nw.Host(9, p2p.Config{Network: "sim", Peers: []p2p.Peer{Peer(all[3])}}, nil)
		nw.Until(30*time.Second, "the late one finds all", eachHas([]*p2p.Host{late}, 4))
	})
}

// A node that more want to know than it has room for lets go of some, so that there
// is room for who comes next.
func TestFullNodeHasRoom(t *testing.T) {
	t.Parallel()
	const most = 24
	Run(t, oneWay, func(t *testing.T, nw *Network) {
		hub := nw.Host(0, p2p.Config{Network: "sim", NoDHT: true, Limits: p2p.Limits{Connections: most}}, nil)
		cfg := p2p.Config{Network: "sim", NoDHT: true, Peers: []p2p.Peer{Peer(hub)}}
		var crowd []*p2p.Host
		for i := range most {
			crowd = append(crowd, nw.Host(1+i, cfg, nil))
		}
		nw.Until(time.Minute, "all are in", eachHas(crowd, 1))
		for i := range 6 {
			time.Sleep(10 * time.Second) // virtual
			late := nw.Host(1+most+i, cfg, nil)
			took := nw.Until(2*time.Second, "a late one is let in", eachHas([]*p2p.Host{late}, 1))
			t.Logf("let in after %s, where %d are connected", took, len(hub.Peers()))
		}
	})
}

// A full node lets go of whom it has nothing to do with, although the DHT counts on
// them, before whom it exchanges data with.
func TestFullNodeKeepsWhatIsInUse(t *testing.T) {
	t.Parallel()
	const most = 24
	Run(t, oneWay, func(t *testing.T, nw *Network) {
		serve := func(h *p2p.Host) {
			h.Handle("chunks", func(_ workunits.NodeID, s p2p.Stream) {
				_, _ = io.Copy(s, s) // until the other end has enough
				_ = s.Close()
			})
		}
		hub := nw.Host(0, p2p.Config{Network: "sim", Limits: p2p.Limits{Connections: most}}, serve)
		servers := p2p.Config{Network: "sim", Peers: []p2p.Peer{Peer(hub)}}
		for i := range 10 { // who came first is protected
			nw.Host(1+i, servers, nil)
		}
		nw.Until(time.Minute, "they are in", eachHas([]*p2p.Host{hub}, 10))
		clients := p2p.Config{Network: "sim", NoDHT: true, NoGossip: true, Peers: []p2p.Peer{Peer(hub)}}
		busy, idle := nw.Host(30, clients, nil), nw.Host(31, clients, nil)
		nw.Until(10*time.Second, "both are in", eachHas([]*p2p.Host{busy, idle}, 1))
		s, err := busy.Open(t.Context(), hub.ID(), "chunks")
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		lost := atomic.Int32{}
		idle.Libp2p().Network().Notify(&network.NotifyBundle{DisconnectedF: func(network.Network, network.Conn) { lost.Add(1) }})
		for i := range most {
			nw.Host(40+i, servers, nil)
			time.Sleep(10 * time.Second) // virtual
			if _, err := s.Write([]byte("x")); err != nil {
				t.Fatalf("with %d more: %v", i, err)
			}
			if _, err := io.ReadFull(s, make([]byte, 1)); err != nil {
				t.Fatalf("with %d more: %v", i, err)
			}
		}
		if lost.Load() == 0 {
			t.Error("nobody had to go")
		}
	})
}

// A node that has been surrounded while its friend was away, by a crowd of
// identities that dial it and know of nobody else, meets the friend all the same.
func TestSurrounded(t *testing.T) {
	t.Parallel()
	Run(t, oneWay, func(t *testing.T, nw *Network) {
		friend := nw.Host(0, p2p.Config{Network: "sim"}, nil)
		victim := nw.Host(1, p2p.Config{Network: "sim", Peers: []p2p.Peer{Peer(friend)}}, nil)
		nw.Until(10*time.Second, "both have met", eachHas([]*p2p.Host{victim}, 1))
		nw.Stop(friend)
		for i := range 16 {
			nw.Host(10+i, p2p.Config{Network: "sim", Peers: []p2p.Peer{Peer(victim)}}, nil)
		}
		nw.Until(time.Minute, "the victim is surrounded", eachHas([]*p2p.Host{victim}, 16))
		time.Sleep(10 * time.Minute) // virtual
		friend = nw.Host(0, p2p.Config{Network: "sim"}, nil)
		took := nw.Until(15*time.Minute, "the victim meets its friend again", func() bool {
			return slices.ContainsFunc(victim.Peers(), func(p p2p.PeerInfo) bool { return p.ID == friend.ID() })
		})
		t.Logf("the victim met its friend again after %s", took)
	})
}

// A node that was off the network for an hour, and is told so, is back among its
// peers at once: whom it had given up it tries again.
func TestRefresh(t *testing.T) {
	t.Parallel()
	Run(t, oneWay, func(t *testing.T, nw *Network) {
		all := swarm(nw, 6, nil)
		nw.Until(10*time.Second, "all are connected", eachHas(all, 5))
		for _, told := range []bool{true, false} {
			nw.Cut(all[1])
			time.Sleep(time.Hour) // virtual
			if n := len(all[1].Peers()); n > 0 {
				t.Fatalf("%d peers without a network", n)
			}
			nw.Join(all[1])
			within := 15 * time.Minute
			if told {
				within = 5 * time.Second
				all[1].Refresh()
			}
			t.Logf("told %t: back after %s", told, nw.Until(within, "it is back", eachHas(all[1:2], 5)))
		}
	})
}

// After a month a node finds the only one that is there by what it remembers of five,
// and the next ones find both.
func TestBackAfterAMonth(t *testing.T) {
	t.Parallel()
	Run(t, oneWay, func(t *testing.T, nw *Network) {
		dir := t.TempDir()
		up := func(i int, peers ...p2p.Peer) *p2p.Host {
			return nw.Host(i, p2p.Config{Network: "sim", Peers: peers, CachePath: filepath.Join(dir, fmt.Sprint(i))}, nil)
		}
		last := up(0)
		all := []*p2p.Host{last}
		for i := 1; i < 6; i++ {
			all = append(all, up(i, Peer(last)))
		}
		nw.Until(10*time.Second, "all are connected", eachHas(all, 5))
		time.Sleep(2 * time.Minute) // virtual; what is remembered is written
		for _, h := range all {
			nw.Stop(h)
		}
		time.Sleep(30 * 24 * time.Hour) // virtual
		last = up(0)
		time.Sleep(time.Hour)
		if n := len(last.Peers()); n > 0 {
			t.Fatalf("%d peers that are off", n)
		}
		took := nw.Until(time.Minute, "the one that was off finds the last one", eachHas([]*p2p.Host{up(3)}, 1))
		t.Logf("found after %s", took)
		back := []*p2p.Host{last, up(2), up(4)}
		nw.Until(time.Minute, "all who are there find each other", eachHas(back, 3))
	})
}
