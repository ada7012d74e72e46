package machines

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/talka-grid/talka/workunits"
)

// Names of the streams, see Network.
const (
	PairStream  = "pair"
	OwnerStream = "owner"
)

// Limits.
const (
	MaxMachines = 64
	MaxName     = 48 // bytes
	maxAddrs    = 8
	maxAddrLen  = 256
)

// Errors that callers can act upon.
var (
	ErrUnknown = errors.New("no such machine")
	ErrCode    = errors.New("unusable pairing code")
	ErrAway    = errors.New("does not answer; is it on, and connected?")
	ErrRefused = errors.New("refused")
	ErrLimit   = errors.New("over a limit")
)

// Role is what a machine may do at another.
type Role string

// The roles.
const (
	RoleRead    Role = "read"    // see what it does and why
	RoleControl Role = "control" // and pause it, change its limits and rules, make it forget or meet other machines
)

// Valid reports whether r is a role.
func (r Role) Valid() bool { return r == RoleRead || r == RoleControl }

// Machine is another node of the same owner.
type Machine struct {
	ID    workunits.NodeID `json:"peer_id"`
	Name  string           `json:"name"`
	Role  Role             `json:"role" doc:"What it may do here"`
	Gives Role             `json:"gives" doc:"What it let this node do there when they met"`
	Since time.Time        `json:"since"`
	By    workunits.NodeID `json:"by,omitzero" doc:"The machine that introduced it; it goes with it"`
	Addrs []string         `json:"addrs" doc:"Where it was last"`
}

// Stream is a two-way stream to a node, as p2p.Stream.
type Stream interface {
	io.ReadWriteCloser
	SetDeadline(t time.Time) error
	Reset() error
}

// Network is what a set needs of the network. Whoever serves PairStream and
// OwnerStream gives streams to ServePair and ServeOwner; from is proven.
type Network interface {
	// Open opens a stream, looking for the node by these addresses and by its id.
	Open(ctx context.Context, to workunits.NodeID, addrs []string, name string) (Stream, error)
	// Addrs are the addresses of this node, best first.
	Addrs() []string
}

// Config is what a set is made of. All is needed but Now, Tell and Log.
type Config struct {
	Dir     string // the node's data directory
	Self    workunits.NodeID
	Network string // its name
	Name    string // what others shall call this node, if nothing else is said
	Net     Network
	Now     func() time.Time // time.Now if nil
	// Tell is called for what the owner of this node may want to hear of: who was paired
	// and cut off, and what others change here. It must not call the set.
	Tell func(of workunits.NodeID, text string)
	Log  *slog.Logger // nothing is logged if nil
}

// Set is the machines of one owner, as this node knows them.
type Set struct {
	cfg  Config
	wake chan struct{} // has one when there may be something to tell

	mu     sync.Mutex
	kept   kept
	offer  *offer
	answer func(ctx context.Context, role Role, r Request) Answer
	busy   map[workunits.NodeID]int           // streams that are served
	pairs  map[workunits.NodeID]int           // pairings that are served
	joins  map[workunits.NodeID]chan struct{} // makers this node is pairing with, until it has
	delays map[workunits.NodeID]*delay
}

// New reads the list of a data directory. The directory's node is the only user of it.
func New(cfg Config) (*Set, error) {
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Tell == nil {
		cfg.Tell = func(workunits.NodeID, string) {}
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	cfg.Name = nameOf(cfg.Name)
	s := &Set{cfg: cfg, wake: make(chan struct{}, 1), busy: map[workunits.NodeID]int{}, pairs: map[workunits.NodeID]int{}, joins: map[workunits.NodeID]chan struct{}{}, delays: map[workunits.NodeID]*delay{}}
	var err error
	if s.kept, err = readKept(cfg.Dir); err != nil {
		return nil, fmt.Errorf("paired machines: %w", err)
	}
	return s, nil
}

// Serve sets what answers the requests of other machines; until then they get none.
// It is called once.
func (s *Set) Serve(answer func(ctx context.Context, role Role, r Request) Answer) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.answer = answer
}

// Name is what this node calls itself where nothing else is said.
func (s *Set) Name() string { return s.cfg.Name }

// List is the machines by name.
func (s *Set) List() []Machine {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.kept.list()
}

// Machine is the one with that id.
func (s *Set) Machine(id workunits.NodeID) (Machine, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if m := s.kept.find(id); m != nil {
		return m.clone(), nil
	}
	return Machine{}, fmt.Errorf("%w: %s is not paired with this node", ErrUnknown, id)
}

// Rename changes what this node calls a machine.
func (s *Set) Rename(id workunits.NodeID, name string) (Machine, error) {
	if err := ValidName(name); err != nil {
		return Machine{}, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	m := s.kept.find(id)
	if m == nil {
		return Machine{}, fmt.Errorf("%w: %s", ErrUnknown, id)
	}
	if o := s.kept.named(name); o != nil && o.ID != id {
		return Machine{}, fmt.Errorf("%w: another machine is called %s", ErrLimit, name)
	}
	err := s.change(func(k *kept) { k.find(id).Name = name })
	return s.kept.find(id).clone(), err
}

// change applies f to a copy of the list, which takes the list's place once it is on
// disk. The caller holds the lock.
func (s *Set) change(f func(*kept)) error {
	next := s.kept.clone()
	f(&next)
	if err := next.write(s.cfg.Dir); err != nil {
		return fmt.Errorf("write the paired machines: %w", err)
	}
	s.kept = next
	return nil
}

func (m Machine) clone() Machine {
	m.Addrs = append([]string{}, m.Addrs...)
	return m
}

// ValidName says what is wrong with the name of a machine.
func ValidName(s string) error {
	switch {
	case s == "" || len(s) > MaxName || !utf8.ValidString(s):
		return fmt.Errorf("%w: a machine's name has 1 to %d bytes", ErrLimit, MaxName)
	case strings.TrimSpace(s) != s || strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsPrint(r) }):
		return fmt.Errorf("%w: a machine's name is one line of printed characters", ErrLimit)
	}
	return nil
}

// nameOf makes a name of any text.
func nameOf(s string) string {
	s = strings.Map(func(r rune) rune {
		if r == utf8.RuneError || !unicode.IsPrint(r) {
			return -1
		}
		return r
	}, s)
	for len(s) > MaxName {
		_, n := utf8.DecodeLastRuneInString(s)
		s = s[:len(s)-n]
	}
	if s = strings.TrimSpace(s); s == "" {
		return "machine"
	}
	return s
}

// checkAddrs bounds the addresses that a machine says of itself; the network reads them.
func checkAddrs(addrs []string) error {
	if len(addrs) > maxAddrs || slices.ContainsFunc(addrs, func(a string) bool { return len(a) > maxAddrLen || !utf8.ValidString(a) }) {
		return fmt.Errorf("%w: up to %d addresses of %d bytes", ErrLimit, maxAddrs, maxAddrLen)
	}
	return nil
}

// addrs are those that this node tells.
func (s *Set) addrs() []string {
	all := []string{}
	for _, a := range s.cfg.Net.Addrs() {
		if len(a) <= maxAddrLen && len(all) < maxAddrs {
			all = append(all, a)
		}
	}
	return all
}
