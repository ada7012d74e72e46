//go:build e2e

package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/talka-grid/talka/grid"
	"github.com/talka-grid/talka/workunits"
)

const crookTime = 4 * time.Minute

// A steward lies while the publisher is away, and a volunteer, too: the job comes
// to its end with right results, the same on every node, and the ledger speaks
// against those two alone.
func TestLyingSteward(t *testing.T) {
	exe, err := exec.LookPath(spoiled)
	if err != nil {
		t.Fatal(err)
	}
	for way, want := range map[string]workunits.FaultName{crookOmits: "", crookForks: workunits.FaultEquivocation} {
		t.Run(way, func(t *testing.T) {
			const units = 30
			g, alone := newTestGrid(t, crookTime), newTestGrid(t, crookTime)
			truth := alone.undisturbed(units, 4)

			p := g.up("p", "--seed")
			project := g.project(p, "atoms")
			flags := []string{"--join", g.invite(p), "--trust", project}
			a, b := g.up("a", flags...), g.up("b", flags...)
			spoil := func(name string, flags ...string) *demoNode {
				n := g.node(name, flags...)
				if err := n.start(g.ctx, exe, testEnv()); err != nil {
					t.Fatal(err)
				}
				return n
			}
			c := spoil("c", append(flags, fmt.Sprintf("--test-crook=%s:%s,%s", way, a.status.PeerID, b.status.PeerID))...)
			flags = append(flags, "--steward=false")
			v, w, x := g.up("v", flags...), g.up("w", flags...), g.up("x", flags...)
			l := spoil("l", append(flags, "--test-lie=1")...)
			g.meet(p, a, b, c, v, w, x, l)
			id := g.submit(p, "atoms", g.ljJob(units, 4, "audit"))
			p.kill()
			g.until("most units are accepted without the publisher", func() bool { return g.job(a, id).Units.Accepted > units/2 })
			g.start(p)
			for _, n := range []*demoNode{p, a, b} {
				g.until(n.name+" knows that the job is done", func() bool { return g.job(n, id).Settled })
			}
			info := g.job(p, id)
			if info.State != grid.JobDone || info.Units.Accepted != units {
				t.Errorf("the job came to %+v", info)
			}
			t.Logf("%.2f copies a unit, faults %+v", info.CopiesPerAccepted, info.Faults)
			if log, err := os.ReadFile(filepath.Join(c.dir, "log")); err != nil || !strings.Contains(string(log), crookLog) {
				t.Errorf("the steward told no lie: the test shows nothing; %v", err)
			}
			shown := want == ""
			for _, f := range info.Faults {
				shown = shown || f.Node == c.status.PeerID && f.Name == want
			}
			if !shown {
				t.Errorf("nobody shows that %s said two things: %+v", c.status.PeerID, info.Faults)
			}
			g.sameResults(p, id, truth)
			g.sameVerdictsAgainst([]workunits.NodeID{c.status.PeerID, l.status.PeerID}, id, units, p, a, b)
		})
	}
}
