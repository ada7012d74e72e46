package grid

import (
	"time"

	"github.com/talka-grid/talka/grid/phrase"
	"github.com/talka-grid/talka/workunits"
)

// ReachInfo tells how others can reach this node, as far as it is known. What
// others find out about it takes some minutes.
type ReachInfo struct {
	Loopback     bool               `json:"loopback"`      // listens for this machine only
	Public       bool               `json:"public"`        // others outside reached it
	Private      bool               `json:"private"`       // others outside tried in vain; neither: not known yet
	UDP          string             `json:"udp"`           // what the router does with UDP: easy, hard or unknown
	TCP          string             `json:"tcp"`           // and with TCP
	Router       bool               `json:"router"`        // it takes orders (UPnP, NAT-PMP, PCP)
	Forwards     bool               `json:"forwards"`      // and forwards a port to this node
	Relays       []workunits.NodeID `json:"relays"`        // by which others reach this node
	Punched      int                `json:"punched"`       // relayed connections that became direct
	PunchFailed  int                `json:"punch_failed"`  // and that did not
	PeersQUIC    int                `json:"peers_quic"`    // connected directly, outside the LAN
	PeersOther   int                `json:"peers_other"`   // the same by TCP alone
	PeersLAN     int                `json:"peers_lan"`     // on the LAN or this machine
	PeersRelayed int                `json:"peers_relayed"` // through a relay only
	Listen       []string           `json:"listen"`        // addresses that the node listens on
	Membership   *Membership        `json:"membership,omitempty"`
}

// Membership is a node's place in a private network.
type Membership struct {
	State  string           `json:"state"` // member, invited, expired or removed
	Until  time.Time        `json:"until"`
	By     workunits.NodeID `json:"issued_by"`
	Issues bool             `json:"issues"` // this node has the network key
}

// Said says the same in words.
func (m Membership) Said() phrase.Phrase {
	until, by := m.Until.Local().Format("2006-01-02"), m.By.Short()
	switch {
	case m.Issues:
		return phrase.New("net_issues", "This node has the key of its private network, and lets others in.")
	case m.State == "expired":
		return phrase.New("net_expired", "This node is no member of its private network any more: expired.")
	case m.State == "removed":
		return phrase.New("net_removed", "This node is no member of its private network any more: removed.")
	case m.State == "invited":
		return phrase.New("net_invited", "This node is in its private network by an invite until {until}, and a member of its own once it meets node {node}.", "until", until, "node", by)
	}
	return phrase.New("net_member", "This node is a member of its private network until {until}; node {node} renews that.", "until", until, "node", by)
}

// Reach tells how others can reach this node.
func (n *Node) Reach() ReachInfo { return n.cfg.Net.Reach() }

// BlockPeer cuts off a node and keeps it away, or takes that back. It does not
// outlive the process; the setting block does.
func (n *Node) BlockPeer(id workunits.NodeID, block bool) error { return n.cfg.Net.Block(id, block) }
