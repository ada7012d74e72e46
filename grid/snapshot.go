package grid

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/talka-grid/talka/chunkstore/whole"
	"github.com/talka-grid/talka/workunits"
)

// maxSnapshot bounds the snapshot of a job.
const maxSnapshot = 512 << 20

// snapshots keeps what spares a job's next restart most of its work: a file below
// dir for each job, which begins with a digest of the rest. What is lost of them
// costs time and nothing else. They are no rows of the state, whose one connection
// a row of that size would hold for seconds, with several times its size in memory.
// It is safe for concurrent use.
type snapshots struct{ dir string }

func (s snapshots) path(id workunits.JobID) string { return filepath.Join(s.dir, id.String()) }

// set replaces a job's snapshot. It takes as long as the disk does, so it has no
// place in the loop.
func (s snapshots) set(id workunits.JobID, raw []byte) error {
	if len(raw) > maxSnapshot {
		return fmt.Errorf("snapshot of %d bytes, limit %d: %w", len(raw), maxSnapshot, workunits.ErrTooLarge)
	}
	if err := os.MkdirAll(s.dir, 0o700); err != nil {
		return err
	}
	d := workunits.Sum(raw)
	return whole.Write(s.path(id), d[:], raw)
}

// get is a job's snapshot, nil if there is none. A damaged one is removed.
func (s snapshots) get(id workunits.JobID) ([]byte, error) {
	var d workunits.Digest
	info, err := os.Stat(s.path(id))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, nil
	case err != nil:
		return nil, err
	case info.Size() < int64(len(d)) || info.Size() > int64(len(d)+maxSnapshot):
		return nil, s.drop(id)
	}
	b, err := os.ReadFile(s.path(id))
	if err != nil {
		return nil, err
	}
	raw := b[copy(d[:], b):]
	if workunits.Sum(raw) != d {
		return nil, s.drop(id)
	}
	return raw, nil
}

// drop removes a job's snapshot, if there is one.
func (s snapshots) drop(id workunits.JobID) error {
	if err := os.Remove(s.path(id)); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// sweep removes what belongs to no live job, and what a node that was killed has
// left half-written. It is called before anything is set.
func (s snapshots) sweep(live map[string]bool) error {
	list, err := os.ReadDir(s.dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	errs := []error{err}
	for _, e := range list {
		if !live[e.Name()] {
			errs = append(errs, os.Remove(filepath.Join(s.dir, e.Name())))
		}
	}
	return errors.Join(errs...)
}

// sweepSnapshots keeps those of the jobs whose ledgers are here.
func (n *Node) sweepSnapshots() {
	live := map[string]bool{}
	for id, j := range n.jobs {
		live[id.String()] = j.packed == nil
	}
	if err := n.snapshots.sweep(live); err != nil {
		n.log.Warn("snapshots stay behind", "err", err)
	}
}

// A snapshot is taken when a job has this many copies, and each time when it has a
// quarter more: fewer are read faster than it would be noticed, and so all snapshots
// of a job together cost as much as a few of the last one.
const snapshotFrom = 10_000

// grown reports whether a job is worth a snapshot and has so many more copies, at
// least, than at the last one.
func (n *Node) grown(j *job, more int) bool {
	if j.steward == nil || j.archived {
		return false
	}
	copies := j.steward.Book().Copies()
	return copies >= n.snapshotFrom && copies-j.snapped >= more
}

// snapshot is what a job's next restart can go on from, nil if that is its archive.
// All that it tells of is on the disk: the loop calls it when it has nothing more to
// write.
func (j *job) snapshot() []byte {
	j.snapped = j.steward.Book().Copies()
	outline := j.ledger.Outline()
	if outline == nil {
		return nil
	}
	raw := binary.AppendUvarint(nil, uint64(len(outline)))
	return append(append(raw, outline...), j.steward.Book().Snapshot()...)
}

// takeSnapshot stores the snapshot of a job of which one is due, one job at a time.
func (n *Node) takeSnapshot() {
	if n.snapping {
		return
	}
	for _, j := range n.jobs {
		if !n.grown(j, max(j.snapped/4, 1)) {
			continue
		}
		n.snapping = true
		raw := j.snapshot()
		n.goDo(func(context.Context) {
			n.storeSnapshot(j.id, raw)
			n.post(func() {
				if n.snapping = false; j.packed != nil {
					n.dropSnapshot(j.id)
				}
			})
		})
		return
	}
}

// lastSnapshots stores those of all jobs that have grown since the last ones.
func (n *Node) lastSnapshots() {
	for _, j := range n.jobs {
		if n.grown(j, n.snapshotFrom/10) {
			n.storeSnapshot(j.id, j.snapshot())
		}
	}
}

func (n *Node) storeSnapshot(id workunits.JobID, raw []byte) {
	if raw == nil {
		return
	}
	if err := n.snapshots.set(id, raw); err != nil {
		n.log.Warn("store a snapshot", "job", id, "err", err)
	}
}

// readSnapshot takes a stored snapshot apart. What is wrong with it costs time alone.
func (n *Node) readSnapshot(id workunits.JobID) (outline, book []byte) {
	raw, err := n.snapshots.get(id)
	if err != nil {
		n.log.Warn("read a snapshot", "job", id, "err", err)
		return nil, nil
	}
	size, k := binary.Uvarint(raw)
	if k <= 0 || size > uint64(len(raw)-k) {
		return nil, nil
	}
	return raw[k : k+int(size)], raw[k+int(size):]
}

func (n *Node) dropSnapshot(id workunits.JobID) {
	if err := n.snapshots.drop(id); err != nil {
		n.log.Warn("remove a snapshot", "job", id, "err", err)
	}
}
