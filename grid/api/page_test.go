package api

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/talka-grid/talka/grid"
	"github.com/talka-grid/talka/workunits"
)

// browser is what a browser sends: to where, and by which session.
type browser struct {
	t      *testing.T
	addr   string
	cookie *http.Cookie
	key    string
}

// openPage has a link made and comes to it, not yet signed in.
func openPage(t *testing.T, c *Client) (b *browser, code string) {
	t.Helper()
	link, err := c.OpenPage(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	u, err := url.Parse(link)
	if err != nil {
		t.Fatal(err)
	}
	code, ok := strings.CutPrefix(u.Fragment, "code=")
	if !ok || u.Hostname() != "127.0.0.1" {
		t.Fatalf("link %q", link)
	}
	return &browser{t: t, addr: u.Host}, code
}

// signIn is openPage, signed in.
func signIn(t *testing.T, c *Client) *browser {
	t.Helper()
	b, code := openPage(t, c)
	if status := b.enter(code); status != http.StatusOK {
		t.Fatalf("status %d", status)
	}
	return b
}

func (b *browser) enter(code string) (status int) {
	resp := b.send("POST", "/v1/session", `{"code":"`+code+`"}`, nil)
	if resp.StatusCode == http.StatusOK {
		var in struct{ Key string }
		if err := json.Unmarshal(resp.body, &in); err != nil || len(resp.Cookies()) != 1 {
			b.t.Fatalf("%s, %v, cookies %v", resp.body, err, resp.Cookies())
		}
		b.cookie, b.key = resp.Cookies()[0], in.Key
	}
	return resp.StatusCode
}

// reply is a response that has been read.
type reply struct {
	*http.Response
	body []byte
}

// send sends as a page of the node's own would, but for the headers given; an
// empty one is left out.
func (b *browser) send(method, route, body string, header map[string]string) reply {
	b.t.Helper()
	r, err := http.NewRequestWithContext(b.t.Context(), method, "http://"+b.addr+route, strings.NewReader(body))
	if err != nil {
		b.t.Fatal(err)
	}
	r.Header.Set("Sec-Fetch-Site", "same-origin")
	r.Header.Set("Origin", "http://"+b.addr)
	r.Header.Set(keyHeader, b.key)
	if b.cookie != nil {
		r.AddCookie(b.cookie)
	}
	for k, v := range header {
		r.Header.Set(k, v)
		if v == "" {
			r.Header.Del(k)
		}
	}
	if host := header["Host"]; host != "" {
		r.Host = host
	}
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	resp, err := client.Do(r)
	if err != nil {
		b.t.Fatal(err)
	}
	defer resp.Body.Close()
	got, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	if err != nil {
		b.t.Fatal(err)
	}
	return reply{resp, got}
}

func (b *browser) status() int {
	b.t.Helper()
	return b.send("GET", "/v1/status", "", nil).StatusCode
}

// Every way in which a browser may be abused against its own node.
func TestPageGuard(t *testing.T) {
	t.Parallel()
	c, _, _ := serve(t, newMemNode())
	b := signIn(t, c)
	stranger := &browser{t: t, addr: b.addr}
	other := signIn(t, c)
	halves := &browser{t: t, addr: b.addr, cookie: b.cookie, key: other.key}
	stolen := &browser{t: t, addr: b.addr, cookie: b.cookie} // by a server on another port
	injected := &browser{t: t, addr: b.addr, key: b.key}     // by a script that reads storage
	_, port, _ := net.SplitHostPort(b.addr)
	for name, a := range map[string]struct {
		by                  *browser
		method, route, body string
		header              map[string]string
		status              int
	}{
		"owner":                    {b, "GET", "/v1/status", "", nil, 200},
		"owner, without metadata":  {b, "GET", "/v1/status", "", map[string]string{"Sec-Fetch-Site": "", "Origin": ""}, 200},
		"through a tunnel":         {b, "GET", "/v1/status", "", map[string]string{"Host": "localhost:9999", "Origin": "http://localhost:9999"}, 200},
		"not signed in":            {stranger, "GET", "/v1/status", "", nil, 401},
		"not signed in, spec":      {stranger, "GET", "/openapi.json", "", nil, 401},
		"not signed in, unknown":   {stranger, "GET", "/v1/nothing", "", nil, 401},
		"wrong code":               {stranger, "POST", "/v1/session", `{"code":"x"}`, nil, 403},
		"cookie of another port":   {stolen, "GET", "/v1/status", "", nil, 401},
		"key without cookie":       {injected, "GET", "/v1/status", "", nil, 401},
		"halves of two sessions":   {halves, "GET", "/v1/status", "", nil, 401},
		"rebound name":             {b, "GET", "/v1/status", "", map[string]string{"Host": "evil.example:" + port}, 421},
		"rebound name, own origin": {b, "POST", "/v1/resume", "", map[string]string{"Host": "evil.example:" + port, "Origin": "http://evil.example:" + port}, 421},
		"rebound name, files":      {b, "GET", "/", "", map[string]string{"Host": "evil.example"}, 421},
		"name of the socket":       {b, "GET", "/v1/status", "", map[string]string{"Host": clientHost}, 421},
		"name that begins well":    {b, "GET", "/v1/status", "", map[string]string{"Host": "127.0.0.1.evil.example"}, 421},
		"cross-site post":          {b, "POST", "/v1/pause", `{"seconds":1}`, map[string]string{"Sec-Fetch-Site": "cross-site", "Origin": "http://evil.example"}, 403},
		"cross-site post, old":     {b, "POST", "/v1/pause", `{"seconds":1}`, map[string]string{"Sec-Fetch-Site": "", "Origin": "http://evil.example"}, 403},
		"cross-site get":           {b, "GET", "/v1/status", "", map[string]string{"Sec-Fetch-Site": "cross-site", "Origin": ""}, 403},
		"other port, get":          {b, "GET", "/v1/events", "", map[string]string{"Sec-Fetch-Site": "same-site", "Origin": ""}, 403},
		"other port, websocket":    {b, "GET", "/v1/events", "", map[string]string{"Sec-Fetch-Site": "same-site", "Origin": "http://127.0.0.1:1", "Connection": "Upgrade", "Upgrade": "websocket"}, 403},
		"typed address":            {b, "GET", "/v1/status", "", map[string]string{"Sec-Fetch-Site": "none", "Origin": ""}, 403},
		"cross-site sign in":       {stranger, "POST", "/v1/session", `{"code":"x"}`, map[string]string{"Sec-Fetch-Site": "cross-site"}, 403},
		"form":                     {b, "POST", "/v1/pause", "seconds=1", map[string]string{"Content-Type": "application/x-www-form-urlencoded"}, 415},
		"read local files":         {b, "POST", "/v1/data/add", `{"path":"/etc/passwd"}`, nil, 403},
		"write local files":        {b, "POST", "/v1/data/get", `{"cid":"x","dest":"/tmp/x","timeout":1}`, nil, 403},
		"let others in":            {b, "POST", "/v1/page", "", nil, 403},
		"path trick":               {stranger, "GET", "/assets/../v1/status", "", nil, 404},
		"path trick, encoded":      {stranger, "GET", "/assets/%2e%2e/v1/status", "", nil, 404},
		"path trick, two slashes":  {stranger, "GET", "//v1/status", "", nil, 404},
		"path trick, out":          {stranger, "GET", "/../../page.go", "", nil, 404},
		"hostile content":          {b, "GET", "/ipfs/bafkqaaa", "", nil, 404},
		"folder":                   {stranger, "GET", "/assets", "", nil, 404},
		"post to a file":           {stranger, "POST", "/index.html", "", nil, 404},
		"large body":               {b, "POST", "/v1/jobs", strings.Repeat(" ", maxBody+1), nil, 413},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			by := *a.by
			by.t = t
			resp := by.send(a.method, a.route, a.body, a.header)
			if resp.StatusCode != a.status {
				t.Errorf("status %d, want %d: %s", resp.StatusCode, a.status, resp.body)
			}
			if resp.Header.Get("Access-Control-Allow-Origin") != "" || resp.Header.Get("X-Content-Type-Options") != "nosniff" ||
				resp.Header.Get("Cross-Origin-Resource-Policy") != "same-origin" {
				t.Errorf("headers %v", resp.Header)
			}
			var p huma.ErrorModel
			if resp.StatusCode >= 400 && (json.Unmarshal(resp.body, &p) != nil || p.Status != a.status) {
				t.Errorf("no problem document: %s", resp.body)
			}
		})
	}
}

func TestPageFiles(t *testing.T) {
	t.Parallel()
	c, _, _ := serve(t, newMemNode())
	b, _ := openPage(t, c)
	resp := b.send("GET", "/", "", map[string]string{"Sec-Fetch-Site": "none", "Origin": ""})
	policy := resp.Header.Get("Content-Security-Policy")
	if resp.StatusCode != http.StatusOK || !bytes.Contains(resp.body, []byte("<title>Talka</title>")) || resp.Header.Get("Content-Type") != "text/html; charset=utf-8" {
		t.Errorf("status %d, headers %v", resp.StatusCode, resp.Header)
	}
	if !strings.Contains(policy, "default-src 'none'") || strings.Contains(policy, "unsafe") {
		t.Errorf("policy %q", policy)
	}
	if bytes.Contains(resp.body, []byte("style=")) || bytes.Contains(resp.body, []byte("<script>")) {
		t.Errorf("inline code: %s", resp.body)
	}
	var packed bytes.Buffer
	z := gzip.NewWriter(&packed)
	if err := fs.WalkDir(dist, ".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		file, err := fs.ReadFile(dist, path)
		if err == nil {
			_, err = z.Write(file)
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil || packed.Len() > 100<<10 {
		t.Errorf("the page has %d bytes compressed, want at most 100 KiB (%v)", packed.Len(), err)
	}
}

func TestSignIn(t *testing.T) {
	t.Parallel()
	c, dir, stop := serve(t, newMemNode())
	b := signIn(t, c)
	if got := b.status(); got != http.StatusOK {
		t.Fatalf("signed in: status %d", got)
	}
	if k := b.cookie; !k.HttpOnly || k.SameSite != http.SameSiteStrictMode || k.Path != "/" || k.Domain != "" {
		t.Errorf("cookie %v", k)
	}
	info, err := os.Stat(filepath.Join(dir, pageFile))
	if err != nil || info.Mode() != 0o600 {
		t.Fatalf("%v, %v", info, err)
	}
	kept, err := os.ReadFile(filepath.Join(dir, pageFile))
	if err != nil || bytes.Contains(kept, []byte(b.cookie.Value)) || bytes.Contains(kept, []byte(b.key)) {
		t.Errorf("secrets are kept: %s, %v", kept, err)
	}
	stop()

	// A restart brings the page back at its port, for those who are signed in.
	c, stopAgain := serveIn(t, dir, newMemNode())
	if got := b.status(); got != http.StatusOK {
		t.Errorf("after a restart: status %d", got)
	}
	other := signIn(t, c)
	if resp := b.send("POST", "/v1/session/end", "", nil); resp.StatusCode != http.StatusOK {
		t.Errorf("sign out: %s", resp.body)
	}
	if got := b.status(); got != http.StatusUnauthorized {
		t.Errorf("signed out: status %d", got)
	}
	if got := other.status(); got != http.StatusOK {
		t.Errorf("the other browser: status %d", got)
	}
	other.send("POST", "/v1/session/end", "", nil)
	stopAgain()

	// With nobody signed in there is no port.
	_, _ = serveIn(t, dir, newMemNode())
	var d net.Dialer
	if conn, err := d.DialContext(t.Context(), "tcp", b.addr); err == nil {
		_ = conn.Close()
		t.Error("the port is open for nobody")
	}
}

// A code that comes a second time was stolen: neither the thief stays nor the
// one whom it robbed.
func TestStolenCode(t *testing.T) {
	t.Parallel()
	c, _, _ := serve(t, newMemNode())
	bystander := signIn(t, c)
	thief, code := openPage(t, c)
	victim := &browser{t: t, addr: thief.addr}
	if got := thief.enter(code); got != http.StatusOK {
		t.Fatalf("status %d", got)
	}
	if got := victim.enter(code); got != http.StatusForbidden {
		t.Errorf("used code: status %d", got)
	}
	if got := thief.status(); got != http.StatusUnauthorized {
		t.Errorf("the thief: status %d", got)
	}
	if got := bystander.status(); got != http.StatusOK {
		t.Errorf("another browser: status %d", got)
	}
}

func TestSessionsEnd(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		s, err := openSessions(dir, time.Now)
		if err != nil {
			t.Fatal(err)
		}
		late := s.mint()
		time.Sleep(codeTime)
		if _, _, err := s.exchange(late); err == nil {
			t.Error("a code of a minute ago is good")
		}
		guessed := s.mint()
		for range maxGuesses {
			if _, _, err := s.exchange("wrong"); err == nil {
				t.Fatal("a guess is good")
			}
		}
		if _, _, err := s.exchange(guessed); err == nil {
			t.Error("a code outlives many guesses")
		}
		cookie, key, err := s.exchange(s.mint())
		if err != nil || !s.known(cookie, key) {
			t.Fatalf("no session: %v", err)
		}
		for range maxSessions {
			if _, _, err := s.exchange(s.mint()); err != nil {
				t.Fatal(err)
			}
		}
		if s.known(cookie, key) {
			t.Error("sessions have no end in number")
		}
		cookie, key, err = s.exchange(s.mint())
		time.Sleep(sessionTime)
		if err != nil || s.known(cookie, key) {
			t.Errorf("a session of %v ago is good (%v)", sessionTime, err)
		}
	})
}

// What volunteers wrote reaches a browser as bytes that do nothing.
func TestHostileFiles(t *testing.T) {
	t.Parallel()
	node := newMemNode()
	c, _, _ := serve(t, node)
	id := submit(t, c)
	script := []byte("<script>alert(1)</script>")
	node.accept(id, grid.UnitResult{Unit: 1, Outcome: workunits.Outcome{
		How: workunits.Exited, Out: workunits.OutFile{Size: 3, Data: []byte("out")},
		Files: []workunits.OutFile{
			{Path: "a.png", Size: 12, Data: []byte("\x89PNG\r\n\x1a\nrest")},
			{Path: "b.png", Size: uint64(len(script)), Data: script},
			{Path: "c.svg", Size: 5, Data: []byte("<svg>")},
			{Path: "huge", Size: maxFile + 1},
		},
	}})
	b := signIn(t, c)
	for path, want := range map[string]struct {
		status int
		kind   string
	}{
		"":           {200, "application/octet-stream"},
		"a.png":      {200, "image/png"},
		"b.png":      {200, "application/octet-stream"},
		"c.svg":      {200, "application/octet-stream"},
		"huge":       {413, "application/problem+json"},
		"../a.png":   {404, "application/problem+json"},
		"/etc/hosts": {404, "application/problem+json"},
	} {
		resp := b.send("GET", "/v1/jobs/"+id.String()+"/units/1/file?path="+url.QueryEscape(path), "", nil)
		if got := resp.Header.Get("Content-Type"); resp.StatusCode != want.status || got != want.kind {
			t.Errorf("%q: status %d, type %q, want %v: %s", path, resp.StatusCode, got, want, resp.body)
		}
		if resp.StatusCode == http.StatusOK && (resp.Header.Get("Content-Security-Policy") != filePolicy || resp.Header.Get("Content-Disposition") != "attachment") {
			t.Errorf("%q: headers %v", path, resp.Header)
		}
	}
	for route, want := range map[string]int{"/units": 200, "/units?count=4097": 422, "/units/1/result": 200, "/units/2/result": 200, "/units/3/result": 404, "/units/2/file": 404} {
		if resp := b.send("GET", "/v1/jobs/"+id.String()+route, "", nil); resp.StatusCode != want {
			t.Errorf("%s: status %d, want %d: %s", route, resp.StatusCode, want, resp.body)
		}
	}
}

func TestSettings(t *testing.T) {
	t.Parallel()
	c, _, _ := serve(t, newMemNode())
	b := signIn(t, c)
	for _, step := range []struct {
		body   string
		status int
		want   string
	}{
		{`{"key":"cpu_percent","value":"50"}`, 200, `"key":"cpu_percent","value":"50","source":"override.toml"`},
		{`{"key":"cpu_percent","value":"500"}`, 400, "from 1 to 100"},
		{`{"key":"cpu_precent","value":"50"}`, 400, "cpu_percent"},
		{`{"key":"cpu_percent"}`, 200, `"key":"cpu_percent","value":"100","source":"preset quiet"`},
	} {
		resp := b.send("POST", "/v1/settings", step.body, nil)
		if resp.StatusCode != step.status || !strings.Contains(string(resp.body), step.want) {
			t.Errorf("%s: status %d: %s", step.body, resp.StatusCode, resp.body)
		}
	}
}

// Listeners that the page opens end with the server.
func TestPageEndsWithServer(t *testing.T) {
	t.Parallel()
	c, _, stop := serve(t, newMemNode())
	b := signIn(t, c)
	stop()
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	var d net.Dialer
	if conn, err := d.DialContext(ctx, "tcp", b.addr); err == nil {
		_ = conn.Close()
		t.Error("the page outlives its node")
	}
}
