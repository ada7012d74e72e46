//go:build e2e

package main

import (
	"os"
	"slices"
	"testing"
	"time"

	"github.com/talka-grid/talka/chunkstore/replica"
	"github.com/talka-grid/talka/grid"
	"github.com/talka-grid/talka/grid/keep"
)

// A node that keeps replicas of a job's results is killed: another one is asked for
// them, and the publisher sees both. Then it collects, and all let go.
func TestReplicaIsRepaired(t *testing.T) {
	const units = 6
	g := newTestGrid(t, 2*time.Minute)
	tcp := func(name string, flags ...string) *demoNode { // whose death is noticed at once
		n := g.node(name, append(flags, "--test-hasty")...)
		i := slices.IndexFunc(n.args, func(a string) bool { return a == "--listen" })
		n.args = slices.Delete(n.args, i, i+2)
		g.run(n)
		return n
	}
	p := tcp("p", "--seed")
	project := g.project(p, "atoms")
	flags := []string{"--join", g.invite(p), "--trust", project}
	all := []*demoNode{p, tcp("a", flags...), tcp("b", flags...)}
	for _, name := range []string{"v", "w", "x", "y", "z"} {
		all = append(all, tcp(name, append(flags, "--steward=false")...))
	}
	g.meet(all...)
	file := g.ljJob(units, 4, "audit")
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	id := g.submit(p, "atoms", g.write("kept.toml", string(text)+"\n[keep]\nreplicas = 5\n"))
	g.until("the job is done", func() bool { return g.job(p, id).Settled })
	var before grid.DataHealth
	g.until("its data is healthy", func() bool {
		d := g.job(p, id).Data
		if d != nil {
			before = *d
		}
		return d != nil && d.State == replica.Healthy && d.Objects >= 2 && d.Replicas >= 5
	})
	keepers := g.keepers(all)
	// Those that are no stewards die.
	var rest, victims []*demoNode
	for i, n := range all {
		if i >= 3 && keepers[n.name] > 0 && len(victims) < 2 {
			victims = append(victims, n)
			n.kill()
		} else {
			rest = append(rest, n)
		}
	}
	if len(victims) == 0 {
		t.Fatalf("no volunteer keeps replicas: %v", keepers)
	}
	// Who is left has to keep five of each object: nodes that kept one of them before
	// keep the other now, too.
	var last grid.DataHealth
	defer func() { t.Logf("before %+v by %v; last %+v", before, keepers, last) }()
	g.until("others keep what they kept", func() bool {
		d := g.job(p, id).Data
		if d == nil {
			return false
		}
		last = *d
		kept := 0
		for _, n := range g.keepers(rest) {
			kept += n
		}
		return kept >= 5*last.Objects && last.State == replica.Healthy && last.Online >= 5
	})
	var sum fetched
	g.ok(p, &sum, "job", "fetch", id.String(), "-o", g.TempDir()+"/out", "--free")
	if sum.Results != units {
		t.Errorf("%d results", sum.Results)
	}
	g.until("all let go", func() bool {
		return !slices.ContainsFunc(rest[1:], func(n *demoNode) bool { return len(g.keepers([]*demoNode{n})) > 0 })
	})
}

// keepers are the nodes that keep replicas, and of how many objects.
func (g *testGrid) keepers(nodes []*demoNode) map[string]int {
	g.Helper()
	objects := map[string]int{}
	for _, n := range nodes {
		info, err := n.client.DataInfo(g.ctx)
		if err != nil {
			g.Fatal(err)
		}
		for _, r := range info.Reasons {
			if r.Reason == keep.Reason && r.Roots > 0 {
				objects[n.name] = r.Roots
			}
		}
	}
	return objects
}
