package grid

import (
	"bytes"
	"context"
	"maps"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/talka-grid/talka/workunits"
	"github.com/talka-grid/talka/workunits/ledger"
)

// settled runs a job of so many units to its seal and returns two of its nodes.
func settled(ctx context.Context, t *testing.T, units uint32) (c *cluster, pub, peer *member, id workunits.JobID) {
	t.Helper()
	c = newCluster(t)
	pub, project := c.publisher(Config{})
	for i := range 9 {
		m := c.start(Config{Slots: 1, Steward: i < 3, Trust: []workunits.ProjectID{project}})
		if i == 0 {
			peer = m
		}
	}
	manifest := testManifest(workunits.Link{Cid: pub.host.data.put([]byte("program"))}, units)
	manifest.Nominal = 1000
	id, err := pub.Submit(ctx, manifest, progress(t))
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range []*member{pub, peer} {
		if err := m.await(ctx, func() bool { return m.jobs[id] != nil && m.info(m.jobs[id]).Settled }); err != nil {
			t.Fatal(err)
		}
	}
	return c, pub, peer, id
}

// alone takes all other nodes off the network.
func (c *cluster) alone(m *member) {
	c.net.mu.Lock()
	defer c.net.mu.Unlock()
	maps.DeleteFunc(c.net.nodes, func(id workunits.NodeID, _ *memHost) bool { return id != m.host.id })
}

func (m *member) segments(ctx context.Context, t *testing.T, id workunits.JobID) (n int) {
	t.Helper()
	if err := m.db.eachSegment(ctx, id, func([]byte, uint64) { n++ }); err != nil {
		t.Fatal(err)
	}
	return n
}

// packNow packs a settled job as soon as nobody says anything more.
func (m *member) packNow(ctx context.Context, t *testing.T, id workunits.JobID) {
	t.Helper()
	for !m.isPacked(t, id) {
		if err := m.packLedger(ctx, id); err != nil {
			t.Fatal(err)
		}
	}
}

func (m *member) isPacked(t *testing.T, id workunits.JobID) (yes bool) {
	t.Helper()
	if err := m.do(testContext(t), func() { yes = m.jobs[id].packed != nil }); err != nil {
		t.Fatal(err)
	}
	return yes
}

// A settled job shrinks to a root on the disk and comes back whole for whoever
// asks, in the same process and the next.
func TestPackedJob(t *testing.T) {
	t.Parallel()
	ctx := testContext(t)
	c, pub, _, id := settled(ctx, t, 20)
	c.alone(pub)                                   // whoever speaks of the job has it unpacked
	if err := pub.do(ctx, func() {}); err != nil { // what had arrived is read
		t.Fatal(err)
	}
	info, err := pub.Job(ctx, id)
	if err != nil {
		t.Fatal(err)
	}
	export, err := pub.Ledger(ctx, id)
	if err != nil {
		t.Fatal(err)
	}
	story, err := pub.Story(ctx, id, 3)
	if err != nil {
		t.Fatal(err)
	}
	for _, process := range []string{"the same process", "the next process"} {
		if err := pub.snapshots.set(id, []byte("of the ledger")); err != nil {
			t.Fatal(err)
		}
		pub.packNow(ctx, t, id)
		if raw, err := pub.snapshots.get(id); raw != nil || err != nil {
			t.Errorf("%s: snapshot %q is left beside the archive, error %v", process, raw, err)
		}
		if n := pub.segments(ctx, t, id); n > 0 {
			t.Errorf("%s: %d segments are left beside the archive", process, n)
		}
		if process == "the next process" {
			pub = c.restart(pub)
		}
		got, err := pub.Job(ctx, id)
		if diff := cmp.Diff(info, got); err != nil || diff != "" || !pub.isPacked(t, id) {
			t.Errorf("%s: job, %v (-want +got):\n%s", process, err, diff)
		}
		x, err := pub.Ledger(ctx, id)
		if err != nil {
			t.Fatal(err)
		}
		if gone := without(export.Segments, x.Segments); len(gone) > 0 { // fellow stewards may have said more
			t.Errorf("%s: %d segments are lost", process, len(gone))
		}
		export = x
		again, err := pub.Story(ctx, id, 3)
		if err != nil || len(again.Copies) != len(story.Copies) || again.State != story.State || *again.Result != *story.Result {
			t.Errorf("%s: story %+v, %v, want %+v", process, again, err, story)
		}
		r, err := pub.Result(ctx, id, 7)
		if err != nil || r.Failed {
			t.Errorf("%s: result %+v, %v", process, r, err)
		}
	}
	if table := pub.stakesOf(t, info.Project); len(table.Stakes) == 0 {
		t.Error("the project's next job starts from nothing")
	}
}

func (m *member) stakesOf(t *testing.T, p workunits.ProjectID) (table workunits.StakeTable) {
	t.Helper()
	if err := m.do(testContext(t), func() { table = m.project(p) }); err != nil {
		t.Fatal(err)
	}
	return table
}

// Fellow stewards that tell of the same ledger leave a packed job alone; who tells
// of more brings it back.
func TestPackedJobHearsOfMore(t *testing.T) {
	t.Parallel()
	ctx := testContext(t)
	_, pub, peer, id := settled(ctx, t, 8)
	var p *packed
	for p == nil { // whoever speaks of it has it unpacked, which may be at any time
		peer.packNow(ctx, t, id)
		if err := peer.do(ctx, func() { p = peer.jobs[id].packed }); err != nil {
			t.Fatal(err)
		}
	}
	if !p.bears(p.Heads) || !p.bears(p.Heads[1:2]) {
		t.Error("the packed ledger does not know its own heads")
	}
	more := bytes.Clone(workunits.Encode(p.Heads))
	heads, err := workunits.Decode[[]workunits.LogHead](more, maxPacked)
	if err != nil {
		t.Fatal(err)
	}
	heads[0].Len++
	if p.bears(heads) {
		t.Error("the packed ledger bears what it does not hold")
	}
	if r, err := pub.Audit(ctx, id, 2, progress(t)); err != nil || len(r.Units) != 2 {
		t.Fatalf("audit %+v, %v", r, err)
	}
	if err := peer.await(ctx, func() bool { j := peer.jobs[id]; return j.packed == nil && len(j.ledger.Authors()) > 0 }); err != nil {
		t.Errorf("the audit did not bring the ledger back: %v", err)
	}
}

// An archive that is damaged or not there is told, and nothing is made up.
func TestDamagedArchive(t *testing.T) {
	t.Parallel()
	ctx := testContext(t)
	_, pub, _, id := settled(ctx, t, 4)
	var p *packed
	for p == nil { // whoever asks has it unpacked, which may be at any time
		pub.packNow(ctx, t, id)
		if err := pub.do(ctx, func() { p = pub.jobs[id].packed }); err != nil {
			t.Fatal(err)
		}
	}
	store := pub.host.data
	replace := func(b []byte) {
		store.mu.Lock()
		defer store.mu.Unlock()
		store.all[p.Archive.Cid] = b
	}
	file := store.get(p.Archive.Cid)
	for _, at := range []int{0, len(file) / 2, len(file) - 1} {
		bad := bytes.Clone(file)
		bad[at] ^= 1
		replace(bad)
		if segments, err := pub.unarchive(ctx, p, nil); err == nil {
			t.Errorf("byte %d is changed, and %d segments come of it", at, len(segments))
		}
	}
	replace(file)
	if _, err := pub.unarchive(ctx, p, nil); err != nil {
		t.Error(err)
	}
}

// TestPackedIsAnExport keeps the archive's form that of `talka job export`.
func TestPackedIsAnExport(t *testing.T) {
	t.Parallel()
	ctx := testContext(t)
	_, pub, _, id := settled(ctx, t, 4)
	for {
		pub.packNow(ctx, t, id)
		var p *packed
		if err := pub.do(ctx, func() { p = pub.jobs[id].packed }); err != nil {
			t.Fatal(err)
		}
		if p == nil {
			continue // somebody asked for it
		}
		x, err := pub.Ledger(ctx, id)
		if err != nil {
			t.Fatal(err)
		}
		var all bool
		if err := pub.do(ctx, func() { all = p.bears(pub.jobs[id].ledger.Heads()) }); err != nil {
			t.Fatal(err)
		}
		if !all {
			continue // more was said since it was packed
		}
		var b bytes.Buffer
		if err := ledger.WriteExport(&b, x); err != nil {
			t.Fatal(err)
		}
		if p.Root != workunits.Sum(b.Bytes()) {
			t.Error("the root is not that of the export")
		}
		return
	}
}
