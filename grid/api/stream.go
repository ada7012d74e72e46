package api

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"reflect"
	"sync"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"
)

const (
	linesType     = "application/x-ndjson"
	eventsType    = "text/event-stream"
	progressEvery = 100 * time.Millisecond
)

// Line is one line of a stream. Exactly one field is set; the last line is an
// end or a problem.
type Line[R any] struct {
	Progress *Progress        `json:"progress,omitempty"`
	Result   *R               `json:"result,omitempty"`
	Problem  *huma.ErrorModel `json:"problem,omitempty"`
	End      bool             `json:"end,omitempty"`
}

// Progress says how far an operation is: in bytes, or in a sentence.
type Progress struct {
	Done  int64  `json:"done"`
	Total int64  `json:"total" doc:"0 while it is not known"`
	Text  string `json:"text,omitempty"`
}

// lines writes a stream. It is safe for concurrent use. A client may take its
// time between lines, as one does that fetches the files of each result.
type lines[R any] struct {
	ctx   huma.Context
	flush *http.ResponseController

	mu      sync.Mutex
	started bool
	last    time.Time // of the last bytes progress
	err     error
}

// send writes one line. After an error it does nothing but return it.
func (l *lines[R]) send(line Line[R]) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.err != nil {
		return l.err
	}
	if !l.started {
		l.started = true
		l.ctx.SetHeader("Content-Type", linesType)
		l.ctx.SetStatus(http.StatusOK)
	}
	if l.err = json.NewEncoder(l.ctx.BodyWriter()).Encode(line); l.err == nil {
		l.err = l.flush.Flush()
	}
	return l.err
}

func (l *lines[R]) result(r R) error { return l.send(Line[R]{Result: &r}) }

// bytes reports progress, a few times a second and at the end. A client that
// went away ends the operation through its context.
func (l *lines[R]) bytes(done, total int64) {
	now := time.Now()
	l.mu.Lock()
	skip := done != total && now.Sub(l.last) < progressEvery
	if !skip {
		l.last = now
	}
	l.mu.Unlock()
	if !skip {
		_ = l.send(Line[R]{Progress: &Progress{Done: done, Total: total}})
	}
}

func (l *lines[R]) text(s string) { _ = l.send(Line[R]{Progress: &Progress{Text: s}}) }

// stream registers an operation that answers with lines. Run sends what it has;
// its error becomes the last line, or the answer if there is no line yet.
func stream[I, R any](h huma.API, op huma.Operation, run func(ctx context.Context, in *I, out *lines[R]) error) {
	answersWith[Line[R]](h, &op, linesType, "JSON lines")
	huma.Register(h, op, func(_ context.Context, in *I) (*huma.StreamResponse, error) {
		return &huma.StreamResponse{Body: func(ctx huma.Context) {
			_, w := humago.Unwrap(ctx)
			out := &lines[R]{ctx: ctx, flush: http.NewResponseController(w)}
			err := run(ctx.Context(), in, out)
			switch {
			case err == nil:
				_ = out.send(Line[R]{End: true}) // the client is gone if this fails
			case out.started:
				_ = out.send(Line[R]{Problem: problem(err)})
			default:
				writeProblem(w, problem(err))
			}
		}}, nil
	})
}

// events registers an operation that answers with server-sent events. Run sends
// until ctx ends or send fails.
func events[I any](h huma.API, op huma.Operation, run func(ctx context.Context, in *I, send func(Event) error)) {
	answersWith[Event](h, &op, eventsType, "Server-sent events; the id of each is its seq")
	huma.Register(h, op, func(_ context.Context, in *I) (*huma.StreamResponse, error) {
		return &huma.StreamResponse{Body: func(ctx huma.Context) {
			_, w := humago.Unwrap(ctx)
			flush := http.NewResponseController(w)
			w.Header().Set("Content-Type", eventsType)
			w.WriteHeader(http.StatusOK)
			if flush.Flush() != nil {
				return // the client is gone
			}
			run(ctx.Context(), in, func(e Event) error {
				data, err := json.Marshal(e)
				if err != nil {
					return err
				}
				if _, err := fmt.Fprintf(w, "id: %d\ndata: %s\n\n", e.Seq, data); err != nil {
					return err
				}
				return flush.Flush()
			})
		}}, nil
	})
}

// answersWith describes the answer of a streaming operation, line by line.
func answersWith[T any](h huma.API, op *huma.Operation, contentType, description string) {
	t := reflect.TypeFor[T]()
	op.Responses = map[string]*huma.Response{"200": {
		Description: description,
		Content:     map[string]*huma.MediaType{contentType: {Schema: h.OpenAPI().Components.Schemas.Schema(t, true, t.Name())}},
	}}
}
