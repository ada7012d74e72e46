package exchange

import (
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/ipfs/go-cid"

	"github.com/talka-grid/talka/chunkstore"
	"github.com/talka-grid/talka/workunits"
)

// pipe is a stream over a connection.
type pipe struct {
	net.Conn
	gone func()
}

func (p pipe) CloseWrite() error { return nil }

func (p pipe) Reset() error {
	if p.gone != nil {
		p.gone()
	}
	return p.Close()
}

// cut is a stream that breaks after so many bytes were written.
type cut struct {
	Stream
	left int
}

func (c *cut) Write(p []byte) (int, error) {
	n, err := c.Stream.Write(p[:min(len(p), c.left)])
	if c.left -= n; err == nil && c.left == 0 {
		return n, errors.Join(io.ErrClosedPipe, c.Reset())
	}
	return n, err
}

// world connects nodes by pipes.
type world struct {
	mu     sync.Mutex
	serve  map[workunits.NodeID]func(Stream)
	hosts  map[workunits.NodeID]func(from workunits.NodeID, s Stream) // of members, see there
	opened map[workunits.NodeID]int
	before func(to workunits.NodeID) // called by Open
	dial   func(ctx context.Context) (near, far net.Conn, err error)
	near   []net.Conn // kept ones are open still
	group  sync.WaitGroup
}

// newWorld waits for those who serve when the test ends.
func newWorld(t testing.TB) *world {
	w := &world{
		serve: map[workunits.NodeID]func(Stream){}, hosts: map[workunits.NodeID]func(workunits.NodeID, Stream){}, opened: map[workunits.NodeID]int{},
		dial: func(context.Context) (near, far net.Conn, err error) {
			near, far = net.Pipe()
			return near, far, nil
		},
	}
	t.Cleanup(w.close)
	return w
}

func (w *world) close() {
	w.mu.Lock()
	for _, c := range w.near {
		_ = c.Close()
	}
	w.mu.Unlock()
	w.group.Wait()
}

var errAway = errors.New("peer is away")

func (w *world) Open(ctx context.Context, to workunits.NodeID, name string) (Stream, error) {
	if w.before != nil {
		w.before(to)
	}
	w.mu.Lock()
	serve := w.serve[to]
	w.opened[to]++
	w.mu.Unlock()
	if serve == nil || name != Protocol {
		return nil, errAway
	}
	near, far, err := w.dial(ctx)
	if err != nil {
		return nil, err
	}
	w.mu.Lock()
	w.near = append(w.near, near)
	w.mu.Unlock()
	w.group.Go(func() { serve(pipe{far, nil}) })
	return pipe{near, nil}, nil
}

// member is a world as one of its nodes has it, which is known to those that it asks.
type member struct {
	*world
	self workunits.NodeID
}

func (m member) Open(ctx context.Context, to workunits.NodeID, _ string) (Stream, error) {
	serve := m.hosts[to]
	if serve == nil {
		return nil, errAway
	}
	near, far, err := m.dial(ctx)
	if err != nil {
		return nil, err
	}
	m.mu.Lock()
	m.near = append(m.near, near)
	m.mu.Unlock()
	m.group.Go(func() { serve(m.self, pipe{far, nil}) })
	return pipe{near, nil}, nil
}

func (w *world) opens(n workunits.NodeID) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.opened[n]
}

func id(n byte) workunits.NodeID { return workunits.NodeID{n} }

// loopback dials itself over TCP.
func loopback(t testing.TB) func(ctx context.Context) (near, far net.Conn, err error) {
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	var mu sync.Mutex
	return func(ctx context.Context) (near, far net.Conn, err error) {
		mu.Lock() // one accept for one dial
		defer mu.Unlock()
		near, err = new(net.Dialer).DialContext(ctx, "tcp", l.Addr().String())
		if err != nil {
			return nil, nil, err
		}
		for { // who gave up while dialling may have left a connection
			far, err = l.Accept()
			if err != nil || far.RemoteAddr().String() == near.LocalAddr().String() {
				return near, far, err
			}
			_ = far.Close()
		}
	}
}

func store(t testing.TB, quota int64) *chunkstore.Store {
	t.Helper()
	s, err := chunkstore.Open(t.TempDir(), chunkstore.Config{Quota: quota})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// node is an exchange of the world that serves by itself.
func (w *world) node(t testing.TB, n byte) (*Exchange, *chunkstore.Store) {
	t.Helper()
	s := store(t, 0)
	x := New(Config{Self: id(n), Store: s, Streams: w})
	w.mu.Lock()
	defer w.mu.Unlock()
	w.serve[id(n)] = func(s Stream) { x.Serve(id(0), s) }
	return x, s
}

// wrap changes the streams that a node serves.
func (w *world) wrap(n workunits.NodeID, f func(Stream) Stream) {
	w.mu.Lock()
	defer w.mu.Unlock()
	serve := w.serve[n]
	w.serve[n] = func(s Stream) { serve(f(s)) }
}

func noise(seed uint64, n int) []byte {
	data := make([]byte, n)
	rand.NewChaCha8([32]byte{byte(seed), byte(seed >> 8)}).Read(data) //nolint:errcheck // it never fails
	return data
}

// file writes a file of noise.
func file(t testing.TB, seed uint64, size int) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(path, noise(seed, size), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func add(t testing.TB, s *chunkstore.Store, path string) chunkstore.Added {
	t.Helper()
	a, err := s.Add(t.Context(), path, nil)
	if err != nil {
		t.Fatal(err)
	}
	keep(t, s, a.Cid)
	return a
}

// keep lets peers have content.
func keep(t testing.TB, s *chunkstore.Store, root cid.Cid) {
	t.Helper()
	if err := s.Keep(chunkstore.Lease{Root: root, Reason: "own"}); err != nil {
		t.Fatal(err)
	}
}

// whole fails unless the content is in the store and equals the file.
func whole(t testing.TB, s *chunkstore.Store, root cid.Cid, path string) {
	t.Helper()
	dest := filepath.Join(t.TempDir(), "back")
	if err := s.Materialise(context.WithoutCancel(t.Context()), root, dest); err != nil {
		t.Fatal(err)
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile(dest)
	if err != nil || !slices.Equal(got, want) {
		t.Fatalf("%d bytes came back, want %d, %v", len(got), len(want), err)
	}
}

// finder names nodes.
type finder struct {
	nodes []workunits.NodeID
	calls int
}

func (f *finder) FindProviders(context.Context, cid.Cid, int) ([]workunits.NodeID, error) {
	f.calls++
	return f.nodes, nil
}

// silent reads and never answers, until the stream ends.
func silent(s Stream) {
	_, _ = io.Copy(io.Discard, s) // it ends as the stream does
	_ = s.Close()
}

const second = time.Second
