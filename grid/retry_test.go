package grid

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/talka-grid/talka/workunits"
	"github.com/talka-grid/talka/workunits/sandbox"
)

// slowUnit is an executor whose copies of unit 1 are void while it is slow.
type slowUnit struct {
	goProgram
	slow *atomic.Bool
}

func (s slowUnit) Run(ctx context.Context, t sandbox.Task, started func(int)) (sandbox.Report, error) {
	if s.slow.Load() && slices.Contains(t.Args, "1") {
		return sandbox.Report{}, &sandbox.Void{Reason: workunits.VoidWall}
	}
	return s.goProgram.Run(ctx, t, started)
}

// failed runs a job of which unit 1 has failed, and the second stage with it.
func failed(ctx context.Context, t *testing.T) (c *cluster, pub *member, id workunits.JobID, slow *atomic.Bool) {
	t.Helper()
	c = newCluster(t)
	pub, project := c.publisher(Config{})
	peer := c.start(Config{Steward: true, Trust: []workunits.ProjectID{project}})
	slow = new(atomic.Bool)
	slow.Store(true)
	for range 2 { // the one whose copy is void gets the unit again only after the other had time to take it
		c.start(Config{Slots: 1, Trust: []workunits.ProjectID{project}, Exec: slowUnit{slow: slow}})
	}
	program := workunits.Link{Cid: pub.host.data.put([]byte("program"))}
	m := testManifest(program, 12)
	m.Limits.Tries, m.Policy.Mode, m.Reduce = 1, workunits.VerifyNone, &workunits.Stage{Program: program}
	id, err := pub.Submit(ctx, m, progress(t))
	if err != nil {
		t.Fatal(err)
	}
	info, err := pub.WaitJob(ctx, id)
	if err != nil || info.State != JobFailed || info.Units.Failed != 1 || info.Reduce != StageFailed {
		t.Fatalf("%+v, %v", info, err)
	}
	if err := peer.await(ctx, func() bool { j := peer.jobs[id]; return j != nil && peer.info(j).Settled }); err != nil {
		t.Fatal(err)
	}
	return c, pub, id, slow
}

// What has failed is tried again in the same job, the second stage after it, also by
// a publisher whose ledger was packed meanwhile and that has just started.
func TestRetry(t *testing.T) {
	t.Parallel()
	ctx := testContext(t)
	c, pub, id, slow := failed(ctx, t)
	pub.packNow(ctx, t, id)
	pub = c.restart(pub)
	slow.Store(false)
	r, err := pub.Retry(ctx, id)
	if err != nil || r.Job != id || !slices.Equal(r.Units, []uint32{1}) {
		t.Fatalf("%+v, %v", r, err)
	}
	if _, err := pub.Retry(ctx, id); !errors.Is(err, ErrNotFound) {
		t.Errorf("nothing has failed any more, and a second retry says: %v", err)
	}
	info, err := pub.WaitJob(ctx, id)
	if err != nil || info.State != JobDone || info.Units.Accepted != 12 || info.Reduce != StageAccepted {
		t.Fatalf("%+v, %v", info, err)
	}
	if err := pub.await(ctx, func() bool { s := pub.jobs[id].steward.Book().Sealed(); return s != nil && s.Failed == 0 }); err != nil {
		t.Errorf("the job is not sealed again: %v", err)
	}
}

func TestRetryIsThePublishers(t *testing.T) {
	t.Parallel()
	ctx := testContext(t)
	c, pub, id, _ := failed(ctx, t)
	other := c.start(Config{})
	if _, err := other.Job(ctx, id); err != nil {
		t.Fatal(err)
	}
	if _, err := other.Retry(ctx, id); !errors.Is(err, ErrDenied) {
		t.Errorf("another node: %v", err)
	}
	if _, err := other.Retry(ctx, workunits.JobID{1}); !errors.Is(err, ErrNotFound) {
		t.Errorf("an unknown job: %v", err)
	}
	if err := pub.Cancel(ctx, id, strings.Repeat("x", workunits.MaxWordLen+1)); !errors.Is(err, workunits.ErrTooLarge) {
		t.Errorf("a long reason: %v", err)
	}
	if err := pub.Cancel(ctx, id, strings.Repeat("x", workunits.MaxWordLen)); err != nil {
		t.Error(err)
	}
	if _, err := pub.Retry(ctx, id); !errors.Is(err, ErrDenied) || !strings.Contains(err.Error(), "cancelled") {
		t.Errorf("a cancelled job: %v", err)
	}
}

// A publisher that has just started cancels, though its steward says nothing before
// it has heard the others.
func TestCancelAfterStart(t *testing.T) {
	t.Parallel()
	ctx := testContext(t)
	c := newCluster(t)
	pub, project := c.publisher(Config{})
	c.start(Config{Steward: true, Trust: []workunits.ProjectID{project}})
	id, err := pub.Submit(ctx, testManifest(workunits.Link{Cid: pub.host.data.put([]byte("program"))}, 4), progress(t))
	if err != nil {
		t.Fatal(err)
	}
	pub = c.restart(pub)
	if err := pub.Cancel(ctx, id, "a typo"); err != nil {
		t.Fatal(err)
	}
	if info, err := pub.WaitJob(ctx, id); err != nil || info.State != JobCancelled {
		t.Errorf("%+v, %v", info, err)
	}
}
