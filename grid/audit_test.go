package grid

import (
	"errors"
	"strings"
	"testing"

	"github.com/talka-grid/talka/workunits"
)

// TestAudit: volunteers that all collude get wrong results accepted. The
// publisher's audit proves them wrong, and honest ones do their units again.
func TestAudit(t *testing.T) {
	t.Parallel()
	c, ctx := newCluster(t), testContext(t)
	pub, project := c.publisher(Config{})
	trust := []workunits.ProjectID{project}
	var stewards, liars []*member
	for range 2 {
		stewards = append(stewards, c.start(Config{Steward: true, Trust: trust}))
	}
	for range 3 {
		liars = append(liars, c.start(Config{Slots: 1, Trust: trust, Exec: goProgram{lie: true}}))
	}
	id, err := pub.Submit(ctx, testManifest(workunits.Link{Cid: pub.host.data.put([]byte("program"))}, 12), progress(t))
	if err != nil {
		t.Fatal(err)
	}
	if info, err := pub.WaitJob(ctx, id); err != nil || info.Units.Accepted != 12 || len(info.Faults) > 0 {
		t.Fatalf("job came to %+v, %v", info, err)
	}
	if _, err := stewards[0].Audit(ctx, id, 1, progress(t)); !errors.Is(err, ErrDenied) {
		t.Errorf("a steward's audit is answered with %v", err)
	}
	for _, m := range liars {
		m.stop()
	}
	// Four copies are enough against a colluder that nothing was proven against. Of those
	// granted at once one counts, and of one steward's none beyond one more than all others'.
	for range 7 {
		c.start(Config{Slots: 1, Trust: trust}) // for them the job is over, until it is not
	}
	r, err := pub.Audit(ctx, id, 8, progress(t))
	if err != nil {
		t.Fatal(err)
	}
	if len(r.Units) != 8 || len(r.Wrong) != 8 || len(r.Proven) < 2 || r.Reopened == 0 || r.After > r.Before {
		t.Errorf("audit came to %+v", r)
	}
	if info, err := pub.WaitJob(ctx, id); err != nil || info.Units.Accepted != 12 {
		t.Fatalf("job came to %+v, %v", info, err)
	}
	wrong := 0
	if err := pub.Results(ctx, id, func(u UnitResult) error {
		if strings.HasSuffix(string(u.Outcome.Out.Data), "lie") {
			wrong++
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	if honest, err := pub.Audit(ctx, id, 12, progress(t)); err != nil || len(honest.Wrong) != wrong || honest.After != 0 {
		t.Errorf("%d results are wrong; the audit of all units says %+v, %v", wrong, honest, err)
	}
}

// TestRingers: a job that asks for audits has the publisher's node execute units
// by itself, which proves colluders wrong that nobody else can.
func TestRingers(t *testing.T) {
	t.Parallel()
	c, ctx := newCluster(t), testContext(t)
	pub, project := c.publisher(Config{Slots: 1})
	trust := []workunits.ProjectID{project}
	for range 2 {
		c.start(Config{Steward: true, Trust: trust})
	}
	for range 2 {
		c.start(Config{Slots: 1, Trust: trust, Exec: goProgram{lie: true}})
	}
	m := testManifest(workunits.Link{Cid: pub.host.data.put([]byte("program"))}, 6)
	m.Policy.Audit = 1
	id, err := pub.Submit(ctx, m, progress(t))
	if err != nil {
		t.Fatal(err)
	}
	settled := func() bool {
		b := pub.jobs[id].steward.Book()
		return len(b.BurnedNodes()) == 2
	}
	if err := pub.await(ctx, settled); err != nil {
		info, _ := pub.Job(testContext(t), id)
		t.Errorf("%v: job came to %+v", err, info)
	}
}

// TestWrongIsToldOnce: an owner hears once that a copy was proven wrong in a job,
// though stewards say so again after a restart.
func TestWrongIsToldOnce(t *testing.T) {
	t.Parallel()
	c, ctx := newCluster(t), testContext(t)
	pub, project := c.publisher(Config{})
	v := c.start(Config{Trust: []workunits.ProjectID{project}})
	id, err := pub.Submit(ctx, testManifest(workunits.Link{Cid: pub.host.data.put([]byte("program"))}, 4), progress(t))
	if err != nil {
		t.Fatal(err)
	}
	if err := v.await(ctx, func() bool { return v.jobs[id] != nil }); err != nil {
		t.Fatal(err)
	}
	for _, want := range []int{1, 0} {
		if err := v.do(ctx, func() { v.tellWrong(id); v.tellWrong(id) }); err != nil {
			t.Fatal(err)
		}
		events, _, _ := v.events.after(0)
		told := 0
		for _, e := range events {
			if e.Kind == "fault" && e.Job == id && e.Node == v.self {
				told++
			}
		}
		if told != want {
			t.Errorf("told %d times, want %d", told, want)
		}
		v = c.restart(v)
	}
}
