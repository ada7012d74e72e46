package grid

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/talka-grid/talka/workunits"
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
