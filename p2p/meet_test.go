package p2p

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/record"
	ma "github.com/multiformats/go-multiaddr"

	"github.com/talka-grid/talka/workunits"
)

// signedBy is a peer record of one node, signed by a key.
func signedBy(t testing.TB, of peer.ID, key string, addrs ...string) []byte {
	t.Helper()
	private, err := crypto.UnmarshalEd25519PrivateKey(keyOf(key))
	if err != nil {
		t.Fatal(err)
	}
	r := &peer.PeerRecord{PeerID: of, Seq: uint64(time.Now().UnixNano())}
	for _, a := range addrs {
		r.Addrs = append(r.Addrs, ma.StringCast(a))
	}
	signed, err := record.Seal(r, private)
	if err != nil {
		t.Fatal(err)
	}
	b, err := signed.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func idOf(t testing.TB, key string) peer.ID {
	t.Helper()
	id, err := peerID(workunits.NodeIDOf(keyOf(key)))
	if err != nil {
		t.Fatal(err)
	}
	return id
}

// A member tells of another one, with addresses that are good for dialling.
func TestPeersTellOfPeers(t *testing.T) {
	t.Parallel()
	b, c := start(t, "b", Config{}, nil), start(t, "c", Config{}, nil)
	if err := c.Connect(within(t), b.peer()); err != nil {
		t.Fatal(err)
	}
	awaitPeers(t, b, 1)
	a := newHost(t, "a", Config{}, nil) // Run is not called: nothing but ask finds anybody
	if err := a.Connect(within(t), b.peer()); err != nil {
		t.Fatal(err)
	}
	eventually(t, func(ctx context.Context) error {
		if err := a.ask(ctx, b.base.ID()); err != nil {
			return err
		}
		if len(a.introduced.peers()) == 0 {
			return errors.New("b told of nobody")
		}
		return nil
	})
	told := a.introduced.peers()
	if len(told) != 1 || told[0].ID != c.base.ID() {
		t.Fatalf("b told of %v, want c", told)
	}
	if err := a.connect(within(t), told[0]); err != nil {
		t.Fatal(err)
	}
}

func TestForgedIntroductions(t *testing.T) {
	t.Parallel()
	const addr = "/ip4/9.9.9.9/tcp/1"
	good := signedBy(t, idOf(t, "x"), "x", addr)
	if all, err := readIntroductions(workunits.Encode(introductions{[][]byte{good}})); err != nil || len(all) != 1 {
		t.Fatalf("a good record: %v", err)
	}
	many := make([][]byte, maxTold+1)
	for i := range many {
		many[i] = good
	}
	tampered := append([]byte(nil), good...)
	tampered[len(tampered)-1] ^= 1
	for name, records := range map[string][][]byte{
		"too many":            many,
		"empty":               {{}},
		"large":               {make([]byte, maxRecordBytes+1)},
		"garbage":             {garbage(200)},
		"tampered with":       {tampered},
		"signed by another":   {signedBy(t, idOf(t, "x"), "y", addr)},
		"one bad of two":      {good, garbage(10)},
		"no record of a peer": {[]byte("\x0a\x00")},
	} {
		if _, err := readIntroductions(workunits.Encode(introductions{records})); err == nil {
			t.Errorf("%s: want an error", name)
		}
	}
}

// Who tells of many again and again takes a bounded place in memory, and asking
// is bounded in time.
func TestIntroductionsAreBounded(t *testing.T) {
	t.Parallel()
	h := newHost(t, "h", Config{}, nil)
	for i := range 3 * maxIntroduced {
		h.introduced.add(peer.AddrInfo{ID: peer.ID(rune(i))})
	}
	if n := len(h.introduced.peers()); n != maxIntroduced {
		t.Errorf("%d peers are remembered, want %d", n, maxIntroduced)
	}
	now := time.Now()
	if p := peer.ID("p"); !h.introduced.mayAsk(p, now) || h.introduced.mayAsk(p, now.Add(askAgain/2)) || !h.introduced.mayAsk(p, now.Add(askAgain)) {
		t.Error("want a peer to be asked once in a while")
	}
	e := enemy(t, h)
	e.SetStreamHandler(h.protocol("peers"), func(s network.Stream) { _, _ = s.Write(lengthOf(peersFrame + 1)) })
	if err := h.ask(within(t), e.ID()); err == nil {
		t.Error("an answer beyond the limit was read")
	}
}

func FuzzReadIntroductions(f *testing.F) {
	f.Add(workunits.Encode(introductions{[][]byte{signedBy(f, idOf(f, "x"), "x", "/ip4/9.9.9.9/tcp/1")}}))
	f.Add([]byte{0xa1})
	f.Fuzz(func(t *testing.T, b []byte) {
		all, err := readIntroductions(b)
		if err == nil && len(all) > maxTold {
			t.Errorf("%d records", len(all))
		}
	})
}
