package grid

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/talka-grid/talka/grid/volunteer"
	"github.com/talka-grid/talka/grid/volunteer/policy"
	"github.com/talka-grid/talka/workunits"
	"github.com/talka-grid/talka/workunits/sandbox"
)

// twin is a machine whose facts a test sets.
type twin struct {
	mu    sync.Mutex
	facts policy.Facts
}

func (s *twin) Read(context.Context) policy.Facts {
	s.mu.Lock()
	defer s.mu.Unlock()
	f := s.facts
	f.Now = time.Now()
	return f
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
		case <-time.After(20 * time.Second):
			t.Fatalf("the executor does not hear %q", w)
		}
	}
}

// TestRulesAct drives a node through its rules: a user who comes back has the
// processors within a second, a pause freezes, finishing does not.
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
	s.set(policy.Facts{Input: true, Source: "twin"})
	began := time.Now()
	g.want(t, "percent 50")
	passed := time.Since(began)
	t.Logf("the user had the processors after %v", passed)
	if passed > 2*time.Second { // a second on a machine that has one to spare
		t.Errorf("the user waits %v for the processors", passed)
	}
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
			n.runs[volunteer.Task{Unit: uint32(i)}] = func() {}
		}
		n.rules.facts = policy.Facts{Input: true}
		n.decide()
	})
	g.want(t, "percent 15")
	n.Finish()
	if st := n.Status(); !strings.HasPrefix(st.Reason, "Finishes the units that run") || st.State != StateRunning {
		t.Errorf("%s: %s", st.State, st.Reason)
	}
	_ = n.do(t.Context(), func() {
		clear(n.runs)
		n.decide()
	})
	g.want(t, "pause")
}
