package keep

import (
	"context"
	"os"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/talka-grid/talka/chunkstore/replica"
	"github.com/talka-grid/talka/grid/wire"
	"github.com/talka-grid/talka/workunits"
)

const mib = 1 << 20

// TestReplicas keeps an input that three stewards hold: one of them has five more
// replicas made, and the others and the publisher know of them. Two holders go, the
// lead among them; a day later another has made two more. One that returns counts again.
func TestReplicas(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 14, 100*mib)
		root := w.input(3*mib, w.nodes[:3]...)
		w.look(w.nodes[:3]...)
		for _, m := range w.nodes[:3] {
			m.Add(w.job, root, nodeID(0), nodeID(1), nodeID(2))
		}
		wait(5 * time.Minute)
		if got := w.holders(root); len(got) != 3 {
			t.Errorf("%d hold it before anybody has led for long", len(got))
		}
		wait(time.Hour)
		first := w.holders(root)
		if len(first) != 8 {
			t.Fatalf("held by %v, want 8: nobody knows yet who is there how often", first)
		}
		for _, m := range w.nodes[:3] {
			if h := m.Health(w.job); h == nil || h.State != replica.Healthy || h.Replicas != 8 || h.Online != 8 || h.Objects != 1 {
				t.Errorf("%s sees %+v", m.id.Short(), h)
			}
		}
		lead := slices.IndexFunc(w.nodes[:3], func(m *member) bool {
			return replica.Leads(m.id, []workunits.NodeID{nodeID(0), nodeID(1), nodeID(2)}, root.Bytes())
		})
		gone := []workunits.NodeID{nodeID(lead), first[len(first)-1]}
		w.set(true, gone...)
		before := w.messages()
		wait(20 * time.Hour)
		if sent := w.messages() - before; sent > 300 { // two a holder and hour are asked whether they are there
			t.Errorf("%d messages in 20 hours in which nothing happened", sent)
		}
		if got := w.holders(root); len(got) != 6 {
			t.Errorf("%d hold it after 20 hours of silence", len(got))
		}
		wait(8 * time.Hour)
		// Those who were there all the time are anchors nearly: fewer will do by now.
		observer := w.nodes[(lead+1)%3]
		h := observer.Health(w.job)
		if h.State != replica.Healthy || h.Replicas != len(w.holders(root)) || h.Available < 0.99 {
			t.Errorf("after a day %+v, held by %v", h, w.holders(root))
		}
		w.set(false, gone...)
		wait(2 * time.Hour)
		if back := observer.Health(w.job); back.Replicas != h.Replicas+2 {
			t.Errorf("two are back: %+v, before %+v", back, h)
		}
	})
}

// TestRepair wants more replicas than a job asks for at least: holders vanish with
// their disks until too few are left, and audits find one that threw its own away.
func TestRepair(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 12, 100*mib)
		root := w.input(2*mib, w.nodes[0])
		w.look(w.nodes[0])
		w.nodes[0].Add(w.job, root, nodeID(0))
		wait(2 * time.Hour)
		before := w.holders(root)
		if len(before) != 8 {
			t.Fatalf("held by %d", len(before))
		}
		// All but the publisher and one throw it away, and stay.
		for _, n := range before[2:] {
			if err := w.nodes[n[0]-1].store.ReleaseFor(w.job.String()); err != nil {
				t.Fatal(err)
			}
		}
		wait(25 * time.Hour)
		h := w.nodes[0].Health(w.job)
		if h.Replicas < 3 || h.State != replica.Healthy {
			t.Errorf("after a day of audits: %+v", h)
		}
		for _, hold := range w.nodes[0].keeper.Holders(time.Now(), root) {
			if slices.Contains(before[2:], hold.Node) {
				t.Errorf("%s threw it away and counts", hold.Node.Short())
			}
		}
	})
}

// TestRules has peers that keep nothing for others, or not for this project, or have
// given the publisher its share: they say so, and others keep the replicas.
func TestRules(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 9, 3*mib)
		w.nodes[1].refuse = "this node does not trust the project"
		w.nodes[2].cfg.Share = 0
		one, two := w.input(2*mib, w.nodes[0]), w.input(2*mib+1, w.nodes[0])
		w.look(w.nodes[0])
		w.nodes[0].Add(w.job, one, nodeID(0))
		w.nodes[0].Add(w.job, two, nodeID(0))
		wait(3 * time.Hour)
		for i, m := range w.nodes[1:] {
			k := m.Kept()
			if i < 2 && k.Replicas > 0 || k.Bytes > 3*mib {
				t.Errorf("node %d keeps %+v", i+1, k)
			}
		}
		sum := len(w.holders(one)) + len(w.holders(two))
		if sum != 2+6 { // each of six has room for one
			t.Errorf("%d replicas", sum)
		}
		if h := w.nodes[0].Health(w.job); h.State != replica.Repairing || h.Wanted == 0 {
			t.Errorf("%+v", h)
		}
	})
}

// TestUnwilling has many peers that want nothing of a job with many objects: each says
// so once, and not for each object.
func TestUnwilling(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 60, 100*mib)
		for _, m := range w.nodes[4:] {
			m.refuse = "this node does not trust the project"
		}
		w.look(w.nodes[0])
		const objects = 30
		for i := range objects {
			w.nodes[0].Add(w.job, w.input(1000+i, w.nodes[0]), nodeID(0))
		}
		before := w.messages()
		wait(4 * time.Hour)
		if h := w.nodes[0].Health(w.job); h.Replicas != 4 {
			t.Errorf("%+v", h)
		}
		// A question, an answer, and one more of each from who was asked before it answered.
		if sent := w.messages() - before; sent > 4*60+2*3*objects {
			t.Errorf("%d messages", sent)
		}
	})
}

// TestManySmallResults keeps the results of a job of 100,000 units: a folder for each run
// of units, and no object for each result. Who has more to fetch than it notes at a time
// gets the rest in its turn.
func TestManySmallResults(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const units, runs = 100_000, 391
		w := newWorld(t, 4, 100*mib)
		m := w.nodes[0]
		m.folder = func(_ context.Context, run uint32) (Gathered, error) {
			return Gathered{Root: w.input(1000+int(run), m)}, nil
		}
		w.look(m)
		before := w.messages()
		for first := uint32(0); first < units; first += Run {
			m.Whole(w.job, first/Run)
		}
		wait(time.Hour)
		if h := m.Health(w.job); h == nil || h.Objects != runs {
			t.Errorf("%+v, want %d objects", h, runs)
		}
		for _, other := range w.nodes[1:] {
			if k := other.Kept(); k.Replicas != runs {
				t.Errorf("%s keeps %+v after an hour", other.id.Short(), k)
			}
		}
		// One a replica that is made, and those that ask for many at a time.
		if sent := w.messages() - before; sent > 3*runs+200 {
			t.Errorf("%d messages", sent)
		}
	})
}

// TestDroppedWhileFetched: what is let go of before it is here is not said to be kept,
// and does not take the lease of what was asked for again.
func TestDroppedWhileFetched(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 2, 100*mib)
		m := w.nodes[1]
		ask := func(size int) {
			o := wire.Object{Root: workunits.Link{Cid: w.input(size, w.nodes[0])}, Bytes: uint64(size)}
			m.Asked(nodeID(0), wire.Keep{Job: w.job, Objects: []wire.Object{o}, Until: uint64(time.Now().Add(time.Hour).UnixMilli()), Sources: []workunits.NodeID{nodeID(0)}}, nodeID(0), "")
			synctest.Wait()
		}
		for range maxFetches {
			m.fetches <- struct{}{}
		}
		ask(mib)
		m.Drop(w.job)
		ask(mib)
		ask(2 * mib)
		m.mu.Lock()
		for k, h := range m.held {
			if h.Bytes == 2*mib {
				delete(m.held, k)
			}
		}
		m.mu.Unlock()
		before := w.messages()
		for range maxFetches {
			<-m.fetches
		}
		wait(time.Second)
		if sent := w.messages() - before; sent != 1 {
			t.Errorf("%d answers, want one, for what is kept", sent)
		}
		if k, l := m.Kept(), m.store.Leases(); k.Replicas != 1 || k.Bytes != mib || len(l) != 1 || m.queue != 0 {
			t.Errorf("it keeps %+v: %+v, and %d are on the way", k, l, m.queue)
		}
	})
}

// TestLeaseEnds: holders keep what they are asked for while audits go on, and a week
// longer; with the publisher's word they let go at once.
func TestLeaseEnds(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 6, 100*mib)
		root := w.input(mib, w.nodes[0])
		w.look(w.nodes[0])
		w.nodes[0].Add(w.job, root, nodeID(0))
		wait(10 * 24 * time.Hour)
		if got := w.nodes[5].Kept(); got.Replicas != 1 {
			t.Fatalf("after ten days of audits it keeps %+v", got)
		}
		w.set(true, nodeID(0))
		wait(6 * 24 * time.Hour)
		if got := w.nodes[5].Kept(); got.Replicas != 1 {
			t.Errorf("after six days of silence it keeps %+v", got)
		}
		wait(2 * 24 * time.Hour)
		if got := w.nodes[5].Kept(); got.Replicas != 0 || len(w.nodes[5].store.Leases()) != 0 {
			t.Errorf("after eight days of silence it keeps %+v: %+v", got, w.nodes[5].store.Leases())
		}
		w.set(false, nodeID(0))
		wait(26 * time.Hour) // audits find that they lapsed; they are made anew elsewhere or there
		other := w.input(2*mib, w.nodes[0])
		w.nodes[0].Add(w.job, other, nodeID(0))
		wait(2 * time.Hour)
		if w.nodes[5].Kept().Replicas == 0 {
			t.Fatal("it keeps nothing")
		}
		w.nodes[0].Free(w.job, []byte("proof"), nodeID(1))
		wait(time.Minute)
		for _, m := range w.nodes[1:] {
			if k := m.Kept(); k.Replicas != 0 || len(m.store.Leases()) > 0 {
				t.Errorf("%s keeps %+v for a job that was collected", m.id.Short(), k)
			}
		}
		if h := w.nodes[0].Health(w.job); h != nil {
			t.Errorf("%+v", h)
		}
	})
}

// TestRunsAndRestart gathers runs of units, of which each steward leads some; all know
// of all, after a restart too. A run's folder is found by one who never knew of it.
func TestRunsAndRestart(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 10, 100*mib)
		const runs = 12
		gathered := map[uint32]int{}
		for _, m := range w.nodes[:3] {
			m.folder = func(ctx context.Context, run uint32) (Gathered, error) {
				w.mu.Lock()
				gathered[run]++
				w.mu.Unlock()
				root := w.input(1000+int(run), m) // for the test's end, not the run's
				return Gathered{Root: root}, nil
			}
		}
		w.look(w.nodes[:3]...)
		for run := range uint32(runs) {
			for _, m := range w.nodes[:3] {
				m.Whole(w.job, run)
			}
		}
		wait(2 * time.Hour)
		for run := range uint32(runs) {
			if gathered[run] != 1 {
				t.Errorf("run %d was gathered %d times", run, gathered[run])
			}
		}
		for _, m := range w.nodes[:3] {
			if h := m.Health(w.job); h == nil || h.Objects != runs || h.State != replica.Healthy || h.Replicas != 8 {
				t.Errorf("%s sees %+v", m.id.Short(), h)
			}
		}
		m := w.nodes[0]
		m.stop()
		m.start(100 * mib)
		w.look(w.nodes[:3]...)
		for run := range uint32(runs) {
			m.Whole(w.job, run)
		}
		wait(2 * time.Hour)
		if h := m.Health(w.job); h == nil || h.Objects != runs || h.State != replica.Healthy {
			t.Errorf("after a restart it sees %+v", h)
		}
		if gathered[0] > 1 {
			t.Error("gathered again after a restart")
		}
		// A publisher that lost all it knew asks those who are there.
		if err := os.Remove(m.path); err != nil {
			t.Fatal(err)
		}
		m.stop()
		w.set(true, nodeID(1), nodeID(2))
		m.path += "-new"
		m.start(100 * mib)
		w.look(m)
		found := 0
		for run := range uint32(runs) {
			for _, h := range m.Recall(t.Context(), w.job, run) {
				if len(h.Holders) > 0 {
					found++
				}
			}
		}
		if found != runs {
			t.Errorf("%d of %d runs were found", found, runs)
		}
	})
}

// TestPieces cuts an object: forty peers get a piece each, and the other steward knows
// of all. The one that cut it goes with all whole copies and twelve pieces: the other
// makes the object whole again from eight, and the twelve pieces anew.
func TestPieces(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 64, 100*mib)
		root := w.input(2*mib+77, w.nodes[0], w.nodes[1])
		w.look(w.nodes[:2]...)
		for _, m := range w.nodes[:2] {
			m.Add(w.job, root, nodeID(0), nodeID(1))
		}
		wait(time.Hour)
		lead, other := w.nodes[0], w.nodes[1]
		if !replica.Leads(lead.id, []workunits.NodeID{nodeID(0), nodeID(1)}, root.Bytes()) {
			lead, other = other, lead
		}
		lead.mu.Lock()
		it := lead.items[root]
		lead.mu.Unlock()
		lead.doCut(t.Context(), it) // as the keeper says of large objects, see package replica
		wait(6 * time.Hour)
		state := func(m *member) (h replica.Health, complete bool, holders []replica.Holder) {
			m.mu.Lock()
			defer m.mu.Unlock()
			h, _ = m.keeper.Health(time.Now(), root)
			return h, m.keeper.Complete(time.Now(), root), m.keeper.Holders(time.Now(), root)
		}
		for _, m := range []*member{lead, other} {
			if h, complete, _ := state(m); !complete || h.State != replica.Healthy {
				t.Fatalf("%s sees %+v", m.id.Short(), h)
			}
		}
		other.stop() // and begins again with what it wrote down
		other.start(100 * mib)
		w.look(w.nodes[:2]...)
		other.Add(w.job, root)
		wait(time.Hour)
		if h, complete, _ := state(other); !complete || h.State != replica.Healthy {
			t.Fatalf("after a restart it sees %+v", h)
		}
		for _, l := range lead.store.Leases() {
			if l.Reason == pieceReason {
				t.Fatal("pieces that others keep are kept by who made them, too")
			}
		}
		_, _, holders := state(lead)
		gone := 0
		for _, h := range holders {
			if h.Node != other.id && (h.Piece == replica.Whole || gone < 12) {
				w.set(true, h.Node)
				if h.Piece != replica.Whole {
					gone++
				}
			}
		}
		w.set(true, lead.id)
		leaves, _, err := other.store.Leaves(t.Context(), root)
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range leaves { // its disk loses the object
			if err := other.store.DeleteBlock(t.Context(), c); err != nil {
				t.Fatal(err)
			}
		}
		wait(26 * time.Hour)
		if h, complete, _ := state(other); !complete || h.State != replica.Healthy {
			t.Errorf("without the lead %+v", h)
		}
		if _, _, err := other.store.Leaves(t.Context(), root); err != nil {
			t.Errorf("the object was not made of its pieces: %v", err)
		}
	})
}
