package machines

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/talka-grid/talka/p2p"
	"github.com/talka-grid/talka/workunits"
)

// world is nodes on a real network of loopback.
type world struct {
	*testing.T
	name  string
	nodes []*node
}

// node is a machine with its own network, and what it was asked.
type node struct {
	*Set
	w    *world
	key  ed25519.PrivateKey
	dir  string
	host *p2p.Host
	stop func()

	mu    sync.Mutex
	clock time.Time
	asked []asking
	large int         // bytes of its answers, if not 0
	wrote func(n int) // runs after the nth frame that is written to a stream this node opened
}

type p2pStream = p2p.Stream

type asking struct {
	Role Role
	Request
}

func newWorld(t *testing.T) *world {
	t.Parallel()
	return &world{T: t, name: "machines-" + t.Name()[4:]}
}

// node starts a machine of that name.
func (w *world) node(name string) *node {
	w.Helper()
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		w.Fatal(err)
	}
	n := &node{w: w, key: key, dir: w.TempDir(), clock: time.Now()}
	n.start(name)
	w.nodes = append(w.nodes, n)
	w.Cleanup(func() { n.stop() })
	return n
}

// start starts a machine that is not running. It listens on ports of its own.
func (n *node) start(name string) {
	n.w.Helper()
	var known []p2p.Peer
	for _, o := range n.w.nodes {
		if o != n && o.host != nil {
			known = append(known, p2p.Peer{ID: o.host.ID(), Addrs: o.host.Addrs()})
		}
	}
	host, err := p2p.New(p2p.Config{Network: n.w.name, Key: n.key, Listen: []string{"/ip4/127.0.0.1/tcp/0"}, Peers: known})
	if err != nil {
		n.w.Fatal(err)
	}
	n.host = host
	set, err := New(Config{Dir: n.dir, Self: host.ID(), Network: n.w.name, Name: name, Net: real{host, n}, Now: n.now})
	if err != nil {
		n.w.Fatal(err)
	}
	n.Set = set
	set.Serve(n.serve)
	host.Handle(PairStream, func(from workunits.NodeID, s p2p.Stream) { set.ServePair(from, s) })
	host.Handle(OwnerStream, func(from workunits.NodeID, s p2p.Stream) { set.ServeOwner(from, s) })
	ctx, cancel := context.WithCancel(context.Background())
	var group sync.WaitGroup
	group.Go(func() {
		if err := host.Run(ctx); err != nil {
			n.w.Error(err)
		}
	})
	group.Go(func() {
		if err := set.Run(ctx); err != nil {
			n.w.Error(err)
		}
	})
	n.stop = sync.OnceFunc(func() {
		cancel()
		group.Wait()
		n.host = nil
	})
}

func (n *node) now() time.Time {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.clock
}

func (n *node) pass(d time.Duration) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.clock = n.clock.Add(d)
}

// serve answers like a local interface of which looking needs no more than RoleRead.
func (n *node) serve(_ context.Context, role Role, r Request) Answer {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.asked = append(n.asked, asking{role, r})
	if r.Method != http.MethodGet && role != RoleControl {
		return Answer{Status: http.StatusForbidden, Body: []byte("you may only look")}
	}
	if n.large > 0 {
		return Answer{Status: http.StatusOK, Body: make([]byte, n.large)}
	}
	return Answer{Status: http.StatusOK, Body: []byte("this is " + n.Name())}
}

// heard is what the node was asked.
func (n *node) heard() []asking {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.asked
}

// real is what a set needs of p2p.
type real struct {
	host *p2p.Host
	node *node
}

func (r real) Addrs() []string { return r.host.Addrs() }

func (r real) Open(ctx context.Context, to workunits.NodeID, addrs []string, name string) (Stream, error) {
	if err := r.host.Connect(ctx, p2p.Peer{ID: to, Addrs: addrs}); err != nil {
		return nil, err
	}
	st, err := r.host.Open(ctx, to, name)
	if err != nil || r.node.wrote == nil {
		return st, err
	}
	return &observed{Stream: st, wrote: r.node.wrote}, nil
}

type observed struct {
	Stream
	frames int
	wrote  func(n int)
}

func (o *observed) Write(b []byte) (int, error) {
	n, err := o.Stream.Write(b)
	o.frames++
	o.wrote(o.frames)
	return n, err
}

// offer makes a code; what comes of it arrives on the channel.
func (n *node) offered(role Role) (code string, met chan error) {
	n.w.Helper()
	codes, met := make(chan string, 1), make(chan error, 1)
	go func() {
		_, err := n.Offer(n.w.Context(), "", role, func(o Offer) { codes <- o.Code })
		met <- err
	}()
	select {
	case code = <-codes:
	case err := <-met:
		n.w.Fatal(err)
	}
	return code, met
}

// pair pairs two machines: maker lets the joiner do what role says, and the other way
// round.
func (w *world) pair(maker, joiner *node, there, here Role) {
	w.Helper()
	code, met := maker.offered(there)
	if _, err := joiner.Join(w.Context(), code, "", here); err != nil {
		w.Fatal(err)
	}
	if err := <-met; err != nil {
		w.Fatal(err)
	}
}

func (n *node) id() workunits.NodeID { return workunits.NodeIDOf(n.key) }

func (n *node) knows(o *node) bool {
	_, err := n.Machine(o.id())
	return err == nil
}

// until waits for what other machines do.
func (w *world) until(what string, f func() bool) {
	w.Helper()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	timeout := time.After(time.Minute)
	for !f() {
		select {
		case <-tick.C:
		case <-timeout:
			w.Fatalf("it never came about that %s", what)
		}
	}
}

func (n *node) get(to *node) (Answer, error) {
	return n.Ask(n.w.Context(), to.id(), Request{Method: http.MethodGet, Path: "/v1/status"})
}

func (n *node) post(to *node) (Answer, error) {
	return n.Ask(n.w.Context(), to.id(), Request{Method: http.MethodPost, Path: "/v1/pause", Body: []byte("{}")})
}
