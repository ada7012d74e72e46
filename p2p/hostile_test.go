package p2p

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/protocol"

	"github.com/talka-grid/talka/workunits"
)

// enemy is a libp2p host that shows the network's protocols and does as it
// likes. It is connected to h.
func enemy(t *testing.T, h *Host) host.Host {
	t.Helper()
	e, err := libp2p.New(libp2p.ListenAddrStrings("/ip4/127.0.0.1/udp/0/quic-v1"), libp2p.DisableMetrics(), libp2p.DisableRelay(),
		libp2p.ResourceManager(&network.NullResourceManager{}))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = e.Close() })
	e.SetStreamHandler(h.protocol("grid"), func(s network.Stream) { _ = s.Reset() })
	info, err := h.peer().info()
	if err != nil {
		t.Fatal(err)
	}
	if err := e.Connect(within(t), info); err != nil {
		t.Fatal(err)
	}
	return e
}

// opened opens a stream and completes the choice of protocol with its first
// bytes. It fails the test if the host does not speak the protocol.
func opened(t *testing.T, e host.Host, h *Host, p protocol.ID) network.Stream {
	t.Helper()
	s, err := e.NewStream(within(t), h.base.ID(), p)
	if err != nil {
		t.Fatalf("%s: %v", p, err)
	}
	t.Cleanup(func() { _ = s.Reset() })
	return s
}

func garbage(n int) []byte {
	b := make([]byte, n)
	r := rand.New(rand.NewPCG(1, uint64(n)))
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	return b
}

func lengthOf(n uint32) []byte { return binary.BigEndian.AppendUint32(nil, n) }

// Whatever a peer sends on whatever protocol, the node goes on serving others.
func TestGarbageOnEveryProtocol(t *testing.T) {
	t.Parallel()
	frames := make(chan received, 16)
	h := start(t, "h", Config{CataloguePeriod: time.Hour}, func(h *Host) {
		collect(frames)(h)
		h.SetCatalogue(newCatalogue("job"))
		h.Announcements(func(workunits.NodeID, []byte) Verdict { return Accept }, func([]byte) {})
		h.Handle("echo", func(_ workunits.NodeID, s Stream) {
			defer s.Close()
			_ = s.SetDeadline(time.Now().Add(patience))
			_, _ = io.CopyN(io.Discard, s, 1<<20)
		})
	})
	e := enemy(t, h)
	spoken := 0
	for _, p := range h.base.Mux().Protocols() {
		for _, data := range [][]byte{
			nil, {0}, lengthOf(0), lengthOf(1 << 31), lengthOf(MaxFrame + 1), garbage(100), garbage(100 << 10),
			append(lengthOf(1000), garbage(1000)...), append([]byte{0xff, 0xff, 0xff, 0xff, 0x0f}, garbage(10)...),
		} {
			s := opened(t, e, h, p)
			_ = s.SetDeadline(time.Now().Add(patience))
			_, _ = s.Write(data) // the host may be done with it already
			_ = s.CloseWrite()
			_, _ = io.Copy(io.Discard, io.LimitReader(s, 1<<20))
			_ = s.Reset()
		}
		spoken++
	}
	if spoken < 8 {
		t.Errorf("%d protocols only: %v", spoken, h.base.Mux().Protocols())
	}
	for len(frames) > 0 { // well-formed by chance or by design: 1000 bytes are a frame
		if f := <-frames; len(f.Frame) == 0 || len(f.Frame) > MaxFrame {
			t.Errorf("frame of %d bytes was delivered", len(f.Frame))
		}
	}
	honest := start(t, "honest", Config{Peers: []Peer{h.peer()}}, nil)
	if err := honest.Send(within(t), h.ID(), []byte("still there?")); err != nil {
		t.Fatal(err)
	}
	for {
		if r := receive(t, frames, 1)[0]; r.From == honest.ID() && r.Frame == "still there?" {
			break
		}
	}
}

// A frame that claims too much ends its stream before anything is stored.
func TestOversizeEndsTheStream(t *testing.T) {
	t.Parallel()
	h := start(t, "h", Config{}, func(h *Host) {
		h.SetCatalogue(newCatalogue())
		h.HandleFrames(func(context.Context, workunits.NodeID, []byte) { t.Error("a frame was delivered") })
	})
	e := enemy(t, h)
	for p, claim := range map[string]int{"grid": MaxFrame + 1, "catalogue": catalogueFrame + 1} {
		s := opened(t, e, h, h.protocol(p))
		if _, err := s.Write(append(lengthOf(uint32(claim)), garbage(1000)...)); err != nil {
			t.Fatal(err)
		}
		_ = s.SetReadDeadline(time.Now().Add(patience))
		if _, err := s.Read(make([]byte, 1)); err == nil || isTimeout(err) {
			t.Errorf("%s: %v, want a reset", p, err)
		}
	}
}

func isTimeout(err error) bool {
	var t interface{ Timeout() bool }
	return errors.As(err, &t) && t.Timeout()
}

// A peer that opens frame streams without end holds a few of them.
func TestStreamsOfAPeerAreBounded(t *testing.T) {
	t.Parallel()
	block := make(chan struct{})
	h := start(t, "h", Config{}, func(h *Host) {
		h.HandleFrames(func(ctx context.Context, _ workunits.NodeID, _ []byte) {
			select {
			case <-block:
			case <-ctx.Done():
			}
		})
	})
	e := enemy(t, h)
	for range 50 {
		s, err := e.NewStream(within(t), h.base.ID(), h.protocol("grid"))
		if err != nil {
			t.Fatal(err)
		}
		_, _ = s.Write(append(lengthOf(1), 'x')) // most are refused
	}
	open := 0
	for _, c := range h.base.Network().ConnsToPeer(e.ID()) {
		for _, s := range c.GetStreams() {
			if s.Protocol() == h.protocol("grid") {
				open++
			}
		}
	}
	if open > maxFrameStreams {
		t.Errorf("%d frame streams of one peer, at most %d are allowed", open, maxFrameStreams)
	}
	close(block)
}

// A newer stream takes over from an older one, in order and one at a time.
func TestNewerStreamTakesOver(t *testing.T) {
	t.Parallel()
	frames := make(chan received, 16)
	h := start(t, "h", Config{}, collect(frames))
	e := enemy(t, h)
	first := opened(t, e, h, h.protocol("grid"))
	if err := writeFrame(first, []byte("one"), MaxFrame); err != nil {
		t.Fatal(err)
	}
	receive(t, frames, 1)
	second := opened(t, e, h, h.protocol("grid"))
	if err := writeFrame(second, []byte("two"), MaxFrame); err != nil {
		t.Fatal(err)
	}
	if got := receive(t, frames, 1)[0].Frame; got != "two" {
		t.Errorf("frame %q", got)
	}
	_ = first.SetReadDeadline(time.Now().Add(patience))
	if _, err := first.Read(make([]byte, 1)); err == nil || isTimeout(err) {
		t.Errorf("the older stream: %v, want a reset", err)
	}
}

// Announcements that a validator rejects, and those beyond the limit, go nowhere.
func TestEnemyCatalogue(t *testing.T) {
	t.Parallel()
	c := newCatalogue("ours")
	h := start(t, "h", Config{NoGossip: true, CataloguePeriod: time.Hour}, func(h *Host) { h.SetCatalogue(c) })
	e := enemy(t, h)
	tooMany := make([]short, maxCatalogue+1)
	for name, message := range map[string]any{
		"too many names": catalogueHave{tooMany},
		"another record": catalogueRest{[][]byte{[]byte("x")}},
	} {
		s := opened(t, e, h, h.protocol("catalogue"))
		if err := writeFrame(s, workunits.Encode(message), MaxFrame); err != nil {
			t.Fatal(err)
		}
		_ = s.SetReadDeadline(time.Now().Add(patience))
		if _, err := s.Read(make([]byte, 1)); err == nil || isTimeout(err) {
			t.Errorf("%s: %v, want a reset", name, err)
		}
	}
	s := opened(t, e, h, h.protocol("catalogue"))
	if err := writeCatalogue(s, catalogueHave{}); err != nil {
		t.Fatal(err)
	}
	reply, err := readCatalogue[catalogueReply](s)
	if err != nil || len(reply.Live) != 1 || string(reply.Live[0]) != "ours" {
		t.Fatalf("reply %v, %v", reply, err)
	}
	big := [][]byte{[]byte("theirs"), bytes.Repeat([]byte("x"), workunits.MaxAnnouncement+1)}
	if err := writeCatalogue(s, catalogueRest{big}); err != nil {
		t.Fatal(err)
	}
	_ = s.SetReadDeadline(time.Now().Add(patience))
	if _, err := s.Read(make([]byte, 1)); err == nil || errors.Is(err, io.EOF) || isTimeout(err) {
		t.Errorf("an announcement that is too large: %v, want a reset", err)
	}
	if len(c.learned) != 0 {
		t.Errorf("learned %q from a message that is to be refused whole", <-c.learned)
	}
}
