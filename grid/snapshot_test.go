package grid

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/talka-grid/talka/workunits"
	"github.com/talka-grid/talka/workunits/ledger"
)

func snapshotOf(t *testing.T, s snapshots, id workunits.JobID) []byte {
	t.Helper()
	raw, err := s.get(id)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

func filesIn(t *testing.T, dir string) (names []string) {
	t.Helper()
	list, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range list {
		names = append(names, e.Name())
	}
	return names
}

func TestSnapshots(t *testing.T) {
	t.Parallel()
	s := snapshots{dir: filepath.Join(t.TempDir(), "snapshots")}
	a, b := workunits.JobID(workunits.Sum([]byte("a"))), workunits.JobID(workunits.Sum([]byte("b")))
	if raw := snapshotOf(t, s, a); raw != nil {
		t.Errorf("a snapshot of nothing: %q", raw)
	}
	if err := errors.Join(s.drop(a), s.sweep(nil)); err != nil {
		t.Error(err)
	}
	large := bytes.Repeat([]byte("much "), 1<<20)
	for _, raw := range [][]byte{large, []byte("less")} {
		if err := errors.Join(s.set(a, raw), s.set(b, raw[:1])); err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(snapshotOf(t, s, a), raw) || len(snapshotOf(t, s, b)) != 1 {
			t.Error("another snapshot than was set")
		}
	}
	if err := s.set(a, make([]byte, maxSnapshot+1)); !errors.Is(err, workunits.ErrTooLarge) {
		t.Errorf("too large a snapshot: %v", err)
	}
	if err := os.WriteFile(filepath.Join(s.dir, "new-1"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := s.sweep(map[string]bool{a.String(): true}); err != nil {
		t.Error(err)
	}
	if names := filesIn(t, s.dir); len(names) != 1 || names[0] != a.String() {
		t.Errorf("files %v, want that of one job", names)
	}
	if err := s.drop(a); err != nil || snapshotOf(t, s, a) != nil || len(filesIn(t, s.dir)) > 0 {
		t.Errorf("a snapshot that was dropped is there, error %v", err)
	}
}

// TestSweptSnapshots starts a node again that has snapshots of a job and of none.
func TestSweptSnapshots(t *testing.T) {
	t.Parallel()
	c, ctx := newCluster(t), testContext(t)
	n, project := c.publisher(Config{})
	m := testManifest(workunits.Link{Cid: n.host.data.put([]byte("program"))}, 1)
	m.Network, m.Project = n.cfg.Network, project.Name
	id, block, err := m.Sign(n.cfg.Key)
	if err != nil {
		t.Fatal(err)
	}
	if derr := n.do(ctx, func() { _, err = n.addJob(block) }); derr != nil || err != nil {
		t.Fatal(derr, err)
	}
	other := workunits.JobID(workunits.Sum([]byte("other")))
	if err := errors.Join(n.snapshots.set(id, []byte("a")), n.snapshots.set(other, []byte("b"))); err != nil {
		t.Fatal(err)
	}
	n = c.restart(n)
	if names := filesIn(t, n.snapshots.dir); len(names) != 1 || names[0] != id.String() {
		t.Errorf("files %v, want that of the job", names)
	}
}

func TestDamagedSnapshots(t *testing.T) {
	t.Parallel()
	s := snapshots{dir: t.TempDir()}
	id := workunits.JobID(workunits.Sum([]byte("job")))
	for name, damage := range map[string]func(b []byte) []byte{
		"nothing left": func([]byte) []byte { return nil },
		"cut":          func(b []byte) []byte { return b[:len(b)-1] },
		"longer":       func(b []byte) []byte { return append(b, 0) },
		"changed":      func(b []byte) []byte { b[len(b)/2] ^= 1; return b },
		"its digest":   func(b []byte) []byte { b[0] ^= 1; return b },
	} {
		if err := s.set(id, bytes.Repeat([]byte("all "), 100)); err != nil {
			t.Fatal(err)
		}
		b, err := os.ReadFile(s.path(id))
		if err == nil {
			err = os.WriteFile(s.path(id), damage(b), 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
		if snapshotOf(t, s, id) != nil || len(filesIn(t, s.dir)) > 0 {
			t.Errorf("%s: it is still there", name)
		}
	}
}

// snapshotNow has a node store a job's snapshot and forget what is on the disk, and
// returns the job's segments.
func (m *member) snapshotNow(ctx context.Context, t *testing.T, id workunits.JobID) (segments [][]byte) {
	t.Helper()
	var again [][]byte
	var err error
	if derr := m.do(ctx, func() {
		j := m.jobs[id]
		segments = j.ledger.Segments()
		j.ledger.Forget(0)
		again = j.ledger.Segments()
		err = m.snapshots.set(id, j.snapshot())
	}); derr != nil || err != nil {
		t.Fatal(derr, err)
	}
	if !slices.EqualFunc(segments, again, bytes.Equal) {
		t.Fatalf("%d segments from the disk, want %d", len(again), len(segments))
	}
	return segments
}

// lost are the segments that a node no longer shows.
func lost(ctx context.Context, t *testing.T, n *Node, id workunits.JobID, segments [][]byte) [][]byte {
	t.Helper()
	x, err := n.Ledger(ctx, id)
	if err != nil {
		t.Fatal(err)
	}
	return without(segments, x.Segments)
}

// without are those of segments that are not in a list.
func without(segments, list [][]byte) [][]byte {
	return slices.DeleteFunc(slices.Clone(segments), func(s []byte) bool {
		return slices.ContainsFunc(list, func(raw []byte) bool { return bytes.Equal(raw, s) })
	})
}

// TestRestartFromSnapshot starts a node again whose snapshot tells of all segments, of
// all but the last, and of places where they are no longer.
func TestRestartFromSnapshot(t *testing.T) {
	t.Parallel()
	ctx := testContext(t)
	c, pub, _, id := settled(ctx, t, 20)
	c.alone(pub)
	segments := pub.snapshotNow(ctx, t, id)
	for _, what := range []string{"all", "all but the last", "other places"} {
		switch what {
		case "all but the last":
			if err := pub.FreeData(ctx, id); err != nil {
				t.Fatal(err)
			}
			x, err := pub.Ledger(ctx, id)
			if err != nil || len(x.Segments) <= len(segments) {
				t.Fatalf("%d segments, there were %d; error %v", len(x.Segments), len(segments), err)
			}
			segments = x.Segments
		case "other places":
			pub.stop()
			onDisk(t, pub.cfg, "UPDATE segments SET id = id + 10000")
		}
		pub = c.restart(pub)
		if gone := lost(ctx, t, pub.Node, id, segments); len(gone) > 0 {
			t.Fatalf("%s: %d segments of %d are lost", what, len(gone), len(segments))
		}
		if info, err := pub.Job(ctx, id); err != nil || !info.Settled {
			t.Errorf("%s: job %+v, %v", what, info, err)
		}
		if raw := snapshotOf(t, pub.snapshots, id); (raw == nil) != (what == "other places") {
			t.Errorf("%s: a snapshot of %d bytes is left", what, len(raw))
		}
	}
}

// onDisk changes the state of a node beside it.
func onDisk(t *testing.T, cfg Config, change string) {
	t.Helper()
	db, err := openState(filepath.Join(cfg.Dir, "state.db"))
	if err != nil {
		t.Fatal(err)
	}
	_, err = db.db.ExecContext(context.Background(), change)
	if err = errors.Join(err, db.close()); err != nil {
		t.Fatal(err)
	}
}

// TestUnreadableState has the disk lose or change a segment that a running node left to
// it: the node stops, and starts again with what the disk still has.
func TestUnreadableState(t *testing.T) {
	t.Parallel()
	ctx := testContext(t)
	c, pub, _, id := settled(ctx, t, 20)
	c.alone(pub)
	segments := pub.snapshotNow(ctx, t, id)
	pub.stop()
	for change, want := range map[string]error{
		"UPDATE segments SET raw = zeroblob(100) WHERE id = %d": ledger.ErrChanged,
		"DELETE FROM segments WHERE id = %d":                    sql.ErrNoRows,
	} {
		m := rerun(t, pub.cfg)
		var rows []uint64
		for len(rows) == 0 { // unless something is just being written
			if err := m.do(ctx, func() {
				j := m.jobs[id]
				j.ledger.Forget(0)
				rows, _ = ledger.New(j.manifest.Network, id).Recall(j.ledger.Outline())
			}); err != nil {
				t.Fatal(err)
			}
		}
		if err := m.snapshots.set(id, []byte("of the ledger")); err != nil {
			t.Fatal(err)
		}
		onDisk(t, pub.cfg, fmt.Sprintf(change, rows[len(rows)/2]))
		if x, err := m.Ledger(ctx, id); !errors.Is(err, want) {
			t.Errorf("%s: %d segments, error %v", change, len(x.Segments), err)
		}
		select {
		case err := <-m.ended:
			if !errors.Is(err, want) || !strings.Contains(err.Error(), "read state: job "+id.String()) {
				t.Errorf("%s: the node stopped with %v", change, err)
			}
		case <-ctx.Done():
			t.Fatalf("%s: the node goes on", change)
		}
		if raw := snapshotOf(t, m.snapshots, id); raw != nil {
			t.Errorf("%s: the snapshot is still there", change)
		}
	}
	m := rerun(t, pub.cfg)
	if gone := lost(ctx, t, m.Node, id, segments); len(gone) == 0 || len(gone) == len(segments) {
		t.Errorf("%d segments of %d are lost", len(gone), len(segments))
	}
	m.stop()
	if err := <-m.ended; err != nil {
		t.Error(err)
	}
}

// running is a node without a network, whose end is to be looked at.
type running struct {
	*Node
	ended chan error
	stop  func()
}

func rerun(t *testing.T, cfg Config) running {
	t.Helper()
	n, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	t.Cleanup(stop)
	m := running{n, make(chan error, 1), stop}
	go func() { m.ended <- n.Run(ctx) }()
	return m
}
