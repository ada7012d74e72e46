package p2ptest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"

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

// A peer that begins something and falls silent loses its stream in time.
func TestSilence(t *testing.T) {
	t.Parallel()
	cases := []struct {
		name   string
		proto  protocol.ID
		bytes  []byte
		within time.Duration
	}{
		{"half a frame", "/talka/sim/grid/1", []byte{0, 0, 1, 0, 'x'}, 31 * time.Second},
		{"no catalogue", "/talka/sim/catalogue/1", nil, 16 * time.Second},
		{"half a catalogue", "/talka/sim/catalogue/1", []byte{0, 0, 1}, 16 * time.Second},
	}
	Run(t, oneWay, func(t *testing.T, nw *Network) {
		h := nw.Host(0, p2p.Config{Network: "sim"}, func(h *p2p.Host) {
			h.HandleFrames(func(context.Context, workunits.NodeID, []byte) {})
			h.SetCatalogue(emptyCatalogue{})
		})
		s := nw.Stranger(1)
		defer s.Close()
		id := meet(t, s, h, true)
		for _, c := range cases {
			st, err := s.NewStream(t.Context(), id, c.proto)
			if err != nil {
				t.Fatalf("%s: %v", c.name, err)
			}
			if _, err := st.Write(c.bytes); err != nil {
				t.Fatalf("%s: %v", c.name, err)
			}
			begun := time.Now()
			_, err = st.Read(make([]byte, 1))
			if took := time.Since(begun); err == nil || took > c.within {
				t.Errorf("%s: %v after %s, want a reset within %s", c.name, err, took, c.within)
			}
		}
		if s.Network().Connectedness(id) != network.Connected {
			t.Error("a slow peer was disconnected")
		}
	})
}

type emptyCatalogue struct{}

func (emptyCatalogue) Live() [][]byte     { return nil }
func (emptyCatalogue) Learn([]byte) error { return errors.New("no") }

// A node of no network, or one that says nothing at all, is disconnected.
func TestStrangerIsDisconnected(t *testing.T) {
	t.Parallel()
	Run(t, oneWay, func(t *testing.T, nw *Network) {
		h := nw.Host(0, p2p.Config{Network: "sim"}, nil)
		talks, silent := nw.Stranger(1), nw.Stranger(2)
		defer talks.Close()
		defer silent.Close()
		silent.RemoveStreamHandler("/ipfs/id/1.0.0")
		id := meet(t, talks, h, false)
		meet(t, silent, h, false)
		nw.Until(time.Minute, "both are disconnected", func() bool {
			return talks.Network().Connectedness(id) != network.Connected && silent.Network().Connectedness(id) != network.Connected
		})
		if len(h.Peers()) != 0 {
			t.Errorf("peers %v", h.Peers())
		}
	})
}

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
