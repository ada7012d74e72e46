package grid

import (
	"strings"

	"github.com/talka-grid/talka/grid/phrase"
)

// NetReport says how others can reach a node: what is, and what to try next, which is
// empty if nothing has to be done.
type NetReport struct {
	OK    bool      `json:"ok"` // work gets through in both directions
	State string    `json:"state"`
	Facts []string  `json:"facts"`
	Next  []string  `json:"next"`
	Said  NetSaid   `json:"said"` // what State, Facts and Next are the English of
	Reach ReachInfo `json:"reach"`
}

// NetSaid is a report's sentences.
type NetSaid struct {
	State phrase.Phrase   `json:"state"`
	Facts []phrase.Phrase `json:"facts"`
	Next  []phrase.Phrase `json:"next"`
}

// Report puts what is known into words.
func (r ReachInfo) Report() NetReport {
	said := NetSaid{Facts: []phrase.Phrase{}, Next: []phrase.Phrase{}}
	all := r.PeersQUIC + r.PeersOther + r.PeersLAN + r.PeersRelayed
	said.fact(phrase.New("net_peers", "{n|peer|peers} connected: {direct} directly, {lan} on the LAN, {relayed} through a relay.",
		"n", all, "direct", r.PeersQUIC+r.PeersOther, "lan", r.PeersLAN, "relayed", r.PeersRelayed))
	if n := r.Punched + r.PunchFailed; n > 0 {
		said.fact(phrase.New("net_punched", "{done} of {n|attempt|attempts} to make a relayed connection direct succeeded.", "done", r.Punched, "n", n))
	}
	if m := r.Membership; m != nil {
		said.fact(m.Said())
		if m.State == "expired" || m.State == "removed" {
			said.next(phrase.New("net_ask_owner", "ask the owner of node {node} for an invite; stop this node, and run talka network join INVITE.", "node", m.By))
		}
	}
	ok := said.judge(r, all)
	return NetReport{OK: ok, State: said.State.Text, Facts: phrase.Texts(said.Facts), Next: phrase.Texts(said.Next), Said: said, Reach: r}
}

// judge says what state a node with so many peers is in, and whether that will do.
func (s *NetSaid) judge(r ReachInfo, all int) (ok bool) {
	switch {
	case r.Loopback:
		s.State = phrase.New("net_loopback", "This node listens for this machine only, as its settings say.")
		s.next(phrase.New("net_unloop", "to be reached by other machines, take the loopback addresses out of the setting listen (talka config explain listen)."))
		return all > 0
	case all == 0:
		s.State = phrase.New("net_alone", "Nobody is connected.")
		s.next(phrase.New("net_any", "see whether this machine has a network at all; then get an invite from somebody in the network (talka invite) and give it to talka join."))
		s.next(phrase.New("net_isolated", "if there are peers behind the same router, see that it lets its machines talk to each other (no guest network, and no isolation)."))
		return false
	case all == r.PeersLAN:
		s.State = phrase.New("net_lan", "All peers are on this LAN. They need nothing else.")
		s.next(phrase.New("net_outside", "to work with others outside too, give an invite of theirs to talka join."))
		return true
	case r.Public:
		s.State = phrase.New("net_public", "Others reach this node directly. This is as good as it gets.")
		if r.Forwards {
			s.fact(phrase.New("net_forwards", "The router forwards a port to it."))
		}
		s.blocked(r)
		return true
	case !r.Private:
		s.State = phrase.New("net_unknown", "Whether others reach this node by themselves is not known yet.")
		s.next(phrase.New("net_wait", "wait some minutes: peers outside have to try first; nodes that can be reached are needed for that."))
		s.blocked(r)
		return r.PeersQUIC+r.PeersOther > 0
	}
	s.private(r)
	s.blocked(r)
	return len(r.Relays) > 0
}

// private is about a node that others do not reach by themselves.
func (s *NetSaid) private(r ReachInfo) {
	switch {
	case len(r.Relays) == 0:
		s.State = phrase.New("net_cut_off", "Others do not reach this node: it is behind a router or a firewall, and no peer relays for it.")
		s.next(phrase.New("net_find_relay", "connect to a node that others reach and that relays: give an invite of one to talka join, or start one (talka up --seed on a machine with a public address)."))
	case r.UDP == "hard" || r.TCP == "hard" || r.Punched == 0 && r.PunchFailed >= 3:
		s.State = phrase.New("net_hard", "Others reach this node through a relay only: its router gives every connection another port.")
		s.next(phrase.New("net_slow", "large results are slow this way."))
	case r.UDP == "easy" || r.TCP == "easy" || r.Punched > 0:
		s.State = phrase.New("net_easy", "Others reach this node by way of a relay, and then directly: its router keeps ports.")
	default:
		s.State = phrase.New("net_relayed", "Others reach this node by way of a relay. What its router does is not known yet.")
	}
	if n := len(r.Relays); n > 0 {
		s.fact(phrase.New("net_relays", "{n|peer relays|peers relay} for it.", "n", n))
	}
	switch p := ports(r.Listen); {
	case r.Forwards:
		s.next(phrase.New("net_two_routers", "the router says that it forwards a port, but nobody comes through: a second router (the provider's) may stand before it; ask for a public address, or use IPv6."))
	case r.Router:
		s.next(phrase.New("net_allow", "the router takes orders but forwards no port: allow that to this machine in the router's settings (UPnP, NAT-PMP)."))
	case p == "":
		s.next(phrase.New("net_forward_all", "forward the node's ports to this machine in the router's settings, or turn on UPnP or NAT-PMP there, and IPv6 if there is any."))
	default:
		s.next(phrase.New("net_forward", "forward {ports} to this machine in the router's settings, or turn on UPnP or NAT-PMP there, and IPv6 if there is any.", "ports", p))
	}
}

// blocked tells if UDP seems to be: nobody outside is connected by QUIC.
func (s *NetSaid) blocked(r ReachInfo) {
	if r.PeersQUIC == 0 && r.PeersOther > 0 {
		s.fact(phrase.New("net_no_udp", "No connection to the outside uses UDP: a firewall seems to drop it."))
		s.next(phrase.New("net_let_udp", "let UDP out, and its answers in, at this machine's or the router's firewall; without it two nodes behind routers seldom reach each other directly."))
	}
}

func (s *NetSaid) fact(p phrase.Phrase) { s.Facts = append(s.Facts, p) }

func (s *NetSaid) next(p phrase.Phrase) { s.Next = append(s.Next, p) }

// ports names the ports of the listen addresses, if there are any.
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
	return strings.Join(all, ", ")
}
