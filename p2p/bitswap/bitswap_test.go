package bitswap

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ipfs/boxo/bitswap"
	"github.com/ipfs/boxo/bitswap/message"
	"github.com/ipfs/boxo/bitswap/network/bsnet"
	blocks "github.com/ipfs/go-block-format"
	"github.com/ipfs/go-cid"
	"github.com/libp2p/go-libp2p"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	mh "github.com/multiformats/go-multihash"

	"github.com/talka-grid/talka/chunkstore"
	"github.com/talka-grid/talka/chunkstore/exchange"
)

// node is a host with a store.
type node struct {
	host  host.Host
	store *chunkstore.Store
	dir   string
	*Exchange
}

func newNode(t testing.TB) node { return newNodeOf(t, Config{Network: "test"}) }

func newNodeOf(t testing.TB, cfg Config) node {
	t.Helper()
	h, err := libp2p.New(libp2p.ListenAddrStrings("/ip4/127.0.0.1/tcp/0"), libp2p.DisableMetrics(), libp2p.DisableRelay())
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	s, err := chunkstore.Open(dir, chunkstore.Config{})
	if err != nil {
		t.Fatal(err)
	}
	cfg.Host, cfg.Store = h, s
	n := node{h, s, dir, New(context.WithoutCancel(t.Context()), cfg)}
	t.Cleanup(func() {
		if err := errors.Join(n.Close(), h.Close()); err != nil {
			t.Error(err)
		}
	})
	return n
}

// block fetches one chunk in a session of its own.
func (n node) block(ctx context.Context, c cid.Cid) (blocks.Block, error) {
	found, err := n.Session(ctx)(ctx, c)
	if err != nil {
		return nil, err
	}
	return blocks.NewBlockWithCid(found.Data, c)
}

// keep lets peers have chunks.
func (n node) keep(t testing.TB, list ...cid.Cid) {
	t.Helper()
	for _, c := range list {
		if err := n.store.Keep(chunkstore.Lease{Root: c, Reason: "own"}); err != nil {
			t.Fatal(err)
		}
	}
}

func (n node) connect(t testing.TB, to node) {
	t.Helper()
	if err := n.host.Connect(t.Context(), peer.AddrInfo{ID: to.host.ID(), Addrs: to.host.Addrs()}); err != nil {
		t.Fatal(err)
	}
}

func chunk(t testing.TB, fn uint64, data []byte) blocks.Block {
	t.Helper()
	c, err := cid.Prefix{Version: 1, Codec: cid.Raw, MhType: fn, MhLength: 32}.Sum(data)
	if err != nil {
		t.Fatal(err)
	}
	b, err := blocks.NewBlockWithCid(data, c)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// limit bounds what must not take long at all.
func limit(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	t.Cleanup(cancel)
	return ctx
}

func TestBlock(t *testing.T) {
	t.Parallel()
	a, b := newNode(t), newNode(t)
	large := make([]byte, chunkstore.MaxBlock)
	rand.NewChaCha8([32]byte{1}).Read(large) //nolint:errcheck // it never fails
	list := []blocks.Block{
		chunk(t, mh.BLAKE3, []byte("made by Talka")), chunk(t, mh.SHA2_256, []byte("made by others")),
		chunk(t, mh.BLAKE3, nil), chunk(t, mh.BLAKE3, large[:1<<20]), chunk(t, mh.BLAKE3, large),
	}
	if err := a.store.PutMany(t.Context(), list); err != nil {
		t.Fatal(err)
	}
	for _, b := range list {
		a.keep(t, b.Cid())
	}
	b.connect(t, a)
	var group sync.WaitGroup
	for _, want := range list {
		group.Go(func() {
			got, err := b.block(limit(t), want.Cid())
			if err != nil || !bytes.Equal(got.RawData(), want.RawData()) {
				t.Errorf("%s: %v", want.Cid(), err)
			}
		})
	}
	group.Wait()
}

// TestFallback fetches a file by the exchange with nothing but bitswap.
func TestFallback(t *testing.T) {
	t.Parallel()
	a, b := newNode(t), newNode(t)
	data := make([]byte, 5<<20+3)
	rand.NewChaCha8([32]byte{2}).Read(data) //nolint:errcheck // it never fails
	path := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	added, err := a.store.Add(t.Context(), path, nil)
	if err != nil {
		t.Fatal(err)
	}
	a.keep(t, added.Cid)
	b.connect(t, a)
	x := exchange.New(exchange.Config{Store: b.store, Fallback: b})
	if err := x.Fetch(limit(t), added.Cid, nil, nil); err != nil {
		t.Fatal(err)
	}
	dest := filepath.Join(t.TempDir(), "back")
	if err := b.store.Materialise(t.Context(), added.Cid, dest); err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile(dest); err != nil || !bytes.Equal(got, data) {
		t.Errorf("%d bytes came back, %v", len(got), err)
	}
}

// TestServesTheStoreOnly asks a node for chunks that it lacks, deleted, holds
// damaged, withholds or keeps for no reason, then for one that it serves. They are asked in order on one connection,
// so the answers to the others are known when the last one came.
func TestServesTheStoreOnly(t *testing.T) {
	t.Parallel()
	a, b, c := newNode(t), newNode(t), newNode(t)
	elsewhere, deleted, damaged, here := chunk(t, mh.BLAKE3, []byte("elsewhere")), chunk(t, mh.BLAKE3, []byte("deleted")),
		chunk(t, mh.BLAKE3, []byte("damaged")), chunk(t, mh.BLAKE3, []byte("here"))
	withheld, cache := chunk(t, mh.BLAKE3, []byte("withheld")), chunk(t, mh.BLAKE3, []byte("cache"))
	if err := a.store.PutMany(t.Context(), []blocks.Block{deleted, damaged, withheld, cache, here}); err != nil {
		t.Fatal(err)
	}
	a.keep(t, deleted.Cid(), damaged.Cid(), here.Cid())
	c.keep(t, elsewhere.Cid())
	if err := a.store.Keep(chunkstore.Lease{Root: withheld.Cid(), Reason: "result", Withheld: true}); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(c.store.Put(t.Context(), elsewhere), a.store.DeleteBlock(t.Context(), deleted.Cid())); err != nil {
		t.Fatal(err)
	}
	found, err := filepath.Glob(filepath.Join(a.dir, "chunks", "*", damaged.Cid().String()))
	if err != nil || len(found) != 1 {
		t.Fatal(found, err)
	}
	if err := errors.Join(os.Remove(found[0]), os.WriteFile(found[0], []byte("rotten!"), 0o600)); err != nil {
		t.Fatal(err)
	}
	a.connect(t, c) // a could fetch it for b, and must not
	b.connect(t, a)
	enough := errors.New("here came")
	ctx, cancel := context.WithCancelCause(limit(t))
	var group sync.WaitGroup
	for _, want := range []blocks.Block{elsewhere, deleted, damaged, withheld, cache} {
		group.Go(func() {
			if got, err := b.block(ctx, want.Cid()); err == nil {
				t.Errorf("%q was served", got.RawData())
			} else if !errors.Is(err, context.Canceled) && !errors.Is(err, enough) {
				t.Errorf("%s: %v", want.RawData(), err)
			}
		})
	}
	if _, err := b.block(limit(t), here.Cid()); err != nil {
		t.Error(err)
	}
	cancel(enough)
	group.Wait()
	if ok, err := a.store.Has(t.Context(), elsewhere.Cid()); ok || err != nil {
		t.Errorf("a peer's wish was fetched: %t, %v", ok, err)
	}
}

// TestOtherNetwork asks over a connection between nodes of two networks.
func TestOtherNetwork(t *testing.T) {
	t.Parallel()
	a, stranger := newNode(t), newNodeOf(t, Config{Network: "other"})
	here := chunk(t, mh.BLAKE3, []byte("here"))
	if err := a.store.Put(t.Context(), here); err != nil {
		t.Fatal(err)
	}
	a.keep(t, here.Cid())
	stranger.connect(t, a)
	common, err := a.host.Peerstore().SupportsProtocols(stranger.host.ID(), a.host.Mux().Protocols()...)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range common {
		if bytes.Contains([]byte(p), []byte("bitswap")) {
			t.Errorf("both networks speak %s", p)
		}
	}
	for _, p := range a.host.Mux().Protocols() {
		if bytes.Contains([]byte(p), []byte("bitswap")) && !bytes.HasPrefix([]byte(p), []byte("/talka/test/")) {
			t.Errorf("%s is not of the network", p)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	if got, err := stranger.block(ctx, here.Cid()); err == nil {
		t.Errorf("a stranger got %q", got.RawData())
	}
}

// TestOpen has nodes exchange with one that speaks as IPFS implementations do: an
// open one does so both ways, one that is not has no word for it.
func TestOpen(t *testing.T) {
	t.Parallel()
	ipfs := newNodeOf(t, Config{Network: "unspoken"})
	plain := bitswap.New(context.WithoutCancel(t.Context()), bsnet.NewFromIpfsHost(ipfs.host), nil, chunkstore.Blockstore{Store: ipfs.store})
	t.Cleanup(func() { _ = plain.Close() })
	theirs, ours, unkept := chunk(t, mh.SHA2_256, []byte("theirs")), chunk(t, mh.BLAKE3, []byte("ours")), chunk(t, mh.BLAKE3, []byte("unkept"))
	empty := chunk(t, mh.BLAKE3, nil)
	if err := ipfs.store.Put(t.Context(), theirs); err != nil {
		t.Fatal(err)
	}
	open, shut := newNodeOf(t, Config{Network: "test", Open: true}), newNodeOf(t, Config{Network: "test"})
	for _, n := range []node{open, shut} {
		if err := n.store.PutMany(t.Context(), []blocks.Block{ours, empty, unkept}); err != nil {
			t.Fatal(err)
		}
		n.keep(t, ours.Cid(), empty.Cid())
	}
	ipfs.connect(t, shut)
	for _, p := range shut.host.Mux().Protocols() {
		if strings.HasPrefix(string(p), "/ipfs/bitswap") {
			t.Errorf("a node that is not open speaks %s", p)
		}
	}
	ipfs.connect(t, open)
	for _, want := range []blocks.Block{ours, empty} {
		if got, err := plain.GetBlock(limit(t), want.Cid()); err != nil || !bytes.Equal(got.RawData(), want.RawData()) {
			t.Errorf("%q from an open node: %v", want.RawData(), err)
		}
	}
	found, err := open.Session(limit(t))(limit(t), theirs.Cid())
	if err != nil || string(found.Data) != "theirs" || found.From != ipfs.host.ID().String() {
		t.Errorf("to an open node: %+v, %v", found, err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	if got, err := plain.GetBlock(ctx, unkept.Cid()); err == nil {
		t.Errorf("%q is kept for no reason, and was served", got.RawData())
	}
	if got, err := shut.block(ctx, theirs.Cid()); err == nil {
		t.Errorf("a node that is not open got %q", got.RawData())
	}
}

// TestStreamsAgain sends many chunks over few streams, and goes on over others when
// the connection was lost.
func TestStreamsAgain(t *testing.T) {
	t.Parallel()
	a, b := newNode(t), newNode(t)
	b.connect(t, a)
	fetch := func(from, to int) {
		t.Helper()
		for i := from; i < to; i++ {
			want := chunk(t, mh.BLAKE3, fmt.Append(nil, "chunk ", i))
			if err := a.store.Put(t.Context(), want); err != nil {
				t.Fatal(err)
			}
			a.keep(t, want.Cid())
			if got, err := b.block(limit(t), want.Cid()); err != nil || !bytes.Equal(got.RawData(), want.RawData()) {
				t.Fatalf("chunk %d: %v", i, err)
			}
		}
	}
	fetch(0, 20)
	streams := 0
	for _, c := range a.host.Network().ConnsToPeer(b.host.ID()) {
		for _, s := range c.GetStreams() {
			if strings.Contains(string(s.Protocol()), "bitswap") {
				streams++
			}
		}
	}
	if streams == 0 || streams > 8 {
		t.Errorf("%d streams are open after 20 chunks, one after the other", streams)
	}
	if err := b.host.Network().ClosePeer(a.host.ID()); err != nil { // else b would not know yet
		t.Fatal(err)
	}
	b.connect(t, a)
	fetch(20, 25)
}

// TestStreamGone writes to a stream that was kept for a peer that is gone since. The
// error leaves a stream that can be reset.
func TestStreamGone(t *testing.T) {
	t.Parallel()
	a, b := newNode(t), newNode(t)
	idle := exchange.NewIdle[peer.ID, network.Stream](1)
	t.Cleanup(idle.Close)
	speak := &tongues{Host: b.host, ctx: t.Context(), prefix: "/talka/test", cfg: Config{Network: "test"}, idle: idle}
	b.connect(t, a)
	open := func() network.Stream {
		t.Helper()
		s, err := speak.NewStream(limit(t), a.host.ID(), bsnet.ProtocolBitswap)
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	first := open()
	if err := errors.Join(message.New(false).ToNetV1(first), first.Close()); err != nil { // kept
		t.Fatal(err)
	}
	if err := errors.Join(a.host.Close(), b.host.Network().ClosePeer(a.host.ID())); err != nil {
		t.Fatal(err)
	}
	s := open()
	if message.New(false).ToNetV1(s) == nil {
		t.Fatal("written to nobody")
	}
	_ = s.Reset() // it failed already
	if got := s.Conn().RemotePeer(); got != a.host.ID() {
		t.Errorf("a stream to %s", got)
	}
}

// TestMetered counts what bitswap carries, and keeps to a month's limit.
func TestMetered(t *testing.T) {
	t.Parallel()
	meter := func(l exchange.Limits) *exchange.Meter {
		m, err := exchange.NewMeter(filepath.Join(t.TempDir(), "traffic"), l)
		if err != nil {
			t.Fatal(err)
		}
		return m
	}
	up, down := meter(exchange.Limits{UpMonth: 1 << 20}), meter(exchange.Limits{})
	a, b := newNodeOf(t, Config{Network: "test", Meter: up}), newNodeOf(t, Config{Network: "test", Meter: down})
	large := make([]byte, 1<<20)
	small, large1 := chunk(t, mh.BLAKE3, large[:512<<10]), chunk(t, mh.BLAKE3, large)
	if err := a.store.PutMany(t.Context(), []blocks.Block{small, large1}); err != nil {
		t.Fatal(err)
	}
	a.keep(t, small.Cid(), large1.Cid())
	b.connect(t, a)
	if _, err := b.block(limit(t), small.Cid()); err != nil {
		t.Fatal(err)
	}
	sent, _ := up.Spent()
	_, received := down.Spent()
	if sent < 512<<10 || received < 512<<10 {
		t.Errorf("%d bytes sent and %d received were counted", sent, received)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	if _, err := b.block(ctx, large1.Cid()); err == nil {
		t.Error("more was sent than the month's limit")
	}
	if sent, _ := up.Spent(); sent > 1<<20 {
		t.Errorf("%d bytes were sent", sent)
	}
}

// TestGarbage sends what is no message on every protocol that bitswap speaks, and
// is served afterwards.
func TestGarbage(t *testing.T) {
	t.Parallel()
	a, b := newNode(t), newNode(t)
	here := chunk(t, mh.BLAKE3, []byte("here"))
	if err := a.store.Put(t.Context(), here); err != nil {
		t.Fatal(err)
	}
	a.keep(t, here.Cid())
	b.connect(t, a)
	var protocols int
	for _, p := range a.host.Mux().Protocols() {
		if !bytes.Contains([]byte(p), []byte("bitswap")) {
			continue
		}
		protocols++
		for _, message := range [][]byte{
			[]byte("GET / HTTP/1.1\r\n\r\n"), bytes.Repeat([]byte{0xff}, 64), {0x80, 0x80, 0x80, 0x80, 0x7f}, {4, 1, 2, 3, 4}, {9},
		} {
			s, err := b.host.NewStream(limit(t), a.host.ID(), p)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := s.Write(message); err != nil {
				t.Error(err)
			}
			_ = s.Close() // the peer may have reset it by now
		}
	}
	if protocols == 0 {
		t.Fatal("bitswap speaks no protocol")
	}
	if got, err := b.block(limit(t), here.Cid()); err != nil || string(got.RawData()) != "here" {
		t.Errorf("%v", err)
	}
}

func TestBlockEnds(t *testing.T) {
	t.Parallel()
	a := newNode(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := a.block(ctx, chunk(t, mh.BLAKE3, []byte("absent")).Cid()); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
}
