package main

import (
	"context"
	"fmt"
	"sync"

	"github.com/talka-grid/talka/grid/api"
	"github.com/talka-grid/talka/workunits"
)

// narrator tells what nodes of the demo see, each thing once, and events that
// come in swarms as one line.
type narrator struct {
	demo  *demo
	names map[workunits.NodeID]string

	mu       sync.Mutex
	accepted map[uint32]bool
	most     int             // accepted units told so far
	told     map[string]bool // what is told once
	swarm    swarm
}

// swarm is events of one kind about one node that followed one another.
type swarm struct {
	kind  string
	node  workunits.NodeID
	units map[uint32]bool
}

func newNarrator(d *demo) *narrator {
	n := &narrator{demo: d, names: map[workunits.NodeID]string{d.publisher.status.PeerID: d.publisher.name},
		accepted: map[uint32]bool{}, told: map[string]bool{}}
	for _, v := range d.volunteers {
		n.names[v.status.PeerID] = v.name
	}
	return n
}

// follow tells what a node sees of a job until ctx ends or the node does.
func (n *narrator) follow(ctx context.Context, node *demoNode, id workunits.JobID) {
	_ = node.client.Events(ctx, 0, id, func(e api.Event) error { // it ends with the demo
		n.hear(e)
		return nil
	})
}

func (n *narrator) hear(e api.Event) {
	n.mu.Lock()
	defer n.mu.Unlock()
	switch e.Kind {
	case "accepted":
		n.accepted[e.Unit] = true
		if c := len(n.accepted); c%10 == 0 && c > n.most {
			n.most = c
			n.tell("%d of %d units accepted", c, n.demo.units)
		}
	case "reopened", "expired":
		if n.swarm.kind != e.Kind || n.swarm.node != e.Node {
			n.end()
			n.swarm = swarm{e.Kind, e.Node, map[uint32]bool{}}
		}
		n.swarm.units[e.Unit] = true
		if e.Kind == "reopened" {
			delete(n.accepted, e.Unit)
			n.most = len(n.accepted)
		}
	case "disputed":
		n.once(fmt.Sprintf("results of unit %d differ: it gets further copies", e.Unit))
	case "fault":
		n.once(n.names[e.Node] + " is proven to have lied, and loses its stake")
	}
}

func (n *narrator) once(text string) {
	if !n.told[text] {
		n.told[text] = true
		n.tell("%s", text)
	}
}

func (n *narrator) tell(format string, args ...any) {
	n.end()
	n.demo.say(format, args...)
}

// end tells a swarm in one line, once.
func (n *narrator) end() {
	s := n.swarm
	n.swarm = swarm{}
	text := ""
	switch s.kind {
	case "reopened":
		text = fmt.Sprintf("%d accepted units reopen: they rested on copies that no longer count", len(s.units))
	case "expired":
		text = fmt.Sprintf("leases of %s have expired: others get its units (%d)", n.names[s.node], len(s.units))
	}
	if text != "" && !n.told[text] {
		n.told[text] = true
		n.demo.say("%s", text)
	}
}

// flush tells what has not been told yet.
func (n *narrator) flush() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.end()
}
