//go:build netlab && linux

package main

import (
	"context"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/talka-grid/talka/grid"
	"github.com/talka-grid/talka/grid/machines"
	"github.com/talka-grid/talka/workunits"
)

// The tests of the lab start real nodes in a small internet, see lab. All of
// them pass packets with the delay and loss of a long way.
const (
	labDelay = 50 * time.Millisecond
	labLoss  = 0.01
	labTime  = 8 * time.Minute
	labWait  = 3 * time.Minute // for one condition
)

// labGrid is a grid of nodes in a lab.
type labGrid struct {
	*testGrid
	*lab
}

func newLabGrid(t *testing.T) labGrid {
	t.Helper()
	l := newLab(t, labDelay, labLoss)
	g := newTestGrid(t, labTime)
	return labGrid{g, l}
}

// upIn starts a node in a namespace.
func (g labGrid) upIn(s *labSpace, name string, flags ...string) *demoNode {
	g.Helper()
	n := &demoNode{name: name, dir: g.dir + "/" + name}
	n.args = append([]string{
		"up", "--network", g.network, "--preset", "all-out", "--processors", "1",
		"--listen", "/ip4/0.0.0.0/udp/4001/quic-v1", "--listen", "/ip4/0.0.0.0/tcp/4001",
	}, flags...)
	g.nodes = append(g.nodes, n)
	if err := s.within(func() error { return n.start(g.ctx, g.exe, testEnv("TALKA_LOG_LEVEL=debug")) }); err != nil {
		g.Fatal(err)
	}
	return n
}

// peerOf is what one node says of another, its peer.
func (g labGrid) peerOf(n, other *demoNode) (info grid.PeerInfo, ok bool) {
	g.Helper()
	peers, err := n.client.Peers(g.ctx)
	if err != nil {
		g.Fatalf("peers of %s: %v", n.name, err)
	}
	for _, p := range peers {
		if p.PeerID == other.status.PeerID {
			return p, true
		}
	}
	return info, false
}

// done waits for a job and checks that the volunteers did it.
func (g labGrid) done(p *demoNode, id workunits.JobID, units, volunteers int) {
	g.Helper()
	begun := time.Now()
	g.until("the job is done", func() bool { return g.job(p, id).State == grid.JobDone })
	if info := g.job(p, id); info.Units.Accepted != units || info.Volunteers < volunteers {
		g.Errorf("accepted %d units of %d volunteers, want %d of %d", info.Units.Accepted, info.Volunteers, units, volunteers)
	}
	g.Logf("the job was done %s after it had been submitted", time.Since(begun).Round(time.Millisecond))
}

// behind is a publisher and two volunteers, each behind a router of its own,
// and the nodes that everybody reaches.
type behind struct {
	labGrid
	seeds     []*demoNode
	seedPorts []*labPort
	homes     []*labPort // of p, v and w
	p, v, w   *demoNode
	project   string
}

// newBehind starts them; the publisher executes nothing.
func newBehind(t *testing.T, seeds int, routers ...func(p *labPort) *labSpace) *behind {
	t.Helper()
	b := &behind{labGrid: newLabGrid(t)}
	b.begin(seeds, false, routers)
	return b
}

// begin starts the nodes, in a private network of which the first seed lets all in
// if that is asked for.
func (b *behind) begin(seeds int, private bool, routers []func(p *labPort) *labSpace) {
	b.Helper()
	var join []string
	if private {
		b.ok(&demoNode{dir: b.dir + "/seed"}, &struct{}{}, "network", "new", b.network)
	}
	for i := range seeds {
		place := b.port([]string{"5.9.1.1", "8.7.2.1"}[i])
		b.seedPorts = append(b.seedPorts, place)
		b.seeds = append(b.seeds, b.upIn(place.labSpace, []string{"seed", "seed2"}[i], append(join, "--seed", "--steward=false", "--processors", "1")...))
		if i == 0 || !private {
			join = append(join, "--join", b.invite(b.seeds[i]))
		}
	}
	var inside []*labSpace
	for i, router := range routers {
		home := b.port([]string{"20.1.1.1", "31.2.2.2", "42.3.3.3"}[i])
		inside = append(inside, router(home))
		b.homes = append(b.homes, home)
	}
	b.p = b.upIn(inside[0], "p", join...)
	b.ok(b.p, &struct{}{}, "pause")
	b.project = b.testGrid.project(b.p, "atoms")
	volunteer := append(slices.Clip(join), "--trust", b.project, "--steward=false")
	b.v, b.w = b.upIn(inside[1], "v", volunteer...), b.upIn(inside[2], "w", volunteer...)
}

// The ways to be on the internet.
func cone(p *labPort) *labSpace      { p.home(natCone, true); return p.host() }
func symmetric(p *labPort) *labSpace { p.home(natSymmetric, true); return p.host() }
func office(p *labPort) *labSpace    { p.home(natCone, false); return p.host() }
func walled(p *labPort) *labSpace    { p.firewall(); return p.labSpace }

// until waits for a condition. If it does not come about in labWait, the test
// ends with what every node knows of its place and its peers.
func (g labGrid) until(what string, f func() bool) {
	g.Helper()
	ctx, cancel := context.WithTimeout(g.ctx, labWait)
	defer cancel()
	err := poll(ctx, func() (bool, error) { return f(), nil })
	if err == nil {
		return
	}
	for _, n := range g.nodes {
		if r, err := n.client.Netcheck(g.ctx); err == nil {
			g.Logf("%s: %s %+v", n.name, r.State, r.Reach)
		}
		if peers, err := n.client.Peers(g.ctx); err == nil {
			for _, p := range peers {
				g.Logf("%s: %s %s %v", n.name, p.PeerID.Short(), wayTo(p), p.Addrs)
			}
		}
	}
	g.Fatalf("waiting until %s: %v", what, err)
}

// reached waits until a node knows how others reach it, as the condition wants it,
// and logs what netcheck says then.
func (g labGrid) reached(n *demoNode, what string, cond func(r grid.ReachInfo) bool) {
	g.Helper()
	begun := time.Now()
	var report grid.NetReport
	g.until(what, func() (ok bool) {
		var err error
		if report, err = n.client.Netcheck(g.ctx); err != nil {
			g.Fatalf("reach of %s: %v", n.name, err)
		}
		return cond(report.Reach)
	})
	g.Logf("%s after %s: %s %q next %q", n.name, time.Since(begun).Round(time.Second), report.State, report.Facts, report.Next)
}

// relayed is how a node behind a router is reached.
func relayed(r grid.ReachInfo) bool { return r.Private && len(r.Relays) > 0 }

// direct reports whether every pair of the three behind routers is connected,
// and without a relay.
func (b *behind) direct() (pairs int) {
	for _, pair := range [][2]*demoNode{{b.p, b.v}, {b.p, b.w}, {b.v, b.w}} {
		if info, ok := b.peerOf(pair[0], pair[1]); ok && !info.Relayed {
			pairs++
		}
	}
	return pairs
}

// Behind routers that keep ports, all pairs find direct ways.
func TestNetlabCone(t *testing.T) {
	b := newBehind(t, 2, cone, cone, cone)
	begun := time.Now()
	b.until("all pairs are connected directly", func() bool { return b.direct() == 3 })
	t.Logf("3 of 3 pairs were connected directly after %s", time.Since(begun).Round(time.Millisecond))
	b.reached(b.seeds[0], "the seed knows that others reach it", func(r grid.ReachInfo) bool { return r.Public })
	b.reached(b.v, "a volunteer knows that it has relays, and made holes", func(r grid.ReachInfo) bool { return relayed(r) && r.Punched > 0 })
	b.done(b.p, b.submit(b.p, "atoms", b.ljJob(6, 13, "none")), 6, 1)
}

// Behind routers that give each flow another port, the job goes through relays, and
// so does what the owner of two machines asks of one at the other, who finds it again
// when its home has another address.
func TestNetlabSymmetric(t *testing.T) {
	b := newBehind(t, 2, symmetric, symmetric, symmetric)
	b.done(b.p, b.submit(b.p, "atoms", b.ljJob(6, 13, "none")), 6, 1)
	b.reached(b.v, "a volunteer knows that it has relays, and made no hole", func(r grid.ReachInfo) bool { return relayed(r) && r.Punched == 0 })
	b.reached(b.p, "the publisher knows that it has relays", relayed)
	b.pairWith(b.p, b.v, machines.RoleControl)
	var st grid.Status
	b.ok(b.p, &st, "pause", "--machine", "v")
	if got := b.status(b.v); got.State != grid.StatePaused || st.PeerID != got.PeerID {
		t.Errorf("%+v, %+v", got, st)
	}
	if n := b.direct(); n > 0 {
		t.Errorf("%d pairs are connected directly: the lab's routers let everything through", n)
	}
	b.homes[1].move("31.2.9.9")
	begun := time.Now()
	b.until("the machine is found again", func() bool { return b.talka(b.p, "resume", "--machine", "v").code == exitOK })
	t.Logf("the machine was resumed %s after its home had moved", time.Since(begun).Round(time.Millisecond))
	if got := b.status(b.v); got.State == grid.StatePaused {
		t.Errorf("%+v", got)
	}
}

// All of it in a private network: relays, holes through routers, and AutoNAT, whose
// hosts dial with identities that are no members.
func TestNetlabPrivate(t *testing.T) {
	b := &behind{labGrid: newLabGrid(t)}
	b.begin(2, true, []func(p *labPort) *labSpace{cone, cone, symmetric})
	reachable := b.upIn(b.port("53.4.4.4").labSpace, "reachable", "--join", b.invite(b.seeds[0]), "--steward=false")
	stranger := b.upIn(b.port("64.5.5.5").labSpace, "stranger")
	if _, err := stranger.client.Join(b.ctx, b.invite(b.seeds[0])); err == nil {
		t.Error("a node of the open network of that name gets in")
	}
	b.until("two routers have holes", func() bool { info, ok := b.peerOf(b.p, b.v); return ok && !info.Relayed })
	b.done(b.p, b.submit(b.p, "atoms", b.ljJob(6, 13, "none")), 6, 1)
	b.reached(b.w, "a volunteer knows that it has relays", relayed)
	b.reached(reachable, "a node knows that others reach it", func(r grid.ReachInfo) bool { return r.Public })
	if n := b.status(stranger).Peers; n > 0 {
		t.Errorf("the stranger has %d peers", n)
	}
}

// A router that keeps ports, an office that lets no UDP out, and a machine with
// a firewall of its own: the job is done all the same.
func TestNetlabFirewalls(t *testing.T) {
	b := newBehind(t, 2, cone, office, walled)
	b.done(b.p, b.submit(b.p, "atoms", b.ljJob(6, 13, "none")), 6, 1)
	t.Logf("%d of 3 pairs are connected directly", b.direct())
	b.reached(b.v, "the one without UDP knows it", func(r grid.ReachInfo) bool { return relayed(r) && r.PeersQUIC == 0 && r.PeersOther > 0 })
}

// With its relay gone in the middle of a job, the rest of it goes another way.
func TestNetlabRelayLoss(t *testing.T) {
	b := newBehind(t, 2, symmetric, symmetric, symmetric)
	id := b.submit(b.p, "atoms", b.ljJob(40, 13, "none"))
	b.until("some units are accepted", func() bool { return b.job(b.p, id).Units.Accepted > 0 })
	b.part(1, b.seedPorts[0])
	t.Logf("the first relay is cut off with %d of 40 units accepted", b.job(b.p, id).Units.Accepted)
	b.done(b.p, id, 40, 1)
	b.done(b.p, b.submit(b.p, "atoms", b.ljJob(6, 13, "none")), 6, 1)
}

// Homes get other addresses: a job is done all the same, and direct ways are found
// again.
func TestNetlabAddressChange(t *testing.T) {
	b := newBehind(t, 2, cone, cone, cone)
	b.until("all pairs are connected directly", func() bool { return b.direct() == 3 })
	b.homes[0].move("20.1.9.9")
	b.homes[1].move("31.2.9.9")
	begun := time.Now()
	b.until("the old ways are noticed to be gone", func() bool { return b.direct() < 3 })
	t.Logf("the old ways were gone %s after the change", time.Since(begun).Round(time.Millisecond))
	b.until("all pairs are connected directly again", func() bool { return b.direct() == 3 })
	took := time.Since(begun).Round(time.Millisecond)
	t.Logf("3 of 3 pairs were connected directly %s after the change", took)
	if took > time.Minute {
		t.Error("want that within a minute, of which QUIC needs half to notice")
	}
	b.done(b.p, b.submit(b.p, "atoms", b.ljJob(6, 13, "none")), 6, 1)
}

// A machine that slept, so long that all others gave it up, and one whose own address
// has changed are among their peers again.
func TestNetlabSleepAndMove(t *testing.T) {
	b := newBehind(t, 1, cone, walled, walled)
	b.until("all pairs are connected directly", func() bool { return b.direct() == 3 })
	pid := b.v.cmd.Process.Pid
	if err := unix.Kill(pid, unix.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	b.until("the others give up the sleeper", func() bool { _, ok := b.peerOf(b.p, b.v); return !ok })
	if err := unix.Kill(pid, unix.SIGCONT); err != nil {
		t.Fatal(err)
	}
	begun := time.Now()
	back := func(n *demoNode) func() bool {
		return func() bool { info, ok := b.peerOf(b.p, n); return ok && !info.Relayed }
	}
	b.until("the sleeper is back", back(b.v))
	t.Logf("the sleeper is back after %s", time.Since(begun).Round(time.Millisecond))
	b.homes[2].move("42.3.9.9")
	begun = time.Now()
	at := func() bool {
		info, ok := b.peerOf(b.p, b.w)
		return ok && !info.Relayed && strings.Contains(strings.Join(info.Addrs, " "), "42.3.9.9")
	}
	b.until("the one that moved is back", at)
	t.Logf("the one that moved is back after %s", time.Since(begun).Round(time.Millisecond))
	b.done(b.p, b.submit(b.p, "atoms", b.ljJob(6, 13, "none")), 6, 1)
}

// A publisher that is cut off submits a job; it is done once the net has healed.
func TestNetlabPartition(t *testing.T) {
	b := newBehind(t, 2, cone, cone, cone)
	b.until("all pairs are connected directly", func() bool { return b.direct() == 3 })
	b.part(1, b.homes[0])
	b.until("the publisher is alone", func() bool { return b.status(b.p).Peers == 0 })
	id := b.submit(b.p, "atoms", b.ljJob(6, 13, "none"))
	if info := b.job(b.p, id); info.Units.Accepted > 0 {
		t.Errorf("%d units were accepted by nobody", info.Units.Accepted)
	}
	b.part(0, b.homes[0])
	b.done(b.p, id, 6, 1)
}

// On a LAN without internet, nodes that were told of nobody find each other.
func TestNetlabLAN(t *testing.T) {
	g := newLabGrid(t)
	lan := g.space()
	lan.bridge()
	p := g.upIn(lan.host(), "p")
	g.ok(p, &struct{}{}, "pause")
	project := g.project(p, "atoms")
	begun := time.Now()
	v := g.upIn(lan.host(), "v", "--trust", project, "--steward=false")
	w := g.upIn(lan.host(), "w", "--trust", project, "--steward=false")
	g.meet(p, v, w)
	t.Logf("all had met %s after the first start of two", time.Since(begun).Round(time.Millisecond))
	g.ok(v, &struct{}{}, "pause")
	g.ok(w, &struct{}{}, "pause")
	id := g.submit(p, "atoms", g.ljJob(6, 13, "none"))
	begun = time.Now()
	x := g.upIn(lan.host(), "x", "--trust", project, "--steward=false")
	g.until("a newcomer has work", func() bool { st := g.status(x); return st.RunningUnits+st.AcceptedUnits > 0 })
	took := time.Since(begun)
	t.Logf("a newcomer that was told of nobody had work after %s", took.Round(time.Millisecond))
	if took > 5*time.Second {
		t.Error("want that within 5 s")
	}
	g.ok(v, &struct{}{}, "resume")
	g.ok(w, &struct{}{}, "resume")
	g.done(p, id, 6, 1)
	g.done(p, g.submit(p, "atoms", g.ljJob(6, 13, "none")), 6, 1)
}
