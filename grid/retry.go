package grid

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/talka-grid/talka/grid/steward"
	"github.com/talka-grid/talka/workunits"
)

// RetryReport tells which units of a job are tried again.
type RetryReport struct {
	Job   workunits.JobID `json:"job"`
	Units []uint32        `json:"units"` // ascending; a second stage that failed with others is not among them
}

// Retry has the units of a job of this node's that have failed tried again. A second
// stage that failed with them waits for them. The error wraps ErrNotFound if nothing
// has failed, ErrDenied if another node publishes the job or its data is not kept any
// more.
func (n *Node) Retry(ctx context.Context, id workunits.JobID) (RetryReport, error) {
	r := RetryReport{Job: id}
	if err := n.unpack(ctx, id); err != nil {
		return r, err
	}
	err := n.insist(ctx, id, func(j *job) (said bool, err error) {
		b := j.steward.Book()
		if spent := b.Spent(); len(r.Units) == 0 {
			r.Units = spent
		}
		switch {
		case b.Cancelled() != nil:
			return false, fmt.Errorf("job %s was cancelled: %w", id, ErrDenied)
		case b.Collected() || j.expired(now()):
			return false, fmt.Errorf("the data of job %s is not kept any more: submit it again: %w", id, ErrDenied)
		case len(r.Units) == 0:
			return false, fmt.Errorf("no unit of job %s has failed: %w", id, ErrNotFound)
		}
		n.stepSteward(j, steward.Retry{})
		return len(b.Spent()) == 0, nil
	})
	return r, err
}

// insistEvery is how often a steward is asked again.
const insistEvery = 250 * time.Millisecond

// insist has the steward of a job of this node's say something: one that has just
// begun says nothing before it has heard the others, so it is asked again for a while.
// Say runs in the loop and tells whether it was said.
func (n *Node) insist(ctx context.Context, id workunits.JobID, say func(j *job) (said bool, err error)) error {
	ctx, cancel := context.WithTimeoutCause(ctx, findTime, ErrTimeout)
	defer cancel()
	again := time.NewTicker(insistEvery)
	defer again.Stop()
	for {
		said := false
		var err error
		derr := n.do(ctx, func() {
			j := n.jobs[id]
			switch {
			case j == nil:
				err = fmt.Errorf("job %s: %w", id, ErrNotFound)
			case j.manifest.Publisher != n.self || j.steward == nil:
				err = fmt.Errorf("job %s is published by another node: %w", id, ErrDenied)
			default:
				said, err = say(j)
			}
		})
		if said || err != nil || derr != nil {
			return errors.Join(err, derr)
		}
		select {
		case <-again.C:
		case <-ctx.Done():
			return fmt.Errorf("this node still hears what the other stewards of job %s know; try again: %w", id, context.Cause(ctx))
		}
	}
}
