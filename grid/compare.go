package grid

import (
	"context"
	"path/filepath"
	"time"

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

// compare compares two results as the job's comparator says. An error says that
// it could not be found out here and now.
func (n *Node) compare(ctx context.Context, id workunits.JobID, m workunits.Manifest, c steward.Compare) (equal bool, err error) {
	dir := n.folders.take()
	defer n.folders.put(dir)
	fetching, cancel := context.WithTimeoutCause(ctx, inputTime, ErrTimeout)
	defer cancel()
	how := m.Policy.Compare
	t := sandbox.Task{Dir: filepath.Join(dir, runFolder), Env: m.Env, Canonical: m.Canonical, Limits: limits(m), Seed: workunits.Sum(workunits.Encode([]any{id, c.Unit}))}
	var blocks [2][]byte
	for i, d := range []workunits.Digest{c.A, c.B} {
		if how.Kind == workunits.CompareNumbers {
			if blocks[i], err = n.record(fetching, d, workunits.RecordCid(d), c.Hints); err != nil {
				return false, err
			}
			continue
		}
		name := []string{workunits.CompareA, workunits.CompareB}[i]
		folder := filepath.Join(dir, workunits.StageTop, name)
		if err := n.stageInput(fetching, d, c.Hints, folder); err != nil {
			return false, err
		}
		t.Args, t.Inputs = append(t.Args, name), append(t.Inputs, sandbox.Input{Path: name, Host: folder})
	}
	if how.Kind == workunits.CompareNumbers {
		equal, err = compare.Outcomes(blocks[0], blocks[1], how)
		return equal && err == nil, nil // what is no outcome agrees with nothing
	}
	t.ProgramID = workunits.Sum(how.Program.Cid.Bytes())
	if t.Program, err = n.fetch.file(fetching, how.Program.Cid, c.Hints); err != nil {
		return false, err
	}
	report, err := n.cfg.Exec.Run(ctx, t, nil)
	return err == nil && report.Kind == workunits.Exited && report.Code == 0, err
}

// limits are those of a job's copies.
func limits(m workunits.Manifest) sandbox.Limits {
	l := m.Limits
	return sandbox.Limits{
		Memory: l.Memory, Output: l.Output, Files: l.Files, Log: l.Log,
		Wall: time.Duration(l.Wall) * time.Millisecond, CPU: time.Duration(l.CPU) * time.Millisecond,
	}
}
