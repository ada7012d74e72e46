package api

import (
	"context"
	"crypto/ed25519"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"maps"
	"math/big"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/talka-grid/talka/configs"
)

// certificate writes one for talka.test, and returns who trusts it.
func certificate(t *testing.T) (cert, key string, trust *x509.CertPool) {
	t.Helper()
	public, private, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	c := &x509.Certificate{SerialNumber: big.NewInt(1), DNSNames: []string{"talka.test"}, NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true}
	der, err := x509.CreateCertificate(nil, c, c, public, private)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	cert, key = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	for name, block := range map[string]*pem.Block{cert: {Type: "CERTIFICATE", Bytes: der}, key: {Type: "PRIVATE KEY", Bytes: raw}} {
		if err := os.WriteFile(name, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	trust = x509.NewCertPool()
	trust.AppendCertsFromPEM(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
	return cert, key, trust
}

// TestReachOut: no address of other machines without TLS and a name, and none is
// opened while nobody could come in.
func TestReachOut(t *testing.T) {
	t.Parallel()
	cert, key, _ := certificate(t)
	_, other, _ := certificate(t)
	hosts := []string{"talka.test"}
	for name, bad := range map[string]configs.API{
		"plain":           {Listen: "0.0.0.0:0", Hosts: hosts},
		"plain, IPv6":     {Listen: "[::]:0", Hosts: hosts},
		"mapped":          {Listen: "[::ffff:192.0.2.7]:0", Hosts: hosts},
		"no name":         {Listen: "192.0.2.7:0", Certificate: cert, Key: key},
		"another key":     {Listen: "127.0.0.1:0", Certificate: cert, Key: other},
		"no such file":    {Listen: "127.0.0.1:0", Certificate: "nothing.pem", Key: key},
		"key as its file": {Listen: "127.0.0.1:0", Certificate: key, Key: key},
	} {
		cfg := testConfig(t.TempDir())
		cfg.Page = bad
		if _, err := New(newMemNode(), cfg); err == nil {
			t.Errorf("%s: a server is made", name)
		}
	}
	cfg := testConfig(t.TempDir())
	cfg.Page = configs.API{Listen: "192.0.2.7:1", Certificate: cert, Key: key, Hosts: hosts}
	srv, err := New(newMemNode(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	if err := srv.page.resume(t.Context()); err != nil || srv.page.addr != "" {
		t.Errorf("opened for nobody: %q, %v", srv.page.addr, err)
	}
}

// TestTLS comes to a page with a certificate in ways that are allowed, and in
// others.
func TestTLS(t *testing.T) {
	t.Parallel()
	cert, key, trust := certificate(t)
	cfg := testConfig(t.TempDir())
	cfg.Page = configs.API{Listen: "127.0.0.1:0", Certificate: cert, Key: key, Hosts: []string{"talka.test"}}
	c, _ := serveWith(t, cfg, newMemNode())
	token, err := c.NewToken(t.Context(), "t", RoleRead, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	at, err := url.Parse(token.URL)
	if err != nil || at.Scheme != "https" || at.Hostname() != "talka.test" {
		t.Fatalf("%s, %v", token.URL, err)
	}
	send := func(scheme, host string, config *tls.Config, method, route, body string) (status int, cookies []*http.Cookie, err error) {
		tr := &http.Transport{TLSClientConfig: config, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "tcp", "127.0.0.1:"+at.Port())
		}}
		t.Cleanup(tr.CloseIdleConnections)
		r, err := http.NewRequestWithContext(t.Context(), method, scheme+"://talka.test:"+at.Port()+route, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		r.Host = host
		r.Header.Set("Content-Type", "application/json")
		if method == http.MethodGet {
			r.Header.Set("Authorization", "Bearer "+token.Text)
		}
		resp, err := tr.RoundTrip(r)
		if err != nil {
			return 0, nil, err
		}
		return resp.StatusCode, resp.Cookies(), resp.Body.Close()
	}
	good := &tls.Config{RootCAs: trust, MinVersion: tls.VersionTLS13}
	for name, a := range map[string]struct {
		scheme, host string
		config       *tls.Config
		status       int // 0: no answer
	}{
		"good":           {"https", "talka.test", good, 200},
		"with its port":  {"https", "talka.test:" + at.Port(), good, 200},
		"a rebound name": {"https", "evil.example", good, 421},
		"a longer name":  {"https", "talka.test.evil.example", good, 421},
		"plain":          {"http", "talka.test", nil, 400},
		"old TLS":        {"https", "talka.test", &tls.Config{RootCAs: trust, MaxVersion: tls.VersionTLS12}, 0},
		"who trusts not": {"https", "talka.test", &tls.Config{MinVersion: tls.VersionTLS13}, 0},
	} {
		if status, _, err := send(a.scheme, a.host, a.config, http.MethodGet, "/v1/status", ""); status != a.status {
			t.Errorf("%s: status %d, %v; want %d", name, status, err, a.status)
		}
	}
	link, err := c.OpenPage(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	_, code, _ := strings.Cut(link, "#code=")
	body, err := json.Marshal(map[string]string{"code": code})
	if err != nil {
		t.Fatal(err)
	}
	status, cookies, err := send("https", "talka.test", good, http.MethodPost, "/v1/session", string(body))
	if err != nil || status != http.StatusOK || len(cookies) != 1 || !cookies[0].Secure || !cookies[0].HttpOnly {
		t.Errorf("status %d, cookies %v, %v", status, cookies, err)
	}
}

// TestBehindAProxy comes through a proxy of the owner's to the loopback, under a name
// of api.hosts: what a proxy says of whom it forwards for lets nobody in.
func TestBehindAProxy(t *testing.T) {
	t.Parallel()
	cfg := testConfig(t.TempDir())
	cfg.Page = configs.API{Listen: "127.0.0.1:0", Hosts: []string{"talka.test"}}
	c, _ := serveWith(t, cfg, newMemNode())
	b := signIn(t, c)
	stranger := &browser{t: t, addr: b.addr}
	own := map[string]string{"Host": "talka.test", "Origin": "https://talka.test"}
	with := func(more ...string) map[string]string {
		h := maps.Clone(own)
		for i := 0; i < len(more); i += 2 {
			h[more[i]] = more[i+1]
		}
		return h
	}
	for name, a := range map[string]struct {
		by     *browser
		header map[string]string
		status int
	}{
		"the owner":              {b, own, 200},
		"a stranger":             {stranger, own, 401},
		"forwarded for loopback": {stranger, with("X-Forwarded-For", "127.0.0.1", "Forwarded", "for=127.0.0.1;host=localhost", "X-Real-IP", "127.0.0.1"), 401},
		"forwarded as the owner": {stranger, with("X-Forwarded-User", "root", "X-Remote-User", "root", "Authorization", ""), 401},
		"another name":           {b, with("Host", "evil.example", "X-Forwarded-Host", "talka.test"), 421},
		"another site":           {b, with("Sec-Fetch-Site", "cross-site", "Origin", "https://evil.example", "X-Forwarded-Host", "evil.example"), 403},
	} {
		if got := a.by.send(http.MethodPost, "/v1/resume", "", a.header).StatusCode; got != a.status {
			t.Errorf("%s: status %d, want %d", name, got, a.status)
		}
	}
}
