package grid

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/talka-grid/talka/chunkstore/exchange"
	"github.com/talka-grid/talka/grid/volunteer"
	"github.com/talka-grid/talka/grid/volunteer/policy"
	"github.com/talka-grid/talka/workunits"
	"github.com/talka-grid/talka/workunits/sandbox"
)

// twin is a machine whose facts a test sets.
type twin struct {
	mu    sync.Mutex
	facts policy.Facts
	pids  map[int]time.Duration // set before the node uses them, on its loop
}

func (s *twin) Read(context.Context, policy.Rules) policy.Facts {
	s.mu.Lock()
	defer s.mu.Unlock()
	f := s.facts
	f.Now = time.Now()
	return f
}

func (s *twin) Used(pid int) (time.Duration, uint64, bool) {
	cpu, ok := s.pids[pid]
	return cpu, 1 << 20, ok
}

func (s *twin) set(f policy.Facts) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.facts = f
}

// gate holds copies until it is opened, and tells what the node does to them.
type gate struct {
	goProgram
	open chan struct{}
	told chan string
}

func (g *gate) Run(ctx context.Context, t sandbox.Task, started func(int)) (sandbox.Report, error) {
	g.told <- "run"
	select {
	case <-g.open:
	case <-ctx.Done():
	}
	return g.goProgram.Run(ctx, t, started)
}
func (g *gate) Pause()                       { g.told <- "pause" }
func (g *gate) Resume()                      { g.told <- "resume" }
func (*gate) Compiling() []sandbox.Compiling { return nil }

func (g *gate) SetPercent(p int) {
	g.told <- fmt.Sprint("percent ", p)
}

func (g *gate) want(t *testing.T, what ...string) {
	t.Helper()
	for _, w := range what {
		select {
		case got := <-g.told:
			if got != w {
				t.Fatalf("the executor hears %q, want %q", got, w)
			}
		case <-time.After(time.Minute):
			t.Fatalf("the executor does not hear %q", w)
		}
	}
}

// TestRulesAct drives a node through its rules: a user who comes back has the
// processors, a pause freezes, finishing does not.
func TestRulesAct(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	pub := c.start(Config{})
	project, err := pub.NewProject("rules")
	if err != nil {
		t.Fatal(err)
	}
	s, g := &twin{}, &gate{open: make(chan struct{}), told: make(chan string, 100)}
	v := c.start(Config{
		Slots: 2, Percent: 80, Trust: []workunits.ProjectID{project}, Exec: g, Sensors: s, Steward: true,
		Rules: policy.Rules{InUse: policy.Limits{Processors: 1, Percent: 50, Memory: 1 << 20}, IdleAfter: time.Minute, Mains: true},
	})
	g.want(t, "percent 80")
	if w := v.Why(); w.Processors != 2 || w.Percent != 80 || len(w.Rules) != 0 || len(w.Decisions) == 0 {
		t.Errorf("at first %+v", w)
	}
	s.set(policy.Facts{Sessions: []policy.Session{{Source: "twin"}}})
	g.want(t, "percent 50")
	if w := v.Why(); w.Processors != 1 || !w.InUse || w.Source != "twin" || w.Memory != 1<<20 {
		t.Errorf("in use %+v", w)
	}
	s.set(policy.Facts{Power: policy.OnBattery})
	g.want(t, "pause")
	if st := v.Status(); st.State != StatePaused || st.Reason != "Paused: on battery. Resumes on mains." {
		t.Errorf("on battery %s: %s", st.State, st.Reason)
	}
	v.Resume() // the owner's word does not undo a rule
	s.set(policy.Facts{})
	g.want(t, "resume", "percent 80")
	v.Pause(time.Hour)
	v.Resume()
	g.want(t, "pause", "resume")
	v.Finish() // nothing runs
	g.want(t, "pause")
	v.Resume()
	v.Pause(time.Nanosecond) // over at once
	g.want(t, "resume")
	w := v.Why()
	var log []string
	for _, d := range w.Decisions {
		log = append(log, d.Text)
	}
	if text := strings.Join(log, "\n"); !strings.Contains(text, "The machine is in use (twin).") || !strings.Contains(text, "on battery") || w.State == StatePaused {
		t.Errorf("%+v after\n%s", w, text)
	}
}

// TestFewerProcessorsShare: copies that began on more processors share fewer at
// once, and what they take together is what is allowed.
func TestFewerProcessorsShare(t *testing.T) {
	t.Parallel()
	g := &gate{told: make(chan string, 100)}
	n := newCluster(t).start(Config{
		Slots: 4, Exec: g,
		Rules: policy.Rules{InUse: policy.Limits{Processors: 1, Percent: 60, Memory: 1}, IdleAfter: time.Minute},
	})
	g.want(t, "percent 100")
	_ = n.do(t.Context(), func() {
		for i := range 4 {
			n.runs[volunteer.Task{Unit: uint32(i)}] = &execution{cancel: func() {}}
		}
		n.rules.facts = policy.Facts{Sessions: []policy.Session{{}}}
		n.decide()
	})
	g.want(t, "percent 15")
	n.Finish()
	if st := n.Status(); !strings.HasPrefix(st.Reason, "Pauses as soon as running units are finished") || st.State != StateRunning {
		t.Errorf("%s: %s", st.State, st.Reason)
	}
	_ = n.do(t.Context(), func() {
		clear(n.runs)
		n.decide()
	})
	g.want(t, "pause")
}

// TestRulesChange gives a node other rules while it runs: they count at once, and
// what it tells of its copies is theirs.
func TestRulesChange(t *testing.T) {
	t.Parallel()
	g, s := &gate{told: make(chan string, 100)}, &twin{}
	n := newCluster(t).start(Config{Slots: 2, Exec: g, Sensors: s})
	g.want(t, "percent 100")
	n.SetRules(policy.Rules{Free: policy.Limits{Processors: 1, Percent: 40, Memory: 1 << 20}})
	if w := n.Why(); w.Processors != 1 || w.Percent != 40 || w.Memory != 1<<20 {
		t.Errorf("after the change %+v", w)
	}
	g.want(t, "percent 40")
	n.SetRules(policy.Rules{})
	g.want(t, "pause")
	if w := n.Why(); w.State != StatePaused || len(w.Rules) != 1 || w.Rules[0].Rule != policy.ByLimits {
		t.Errorf("without processors %+v", w)
	}
	_ = n.do(t.Context(), func() {
		s.pids = map[int]time.Duration{7: time.Second}
		for i, ago := range []time.Duration{time.Second, time.Minute} {
			e := &execution{cancel: func() {}, began: time.Now().Add(-ago)}
			n.runs[volunteer.Task{Unit: uint32(i)}] = e
			n.started(e, 7+i, "") // nothing is known of the second
		}
		s.pids[7] += 3 * time.Second
		n.meter.look(time.Now(), s.Used, 0, 0)
	})
	w := n.Why()
	if len(w.Executions) != 2 || w.Executions[0].Unit != 1 || w.Executions[0].Wall < 60 || w.Executions[0].CPU != 0 || w.Executions[1].CPU != 3 || w.Measured.CPU != 3 {
		t.Errorf("%+v, measured %+v", w.Executions, w.Measured)
	}
	_ = n.do(t.Context(), func() { clear(n.runs) })
}

// TestTrafficIsLimited: use of the machine limits traffic at once, a pause of units
// does not touch it, and a change of the rules counts while the node runs.
func TestTrafficIsLimited(t *testing.T) {
	t.Parallel()
	r := policy.Rules{IdleAfter: time.Minute, UseNet: policy.Traffic{Up: 1000}, FreeNet: policy.Traffic{Up: 5000, Down: 9000}}
	n := newCluster(t).start(Config{Slots: 1, Rules: r})
	data, ok := n.cfg.Data.(*memData)
	if !ok {
		t.Fatal("other data")
	}
	want := func(what string, up, down int64) {
		t.Helper()
		w := n.Why()
		data.mu.Lock()
		defer data.mu.Unlock()
		limits := exchange.Limits{Up: up, Down: down, UpMonth: r.Month.Up, DownMonth: r.Month.Down}
		if data.limits != limits || w.Up != up || w.Down != down {
			t.Errorf("%s: %+v, told %d and %d, want %+v", what, data.limits, w.Up, w.Down, limits)
		}
	}
	n.SetRules(r) // has decided when it returns
	want("nobody is there", 5000, 9000)
	n.Desktop("a", policy.Session{}, false)
	want("in use", 1000, 9000)
	n.Pause(0)
	want("in use and paused", 1000, 9000)
	r.UseNet.Down, r.FreeNet.Up = 7000, 0
	n.SetRules(r)
	want("another rule", 1000, 7000)
	r.Month.Up = 1 << 30
	n.SetRules(r)
	want("a limit of the month", 1000, 7000)
	r.UseNet.Down = -1
	n.SetRules(r)
	want("nothing may come", 1000, -1)
	n.Desktop("a", policy.Session{}, true)
	want("nobody is there again", 0, 9000)
}

// TestSample runs units whose result is known: a pause of the owner's ends it, a
// rule does not stop it, and a machine that computes wrong is told.
func TestSample(t *testing.T) {
	t.Parallel()
	want := sha256.Sum256([]byte("[]"))
	start := func(want [32]byte) *member {
		return newCluster(t).start(Config{
			Slots: 1, Sensors: &twin{facts: policy.Facts{Power: policy.OnBattery}},
			Rules: policy.Rules{Mains: true}, Sample: Sample{Program: []byte("program"), Want: want},
		})
	}
	n := start(want)
	r, err := n.Sample(t.Context(), func(done, _ int64) {
		if _, err := n.Sample(t.Context(), nil); !errors.Is(err, ErrDenied) {
			t.Errorf("two samples at once: %v", err)
		}
		n.Pause(0)
	})
	if err == nil || !strings.Contains(err.Error(), "paused by you") || r.Units < 1 || r.Percent != 100 {
		t.Errorf("%+v, %v", r, err)
	}
	if _, err := n.Sample(t.Context(), nil); !errors.Is(err, ErrDenied) {
		t.Errorf("while it is paused: %v", err)
	}
	if r, err = start([32]byte{}).Sample(t.Context(), nil); err == nil || !strings.Contains(err.Error(), "computes wrong") || r.Units != 0 {
		t.Errorf("a wrong result: %+v, %v", r, err)
	}
}
