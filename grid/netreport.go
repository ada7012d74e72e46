package grid

import (
	"fmt"
	"strings"
)

// NetReport says how others can reach a node: what is, and what to try next, which is
// empty if nothing has to be done.
type NetReport struct {
	OK    bool      `json:"ok"` // work gets through in both directions
	State string    `json:"state"`
	Facts []string  `json:"facts"`
	Next  []string  `json:"next"`
	Reach ReachInfo `json:"reach"`
}

// Report puts what is known into words.
func (r ReachInfo) Report() NetReport {
	out := NetReport{Facts: []string{}, Next: []string{}, Reach: r}
	all := r.PeersQUIC + r.PeersOther + r.PeersLAN + r.PeersRelayed
	outside := all - r.PeersLAN
	hard := r.UDP == "hard" || r.TCP == "hard" || (r.Punched == 0 && r.PunchFailed >= 3)
	out.fact("%s connected: %d directly, %d on the LAN, %d through a relay.",
		plural(all, "peer"), r.PeersQUIC+r.PeersOther, r.PeersLAN, r.PeersRelayed)
	if n := r.Punched + r.PunchFailed; n > 0 {
		out.fact("%d of %s to make a relayed connection direct succeeded.", r.Punched, plural(n, "attempt"))
	}
	if m := r.Membership; m != nil {
		out.fact("%s", m.Sentence())
		if m.State == "expired" || m.State == "removed" {
			out.next("ask the owner of node %s for an invite; stop this node, and run talka network join INVITE.", m.By)
		}
	}
	switch {
	case r.Loopback:
		out.OK = all > 0
		out.State = "This node listens for this machine only, as its settings say."
		out.next("to be reached by other machines, take the loopback addresses out of the setting listen (talka config explain listen).")
		return out
	case all == 0:
		out.State = "Nobody is connected."
		out.next("see whether this machine has a network at all; then get an invite from somebody in the network (talka invite) and give it to talka join.")
		out.next("if there are peers behind the same router, see that it lets its machines talk to each other (no \"guest\" or \"isolated\" network).")
		return out
	case outside == 0:
		out.OK = true
		out.State = "All peers are on this LAN. They need nothing else."
		out.next("to work with others outside too, give an invite of theirs to talka join.")
		return out
	case r.Public:
		out.OK = true
		out.State = "Others reach this node directly. This is as good as it gets."
		if r.Forwards {
			out.fact("The router forwards a port to it.")
		}
		out.blocked(r)
		return out
	case !r.Private:
		out.OK = r.PeersQUIC+r.PeersOther > 0
		out.State = "Whether others reach this node by themselves is not known yet."
		out.next("wait some minutes: peers outside have to try first; nodes that can be reached are needed for that.")
		out.blocked(r)
		return out
	}
	out.private(r, hard)
	out.blocked(r)
	return out
}

// private is about a node that others do not reach by themselves.
func (out *NetReport) private(r ReachInfo, hard bool) {
	out.OK = len(r.Relays) > 0
	switch {
	case len(r.Relays) == 0:
		out.State = "Others do not reach this node: it is behind a router or a firewall, and no peer relays for it."
		out.next("connect to a node that others reach and that relays: give an invite of one to talka join, or start one (talka up --seed on a machine with a public address).")
	case hard:
		out.State = "Others reach this node through a relay only: its router gives every connection another port."
		out.next("large results are slow this way.")
	case r.UDP == "easy" || r.TCP == "easy" || r.Punched > 0:
		out.State = "Others reach this node by way of a relay, and then directly: its router keeps ports."
	default:
		out.State = "Others reach this node by way of a relay. What its router does is not known yet."
	}
	if len(r.Relays) > 0 {
		out.fact("%s for it.", map[bool]string{true: "1 peer relays", false: fmt.Sprintf("%d peers relay", len(r.Relays))}[len(r.Relays) == 1])
	}
	switch {
	case r.Forwards:
		out.next("the router says that it forwards a port, but nobody comes through: a second router (the provider's) may stand before it; ask for a public address, or use IPv6.")
	case r.Router:
		out.next("the router takes orders but forwards no port: allow that to this machine in the router's settings (UPnP, NAT-PMP).")
	default:
		out.next("forward %s to this machine in the router's settings, or turn on UPnP or NAT-PMP there, and IPv6 if there is any.", ports(r.Listen))
	}
}

// blocked tells if UDP seems to be: nobody outside is connected by QUIC.
func (out *NetReport) blocked(r ReachInfo) {
	if r.PeersQUIC == 0 && r.PeersOther > 0 {
		out.fact("No connection to the outside uses UDP: a firewall seems to drop it.")
		out.next("let UDP out, and its answers in, at this machine's or the router's firewall; without it two nodes behind routers seldom reach each other directly.")
	}
}

func (out *NetReport) fact(format string, args ...any) {
	out.Facts = append(out.Facts, fmt.Sprintf(format, args...))
}

func (out *NetReport) next(format string, args ...any) {
	out.Next = append(out.Next, fmt.Sprintf(format, args...))
}

// ports names the ports of the listen addresses.
func ports(listen []string) string {
	var all []string
	for _, a := range listen {
		parts := strings.Split(a, "/")
		for i, p := range parts[:max(len(parts)-1, 0)] {
			if name := strings.ToUpper(p) + " " + parts[i+1]; (p == "udp" || p == "tcp") && !strings.Contains(strings.Join(all, ","), name) {
				all = append(all, name)
			}
		}
	}
	if len(all) == 0 {
		return "the node's ports"
	}
	return strings.Join(all, " and ")
}

func plural(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}
