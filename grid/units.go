package grid

import (
	"context"
	"errors"
	"fmt"

	"github.com/talka-grid/talka/workunits"
	"github.com/talka-grid/talka/workunits/verdict"
)

// book runs f in the loop over the book of a job that is looked after here, or over what
// others show of a job that is over. Then its job has no more than manifest and list.
func (n *Node) book(ctx context.Context, id workunits.JobID, f func(j *job, b *verdict.Book)) error {
	if err := n.unpack(ctx, id); err != nil {
		return err
	}
	found := false
	err := n.do(ctx, func() {
		if j := n.jobs[id]; j != nil && j.steward != nil {
			found = true
			f(j, j.steward.Book())
		}
	})
	if err != nil || found {
		return err
	}
	r, err := n.read(ctx, id)
	if err != nil {
		return fmt.Errorf("job %s is not looked after here: ask the node of its publisher or of a steward: %w", id, err)
	}
	return n.do(ctx, func() { f(&job{id: id, manifest: r.manifest, list: r.book.Stewards()}, r.book) })
}

// Units describes up to count units of a job from the given one on, the second
// stage as the unit after the last. Only a steward of the job can.
func (n *Node) Units(ctx context.Context, id workunits.JobID, from, count uint32) (list []UnitInfo, err error) {
	err = n.book(ctx, id, func(j *job, b *verdict.Book) {
		total := j.manifest.Total()
		for u := from; u < total && u-from < min(count, MaxUnits); u++ {
			list = append(list, unitInfo(b, u))
		}
	})
	return list, err
}

func unitInfo(b *verdict.Book, u uint32) UnitInfo {
	v := b.Unit(u)
	info := UnitInfo{Unit: u, State: UnitOpen, Copies: v.Copies, Support: v.Support, Voids: v.Voids, Contested: v.Contested}
	switch v.State {
	case verdict.Pending:
		info.State = UnitPending
	case verdict.Accepted:
		info.State = UnitAccepted
	case verdict.Failed:
		info.State = UnitFailed
	}
	if v.State == verdict.Open || v.State == verdict.Pending {
		info.Granted = len(b.Outstanding(u))
	}
	if v.State == verdict.Open && info.Granted > 0 {
		info.State = UnitGranted
	}
	return info
}

// Copies lists the copies of a unit that are not void.
func (n *Node) Copies(ctx context.Context, id workunits.JobID, unit uint32) (list []CopyInfo, err error) {
	known := false
	err = n.book(ctx, id, func(j *job, b *verdict.Book) {
		if known = unit < j.manifest.Total(); !known {
			return
		}
		copies, v := b.CopiesOf(unit), b.Unit(unit)
		var named workunits.Digest // the class of the verdict's result
		for _, c := range copies {
			if v.Agreed() && c.Open && c.Result == v.Result.Digest {
				named = c.Class
			}
		}
		for _, c := range copies {
			info := CopyInfo{Node: c.Volunteer, Burned: b.Burned(c.Volunteer), Open: c.Open}
			if c.Open {
				info.Result, info.Accords = c.Result.String(), v.Agreed() && c.Class == named
			}
			list = append(list, info)
		}
	})
	if err == nil && !known {
		err = fmt.Errorf("unit %d of job %s: %w", unit, id, ErrNotFound)
	}
	return list, err
}

// Results yields the verdict on each accepted or failed unit in unit order, with
// the files of the result in the store. An error of yield ends it.
func (n *Node) Results(ctx context.Context, id workunits.JobID, yield func(UnitResult) error) error {
	var total uint32
	if err := n.book(ctx, id, func(j *job, _ *verdict.Book) { total = j.manifest.Total() }); err != nil {
		return err
	}
	for u := range total {
		r, err := n.Result(ctx, id, u)
		if errors.Is(err, errNoVerdict) {
			continue
		}
		if err != nil {
			return err
		}
		if err := yield(r); err != nil {
			return err
		}
	}
	return nil
}

// errNoVerdict is ErrNotFound for a unit that is neither accepted nor failed.
var errNoVerdict = fmt.Errorf("neither accepted nor failed: %w", ErrNotFound)

// Result is the verdict on an accepted or failed unit, with the files of its
// result in the store.
func (n *Node) Result(ctx context.Context, id workunits.JobID, unit uint32) (r UnitResult, err error) {
	v := verdict.Unit{State: verdict.Open}
	var from []workunits.NodeID
	err = n.book(ctx, id, func(j *job, b *verdict.Book) {
		if unit < j.manifest.Total() {
			v = b.Unit(unit)
			from = holders(b, unit, v)
			r = UnitResult{Unit: unit, Reduce: j.manifest.Reduces(unit), Failed: v.State == verdict.Failed}
		}
	})
	switch {
	case err != nil:
		return r, err
	case v.State == verdict.Accepted:
		if r.Outcome, err = n.outcome(ctx, v.Result, from); errors.Is(err, ErrNotFound) {
			r.Outcome, err = n.recall(ctx, id, unit, v.Result)
		}
		if err != nil {
			return r, fmt.Errorf("result of unit %d: %w", unit, err)
		}
	case !r.Failed:
		return r, fmt.Errorf("unit %d of job %s: %w", unit, id, errNoVerdict)
	}
	return r, nil
}
