package p2p

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"io"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"

	"github.com/talka-grid/talka/p2p/membership"
	"github.com/talka-grid/talka/workunits"
)

// fuzzed is a host whose every stream handler is fuzzed, and a peer that does it.
type fuzzed struct {
	h     *Host
	e     host.Host
	frame chan []byte
}

func newFuzzed(f *testing.F) fuzzed {
	f.Helper()
	frames := make(chan []byte, 1024)
	h, err := New(Config{Network: "test", Key: keyOf("fuzzed"), Listen: []string{onQUIC}, CataloguePeriod: time.Hour})
	if err != nil {
		f.Fatal(err)
	}
	h.HandleFrames(func(_ context.Context, _ workunits.NodeID, frame []byte) {
		select {
		case frames <- frame:
		default:
		}
	})
	h.SetCatalogue(newCatalogue("job"))
	h.Announcements(func(workunits.NodeID, []byte) Verdict { return Ignore }, func([]byte) {})
	// The one handler that open networks have not.
	private := keyOf("network")
	state, err := membership.New("test", private, h.self, time.Now(), time.Hour)
	if err != nil {
		f.Fatal(err)
	}
	h.club, err = (&Private{State: state, Issuer: private}).open(h.self, h.cfg.Key, "test")
	if err != nil {
		f.Fatal(err)
	}
	h.base.SetStreamHandler(h.protocol("member"), h.streamHandler(h.hear))
	ctx, cancel := context.WithCancel(context.Background())
	var group sync.WaitGroup
	group.Go(func() { _ = h.Run(ctx) })
	e, err := libp2p.New(libp2p.NoListenAddrs, libp2p.DisableMetrics(), libp2p.DisableRelay(), libp2p.ResourceManager(&network.NullResourceManager{}))
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() {
		cancel()
		group.Wait()
		_ = e.Close()
	})
	e.SetStreamHandler(h.protocol("grid"), func(s network.Stream) { _ = s.Reset() })
	return fuzzed{h, e, frames}
}

// FuzzStreams writes anything to any protocol that a host speaks, libp2p's own
// included. Whatever it is, the host ends the stream or waits for more, delivers no
// frame that is not one, lets nobody into its network or out of it, and serves the
// peer's next stream.
func FuzzStreams(f *testing.F) {
	x := newFuzzed(f)
	info, err := Peer{ID: x.h.ID(), Addrs: x.h.Addrs()}.info()
	if err != nil {
		f.Fatal(err)
	}
	protocols := x.h.base.Mux().Protocols()
	slices.Sort(protocols) // some come and go while a host starts
	own := x.h.club.now()
	for i := range protocols {
		f.Add(byte(i), append(lengthOf(1), 'x'))
		f.Add(byte(i), lengthOf(1<<31))
	}
	valid := map[protocol.ID][]byte{
		"member":    workunits.Encode(memberNews{[]membership.Proof{own.Own}, own.Removals}),
		"catalogue": workunits.Encode(catalogueHave{[]short{{1}}}),
	}
	for i, p := range protocols {
		for name, b := range valid {
			if p == x.h.protocol(string(name)) {
				f.Add(byte(i), append(lengthOf(uint32(len(b))), b...))
			}
		}
	}
	f.Fuzz(func(t *testing.T, which byte, data []byte) {
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		if err := x.e.Connect(ctx, info); err != nil {
			t.Fatalf("the host is gone: %v", err)
		}
		s, err := x.e.NewStream(ctx, info.ID, protocols[int(which)%len(protocols)])
		if err != nil {
			t.Fatalf("the host does not serve: %v", err)
		}
		defer func() { _ = s.Reset() }()
		_, _ = s.Write(data) // the host may be done with it already
		_ = s.CloseWrite()
		_ = s.SetReadDeadline(time.Now().Add(100 * time.Millisecond))
		_, _ = io.Copy(io.Discard, io.LimitReader(s, 1<<20))
		now := x.h.club.now()
		another := func(i membership.Issued) bool { return i.Subject != x.h.self }
		if !bytes.Equal(workunits.Encode(now.Removals), workunits.Encode(own.Removals)) || slices.ContainsFunc(now.Issued, another) {
			t.Errorf("the network became %+v", now)
		}
		for len(x.frame) > 0 {
			if frame := <-x.frame; len(frame) == 0 || len(frame) > MaxFrame {
				t.Errorf("a frame of %d bytes was delivered", len(frame))
			}
		}
	})
}

// pipe is a connection of which one end says what it was given.
type pipe struct {
	io.Reader
	io.Writer
}

func (pipe) SetDeadline(time.Time) error { return nil }

// FuzzGreeting says anything to the door of a private network: nobody comes in by
// it, and nothing is said in return.
func FuzzGreeting(f *testing.F) {
	key, node := keyOf("network"), keyOf("node")
	state, err := membership.New("lab", key, workunits.NodeIDOf(node), time.Now(), 24*time.Hour)
	if err != nil {
		f.Fatal(err)
	}
	c, err := (&Private{State: state}).open(workunits.NodeIDOf(node), node, "lab")
	if err != nil {
		f.Fatal(err)
	}
	local, remote := peerOfKey(f, node), peerOfKey(f, keyOf("stranger"))
	sealed := membership.Hello{Version: 1, Proof: state.Own}.Seal(state.Key, [membership.NonceSize]byte{})
	f.Add(append(lengthOf(uint32(len(sealed))), sealed...))
	f.Add(lengthOf(1 << 31))
	f.Fuzz(func(t *testing.T, data []byte) {
		in, out := io.Pipe()
		go func() {
			_, _ = out.Write(data)
			_ = out.Close()
		}()
		defer in.Close()
		said := new(counter)
		if err := (greeter{c, local}).greet(t.Context(), pipe{in, said}, remote, false); err == nil || *said > 0 {
			t.Errorf("%v, and %d bytes were said to a stranger", err, *said)
		}
	})
}

type counter int

func (c *counter) Write(b []byte) (int, error) {
	*c += counter(len(b))
	return len(b), nil
}

func peerOfKey(f *testing.F, key ed25519.PrivateKey) peer.ID {
	f.Helper()
	p, err := peerID(workunits.NodeIDOf(key))
	if err != nil {
		f.Fatal(err)
	}
	return p
}

// FuzzReadNews reads what members send each other of their memberships.
func FuzzReadNews(f *testing.F) {
	state, err := membership.New("lab", keyOf("network"), workunits.NodeIDOf(keyOf("node")), time.Unix(1_900_000_000, 0), 24*time.Hour)
	if err != nil {
		f.Fatal(err)
	}
	b := workunits.Encode(memberNews{[]membership.Proof{state.Own}, state.Removals})
	f.Add(append(lengthOf(uint32(len(b))), b...))
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := readNews(bytes.NewReader(b))
		if err == nil && (len(m.Proof) > 1 || len(b) > memberFrame+4) {
			t.Errorf("%d proofs of %d bytes were read", len(m.Proof), len(b))
		}
	})
}
