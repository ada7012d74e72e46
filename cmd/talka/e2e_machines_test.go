//go:build e2e || netlab

package main

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/talka-grid/talka/grid"
	"github.com/talka-grid/talka/grid/api"
	"github.com/talka-grid/talka/grid/machines"
	"github.com/talka-grid/talka/workunits"
)

// TestMachines pairs machines by the command, controls one from another, and removes
// one as if it was lost, while another is off. Everybody's addresses change.
func TestMachines(t *testing.T) {
	g := newTestGrid(t, 3*time.Minute)
	desk := g.up("desk")
	lap, server := g.up("laptop", "--join", g.invite(desk)), g.up("server", "--join", g.invite(desk))
	for _, n := range []*demoNode{lap, server} {
		g.pairWith(desk, n, machines.RoleControl)
	}
	var told []machines.Introduction
	g.ok(desk, &told, "machines", "introduce")
	if !slices.Equal(g.names(lap), []string{"desk", "server"}) || !slices.Equal(g.names(server), []string{"desk", "laptop"}) {
		t.Fatalf("laptop knows %q, server %q", g.names(lap), g.names(server))
	}
	// All from one, with what each does.
	var all []struct {
		Name, Error string
		Status      grid.Status
	}
	g.ok(lap, &all, "pause", "--all", "--for", "2h")
	for _, n := range []*demoNode{desk, lap, server} {
		if st := g.status(n); st.State != grid.StatePaused {
			t.Errorf("%s is %s: %s", n.name, st.State, st.Reason)
		}
	}
	var st grid.Status
	if g.ok(server, &st, "resume", "--machine", "laptop"); st.PeerID != lap.status.PeerID || g.status(lap).State != grid.StateIdle {
		t.Errorf("%+v", st)
	}
	g.fails(desk, exitNotFound, []string{"machines ls"}, "pause", "--machine", "nobody")
	g.fails(lap, exitDenied, []string{"limits and rules alone"}, "config", "set", "--machine", "desk", "log.level", "debug")
	var s struct{ Value string }
	if g.ok(lap, &s, "config", "set", "--machine", "desk", "cpu_percent", "40"); s.Value != "40" {
		t.Errorf("%+v", s)
	}
	g.ok(desk, &s, "config", "get", "cpu_percent")
	var why grid.Why
	if g.ok(server, &why, "why", "--machine", "desk"); s.Value != "40" || why.State != grid.StatePaused {
		t.Errorf("cpu_percent %s, %+v", s.Value, why)
	}
	// What others did here is told here.
	var texts []string
	g.events(desk, func(e grid.Event) bool {
		if e.Kind == "machine" {
			texts = append(texts, e.Text)
		}
		return len(texts) == 4
	})
	if want := []string{"laptop: paired; it may control here", "server: paired; it may control here", "laptop: pause", "laptop: settings"}; !slices.Equal(texts, want) {
		t.Errorf("told %q", texts)
	}
	// The laptop is lost while the desk is off.
	if err := desk.stop(); err != nil {
		t.Fatal(err)
	}
	var l api.MachineList
	g.until("the desk is away, the laptop there", func() bool {
		g.ok(server, &l, "machines", "ls")
		return !l.Machines[0].Here && l.Machines[1].Here
	})
	g.fails(server, exitPartial, []string{"1 machine could not be told"}, "resume", "--all")
	var r api.Removed
	if g.ok(server, &r, "machines", "remove", "laptop"); len(r.Gone) != 1 || len(r.Deaf) != 0 {
		t.Errorf("%+v", r)
	}
	g.until("the laptop was told by who removed it", func() bool { return !slices.Contains(g.names(lap), "server") })
	g.start(desk)
	g.until("the desk has heard that the laptop is lost", func() bool { return slices.Equal(g.names(desk), []string{"server"}) })
	g.until("they find each other again", func() bool { return g.talka(desk, "status", "--machine", "server").code == exitOK })
}

// pairWith pairs two machines by the command, each called by its node's name.
func (g *testGrid) pairWith(maker, joiner *demoNode, role machines.Role) {
	g.Helper()
	ctx, cancel := context.WithTimeout(g.ctx, time.Minute)
	defer cancel()
	_, err := maker.client.OfferMachine(ctx, maker.name, role, func(o machines.Offer) error {
		g.fails(joiner, exitUsage, []string{maker.name, "--yes"}, "pair", o.Code) // nobody is asked without a terminal
		var m machines.Machine
		g.ok(joiner, &m, "pair", o.Code, "--name", joiner.name, "--yes")
		if m.ID != maker.status.PeerID || m.Name != maker.name {
			g.Errorf("%+v", m)
		}
		g.fails(joiner, exitDenied, []string{"this code is not good"}, "pair", o.Code, "--yes")
		return nil
	})
	if err != nil {
		g.Fatal(err)
	}
}

// events reads a node's events until f has enough.
func (g *testGrid) events(n *demoNode, f func(grid.Event) bool) {
	g.Helper()
	enough := errors.New("enough")
	err := n.client.Events(g.ctx, 0, workunits.JobID{}, func(e grid.Event) error {
		if f(e) {
			return enough
		}
		return nil
	})
	if !errors.Is(err, enough) {
		g.Fatal(err)
	}
}

// names are the machines that a node knows.
func (g *testGrid) names(n *demoNode) (names []string) {
	g.Helper()
	l, err := n.client.Machines(g.ctx, false)
	if err != nil {
		g.Fatal(err)
	}
	for _, m := range l.Machines {
		names = append(names, m.Name)
	}
	return names
}
