package api

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/talka-grid/talka/chunkstore/whole"
)

const (
	pageFile    = "page.json"         // in the data directory, mode 0600
	codeTime    = time.Minute         // that a code is good for
	sessionTime = 30 * 24 * time.Hour // that a browser stays signed in
	maxSessions = 16                  // the oldest goes
	maxGuesses  = 16                  // wrong codes before every code is void
	secretBytes = 32
)

// sessions are the browsers that may come in. A code is good once and for
// codeTime; what is kept of codes, cookies and keys is their digest. It is safe
// for concurrent use.
type sessions struct {
	path string
	now  func() time.Time

	mu      sync.Mutex
	codes   map[string]*code // by digest
	guesses int              // wrong codes since one was made
	kept    keptPage
}

type code struct {
	made    time.Time
	session string // digest of the cookie that it was exchanged for
}

// keptPage is what a restart must not forget, so that open pages come back.
type keptPage struct {
	Port     int           `json:"port"`
	Sessions []keptSession `json:"sessions"`
}

// keptSession knows a browser by two secrets. The cookie goes to every port of
// this machine, so another server may see it; the key is stored by the page's
// origin, so it may not, but scripts of the page can read it. Neither is of use
// alone.
type keptSession struct {
	Cookie string    `json:"cookie"`
	Key    string    `json:"key"`
	Until  time.Time `json:"until"`
}

var errCode = &Error{KindUnauthorised, "this link has been used, or is older than a minute: run `talka open` again"}

func openSessions(dir string, now func() time.Time) (*sessions, error) {
	s := &sessions{path: filepath.Join(dir, pageFile), now: now, codes: map[string]*code{}}
	b, err := os.ReadFile(s.path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return s, nil
	case err != nil:
		return nil, err
	}
	if err := json.Unmarshal(b, &s.kept); err != nil {
		return nil, fmt.Errorf("%s: %w; remove it and run `talka open`", s.path, err)
	}
	s.expire()
	return s, nil
}

// live reports whether any browser is signed in, and the port that it knows.
func (s *sessions) live() (port int, live bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.expire()
	return s.kept.Port, len(s.kept.Sessions) > 0
}

func (s *sessions) setPort(port int) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.kept.Port == port {
		return nil
	}
	s.kept.Port = port
	return s.save()
}

// mint makes a code.
func (s *sessions) mint() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.expire()
	s.guesses = 0
	text, sum := secret()
	s.codes[sum] = &code{made: s.now()}
	return text
}

// exchange gives a cookie and a key for a code. A code that comes twice may have
// been stolen, and nobody can say by whom: the session that it opened ends.
func (s *sessions) exchange(text string) (cookie, key string, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.expire()
	c := s.codes[digestOf(text)]
	switch {
	case c == nil:
		if s.guesses++; s.guesses >= maxGuesses {
			clear(s.codes)
		}
		return "", "", errCode
	case c.session != "":
		s.drop(c.session)
		return "", "", errors.Join(errCode, s.save())
	}
	var k keptSession
	cookie, k.Cookie = secret()
	key, k.Key = secret()
	k.Until = s.now().Add(sessionTime).UTC()
	c.session = k.Cookie
	s.kept.Sessions = append(s.kept.Sessions, k)
	if over := len(s.kept.Sessions) - maxSessions; over > 0 {
		s.kept.Sessions = slices.Delete(s.kept.Sessions, 0, over)
	}
	return cookie, key, s.save()
}

// known reports whether both secrets are those of one live session.
func (s *sessions) known(cookie, key string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.expire()
	c, k := digestOf(cookie), digestOf(key)
	return slices.ContainsFunc(s.kept.Sessions, func(o keptSession) bool { return o.Cookie == c && o.Key == k })
}

// end signs a browser out.
func (s *sessions) end(cookie string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.drop(digestOf(cookie))
	return s.save()
}

func (s *sessions) drop(cookie string) {
	s.kept.Sessions = slices.DeleteFunc(s.kept.Sessions, func(k keptSession) bool { return k.Cookie == cookie })
}

func (s *sessions) expire() {
	now := s.now()
	for sum, c := range s.codes {
		if !now.Before(c.made.Add(codeTime)) {
			delete(s.codes, sum)
		}
	}
	s.kept.Sessions = slices.DeleteFunc(s.kept.Sessions, func(k keptSession) bool { return !now.Before(k.Until) })
}

func (s *sessions) save() error { return keep(s.path, s.kept) }

// keep replaces a file of secrets.
func keep(path string, v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	return whole.Write(path, b)
}

func secret() (text, sum string) {
	b := make([]byte, secretBytes)
	_, _ = rand.Read(b) // never fails
	text = base64.RawURLEncoding.EncodeToString(b)
	return text, digestOf(text)
}

func digestOf(text string) string {
	d := sha256.Sum256([]byte(text))
	return hex.EncodeToString(d[:])
}
