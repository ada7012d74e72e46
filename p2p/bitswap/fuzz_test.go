package bitswap

import (
	"bytes"
	"encoding/binary"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ipfs/boxo/bitswap/message"
	pb "github.com/ipfs/boxo/bitswap/message/pb"
	"github.com/libp2p/go-libp2p"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"
	mh "github.com/multiformats/go-multihash"
)

// FuzzStreams writes anything to every protocol that an open node speaks for bitswap.
// Whatever it is, the node serves the peer's next stream, and what no lease lets
// peers have does not leave it.
func FuzzStreams(f *testing.F) {
	n := newNodeOf(f, Config{Network: "test", Open: true})
	secret, open := chunk(f, mh.BLAKE3, bytes.Repeat([]byte("secret"), 100)), chunk(f, mh.BLAKE3, []byte("for all"))
	if err := n.store.Put(f.Context(), secret); err != nil {
		f.Fatal(err)
	}
	if err := n.store.Put(f.Context(), open); err != nil {
		f.Fatal(err)
	}
	n.keep(f, open.Cid())
	e, err := libp2p.New(libp2p.NoListenAddrs, libp2p.DisableMetrics(), libp2p.DisableRelay(), libp2p.ResourceManager(&network.NullResourceManager{}))
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { _ = e.Close() })
	answers := make(chan []byte, 64)
	var protocols []protocol.ID
	for _, p := range n.host.Mux().Protocols() {
		if !strings.Contains(string(p), "bitswap") {
			continue
		}
		protocols = append(protocols, p)
		e.SetStreamHandler(p, func(s network.Stream) {
			b, _ := io.ReadAll(io.LimitReader(s, 1<<20))
			select {
			case answers <- b:
			default:
			}
		})
	}
	if len(protocols) < 4 {
		f.Fatalf("protocols %q", protocols)
	}
	slices.Sort(protocols)
	wants := message.New(true)
	wants.AddEntry(secret.Cid(), 1, pb.Message_Wantlist_Block, true)
	wants.AddEntry(open.Cid(), 1, pb.Message_Wantlist_Block, true)
	var asked bytes.Buffer
	if err := wants.ToNetV1(&asked); err != nil {
		f.Fatal(err)
	}
	for i := range protocols {
		f.Add(byte(i), asked.Bytes())
		f.Add(byte(i), binary.AppendUvarint(nil, 1<<40))
		f.Add(byte(i), []byte("\x05garbage"))
	}
	f.Fuzz(func(t *testing.T, which byte, data []byte) {
		if err := e.Connect(t.Context(), peer.AddrInfo{ID: n.host.ID(), Addrs: n.host.Addrs()}); err != nil {
			t.Fatalf("the node is gone: %v", err)
		}
		s, err := e.NewStream(t.Context(), n.host.ID(), protocols[int(which)%len(protocols)])
		if err != nil {
			t.Fatalf("the node does not serve: %v", err)
		}
		defer func() { _ = s.Reset() }()
		_, _ = s.Write(data) // the node may be done with it already
		_ = s.CloseWrite()
		_ = s.SetReadDeadline(time.Now().Add(50 * time.Millisecond))
		b, _ := io.ReadAll(io.LimitReader(s, 1<<20))
		for {
			if bytes.Contains(b, secret.RawData()) {
				t.Fatal("a chunk that is not served was sent")
			}
			select {
			case b = <-answers:
				continue
			default:
			}
			break
		}
	})
}
