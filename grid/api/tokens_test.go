package api

import (
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/talka-grid/talka/workunits"
)

// program is what another program sends to the page's port.
func program(t *testing.T, url, token, method, route string, header map[string]string) int {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, url+route, strings.NewReader(`{}`))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/json")
	if token != "" {
		r.Header.Set("Authorization", token)
	}
	for k, v := range header {
		if k == "Host" {
			r.Host = v
		}
		r.Header.Set(k, v)
	}
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	if err := resp.Body.Close(); err != nil {
		t.Error(err)
	}
	return resp.StatusCode
}

// TestRoles tries what every role may and may not do: what is not granted is
// refused, before anything of the request is looked at.
func TestRoles(t *testing.T) {
	t.Parallel()
	c, dir, _ := serve(t, newMemNode())
	const may, not = true, false
	routes := []struct {
		method, route                 string
		read, control, publish, admin bool
	}{
		{"GET", "/v1/status", may, may, may, may},
		{"POST", "/v1/resume", not, may, not, may},
		{"POST", "/v1/finish", not, may, not, may},
		{"POST", "/v1/projects", not, not, may, may},
		{"POST", "/v1/jobs", not, not, may, may},
		{"POST", "/v1/settings", not, not, not, may},
		{"POST", "/v1/data/add", not, not, not, not},
		{"POST", "/v1/data/get", not, not, not, not},
		{"POST", "/v1/page", not, not, not, not},
		{"GET", "/v1/tokens", not, not, not, not},
		{"POST", "/v1/tokens", not, not, not, not},
		{"POST", "/v1/tokens/read/revoke", not, not, not, not},
		{"GET", "/v1/machines", not, not, not, not},
		{"POST", "/v1/machines/offer", not, not, not, not},
		{"POST", "/v1/machines/pair", not, not, not, not},
		{"POST", "/v1/machines/leave", not, not, not, not},
		{"POST", "/v1/machines/introduce", not, not, not, not},
		{"GET", "/v1/machines/" + workunits.NodeID{2}.String() + "/status", not, not, not, not},
		{"POST", "/v1/machines/" + workunits.NodeID{2}.String() + "/resume", not, not, not, not},
		{"POST", "/v1/machines/" + workunits.NodeID{2}.String() + "/remove", not, not, not, not},
		{"POST", "/v1/session", not, not, not, not},
	}
	for _, role := range Roles() {
		n, err := c.NewToken(t.Context(), string(role), role, time.Hour)
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range routes {
			allowed := map[Role]bool{RoleRead: r.read, RoleControl: r.control, RolePublish: r.publish, RoleAdmin: r.admin}[role]
			status := program(t, n.URL, "Bearer "+n.Text, r.method, r.route, nil)
			if refused := status == http.StatusForbidden || status == http.StatusUnauthorized; refused == allowed {
				t.Errorf("%s: %s %s: status %d", role, r.method, r.route, status)
			}
		}
	}
	list, err := c.Tokens(t.Context())
	if err != nil || len(list) != 4 || list[0].Name != "admin" || list[3].Role != RoleRead {
		t.Errorf("%+v, %v", list, err)
	}
	// The file of digests is the owner's alone and lets nobody in.
	path := filepath.Join(dir, tokensFile)
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info, err)
	}
	b, err := os.ReadFile(path)
	if err != nil || strings.Contains(string(b), tokenPrefix) {
		t.Errorf("%s, %v", b, err)
	}
}

// TestTokenAttacks comes with every token that is none, and with a good one from
// where it must not come.
func TestTokenAttacks(t *testing.T) {
	t.Parallel()
	c, dir, _ := serve(t, newMemNode())
	n, err := c.NewToken(t.Context(), "one", RoleAdmin, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	kept, err := os.ReadFile(filepath.Join(dir, tokensFile))
	if err != nil {
		t.Fatal(err)
	}
	_, sum, _ := strings.Cut(string(kept), `"sum":"`)
	for name, header := range map[string]string{
		"nothing": "", "empty": "Bearer ", "cut": "Bearer " + n.Text[:len(n.Text)-1], "longer": "Bearer " + n.Text + "A",
		"another case": "Bearer " + strings.ToUpper(n.Text), "the digest": "Bearer " + sum[:64], "no scheme": n.Text, "basic": "Basic " + n.Text,
		"two": "Bearer " + n.Text + ", Bearer " + n.Text, "prefix": "Bearer " + tokenPrefix, "huge": "Bearer " + strings.Repeat("A", 8000),
	} {
		if status := program(t, n.URL, header, "GET", "/v1/status", nil); status != http.StatusUnauthorized {
			t.Errorf("%s: status %d", name, status)
		}
	}
	good := "Bearer " + n.Text
	for name, a := range map[string]struct {
		method, route string
		header        map[string]string
		status        int
	}{
		"good":              {"GET", "/v1/status", nil, 200},
		"in the address":    {"GET", "/v1/status?token=" + n.Text, nil, 422},
		"a rebound name":    {"GET", "/v1/status", map[string]string{"Host": "evil.example"}, 421},
		"another site":      {"POST", "/v1/resume", map[string]string{"Sec-Fetch-Site": "cross-site"}, 403},
		"another origin":    {"POST", "/v1/resume", map[string]string{"Origin": "http://evil.example"}, 403},
		"a site's get":      {"GET", "/v1/status", map[string]string{"Sec-Fetch-Site": "same-site"}, 403},
		"a preflight":       {"OPTIONS", "/v1/status", map[string]string{"Origin": "http://evil.example", "Access-Control-Request-Headers": "authorization"}, 404},
		"a path around":     {"GET", "/v1/../v1/tokens", nil, 403},
		"the page's cookie": {"GET", "/v1/status", map[string]string{"Cookie": "talka-x=" + n.Text}, 200},
	} {
		if status := program(t, n.URL, good, a.method, a.route, a.header); status != a.status {
			t.Errorf("%s: status %d, want %d", name, status, a.status)
		}
	}
	// A browser that is signed in and shows a bad token is not signed in.
	b := signIn(t, c)
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+b.addr+"/v1/status", nil)
	if err != nil {
		t.Fatal(err)
	}
	r.AddCookie(b.cookie)
	r.Header.Set(keyHeader, b.key)
	r.Header.Set("Authorization", "Bearer nonsense")
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusUnauthorized {
		t.Errorf("with a bad token and a session: status %d", resp.StatusCode)
	}
	if err := c.RevokeToken(t.Context(), "one"); err != nil {
		t.Fatal(err)
	}
	if status := program(t, n.URL, good, "GET", "/v1/status", nil); status != http.StatusUnauthorized {
		t.Errorf("revoked: status %d", status)
	}
	wantKind(t, c.RevokeToken(t.Context(), "one"), KindNotFound)
}

// TestTokensExpire lets time pass over a token, a restart between.
func TestTokensExpire(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		s, err := openTokens(dir, time.Now)
		if err != nil {
			t.Fatal(err)
		}
		text, _, err := s.mint(Token{Name: "a", Role: RoleRead}, time.Hour)
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Hour - time.Nanosecond)
		if s, err = openTokens(dir, time.Now); err != nil || s.grants(text) != ScopeRead {
			t.Errorf("before its end: %v", err)
		}
		time.Sleep(time.Nanosecond)
		if again, err := openTokens(dir, time.Now); err != nil || again.grants(text) != 0 || s.grants(text) != 0 || len(s.list()) != 0 {
			t.Errorf("after its end: %v", err)
		}
	})
}

func TestBadTokens(t *testing.T) {
	t.Parallel()
	s, err := openTokens(t.TempDir(), time.Now)
	if err != nil {
		t.Fatal(err)
	}
	mint := func(name string, role Role, life time.Duration) error {
		_, _, err := s.mint(Token{Name: name, Role: role}, life)
		return err
	}
	for range 2 {
		for _, name := range []string{"", "a b", "a/b", "ü", "\x1b[2J", strings.Repeat("a", 65)} {
			wantKind(t, mint(name, RoleRead, time.Hour), KindRequest)
		}
		wantKind(t, mint("x", "owner", time.Hour), KindRequest)
		wantKind(t, mint("x", "", time.Hour), KindRequest)
		wantKind(t, mint("x", RoleRead, 0), KindRequest)
		wantKind(t, mint("x", RoleRead, 400*24*time.Hour), KindRequest)
	}
	for i := range maxTokens {
		if err := mint("t"+string(rune('A'+i%26))+strings.Repeat("a", i/26), RoleRead, time.Hour); err != nil {
			t.Fatal(err)
		}
	}
	wantKind(t, mint("tA", RoleRead, time.Hour), KindConflict)
	wantKind(t, mint("more", RoleRead, time.Hour), KindConflict)
}
