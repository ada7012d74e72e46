package p2p

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"
)

func ties(n int, own bool, place func(i int) netip.Prefix) (all []tie) {
	for i := range n {
		all = append(all, tie{peer.ID(fmt.Sprintf("%t %s %d", own, place(0), i)), own, place(i)})
	}
	return all
}

func anywhere(i int) netip.Prefix {
	return netip.PrefixFrom(netip.AddrFrom4([4]byte{20, byte(i), 0, 0}), 16)
}
func campus(int) netip.Prefix  { return netip.MustParsePrefix("8.8.0.0/16") }
func private(int) netip.Prefix { return netip.Prefix{} }

func TestProtectable(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		have []tie
		own  int // protected ones that this node dialled
		in   int // that dialled it
	}{
		"nobody":                  {nil, 0, 0},
		"few":                     {append(ties(3, true, anywhere), ties(2, false, anywhere)...), 3, 2},
		"own ones before others":  {append(ties(40, false, anywhere), ties(20, true, anywhere)...), maxProtect, 0},
		"all dial this node":      {ties(40, false, anywhere), 0, maxDialled},
		"all in one place":        {append(ties(20, true, campus), ties(20, false, campus)...), maxOfRange, 0},
		"one place and elsewhere": {append(ties(20, true, campus), ties(5, false, anywhere)...), maxOfRange, 5},
		"a LAN is no place":       {ties(20, true, private), maxProtect, 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			chosen := protectable(test.have, nil)
			own, in := 0, 0
			for _, l := range test.have {
				switch {
				case chosen[l.id] && l.own:
					own++
				case chosen[l.id]:
					in++
				}
			}
			if own != test.own || in != test.in {
				t.Errorf("protected %d own and %d others, want %d and %d", own, in, test.own, test.in)
			}
			again := protectable(append(ties(5, true, func(i int) netip.Prefix { return anywhere(100 + i) }), test.have...), chosen)
			for _, l := range test.have {
				if l.own && chosen[l.id] && !again[l.id] {
					t.Errorf("%s lost its place to a newcomer", l.id)
				}
			}
		})
	}
}

func TestFailedPeersAreLeftAlone(t *testing.T) {
	t.Parallel()
	h := newHost(t, "patient", Config{}, nil)
	p, err := peerID(newHost(t, "gone", Config{}, nil).ID())
	if err != nil {
		t.Fatal(err)
	}
	addr := peer.AddrInfo{ID: p, Addrs: []ma.Multiaddr{ma.StringCast("/ip4/127.0.0.1/tcp/1")}}
	if len(h.inOrder([]peer.AddrInfo{addr, addr})) != 1 {
		t.Fatal("want the peer once before it fails")
	}
	var waits []time.Duration
	for range 12 {
		h.fail(p)
		waits = append(waits, h.manager.failed[p].wait)
	}
	if len(h.inOrder([]peer.AddrInfo{addr})) != 0 {
		t.Error("a peer that has just failed is dialled again")
	}
	if waits[0] != retryFirst || waits[1] != 2*retryFirst || waits[11] != retryLast {
		t.Errorf("waits are %v, want %v, twice that, ..., %v", waits, retryFirst, retryLast)
	}
	for i := range 2 * maxFailed {
		h.fail(peer.ID(fmt.Sprint(i)))
	}
	if n := len(h.manager.failed); n > maxFailed {
		t.Errorf("%d failed peers are remembered, at most %d may be", n, maxFailed)
	}
}
