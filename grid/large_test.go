package grid

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/talka-grid/talka/grid/keep"
	"github.com/talka-grid/talka/workunits"
	"github.com/talka-grid/talka/workunits/sandbox"
)

// bulky writes a file of the size from which one is an object of its own, and a smaller
// one.
type bulky struct{ goProgram }

func (b bulky) Run(ctx context.Context, t sandbox.Task, f func(int)) (sandbox.Report, error) {
	r, err := b.goProgram.Run(ctx, t, f)
	for name, size := range map[string]int{"large": keep.Large, "small": keep.Large - 1} {
		text := bytes.Repeat([]byte(t.Args[0]+" "), size)[:size]
		err = errors.Join(err, os.WriteFile(filepath.Join(r.Out, name), text, 0o600))
	}
	return r, err
}

// TestLargeResults looks after results with large files: each of these is an object,
// whose holders are the volunteers that agreed and the stewards that stored it; small
// ones travel with their run.
func TestLargeResults(t *testing.T) {
	t.Parallel()
	const units = 4
	c, ctx := newCluster(t), testContext(t)
	base := Config{KeepTimes: quickKeep(), KeepShare: 1 << 30}
	pub, project := c.publisher(base)
	for i := range 5 {
		cfg := base
		cfg.Trust = []workunits.ProjectID{project}
		if cfg.Steward = i < 2; !cfg.Steward {
			cfg.Slots, cfg.Exec, cfg.KeepShare = 1, bulky{}, 0
		}
		c.start(cfg)
	}
	m := testManifest(workunits.Link{Cid: pub.host.data.put([]byte("program"))}, units)
	m.Limits.Output = 4 << 20
	id, err := pub.Submit(ctx, m, progress(t))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := pub.WaitJob(ctx, id); err != nil {
		t.Fatal(err)
	}
	until(ctx, t, "its program, the run and each large file are looked after", func() bool {
		info, err := pub.Job(ctx, id)
		return err == nil && info.Data != nil && info.Data.Objects == 1+1+units && info.Data.Replicas >= 3
	})
	agreed, err := pub.runResults(ctx, id, 0)
	if err != nil || len(agreed) != units {
		t.Fatalf("%d results, %v", len(agreed), err)
	}
	g, err := pub.gatherRun(ctx, id, 0)
	if err != nil || len(g.Large) != units {
		t.Fatalf("%+v, %v", g, err)
	}
	for i, l := range g.Large {
		if !slices.Equal(l.Holders, agreed[i].holders) || len(l.Holders) < 3 {
			t.Errorf("unit %d: its large file is with %v, its result with %v", agreed[i].unit, l.Holders, agreed[i].holders)
		}
		for _, n := range l.Holders {
			if c.net.host(n).data.get(l.Root) == nil {
				t.Errorf("unit %d: %s is said to hold its large file and does not", agreed[i].unit, n.Short())
			}
		}
	}
	folder := pub.host.data.folder(g.Root)
	if _, ok := folder[recordsName]; !ok || len(folder) != 1+units {
		t.Errorf("the run's folder has %d entries, want the records and a small file of each unit", len(folder))
	}
}

// TestHeldInputs has a volunteer tell the stewards of the large input that it holds, and
// not of the small program, once it has executed a unit.
func TestHeldInputs(t *testing.T) {
	t.Parallel()
	c, ctx := newCluster(t), testContext(t)
	pub, project := c.publisher(Config{})
	volunteer := c.start(Config{Slots: 1, Trust: []workunits.ProjectID{project}})
	m := testManifest(workunits.Link{Cid: pub.host.data.put([]byte("program"))}, 500)
	large := pub.host.data.put(make([]byte, largeInput))
	m.Inputs = []workunits.Input{
		{Path: "large", Cid: workunits.Link{Cid: large}},
		{Path: "small", Cid: workunits.Link{Cid: pub.host.data.put([]byte("small"))}},
	}
	m.Policy.Mode = workunits.VerifyNone
	id, err := pub.Submit(ctx, m, progress(t))
	if err != nil {
		t.Fatal(err)
	}
	var steward *job
	if err := pub.await(ctx, func() bool {
		steward = pub.jobs[id]
		return steward != nil && steward.steward != nil && len(steward.steward.Holders(large)) > 0
	}); err != nil {
		t.Fatal(err)
	}
	if err := pub.do(ctx, func() {
		if got := steward.steward.Holders(large); !slices.Equal(got, []workunits.NodeID{volunteer.self}) {
			t.Errorf("%v hold the large input", got)
		}
		for _, l := range inputs(id, m) {
			if l.Root != large && len(steward.steward.Holders(l.Root)) > 0 {
				t.Errorf("somebody speaks of %s, which is small", l.Root)
			}
		}
	}); err != nil {
		t.Fatal(err)
	}
}
