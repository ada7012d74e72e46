package p2p

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"io"
	"net"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/libp2p/go-libp2p/core/event"
	"github.com/libp2p/go-libp2p/p2p/host/eventbus"

	"github.com/talka-grid/talka/workunits"
)

const patience = time.Minute // far beyond what anything here takes

// keyOf returns the key of a test node.
func keyOf(seed string) ed25519.PrivateKey {
	d := workunits.Sum([]byte(seed))
	return ed25519.NewKeyFromSeed(d[:])
}

// newHost makes a host on loopback. setup, if set, registers handlers.
func newHost(t *testing.T, name string, cfg Config, setup func(h *Host)) *Host {
	t.Helper()
	if cfg.Network == "" {
		cfg.Network = "test"
	}
	cfg.Key = keyOf(t.Name() + name)
	if cfg.Listen == nil {
		cfg.Listen = []string{"/ip4/127.0.0.1/udp/0/quic-v1", "/ip4/127.0.0.1/tcp/0"}
	}
	h, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := h.Close(); err != nil {
			t.Errorf("close %s: %v", name, err)
		}
	})
	if setup != nil {
		setup(h)
	}
	return h
}

// run runs the host until the test or stop ends it.
func run(t *testing.T, h *Host) (stop func()) {
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- h.Run(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("run: %v", err)
		}
	})
	t.Cleanup(stop)
	return stop
}

// start makes a host and runs it.
func start(t *testing.T, name string, cfg Config, setup func(h *Host)) *Host {
	t.Helper()
	h := newHost(t, name, cfg, setup)
	run(t, h)
	return h
}

func (h *Host) peer() Peer { return Peer{ID: h.ID(), Addrs: h.Addrs()} }

func within(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	return ctx
}

// await waits until cond holds, looking whenever the host's connections change.
func await(t *testing.T, h *Host, what string, cond func() bool) {
	t.Helper()
	sub, err := h.Libp2p().EventBus().Subscribe([]any{
		new(event.EvtPeerIdentificationCompleted), new(event.EvtPeerConnectednessChanged), new(event.EvtPeerProtocolsUpdated),
	}, eventbus.BufSize(64))
	if err != nil {
		t.Fatal(err)
	}
	defer sub.Close()
	timeout := time.After(patience)
	for !cond() {
		select {
		case <-sub.Out():
		case <-timeout:
			t.Fatalf("%s: did not happen", what)
		}
	}
}

func awaitPeers(t *testing.T, h *Host, n int) {
	t.Helper()
	await(t, h, fmt.Sprintf("%d peers", n), func() bool { return len(h.Peers()) >= n })
}

// eventually tries f, which asks the network, until it succeeds: what a young DHT
// does not know yet it learns by itself.
func eventually(t *testing.T, f func(ctx context.Context) error) {
	t.Helper()
	ctx := within(t)
	for {
		err := f(ctx)
		if err == nil {
			return
		}
		if ctx.Err() != nil {
			t.Fatal(err)
		}
	}
}

// receive takes n values from a channel.
func receive[T any](t *testing.T, c <-chan T, n int) []T {
	t.Helper()
	timeout := time.After(patience)
	var all []T
	for len(all) < n {
		select {
		case v := <-c:
			all = append(all, v)
		case <-timeout:
			t.Fatalf("%d of %d values came", len(all), n)
		}
	}
	return all
}

type received struct {
	From  workunits.NodeID
	Frame string
}

// collect makes the host pass its frames to a channel.
func collect(c chan received) func(h *Host) {
	return func(h *Host) {
		h.HandleFrames(func(ctx context.Context, from workunits.NodeID, frame []byte) {
			select {
			case c <- received{from, string(frame)}:
			case <-ctx.Done():
			}
		})
	}
}

func TestSendKeepsOrderBothWays(t *testing.T) {
	t.Parallel()
	const n = 300
	toA, toB := make(chan received, n), make(chan received, n)
	one := []string{onQUIC} // of two ways dialled at once one is closed, with what it carried
	a := start(t, "a", Config{Listen: one}, collect(toA))
	b := start(t, "b", Config{Listen: one, Peers: []Peer{a.peer()}}, collect(toB))
	awaitPeers(t, a, 1)
	var group sync.WaitGroup
	defer group.Wait()
	for _, way := range []struct{ from, to *Host }{{a, b}, {b, a}} {
		group.Go(func() {
			for i := range n {
				if err := way.from.Send(within(t), way.to.ID(), fmt.Appendf(nil, "%d", i)); err != nil {
					t.Errorf("frame %d: %v", i, err)
					return
				}
			}
		})
	}
	wantA, wantB := make([]received, n), make([]received, n)
	for i := range n {
		wantA[i], wantB[i] = received{b.ID(), fmt.Sprint(i)}, received{a.ID(), fmt.Sprint(i)}
	}
	if diff := cmp.Diff(wantB, receive(t, toB, n)); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff(wantA, receive(t, toA, n)); diff != "" {
		t.Error(diff)
	}
	for _, h := range []*Host{a, b} {
		for _, p := range h.Peers() {
			if p.Relayed || len(p.Addrs) == 0 {
				t.Errorf("peer %+v: want a direct connection and its address", p)
			}
		}
	}
	if got := a.Peers()[0].Direction; got != Inbound {
		t.Errorf("direction %s, want %s", got, Inbound)
	}
}

func TestSendFindsItsOwnWay(t *testing.T) {
	t.Parallel()
	got := make(chan received, 1)
	seed := start(t, "seed", Config{}, nil)
	a := start(t, "a", Config{Peers: []Peer{seed.peer()}}, nil)
	b := start(t, "b", Config{Peers: []Peer{seed.peer()}}, collect(got))
	awaitPeers(t, seed, 2)
	awaitTable(t, a)
	eventually(t, func(ctx context.Context) error { return a.Send(ctx, b.ID(), []byte("hello")) })
	if diff := cmp.Diff([]received{{a.ID(), "hello"}}, receive(t, got, 1)); diff != "" {
		t.Error(diff)
	}
}

func TestSendRefuses(t *testing.T) {
	t.Parallel()
	a := start(t, "a", Config{}, nil)
	b := start(t, "b", Config{Peers: []Peer{a.peer()}}, nil)
	awaitPeers(t, a, 1)
	for _, frame := range [][]byte{nil, make([]byte, MaxFrame+1)} {
		if err := a.Send(within(t), b.ID(), frame); !errors.Is(err, ErrTooLarge) {
			t.Errorf("frame of %d bytes: %v, want %v", len(frame), err, ErrTooLarge)
		}
	}
	if err := a.Send(within(t), a.ID(), []byte("x")); !errors.Is(err, ErrUnreachable) {
		t.Errorf("to itself: %v", err)
	}
	if err := a.Send(within(t), workunits.NodeIDOf(keyOf("nobody")), []byte("x")); !errors.Is(err, ErrUnreachable) {
		t.Errorf("to nobody: %v, want %v", err, ErrUnreachable)
	}
	if err := a.Send(within(t), workunits.NodeID{}, []byte("x")); err == nil {
		t.Error("to no id: no error")
	}
}

func TestLargestFrame(t *testing.T) {
	t.Parallel()
	got := make(chan received, 1)
	a := start(t, "a", Config{}, collect(got))
	b := start(t, "b", Config{Peers: []Peer{a.peer()}}, nil)
	frame := make([]byte, MaxFrame)
	for i := range frame {
		frame[i] = byte(i * 7)
	}
	if err := b.Send(within(t), a.ID(), frame); err != nil {
		t.Fatal(err)
	}
	if r := receive(t, got, 1)[0]; r.Frame != string(frame) {
		t.Error("the largest frame arrived changed")
	}
}

// A peer that reads nothing holds back its sender, which holds a bounded part of
// what it sends; other peers are not affected.
func TestSlowReaderHoldsBackItsSenderOnly(t *testing.T) {
	t.Parallel()
	release, other := make(chan struct{}), make(chan received, 1)
	slow := start(t, "slow", Config{}, func(h *Host) {
		h.HandleFrames(func(ctx context.Context, _ workunits.NodeID, _ []byte) {
			select {
			case <-release:
			case <-ctx.Done():
			}
		})
	})
	quick := start(t, "quick", Config{Peers: []Peer{slow.peer()}}, collect(other))
	sender := start(t, "sender", Config{Peers: []Peer{slow.peer(), quick.peer()}}, nil)
	awaitPeers(t, sender, 2)
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
	defer cancel()
	frame, sent := make([]byte, 1<<20), 0
	var err error
	for err == nil {
		if err = sender.Send(ctx, slow.ID(), frame); err == nil {
			sent++
		}
		if sent > 256 {
			t.Fatal("256 MiB went to a peer that reads nothing")
		}
	}
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("error %v, want that of the context", err)
	}
	if err := sender.Send(within(t), quick.ID(), []byte("x")); err != nil {
		t.Error(err)
	}
	receive(t, other, 1)
	close(release)
	if err := sender.Send(within(t), slow.ID(), frame); err != nil {
		t.Errorf("after the peer reads again: %v", err)
	}
}

// A node that has restarted under the same identity, elsewhere, is reached again
// although the old connection has not been noticed to be dead.
func TestSendAfterRestart(t *testing.T) {
	t.Parallel()
	first, second := make(chan received, 4), make(chan received, 64)
	a := start(t, "a", Config{Listen: []string{onQUIC}}, nil)
	at := Config{Listen: []string{onQUIC}, Peers: []Peer{a.peer()}} // one way: of two dialled at once one is closed
	b := newHost(t, "b", at, collect(first))
	stop := run(t, b)
	awaitPeers(t, a, 1)
	if err := a.Send(within(t), b.ID(), []byte("one")); err != nil {
		t.Fatal(err)
	}
	receive(t, first, 1)
	stop()
	b = start(t, "b", at, collect(second))
	awaitPeers(t, b, 1)
	if err := a.Send(within(t), b.ID(), []byte("two")); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]received{{a.ID(), "two"}}, receive(t, second, 1)); diff != "" {
		t.Error(diff)
	}
}

func TestStreams(t *testing.T) {
	t.Parallel()
	a := start(t, "a", Config{}, func(h *Host) {
		h.Handle("echo", func(_ workunits.NodeID, s Stream) {
			defer s.Close()
			_, _ = io.Copy(s, s)
		})
	})
	b := start(t, "b", Config{Peers: []Peer{a.peer()}}, nil)
	awaitPeers(t, b, 1)
	s, err := b.Open(within(t), a.ID(), "echo")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(s, "there and back"); err != nil {
		t.Fatal(err)
	}
	if err := s.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(s); err != nil || string(got) != "there and back" {
		t.Errorf("read %q, %v", got, err)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	if _, err := b.Open(within(t), a.ID(), "unknown"); !errors.Is(err, ErrNetwork) {
		t.Errorf("unknown name: %v, want %v", err, ErrNetwork)
	}
}

func TestAnotherNetworkIsRefused(t *testing.T) {
	t.Parallel()
	frames := make(chan received, 1)
	a := start(t, "a", Config{Network: "one"}, collect(frames))
	b := start(t, "b", Config{Network: "two"}, nil)
	if err := b.Connect(within(t), a.peer()); !errors.Is(err, ErrNetwork) {
		t.Errorf("connect: %v, want %v", err, ErrNetwork)
	}
	if err := b.Send(within(t), a.ID(), []byte("x")); !errors.Is(err, ErrNetwork) {
		t.Errorf("send: %v, want %v", err, ErrNetwork)
	}
	if n := len(a.Peers()) + len(b.Peers()); n != 0 {
		t.Errorf("%d peers across networks", n)
	}
	await(t, a, "the stranger is disconnected", func() bool { return len(a.Libp2p().Network().Peers()) == 0 })
	text, err := a.Invite(0, workunits.NodeID{})
	if err != nil {
		t.Fatal(err)
	}
	if err := b.Join(within(t), text); !errors.Is(err, ErrNetwork) {
		t.Errorf("join: %v, want %v", err, ErrNetwork)
	}
}

func TestGuestsStayButAreNoPeers(t *testing.T) {
	t.Parallel()
	a := start(t, "a", Config{Network: "one", Guests: true}, nil)
	b := start(t, "b", Config{Network: "two", Guests: true}, nil)
	if err := b.Connect(within(t), a.peer()); !errors.Is(err, ErrNetwork) {
		t.Fatalf("connect: %v, want %v", err, ErrNetwork)
	}
	if len(a.Peers()) != 0 || len(a.Libp2p().Network().Peers()) != 1 {
		t.Errorf("peers %v, connections %v: want none and one", a.Peers(), a.Libp2p().Network().Peers())
	}
}

func TestNear(t *testing.T) {
	t.Parallel()
	a := start(t, "a", Config{Guests: true}, nil)
	b := start(t, "b", Config{Peers: []Peer{a.peer()}}, nil)
	awaitPeers(t, a, 1)
	guest := start(t, "guest", Config{Network: "another", Guests: true}, nil)
	if err := guest.Connect(within(t), a.peer()); !errors.Is(err, ErrNetwork) {
		t.Fatalf("connect: %v, want %v", err, ErrNetwork)
	}
	if !a.Near(b.ID()) {
		t.Error("a member on this machine is not near")
	}
	for name, id := range map[string]workunits.NodeID{"a guest": guest.ID(), "nobody": workunits.NodeIDOf(keyOf("nobody")), "no id": {}} {
		if a.Near(id) {
			t.Errorf("%s is near", name)
		}
	}
}

func TestConnectToNobody(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close() // it accepts nothing and says nothing
	a := start(t, "a", Config{}, nil)
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	silent := Peer{ID: workunits.NodeIDOf(keyOf("silent")), Addrs: []string{fmt.Sprintf("/ip4/127.0.0.1/tcp/%d", l.Addr().(*net.TCPAddr).Port)}}
	if err := a.Connect(ctx, silent); !errors.Is(err, ErrUnreachable) {
		t.Errorf("silent peer: %v, want %v", err, ErrUnreachable)
	}
	if err := a.Connect(within(t), Peer{ID: silent.ID, Addrs: []string{"nonsense"}}); err == nil {
		t.Error("nonsense address: no error")
	}
}

func TestNewRefuses(t *testing.T) {
	t.Parallel()
	ok := Config{Network: "test", Key: keyOf("x"), Listen: []string{"/ip4/127.0.0.1/tcp/0"}}
	for name, change := range map[string]func(c *Config){
		"network": func(c *Config) { c.Network = "no/slash" },
		"key":     func(c *Config) { c.Key = nil },
		"listen":  func(c *Config) { c.Listen = []string{"127.0.0.1:80"} },
		"address": func(c *Config) { c.Listen = []string{"/ip4/203.0.113.7/tcp/1"} },
		"peer":    func(c *Config) { c.Peers = []Peer{{}} },
	} {
		c := ok
		change(&c)
		if h, err := New(c); err == nil {
			t.Errorf("%s: no error", name)
			_ = h.Close()
		}
	}
}

func TestRunOnce(t *testing.T) {
	t.Parallel()
	h := newHost(t, "a", Config{}, nil)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := h.Run(ctx); err != nil {
		t.Fatal(err)
	}
	if err := h.Run(t.Context()); !errors.Is(err, ErrClosed) {
		t.Errorf("second run: %v, want %v", err, ErrClosed)
	}
	if err := h.Send(t.Context(), workunits.NodeIDOf(keyOf("b")), []byte("x")); !errors.Is(err, ErrClosed) {
		t.Errorf("send: %v, want %v", err, ErrClosed)
	}
	if err := h.Announce(t.Context(), []byte("x")); !errors.Is(err, ErrClosed) {
		t.Errorf("announce: %v, want %v", err, ErrClosed)
	}
}

// A node finds its network again from its cache, with the seed gone.
func TestCacheOutlivesTheSeed(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "peers.json")
	seed := newHost(t, "seed", Config{}, nil)
	stopSeed := run(t, seed)
	b := start(t, "b", Config{Peers: []Peer{seed.peer()}}, nil)
	first := newHost(t, "a", Config{Peers: []Peer{seed.peer()}, CachePath: path}, nil)
	stop := run(t, first)
	awaitPeers(t, first, 2)
	eventually(t, func(context.Context) error { // and before the end, as a crash may be near
		c, err := readCache(path, first.cfg.Network)
		if err == nil && len(c.peers()) < 2 {
			err = errors.New("the cache is not written")
		}
		return err
	})
	stop()
	stopSeed()
	again := start(t, "a", Config{CachePath: path}, nil)
	await(t, again, "b is found", func() bool {
		return slices.ContainsFunc(again.Peers(), func(p PeerInfo) bool { return p.ID == b.ID() })
	})
}
