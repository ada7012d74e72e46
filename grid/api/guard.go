package api

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"
)

// Scope is a set of things that a caller may do.
type Scope uint8

// The scopes. ScopeFiles reaches files of the node's owner by their path.
const (
	ScopeRead     Scope = 1 << iota // see what the node does
	ScopeControl                    // pause it, join networks, trust projects
	ScopePublish                    // make projects and jobs
	ScopeFiles                      // read and write local files
	ScopeSettings                   // change settings
	scopeInvite                     // let browsers and programs in
	scopeEnter                      // come in as a browser
	scopeMachines                   // see the owner's other machines, pair and remove them

	scopeOwner = ScopeRead | ScopeControl | ScopePublish | ScopeFiles | ScopeSettings | scopeInvite | scopeMachines
	scopePage  = scopeEnter | ScopeRead | ScopeControl | ScopePublish | ScopeSettings | scopeMachines
)

// scopeKey finds an operation's Scope in its metadata.
const scopeKey = "scope"

const (
	maxBody     = 1 << 20 // bytes; a manifest has at most a quarter of that
	bodyTimeout = 10 * time.Second
)

type ctxKey int

const (
	ctxSocket  ctxKey = iota // true on connections of the unix socket
	ctxPage                  // true on connections of the page's port
	ctxGranted               // the caller's Scope
	ctxMachine               // true for what a paired machine asks
)

// guard is the way to h. Its steps are in the package comment.
func (p *page) guard(h http.Handler) http.Handler {
	h = p.granted(bounded(h))
	origin := http.NewCrossOriginProtection()
	origin.SetDenyHandler(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		refuse(w, http.StatusForbidden, "cross-origin request")
	}))
	h = p.allowedHost(origin.Handler(h))
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "no-store")
		w.Header().Set("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'")
		w.Header().Set("Cross-Origin-Resource-Policy", "same-origin")
		w.Header().Set("Referrer-Policy", "no-referrer")
		w.Header().Set("X-Content-Type-Options", "nosniff")
		h.ServeHTTP(w, r)
	})
}

// allowedHost stops requests that a browser was talked into by a foreign name
// that resolves to this machine (DNS rebinding). The port of the page's names is
// free, so that it can be reached through a tunnel.
func (p *page) allowedHost(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		name := r.Host
		if on(r, ctxPage) {
			if host, _, err := net.SplitHostPort(name); err == nil {
				name = host
			}
			name = strings.Trim(name, "[]")
		}
		switch {
		case on(r, ctxPage) && p.named(name):
		case !on(r, ctxPage) && (name == clientHost || name == "localhost"):
		default:
			writeProblem(w, newProblem(KindRequest, http.StatusMisdirectedRequest, "this is the local interface of a Talka node; use Host: "+clientHost))
			return
		}
		h.ServeHTTP(w, r)
	})
}

// granted authenticates. The unix socket's file mode lets in the owner alone;
// the page's port lets in browsers with a session, and programs with a token. Browsers never come by the
// socket, so what looks like one is refused there, whatever its method.
func (p *page) granted(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		site := r.Header.Get("Sec-Fetch-Site")
		var scope Scope
		switch {
		case on(r, ctxPage) && !isRoute(r.URL.Path):
			p.files.ServeHTTP(w, r)
			return
		case on(r, ctxPage) && site != "" && site != "same-origin":
			refuse(w, http.StatusForbidden, "cross-origin request")
			return
		case on(r, ctxPage):
			scope = p.grants(r)
		case on(r, ctxSocket) && r.Header.Get("Origin") == "" && site == "":
			scope = scopeOwner
		}
		if scope == 0 || scope == scopeEnter && r.URL.Path != enterRoute {
			refuse(w, http.StatusUnauthorized, "not authenticated: run `talka open`, make a token by `talka token new`, or use the node's unix socket")
			return
		}
		h.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), ctxGranted, scope)))
	})
}

// isRoute tells the routes of this interface from the page's files.
func isRoute(path string) bool { return strings.HasPrefix(path, "/v1/") || path == "/openapi.json" }

func on(r *http.Request, way ctxKey) bool {
	yes, _ := r.Context().Value(way).(bool)
	return yes
}

// bounded reads the whole body, in bounded time and space. Handlers that run for
// long must not inherit that deadline: net/http cancels their context by it.
func bounded(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		deadline := http.NewResponseController(w)
		if err := deadline.SetReadDeadline(time.Now().Add(bodyTimeout)); err != nil {
			writeProblem(w, problem(err))
			return
		}
		body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
		var large *http.MaxBytesError
		switch {
		case errors.As(err, &large):
			writeProblem(w, newProblem(KindTooLarge, http.StatusRequestEntityTooLarge, "request body over 1 MiB"))
			return
		case err != nil:
			writeProblem(w, newProblem(KindRequest, http.StatusBadRequest, "reading the request: "+err.Error()))
			return
		}
		if err := deadline.SetReadDeadline(time.Time{}); err != nil {
			writeProblem(w, problem(err))
			return
		}
		r.Body = io.NopCloser(bytes.NewReader(body))
		h.ServeHTTP(w, r)
	})
}

// authorise compares the operation's scope with the caller's.
func authorise(ctx huma.Context, next func(huma.Context)) {
	has, _ := ctx.Context().Value(ctxGranted).(Scope)
	needs, ok := ctx.Operation().Metadata[scopeKey].(Scope)
	if !ok || needs == 0 || has&needs != needs {
		ctx.SetHeader("Content-Type", "application/problem+json")
		ctx.SetStatus(http.StatusForbidden)
		// The client is gone if this fails.
		_ = json.NewEncoder(ctx.BodyWriter()).Encode(newProblem(KindUnauthorised, http.StatusForbidden, "this caller may not do that"))
		return
	}
	next(ctx)
}

func refuse(w http.ResponseWriter, status int, detail string) {
	writeProblem(w, newProblem(KindUnauthorised, status, detail))
}

func writeProblem(w http.ResponseWriter, p *huma.ErrorModel) {
	w.Header().Set("Content-Type", "application/problem+json")
	w.WriteHeader(p.Status)
	_ = json.NewEncoder(w).Encode(p) // the client is gone if this fails
}
