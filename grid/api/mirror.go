package api

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/danielgtaylor/huma/v2"

	"github.com/talka-grid/talka/grid/machines"
	"github.com/talka-grid/talka/workunits"
)

// Operations that paired machines may ask for are mirrored: each is registered twice, as
// itself and, below /v1/machines/{machine}, as the same at another machine. For that
// the caller needs scopeMachines beside the operation's scope: tokens are for one node.
// What this node may do at the other is the other's to say.

// maxMirrored is the most bytes of an answer to a paired machine.
const maxMirrored = 256 << 10

// machineScope is what a paired machine may do here; of operations that are mirrored.
func machineScope(r machines.Role) Scope {
	switch r {
	case machines.RoleRead:
		return ScopeRead
	case machines.RoleControl:
		return ScopeRead | ScopeControl | ScopeSettings
	}
	return 0
}

type machinePath struct {
	Machine workunits.NodeID `path:"machine" doc:"Id of a paired machine"`
}

type machineRequest[B any] struct {
	Machine workunits.NodeID `path:"machine" doc:"Id of a paired machine"`
	Body    B
}

// mirrored is an operation that paired machines may ask for.
type mirrored struct {
	id, method, name string // the route is /v1/name
	scope            Scope
	summary          string
}

// op is the operation; at is empty or where the machine stands in the route.
func (s *Server) op(o mirrored, at string) huma.Operation {
	if at == "" {
		s.mirrored[o.method+" /v1/"+o.name] = true
		return op(o.id, o.method, "/v1/"+o.name, o.scope, o.summary)
	}
	return op(o.id+"-machine", o.method, "/v1/machines/{machine}/"+o.name, scopeMachines|o.scope, o.summary+", at a paired machine")
}

const atMachine = "/{machine}"

// mirror registers a mirrored operation without a body. Tidy puts right what an answer
// may lack; one of another machine may lack anything.
func mirror[O any](s *Server, h huma.API, o mirrored, tidy func(O) O, f func(context.Context) (O, error)) {
	register(h, s.op(o, ""), func(ctx context.Context, _ *none) (O, error) {
		out, err := f(ctx)
		return tidy(out), err
	})
	register(h, s.op(o, atMachine), func(ctx context.Context, in *machinePath) (O, error) {
		out, err := ask[O](ctx, s, in.Machine, o.method, o.name, nil)
		return tidy(out), err
	})
}

// mirrorBody is mirror for an operation with a body.
func mirrorBody[B, O any](s *Server, h huma.API, o mirrored, tidy func(O) O, f func(context.Context, B) (O, error)) {
	register(h, s.op(o, ""), func(ctx context.Context, in *request[B]) (O, error) {
		out, err := f(ctx, in.Body)
		return tidy(out), err
	})
	register(h, s.op(o, atMachine), func(ctx context.Context, in *machineRequest[B]) (O, error) {
		out, err := ask[O](ctx, s, in.Machine, o.method, o.name, in.Body)
		return tidy(out), err
	})
}

// ask sends a request to another machine and reads its answer, which is hostile: only
// what O has room for comes through.
func ask[O any](ctx context.Context, s *Server, id workunits.NodeID, method, name string, in any) (out O, err error) {
	r := machines.Request{Method: method, Path: "/v1/" + name}
	if in != nil {
		if r.Body, err = json.Marshal(in); err != nil {
			return out, err
		}
	}
	a, err := s.cfg.Machines.Ask(ctx, id, r)
	if err != nil {
		return out, err
	}
	if a.Status >= http.StatusBadRequest {
		return out, machineProblem(a.Body)
	}
	if err := json.Unmarshal(a.Body, &out); err != nil {
		var none O
		return none, &Error{KindError, "the machine answers what this version of Talka does not understand"}
	}
	return out, nil
}

// maxDetail bounds what is repeated of another machine's problem.
const maxDetail = 1 << 10

func machineProblem(body []byte) error {
	var p huma.ErrorModel
	if json.Unmarshal(body, &p) != nil {
		return &Error{KindError, "the machine refused, and says nothing about it"}
	}
	e := asError(&p)
	e.Detail = strings.ToValidUTF8(e.Detail[:min(len(e.Detail), maxDetail)], "?")
	return e
}

// Answer answers a paired machine. It knows mirrored operations only, and of those what
// the machine's role may.
func (s *Server) Answer(ctx context.Context, role machines.Role, r machines.Request) machines.Answer {
	w := &answerWriter{header: http.Header{}, status: http.StatusOK}
	if !s.mirrored[r.Method+" "+r.Path] {
		refuse(w, http.StatusForbidden, "paired machines may not do that")
		return w.answer()
	}
	ctx = context.WithValue(context.WithValue(ctx, ctxGranted, machineScope(role)), ctxMachine, true)
	req, err := http.NewRequestWithContext(ctx, r.Method, "http://"+clientHost+r.Path, bytes.NewReader(r.Body))
	if err != nil {
		writeProblem(w, problem(err))
		return w.answer()
	}
	if len(r.Body) > 0 {
		req.Header.Set("Content-Type", "application/json")
	}
	s.mux.ServeHTTP(w, req)
	return w.answer()
}

// byMachine reports whether a paired machine asks.
func byMachine(ctx context.Context) bool {
	yes, _ := ctx.Value(ctxMachine).(bool)
	return yes
}

// answerWriter keeps an answer, up to maxMirrored.
type answerWriter struct {
	header http.Header
	status int
	body   bytes.Buffer
	over   bool
}

func (w *answerWriter) Header() http.Header { return w.header }

func (w *answerWriter) WriteHeader(status int) { w.status = status }

func (w *answerWriter) Write(b []byte) (int, error) {
	if w.over = w.over || w.body.Len()+len(b) > maxMirrored; w.over {
		return 0, errors.New("the answer is too large for another machine")
	}
	return w.body.Write(b)
}

func (w *answerWriter) answer() machines.Answer {
	if w.over {
		w.over = false
		w.body.Reset()
		writeProblem(w, newProblem(KindTooLarge, http.StatusRequestEntityTooLarge, fmt.Sprintf("the answer has over %d KiB: look at it at the machine itself", maxMirrored>>10)))
	}
	return machines.Answer{Status: uint64(w.status), Body: w.body.Bytes()}
}
