package grid

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"sync"

	"github.com/talka-grid/talka/grid/volunteer"
	"github.com/talka-grid/talka/workunits"
	"github.com/talka-grid/talka/workunits/sandbox"
)

// stageInputs lays out the results that a second stage works on below dir, as
// workunits.StageInputs says, and returns the folder as the unit's input. What it
// fetches is exactly what the grant binds the copy to, or it fails.
func (n *Node) stageInputs(ctx context.Context, m workunits.Manifest, r volunteer.Run, dir string) ([]sandbox.Input, error) {
	raw, err := n.record(ctx, r.Inputs, workunits.RecordCid(r.Inputs), r.Hints)
	if err != nil {
		return nil, fmt.Errorf("the list of results: %w", err)
	}
	list, err := workunits.ParseStageInputs(raw, m.Units)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	next := make(chan int)
	var wait sync.WaitGroup
	for range min(stageFetches, len(list.Results)) {
		wait.Go(func() {
			for u := range next {
				folder := filepath.Join(dir, filepath.FromSlash(workunits.StageFolder(uint32(u))))
				if err := n.stageInput(ctx, list.Results[u], r.Hints, folder); err != nil {
					cancel(fmt.Errorf("result of unit %d: %w", u, err))
				}
			}
		})
	}
	for u := range list.Results {
		select {
		case next <- u:
		case <-ctx.Done():
		}
	}
	close(next)
	wait.Wait()
	return []sandbox.Input{{Path: workunits.StageTop, Host: filepath.Join(dir, workunits.StageTop)}}, context.Cause(ctx)
}

// stageFetches is how many results are fetched at a time.
const stageFetches = 16

func (n *Node) stageInput(ctx context.Context, d workunits.Digest, hints []workunits.NodeID, folder string) error {
	o, err := n.outcome(ctx, workunits.Result{Digest: d}, hints)
	if err != nil {
		return err
	}
	return n.layOut(ctx, folder, o)
}

// layOut writes one unit's result into a new folder. The names in an outcome are
// clean and relative, and none lies in another.
func (n *Node) layOut(ctx context.Context, folder string, o workunits.Outcome) error {
	if err := os.MkdirAll(filepath.Join(folder, "out"), 0o700); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(folder, "status"), []byte(o.Status()), 0o600); err != nil {
		return err
	}
	if err := n.writeFile(ctx, filepath.Join(folder, "stdout"), o.Out); err != nil {
		return err
	}
	for _, f := range o.Files {
		path := filepath.Join(folder, "out", filepath.FromSlash(f.Path))
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			return err
		}
		if err := n.writeFile(ctx, path, f); err != nil {
			return err
		}
	}
	return nil
}

func (n *Node) writeFile(ctx context.Context, path string, f workunits.OutFile) error {
	if f.Cid != nil {
		return n.cfg.Data.Materialise(ctx, f.Cid.Cid, path)
	}
	return os.WriteFile(path, f.Data, 0o600)
}
