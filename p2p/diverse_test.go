package p2p

import (
	"fmt"
	"testing"

	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"
)

// Of identities that come from one place, a bucket takes half at most; others
// come in, and so does a LAN.
func TestRoomInTheRoutingTable(t *testing.T) {
	t.Parallel()
	self := peer.ID("self")
	const bucket = 3 // where the newcomers belong
	var ids []peer.ID
	for i := 0; len(ids) < 40; i++ {
		if id := peer.ID(fmt.Sprint(i)); commonBits(self, id) == bucket {
			ids = append(ids, id)
		}
	}
	for name, test := range map[string]struct {
		addr func(i int) string
		want int
	}{
		"one place":        {func(i int) string { return fmt.Sprintf("/ip4/8.8.%d.1/tcp/1", i) }, maxOfBucket},
		"one IPv6 network": {func(i int) string { return fmt.Sprintf("/ip6/2a00:1450:%x::1/tcp/1", i) }, maxOfBucket},
		"many places":      {func(i int) string { return fmt.Sprintf("/ip4/8.%d.1.1/tcp/1", i) }, len(ids)},
		"a LAN":            {func(i int) string { return fmt.Sprintf("/ip4/192.168.1.%d/tcp/1", i) }, len(ids)},
		"through a relay": {func(int) string {
			return "/ip4/8.8.1.1/tcp/1/p2p/12D3KooWK99VoVxNE7XzyBwXEzW7xhK7Gpv85r9F3V3fyKSUKPH5/p2p-circuit"
		}, len(ids)},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			in := map[peer.ID][]ma.Multiaddr{}
			for i, id := range ids {
				if addrs := []ma.Multiaddr{ma.StringCast(test.addr(i))}; room(self, id, addrs, in) {
					in[id] = addrs
				}
			}
			if len(in) != test.want {
				t.Errorf("%d of %d came in, want %d", len(in), len(ids), test.want)
			}
		})
	}
	full := map[peer.ID][]ma.Multiaddr{}
	place := []ma.Multiaddr{ma.StringCast("/ip4/8.8.1.1/tcp/1")}
	for _, id := range ids[:maxOfBucket] {
		full[id] = place
	}
	for i := 0; ; i++ {
		if id := peer.ID(fmt.Sprint(i)); commonBits(self, id) != bucket {
			if !room(self, id, place, full) {
				t.Error("a full bucket keeps a peer out of another one")
			}
			break
		}
	}
}
