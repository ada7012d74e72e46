package p2ptest

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"
	libp2pswarm "github.com/libp2p/go-libp2p/p2p/net/swarm"

	"github.com/talka-grid/talka/p2p"
	"github.com/talka-grid/talka/workunits"
)

// TestBoundsInTime has a test for each line of the table of limits that is a time;
// package p2p has the others.
func TestBoundsInTime(t *testing.T) {
	t.Parallel()
	tests := map[string]func(t *testing.T, nw *Network, most time.Duration){
		"a frame":               halfFrame,
		"a catalogue exchange":  halfCatalogue,
		"asking for peers":      noAnswer,
		"news of a membership":  halfNews,
		"a hello":               noHello,
		"no word on who one is": noIdentity,
		"a doubted connection":  deadConnection,
		"lies in gossip":        liesInGossip,
	}
	// In package p2p, which sees them.
	elsewhere := []string{"a visit of whom a member speaks for", "a relayed connection", "until a node's next certificate"}
	for _, b := range p2p.Bounds(p2p.Limits{}) {
		if b.Time == 0 || slices.Contains(elsewhere, b.Name) {
			continue
		}
		f := tests[b.Name]
		if f == nil {
			t.Errorf("%s: no test", b.Name)
			continue
		}
		delete(tests, b.Name)
		t.Run(b.Name, func(t *testing.T) {
			t.Parallel()
			Run(t, oneWay, func(t *testing.T, nw *Network) { f(t, nw, b.Time) })
		})
	}
	for name := range tests {
		t.Errorf("%s: no such limit", name)
	}
}

// lasts wants f, which waits for the host to lose its patience, to take that long,
// give or take a second.
func lasts(t *testing.T, most time.Duration, f func() error) {
	t.Helper()
	begun := time.Now()
	err := f()
	if took := time.Since(begun); err == nil || took > most+time.Second || took < most-time.Second {
		t.Errorf("%v after %s, want a failure after %s", err, took, most)
	}
}

// until reads from a stream until that fails.
func until(s network.Stream) func() error {
	return func() error {
		_, err := s.Read(make([]byte, 1))
		return err
	}
}

// begun opens a stream of the protocol and writes the beginning of something. What
// came with the connection before stays.
func begun(t *testing.T, s host.Host, to peer.ID, p protocol.ID, bytes []byte) network.Stream {
	t.Helper()
	st, err := s.NewStream(t.Context(), to, p)
	if err == nil {
		_, err = st.Write(bytes)
	}
	if err != nil {
		t.Fatal(err)
	}
	return st
}

// door is a host, and a stranger that passes for a member of its network.
func door(t *testing.T, nw *Network) (h *p2p.Host, s host.Host, id peer.ID) {
	h = nw.Host(0, p2p.Config{Network: "sim"}, func(h *p2p.Host) {
		h.HandleFrames(func(context.Context, workunits.NodeID, []byte) {})
		h.SetCatalogue(emptyCatalogue{})
	})
	s = nw.Stranger(1)
	return h, s, meet(t, s, h, true)
}

func halfFrame(t *testing.T, nw *Network, most time.Duration) {
	_, s, id := door(t, nw)
	defer s.Close()
	lasts(t, most, until(begun(t, s, id, "/talka/sim/grid/1", []byte{0, 0, 1, 0, 'x'})))
	if s.Network().Connectedness(id) != network.Connected {
		t.Error("a slow peer was disconnected")
	}
}

func halfCatalogue(t *testing.T, nw *Network, most time.Duration) {
	_, s, id := door(t, nw)
	defer s.Close()
	for _, bytes := range [][]byte{nil, {0, 0, 1}} {
		lasts(t, most, until(begun(t, s, id, "/talka/sim/catalogue/1", bytes)))
	}
}

func noAnswer(t *testing.T, nw *Network, most time.Duration) {
	s := nw.Stranger(1)
	defer s.Close()
	asked := make(chan network.Stream, 1)
	s.SetStreamHandler("/talka/sim/peers/1", func(in network.Stream) {
		select {
		case asked <- in:
		default:
			_ = in.Reset()
		}
	})
	h := nw.Host(0, p2p.Config{Network: "sim"}, nil)
	meet(t, s, h, true)
	in := <-asked
	lasts(t, most, func() error { // an answer of which a byte comes at a time
		for _, b := range append([]byte{0, 0, 1, 0}, make([]byte, 200)...) {
			if _, err := in.Write([]byte{b}); err != nil {
				return err
			}
			time.Sleep(500 * time.Millisecond) // virtual
		}
		return nil
	})
}

func halfNews(t *testing.T, nw *Network, most time.Duration) {
	l := newLab(t, nw)
	h := l.up(0)
	m := l.join(1, h)
	nw.Until(10*time.Second, "they are connected", eachHas([]*p2p.Host{m}, 1))
	id := h.Libp2p().ID()
	lasts(t, most, until(begun(t, m.Libp2p(), id, "/talka/lab/member/1", []byte{0, 0, 1})))
	if m.Libp2p().Network().Connectedness(id) != network.Connected {
		t.Error("a slow member was disconnected")
	}
}

func noHello(t *testing.T, nw *Network, most time.Duration) {
	h := newLab(t, nw).up(0)
	s := nw.Stranger(1)
	defer s.Close()
	to, err := peer.AddrInfoFromString(h.Addrs()[0])
	if err != nil {
		t.Fatal(err)
	}
	c, err := s.Network().(*libp2pswarm.Swarm).TransportForDialing(to.Addrs[0]).Dial(t.Context(), to.Addrs[0], to.ID)
	if err != nil {
		t.Fatal(err)
	}
	lasts(t, most, func() error {
		_, err := c.AcceptStream()
		return err
	})
}

func noIdentity(t *testing.T, nw *Network, most time.Duration) {
	h := nw.Host(0, p2p.Config{Network: "sim"}, nil)
	talks, silent := nw.Stranger(1), nw.Stranger(2)
	defer talks.Close()
	defer silent.Close()
	silent.SetStreamHandler("/ipfs/id/1.0.0", func(network.Stream) {}) // and says nothing
	id := meet(t, talks, h, false)
	meet(t, silent, h, false)
	nw.Until(most, "both are disconnected", func() bool {
		return talks.Network().Connectedness(id) != network.Connected && silent.Network().Connectedness(id) != network.Connected
	})
	if len(h.Peers()) != 0 {
		t.Errorf("peers %v", h.Peers())
	}
}

// Connections that died in sleep are replaced within seconds, not when their
// transport gives up.
func deadConnection(t *testing.T, nw *Network, most time.Duration) {
	all := swarm(nw, 3, nil)
	nw.Until(10*time.Second, "all are connected", eachHas(all, 2))
	nw.Cut(all[2])
	all[0].Refresh()
	nw.Until(most+time.Second, "the dead connection is gone", func() bool { return len(all[0].Peers()) == 1 })
	if p := all[0].Peers(); p[0].ID != all[1].ID() {
		t.Error("the wrong connection was closed")
	}
}

// Who tells lies is heard for some seconds and then kept away for a while, by
// everybody that it told them; what is true arrives all the time. It asks to be let
// in again now and then, not all the time, and is when that while is over.
func liesInGossip(t *testing.T, nw *Network, most time.Duration) {
	var lies, news, dials atomic.Int32
	judge := func(_ workunits.NodeID, data []byte) p2p.Verdict {
		if strings.HasPrefix(string(data), "lie") {
			lies.Add(1)
			return p2p.Reject
		}
		return p2p.Accept
	}
	all := swarm(nw, 3, func(i int, h *p2p.Host) {
		if i == 1 {
			h.Announcements(func(workunits.NodeID, []byte) p2p.Verdict { return p2p.Accept }, func([]byte) {})
			return
		}
		h.Announcements(judge, func([]byte) { news.Add(1) })
	})
	nw.Until(10*time.Second, "all are connected", eachHas(all, 2))
	time.Sleep(5 * time.Second) // virtual; gossip has its mesh
	liar, honest := all[1], []*p2p.Host{all[0], all[2]}
	lie := func() {
		if err := liar.Announce(t.Context(), []byte(fmt.Sprint("lie ", time.Now()))); err != nil {
			t.Fatal(err)
		}
	}
	apart := func() bool { // as those see it that refuse: a dial that is seems to succeed first
		return !slices.ContainsFunc(honest, func(h *p2p.Host) bool {
			return slices.ContainsFunc(h.Peers(), func(p p2p.PeerInfo) bool { return p.ID == liar.ID() })
		})
	}
	took := nw.Until(20*time.Second, "nobody is connected to the liar", func() bool {
		lie()
		return apart() && len(liar.Peers()) == 0
	})
	told, since := lies.Load(), time.Now()
	t.Logf("the liar was heard for %s", took)
	liar.Libp2p().Network().Notify(&network.NotifyBundle{ConnectedF: func(network.Network, network.Conn) { dials.Add(1) }})
	if err := all[2].Announce(t.Context(), []byte("news")); err != nil {
		t.Fatal(err)
	}
	nw.Until(5*time.Second, "the news arrive", func() bool { return news.Load() > 0 })
	for time.Since(since) < most-time.Minute {
		lie()
		if !apart() || lies.Load() > told || !eachHas(honest, 1)() {
			t.Fatalf("after %s the liar is heard again, or the others are apart", time.Since(since))
		}
		time.Sleep(100 * time.Millisecond) // virtual
	}
	nw.Until(2*oneWay+time.Second, "the liar knows that it is alone", func() bool { return len(liar.Peers()) == 0 })
	t.Logf("the liar was turned away %d times", dials.Load())
	if n := dials.Load(); n == 0 || n > 40 {
		t.Errorf("it was turned away %d times, want some and at most 40", n)
	}
	nw.Until(2*most, "it is let in again", eachHas(all, 2))
	time.Sleep(time.Minute) // virtual
	if !eachHas(all, 2)() {
		t.Error("it was sent away again, with nothing told")
	}
}
