package api

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// TestRecentIsBounded: whatever is logged, the last lines are kept, whole up to a length,
// and what peers say in them stays on its line.
func TestRecentIsBounded(t *testing.T) {
	t.Parallel()
	r := &Recent{}
	log := slog.New(slog.NewTextHandler(r, nil))
	for i := range 3 * maxLogLines {
		log.Info("a peer says", "nr", i, "name", "\x1b[2J<img src=x>\n\u202elevel=ERROR "+strings.Repeat("é", 2*maxLogLine))
	}
	lines := r.Lines()
	if len(lines) != maxLogLines || !strings.Contains(lines[len(lines)-1], fmt.Sprint("nr=", 3*maxLogLines-1)) {
		t.Fatalf("%d lines, the last %q", len(lines), lines[len(lines)-1][:80])
	}
	for _, l := range lines {
		if len(l) > maxLogLine+2 || strings.ContainsAny(l, "\n\x1b\u202e") || !strings.HasPrefix(l, "time=") {
			t.Fatalf("a line of %d bytes: %q", len(l), l[:80])
		}
	}
}

func TestLogIsRead(t *testing.T) {
	t.Parallel()
	cfg := testConfig(t.TempDir())
	c, _ := serveWith(t, cfg, newMemNode())
	if l, err := c.Log(t.Context()); err != nil || l.Lines == nil || len(l.Lines) != 0 {
		t.Errorf("nothing was logged: %+v, %v", l, err)
	}
	_, _ = cfg.Recent.Write([]byte("a line\n"))
	if l, err := c.Log(t.Context()); err != nil || len(l.Lines) != 1 || l.Lines[0] != "a line" {
		t.Errorf("%+v, %v", l, err)
	}
	var d Diagnosis
	if err := c.call(t.Context(), http.MethodGet, "/v1/doctor", nil, &d); err != nil || !d.OK || d.Checks == nil || d.Time.IsZero() {
		t.Errorf("%+v, %v", d, err)
	}
}

// TestDiagnosesAreFew: however many ask, the node is looked at once in a time; who goes
// away while it is leaves nothing half looked at.
func TestDiagnosesAreFew(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var looks, at atomic.Int32
		look := func(ctx context.Context) Diagnosis {
			if at.Add(1) > 1 {
				t.Error("two look at once")
			}
			defer at.Add(-1)
			select {
			case <-time.After(time.Second):
			case <-ctx.Done():
			}
			return Diagnosis{OK: true, Checks: []Check{{Name: fmt.Sprint(looks.Add(1))}}}
		}
		d := diagnoses{turn: make(chan struct{}, 1)}
		gone, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		defer cancel()
		if _, err := d.get(gone, look); err == nil {
			t.Error("an answer to nobody")
		}
		ask := func(want string) {
			var all sync.WaitGroup
			for range 20 {
				all.Go(func() {
					if got, err := d.get(t.Context(), look); err != nil || got.Checks[0].Name != want {
						t.Errorf("%+v, %v; want look %s", got, err, want)
					}
				})
			}
			all.Wait()
		}
		ask("2")
		time.Sleep(diagnosisFresh - 2*time.Second)
		ask("2")
		time.Sleep(2 * time.Second)
		ask("3")
	})
}
