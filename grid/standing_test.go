package grid

import (
	"bytes"
	"testing"

	"github.com/talka-grid/talka/workunits"
	"github.com/talka-grid/talka/workunits/ledger"
	"github.com/talka-grid/talka/workunits/verdict"
)

// exported is a job as a third party reads it.
func exported(t *testing.T, from *member, id workunits.JobID) ledger.Read {
	t.Helper()
	x, err := from.Ledger(testContext(t), id)
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	if err := ledger.WriteExport(&b, x); err != nil {
		t.Fatal(err)
	}
	r, err := ledger.ReadExport(&b)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// A project's second job starts from what came of the first, on every node that
// looks after it; who was caught in the first has its strike.
func TestStandingGoesFromJobToJob(t *testing.T) {
	t.Parallel()
	c, ctx := newCluster(t), testContext(t)
	pub, project := c.publisher(Config{Slots: 1})
	var peers []*member
	for i := range 5 {
		cfg := Config{Slots: 1, Steward: i < 3, Trust: []workunits.ProjectID{project}}
		if i == 4 {
			cfg.Exec = goProgram{lie: true}
		}
		peers = append(peers, c.start(cfg))
	}
	m := testManifest(workunits.Link{Cid: pub.host.data.put([]byte("program"))}, 100)
	m.Nominal = 1
	run := func() workunits.JobID {
		id, err := pub.Submit(ctx, m, progress(t))
		if err != nil {
			t.Fatal(err)
		}
		if info, err := pub.WaitJob(ctx, id); err != nil || info.Units.Accepted != 100 {
			t.Fatalf("job came to %+v, %v", info, err)
		}
		return id
	}
	if first := exported(t, pub, run()); len(first.Standing.Stakes) > 0 {
		t.Errorf("the first job starts from %+v", first.Standing.Stakes)
	}
	m.Name = "second"
	second := run()
	if err := pub.await(ctx, func() bool { return pub.info(pub.jobs[second]).Settled }); err != nil {
		t.Fatal(err)
	}
	peers[0] = c.restart(peers[0])
	for _, from := range []*member{pub, peers[0]} {
		if err := from.await(ctx, func() bool { return from.jobs[second] != nil && from.jobs[second].steward != nil }); err != nil {
			t.Fatal(err)
		}
		x := exported(t, from, second)
		var millis uint64
		strikes := map[workunits.NodeID]uint32{}
		for _, s := range x.Standing.Stakes {
			millis += s.Millis
			strikes[s.Node] += s.Strikes
		}
		if millis < 100*m.Nominal || strikes[peers[4].self] == 0 || strikes[peers[1].self] != 0 {
			t.Errorf("the second job starts from %+v", x.Standing.Stakes)
		}
		b := verdict.ReadWith(x.Job, x.Manifest, x.Standing, x.Ledger, x.Ledger.Heads())
		if got := b.Counts()[verdict.Accepted]; from == pub && got != 100 {
			t.Errorf("a third party finds %d units accepted", got)
		}
	}
	// What the publisher signed vouches for its volunteers, to anybody.
	vouched := 0
	for _, p := range peers[:4] {
		c, list := vouchedFor(t, p)
		if len(list) == 1 && list[0].Project == project && list[0].Millis > 0 && list[0].Strikes == 0 && c.Copies > 0 {
			vouched++
		}
	}
	if vouched == 0 {
		t.Error("nobody's record proves anything")
	}
}
