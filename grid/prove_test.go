package grid

import (
	"testing"

	"github.com/talka-grid/talka/workunits"
)

// Where identities cost work, volunteers find their proof, keep it over a
// restart, and who has none gets nothing to do.
func TestIdentitiesCostWork(t *testing.T) {
	t.Parallel()
	c, ctx := newCluster(t), testContext(t)
	pub, project := c.publisher(Config{Slots: 1, Work: 8})
	var proven []*member
	for i := range 4 {
		m := c.start(Config{Slots: 1, Steward: i < 3, Work: 8, Trust: []workunits.ProjectID{project}})
		if err := m.await(ctx, func() bool { return m.proof != nil }); err != nil {
			t.Fatal(err)
		}
		proven = append(proven, m)
	}
	first := proven[0].proof
	proven[0] = c.restart(proven[0])
	if err := proven[0].await(ctx, func() bool { return string(proven[0].proof) == string(first) }); err != nil {
		t.Fatalf("the proof is not kept: %v", err)
	}
	lazy := c.start(Config{Slots: 1, Trust: []workunits.ProjectID{project}})
	m := testManifest(workunits.Link{Cid: pub.host.data.put([]byte("program"))}, 40)
	m.Nominal, m.Policy.Price = 1, 0
	id, err := pub.Submit(ctx, m, progress(t))
	if err != nil {
		t.Fatal(err)
	}
	info, err := pub.WaitJob(ctx, id)
	if err != nil || info.Units.Accepted != 40 {
		t.Fatalf("job came to %+v, %v", info, err)
	}
	x := exported(t, pub, id)
	if p := x.Manifest.Policy; p.Work != 8 || p.Price != workunits.WorkMillis(8) {
		t.Errorf("the job's policy asks for %d bits, worth %g units", p.Work, p.Price)
	}
	if n := x.Ledger.Len(lazy.self); n > 0 {
		t.Errorf("who has not worked said %d statements", n)
	}
}
