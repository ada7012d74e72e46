//go:build e2e

package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/talka-grid/talka/grid"
	"github.com/talka-grid/talka/workunits"
	"github.com/talka-grid/talka/workunits/ledger"
	"github.com/talka-grid/talka/workunits/verdict"
)

const crookTime = 4 * time.Minute

// A steward lies while the publisher is away, and a volunteer, too: the job comes
// to its end with right results, the same on every node, and the ledger speaks
// against those two alone.
func TestLyingSteward(t *testing.T) {
	for way, want := range map[string]workunits.FaultName{crookOmits: "", crookForks: workunits.FaultEquivocation} {
		t.Run(way, func(t *testing.T) {
			const units = 30
			g, alone := newTestGrid(t, crookTime), newTestGrid(t, crookTime)
			truth := alone.undisturbed(units, 4)

			p := g.up("p", "--seed")
			project := g.project(p, "atoms")
			flags := []string{"--join", g.invite(p), "--trust", project}
			a, b := g.up("a", flags...), g.up("b", flags...)
			c := g.spoiled("c", append(flags, fmt.Sprintf("--test-crook=%s:%s,%s", way, a.status.PeerID, b.status.PeerID))...)
			flags = append(flags, "--steward=false")
			v, w, x := g.up("v", flags...), g.up("w", flags...), g.up("x", flags...)
			l := g.spoiled("l", append(flags, "--test-lie=1")...)
			g.meet(p, a, b, c, v, w, x, l)
			id := g.submit(p, "atoms", g.ljJob(units, 4, "audit"))
			p.kill()
			// Not all of them: three newcomers do not prove a fourth wrong.
			g.until("units are accepted without the publisher", func() bool { return g.job(a, id).Units.Accepted > units/4 })
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

// Volunteers that read their own nodes' ledgers, which are stewards', find no
// result there that their own copies are to check.
func TestCopycats(t *testing.T) {
	const units = 30
	g := newTestGrid(t, crookTime)
	p := g.up("p", "--seed")
	project := g.project(p, "atoms")
	flags := []string{"--join", g.invite(p), "--trust", project}
	var copycats []*demoNode // more than draw, which keeps from executing
	for _, name := range []string{"a", "b", "c", "d"} {
		copycats = append(copycats, g.spoiled(name, append(flags, "--test-copycat")...))
	}
	g.up("v", append(flags, "--steward=false")...)
	g.meet(g.nodes...)
	if _, err := p.client.Pause(g.ctx, 0); err != nil { // its own copies need no check
		t.Fatal(err)
	}
	id := g.submit(p, "atoms", g.ljJob(units, 4, "audit"))
	g.until("the job is done and sealed", func() bool { return g.job(p, id).Settled })
	if info := g.job(p, id); info.State != grid.JobDone || info.Units.Accepted != units {
		t.Errorf("the job came to %+v", info)
	}
	looks, sealed, open := 0, 0, 0
	for _, c := range copycats {
		file, err := os.ReadFile(filepath.Join(c.dir, "seen"))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			t.Fatal(err)
		}
		for d := json.NewDecoder(bytes.NewReader(file)); d.More(); looks++ {
			var l look
			if err := d.Decode(&l); err != nil {
				t.Fatal(err)
			}
			sealed, open = sealed+l.Sealed, open+l.Open
			if l.Open > 0 && l.State != "accepted" && !g.agreedWithout(p, id, c.status.PeerID, l.Unit) {
				t.Errorf("%s could read what its copy was to check: %+v", c.name, l)
			}
		}
	}
	t.Logf("in %d looks they saw %d sealed copies, and %d open ones that needed them no more", looks, sealed, open)
	if sealed == 0 {
		t.Error("there was nothing to see: the test shows nothing")
	}
}

// agreedWithout reports whether the ledger comes to a result of a unit without a
// volunteer's copy.
func (g *testGrid) agreedWithout(n *demoNode, id workunits.JobID, who workunits.NodeID, unit uint32) bool {
	g.Helper()
	path := filepath.Join(g.TempDir(), "ledger")
	var exported map[string]any
	g.ok(n, &exported, "job", "export", id.String(), "-o", path)
	f, err := os.Open(path)
	if err != nil {
		g.Fatal(err)
	}
	defer f.Close()
	x, err := ledger.ReadExport(f)
	if err != nil {
		g.Fatal(err)
	}
	b := verdict.NewWith(id, x.Manifest, x.Standing)
	x.Ledger.Walk(x.Ledger.Heads(), func(e ledger.Entry) {
		if c, ok := e.Body.(workunits.Commit); !ok || e.Author != who || !slices.Contains(c.Units, unit) {
			b.Learn(e)
		}
	})
	return b.Unit(unit).Agreed()
}

// spoiled starts a new node of the test binary's own command.
func (g *testGrid) spoiled(name string, flags ...string) *demoNode {
	g.Helper()
	n := g.node(name, flags...)
	g.run(n)
	return n
}

// run starts a node as the test binary's own command.
func (g *testGrid) run(n *demoNode) {
	g.Helper()
	exe, err := exec.LookPath(spoiled)
	if err != nil {
		g.Fatal(err)
	}
	if err := n.start(g.ctx, exe, testEnv()); err != nil {
		g.Fatal(err)
	}
}
