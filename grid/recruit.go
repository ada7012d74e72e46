package grid

import (
	"cmp"
	"context"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/talka-grid/talka/grid/wire"
	"github.com/talka-grid/talka/workunits"
)

// recruit asks connected peers to be stewards of a job of this node's and chooses
// want at most among those that agree, none of which is in known.
func (n *Node) recruit(ctx context.Context, id workunits.JobID, block []byte, want int, known []workunits.NodeID) ([]workunits.Steward, error) {
	answers := make(chan answer, maxAsked)
	asked := map[workunits.NodeID]bool{}
	var peers []PeerInfo
	err := n.do(ctx, func() {
		n.answers[id] = answers
		for _, p := range n.cfg.Net.Peers() {
			if len(asked) < maxAsked && !asked[p.PeerID] && !slices.Contains(known, p.PeerID) {
				asked[p.PeerID] = true
				peers = append(peers, p)
				n.send(p.PeerID, wire.Ask{Job: id, Manifest: block})
			}
		}
	})
	if err != nil {
		return nil, err
	}
	defer n.post(func() { delete(n.answers, id) })
	deadline := time.NewTimer(askTime)
	defer deadline.Stop()
	agreed := map[workunits.NodeID][32]byte{}
	for open := true; open && len(asked) > 0; {
		select {
		case a := <-answers:
			if asked[a.from] && a.Yes {
				agreed[a.from] = a.Enc
			}
			delete(asked, a.from)
		case <-deadline.C:
			open = false
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
	peers = slices.DeleteFunc(peers, func(p PeerInfo) bool { _, yes := agreed[p.PeerID]; return !yes })
	var list []workunits.Steward
	for _, p := range spread(peers, want) {
		list = append(list, workunits.Steward{Node: p.PeerID, Enc: agreed[p.PeerID]})
	}
	return list, nil
}

// recruitMore lists further stewards, as many as agree, when the job's machine
// asks for them.
func (n *Node) recruitMore(j *job, want int) {
	known := []workunits.NodeID{n.self}
	for _, s := range j.list {
		known = append(known, s.Node)
	}
	n.goDo(func(ctx context.Context) {
		list, err := n.recruit(ctx, j.id, j.block, want, known)
		if err != nil || len(list) == 0 {
			return
		}
		n.post(func() { n.list(j, list) })
	})
}

// spread chooses n peers of as many operators as it can, those that are reached
// without a relay first, then the nearest.
func spread(peers []PeerInfo, n int) (list []PeerInfo) {
	peers = slices.SortedStableFunc(slices.Values(peers), func(x, y PeerInfo) int {
		relayed := func(p PeerInfo) int {
			if p.Relayed {
				return 1
			}
			return 0
		}
		return cmp.Or(cmp.Compare(relayed(x), relayed(y)), cmp.Compare(x.LatencyMS, y.LatencyMS))
	})
	for len(list) < n && len(peers) > 0 {
		var rest []PeerInfo
		taken := map[string]bool{}
		for _, p := range peers { // one of each operator in a round
			if o := operator(p.Addrs); len(list) < n && (o == "" || !taken[o]) {
				taken[o] = true
				list = append(list, p)
			} else {
				rest = append(rest, p)
			}
		}
		peers = rest
	}
	return list
}

// operator is what tells the operators of peers apart: the /24 or /48 of their
// first address, empty if no address is known.
func operator(addrs []string) string {
	for _, a := range addrs {
		parts := strings.SplitN(strings.TrimPrefix(a, "/"), "/", 3)
		if len(parts) < 2 {
			continue
		}
		ip, err := netip.ParseAddr(parts[1])
		if err != nil {
			continue
		}
		bits := 24
		if ip = ip.Unmap(); ip.Is6() {
			bits = 48
		}
		if p, err := ip.Prefix(bits); err == nil {
			return p.String()
		}
	}
	return ""
}
