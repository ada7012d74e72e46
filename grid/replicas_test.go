package grid

import (
	"context"
	"slices"
	"testing"
	"time"

	"github.com/ipfs/go-cid"

	"github.com/talka-grid/talka/chunkstore/replica"
	"github.com/talka-grid/talka/grid/keep"
	"github.com/talka-grid/talka/workunits"
)

// quickKeep has replicas be made in moments.
func quickKeep() keep.Times {
	t := keep.DefaultTimes()
	// Silence stays a day: else whoever is there for seconds is held to be reliable, and
	// fewer replicas do.
	t.Tick, t.Settle, t.Recent, t.Again, t.Audit = 50*time.Millisecond, 200*time.Millisecond, 5*time.Second, time.Second, time.Second
	return t
}

// until waits for a condition, looking when time passes.
func until(ctx context.Context, t *testing.T, what string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatalf("%s: not in time", what)
		}
	}
}

// TestReplicasOfResults runs a job whose publisher and two stewards then all go, one
// after the other, with their disks. Peers that executed none of its units keep its
// results: the publisher, back with its ledger alone, has them from those, and frees
// them.
func TestReplicasOfResults(t *testing.T) {
	t.Parallel()
	c, ctx := newCluster(t), testContext(t)
	base := Config{KeepTimes: quickKeep(), KeepShare: 1 << 30}
	with := func(change func(*Config)) Config {
		cfg := base
		change(&cfg)
		return cfg
	}
	pub, project := c.publisher(base)
	var stewards, volunteers, others []*member
	for range 2 {
		stewards = append(stewards, c.start(with(func(c *Config) { c.Steward, c.Trust = true, []workunits.ProjectID{project} })))
	}
	for range 3 {
		volunteers = append(volunteers, c.start(with(func(c *Config) {
			c.Slots, c.Trust, c.Exec, c.KeepShare = 1, []workunits.ProjectID{project}, verbose{}, 0
		})))
	}
	for range 4 {
		others = append(others, c.start(with(func(c *Config) { c.Trust = []workunits.ProjectID{project} })))
	}
	stranger := c.start(base) // trusts no project
	m := testManifest(workunits.Link{Cid: pub.host.data.put([]byte("program"))}, 10)
	id, err := pub.Submit(ctx, m, progress(t))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := pub.WaitJob(ctx, id); err != nil {
		t.Fatal(err)
	}
	health := func(n *member) *DataHealth {
		info, err := n.Job(ctx, id)
		if err != nil {
			t.Fatal(err)
		}
		return info.Data
	}
	until(ctx, t, "its data is replicated", func() bool {
		h := health(pub)
		return h != nil && h.Objects == 2 && h.Replicas >= 7 // two stewards, the publisher, four others
	})
	if k := stranger.keeper.Kept(); k.Replicas > 0 {
		t.Errorf("a node that does not trust the project keeps %+v", k)
	}
	for _, v := range volunteers {
		if k := v.keeper.Kept(); k.Replicas > 0 {
			t.Errorf("a node whose owner gives no room keeps %+v", k)
		}
	}
	for _, s := range stewards {
		until(ctx, t, "the other stewards know", func() bool {
			h := health(s)
			return h != nil && h.Objects == 2 && h.Replicas >= 7
		})
	}
	for _, n := range slices.Concat(stewards, volunteers) {
		n.stop()
	}
	want := resultsOf(ctx, t, pub, id)
	// The publisher's disk keeps its ledger and loses all results.
	pub.stop()
	db, err := openState(pub.cfg.Dir + "/state.db")
	if err != nil {
		t.Fatal(err)
	}
	if err := db.dropRecords(id); err != nil {
		t.Fatal(err)
	}
	if err := db.close(); err != nil {
		t.Fatal(err)
	}
	pub.host.data.mu.Lock()
	pub.host.data.all = map[cid.Cid][]byte{}
	pub.host.data.mu.Unlock()
	pub = c.restart(pub)
	got := resultsOf(ctx, t, pub, id)
	if len(got) != 10 || !slices.Equal(got, want) {
		t.Errorf("%d results came back, want %d", len(got), len(want))
	}
	if err := pub.FreeData(ctx, id); err != nil {
		t.Fatal(err)
	}
	for _, n := range others {
		until(ctx, t, "it lets go of what was collected", func() bool {
			return n.keeper.Kept().Replicas == 0 && len(n.host.data.Leases()) == 0
		})
	}
	if len(pub.host.data.Leases()) == 0 {
		t.Error("the publisher let go of its own")
	}
	if h := health(pub); h != nil {
		t.Errorf("%+v", h)
	}
}

// resultsOf lists a job's results as text.
func resultsOf(ctx context.Context, t *testing.T, n *member, id workunits.JobID) (list []string) {
	t.Helper()
	if err := n.Results(ctx, id, func(r UnitResult) error {
		text := string(r.Outcome.Out.Data)
		for _, f := range r.Outcome.Files {
			text += f.Path + ":"
			if f.Cid != nil {
				text += string(n.host.data.get(f.Cid.Cid))
			}
		}
		list = append(list, text)
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	return list
}

// TestFreeOnlyByPublisher: nobody else can have replicas freed.
func TestFreeOnlyByPublisher(t *testing.T) {
	t.Parallel()
	c, ctx := newCluster(t), testContext(t)
	pub, project := c.publisher(Config{Slots: 1, KeepTimes: quickKeep()})
	peer := c.start(Config{Trust: []workunits.ProjectID{project}})
	m := testManifest(workunits.Link{Cid: pub.host.data.put([]byte("program"))}, 2)
	m.Policy.Mode = workunits.VerifyNone
	id, err := pub.Submit(ctx, m, progress(t))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := pub.WaitJob(ctx, id); err != nil {
		t.Fatal(err)
	}
	until(ctx, t, "its program is kept", func() bool {
		info, err := pub.Job(ctx, id)
		return err == nil && info.Data != nil && info.Data.State == replica.AtRisk // on one node
	})
	if err := peer.FreeData(ctx, id); err == nil {
		t.Error("another node freed the job's data")
	}
	if err := pub.FreeData(ctx, id); err != nil {
		t.Error(err)
	}
	if err := pub.FreeData(ctx, id); err != nil {
		t.Errorf("the second time: %v", err)
	}
}
