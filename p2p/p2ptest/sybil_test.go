package p2ptest

import (
	"bufio"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"io"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ipfs/go-cid"
	"github.com/libp2p/go-libp2p"
	kad "github.com/libp2p/go-libp2p-kad-dht/pb"
	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"google.golang.org/protobuf/proto"

	"github.com/talka-grid/talka/p2p"
	"github.com/talka-grid/talka/workunits"
)

// sybils are identities that one hand has made near a key of the DHT. They drop what
// they are to keep, and name each other whatever they are asked for.
type sybils struct {
	all   []host.Host
	ids   map[workunits.NodeID]bool
	asked atomic.Int32
}

// newSybils makes n of them, from the i-th address on, nearer to what c names than any
// honest node is likely to be.
func newSybils(t *testing.T, nw *Network, i, n int, c cid.Cid) *sybils {
	t.Helper()
	const near = 10 // bits of the way
	s := &sybils{ids: map[workunits.NodeID]bool{}}
	want := sha256.Sum256(c.Hash())
	for try := 0; len(s.all) < n; try++ {
		seed := workunits.Sum(fmt.Appendf(nil, "sybil %d of %s", try, c))
		key := ed25519.NewKeyFromSeed(seed[:])
		secret, err := crypto.UnmarshalEd25519PrivateKey(key)
		if err != nil {
			t.Fatal(err)
		}
		id, err := peer.IDFromPrivateKey(secret)
		if err != nil {
			t.Fatal(err)
		}
		at := sha256.Sum256([]byte(id))
		if (binary.BigEndian.Uint16(at[:])^binary.BigEndian.Uint16(want[:]))>>(16-near) != 0 {
			continue
		}
		h := nw.Stranger(i+len(s.all), libp2p.Identity(secret))
		h.SetStreamHandler("/talka/sim/kad/1.0.0", s.lie)
		s.all, s.ids[workunits.NodeIDOf(key)] = append(s.all, h), true
	}
	return s
}

func (s *sybils) close() {
	for _, h := range s.all {
		_ = h.Close() // the test is over
	}
}

// lie answers on a stream of the DHT.
func (s *sybils) lie(st network.Stream) {
	defer st.Close()
	in := bufio.NewReader(st)
	for {
		n, err := binary.ReadUvarint(in)
		if err != nil || n > 1<<20 {
			return
		}
		raw := make([]byte, n)
		var m kad.Message
		if _, err := io.ReadFull(in, raw); err != nil || proto.Unmarshal(raw, &m) != nil {
			return
		}
		s.asked.Add(1)
		if m.GetType() == kad.Message_ADD_PROVIDER {
			continue
		}
		m.CloserPeers, m.ProviderPeers = s.names(st.Conn().RemotePeer()), nil
		if m.GetType() == kad.Message_GET_PROVIDERS {
			m.ProviderPeers = m.CloserPeers
		}
		out, err := proto.Marshal(&m)
		if err != nil {
			return
		}
		if _, err := st.Write(append(binary.AppendUvarint(nil, uint64(len(out))), out...)); err != nil {
			return
		}
	}
}

func (s *sybils) names(but peer.ID) []*kad.Message_Peer {
	var all []peer.AddrInfo
	for _, h := range s.all {
		if h.ID() != but {
			all = append(all, peer.AddrInfo{ID: h.ID(), Addrs: h.Addrs()})
		}
	}
	return kad.RawPeerInfosToPBPeers(all)
}

// besiege makes them peers of a host.
func (s *sybils) besiege(t *testing.T, h *p2p.Host) {
	t.Helper()
	for _, x := range s.all {
		meet(t, x, h, true)
	}
}

// honest counts the host's peers that are none of them.
func (s *sybils) honest(h *p2p.Host) (n int) {
	for _, p := range h.Peers() {
		if !s.ids[p.ID] {
			n++
		}
	}
	return n
}

// A crowd of identities near the key under which the nodes of a network find one
// another names nobody else. Who comes then meets honest nodes all the same, since
// peers tell of peers, and hears what was announced before.
func TestSybilsNearTheRendezvous(t *testing.T) {
	t.Parallel()
	const n, crowd = 12, 10
	Run(t, oneWay, func(t *testing.T, nw *Network) {
		news := []byte("news")
		all := swarm(nw, n, func(_ int, h *p2p.Host) { h.SetCatalogue(catalogueOf{news}) })
		nw.Until(time.Minute, "the honest ones have met", eachHas(all, 6))
		rendezvous := workunits.RawCid(workunits.Sum([]byte("talka rendezvous sim")))
		s := newSybils(t, nw, 100, crowd, rendezvous)
		defer s.close()
		for _, h := range all {
			s.besiege(t, h)
		}
		time.Sleep(2 * time.Minute) // virtual; the crowd gets into routing tables
		asked := s.asked.Load()
		heard := make(chan []byte, 64)
		late := nw.Host(50, p2p.Config{Network: "sim", Peers: []p2p.Peer{Peer(all[0])}}, func(h *p2p.Host) { h.SetCatalogue(earFor(heard)) })
		took := nw.Until(5*time.Minute, "the late one has honest peers", func() bool { return s.honest(late) >= 4 })
		t.Logf("%d honest peers of %d after %s; the crowd was asked %d times", s.honest(late), len(late.Peers()), took, s.asked.Load()-asked)
		if s.asked.Load() == asked {
			t.Error("nobody asked the crowd: it is not near enough")
		}
		if got := <-heard; string(got) != string(news) {
			t.Errorf("heard %q", got)
		}
	})
}

// catalogueOf is a catalogue that never changes.
type catalogueOf [][]byte

func (c catalogueOf) Live() [][]byte     { return c }
func (c catalogueOf) Learn([]byte) error { return nil }

// earFor is a catalogue that passes on what it learns.
type earFor chan<- []byte

func (e earFor) Live() [][]byte { return nil }
func (e earFor) Learn(data []byte) error {
	e <- data
	return nil
}
