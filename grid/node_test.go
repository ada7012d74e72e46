package grid

import (
	"context"
	"testing"
	"time"

	"github.com/talka-grid/talka/workunits"
)

func testManifest(program workunits.Link, units uint32) workunits.Manifest {
	return workunits.Manifest{
		Project: "p", Name: "test", Program: program, Units: units, Args: []string{"{unit}"},
		Limits: workunits.Limits{Memory: 1 << 20, Output: 1 << 20, Files: 10, Log: 1 << 16, Wall: 1000, CPU: 1000, Tries: 3},
		Policy: workunits.Policy{Mode: workunits.VerifyAudit, Error: 1e-2, Share: 0.2, Price: 10, MaxAgree: 2, Compare: "bytes"},
		Active: 3, Shard: max(1, units/32), Replicas: 3,
	}
}

func testContext(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	t.Cleanup(cancel)
	return ctx
}

func progress(t testing.TB) func(string) { return func(s string) { t.Log(s) } }

func TestJobIsVerifiedByPeers(t *testing.T) {
	t.Parallel()
	c, ctx := newCluster(t), testContext(t)
	pub := c.start(Config{})
	project, err := pub.NewProject("p")
	if err != nil {
		t.Fatal(err)
	}
	for i := range 6 {
		c.start(Config{Slots: 1, Steward: i < 3, Trust: []workunits.ProjectID{project}})
	}
	id, err := pub.Submit(ctx, testManifest(workunits.Link{Cid: pub.host.data.put([]byte("program"))}, 40), progress(t))
	if err != nil {
		t.Fatal(err)
	}
	info, err := pub.WaitJob(ctx, id)
	if err != nil {
		t.Fatalf("%v: %+v", err, pub.Jobs())
	}
	if info.Units.Accepted != 40 || info.Copies < 80 || len(info.Faults) > 0 || len(info.Stewards) != 4 {
		t.Errorf("job ended as %+v", info)
	}
	got := map[uint32]string{}
	if err := pub.Results(ctx, id, func(r UnitResult) error {
		got[r.Unit] = string(r.Outcome.Out.Data)
		return nil
	}); err != nil || len(got) != 40 || got[7] != "[7]" {
		t.Errorf("results %v, error %v", got, err)
	}
}
