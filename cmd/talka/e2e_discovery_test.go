//go:build e2e

package main

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/talka-grid/talka/grid"
)

// discoveryTime bounds each of these tests; they take seconds on an idle machine.
const discoveryTime = 3 * time.Minute

// only is the variable that leaves a node one way, or none, to hear of jobs.
func only(way string) string { return discoveryVar + "=" + way }

// pausedPublisher starts a publisher that executes nothing itself.
func (g *testGrid) pausedPublisher(way string, flags ...string) *demoNode {
	g.Helper()
	n := g.node("p", flags...)
	g.start(n, only(way))
	var st grid.Status
	g.ok(n, &st, "pause")
	if st.State != grid.StatePaused {
		g.Fatalf("the publisher is %s after a pause", st.State)
	}
	return n
}

// Nodes that were told of the seed alone find one another, need the seed no
// longer, and fetch from one another.
func TestPeersAreFoundThroughTheDHT(t *testing.T) {
	g := newTestGrid(t, discoveryTime)
	seed := g.up("s", "--seed")
	invite := g.invite(seed)
	a, b, c := g.up("a", "--join", invite), g.up("b", "--join", invite), g.up("c", "--join", invite)
	g.meet(a, b, c)
	seed.kill()

	content := bytes.Repeat([]byte("neighbours come together\n"), 100_000) // several chunks
	var added struct{ Cid string }
	g.ok(a, &added, "data", "add", g.write("content", string(content)))
	for _, n := range []*demoNode{b, c} {
		dest := filepath.Join(g.dir, "copy-"+n.name)
		g.ok(n, &struct{}{}, "data", "get", added.Cid, "-o", dest)
		if got, err := os.ReadFile(dest); err != nil || !bytes.Equal(got, content) {
			t.Errorf("%s got %d bytes, %v", n.name, len(got), err)
		}
	}
}

// hearsOfAJob shows that a volunteer hears of a job of a publisher that nobody
// told it of, by one way alone, and executes it. The volunteer is there before
// the job, or comes later.
func hearsOfAJob(t *testing.T, way string, before bool) {
	g := newTestGrid(t, discoveryTime)
	seed := g.node("s", "--seed", "--steward=false")
	g.start(seed, only(way))
	invite := g.invite(seed)
	p := g.pausedPublisher(way, "--join", invite)
	project := g.project(p, "atoms")
	v := g.node("v", "--join", invite, "--trust", project, "--steward=false")
	if before {
		g.start(v, only(way))
		g.meet(seed, p, v)
	}
	id := g.submit(p, "atoms", g.ljJob(6, 13, "none"))
	if !before {
		g.start(v, only(way))
	}
	g.until("the volunteer has executed the job", func() bool { return g.job(p, id).State == grid.JobDone })
	if info := g.job(p, id); info.Units.Accepted != 6 || info.Volunteers != 1 {
		t.Errorf("accepted %d units of %d volunteers, want 6 of 1", info.Units.Accepted, info.Volunteers)
	}
	g.until("the volunteer knows that its units count", func() bool { return g.status(v).AcceptedUnits == 6 })
}

// A volunteer that is there already hears of a job by gossip alone.
func TestGossipAloneTellsOfAJob(t *testing.T) { hearsOfAJob(t, "gossip", true) }

// A volunteer that comes later hears of a job by the pull catalogue alone.
func TestCatalogueAloneTellsOfAJob(t *testing.T) { hearsOfAJob(t, "catalogue", false) }

// A node that hears nothing at all finds a job by its id, and executes it once
// its project is trusted.
func TestJobIsFoundFromItsID(t *testing.T) {
	g := newTestGrid(t, discoveryTime)
	seed := g.up("s", "--seed", "--steward=false")
	invite := g.invite(seed)
	p := g.pausedPublisher("", "--join", invite)
	heard, asked := g.project(p, "heard"), g.project(p, "asked")
	w := g.up("w", "--join", invite, "--trust", heard, "--steward=false")
	v := g.node("v", "--join", invite, "--trust", heard, "--steward=false")
	g.start(v, only("none"))
	g.meet(seed, p, v, w)

	// The one that hears executes a job that both trust; the deaf one knows nothing of it.
	first := g.submit(p, "heard", g.ljJob(6, 13, "none"))
	g.until("the job is executed", func() bool { return g.job(p, first).State == grid.JobDone })
	var jobs []grid.JobInfo
	if g.ok(v, &jobs, "job", "ls"); len(jobs) > 0 || g.status(v).AcceptedUnits > 0 {
		t.Fatalf("the deaf node knows of %d jobs", len(jobs))
	}

	// Its project's name leads it to the results.
	var d grid.ProjectDetail
	g.until("the results are sealed, and found by the project's name", func() bool {
		g.ok(v, &d, "project", "show", heard)
		return d.Results != nil && len(d.Jobs) > 0
	})
	if d.Results.Job != first || d.Results.Accepted != 6 || len(d.Jobs) != 1 || !d.Jobs[0].Latest {
		t.Errorf("the latest results are %+v of %+v", d.Results, d.Jobs)
	}
	var fetched map[string]any
	g.ok(v, &fetched, "job", "fetch", heard, "-o", filepath.Join(g.dir, "latest"))
	if results, err := filepath.Glob(filepath.Join(g.dir, "latest", "*", "stdout")); err != nil || len(results) != 6 {
		t.Errorf("fetched %v by the project's name, %v", results, err)
	}

	second := g.submit(p, "asked", g.ljJob(5, 13, "none"))
	var info grid.JobInfo
	g.ok(v, &info, "job", "show", second.String())
	if info.Job != second || info.Name != "lj-13" || info.Units.Total != 5 || info.State != grid.JobRunning {
		t.Errorf("found %+v", info)
	}
	if n := g.job(p, second).Copies; n > 0 {
		t.Errorf("%d copies of a project that nobody trusts", n)
	}
	g.ok(v, &struct{}{}, "project", "trust", asked)
	g.until("the node executes what it found", func() bool { return g.job(p, second).State == grid.JobDone })
	g.until("the node knows that its units count", func() bool { return g.status(v).AcceptedUnits == 5 })
}
