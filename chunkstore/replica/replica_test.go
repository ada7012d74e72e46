package replica

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/ipfs/go-cid"

	"github.com/talka-grid/talka/workunits"
)

var start = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

func node(i int) (n workunits.NodeID) {
	binary.BigEndian.PutUint32(n[:], uint32(i)+1)
	return n
}

func root(i int) cid.Cid { return workunits.RawCid(workunits.Sum(fmt.Append(nil, "object ", i))) }

// keeper is one with peers of operators and nets by number, all there.
func keeper(now time.Time, peers ...Peer) *Keeper {
	k := New(1<<30, DefaultTimes())
	for _, p := range peers {
		k.Heard(now, p)
	}
	return k
}

func kinds(list []Effect, kind Kind) (n []workunits.NodeID) {
	for _, e := range list {
		if e.Kind == kind {
			n = append(n, e.To)
		}
	}
	return n
}

func TestSpread(t *testing.T) {
	t.Parallel()
	var peers []Peer
	for i := range 12 {
		peers = append(peers, Peer{node(i), fmt.Sprint("operator ", i/4), fmt.Sprint("net ", i/2)})
	}
	k, chance := keeper(start, peers...), rand.New(rand.NewPCG(1, 1))
	k.Tick(start, chance) // the budget begins
	now := start.Add(time.Minute)
	k.Keep(now, Object{Root: root(1), Bytes: 100, Leaves: 4, Goal: Goal{Copies: 3, Most: 3}}, node(0))
	placed := kinds(k.Tick(now, chance), Place)
	operators := map[int]bool{0: true}
	for _, n := range placed {
		operators[int(binary.BigEndian.Uint32(n[:])-1)/4] = true
	}
	if len(placed) != 2 || len(operators) != 3 {
		t.Errorf("replicas at %v, of %d operators of 3", placed, len(operators))
	}
	// Two more have to share an operator, and no network.
	k.Keep(now, Object{Root: root(1), Bytes: 100, Leaves: 4, Goal: Goal{Copies: 6, Most: 6}})
	placed = append(placed, kinds(k.Tick(now, chance), Place)...)
	nets := map[int]bool{0: true}
	for _, n := range placed {
		nets[int(binary.BigEndian.Uint32(n[:])-1)/2] = true
	}
	if len(placed) != 5 || len(nets) != 6 {
		t.Errorf("%d replicas of %d networks", len(placed)+1, len(nets))
	}
}

func TestSilentReturns(t *testing.T) {
	t.Parallel()
	k, chance := keeper(start, Peer{Node: node(0)}, Peer{Node: node(1)}, Peer{Node: node(2)}), rand.New(rand.NewPCG(1, 1))
	o := Object{Root: root(1), Bytes: 100, Leaves: 4, Goal: Goal{Copies: 2, Most: 2}}
	k.Keep(start, o, node(0), node(1))
	want := func(now time.Time, state State, replicas int) {
		t.Helper()
		if h, ok := k.Health(now, o.Root); !ok || h.State != state || h.Replicas != replicas {
			t.Errorf("after %v: %+v", now.Sub(start), h)
		}
	}
	want(start, Healthy, 2)
	if got := k.Tick(start, chance); len(got) != 0 {
		t.Errorf("%v", got)
	}
	now := start
	for range 50 { // node 1 is away
		now = now.Add(30 * time.Minute)
		k.Heard(now, Peer{Node: node(0)})
		k.Heard(now, Peer{Node: node(2)})
		if now.Sub(start) < DefaultTimes().Silence {
			if placed := kinds(k.Tick(now, chance), Place); len(placed) > 0 {
				t.Fatalf("replaced after %v", now.Sub(start))
			}
		}
	}
	want(now, AtRisk, 1)
	if placed := kinds(k.Tick(now, chance), Place); !slices.Equal(placed, []workunits.NodeID{node(2)}) {
		t.Fatalf("placed %v", placed)
	}
	if placed := kinds(k.Tick(now, chance), Place); len(placed) > 0 {
		t.Errorf("placed again while the replica is made: %v", placed)
	}
	k.Stored(now, o.Root, node(2), Whole)
	want(now, Healthy, 2)
	k.Heard(now, Peer{Node: node(1)}) // is back, with its replica
	want(now, Healthy, 3)
	k.Failed(now, o.Root, node(1)) // which is bad
	want(now, Healthy, 2)
	free := k.Release(o.Root)
	wantFree := []Effect{{Kind: Free, Root: o.Root, To: node(0), Piece: Whole}, {Kind: Free, Root: o.Root, To: node(2), Piece: Whole}}
	if diff := cmp.Diff(wantFree, free, cmp.Comparer(cid.Cid.Equals)); diff != "" {
		t.Error(diff)
	}
	if _, ok := k.Health(now, o.Root); ok {
		t.Error("a released object is kept")
	}
}

func TestAudits(t *testing.T) {
	t.Parallel()
	k, chance := keeper(start, Peer{Node: node(0)}), rand.New(rand.NewPCG(1, 1))
	k.Keep(start, Object{Root: root(1), Bytes: 100, Leaves: 10, Goal: Goal{Copies: 1, Most: 1}}, node(0))
	leaves, audits := map[int]bool{}, 0
	for now := start; now.Sub(start) < 60*24*time.Hour; now = now.Add(30 * time.Minute) {
		k.Heard(now, Peer{Node: node(0)})
		for _, e := range k.Tick(now, chance) {
			if e.Kind == Audit {
				audits++
				leaves[e.Leaf] = true
			}
		}
	}
	if audits < 58 || audits > 60 || len(leaves) < 9 {
		t.Errorf("%d audits of %d leaves in 60 days", audits, len(leaves))
	}
}

func TestBudget(t *testing.T) {
	t.Parallel()
	k, chance := New(100, DefaultTimes()), rand.New(rand.NewPCG(1, 1))
	for i := range 50 {
		k.Heard(start, Peer{Node: node(i)})
	}
	for i := range 20 {
		k.Keep(start, Object{Root: root(i), Bytes: 90_000, Leaves: 1, Goal: Goal{Copies: 2, Most: 2}}, node(40))
	}
	placed := 0
	for now := start; now.Sub(start) <= time.Hour; now = now.Add(time.Minute) {
		placed += len(kinds(k.Tick(now, chance), Place))
	}
	if placed != 4 { // 360,000 bytes an hour
		t.Errorf("%d replicas of 90,000 bytes in an hour at 100 bytes a second", placed)
	}
}

// TestAnchors needs fewer replicas where some are always there.
func TestAnchors(t *testing.T) {
	t.Parallel()
	k, chance := New(1<<30, DefaultTimes()), rand.New(rand.NewPCG(1, 1))
	now := start
	for step := range 30 * 48 {
		now = now.Add(30 * time.Minute)
		for i := range 40 {
			if i < 2 || step%5 < 2 {
				k.Heard(now, Peer{Node: node(i)})
			}
		}
	}
	for i := range 40 { // all are there now
		k.Heard(now, Peer{Node: node(i)})
	}
	k.Tick(now.Add(-time.Minute), chance)
	k.Keep(now, Object{Root: root(1), Bytes: 1, Leaves: 1, Goal: DefaultGoal(3)}, node(39))
	placed := kinds(k.Tick(now, chance), Place)
	if len(placed) != 2 || !slices.Contains(placed, node(0)) || !slices.Contains(placed, node(1)) {
		t.Errorf("placed %v, want the two anchors", placed)
	}
	k.Failed(now, root(1), node(0))
	k.Failed(now, root(1), node(1))
	delete(k.peers, node(0))
	delete(k.peers, node(1))
	if placed := kinds(k.Tick(now, chance), Place); len(placed) != 7 {
		t.Errorf("%d volunteers, want 7 more", len(placed))
	}
}
