package grid

import (
	"crypto/ed25519"
	"runtime"
	"testing"
	"time"

	"github.com/talka-grid/talka/grid/wire"
	"github.com/talka-grid/talka/workunits"
)

// TestLatestResults: a project's name leads to its latest sealed results, on a node
// that came later and knows nothing else, by the DHT alone and by peers alone, while
// the publisher is away; and only to what the publisher signed.
func TestLatestResults(t *testing.T) {
	t.Parallel()
	c, ctx := newCluster(t), testContext(t)
	pub, project := c.publisher(Config{Slots: 1})
	trust := []workunits.ProjectID{project}
	peers := []*member{c.start(Config{Slots: 1, Steward: true, Trust: trust}), c.start(Config{Slots: 1, Steward: true, Trust: trust})}
	m := testManifest(workunits.Link{Cid: pub.host.data.put([]byte("program"))}, 4)
	run := func(name string) workunits.JobID {
		t.Helper()
		m.Name = name
		id, err := pub.Submit(ctx, m, progress(t))
		if err != nil {
			t.Fatal(err)
		}
		if err := pub.await(ctx, func() bool { p := pub.pointers[project]; return p != nil && p.Job == id }); err != nil {
			t.Fatal(err)
		}
		return id
	}
	latest := func(n *member, want workunits.JobID) (d ProjectDetail) {
		t.Helper()
		for d.Results == nil || d.Results.Job != want { // who answers late is asked again
			_ = n.do(ctx, func() { clear(n.sought) }) // time passes
			var err error
			if d, err = n.Project(ctx, project); err != nil || ctx.Err() != nil {
				t.Fatalf("want %s: %+v, %v", want, d, err)
			}
		}
		return d
	}
	first := run("first")
	if got := latest(peers[0], first); got.Results.Accepted != 4 {
		t.Errorf("a steward finds %+v, want %s", got.Results, first)
	}
	second := run("second")
	latest(peers[0], second)
	for {
		raw := pub.host.FindPointer(ctx, project)
		if p, err := workunits.ParsePointer(raw); err != nil || p.Job == second {
			break
		}
		runtime.Gosched()
	}
	pub.stop()
	byDHT := c.start(Config{})
	byDHT.host.deaf = true // to peers
	byDHT.seekPointer(ctx, project)
	_ = byDHT.do(ctx, func() {
		if p := byDHT.pointers[project]; p == nil || p.Job != second {
			t.Errorf("the DHT alone leads to %+v", p)
		}
	})
	// By peers alone: the DHT knows nothing.
	c.net.mu.Lock()
	c.net.pointers = nil
	c.net.mu.Unlock()
	late := c.start(Config{})
	d := latest(late, second)
	if len(d.Jobs) == 0 || d.Jobs[0].Job != second || !d.Jobs[0].Latest || d.Jobs[0].Units.Accepted != 4 {
		t.Errorf("a newcomer finds %+v", d)
	}
	lies(t, late, project, second)
	// What it has learnt outlives it.
	late = c.restart(late)
	latest(late, second)
}

// lies tells a node pointers that it must not take.
func lies(t *testing.T, n *member, project workunits.ProjectID, want workunits.JobID) {
	t.Helper()
	_, key, _ := ed25519.GenerateKey(nil)
	forged := workunits.Pointer{Network: n.cfg.Network, Project: project.Name, Number: 1 << 52, Job: workunits.JobID{1}}
	other := forged.Sign(key) // of another publisher's project of that name
	of, err := workunits.ParsePointer(other)
	if err != nil {
		t.Fatal(err)
	}
	of.Publisher = project.Publisher
	for name, raw := range map[string][]byte{"of another publisher": other, "with another's signature": workunits.Encode(of), "nonsense": []byte("x")} {
		_ = n.do(t.Context(), func() {
			n.sought[project] = time.Now()
			n.hearPointer(wire.Pointer{Pointer: raw})
			n.learnFound(project, raw)
			if p := n.pointers[project]; p == nil || p.Job != want || len(n.pointers) != 1 {
				t.Errorf("%s: taken for %+v of %d", name, p, len(n.pointers))
			}
		})
	}
	_ = n.do(t.Context(), func() { // nobody asked for it
		n.hearPointer(wire.Pointer{Pointer: other})
		if len(n.pointers) != 1 {
			t.Error("a pointer that nobody asked for is remembered")
		}
	})
}
