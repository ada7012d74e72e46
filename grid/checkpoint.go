package grid

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/talka-grid/talka/grid/volunteer"
	"github.com/talka-grid/talka/workunits"
	"github.com/talka-grid/talka/workunits/sandbox"
)

// checkpointTime is how long what a copy has saved is kept after it last ran. A
// unit that is not granted to this node again by then never is.
const checkpointTime = 7 * 24 * time.Hour

// checkpoints keeps what programs save in /checkpoint outside the folders of runs:
// one folder below dir for each copy that this node holds a grant of and has not
// committed. It outlives pauses and restarts, and serves a later grant of the same
// unit; a copy of other inputs, or with canonical NaNs, is another one. Half of
// the room is for copies that run, in equal parts, and half for those that do not,
// of which the ones that ran longest ago go first. It is safe for concurrent use.
type checkpoints struct {
	dir   string
	room  uint64 // bytes of all; 0: nothing is kept
	slots int

	mu   sync.Mutex
	busy map[string]bool // folders in use; true: they go when they are put back
}

// each is the most bytes of one copy that runs.
func (c *checkpoints) each() uint64 { return c.room / 2 / uint64(max(c.slots, 1)) }

// take lends a copy its folder until put; empty if it has none. resumed says that
// an earlier run left something there.
func (c *checkpoints) take(m workunits.Manifest, r volunteer.Run) (path string, resumed bool, err error) {
	if c.each() == 0 || m.Limits.Checkpoint == 0 || r.Grant == (workunits.Ref{}) {
		return "", false, nil
	}
	kind := workunits.Sum(workunits.Encode([]any{r.Canonical, r.Inputs}))
	path = filepath.Join(c.dir, r.Job.String(), fmt.Sprintf("%d-%x", r.Unit, kind[:8]))
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, twice := c.busy[path]; twice {
		return "", false, nil // granted twice at once
	}
	if err := os.MkdirAll(path, 0o700); err != nil {
		return "", false, err
	}
	left, err := os.ReadDir(path)
	if err == nil {
		err = os.Chtimes(path, time.Time{}, time.Now())
	}
	if err != nil {
		return "", false, err
	}
	c.busy[path] = false
	return path, len(left) > 0, nil
}

// put takes a folder back. One with nothing in it goes, but never that of the job,
// in which warm children may write.
func (c *checkpoints) put(path string) error {
	if path == "" {
		return nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	doomed := c.busy[path]
	delete(c.busy, path)
	if doomed {
		return c.remove(path)
	}
	if os.Remove(path) == nil { // unless there is something in it
		return nil
	}
	return c.trim()
}

// drop removes what units of a job have saved, of all units without any.
func (c *checkpoints) drop(job workunits.JobID, units ...uint32) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	folder := filepath.Join(c.dir, job.String())
	list, err := os.ReadDir(folder)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	errs := []error{err}
	for _, e := range list {
		number, _, _ := strings.Cut(e.Name(), "-")
		unit, err := strconv.ParseUint(number, 10, 32)
		if len(units) == 0 || err == nil && slices.Contains(units, uint32(unit)) {
			errs = append(errs, c.remove(filepath.Join(folder, e.Name())))
		}
	}
	if len(units) == 0 {
		_ = os.Remove(folder) // unless one is in use, and then the sweep does it
	}
	return errors.Join(errs...)
}

// remove removes a folder, or has it removed when it is put back. The caller holds
// the lock.
func (c *checkpoints) remove(path string) error {
	if _, busy := c.busy[path]; busy {
		c.busy[path] = true
		return nil
	}
	return os.RemoveAll(path)
}

// sweep removes what belongs to no live job or was not used for long.
func (c *checkpoints) sweep(live map[string]bool) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	list, err := c.list()
	errs := []error{err}
	for _, s := range list {
		if !live[filepath.Base(filepath.Dir(s.path))] || time.Since(s.used) > checkpointTime {
			errs = append(errs, c.remove(s.path))
		}
	}
	jobs, err := os.ReadDir(c.dir)
	if !errors.Is(err, fs.ErrNotExist) {
		errs = append(errs, err)
	}
	for _, job := range jobs {
		if !live[job.Name()] {
			_ = os.Remove(filepath.Join(c.dir, job.Name())) // unless there is something in it
		}
	}
	return errors.Join(append(errs, c.trim())...)
}

// saved is one folder that is not in use.
type saved struct {
	path string
	used time.Time
}

// list lists the folders that are not in use, those used longest ago first. The
// caller holds the lock.
func (c *checkpoints) list() (list []saved, err error) {
	paths, err := filepath.Glob(filepath.Join(c.dir, "*", "*"))
	for _, path := range paths {
		info, serr := os.Stat(path)
		if _, busy := c.busy[path]; serr == nil && !busy {
			list = append(list, saved{path, info.ModTime()})
		}
	}
	slices.SortFunc(list, func(x, y saved) int { return cmp.Or(x.used.Compare(y.used), strings.Compare(x.path, y.path)) })
	return list, err
}

// trim keeps the folders that are not in use within their half of the room. The
// caller holds the lock.
func (c *checkpoints) trim() error {
	list, err := c.list()
	errs := []error{err}
	left := c.room / 2
	for _, s := range slices.Backward(list) {
		if n := sandbox.DiskUse(s.path); n <= left {
			left -= n
		} else {
			left = 0
			errs = append(errs, c.remove(s.path))
		}
	}
	return errors.Join(errs...)
}

// liveJobs are those whose copies can still be granted to this node.
func (n *Node) liveJobs() map[string]bool {
	live := map[string]bool{}
	for id, j := range n.jobs {
		live[id.String()] = !j.ended
	}
	return live
}

// sweepCheckpoints removes now and then what no job here can use any more.
func (n *Node) sweepCheckpoints() {
	if time.Since(n.swept) < time.Hour {
		return
	}
	n.swept = time.Now()
	live := n.liveJobs()
	n.goDo(func(context.Context) {
		if err := n.checkpoints.sweep(live); err != nil {
			n.log.Warn("checkpoints stay behind", "err", err)
		}
	})
}

// dropCommitted removes the checkpoints of copies that are committed once that is
// durable.
func (n *Node) dropCommitted(job workunits.JobID, body workunits.Body) {
	c, is := body.(workunits.Commit)
	if !is {
		return
	}
	units := slices.Clone(c.Units)
	for _, v := range c.Void {
		units = append(units, v.Unit)
	}
	n.after = append(n.after, func() { n.dropCheckpoints(job, units...) })
}

// dropCheckpoints removes those of units, or of all units of a job, beside the loop.
func (n *Node) dropCheckpoints(job workunits.JobID, units ...uint32) {
	n.goDo(func(context.Context) {
		if err := n.checkpoints.drop(job, units...); err != nil {
			n.log.Warn("a checkpoint stays behind", "job", job, "err", err)
		}
	})
}
