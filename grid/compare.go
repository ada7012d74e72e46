package grid

import (
	"context"
	"path/filepath"

	"github.com/talka-grid/talka/grid/steward"
	"github.com/talka-grid/talka/workunits"
	"github.com/talka-grid/talka/workunits/compare"
	"github.com/talka-grid/talka/workunits/sandbox"
)

// goCompare finds out beside the loop whether two results agree, and tells the
// steward.
func (n *Node) goCompare(j *job, c steward.Compare) {
	n.goDo(func(ctx context.Context) {
		equal, err := n.compare(ctx, j.id, j.manifest, c)
		if err != nil {
			n.log.Info("two results cannot be compared yet", "job", j.id, "unit", c.Unit, "err", err)
		}
		n.post(func() {
			j.inputs = append(j.inputs, steward.Compared{Compare: c, Equal: equal, Failed: err != nil})
		})
	})
}

// maxCompares is how many pairs of results lie on the disk for the job's comparator at
// a time: they stay there until the sandbox has room.
const maxCompares = 16

// compare compares two results as the job's comparator says. An error says that
// it could not be found out here and now.
func (n *Node) compare(ctx context.Context, id workunits.JobID, m workunits.Manifest, c steward.Compare) (equal bool, err error) {
	if m.Policy.Compare.Kind == workunits.CompareNumbers {
		return n.compareNumbers(ctx, m.Policy.Compare, c)
	}
	var results [2]workunits.Outcome
	for i, d := range []workunits.Digest{c.A, c.B} {
		if results[i], err = n.promptOutcome(ctx, m, workunits.Result{Digest: d}, c.Hints); err != nil {
			return false, err
		}
	}
	select {
	case n.comparing <- struct{}{}:
		defer func() { <-n.comparing }()
	case <-ctx.Done():
		return false, context.Cause(ctx)
	}
	purpose := "compare " + id.String()
	dir := n.folders.take(purpose)
	defer n.folders.put(purpose, dir)
	t, err := n.compareTask(ctx, id, m, c, results, dir)
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

// compareTask is what the sandbox executes the job's comparator program with.
func (n *Node) compareTask(ctx context.Context, id workunits.JobID, m workunits.Manifest, c steward.Compare, results [2]workunits.Outcome, dir string) (t sandbox.Task, err error) {
	program := m.Policy.Compare.Program.Cid
	t = sandbox.Task{
		ProgramID: workunits.Sum(program.Bytes()), Dir: filepath.Join(dir, runFolder), Env: m.Env, Canonical: m.Canonical,
		Args: []string{workunits.CompareA, workunits.CompareB}, Reads: []string{dir}, Limits: sandbox.LimitsOf(m.Limits), Seed: workunits.Sum(workunits.Encode([]any{id, c.Unit})),
	}
	for i, o := range results {
		folder := filepath.Join(dir, workunits.StageTop, t.Args[i])
		if err := n.layOut(ctx, folder, o); err != nil {
			return t, err
		}
		t.Inputs = append(t.Inputs, sandbox.Input{Path: t.Args[i], Host: folder})
	}
	ctx, cancel := context.WithTimeoutCause(ctx, inputTime, ErrTimeout)
	defer cancel()
	t.Program, err = n.fetch.file(ctx, program, c.Hints, nil)
	return t, err
}
