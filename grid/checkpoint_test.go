package grid

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/talka-grid/talka/grid/volunteer"
	"github.com/talka-grid/talka/workunits"
)

func newCheckpoints(t *testing.T) *checkpoints {
	t.Helper()
	return &checkpoints{dir: filepath.Join(t.TempDir(), "checkpoints"), room: 4000, slots: 2, busy: map[string]bool{}}
}

// saves is a job that keeps checkpoints.
var saves = workunits.Manifest{Limits: workunits.Limits{Checkpoint: 1 << 20}}

func copyOf(job byte, unit uint32) volunteer.Run {
	return volunteer.Run{Task: volunteer.Task{Job: workunits.JobID{job}, Unit: unit, Grant: workunits.Ref{Seq: 1}}}
}

// save runs a copy that leaves so many bytes.
func (c *checkpoints) save(t *testing.T, r volunteer.Run, size int) (path string, resumed bool) {
	t.Helper()
	path, resumed, err := c.take(saves, r)
	if err == nil && size > 0 {
		err = os.WriteFile(filepath.Join(path, "state"), make([]byte, size), 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	if err := c.put(path); err != nil {
		t.Fatal(err)
	}
	return path, resumed
}

// left are the folders that there are.
func (c *checkpoints) left(t *testing.T) int {
	t.Helper()
	list, err := filepath.Glob(filepath.Join(c.dir, "*", "*"))
	if err != nil {
		t.Fatal(err)
	}
	return len(list)
}

func TestCheckpointsAreOfOneCopy(t *testing.T) {
	t.Parallel()
	c := newCheckpoints(t)
	first := copyOf(1, 7)
	if _, resumed := c.save(t, first, 10); resumed {
		t.Error("resumed from nothing")
	}
	again := first
	again.Grant.Seq = 2 // granted again
	if _, resumed := c.save(t, again, 10); !resumed {
		t.Error("a later grant of the unit finds nothing")
	}
	canonical, bound := first, first
	canonical.Canonical, bound.Inputs = true, workunits.Digest{1}
	for what, r := range map[string]volunteer.Run{"canonical": canonical, "of other inputs": bound, "another unit": copyOf(1, 8), "another job": copyOf(2, 7)} {
		if _, resumed := c.save(t, r, 0); resumed {
			t.Errorf("%s: goes on with what another copy has saved", what)
		}
	}
	if n := c.left(t); n != 1 {
		t.Errorf("%d folders, want that of the first alone", n)
	}

	// Two at once do not share; audits and jobs that do not ask have none.
	path, _, err := c.take(saves, first)
	if err != nil || path == "" {
		t.Fatal(path, err)
	}
	audit := first
	audit.Grant = workunits.Ref{}
	for what, other := range map[string]struct {
		m workunits.Manifest
		r volunteer.Run
	}{
		"twice": {saves, again}, "audit": {saves, audit},
		"saves nothing": {workunits.Manifest{}, copyOf(3, 1)},
	} {
		if p, _, err := c.take(other.m, other.r); p != "" || err != nil {
			t.Errorf("%s: %q, %v", what, p, err)
		}
	}
	// What is committed while it is in use goes afterwards.
	if err := c.drop(first.Job, 7); err != nil || c.left(t) != 1 {
		t.Errorf("%d folders, %v", c.left(t), err)
	}
	if err := c.put(path); err != nil || c.left(t) != 0 {
		t.Errorf("%d folders, %v", c.left(t), err)
	}
}

func TestCheckpointsGo(t *testing.T) {
	t.Parallel()
	c := newCheckpoints(t)
	for unit := range uint32(3) {
		c.save(t, copyOf(1, unit), 10)
	}
	c.save(t, copyOf(2, 0), 10)
	if err := c.drop(workunits.JobID{1}, 0, 2, 9); err != nil || c.left(t) != 2 {
		t.Errorf("after a commit: %d, %v", c.left(t), err)
	}
	if err := c.drop(workunits.JobID{1}); err != nil || c.left(t) != 1 {
		t.Errorf("after the job: %d, %v", c.left(t), err)
	}
	path, _ := c.save(t, copyOf(3, 1), 10)
	old := time.Now().Add(-checkpointTime - time.Hour)
	if err := os.Chtimes(path, old, old); err != nil {
		t.Fatal(err)
	}
	live := map[string]bool{workunits.JobID{2}.String(): true, workunits.JobID{3}.String(): true}
	if err := c.sweep(live); err != nil || c.left(t) != 1 {
		t.Errorf("after a week: %d, %v", c.left(t), err)
	}
	if err := c.sweep(nil); err != nil || c.left(t) != 0 {
		t.Errorf("without jobs: %d, %v", c.left(t), err)
	}
	if list, err := os.ReadDir(c.dir); err != nil || len(list) != 0 {
		t.Errorf("folders of jobs stay: %v, %v", list, err)
	}
}

func TestCheckpointsHaveRoom(t *testing.T) {
	t.Parallel()
	c := newCheckpoints(t)
	if c.each() != 1000 {
		t.Errorf("%d bytes for each of 2 copies, want half of half of 4000", c.each())
	}
	var paths []string
	for unit := range uint32(3) {
		path, _ := c.save(t, copyOf(1, unit), 900)
		at := time.Now().Add(time.Duration(unit)*time.Second - time.Hour)
		if err := os.Chtimes(path, at, at); err != nil {
			t.Fatal(err)
		}
		paths = append(paths, path)
	}
	c.save(t, copyOf(1, 9), 900)
	for i, want := range []bool{false, false, true} {
		if _, err := os.Stat(paths[i]); (err == nil) != want {
			t.Errorf("unit %d is kept: %v, want %v", i, err == nil, want)
		}
	}
	if c.left(t) != 2 {
		t.Errorf("%d folders of 900 bytes in 2000", c.left(t))
	}
}
