package grid

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/ipfs/go-cid"

	"github.com/talka-grid/talka/chunkstore"
	"github.com/talka-grid/talka/workunits"
	"github.com/talka-grid/talka/workunits/sandbox"
)

// memNet connects nodes of one process: every frame arrives, in order for a pair.
type memNet struct {
	mu        sync.Mutex
	nodes     map[workunits.NodeID]*memHost
	providers map[cid.Cid][]workunits.NodeID
	quiet     bool // announcements are lost
}

type memHost struct {
	net  *memNet
	id   workunits.NodeID
	node *Node
	data *memData
}

func (n *memNet) host(id workunits.NodeID) *memHost {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.nodes[id]
}

var errGone = errors.New("no such node")

func (h *memHost) Send(_ context.Context, to workunits.NodeID, frame []byte) error {
	p := h.net.host(to)
	if p == nil || h.net.host(h.id) == nil {
		return errGone
	}
	p.node.Frame(h.id, frame)
	return nil
}

func (h *memHost) Announce(_ context.Context, data []byte) error {
	h.net.mu.Lock()
	var all []*memHost
	for _, p := range h.net.nodes {
		if p != h && !h.net.quiet {
			all = append(all, p)
		}
	}
	h.net.mu.Unlock()
	for _, p := range all {
		_ = p.node.Learn(data)
	}
	return nil
}

func (h *memHost) Provide(_ context.Context, c cid.Cid) error {
	h.net.mu.Lock()
	defer h.net.mu.Unlock()
	h.net.providers[c] = append(h.net.providers[c], h.id)
	return nil
}

func (h *memHost) FindProviders(_ context.Context, c cid.Cid, n int) ([]workunits.NodeID, error) {
	h.net.mu.Lock()
	defer h.net.mu.Unlock()
	list := h.net.providers[c]
	return slices.Clone(list[:min(n, len(list))]), nil
}

func (h *memHost) Peers() (list []PeerInfo) {
	h.net.mu.Lock()
	defer h.net.mu.Unlock()
	for id := range h.net.nodes {
		if id != h.id {
			list = append(list, PeerInfo{PeerID: id})
		}
	}
	return list
}

func (h *memHost) Reach() ReachInfo                       { return ReachInfo{} }
func (h *memHost) Block(workunits.NodeID, bool) error     { return nil }
func (h *memHost) Addrs() []string                        { return nil }
func (h *memHost) Invite() (string, error)                { return "", nil }
func (h *memHost) Join(_ context.Context, _ string) error { return nil }

// memData holds whole files and records by CID; peers' are fetched from memory.
type memData struct {
	host *memHost
	mu   sync.Mutex
	all  map[cid.Cid][]byte
	kept []chunkstore.Lease // in order
	more func(workunits.Digest) []byte
}

func (d *memData) Add(_ context.Context, path string, _ Progress) (cid.Cid, int64, int, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return cid.Undef, 0, 0, err
	}
	return d.put(b), int64(len(b)), 1, nil
}

func (d *memData) put(b []byte) cid.Cid {
	d.mu.Lock()
	defer d.mu.Unlock()
	c := workunits.RawCid(workunits.Sum(b))
	d.all[c] = b
	return c
}

func (d *memData) get(c cid.Cid) []byte {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.all[c]
}

func (d *memData) PutRecord(_ context.Context, b []byte) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.all[workunits.RecordCid(workunits.Sum(b))] = b
	return nil
}

func (d *memData) Record(_ context.Context, h workunits.Digest) ([]byte, error) {
	if b := d.get(workunits.RecordCid(h)); b != nil {
		return b, nil
	}
	return nil, fs.ErrNotExist
}

func (d *memData) Fetch(_ context.Context, root cid.Cid, hints []workunits.NodeID, _ Progress) error {
	if d.get(root) != nil {
		return nil
	}
	for _, h := range hints {
		p := d.host.net.host(h)
		if p == nil {
			continue
		}
		if b := p.data.serve(root); b != nil {
			d.mu.Lock()
			d.all[root] = b
			d.mu.Unlock()
			return nil
		}
	}
	return fmt.Errorf("%s: %w", root, ErrNotFound)
}

// FetchEntry knows no folders.
func (d *memData) FetchEntry(_ context.Context, root cid.Cid, name string, _ []workunits.NodeID) (cid.Cid, error) {
	return cid.Undef, fmt.Errorf("%s of %s: %w", name, root, ErrNotFound)
}

func (d *memData) Materialise(_ context.Context, root cid.Cid, dest string) error {
	return os.WriteFile(dest, d.get(root), 0o600)
}

func (d *memData) View(ctx context.Context, root cid.Cid, dest string) error {
	return d.Materialise(ctx, root, dest)
}

type openFile struct{ *bytes.Reader }

func (openFile) Close() error { return nil }

func (d *memData) Open(_ context.Context, root cid.Cid, _ []string, _ []workunits.NodeID) (io.ReadSeekCloser, error) {
	return openFile{bytes.NewReader(d.get(root))}, nil
}

func (d *memData) Chunk(_ context.Context, c cid.Cid, _ []workunits.NodeID) ([]byte, error) {
	return d.get(c), nil
}

func (d *memData) Export(_ context.Context, root cid.Cid, _ bool, w io.Writer) error {
	_, err := w.Write(d.get(root))
	return err
}

func (d *memData) Import(_ context.Context, r io.Reader, _ func(done, total int64)) (chunkstore.Imported, error) {
	b, err := io.ReadAll(r)
	if err != nil {
		return chunkstore.Imported{}, err
	}
	return chunkstore.Imported{Roots: []cid.Cid{d.put(b)}, Bytes: int64(len(b)), Chunks: 1}, nil
}

func (d *memData) Keep(l chunkstore.Lease) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.kept = append(d.kept, l)
	return nil
}

func (d *memData) ReleaseFor(who string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.kept = slices.DeleteFunc(d.kept, func(l chunkstore.Lease) bool { return l.For == who })
	return nil
}

func (d *memData) leases() []chunkstore.Lease {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Clone(d.kept)
}

func (d *memData) ServeRecords(records func(workunits.Digest) []byte) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.more = records
}

func (d *memData) serve(root cid.Cid) []byte {
	if slices.ContainsFunc(d.leases(), func(l chunkstore.Lease) bool { return l.Root == root && !l.Withheld }) {
		return d.get(root)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if digest, ok := workunits.RecordDigest(root); ok && d.more != nil {
		return d.more(digest)
	}
	return nil
}

func (d *memData) Sync() error  { return nil }
func (d *memData) Bytes() int64 { return 0 }

func (d *memData) Stat() chunkstore.Stat              { return chunkstore.Stat{} }
func (d *memData) Usage() ([]chunkstore.Usage, error) { return nil, nil }
func (d *memData) Traffic() (up, down int64)          { return 0, 0 }

// goProgram executes units in this process: it prints the arguments.
type goProgram struct{ lie bool }

func (g goProgram) Run(_ context.Context, t sandbox.Task, _ func(int)) (sandbox.Report, error) {
	out, stdout := filepath.Join(t.Dir, "out"), filepath.Join(t.Dir, "stdout")
	text := fmt.Sprint(t.Args)
	if g.lie {
		text += " lie"
	}
	return sandbox.Report{Kind: workunits.Exited, Stdout: stdout, Out: out, CPU: time.Millisecond},
		errors.Join(os.MkdirAll(out, 0o700), os.WriteFile(stdout, []byte(text), 0o600))
}
func (goProgram) Pause()  {}
func (goProgram) Resume() {}

func (goProgram) Compiling() []sandbox.Compiling { return nil }
func (goProgram) SetPercent(int)                 {}

// cluster is a number of nodes on one memNet.
type cluster struct {
	t   testing.TB
	net *memNet
}

func newCluster(t testing.TB) *cluster {
	return &cluster{t, &memNet{nodes: map[workunits.NodeID]*memHost{}, providers: map[cid.Cid][]workunits.NodeID{}}}
}

// publisher starts a node with a project.
func (c *cluster) publisher(cfg Config) (*member, workunits.ProjectID) {
	c.t.Helper()
	m := c.start(cfg)
	p, err := m.NewProject("p")
	if err != nil {
		c.t.Fatal(err)
	}
	return m, p
}

// member is a running node of a cluster.
type member struct {
	*Node
	host *memHost
	cfg  Config
	stop func()
}

func (c *cluster) start(cfg Config) *member {
	c.t.Helper()
	if cfg.Key == nil {
		_, cfg.Key, _ = ed25519.GenerateKey(nil)
	}
	if cfg.Dir == "" {
		cfg.Dir = c.t.TempDir()
	}
	if cfg.Exec == nil {
		cfg.Exec = goProgram{}
	}
	h := &memHost{net: c.net, id: workunits.NodeIDOf(cfg.Key)}
	data, _ := cfg.Data.(*memData)
	if data == nil {
		data = &memData{all: map[cid.Cid][]byte{}}
	}
	data.host, h.data = h, data
	cfg.Network, cfg.Net, cfg.Data, cfg.Arch, cfg.Memory = "test", h, data, "amd64", 1<<30
	var seed [32]byte
	copy(seed[:], cfg.Key.Seed())
	cfg.Rand = rand.NewChaCha8(seed)
	n, err := New(cfg)
	if err != nil {
		c.t.Fatal(err)
	}
	h.node = n
	c.net.mu.Lock()
	c.net.nodes[h.id] = h
	c.net.mu.Unlock()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- n.Run(ctx) }()
	m := &member{Node: n, host: h, cfg: cfg}
	m.stop = sync.OnceFunc(func() {
		c.net.mu.Lock()
		delete(c.net.nodes, h.id)
		c.net.mu.Unlock()
		cancel()
		if err := <-done; err != nil {
			c.t.Errorf("node stopped: %v", err)
		}
	})
	c.t.Cleanup(m.stop)
	return m
}
