package api

import (
	"context"
	"crypto/tls"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"mime"
	"net"
	"net/http"
	"net/netip"
	"path"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/talka-grid/talka/configs"
)

// What `make ui` made of the sources beside it.
//
//go:embed ui/dist
var dist embed.FS

// keyHeader carries the second secret of a session, see keptSession.
const keyHeader = "Talka-Key"

// enterRoute is the only one that a browser without a session may use.
const enterRoute = "/v1/session"

// pagePolicy lets the page run its own files, talk to its own node and show
// pictures that it has read from there; nothing else.
const pagePolicy = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' blob:; " +
	"base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types svelte-trusted-html"

// page is the way of browsers in: a port of the loopback interface, open while a
// browser is signed in or may do so.
type page struct {
	sessions *sessions
	tokens   *tokens
	cookie   string // its name: other nodes of this machine have others
	files    http.Handler
	listen   string      // the owner's address, or empty
	tls      *tls.Config // nil without
	hosts    []string    // names beside those of the loopback

	mu     sync.Mutex
	addr   string // where it listens; empty: not open
	closed bool
	opened chan net.Listener // to Run
}

func newPage(dir string, cfg configs.API) (*page, error) {
	s, err := openSessions(dir, time.Now)
	if err != nil {
		return nil, err
	}
	t, err := openTokens(dir, time.Now)
	if err != nil {
		return nil, err
	}
	root, err := fs.Sub(dist, "ui/dist")
	if err != nil {
		return nil, err
	}
	p := &page{
		sessions: s, tokens: t, listen: cfg.Listen, hosts: cfg.Hosts,
		cookie: "talka-" + digestOf(dir)[:16], files: files(root), opened: make(chan net.Listener, 1),
	}
	if cfg.Certificate != "" {
		pair, err := tls.LoadX509KeyPair(cfg.Certificate, cfg.Key)
		if err != nil {
			return nil, fmt.Errorf("api.certificate and api.key: %w", err)
		}
		p.tls = &tls.Config{Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS13}
	}
	if p.reachable() && (p.tls == nil || len(p.hosts) == 0) {
		return nil, fmt.Errorf("api.listen %s: other machines come by TLS and a name of api.hosts only", p.listen)
	}
	return p, nil
}

// reachable reports whether other machines reach the owner's address.
func (p *page) reachable() bool {
	a, err := netip.ParseAddrPort(p.listen)
	return err == nil && !a.Addr().IsLoopback()
}

// open listens if nothing does, at the port that browsers know if it is free,
// and returns the address.
func (p *page) open(ctx context.Context) (string, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case p.closed:
		return "", fmt.Errorf("open the page: %w", net.ErrClosed)
	case p.addr != "":
		return p.addr, nil
	}
	known, _ := p.sessions.live()
	addr := p.listen
	if addr == "" {
		addr = net.JoinHostPort("127.0.0.1", strconv.Itoa(known))
	}
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp", addr)
	if err != nil && p.listen == "" && known != 0 {
		l, err = lc.Listen(ctx, "tcp", "127.0.0.1:0")
	}
	if err != nil {
		return "", fmt.Errorf("open the page: %w", err)
	}
	p.addr = l.Addr().String()
	port := l.Addr().(*net.TCPAddr).Port
	if p.tls != nil {
		l = tls.NewListener(l, p.tls)
	}
	p.opened <- l
	return p.addr, p.sessions.setPort(port)
}

// close ends a listener that Run has not taken, and lets no other open.
func (p *page) close() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closed = true
	select {
	case l := <-p.opened:
		return l.Close()
	default:
		return nil
	}
}

// resume opens the port again for those who are signed in or have a token.
func (p *page) resume(ctx context.Context) error {
	// Nobody could come in at an address of other machines: it is not opened.
	if _, live := p.sessions.live(); !live && (p.listen == "" || p.reachable()) && len(p.tokens.list()) == 0 {
		return nil
	}
	_, err := p.open(ctx)
	return err
}

// link is an address that signs one browser in. The code stands behind a #,
// which browsers send to nobody.
func (p *page) link(ctx context.Context) (string, error) {
	url, err := p.url(ctx)
	if err != nil {
		return "", err
	}
	return url + "/#code=" + p.sessions.mint(), nil
}

// url opens the page and is its address.
func (p *page) url(ctx context.Context) (string, error) {
	addr, err := p.open(ctx)
	switch {
	case err != nil:
		return "", err
	case p.tls == nil:
		return "http://" + addr, nil
	case len(p.hosts) > 0:
		_, port, err := net.SplitHostPort(addr)
		return "https://" + net.JoinHostPort(p.hosts[0], port), err
	}
	return "https://" + addr, nil
}

// named reports whether a request's host is a name of the page.
func (p *page) named(host string) bool {
	return host == "127.0.0.1" || host == "::1" || host == "localhost" || slices.Contains(p.hosts, host)
}

// grants is what a request from the page's port may do.
// One that shows a token is what the token is, whatever else it shows.
func (p *page) grants(r *http.Request) Scope {
	if text, shown := bearer(r); shown {
		return p.tokens.grants(text)
	}
	c, err := r.Cookie(p.cookie)
	if err == nil && p.sessions.known(c.Value, r.Header.Get(keyHeader)) {
		return scopePage
	}
	return scopeEnter
}

// files serves the page's own files, which say nothing about the node.
func files(root fs.FS) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		name := strings.TrimPrefix(path.Clean(r.URL.Path), "/")
		if name == "" {
			name = "index.html"
		}
		b, err := fs.ReadFile(root, name)
		if err != nil || r.Method != http.MethodGet && r.Method != http.MethodHead {
			writeProblem(w, newProblem(KindNotFound, http.StatusNotFound, "no such page: "+r.Method+" "+r.URL.Path))
			return
		}
		h := w.Header()
		h.Set("Content-Type", mime.TypeByExtension(path.Ext(name)))
		h.Set("Content-Security-Policy", pagePolicy)
		h.Set("Cross-Origin-Opener-Policy", "same-origin")
		h.Set("Content-Length", strconv.Itoa(len(b)))
		if name != "index.html" {
			h.Set("Cache-Control", "max-age=31536000, immutable") // names carry a digest
		}
		_, _ = w.Write(b) // the client is gone if this fails
	})
}

type (
	enterRequest struct {
		Body struct {
			Code string `json:"code" maxLength:"128"`
		}
	}
	enterAnswer struct {
		SetCookie http.Cookie `header:"Set-Cookie"`
		Body      struct {
			Key string `json:"key" doc:"Goes into the header Talka-Key of every request, beside the cookie"`
		}
	}
	leaveRequest struct {
		Cookie string `header:"Cookie"`
	}
	linkBody struct {
		URL string `json:"url" doc:"Signs one browser in, once, within a minute"`
	}
)

func (s *Server) pageRoutes(h huma.API) {
	post(h, "open-page", "/v1/page", scopeInvite, "Make a link that signs a browser in", func(ctx context.Context, _ *none) (linkBody, error) {
		url, err := s.page.link(ctx)
		return linkBody{url}, err
	})
	enter := op("enter", http.MethodPost, enterRoute, scopeEnter, "Sign a browser in by a link's code")
	huma.Register(h, enter, func(_ context.Context, in *enterRequest) (*enterAnswer, error) {
		cookie, key, err := s.page.sessions.exchange(in.Body.Code)
		if err != nil {
			return nil, problem(err)
		}
		out := &enterAnswer{SetCookie: http.Cookie{
			Name: s.page.cookie, Value: cookie, Path: "/", MaxAge: int(sessionTime.Seconds()),
			HttpOnly: true, SameSite: http.SameSiteStrictMode, Secure: s.page.tls != nil,
		}}
		out.Body.Key = key
		return out, nil
	})
	post(h, "leave", "/v1/session/end", ScopeRead, "Sign this browser out", func(_ context.Context, in *leaveRequest) (none, error) {
		cookies, err := http.ParseCookie(in.Cookie)
		for _, c := range cookies {
			if c.Name == s.page.cookie {
				err = errors.Join(err, s.page.sessions.end(c.Value))
			}
		}
		return none{}, err
	})
}
