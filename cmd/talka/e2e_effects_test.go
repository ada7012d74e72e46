//go:build e2e

package main

import (
	"context"
	"fmt"
	"os/exec"
	"testing"
	"time"

	"github.com/talka-grid/talka/grid"
)

// effectsTime bounds the test.
const effectsTime = 5 * time.Minute

// TestKilledAtEveryEffect kills a steward and a volunteer before the first effect
// after their start, then before the second, and so on, while the publisher is
// away, and the publisher in the same way when it comes back. The job goes on, and
// in the end all that look after it say the same.
func TestKilledAtEveryEffect(t *testing.T) {
	const units, effects = 60, 16
	exe, err := exec.LookPath(spoiled)
	if err != nil {
		t.Fatal(err)
	}
	g, alone := newTestGrid(t, effectsTime), newTestGrid(t, effectsTime)
	want := alone.undisturbed(units, 4)

	p := g.up("p", "--seed")
	project := g.project(p, "atoms")
	a := g.up("a", "--join", g.invite(p), "--trust", project)
	flags := []string{"--join", g.invite(a), "--trust", project}
	b, s := g.up("b", flags...), g.up("s", flags...)
	flags = append(flags, "--steward=false")
	v, w, x := g.up("v", flags...), g.up("w", flags...), g.up("x", flags...)
	g.meet(p, a, b, s, v, w, x)
	id := g.submit(p, "atoms", g.ljJob(units, 4, "audit"))
	g.until("some units are accepted", func() bool { return g.job(p, id).Units.Accepted > 2 })
	p.kill()

	victims := []*demoNode{s, v}
	died := map[string]int{}
	for _, n := range victims {
		n.kill()
	}
	for i := 1; i <= effects; i++ {
		for _, n := range victims {
			if g.dies(exe, n, i) {
				died[n.name]++
			}
		}
	}
	for _, n := range victims {
		g.start(n)
	}
	accepted := g.job(a, id).Units.Accepted
	for i := 1; i <= effects; i++ {
		if g.dies(exe, p, i) {
			died[p.name]++
		}
	}
	t.Logf("%v deaths before one of the first %d effects; %d units accepted before the publisher came back, %d after", died, effects, accepted, g.job(a, id).Units.Accepted)
	for _, n := range append(victims, p) {
		if died[n.name] < 3 {
			t.Errorf("%s died %d times in %d starts", n.name, died[n.name], effects)
		}
	}
	g.start(p)
	g.until("the job is done and sealed", func() bool { return g.job(p, id).Settled })
	if info := g.job(p, id); info.State != grid.JobDone || info.Units.Accepted != units || len(info.Faults) > 0 {
		t.Errorf("the job came to %+v", info)
	}
	for _, n := range []*demoNode{a, b, s} {
		g.until(n.name+" knows that the job is done", func() bool { return g.job(n, id).Settled })
	}
	g.sameResults(p, id, want)
	g.sameVerdicts(id, units, p, a, b, s)
}

// dies starts a node that is to end before its effect of this number, and reports
// whether it did; one that has not so many to do for a while is killed.
func (g *testGrid) dies(exe string, n *demoNode, effect int) bool {
	g.Helper()
	ctx, cancel := context.WithTimeout(g.ctx, 3*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, exe, append([]string{"--dir", n.dir, fmt.Sprintf("--test-crash=%d", effect)}, n.args...)...)
	cmd.Env, cmd.SysProcAttr = testEnv(), ownGroup()
	err := cmd.Run()
	switch {
	case ctx.Err() != nil:
		return false
	case cmd.ProcessState == nil || cmd.ProcessState.ExitCode() != -1: // -1: by a signal
		g.Errorf("%s ended by itself: %v", n.name, err)
	}
	return true
}
