package keep

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ipfs/go-cid"

	"github.com/talka-grid/talka/chunkstore"
	"github.com/talka-grid/talka/chunkstore/exchange"
	"github.com/talka-grid/talka/chunkstore/replica"
	"github.com/talka-grid/talka/grid/wire"
	"github.com/talka-grid/talka/workunits"
)

// world is nodes with real stores and exchanges, in virtual time.
type world struct {
	t     *testing.T
	mu    sync.Mutex
	nodes []*member
	down  map[workunits.NodeID]bool
	group sync.WaitGroup
	job   workunits.JobID
	sent  int // messages
}

type member struct {
	*Driver
	w      *world
	id     workunits.NodeID
	store  *chunkstore.Store
	x      *exchange.Exchange
	folder func(ctx context.Context, run uint32) (Gathered, error)
	refuse string // why it keeps nothing for the job
	stop   func()
	path   string
}

func nodeID(i int) workunits.NodeID { return workunits.NodeID{byte(i + 1)} }

func (w *world) member(n workunits.NodeID) *member {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.down[n] {
		return nil
	}
	return w.nodes[n[0]-1]
}

type pipe struct{ net.Conn }

func (pipe) CloseWrite() error { return nil }
func (p pipe) Reset() error    { return p.Close() }

func (m *member) Open(_ context.Context, to workunits.NodeID, _ string) (exchange.Stream, error) {
	other := m.w.member(to)
	if other == nil || m.w.member(m.id) == nil {
		return nil, errors.New("peer is away")
	}
	near, far := net.Pipe()
	m.w.group.Go(func() { other.x.Serve(m.id, pipe{far}) })
	return pipe{near}, nil
}

func (m *member) send(to workunits.NodeID, msg wire.Message) {
	frame := wire.Encode(msg)
	if m.w.member(m.id) == nil {
		return
	}
	m.w.mu.Lock()
	m.w.sent++
	m.w.mu.Unlock()
	m.w.group.Go(func() {
		time.Sleep(20 * time.Millisecond) // in virtual time
		other := m.w.member(to)
		if other == nil || m.w.member(m.id) == nil {
			return
		}
		got, err := wire.Decode(frame)
		if err != nil {
			m.w.t.Error(err)
			return
		}
		other.Seen(m.id)
		switch got := got.(type) {
		case wire.Keep:
			other.Asked(m.id, got, nodeID(0), other.refuse)
		case wire.Kept:
			other.Heard(m.id, got, m.id[0] <= 3)
		case wire.Free:
			other.Drop(got.Job)
			if err := other.store.ReleaseFor(got.Job.String()); err != nil {
				m.w.t.Error(err)
			}
		}
	})
}

// messages is how many were sent, to nodes that are away too.
func (w *world) messages() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.sent
}

func (m *member) peers() (list []replica.Peer) {
	m.w.mu.Lock()
	defer m.w.mu.Unlock()
	if m.w.down[m.id] {
		return nil
	}
	for _, o := range m.w.nodes {
		if o != m && !m.w.down[o.id] {
			list = append(list, replica.Peer{Node: o.id, Operator: fmt.Sprint(o.id[0]), Net: fmt.Sprint(o.id[0] / 2)})
		}
	}
	return list
}

type data struct {
	*chunkstore.Store
	x *exchange.Exchange
}

func (d data) Fetch(ctx context.Context, root cid.Cid, hints []workunits.NodeID, p func(done, total int64)) error {
	return d.x.Fetch(ctx, root, hints, p)
}

func (d data) Probe(ctx context.Context, from workunits.NodeID, c cid.Cid) (bool, error) {
	return d.x.Probe(ctx, from, c)
}

func (d data) Add(ctx context.Context, path string) (cid.Cid, error) {
	a, err := d.Store.Add(ctx, path, nil)
	return a.Cid, err
}

func (d data) Export(ctx context.Context, root cid.Cid, w io.Writer) error {
	return d.Store.Export(ctx, root, chunkstore.Selection{}, w)
}

func (d data) Import(ctx context.Context, r io.Reader) ([]cid.Cid, error) {
	in, err := d.Store.Import(ctx, r, nil)
	return in.Roots, err
}

func (d data) Open(ctx context.Context, root cid.Cid) (io.ReadCloser, error) {
	return d.x.Open(ctx, root, nil, nil)
}

func newWorld(t *testing.T, n int, share int64) *world {
	w := &world{t: t, down: map[workunits.NodeID]bool{}, job: workunits.JobID{7}}
	for i := range n {
		s, err := chunkstore.Open(t.TempDir(), chunkstore.Config{})
		if err != nil {
			t.Fatal(err)
		}
		m := &member{w: w, id: nodeID(i), store: s, path: filepath.Join(t.TempDir(), "replicas")}
		m.x = exchange.New(exchange.Config{Self: m.id, Store: s, Streams: m})
		w.nodes = append(w.nodes, m)
		m.start(share)
	}
	t.Cleanup(func() {
		for _, m := range w.nodes {
			m.stop()
		}
		w.group.Wait()
	})
	return w
}

func (m *member) start(share int64) {
	times := DefaultTimes()
	times.Save = 6 * time.Hour // the disk is a real one
	var err error
	m.Driver, err = New(Config{
		Self: m.id, Path: m.path, Dir: m.w.t.TempDir(), Data: data{m.store, m.x}, Send: m.send, Peers: m.peers, Rate: 1 << 20, Share: share, Times: times,
		Gather: func(ctx context.Context, _ workunits.JobID, run uint32) (Gathered, error) { return m.folder(ctx, run) },
	})
	if err != nil {
		m.w.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- m.Run(ctx) }()
	m.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			m.w.t.Error(err)
		}
	})
}

// look has stewards look after the job.
func (w *world) look(members ...*member) {
	var stewards []workunits.NodeID
	for _, m := range members {
		stewards = append(stewards, m.id)
	}
	for _, m := range members {
		m.Look(Job{ID: w.job, Stewards: stewards, Copies: 3, Until: time.Now().Add(30 * 24 * time.Hour)})
	}
}

// input gives some nodes a file of noise.
func (w *world) input(size int, members ...*member) (root cid.Cid) {
	w.t.Helper()
	path := filepath.Join(w.t.TempDir(), "input")
	text := make([]byte, size)
	rand.NewChaCha8([32]byte{byte(size)}).Read(text) //nolint:errcheck // it never fails
	if err := os.WriteFile(path, text, 0o600); err != nil {
		w.t.Fatal(err)
	}
	for _, m := range members {
		a, err := m.store.Add(w.t.Context(), path, nil)
		if err == nil {
			err = m.store.Keep(chunkstore.Lease{Root: a.Cid, Reason: "input", For: w.job.String()})
		}
		if err != nil {
			w.t.Fatal(err)
		}
		root = a.Cid
	}
	return root
}

// holders are the nodes that are up and hold all of a root.
func (w *world) holders(root cid.Cid) (list []workunits.NodeID) {
	for _, m := range w.nodes {
		if _, _, err := m.store.Leaves(context.Background(), root); err == nil && w.member(m.id) != nil {
			list = append(list, m.id)
		}
	}
	return list
}

func (w *world) set(down bool, nodes ...workunits.NodeID) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, n := range nodes {
		w.down[n] = down
	}
}

// wait lets virtual time pass.
func wait(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}
