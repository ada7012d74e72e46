package main

import (
	"context"
	"crypto/ed25519"
	"fmt"
	"os"
	"slices"
	"strings"
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

// crookLog is what its log says when it lies first.
const crookLog = "this steward lies:"

// crook is the network of a steward that lies: what its machine says is changed
// on the way out.
type crook struct {
	grid.Network
	name string // of the network
	key  ed25519.PrivateKey
	way  string
	// The stewards to which it lies.
	fellows []workunits.NodeID

	mu   sync.Mutex
	logs map[workunits.JobID]*ledger.Ledger // the beginning of its own
	lied map[workunits.JobID]bool
}

// newCrook makes a crook from WAY:NODE,NODE.
func newCrook(c *grid.Config, text string) *crook {
	way, list, _ := strings.Cut(text, ":")
	var fellows []workunits.NodeID
	for id := range strings.SplitSeq(list, ",") {
		n, err := workunits.ParseNodeID(id)
		if err != nil {
			panic(err) // a mistake in a test
		}
		fellows = append(fellows, n)
	}
	return &crook{
		Network: c.Net, name: c.Network, key: c.Key, way: way, fellows: fellows,
		logs: map[workunits.JobID]*ledger.Ledger{}, lied: map[workunits.JobID]bool{},
	}
}

func (c *crook) Send(ctx context.Context, to workunits.NodeID, frame []byte) error {
	m, err := wire.Decode(frame)
	if err != nil {
		return err
	}
	c.mu.Lock()
	told, lie := c.change(to, m, frame)
	c.mu.Unlock()
	if told != nil {
		err = c.Network.Send(ctx, to, told)
	}
	if lie && err == nil {
		c.mu.Lock()
		defer c.mu.Unlock()
		if !c.lied[m.JobID()] {
			c.lied[m.JobID()] = true
			fmt.Fprintln(os.Stderr, crookLog, c.way)
		}
	}
	return err
}

// change is what it sends in place of a message, nil for nothing, and whether that
// is a lie.
func (c *crook) change(to workunits.NodeID, m wire.Message, frame []byte) (told []byte, lie bool) {
	push, ok := m.(wire.Push)
	other := c.fork(push)
	if !ok || !slices.Contains(c.fellows, to) {
		return frame, false
	}
	switch c.way {
	case crookOmits:
		others := slices.DeleteFunc(slices.Clone(push.Segments), c.isOwn)
		lie = len(others) < len(push.Segments)
		if push.Segments = others; len(push.Segments)+len(push.Blocks) == 0 {
			return nil, lie
		}
		return wire.Encode(push), lie
	case crookForks:
		if other != nil && !c.lied[push.Job] {
			return wire.Encode(wire.Push{Job: push.Job, Segments: other}), true
		}
	}
	return frame, false
}

// fork is the beginning of its log and then another statement than all are told;
// nil until it is, since before there is no other history.
func (c *crook) fork(push wire.Push) [][]byte {
	const after = 8 // segments that all are told of; by then they are stewards, too
	l := c.logs[push.Job]
	if l == nil {
		l = ledger.New(c.name, push.Job)
		c.logs[push.Job] = l
	}
	goesOn := false
	for _, raw := range push.Segments {
		switch s, own := c.own(raw); {
		case own && len(l.Segments()) < after:
			_, _ = l.Load(raw) // what does not follow is told again
		case own:
			goesOn = goesOn || s.Seq >= l.Len(s.Author)
		}
	}
	if !goesOn {
		return nil
	}
	// In a copy, so that it has said nothing itself.
	other := ledger.New(c.name, push.Job)
	for _, raw := range l.Segments() {
		_, _ = other.Load(raw)
	}
	raw, _ := ledger.NewAuthor(c.key, other).Say(workunits.Cancel{Reason: "another history"})
	return append(l.Segments(), raw)
}

func (c *crook) isOwn(raw []byte) bool {
	_, own := c.own(raw)
	return own
}

// own reads a segment, and reports whether it is of this steward's log.
func (c *crook) own(raw []byte) (s workunits.Segment, own bool) {
	s, err := workunits.ParseSegment(raw)
	return s, err == nil && s.Author == workunits.NodeIDOf(c.key)
}
