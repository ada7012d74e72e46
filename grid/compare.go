package grid

import (
	"context"
	"path/filepath"

	"github.com/talka-grid/talka/grid/steward"
	"github.com/talka-grid/talka/workunits"
	"github.com/talka-grid/talka/workunits/compare"
	"github.com/talka-grid/talka/workunits/sandbox"
)

// maxCompares is how many pairs of results are compared at a time, or fetched for that:
// they lie on the disk until the sandbox has room.
const maxCompares = 16

// goCompare finds out beside the loop whether two results agree, and tells the
// steward.
func (n *Node) goCompare(j *job, c steward.Compare) {
	n.goDo(func(ctx context.Context) {
		select {
		case n.comparing <- struct{}{}:
			defer func() { <-n.comparing }()
		case <-ctx.Done():
			return
		}
		equal, err := n.compare(ctx, j.id, j.manifest, c)
		if err != nil {
			n.log.Info("two results cannot be compared yet", "job", j.id, "unit", c.Unit, "err", err)
		}
		n.post(func() {
			j.inputs = append(j.inputs, steward.Compared{Compare: c, Equal: equal, Failed: err != nil})
		})
	})
}

// compare compares two results as the job's comparator says. An error says that
// it could not be found out here and now.
func (n *Node) compare(ctx context.Context, id workunits.JobID, m workunits.Manifest, c steward.Compare) (equal bool, err error) {
	if m.Policy.Compare.Kind == workunits.CompareNumbers {
		return n.compareNumbers(ctx, m.Policy.Compare, c)
	}
	purpose := "compare " + id.String()
	dir := n.folders.take(purpose)
	defer n.folders.put(purpose, dir)
	t, err := n.compareTask(ctx, id, m, c, dir)
	if err != nil {
		return false, err
	}
	report, err := n.cfg.Exec.Run(ctx, t, nil)
	return err == nil && report.Kind == workunits.Exited && report.Code == 0, err
}

func (n *Node) compareNumbers(ctx context.Context, how workunits.Comparator, c steward.Compare) (equal bool, err error) {
	ctx, cancel := context.WithTimeoutCause(ctx, findTime, ErrTimeout)
	defer cancel()
	a, err := n.record(ctx, c.A, workunits.RecordCid(c.A), c.Hints)
	if err != nil {
		return false, err
	}
	b, err := n.record(ctx, c.B, workunits.RecordCid(c.B), c.Hints)
	if err != nil {
		return false, err
	}
	equal, err = compare.Outcomes(a, b, how)
	return equal && err == nil, nil // what is no outcome agrees with nothing
}

// compareTask gathers what the sandbox needs to run the job's comparator program.
func (n *Node) compareTask(ctx context.Context, id workunits.JobID, m workunits.Manifest, c steward.Compare, dir string) (t sandbox.Task, err error) {
	ctx, cancel := context.WithTimeoutCause(ctx, findTime, ErrTimeout) // the next time others may be known to have them
	defer cancel()
	program := m.Policy.Compare.Program.Cid
	t = sandbox.Task{
		ProgramID: workunits.Sum(program.Bytes()), Dir: filepath.Join(dir, runFolder), Env: m.Env, Canonical: m.Canonical,
		Args: []string{workunits.CompareA, workunits.CompareB}, Reads: []string{dir}, Limits: sandbox.LimitsOf(m.Limits), Seed: workunits.Sum(workunits.Encode([]any{id, c.Unit})),
	}
	for i, d := range []workunits.Digest{c.A, c.B} {
		folder := filepath.Join(dir, workunits.StageTop, t.Args[i])
		if err := n.stageInput(ctx, d, c.Hints, folder); err != nil {
			return t, err
		}
		t.Inputs = append(t.Inputs, sandbox.Input{Path: t.Args[i], Host: folder})
	}
	t.Program, err = n.fetch.file(ctx, program, c.Hints, nil)
	return t, err
}
