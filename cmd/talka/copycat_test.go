package main

import (
	"context"
	"encoding/json"
	"os"
	"slices"
	"strconv"
	"time"

	"github.com/talka-grid/talka/grid"
	"github.com/talka-grid/talka/grid/api"
	"github.com/talka-grid/talka/workunits"
	"github.com/talka-grid/talka/workunits/sandbox"
)

// copycat is the executor of a volunteer that would rather tell what others found
// than work: for a while it looks into its own node's ledger, as `job show --unit`
// does, for a result of its unit. Where there is none it has to execute.
type copycat struct {
	grid.Executor
	self workunits.NodeID
	api  *api.Client
	seen string // path
}

// look is one line of the file of what it saw.
type look struct {
	Unit   uint32
	State  string // of the unit
	Sealed int    // others' copies that were committed and not open
	Open   int    // others' copies whose results could be read
}

func newCopycat(c *grid.Config, seen string) copycat {
	return copycat{Executor: c.Exec, self: workunits.NodeIDOf(c.Key), api: api.NewClient(c.Dir), seen: seen}
}

func (c copycat) Run(ctx context.Context, t sandbox.Task, started func(int)) (sandbox.Report, error) {
	const patience = 500 * time.Millisecond
	unit, err := strconv.ParseUint(t.Args[slices.Index(t.Args, "--seed")+1], 10, 32)
	if err != nil {
		return sandbox.Report{}, err
	}
	watch, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	saw := look{Unit: uint32(unit)}
	// It sees something, or has waited for long enough.
	if err := poll(watch, func() (bool, error) { return c.see(ctx, &saw) }); err != nil && watch.Err() == nil {
		return sandbox.Report{}, err
	}
	if err := c.note(saw); err != nil {
		return sandbox.Report{}, err
	}
	return c.Executor.Run(ctx, t, started) // what it saw would come to the same
}

// see looks for results of a unit.
func (c copycat) see(ctx context.Context, l *look) (bool, error) {
	jobs, err := c.api.Jobs(ctx)
	if err != nil || len(jobs) != 1 {
		return false, err
	}
	story, err := c.api.Story(ctx, jobs[0].Job, l.Unit)
	if err != nil {
		return false, err
	}
	l.State, l.Sealed, l.Open = story.State, 0, 0
	for _, other := range story.Copies {
		switch {
		case other.Volunteer == c.self:
		case other.Result != nil:
			l.Open++
		case !other.Committed.IsZero():
			l.Sealed++
		}
	}
	return l.Open > 0, nil
}

func (c copycat) note(l look) error {
	f, err := os.OpenFile(c.seen, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer f.Close()
	return json.NewEncoder(f).Encode(l)
}
