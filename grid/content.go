package grid

import (
	"context"
	"encoding/csv"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/ipfs/go-cid"

	"github.com/talka-grid/talka/grid/steward"
	"github.com/talka-grid/talka/workunits"
)

// fetcher brings content into the node's working directory, each root once, and of
// folders with an entry a unit those entries alone that are needed. It is safe for
// concurrent use.
type fetcher struct {
	data Data
	dir  string

	mu   sync.Mutex
	busy map[string]*fetching // by path
}

type fetching struct {
	done chan struct{}
	err  error
}

func newFetcher(d Data, dir string) *fetcher {
	return &fetcher{data: d, dir: dir, busy: map[string]*fetching{}}
}

func (f *fetcher) path(root cid.Cid) string { return filepath.Join(f.dir, "content", root.String()) }

func (f *fetcher) entries(root cid.Cid) string { return f.path(root) + ".entries" }

// file returns the path of a root's content, a file or a folder that must not
// be changed, after fetching it if need be. Callers of one root wait together.
func (f *fetcher) file(ctx context.Context, root cid.Cid, near, others []workunits.NodeID) (string, error) {
	return f.once(ctx, f.path(root), func() (cid.Cid, error) { return root, f.data.FetchNear(ctx, root, near, others) })
}

// entry is file for one entry of a folder.
func (f *fetcher) entry(name string) func(ctx context.Context, root cid.Cid, near, others []workunits.NodeID) (string, error) {
	return func(ctx context.Context, root cid.Cid, near, others []workunits.NodeID) (string, error) {
		return f.once(ctx, filepath.Join(f.entries(root), name), func() (cid.Cid, error) {
			return f.data.FetchEntry(ctx, root, name, slices.Concat(near, others))
		})
	}
}

// once makes a path the view of what fetch brings.
func (f *fetcher) once(ctx context.Context, path string, fetch func() (cid.Cid, error)) (string, error) {
	f.mu.Lock()
	b := f.busy[path]
	if b == nil {
		b = &fetching{done: make(chan struct{})}
		f.busy[path] = b
		f.mu.Unlock()
		b.err = f.bring(ctx, path, fetch)
		if b.err != nil {
			f.mu.Lock()
			delete(f.busy, path) // the next caller tries again
			f.mu.Unlock()
		}
		close(b.done)
		return path, b.err
	}
	f.mu.Unlock()
	select {
	case <-b.done:
		return path, b.err
	case <-ctx.Done():
		return "", context.Cause(ctx)
	}
}

func (f *fetcher) bring(ctx context.Context, path string, fetch func() (cid.Cid, error)) error {
	if _, err := os.Stat(path); err == nil {
		return nil // whole since an earlier run: it appears by rename
	}
	root, err := fetch()
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	again := func() error { _, err := fetch(); return err }
	return mended(ctx, f.data, root, func() error { return f.data.View(ctx, root, path) }, again)
}

// drop removes a root's content from the working directory.
func (f *fetcher) drop(root cid.Cid) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	of := f.entries(root) + string(filepath.Separator)
	maps.DeleteFunc(f.busy, func(path string, _ *fetching) bool { return path == f.path(root) || strings.HasPrefix(path, of) })
	return errors.Join(os.RemoveAll(f.path(root)), os.RemoveAll(f.entries(root)))
}

// rows reads a parameter table: a header, then one row a unit.
func rows(path string, units uint32) ([]map[string]string, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	all, err := csv.NewReader(file).ReadAll()
	if err != nil {
		return nil, err
	}
	if len(all) == 0 || uint64(len(all)-1) < uint64(units) {
		return nil, fmt.Errorf("table has %d rows for %d units", max(len(all)-1, 0), units)
	}
	list := make([]map[string]string, len(all)-1)
	for i, row := range all[1:] {
		list[i] = map[string]string{}
		for k, column := range all[0] {
			list[i][column] = row[k]
		}
	}
	return list, nil
}

// goFetch brings what a steward machine asked for and tells it.
func (n *Node) goFetch(j *job, f steward.Fetch) {
	if j.expired(now()) {
		return // nobody is to keep it any more
	}
	n.goDo(func(ctx context.Context) {
		var err error
		if f.Job {
			err = n.fetchJob(ctx, j.id, j.manifest, f.Hints)
		} else {
			err = n.fetchResult(ctx, j.id, j.manifest, f)
		}
		if err != nil {
			n.log.Debug("fetch for a job", "job", j.id, "err", err)
		}
		n.post(func() { j.inputs = append(j.inputs, steward.Fetched{Fetch: f, Failed: err != nil}) })
	})
}

func (n *Node) fetchJob(ctx context.Context, id workunits.JobID, m workunits.Manifest, hints []workunits.NodeID) error {
	ctx, cancel := context.WithTimeoutCause(ctx, findTime, ErrTimeout)
	defer cancel()
	if err := n.keepInputs(id, m); err != nil {
		return err
	}
	for _, l := range inputs(id, m) {
		if err := n.cfg.Data.FetchNear(ctx, l.Root, hints, []workunits.NodeID{m.Publisher}); err != nil {
			return err
		}
	}
	return n.cfg.Data.Sync()
}

func (n *Node) fetchResult(ctx context.Context, id workunits.JobID, m workunits.Manifest, f steward.Fetch) error {
	if _, err := n.promptOutcome(ctx, m, f.Result, f.Hints); err != nil {
		return err
	}
	if err := n.serve(ctx, id, f.Result.Digest); err != nil {
		return err
	}
	return n.cfg.Data.Sync()
}
