//go:build e2e

package main

import (
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/talka-grid/talka/grid"
	"github.com/talka-grid/talka/workunits"
)

// crashTime bounds the test; most of its time is leases of nodes that are gone.
const crashTime = 5 * time.Minute

// A job whose steward and volunteer are killed goes on to its end without them,
// with the results of a node that nobody disturbed; the steward comes back and
// has them too.
func TestJobSurvivesKills(t *testing.T) {
	const units = 80
	g, alone := newTestGrid(t, crashTime), newTestGrid(t, crashTime)
	want := alone.undisturbed(units, 13)

	p := g.up("p", "--seed")
	project := g.project(p, "atoms")
	flags := []string{"--join", g.invite(p), "--trust", project}
	s, a := g.up("s", flags...), g.up("a", flags...)
	flags = append(flags, "--steward=false")
	v, w, x := g.up("v", flags...), g.up("w", flags...), g.up("x", flags...)
	g.meet(p, s, a, v, w, x)
	id := g.submit(p, "atoms", g.ljJob(units, 13, "audit"))
	for len(g.job(p, id).Stewards) != 3 { // who is asked and does not answer at once is not taken
		if g.ctx.Err() != nil {
			t.Fatal("p, s and a never look after a job together")
		}
		g.ok(p, &struct{}{}, "job", "cancel", id.String())
		id = g.submit(p, "atoms", g.ljJob(units, 13, "audit"))
	}

	g.until("some units are accepted", func() bool { return g.job(p, id).Units.Accepted > 2 })
	g.until("the volunteer executes a unit", func() bool { return g.status(v).RunningUnits > 0 })
	v.kill()
	a.kill()
	if info := g.job(p, id); info.State != grid.JobRunning || info.Units.Accepted > units*3/4 {
		t.Fatalf("too late to kill anybody: %+v", info.Units)
	}
	g.until("the job is done and sealed", func() bool { return g.job(p, id).Settled })
	info := g.job(p, id)
	if info.State != grid.JobDone || info.Units != (grid.UnitCounts{Total: units, Accepted: units}) || len(info.Faults) > 0 {
		t.Errorf("the job came to %+v", info)
	}
	g.sameResults(p, id, want)

	// The steward that was killed hears of the end, and has the results.
	g.start(a)
	g.until("the steward knows that the job is done", func() bool { return g.job(a, id).State == grid.JobDone })
	g.sameResults(a, id, want)
	g.sameResults(s, id, want)
	g.sameVerdicts(id, units, p, s, a)
}

// sameVerdicts checks that nodes' ledgers give one verdict, without the nodes,
// which speaks against nobody, and that a changed ledger is refused.
func (g *testGrid) sameVerdicts(id workunits.JobID, units int, nodes ...*demoNode) {
	g.Helper()
	g.sameVerdictsAgainst(nil, id, units, nodes...)
}

// sameVerdictsAgainst is sameVerdicts with faults of these nodes.
func (g *testGrid) sameVerdictsAgainst(guilty []workunits.NodeID, id workunits.JobID, units int, nodes ...*demoNode) {
	g.Helper()
	var results string
	for _, n := range nodes {
		file := filepath.Join(g.TempDir(), "ledger")
		var exported map[string]any
		g.ok(n, &exported, "job", "export", id.String(), "-o", file)
		var v verification
		g.ok(n, &v, "--dir", g.TempDir(), "verify", file)
		innocent := func(f verifiedFault) bool { return !slices.Contains(guilty, f.Node) }
		if v.Units.Accepted != units || !v.SealFits || slices.ContainsFunc(v.Faults, innocent) || results != "" && v.Results.String() != results {
			g.Errorf("%s: its ledger says %+v", n.name, v)
		}
		results = v.Results.String()

		b, err := os.ReadFile(file)
		if err != nil {
			g.Fatal(err)
		}
		const places = 4
		for i := range places {
			at := len(b) * i / places
			b[at] ^= 1
			if err := os.WriteFile(file, b, 0o600); err != nil {
				g.Fatal(err)
			}
			g.fails(n, exitError, nil, "verify", file)
			b[at] ^= 1
		}
	}
}

// undisturbed is what a node alone makes of the job: files by their path.
func (g *testGrid) undisturbed(units, atoms int) map[string]string {
	g.Helper()
	n := g.up("n")
	g.project(n, "atoms")
	var info grid.JobInfo
	g.ok(n, &info, "job", "submit", "--wait", g.ljJob(units, atoms, "none"))
	return g.fetch(n, info.Job, units)
}

// fetch fetches a job's results and reads the folder, all but results.json.
func (g *testGrid) fetch(n *demoNode, id workunits.JobID, units int) map[string]string {
	g.Helper()
	dir := filepath.Join(g.dir, "results-"+n.name)
	var sum struct {
		Units, Results, Failed, Missing int
	}
	g.ok(n, &sum, "job", "fetch", id.String(), "-o", dir)
	if sum.Units != units || sum.Results != units || sum.Failed+sum.Missing != 0 {
		g.Errorf("%s fetched %+v, want %d results", n.name, sum, units)
	}
	files := map[string]string{}
	for u := range units {
		for _, name := range []string{stdoutName, "best.xyz"} {
			path := filepath.Join(strconv.Itoa(u), name)
			b, err := os.ReadFile(filepath.Join(dir, path))
			if err != nil {
				g.Error(err)
			}
			files[path] = string(b)
		}
	}
	if _, err := os.Stat(filepath.Join(dir, resultsName)); err != nil {
		g.Error(err)
	}
	return files
}

func (g *testGrid) sameResults(n *demoNode, id workunits.JobID, want map[string]string) {
	g.Helper()
	if diff := cmp.Diff(want, g.fetch(n, id, len(want)/2)); diff != "" {
		g.Errorf("results that %s fetched (-undisturbed +fetched):\n%s", n.name, diff)
	}
}
