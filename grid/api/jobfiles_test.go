package api

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/ipfs/go-cid"

	"github.com/talka-grid/talka/grid"
	"github.com/talka-grid/talka/workunits"
)

// GatherResults keeps the text of the results as a blob.
func (n *memNode) GatherResults(ctx context.Context, id workunits.JobID, progress grid.Progress) (cid.Cid, error) {
	if _, err := n.Job(ctx, id); err != nil {
		return cid.Undef, err
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	text := fmt.Append(nil, n.jobs[id].results)
	c := workunits.RawCid(workunits.Sum(text))
	n.blobs[c] = text
	progress(1, 1)
	return c, nil
}

// ImportJob takes a file with the encoded manifest of a job.
func (n *memNode) ImportJob(_ context.Context, path string, progress grid.Progress) (r grid.ImportReport, err error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return r, err
	}
	m, err := workunits.Decode[workunits.Manifest](b, workunits.MaxManifest)
	if err != nil {
		return r, err
	}
	progress(int64(len(b)), 0)
	n.mu.Lock()
	defer n.mu.Unlock()
	id := workunits.JobID(workunits.Sum(b))
	n.jobs[id] = &memJob{manifest: m, state: grid.JobDone}
	return grid.ImportReport{Job: id, Name: m.Name}, nil
}

// Logs are of two units.
func (n *memNode) Logs(ctx context.Context, id workunits.JobID, unit *uint32, yield func(grid.CopyLog) error) error {
	if _, err := n.Job(ctx, id); err != nil {
		return err
	}
	for u := range uint32(2) {
		if unit == nil || *unit == u {
			if err := yield(grid.CopyLog{Unit: u, How: "exit 1", Text: "why\n"}); err != nil {
				return err
			}
		}
	}
	return nil
}

// Retry tries again what accept said to have failed.
func (n *memNode) Retry(_ context.Context, id workunits.JobID) (r grid.RetryReport, err error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	r.Job = id
	if _, err := n.info(id); err != nil {
		return r, err
	}
	j := n.jobs[id]
	j.results = slices.DeleteFunc(j.results, func(u grid.UnitResult) bool {
		if u.Failed {
			r.Units = append(r.Units, u.Unit)
		}
		return u.Failed
	})
	if len(r.Units) == 0 {
		return r, fmt.Errorf("no unit of job %s has failed: %w", id, grid.ErrNotFound)
	}
	j.state = grid.JobRunning
	n.change(grid.Event{Kind: "retried", Job: id})
	return r, nil
}

func TestImportJob(t *testing.T) {
	t.Parallel()
	c, _, _ := serve(t, newMemNode())
	path := filepath.Join(t.TempDir(), "job")
	if err := os.WriteFile(path, workunits.Encode(manifest()), 0o600); err != nil {
		t.Fatal(err)
	}
	r, err := c.ImportJob(t.Context(), path, nil)
	if err != nil || r.Name != manifest().Name {
		t.Fatalf("%+v, %v", r, err)
	}
	if info, err := c.Job(t.Context(), r.Job); err != nil || info.State != grid.JobDone {
		t.Errorf("%+v, %v", info, err)
	}
	_, err = c.ImportJob(t.Context(), "job", nil)
	wantKind(t, err, KindRequest)
	_, err = c.ImportJob(t.Context(), path+"s", nil)
	wantKind(t, err, KindNotFound)
	_, err = c.GatherResults(t.Context(), workunits.JobID{42}, nil)
	wantKind(t, err, KindNotFound)
}

func TestLogs(t *testing.T) {
	t.Parallel()
	node := newMemNode()
	c, _, _ := serve(t, node)
	id := submit(t, c)
	if root, err := c.GatherResults(t.Context(), id, nil); err != nil || node.blobs[root] == nil {
		t.Errorf("gather: %s, %v", root, err)
	}
	one := uint32(1)
	for unit, want := range map[*uint32]int{nil: 2, &one: 1} {
		seen := 0
		if err := c.Logs(t.Context(), id, unit, func(grid.CopyLog) error { seen++; return nil }); err != nil || seen != want {
			t.Errorf("%d logs, %v, want %d", seen, err, want)
		}
	}
}
