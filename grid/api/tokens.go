package api

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"
)

const (
	tokensFile   = "tokens.json" // in the data directory, mode 0600
	tokenPrefix  = "talka_"      // so that scanners for lost secrets find one
	maxTokens    = 64
	maxTokenTime = 366 * 24 * time.Hour
	maxTokenName = 64 // bytes
)

// Role is what the holder of a token may do.
type Role string

// The roles. None reaches the machine's files by their path, lets browsers in or
// makes tokens: that is the socket's alone, so that nothing outlives a token.
const (
	RoleRead    Role = "read"    // see what the node does
	RoleControl Role = "control" // and pause it, join networks, trust projects
	RolePublish Role = "publish" // see, and make projects and jobs
	RoleAdmin   Role = "admin"   // all of these, and change settings
)

// Roles are all roles.
func Roles() []Role { return []Role{RoleRead, RoleControl, RolePublish, RoleAdmin} }

// scope is 0 for what is no role.
func (r Role) scope() Scope {
	switch r {
	case RoleRead:
		return ScopeRead
	case RoleControl:
		return ScopeRead | ScopeControl
	case RolePublish:
		return ScopeRead | ScopePublish
	case RoleAdmin:
		return ScopeRead | ScopeControl | ScopePublish | ScopeSettings
	}
	return 0
}

// Token is what is known of a token; not the token itself.
type Token struct {
	Name  string    `json:"name"`
	Role  Role      `json:"role"`
	Until time.Time `json:"until"`
}

// keptToken is a Token with the digest of its text.
type keptToken struct {
	Token
	Sum string `json:"sum"`
}

// tokens are those that may come in until they expire. Only digests are kept. It is
// safe for concurrent use.
type tokens struct {
	path string
	now  func() time.Time

	mu   sync.Mutex
	kept []keptToken
}

func openTokens(dir string, now func() time.Time) (*tokens, error) {
	s := &tokens{path: filepath.Join(dir, tokensFile), now: now}
	b, err := os.ReadFile(s.path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return s, nil
	case err != nil:
		return nil, err
	}
	if err := json.Unmarshal(b, &s.kept); err != nil {
		return nil, fmt.Errorf("%s: %w; remove it and make tokens anew", s.path, err)
	}
	return s, nil
}

// mint makes a token and returns its text, which nobody can find out again.
func (s *tokens) mint(t Token, life time.Duration) (string, Token, error) {
	switch {
	case t.Role.scope() == 0:
		return "", t, &Error{KindRequest, fmt.Sprintf("no role %q: want read, control, publish or admin", t.Role)}
	case life <= 0 || life > maxTokenTime:
		return "", t, &Error{KindRequest, "a token is good for some time of up to a year"}
	case t.Name == "" || len(t.Name) > maxTokenName || strings.ContainsFunc(t.Name, func(r rune) bool { return r <= ' ' || r > '~' || r == '/' }):
		return "", t, &Error{KindRequest, "want a name of up to 64 letters, digits and signs"}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.expire()
	switch {
	case slices.ContainsFunc(s.kept, func(k keptToken) bool { return k.Name == t.Name }):
		return "", t, &Error{KindConflict, "there is a token " + t.Name + " already: revoke it first, or take another name"}
	case len(s.kept) >= maxTokens:
		return "", t, &Error{KindConflict, fmt.Sprintf("there are %d tokens: revoke one first", maxTokens)}
	}
	text, _ := secret()
	text = tokenPrefix + text
	t.Until = s.now().Add(life).UTC()
	s.kept = append(s.kept, keptToken{t, digestOf(text)})
	return text, t, keep(s.path, s.kept)
}

// grants is what a text may do; 0 for one that is no token, or no more.
func (s *tokens) grants(text string) Scope {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.expire()
	sum := digestOf(text)
	for _, k := range s.kept {
		if k.Sum == sum {
			return k.Role.scope()
		}
	}
	return 0
}

// list are the live tokens by name.
func (s *tokens) list() []Token {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.expire()
	out := make([]Token, 0, len(s.kept))
	for _, k := range s.kept {
		out = append(out, k.Token)
	}
	slices.SortFunc(out, func(x, y Token) int { return cmp.Compare(x.Name, y.Name) })
	return out
}

// revoke ends a token.
func (s *tokens) revoke(name string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	before := len(s.kept)
	s.kept = slices.DeleteFunc(s.kept, func(k keptToken) bool { return k.Name == name })
	if len(s.kept) == before {
		return &Error{KindNotFound, "there is no token of that name"}
	}
	return keep(s.path, s.kept)
}

func (s *tokens) expire() {
	now := s.now()
	s.kept = slices.DeleteFunc(s.kept, func(k keptToken) bool { return !now.Before(k.Until) })
}

// bearer is the token of a request, if it shows one.
func bearer(r *http.Request) (text string, shown bool) {
	header := r.Header.Get("Authorization")
	text, ok := strings.CutPrefix(header, "Bearer ")
	if !ok {
		text = ""
	}
	return text, header != ""
}
