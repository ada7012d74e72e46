package main

import (
	"context"
	"crypto/ed25519"
	"slices"
	"sync"

	"github.com/talka-grid/talka/grid"
	"github.com/talka-grid/talka/grid/wire"
	"github.com/talka-grid/talka/workunits"
	"github.com/talka-grid/talka/workunits/ledger"
)

// Ways of a lying steward.
const (
	crookOmits = "omits" // tells its fellow stewards nothing of what it says
	crookForks = "forks" // tells one of them another history
)

// crook is the network of a steward that lies: what its machine says is changed
// on the way out. Its fellow stewards are those whose logs it asks for.
type crook struct {
	grid.Network
	name string // of the network
	key  ed25519.PrivateKey
	way  string

	mu      sync.Mutex
	fellows []workunits.NodeID
	own     map[workunits.JobID]*ledger.Ledger // the beginning of its logs
	lied    map[workunits.JobID]bool
}

func newCrook(c *grid.Config, way string) *crook {
	return &crook{
		Network: c.Net, name: c.Network, key: c.Key, way: way,
		own: map[workunits.JobID]*ledger.Ledger{}, lied: map[workunits.JobID]bool{},
	}
}

func (c *crook) Send(ctx context.Context, to workunits.NodeID, frame []byte) error {
	m, err := wire.Decode(frame)
	if err != nil {
		return err
	}
	c.mu.Lock()
	frame = c.change(to, m, frame)
	c.mu.Unlock()
	if frame == nil {
		return nil
	}
	return c.Network.Send(ctx, to, frame)
}

// change is what it sends in place of a message; nil is nothing.
func (c *crook) change(to workunits.NodeID, m wire.Message, frame []byte) []byte {
	if pull, ok := m.(wire.Pull); ok && !pull.Part && !slices.Contains(c.fellows, to) {
		c.fellows = append(c.fellows, to)
	}
	push, ok := m.(wire.Push)
	if !ok || !slices.Contains(c.fellows, to) {
		return frame
	}
	switch c.way {
	case crookOmits:
		push.Segments = slices.DeleteFunc(slices.Clone(push.Segments), c.isOwn)
		if len(push.Segments)+len(push.Blocks) == 0 {
			return nil
		}
		return wire.Encode(push)
	case crookForks:
		if other := c.fork(push); other != nil && to == c.fellows[0] && !c.lied[push.Job] {
			c.lied[push.Job] = true
			return wire.Encode(wire.Push{Job: push.Job, Segments: [][]byte{other}})
		}
	}
	return frame
}

// fork is a statement in the place of one in the push; nil while the log is short.
func (c *crook) fork(push wire.Push) []byte {
	const after = 2 // segments that all are told of
	l := c.own[push.Job]
	if l == nil {
		l = ledger.New(c.name, push.Job)
		c.own[push.Job] = l
	}
	for _, raw := range push.Segments {
		if c.isOwn(raw) && len(l.Segments()) < after {
			_, _ = l.Load(raw) // what does not follow is told again
		}
	}
	if len(l.Segments()) < after {
		return nil
	}
	// In a copy, so that it has said nothing itself.
	other := ledger.New(c.name, push.Job)
	for _, raw := range l.Segments() {
		_, _ = other.Load(raw)
	}
	raw, _ := ledger.NewAuthor(c.key, other).Say(workunits.Cancel{Reason: "another history"})
	return raw
}

func (c *crook) isOwn(raw []byte) bool {
	s, err := workunits.ParseSegment(raw)
	return err == nil && s.Author == workunits.NodeIDOf(c.key)
}
