package grid

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/talka-grid/talka/workunits"
	"github.com/talka-grid/talka/workunits/ledger"
)

// exportTo writes a job of a node to a file, with its results if they are asked for.
func (m *member) exportTo(ctx context.Context, t *testing.T, id workunits.JobID, results bool) string {
	t.Helper()
	x, err := m.Ledger(ctx, id)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "job")
	f, err := os.Create(path)
	if err == nil {
		err = ledger.WriteExport(f, x)
	}
	if results && err == nil {
		root, gerr := m.GatherResults(ctx, id, func(_, _ int64) {})
		err = errors.Join(gerr, ledger.WriteEnd(f), m.host.data.Export(ctx, root, f))
	}
	if err := errors.Join(err, f.Close()); err != nil {
		t.Fatal(err)
	}
	return path
}

func (m *member) resultsOf(ctx context.Context, t *testing.T, id workunits.JobID) (list []UnitResult) {
	t.Helper()
	if err := m.Results(ctx, id, func(r UnitResult) error { list = append(list, r); return nil }); err != nil {
		t.Error(err)
	}
	return list
}

// An exported job is shown, told and fetched on a node that reaches none of those who
// look after it, also after that node's restart; and exported from there.
func TestImportedJob(t *testing.T) {
	t.Parallel()
	ctx := testContext(t)
	_, pub, _, id := settled(ctx, t, 70) // more than one run
	info, err := pub.Job(ctx, id)
	if err != nil {
		t.Fatal(err)
	}
	want, results := pub.resultsOf(ctx, t, id), pub.exportTo(ctx, t, id, true)
	away := newCluster(t)
	m := away.start(Config{})
	r, err := m.ImportJob(ctx, results, func(_, _ int64) {})
	if err != nil || r.Job != id || r.Name != "test" || r.Results != 70 {
		t.Fatalf("%+v, %v", r, err)
	}
	for _, process := range []string{"the same process", "the next process"} {
		if process == "the next process" {
			m = away.restart(m)
		}
		got, err := m.Job(ctx, id)
		if err != nil || got.State != JobDone || !got.Settled || got.Units != info.Units || got.Copies < info.Copies || got.Read == nil || !got.Read.Imported {
			t.Errorf("%s: job %+v, %v", process, got, err)
		}
		if s, err := m.Story(ctx, id, 3); err != nil || s.State != "accepted" || len(s.Copies) == 0 {
			t.Errorf("%s: story %+v, %v", process, s, err)
		}
		if diff := cmp.Diff(want, m.resultsOf(ctx, t, id)); diff != "" || len(want) != 70 {
			t.Errorf("%s: results (-want +got):\n%s", process, diff)
		}
	}
	again, err := away.start(Config{}).ImportJob(ctx, m.exportTo(ctx, t, id, true), func(_, _ int64) {})
	if err != nil || again.Results != 70 || again.Job != id {
		t.Errorf("an export of what was imported: %+v, %v", again, err)
	}
}

// A ledger alone tells all but the results, which come from those who have them; and
// who looks after the job takes an old file for what it is.
func TestImportedLedger(t *testing.T) {
	t.Parallel()
	ctx := testContext(t)
	c, pub, peer, id := settled(ctx, t, 8)
	path := pub.exportTo(ctx, t, id, false)
	outsider := c.start(Config{})
	if r, err := outsider.ImportJob(ctx, path, func(_, _ int64) {}); err != nil || r.Results != 0 {
		t.Fatalf("%+v, %v", r, err)
	}
	if got := outsider.resultsOf(ctx, t, id); len(got) != 8 {
		t.Errorf("%d results", len(got))
	}
	before, err := peer.Job(ctx, id)
	if err != nil {
		t.Fatal(err)
	}
	peer.packNow(ctx, t, id)
	if _, err := peer.ImportJob(ctx, path, func(_, _ int64) {}); err != nil {
		t.Error(err)
	}
	if after, err := peer.Job(ctx, id); err != nil || after.Units != before.Units || !after.Settled || after.Read != nil {
		t.Errorf("%+v, %v", after, err)
	}
	if err := os.WriteFile(path, []byte("talka ledger 1\n\x05wrong"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := outsider.ImportJob(ctx, path, func(_, _ int64) {}); err == nil {
		t.Error("nonsense was imported")
	}
}

// A publisher that did all itself wrote the only log there is.
func TestImportOfOneLog(t *testing.T) {
	t.Parallel()
	ctx := testContext(t)
	c := newCluster(t)
	pub, _ := c.publisher(Config{Slots: 1})
	m := testManifest(workunits.Link{Cid: pub.host.data.put([]byte("program"))}, 2)
	m.Policy.Mode = workunits.VerifyNone
	id, err := pub.Submit(ctx, m, progress(t))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := pub.WaitJob(ctx, id); err != nil {
		t.Fatal(err)
	}
	path := pub.exportTo(ctx, t, id, true)
	away := newCluster(t)
	other := away.start(Config{})
	if _, err := other.ImportJob(ctx, path, func(_, _ int64) {}); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if info, err := other.Job(ctx, id); err != nil || info.Copies != 2 || info.Read == nil || len(other.resultsOf(ctx, t, id)) != 2 {
			t.Errorf("%+v, %v", info, err)
		}
		other = away.restart(other)
	}
}

// A node that lost its disk is given its job back: it looks after it as before.
func TestImportByPublisher(t *testing.T) {
	t.Parallel()
	ctx := testContext(t)
	_, pub, _, id := settled(ctx, t, 8)
	path := pub.exportTo(ctx, t, id, true)
	pub.stop()
	cfg := pub.cfg
	cfg.Dir, cfg.Data = "", nil
	again := newCluster(t).start(cfg)
	if r, err := again.ImportJob(ctx, path, func(_, _ int64) {}); err != nil || r.Results != 8 {
		t.Fatalf("%+v, %v", r, err)
	}
	if info, err := again.Job(ctx, id); err != nil || !info.Settled || info.Read != nil {
		t.Errorf("%+v, %v", info, err)
	}
	if got := again.resultsOf(ctx, t, id); len(got) != 8 {
		t.Errorf("%d results", len(got))
	}
}
