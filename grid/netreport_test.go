package grid

import (
	"strings"
	"testing"

	"github.com/talka-grid/talka/workunits"
)

func TestNetReport(t *testing.T) {
	t.Parallel()
	relays := []workunits.NodeID{{1}}
	listen := []string{"/ip4/192.168.1.2/udp/8255/quic-v1", "/ip4/192.168.1.2/tcp/8255", "/ip6/fe80::1/udp/8255/quic-v1"}
	for _, test := range []struct {
		name  string
		reach ReachInfo
		ok    bool
		state string
		next  []string // the beginnings of what to try, all of them
	}{
		{"alone", ReachInfo{}, false, "Nobody is connected", []string{"see whether this machine", "if there are peers behind"}},
		{"loopback", ReachInfo{Loopback: true, PeersLAN: 2}, true, "this machine only", []string{"to be reached"}},
		{"LAN", ReachInfo{PeersLAN: 2}, true, "on this LAN", []string{"to work with others"}},
		{"public", ReachInfo{Public: true, PeersQUIC: 3}, true, "directly", nil},
		{"unknown", ReachInfo{PeersQUIC: 1}, true, "not known yet", []string{"wait some minutes"}},
		{"no relay", ReachInfo{Private: true, PeersQUIC: 1, Listen: listen}, false, "no peer relays", []string{"connect to a node", "forward UDP 8255, TCP 8255 to"}},
		{"easy router", ReachInfo{Private: true, UDP: "easy", PeersQUIC: 1, Relays: relays, Router: true}, true, "keeps ports", []string{"the router takes orders"}},
		{"hard router", ReachInfo{Private: true, UDP: "hard", PeersQUIC: 1, PeersRelayed: 2, Relays: relays}, true, "another port", []string{"large results", "forward the node's ports"}},
		{"holes", ReachInfo{Private: true, Punched: 1, PeersQUIC: 1, Relays: relays}, true, "keeps ports", []string{"forward the node's ports"}},
		{"no holes", ReachInfo{Private: true, PunchFailed: 3, PeersQUIC: 1, Relays: relays}, true, "another port", []string{"large results", "forward the node's ports"}},
		{"two routers", ReachInfo{Private: true, UDP: "easy", PeersQUIC: 1, Relays: relays, Router: true, Forwards: true}, true, "keeps ports", []string{"the router says"}},
		{"no UDP", ReachInfo{Private: true, PeersOther: 2, Relays: relays, Listen: listen}, true, "not known yet", []string{"forward UDP", "let UDP out"}},
		{"removed", ReachInfo{Membership: &Membership{State: "removed"}}, false, "Nobody is connected", []string{"ask the owner of node", "see whether this machine", "if there are peers behind"}},
		{"member", ReachInfo{PeersLAN: 2, Membership: &Membership{State: "member"}}, true, "on this LAN", []string{"to work with others"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			r := test.reach.Report()
			if r.OK != test.ok || !strings.Contains(r.State, test.state) || len(r.Next) != len(test.next) {
				t.Fatalf("the report is %t %q, next %q; want %t, %q and %d to try", r.OK, r.State, r.Next, test.ok, test.state, len(test.next))
			}
			for i, begin := range test.next {
				if !strings.HasPrefix(r.Next[i], begin) {
					t.Errorf("to try is %q, want it to begin with %q", r.Next[i], begin)
				}
			}
		})
	}
}
