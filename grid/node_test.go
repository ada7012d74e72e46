package grid

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/talka-grid/talka/workunits"
	"github.com/talka-grid/talka/workunits/sandbox"
	"github.com/talka-grid/talka/workunits/verdict"
)

func testManifest(program workunits.Link, units uint32) workunits.Manifest {
	return workunits.Manifest{
		Project: "p", Name: "test", Program: program, Units: units, Args: []string{"{unit}"},
		Limits: workunits.Limits{Memory: 1 << 20, Output: 1 << 20, Files: 10, Log: 1 << 16, Wall: 1000, CPU: 1000, Tries: 3},
		Policy: workunits.Policy{Mode: workunits.VerifyAudit, Error: 1e-2, Share: 0.2, Price: 10, MaxAgree: 2, Compare: workunits.Comparator{Kind: workunits.CompareBytes}},
		Days:   30, Active: 3, Listed: 8, Shard: max(1, units/32), Replicas: 3,
	}
}

func testContext(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	t.Cleanup(cancel)
	return ctx
}

func progress(t testing.TB) func(string) { return func(s string) { t.Log(s) } }

func TestJobIsVerifiedByPeers(t *testing.T) {
	t.Parallel()
	c, ctx := newCluster(t), testContext(t)
	pub, project := c.publisher(Config{})
	for i := range 6 {
		c.start(Config{Slots: 1, Steward: i < 3, Trust: []workunits.ProjectID{project}})
	}
	id, err := pub.Submit(ctx, testManifest(workunits.Link{Cid: pub.host.data.put([]byte("program"))}, 40), progress(t))
	if err != nil {
		t.Fatal(err)
	}
	info, err := pub.WaitJob(ctx, id)
	if err != nil {
		t.Fatalf("%v: %+v", err, pub.Jobs())
	}
	if info.Units.Accepted != 40 || info.Copies < 60 || len(info.Faults) > 0 || len(info.Stewards) != 4 {
		t.Errorf("job ended as %+v", info)
	}
	got := map[uint32]string{}
	if err := pub.Results(ctx, id, func(r UnitResult) error {
		got[r.Unit] = string(r.Outcome.Out.Data)
		return nil
	}); err != nil || len(got) != 40 || got[7] != "[7]" {
		t.Errorf("results %v, error %v", got, err)
	}
}

func TestSubmittedTwiceIsTwoJobs(t *testing.T) {
	t.Parallel()
	c, ctx := newCluster(t), testContext(t)
	pub, project := c.publisher(Config{})
	c.start(Config{Slots: 1, Steward: true, Trust: []workunits.ProjectID{project}})
	m := testManifest(workunits.Link{Cid: pub.host.data.put([]byte("program"))}, 1)
	ids := make(chan workunits.JobID, 4)
	for range cap(ids) {
		go func() {
			id, err := pub.Submit(ctx, m, func(string) {})
			if err != nil {
				t.Error(err)
			}
			ids <- id
		}()
	}
	seen := map[workunits.JobID]bool{}
	for range cap(ids) {
		seen[<-ids] = true
	}
	if len(seen) != cap(ids) {
		t.Errorf("%d submissions made %d jobs", cap(ids), len(seen))
	}
}

// restart stops a member and starts it again from its directory.
func (c *cluster) restart(m *member) *member {
	c.t.Helper()
	m.stop()
	cfg := m.cfg
	return c.start(cfg)
}

func TestJobOutlivesItsPublisher(t *testing.T) {
	t.Parallel()
	c, ctx := newCluster(t), testContext(t)
	pub, project := c.publisher(Config{})
	var peers []*member
	for i := range 10 {
		peers = append(peers, c.start(Config{Slots: 1, Steward: i < 3, Trust: []workunits.ProjectID{project}}))
	}
	id, err := pub.Submit(ctx, testManifest(workunits.Link{Cid: pub.host.data.put([]byte("program"))}, 40), progress(t))
	if err != nil {
		t.Fatal(err)
	}
	pub.stop()
	info, err := peers[0].WaitJob(ctx, id)
	if err != nil || info.Units.Accepted != 40 {
		t.Fatalf("without its publisher the job came to %+v, %v", info, err)
	}
	pub = c.restart(pub)
	err = pub.await(ctx, func() bool { info = pub.info(pub.jobs[id]); return info.Settled })
	if err != nil || info.Units.Accepted != 40 || info.State != JobDone {
		t.Errorf("the returned publisher sees %+v, %v", info, err)
	}
}

func TestLiarIsBurnedAndItsUnitsAreDoneAgain(t *testing.T) {
	t.Parallel()
	c, ctx := newCluster(t), testContext(t)
	pub, project := c.publisher(Config{Slots: 1})
	var liar *member
	for i := range 5 {
		cfg := Config{Slots: 1, Steward: i < 2, Trust: []workunits.ProjectID{project}}
		if i == 4 {
			cfg.Exec = goProgram{lie: true}
		}
		liar = c.start(cfg)
	}
	id, err := pub.Submit(ctx, testManifest(workunits.Link{Cid: pub.host.data.put([]byte("program"))}, 150), progress(t))
	if err != nil {
		t.Fatal(err)
	}
	info, err := pub.WaitJob(ctx, id)
	if err != nil || info.Units.Accepted != 150 {
		t.Fatalf("job came to %+v, %v", info, err)
	}
	if len(info.Faults) != 1 || info.Faults[0].Node != liar.self || info.Faults[0].Units == 0 {
		t.Errorf("faults %+v, want the liar's alone", info.Faults)
	}
	checkStories(ctx, t, pub, id, liar.self)
	if err := pub.Results(ctx, id, func(r UnitResult) error {
		if s := string(r.Outcome.Out.Data); len(s) == 0 || s[len(s)-1] != ']' {
			t.Errorf("accepted %q for unit %d", s, r.Unit)
		}
		return nil
	}); err != nil {
		t.Error(err)
	}
}

// checkStories wants the stories of a job's units to bear out that the liar alone
// was proven wrong.
func checkStories(ctx context.Context, t *testing.T, pub *member, id workunits.JobID, liar workunits.NodeID) {
	t.Helper()
	proven := 0
	for u := range uint32(150) {
		s, err := pub.Story(ctx, id, u)
		if err != nil {
			t.Fatal(err)
		}
		proven += len(s.Proven)
		for _, k := range s.Copies {
			switch {
			case k.Fate == verdict.FateWrong && k.Volunteer != liar:
				t.Errorf("unit %d: a copy of %s is %s", u, k.Volunteer.Short(), k.Fate)
			case k.Fate == verdict.FateCounts && s.Result != nil && *k.Result != *s.Result:
				t.Errorf("unit %d: a copy counts that differs", u)
			case k.Fate == verdict.FateCounts && (k.Granted.IsZero() || k.Committed.Before(k.Granted) || k.Opened.Before(k.Committed)):
				t.Errorf("unit %d: a copy was granted %s, committed %s, opened %s", u, k.Granted, k.Committed, k.Opened)
			}
		}
	}
	if proven == 0 {
		t.Error("no unit's story tells of the liar")
	}
	if _, err := pub.Story(ctx, id, 150); !errors.Is(err, ErrNotFound) {
		t.Errorf("unit 150 of 150 is answered with %v", err)
	}
}

// BenchmarkEmptyUnits measures what coordination costs: a thousand units whose
// execution costs nothing, over six volunteers in one process.
func BenchmarkEmptyUnits(b *testing.B) {
	for _, mode := range []workunits.VerifyMode{workunits.VerifyNone, workunits.VerifyAudit} {
		b.Run(string(mode), func(b *testing.B) {
			c, ctx := newCluster(b), testContext(b)
			pub, project := c.publisher(Config{})
			for i := range 6 {
				c.start(Config{Slots: 1, Steward: i < 3, Trust: []workunits.ProjectID{project}})
			}
			for i := 0; b.Loop(); i++ {
				m := testManifest(workunits.Link{Cid: pub.host.data.put([]byte("program"))}, 1000)
				m.Policy.Mode, m.Args = mode, []string{fmt.Sprint(i)} // the same job again would be done
				id, err := pub.Submit(ctx, m, func(string) {})
				if err != nil {
					b.Fatal(err)
				}
				begun := time.Now()
				if _, err := pub.WaitJob(ctx, id); err != nil {
					b.Fatal(err)
				}
				b.ReportMetric(1000/time.Since(begun).Seconds(), "units/s")
			}
		})
	}
}

// TestCloseWithoutRun: what New opened can be given back, and opened again.
func TestCloseWithoutRun(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	m := c.start(Config{})
	m.stop()
	cfg := m.cfg
	for range 2 {
		n, err := New(cfg)
		if err != nil {
			t.Fatal(err)
		}
		if err := n.Close(); err != nil {
			t.Error(err)
		}
		if err := n.db.db.PingContext(testContext(t)); err == nil {
			t.Error("the database is open after Close")
		}
	}
}

// tree reports what a unit sees, so that tests can compare it.
type treeProgram struct{}

func (treeProgram) Run(ctx context.Context, t sandbox.Task, f func(int)) (sandbox.Report, error) {
	r, err := goProgram{}.Run(ctx, t, f)
	if err != nil || len(t.Inputs) == 0 {
		return r, err
	}
	text := fmt.Sprintln(t.Args)
	err = filepath.WalkDir(t.Inputs[0].Host, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		b, err := os.ReadFile(path)
		name, _ := filepath.Rel(t.Inputs[0].Host, path)
		text += fmt.Sprintf("%s: %q\n", filepath.ToSlash(name), b)
		return err
	})
	return r, errors.Join(err, os.WriteFile(r.Stdout, []byte(text), 0o600))
}
func (treeProgram) Pause()  {}
func (treeProgram) Resume() {}

func (treeProgram) Compiling() []sandbox.Compiling { return nil }
func (treeProgram) SetPercent(int)                 {}

// TestSecondStage runs one on nodes that share no data: its volunteers fetch the
// results of all units, and all see the same tree.
func TestSecondStage(t *testing.T) {
	t.Parallel()
	c, ctx := newCluster(t), testContext(t)
	pub, project := c.publisher(Config{})
	for i := range 5 {
		c.start(Config{Slots: 1, Steward: i < 2, Trust: []workunits.ProjectID{project}, Exec: treeProgram{}})
	}
	m := testManifest(workunits.Link{Cid: pub.host.data.put([]byte("program"))}, 12)
	m.Args = []string{"unit", "{unit}"}
	m.Reduce = &workunits.Stage{Program: workunits.Link{Cid: pub.host.data.put([]byte("second program"))}, Args: []string{"all", "{unit}"}}
	id, err := pub.Submit(ctx, m, progress(t))
	if err != nil {
		t.Fatal(err)
	}
	info, err := pub.WaitJob(ctx, id)
	if err != nil {
		t.Fatalf("%v: %+v", err, pub.Jobs())
	}
	if info.State != JobDone || info.Units.Total != 12 || info.Units.Accepted != 12 || info.Reduce != StageAccepted || info.CopiesPerAccepted < 2 {
		t.Errorf("job ended as %+v", info)
	}
	var last UnitResult
	if err := pub.Results(ctx, id, func(r UnitResult) error { last = r; return nil }); err != nil {
		t.Fatal(err)
	}
	want := "[all {unit}]\n"
	for u := range 12 {
		want += fmt.Sprintf("%06d/status: \"exit 0\\n\"\n%06d/stdout: \"[unit %d]\"\n", u, u, u)
	}
	if got := string(last.Outcome.Out.Data); !last.Reduce || last.Unit != 12 || got != want {
		t.Errorf("the second stage, unit %d, saw\n%s\nwant\n%s", last.Unit, got, want)
	}
}
