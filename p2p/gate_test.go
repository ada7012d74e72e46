package p2p

import (
	"context"
	"errors"
	"testing"

	"github.com/talka-grid/talka/workunits"
)

func TestBlock(t *testing.T) {
	t.Parallel()
	a, b := start(t, "blocker", Config{}, nil), start(t, "blocked", Config{}, nil)
	if err := a.Connect(within(t), b.peer()); err != nil {
		t.Fatal(err)
	}
	awaitPeers(t, a, 1)
	if err := a.Block(b.ID(), true); err != nil {
		t.Fatal(err)
	}
	await(t, b, "b is cut off", func() bool { return len(b.Peers()) == 0 })
	if err := a.Connect(within(t), b.peer()); !errors.Is(err, ErrUnreachable) {
		t.Errorf("a dials whom it blocked: %v", err)
	}
	// A dialler may take itself for connected until it hears that it is not.
	if err := b.Connect(within(t), a.peer()); err == nil {
		await(t, b, "b is turned away", func() bool { return len(b.Peers()) == 0 })
	}
	if n := len(a.Peers()); n > 0 {
		t.Error("the blocked one came back")
	}
	if err := a.Block(b.ID(), false); err != nil {
		t.Fatal(err)
	}
	eventually(t, func(ctx context.Context) error { return a.Connect(ctx, b.peer()) })
	if err := a.Block(a.ID(), true); err == nil {
		t.Error("a node can block itself")
	}
}

func TestListsOfTheConfig(t *testing.T) {
	t.Parallel()
	friend, foe, other := start(t, "friend", Config{}, nil), start(t, "foe", Config{}, nil), start(t, "other", Config{}, nil)
	strict := start(t, "strict", Config{Allow: []workunits.NodeID{friend.ID(), foe.ID()}, Block: []workunits.NodeID{foe.ID()}}, nil)
	eventually(t, func(ctx context.Context) error { return friend.Connect(ctx, strict.peer()) })
	for _, h := range []*Host{foe, other} {
		if err := h.Connect(within(t), strict.peer()); err == nil {
			await(t, h, "it is turned away", func() bool { return len(h.Peers()) == 0 })
		}
	}
	await(t, strict, "the friend alone is connected", func() bool {
		all := strict.Peers()
		return len(all) == 1 && all[0].ID == friend.ID()
	})
	cfg := Config{Block: make([]workunits.NodeID, maxListed+1)}
	if err := new(gate).set(nil, cfg.Block); err == nil {
		t.Errorf("%d nodes can be blocked", len(cfg.Block))
	}
	if err := new(gate).set([]workunits.NodeID{{}}, nil); err == nil {
		t.Error("a node without an id can be allowed")
	}
}
