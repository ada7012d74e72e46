package api

import (
	"bytes"
	"context"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/talka-grid/talka/grid/phrase"
)

// Health is how one of the things is that a diagnosis looks at.
type Health string

// The kinds of health.
const (
	Healthy Health = "ok"
	Warning Health = "warning" // the node works, but less well or less safely than it could
	Fault   Health = "fault"   // it does not work
)

// Check is one thing that was looked at. Detail and Remedy are sentences for people.
type Check struct {
	Name   string          `json:"name"`
	State  Health          `json:"state" enum:"ok,warning,fault"`
	Detail string          `json:"detail"`
	Remedy string          `json:"remedy,omitempty"`
	Said   []phrase.Phrase `json:"said" doc:"What detail is the English of, and remedy"`
}

// NewCheck is a check that came to what is said, with what to do about it if there is
// anything.
func NewCheck(name string, state Health, said phrase.Phrase, remedy ...phrase.Phrase) Check {
	return Check{Name: name, State: state, Detail: said.Text, Remedy: phrase.Text(remedy), Said: append([]phrase.Phrase{said}, remedy...)}
}

// Diagnosis is what was found wrong with the node and its machine, or right.
type Diagnosis struct {
	OK     bool      `json:"ok"` // there is no fault
	Time   time.Time `json:"time"`
	Checks []Check   `json:"checks"`
}

// LogTail is the end of the node's log, oldest line first, as its settings have it.
type LogTail struct {
	Lines []string `json:"lines"`
}

const (
	diagnosisFresh = 30 * time.Second // until it is made anew: it executes units
	maxLogLines    = 200
	maxLogLine     = 1024 // bytes
)

// Recent keeps the last lines of a log. Each Write is a line, as those of slog's
// handlers are; long ones are cut. It is safe for concurrent use, and its zero value
// is ready.
type Recent struct {
	mu    sync.Mutex
	lines []string
}

// Write implements io.Writer; it never fails.
func (r *Recent) Write(b []byte) (int, error) {
	line := string(bytes.TrimRight(b[:min(len(b), maxLogLine)], "\n"))
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.lines) == maxLogLines {
		r.lines = slices.Delete(r.lines, 0, 1)
	}
	r.lines = append(r.lines, strings.ToValidUTF8(line, "?"))
	return len(b), nil
}

// Lines are the last 200 lines, oldest first.
func (r *Recent) Lines() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.lines)
}

// diagnoses keeps the last diagnosis: whoever may read may ask, and one takes a second
// of a processor.
type diagnoses struct {
	turn chan struct{} // holds one while somebody looks
	last Diagnosis     // of whose turn it is
}

func (d *diagnoses) get(ctx context.Context, diagnose func(context.Context) Diagnosis) (Diagnosis, error) {
	select {
	case d.turn <- struct{}{}:
	case <-ctx.Done():
		return Diagnosis{}, context.Cause(ctx)
	}
	defer func() { <-d.turn }()
	if now := time.Now(); d.last.Time.IsZero() || now.Sub(d.last.Time) >= diagnosisFresh {
		found := diagnose(ctx)
		if ctx.Err() != nil { // it says little of the node
			return Diagnosis{}, context.Cause(ctx)
		}
		found.Checks = notNull(found.Checks)
		found.Time = time.Now()
		d.last = found
	}
	return d.last, nil
}

func (s *Server) diagnosisRoutes(h huma.API) {
	get(h, "doctor", "/v1/doctor", ScopeRead, "What is wrong with the node or its machine, looked for twice a minute at most", func(ctx context.Context, _ *none) (Diagnosis, error) {
		return s.found.get(ctx, s.cfg.Doctor)
	})
	get(h, "log", "/v1/log", ScopeRead, "The last lines of the node's log", func(context.Context, *none) (LogTail, error) {
		return LogTail{notNull(s.cfg.Recent.Lines())}, nil
	})
}

// Log tells the last lines of the node's log, oldest first.
func (c *Client) Log(ctx context.Context) (l LogTail, err error) {
	return l, c.call(ctx, http.MethodGet, "/v1/log", nil, &l)
}
