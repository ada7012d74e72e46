package replica

import (
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/talka-grid/talka/workunits"
)

// crowd is a keeper of many peers that are there.
func crowd(now time.Time, n int) *Keeper {
	k := New(1<<30, DefaultTimes())
	for i := range n {
		k.Heard(now, Peer{Node: node(i)})
	}
	return k
}

// TestCut keeps a large object without anchors for long: it is cut after a while, its
// pieces go to forty peers, and are made anew once no more than 28 are left.
func TestCut(t *testing.T) {
	t.Parallel()
	k, chance := crowd(start, 60), rand.New(rand.NewPCG(1, 1))
	o := Object{Root: root(1), Bytes: CutBytes, Leaves: 64, Goal: DefaultGoal(3), Until: start.Add(200 * 24 * time.Hour)}
	k.Keep(start, o, node(0))
	cut := time.Time{}
	now := start
	pieces := map[int]workunits.NodeID{}
	days := func(n, peers int) {
		for end := now.Add(time.Duration(n) * 24 * time.Hour); now.Before(end); now = now.Add(30 * time.Minute) {
			for i := range peers {
				if (now.Sub(start)/(4*time.Hour)+time.Duration(i))%2 == 0 { // there half of the time: no anchors
					k.Heard(now, Peer{Node: node(i)})
				}
			}
			for _, e := range k.Tick(now, chance) {
				switch e.Kind {
				case Cut:
					cut = now
					o.Code = DefaultCode()
					k.Keep(now, o)
				case Place:
					if e.Piece != Whole {
						pieces[e.Piece] = e.To
					}
					k.Stored(now, e.Root, e.To, e.Piece)
				case Audit:
					k.Passed(now, e.Root, e.To)
				case Free:
				}
			}
		}
	}
	days(20, 60)
	if cut.Sub(start) < DefaultTimes().Vetting || len(pieces) != DefaultCode().Total {
		t.Fatalf("cut after %v, %d pieces", cut.Sub(start), len(pieces))
	}
	seen := map[workunits.NodeID]bool{}
	for _, n := range pieces {
		seen[n] = true
	}
	if len(seen) != DefaultCode().Total {
		t.Errorf("%d peers hold 40 pieces", len(seen))
	}
	clear(pieces)
	for i := range 60 { // whole copies lapse
		if c := k.objects[o.Root].of(node(i)); c != nil && c.piece == Whole {
			k.Failed(now, o.Root, node(i))
		}
	}
	if h, _ := k.Health(now, o.Root); !h.Cut || h.State != Healthy || h.Replicas != 40 || h.Available < 0.999 {
		t.Errorf("%+v", h)
	}
	list := k.Holders(now, o.Root)
	for _, h := range list[:11] {
		k.Failed(now, o.Root, h.Node)
	}
	days(1, 60)
	if len(pieces) > 0 {
		t.Errorf("29 pieces are enough, and %d were made", len(pieces))
	}
	k.Failed(now, o.Root, list[11].Node)
	if h, _ := k.Health(now, o.Root); h.Replicas != 28 {
		t.Errorf("%+v", h)
	}
	days(1, 60)
	if len(pieces) != 12 {
		t.Errorf("%d of 12 lost pieces were made", len(pieces))
	}
}

func TestRestore(t *testing.T) {
	t.Parallel()
	k, chance := crowd(start, 12), rand.New(rand.NewPCG(1, 1))
	for hour := range 48 {
		for i := range 12 {
			if hour%(i+1) == 0 {
				k.Heard(start.Add(time.Duration(hour)*time.Hour), Peer{Node: node(i), Operator: "o", Net: "n"})
			}
		}
	}
	now := start.Add(48 * time.Hour)
	k.Heard(now, Peer{Node: node(0)})
	k.Tick(now.Add(-time.Minute), chance)
	k.Keep(now, Object{Root: root(1), Bytes: 100, Leaves: 4, Goal: DefaultGoal(3), Until: now}, node(0), node(1))
	k.Keep(now, Object{Root: root(2), Bytes: 800, Leaves: 4, Goal: DefaultGoal(3), Code: DefaultCode(), Until: now}, node(0))
	k.Stored(now, root(2), node(3), 7)
	k.Tick(now, chance)
	text := k.Save()
	later := now.Add(5 * 24 * time.Hour)
	back := New(1<<30, DefaultTimes())
	if err := back.Restore(later, text); err != nil {
		t.Fatal(err)
	}
	for i := range 12 {
		if a, b := k.Availability(now, node(i)), back.Availability(later, node(i)); a != b {
			t.Errorf("node %d was there %.3f of its time, and %.3f after the restart", i, a, b)
		}
	}
	for _, r := range []int{1, 2} {
		a, _ := k.Health(now, root(r))
		b, ok := back.Health(later, root(r))
		if !ok || a != b {
			t.Errorf("%+v before, %+v after", a, b)
		}
		if diff := cmp.Diff(k.Holders(now, root(r)), back.Holders(later, root(r))); diff != "" {
			t.Error(diff)
		}
	}
	if got := kinds(back.Tick(later, chance), Place); len(got) > 0 {
		t.Errorf("acts at once after a restart, when others may lead: %v", got)
	}
	for _, bad := range [][]byte{nil, text[:len(text)/2], append(slices.Clone(text), 0)} {
		if New(1, DefaultTimes()).Restore(later, bad) == nil {
			t.Errorf("took %d bytes of %d", len(bad), len(text))
		}
	}
}

func FuzzRestore(f *testing.F) {
	k := crowd(start, 3)
	k.Keep(start, Object{Root: root(2), Bytes: 800, Leaves: 4, Goal: DefaultGoal(3), Code: DefaultCode(), Until: start}, node(0))
	k.Stored(start, root(2), node(3), 7)
	f.Add(k.Save())
	f.Fuzz(func(t *testing.T, b []byte) {
		k := New(1, DefaultTimes())
		if k.Restore(start, b) != nil {
			return
		}
		k.Tick(start.Add(time.Hour), rand.New(rand.NewPCG(1, 1)))
		if err := New(1, DefaultTimes()).Restore(start, k.Save()); err != nil {
			t.Error(err)
		}
	})
}

// TestLeads has each object led by one of those who are up, all about equally often,
// and by the same one still if another goes.
func TestLeads(t *testing.T) {
	t.Parallel()
	up := []workunits.NodeID{node(0), node(1), node(2), node(3), node(4)}
	led := map[workunits.NodeID]int{}
	for i := range 1000 {
		key := root(i).Bytes()
		var by []workunits.NodeID
		for _, n := range up {
			if Leads(n, up, key) {
				by = append(by, n)
			}
		}
		if len(by) != 1 {
			t.Fatalf("led by %v", by)
		}
		led[by[0]]++
		if by[0] != up[0] && !Leads(by[0], up[1:], key) {
			t.Error("one that was not the lead went, and another leads now")
		}
	}
	for n, times := range led {
		if times < 150 || times > 250 {
			t.Errorf("%s leads %d of 1000", n.Short(), times)
		}
	}
}

// TestLead has a keeper that comes to lead wait for word of what the one before did.
func TestLead(t *testing.T) {
	t.Parallel()
	k, chance := crowd(start, 5), rand.New(rand.NewPCG(1, 1))
	k.Tick(start.Add(-time.Minute), chance)
	k.Keep(start, Object{Root: root(1), Bytes: 1, Leaves: 1, Goal: Goal{Copies: 3, Most: 3}}, node(0))
	k.Lead(start, root(1), false)
	if got := k.Tick(start.Add(time.Minute), chance); len(got) > 0 {
		t.Errorf("acts for another: %v", got)
	}
	now := start.Add(2 * time.Minute)
	k.Lead(now, root(1), true)
	if got := k.Tick(now, chance); len(got) > 0 {
		t.Errorf("acts at once: %v", got)
	}
	k.Stored(now, root(1), node(1), Whole) // as the one before had it
	if got := kinds(k.Tick(now.Add(DefaultTimes().Settle), chance), Place); len(got) != 1 {
		t.Errorf("places %v, one is missing", got)
	}
}

// TestMissed gives a replica up whose holder is there and shows nothing.
func TestMissed(t *testing.T) {
	t.Parallel()
	k := crowd(start, 2)
	k.Keep(start, Object{Root: root(1), Bytes: 1, Leaves: 1, Goal: Goal{Copies: 2, Most: 2}}, node(0), node(1))
	for i := range maxMissed {
		if h, _ := k.Health(start, root(1)); h.Replicas != 2 {
			t.Fatalf("after %d: %+v", i, h)
		}
		k.Missed(start, root(1), node(1))
	}
	if h, _ := k.Health(start, root(1)); h.Replicas != 1 {
		t.Errorf("%+v", h)
	}
}

// TestManyObjects bounds what audits of very many objects move, however many there
// are: a tenth of what repair may take.
func TestManyObjects(t *testing.T) {
	t.Parallel()
	const rate = 10_000 // bytes a second
	k, chance := New(20*rate, DefaultTimes()), rand.New(rand.NewPCG(1, 1))
	k.Heard(start, Peer{Node: node(0)})
	for i := range 2000 {
		k.Keep(start, Object{Root: root(i), Bytes: 4 << 20, Leaves: 4, Goal: Goal{Copies: 1, Most: 1}}, node(0))
	}
	audited := map[string]bool{}
	moved := 0
	length := 10 * 24 * time.Hour
	k.SetRate(rate)
	for now := start; now.Sub(start) < length; now = now.Add(30 * time.Minute) {
		k.Heard(now, Peer{Node: node(0)})
		for _, e := range k.Tick(now, chance) {
			audited[e.Root.String()] = true
			moved += maxLeaf
		}
	}
	budget := rate * int(length.Seconds()) / auditPart
	if moved > budget+maxLeaf || moved < budget/2 {
		t.Errorf("audits moved %d bytes, %d are allowed", moved, budget)
	}
	if len(audited) != moved/maxLeaf {
		t.Errorf("%d audits of %d objects: each in its turn", moved/maxLeaf, len(audited))
	}
}
