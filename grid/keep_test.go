package grid

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ipfs/go-cid"

	"github.com/talka-grid/talka/chunkstore"
	"github.com/talka-grid/talka/workunits"
	"github.com/talka-grid/talka/workunits/sandbox"
)

// verbose writes more than fits into a record.
type verbose struct{ goProgram }

func (v verbose) Run(ctx context.Context, t sandbox.Task, f func(int)) (sandbox.Report, error) {
	r, err := v.goProgram.Run(ctx, t, f)
	return r, errors.Join(err, os.WriteFile(filepath.Join(r.Out, "large"), []byte(strings.Repeat(t.Args[0]+" ", workunits.InlineFile)), 0o600))
}

// TestResultsAreServedOnceOpened runs units whose results travel by CID. Nobody
// serves one before it is opened, and stewards get it from volunteers then.
func TestResultsAreServedOnceOpened(t *testing.T) {
	t.Parallel()
	c, ctx := newCluster(t), testContext(t)
	pub, project := c.publisher(Config{})
	all := []*member{pub}
	for i := range 6 {
		all = append(all, c.start(Config{Slots: 1, Steward: i < 3, Trust: []workunits.ProjectID{project}, Exec: verbose{}}))
	}
	root := pub.host.data.put([]byte("program"))
	id, err := pub.Submit(ctx, testManifest(workunits.Link{Cid: root}, 24), progress(t))
	if err != nil {
		t.Fatal(err)
	}
	if info, err := pub.WaitJob(ctx, id); err != nil || info.Units.Accepted != 24 {
		t.Fatalf("job came to %+v, %v", info, err)
	}
	n := 0
	if err := pub.Results(ctx, id, func(r UnitResult) error {
		n += len(r.Outcome.Files)
		return nil
	}); err != nil || n != 24 {
		t.Errorf("%d files, %v", n, err)
	}
	executed := 0
	for _, m := range all[4:] { // volunteers and no more
		leases := m.host.data.Leases()
		first := map[cid.Cid]chunkstore.Lease{}
		for _, l := range leases {
			if _, known := first[l.Root]; !known {
				first[l.Root] = l
			}
		}
		for r, l := range first {
			switch {
			case l.For != id.String():
				t.Errorf("kept for nobody: %+v", l)
			case r == root && (l.Withheld || l.Reason != program):
				t.Errorf("program kept as %+v", l)
			case r != root && (!l.Withheld || l.Reason != jobResult):
				t.Errorf("result kept as %+v before its opening", l)
			case r != root:
				executed++
			}
		}
		if at := slices.IndexFunc(leases, func(l chunkstore.Lease) bool { return l.Root == root }); at != 0 && len(leases) > 0 {
			t.Errorf("the program was fetched before it was kept: %v", leases)
		}
	}
	if executed == 0 {
		t.Error("no volunteer kept a result")
	}
}

// TestReleaseWhenTimeIsOver ends a job long ago.
func TestReleaseWhenTimeIsOver(t *testing.T) {
	t.Parallel()
	c, ctx := newCluster(t), testContext(t)
	pub := c.start(Config{Slots: 1})
	if _, err := pub.NewProject("p"); err != nil {
		t.Fatal(err)
	}
	m := testManifest(workunits.Link{Cid: pub.host.data.put([]byte("program"))}, 2)
	m.Policy.Mode = workunits.VerifyNone
	id, err := pub.Submit(ctx, m, progress(t))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := pub.WaitJob(ctx, id); err != nil {
		t.Fatal(err)
	}
	data, view := pub.host.data, pub.fetch.path(m.Program.Cid)
	for _, test := range []struct {
		ago  time.Duration
		kept bool
	}{{30*24*time.Hour - time.Hour, true}, {30 * 24 * time.Hour, false}} {
		pub.stop()
		db, err := openState(filepath.Join(pub.cfg.Dir, "state.db"))
		if err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(db.endJob(id, now()-uint64(test.ago.Milliseconds()), 0), db.close()); err != nil {
			t.Fatal(err)
		}
		pub = c.restart(pub)
		if err := pub.do(ctx, pub.tick); err != nil {
			t.Fatal(err)
		}
		pub.stop() // waits for what runs beside the loop
		_, err = os.Stat(view)
		if got := len(data.Leases()) > 0; got != test.kept || (err == nil) != test.kept {
			t.Errorf("%v after the end: kept %t; its file: %v", test.ago, got, err)
		}
	}
}
