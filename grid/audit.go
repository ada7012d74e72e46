package grid

import (
	"context"
	"crypto/rand"
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/talka-grid/talka/grid/steward"
	"github.com/talka-grid/talka/grid/volunteer"
	"github.com/talka-grid/talka/workunits"
	"github.com/talka-grid/talka/workunits/verdict"
)

// AuditReport is what an audit of a job came to.
type AuditReport struct {
	Job      workunits.JobID    `json:"job"`
	Units    []uint32           `json:"units"`        // that were executed here, ascending
	Wrong    []uint32           `json:"wrong"`        // those of them whose accepted result another took the place of
	Proven   []workunits.NodeID `json:"proven_wrong"` // volunteers, by this audit
	Reopened int                `json:"reopened"`     // units that were accepted before and are to be done again
	Before   float64            `json:"bound_before"` // wrong results a unit that the verdicts could be vouched for with
	After    float64            `json:"bound_after"`
}

// audit is the state of a job that an audit compares.
type audit struct {
	accepted []uint32
	results  map[uint32]workunits.Digest // of the sample
	burned   []workunits.NodeID
	bound    float64
}

func (j *job) audit(sample []uint32) audit {
	b := j.steward.Book()
	a := audit{results: map[uint32]workunits.Digest{}, burned: b.BurnedNodes(), bound: b.Bound().Rate}
	for u := range j.manifest.Total() {
		if b.State(u) == verdict.Accepted {
			a.accepted = append(a.accepted, u)
		}
	}
	for _, u := range sample {
		a.results[u] = b.Unit(u).Result.Digest
	}
	return a
}

// Audit executes a sample of up to so many accepted units of a job of this node's,
// those the sooner whose results are most in doubt. It returns when all that
// they show is known: where a result was another, its volunteers are proven wrong
// and what rested on them is done again. Progress gets one sentence at a time.
func (n *Node) Audit(ctx context.Context, id workunits.JobID, units int, progress func(string)) (r AuditReport, err error) {
	var m workunits.Manifest
	var runs []volunteer.Run
	var before audit
	var seed [32]byte
	_, _ = rand.Read(seed[:])
	own := false
	err = n.book(ctx, id, func(j *job, b *verdict.Book) {
		if own = j.manifest.Publisher == n.self; !own {
			return
		}
		m = j.manifest
		r.Units = b.Sample(units, seed)
		before = j.audit(r.Units)
		for _, u := range r.Units {
			v := b.Unit(u)
			runs = append(runs, volunteer.Run{Task: volunteer.Task{Job: id, Unit: u, Canonical: j.steward.Canonically(u)}, Inputs: b.Inputs(u), Hints: v.Volunteers})
		}
	})
	if err == nil && !own {
		err = fmt.Errorf("job %s is published by another node, whose audits alone decide: %w", id, ErrDenied)
	}
	if err != nil {
		return r, err
	}
	if err := n.auditRuns(ctx, m, runs, progress); err != nil {
		return r, err
	}
	settled := func() bool {
		b := n.jobs[id].steward.Book()
		return !slices.ContainsFunc(r.Units, func(u uint32) bool { v := b.Unit(u); return len(v.Compare)+len(v.Unsealed) > 0 })
	}
	if err := n.await(ctx, settled); err != nil {
		return r, err
	}
	err = n.book(ctx, id, func(j *job, _ *verdict.Book) { r.compare(id, before, j.audit(r.Units)) })
	return r, err
}

// auditRuns executes copies, as many at a time as units are executed here, and
// states what each came to.
func (n *Node) auditRuns(ctx context.Context, m workunits.Manifest, runs []volunteer.Run, progress func(string)) error {
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(max(1, n.cfg.Slots))
	var done atomic.Int32
	for _, run := range runs {
		g.Go(func() error {
			f := n.run(ctx, m, run, nil)
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			if f.Void != "" {
				return fmt.Errorf("unit %d could not be executed here: %s: see the log of this node", run.Unit, f.Void)
			}
			err := n.do(ctx, func() { n.audited(f) })
			progress(fmt.Sprintf("%d of %d units executed", done.Add(1), len(runs)))
			return err
		})
	}
	return g.Wait()
}

// audited states what an audit's copy came to.
func (n *Node) audited(f volunteer.Finished) {
	n.pending.opened = append(n.pending.opened, jobDigest{f.Task.Job, f.Result.Digest})
	n.stepSteward(n.jobs[f.Task.Job], steward.Audited{Unit: f.Task.Unit, Canonical: f.Task.Canonical, Arch: n.cfg.Arch, Result: f.Result, Block: f.Block, Millis: f.Millis})
}

// auditPause is how long no audit begins by itself after one that came to nothing.
const auditPause = time.Minute

// spare begins an audit that a job of this node's asks for, one at a time, while
// the owner's rules let units run.
func (n *Node) spare() {
	if n.auditing || n.rules.Paused || time.Now().Before(n.auditAfter) {
		return
	}
	for _, j := range n.sortedJobs() {
		if j.steward != nil && j.manifest.Publisher == n.self && j.manifest.Policy.Audit > 0 {
			if n.stepSteward(j, steward.Spare{}); n.auditing {
				return
			}
		}
	}
}

// audit executes a unit as a job's steward asks.
func (n *Node) audit(j *job, a steward.Audit) {
	n.auditing = true
	m := j.manifest
	run := volunteer.Run{Task: volunteer.Task{Job: j.id, Unit: a.Unit, Canonical: a.Canonical}, Inputs: a.Inputs, Hints: a.Hints}
	n.wait.Go(func() {
		f := n.run(n.ctx, m, run, nil)
		n.post(func() {
			n.auditing = false
			if f.Void != "" || n.jobs[f.Task.Job] == nil || n.jobs[f.Task.Job].steward == nil {
				n.auditAfter = time.Now().Add(auditPause)
				return
			}
			n.audited(f)
			n.spare()
		})
	})
}

// compare fills in what changed.
func (r *AuditReport) compare(id workunits.JobID, before, after audit) {
	r.Job, r.Before, r.After = id, before.bound, after.bound
	r.Units, r.Wrong, r.Proven = append([]uint32{}, r.Units...), []uint32{}, []workunits.NodeID{}
	for _, u := range r.Units {
		if before.results[u] != after.results[u] {
			r.Wrong = append(r.Wrong, u)
		}
	}
	for _, n := range after.burned {
		if !slices.Contains(before.burned, n) {
			r.Proven = append(r.Proven, n)
		}
	}
	for _, u := range before.accepted {
		if _, still := slices.BinarySearch(after.accepted, u); !still {
			r.Reopened++
		}
	}
}
