package grid

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/talka-grid/talka/grid/volunteer"
)

// TestSaveThenPause: units go on until each has saved its state, and what ending
// the node would lose is what they did since.
func TestSaveThenPause(t *testing.T) {
	t.Parallel()
	g, s, dir := &gate{told: make(chan string, 100)}, &twin{}, t.TempDir()
	n := newCluster(t).start(Config{Slots: 2, Exec: g, Sensors: s})
	g.want(t, "percent 100")
	n.Save() // nothing runs
	g.want(t, "pause")
	n.Resume()
	g.want(t, "resume")
	_ = n.do(t.Context(), func() {
		s.pids = map[int]time.Duration{7: time.Second}
		e := &execution{cancel: func() {}, began: time.Now().Add(-time.Hour)}
		n.runs[volunteer.Task{}] = e
		n.started(e, 7, dir)
		s.pids[7] += 40 * time.Second
	})
	n.Save()
	if st := n.Status(); st.State != StateRunning || st.Reason != "Pauses as soon as running units have saved their state. Resumes when you say so: `talka resume`." || !st.PausedByOwner {
		t.Errorf("%s: %s", st.State, st.Reason)
	}
	made := filepath.Join(t.TempDir(), "state") // who looks at dir finds it whole
	if err := os.WriteFile(made, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chtimes(made, time.Time{}, time.Now().Add(time.Second)); err != nil { // clocks of file systems are coarse
		t.Fatal(err)
	}
	if err := os.Rename(made, filepath.Join(dir, "state")); err != nil {
		t.Fatal(err)
	}
	g.want(t, "pause")
	w := n.Why()
	if len(w.Executions) != 1 || w.Executions[0].CPU != 40 || w.Executions[0].Lost != 0 || w.State != StatePaused {
		t.Errorf("%s, %+v", w.State, w.Executions)
	}
	_ = n.do(t.Context(), func() {
		s.pids[7] += 2 * time.Second
		n.meter.look(time.Now(), s.Used, 0, 0)
	})
	if w := n.Why(); w.Executions[0].CPU != 42 || w.Executions[0].Lost != 2 {
		t.Errorf("%+v", w.Executions)
	}
	if got := lastSave(filepath.Join(dir, "nothing")); !got.IsZero() {
		t.Errorf("no folder was written at %v", got)
	}
	_ = n.do(t.Context(), func() { clear(n.runs) })
}
