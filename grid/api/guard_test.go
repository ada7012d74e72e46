package api

import (
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"
	gocmp "github.com/google/go-cmp/cmp"
)

// sendRaw sends what a Client would not.
func sendRaw(t *testing.T, dir, method, route, body string, header map[string]string) *http.Response {
	t.Helper()
	c := &http.Client{Transport: &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) { return dial(ctx, dir) },
	}}
	t.Cleanup(c.CloseIdleConnections)
	r, err := http.NewRequestWithContext(t.Context(), method, "http://"+clientHost+route, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	for k, v := range header {
		r.Header.Set(k, v)
	}
	if host := header["Host"]; host != "" {
		r.Host = host
	}
	resp, err := c.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	return resp
}

func TestGuard(t *testing.T) {
	t.Parallel()
	_, dir, _ := serve(t, newMemNode())
	for name, c := range map[string]struct {
		method, route, body string
		header              map[string]string
		status              int
		kind                Kind // empty: no problem
	}{
		"owner":              {"GET", "/v1/status", "", nil, 200, ""},
		"localhost":          {"GET", "/v1/status", "", map[string]string{"Host": "localhost"}, 200, ""},
		"rebound name":       {"GET", "/v1/status", "", map[string]string{"Host": "evil.example"}, 421, KindRequest},
		"rebound name, spec": {"GET", "/openapi.json", "", map[string]string{"Host": "evil.example"}, 421, KindRequest},
		"cross-site post":    {"POST", "/v1/pause", `{"seconds":1}`, map[string]string{"Sec-Fetch-Site": "cross-site"}, 403, KindUnauthorised},
		"foreign origin":     {"POST", "/v1/resume", "", map[string]string{"Origin": "http://evil.example"}, 403, KindUnauthorised},
		"cross-site get":     {"GET", "/v1/status", "", map[string]string{"Sec-Fetch-Site": "cross-site"}, 401, KindUnauthorised},
		"browser, same site": {"GET", "/v1/events", "", map[string]string{"Sec-Fetch-Site": "same-origin"}, 401, KindUnauthorised},
		"large body":         {"POST", "/v1/jobs", strings.Repeat(" ", maxBody+1), nil, 413, KindTooLarge},
		"not JSON":           {"POST", "/v1/pause", `{"seconds":`, nil, 400, KindRequest},
		"wrong type":         {"POST", "/v1/pause", `{"seconds":"1"}`, nil, 422, KindRequest},
		"unknown field":      {"POST", "/v1/pause", `{"seconds":1,"minutes":2}`, nil, 422, KindRequest},
		"unknown parameter":  {"GET", "/v1/status?x=1", "", nil, 422, KindRequest},
		"unknown route":      {"GET", "/v1/nothing", "", nil, 404, KindNotFound},
		"wrong method":       {"DELETE", "/v1/status", "", nil, 404, KindNotFound},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			resp := sendRaw(t, dir, c.method, c.route, c.body, c.header)
			defer resp.Body.Close()
			body, err := io.ReadAll(resp.Body)
			if err != nil {
				t.Fatal(err)
			}
			if resp.StatusCode != c.status {
				t.Errorf("status %d, want %d: %s", resp.StatusCode, c.status, body)
			}
			if got := resp.Header.Get("Cache-Control"); got != "no-store" {
				t.Errorf("Cache-Control %q", got)
			}
			if c.kind == "" {
				return
			}
			var p huma.ErrorModel
			if err := json.Unmarshal(body, &p); err != nil || p.Type != kindPrefix+string(c.kind) || p.Status != c.status {
				t.Errorf("problem %s, want kind %q", body, c.kind)
			}
			if got := resp.Header.Get("Content-Type"); got != "application/problem+json" {
				t.Errorf("Content-Type %q", got)
			}
		})
	}
}

// A listener that nobody has given a way to authenticate lets nobody in.
func TestDeniesOtherListeners(t *testing.T) {
	t.Parallel()
	srv, err := New(newMemNode(), testConfig(t.TempDir()))
	if err != nil {
		t.Fatal(err)
	}
	for _, route := range []string{"/v1/status", "/openapi.json", "/nothing"} {
		w := httptest.NewRecorder()
		r := httptest.NewRequest(http.MethodGet, "http://"+clientHost+route, nil)
		srv.handler.ServeHTTP(w, r)
		if w.Code != http.StatusUnauthorized {
			t.Errorf("%s: status %d", route, w.Code)
		}
	}
}

func TestScope(t *testing.T) {
	t.Parallel()
	mux := http.NewServeMux()
	h := humago.New(mux, huma.DefaultConfig("scopes", "0"))
	h.UseMiddleware(authorise)
	ok := func(context.Context, *none) (string, error) { return "ok", nil }
	get(h, "read", "/read", ScopeRead, "", ok)
	get(h, "both", "/both", ScopeRead|ScopeFiles, "", ok)
	get(h, "forgotten", "/forgotten", 0, "", ok)
	for _, c := range []struct {
		route   string
		granted Scope
		status  int
	}{
		{"/read", ScopeRead, 200},
		{"/read", ScopeControl, 403},
		{"/read", 0, 403},
		{"/both", ScopeRead, 403},
		{"/both", scopeOwner, 200},
		{"/forgotten", scopeOwner, 403},
	} {
		w := httptest.NewRecorder()
		r := httptest.NewRequest(http.MethodGet, c.route, nil)
		mux.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), ctxGranted, c.granted)))
		if w.Code != c.status {
			t.Errorf("%s with scope %b: status %d, want %d", c.route, c.granted, w.Code, c.status)
		}
	}
}

// The routes and their scopes are part of what other programs rely on.
func TestOpenAPI(t *testing.T) {
	t.Parallel()
	c, _, _ := serve(t, newMemNode())
	raw, err := c.OpenAPI(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var doc struct {
		OpenAPI string
		Paths   map[string]map[string]struct{ OperationID string }
	}
	if err := json.Unmarshal(raw, &doc); err != nil {
		t.Fatal(err)
	}
	got := []string{"openapi " + doc.OpenAPI}
	for path, methods := range doc.Paths {
		for method, operation := range methods {
			got = append(got, strings.ToUpper(method)+" "+path+" "+operation.OperationID)
		}
	}
	slices.Sort(got)
	want, err := os.ReadFile("testdata/routes.txt")
	if err != nil {
		t.Fatal(err)
	}
	if diff := gocmp.Diff(string(want), strings.Join(got, "\n")+"\n"); diff != "" {
		t.Error(diff)
	}
}
