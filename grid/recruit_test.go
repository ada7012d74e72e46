package grid

import (
	"fmt"
	"slices"
	"testing"

	"github.com/talka-grid/talka/workunits"
)

func TestSpread(t *testing.T) {
	t.Parallel()
	peer := func(n byte, latency float64, relayed bool, addrs ...string) PeerInfo {
		return PeerInfo{PeerID: workunits.NodeID{n}, Addrs: addrs, Relayed: relayed, LatencyMS: latency}
	}
	peers := []PeerInfo{
		peer(1, 5, false, "/ip4/203.0.113.7/udp/4001/quic-v1"),
		peer(2, 1, false, "/ip4/203.0.113.9/tcp/4001"),
		peer(3, 9, false, "/ip4/198.51.100.1/tcp/4001"),
		peer(4, 2, false, "/dns4/example.org/tcp/1", "/ip6/2001:db8:1:2::1/tcp/4001"),
		peer(5, 3, false, "/ip6/2001:db8:1:3::1/tcp/4001"),
		peer(6, 0, true),
		peer(7, 4, true, "/ip4/192.0.2.1/tcp/1"),
	}
	for _, c := range []struct {
		n    int
		want string
	}{{0, "[]"}, {3, "[2 4 3]"}, {5, "[2 4 3 6 7]"}, {6, "[2 4 3 6 7 5]"}, {20, "[2 4 3 6 7 5 1]"}} {
		list := []int{}
		for _, p := range spread(slices.Clone(peers), c.n) {
			list = append(list, int(p.PeerID[0]))
		}
		if got := fmt.Sprint(list); got != c.want {
			t.Errorf("%d of them: %s, want %s", c.n, got, c.want)
		}
	}
}
