package grid

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/ipfs/go-cid"

	"github.com/talka-grid/talka/chunkstore"
	"github.com/talka-grid/talka/chunkstore/exchange"
	"github.com/talka-grid/talka/workunits"
	"github.com/talka-grid/talka/workunits/sandbox"
)

// memNet connects nodes of one process: every frame arrives, in order for a pair.
type memNet struct {
	mu        sync.Mutex
	nodes     map[workunits.NodeID]*memHost
	providers map[cid.Cid][]workunits.NodeID
	quiet     bool              // announcements are lost
	pointers  map[string][]byte // of the DHT, by project
}

type memHost struct {
	net  *memNet
	id   workunits.NodeID
	node *Node
	data *memData
	deaf bool // no frame arrives; set before it is used
}

func (n *memNet) host(id workunits.NodeID) *memHost {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.nodes[id]
}

var errGone = errors.New("no such node")

func (h *memHost) Send(_ context.Context, to workunits.NodeID, frame []byte) error {
	p := h.net.host(to)
	if p == nil || p.deaf || h.net.host(h.id) == nil {
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

func (h *memHost) PutPointer(_ context.Context, raw []byte) error {
	p, err := workunits.ParsePointer(raw)
	if err != nil {
		return err
	}
	h.net.mu.Lock()
	defer h.net.mu.Unlock()
	if h.net.pointers == nil {
		h.net.pointers = map[string][]byte{}
	}
	h.net.pointers[p.ProjectID().String()] = raw
	return nil
}

func (h *memHost) FindPointer(_ context.Context, p workunits.ProjectID) []byte {
	h.net.mu.Lock()
	defer h.net.mu.Unlock()
	return h.net.pointers[p.String()]
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

func (h *memHost) Reach() ReachInfo                                       { return ReachInfo{} }
func (h *memHost) Block(workunits.NodeID, bool) error                     { return nil }
func (h *memHost) Addrs() []string                                        { return nil }
func (h *memHost) Invite(time.Duration, workunits.NodeID) (string, error) { return "", nil }
func (h *memHost) RemoveMember(workunits.NodeID) error                    { return nil }
func (h *memHost) Join(_ context.Context, _ string) error                 { return nil }

func (h *memHost) Visit(_ context.Context, _ string) error { return nil }

// memData holds whole files and records by CID; peers' are fetched from memory.
type memData struct {
	host   *memHost
	mu     sync.Mutex
	all    map[cid.Cid][]byte
	kept   []chunkstore.Lease // in order
	limits exchange.Limits
	more   func(workunits.Digest) []byte
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

func (d *memData) Fetch(ctx context.Context, root cid.Cid, hints []workunits.NodeID, p Progress) error {
	if err := d.fetch(ctx, root, hints); err != nil {
		return err
	}
	for _, entry := range d.folder(root) {
		if err := d.Fetch(ctx, entry.Cid, hints, p); err != nil {
			return err
		}
	}
	return nil
}

func (d *memData) fetch(_ context.Context, root cid.Cid, hints []workunits.NodeID) error {
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

func (d *memData) AddAs(ctx context.Context, path string, _ Adding, p Progress) (cid.Cid, int64, int, error) {
	return d.Add(ctx, path, p)
}

func (d *memData) Inspect(context.Context, cid.Cid) error { return nil }

func (d *memData) Collect(ctx context.Context, root cid.Cid, hints []workunits.NodeID, p Progress) (DataOrigin, error) {
	return DataOrigin{}, d.Fetch(ctx, root, hints, p)
}

func (d *memData) FetchNear(ctx context.Context, root cid.Cid, near, others []workunits.NodeID) error {
	return d.Fetch(ctx, root, slices.Concat(near, others), nil)
}

// memFolder is what Compose makes a record of: the entries by name.
type memFolder map[string]workunits.Link

const memFolderMark = "folder "

func (d *memData) Compose(_ context.Context, entries []chunkstore.Entry) (cid.Cid, error) {
	folder := memFolder{}
	for _, e := range entries {
		if d.get(e.Root) == nil {
			return cid.Undef, fmt.Errorf("%s: %w", e.Name, ErrNotFound)
		}
		folder[e.Name] = workunits.Link{Cid: e.Root}
	}
	return d.put(append([]byte(memFolderMark), workunits.Encode(folder)...)), nil
}

// folder is what a root holds if it is a folder.
func (d *memData) folder(root cid.Cid) (f memFolder) {
	if text, ok := bytes.CutPrefix(d.get(root), []byte(memFolderMark)); ok {
		f, _ = workunits.Decode[memFolder](text, 1<<30)
	}
	return f
}

func (d *memData) FetchEntry(ctx context.Context, root cid.Cid, name string, hints []workunits.NodeID) (cid.Cid, error) {
	err := d.Fetch(ctx, root, hints, nil)
	if entry, ok := d.folder(root)[name]; ok && err == nil {
		return entry.Cid, nil
	}
	return cid.Undef, fmt.Errorf("%s of %s: %w", name, root, errors.Join(err, ErrNotFound))
}

func (d *memData) Leaves(_ context.Context, root cid.Cid) ([]cid.Cid, int64, error) {
	b := d.get(root)
	if b == nil {
		return nil, 0, fmt.Errorf("%s: %w", root, ErrNotFound)
	}
	return []cid.Cid{root}, int64(len(b)), nil
}

func (d *memData) Probe(_ context.Context, from workunits.NodeID, c cid.Cid) (there bool, err error) {
	p := d.host.net.host(from)
	if p == nil {
		return false, errGone
	}
	if p.data.serve(c) == nil {
		return true, exchange.ErrLacks
	}
	return true, nil
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

// memArchive is an export: a root, and by its CID all that is below it.
type memArchive struct {
	Root workunits.Link    `cbor:"root"`
	All  map[string][]byte `cbor:"all"`
}

func (d *memData) Export(_ context.Context, root cid.Cid, w io.Writer) error {
	a := memArchive{workunits.Link{Cid: root}, map[string][]byte{}}
	for todo := []cid.Cid{root}; len(todo) > 0; todo = todo[1:] {
		a.All[todo[0].String()] = d.get(todo[0])
		for _, below := range d.folder(todo[0]) {
			todo = append(todo, below.Cid)
		}
	}
	_, err := w.Write(workunits.Encode(a))
	return err
}

func (d *memData) Archive(ctx context.Context, root cid.Cid, _ Selection, hints []workunits.NodeID, begin func() io.Writer) error {
	if err := d.Fetch(ctx, root, hints, nil); err != nil {
		return err
	}
	return d.Export(ctx, root, begin())
}

func (d *memData) Import(_ context.Context, r io.Reader, _ func(done, total int64)) (in chunkstore.Imported, err error) {
	b, err := io.ReadAll(r)
	if err != nil {
		return in, err
	}
	a, err := workunits.Decode[memArchive](b, 1<<30)
	if err != nil {
		return in, err
	}
	for _, content := range a.All {
		d.put(content)
		in.Chunks++
	}
	in.Roots = []cid.Cid{a.Root.Cid}
	return in, nil
}

func (d *memData) Keep(l chunkstore.Lease) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.kept = append(d.kept, l)
	return nil
}

func (d *memData) Release(l chunkstore.Lease) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.kept = slices.DeleteFunc(d.kept, func(k chunkstore.Lease) bool { return k.Root == l.Root && k.Reason == l.Reason && k.For == l.For })
	return nil
}

func (d *memData) ReleaseFor(who string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.kept = slices.DeleteFunc(d.kept, func(l chunkstore.Lease) bool { return l.For == who })
	return nil
}

func (d *memData) Here(roots ...cid.Cid) (bytes int64, err error) {
	for _, root := range roots {
		bytes += int64(len(d.get(root)))
	}
	return bytes, nil
}

func (d *memData) Leases() []chunkstore.Lease {
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
	if slices.ContainsFunc(d.Leases(), func(l chunkstore.Lease) bool {
		below := func() bool {
			return slices.Contains(slices.Collect(maps.Values(d.folder(l.Root))), workunits.Link{Cid: root})
		}
		return !l.Withheld && (l.Root == root || below())
	}) {
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
func (d *memData) Limit(l exchange.Limits) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.limits = l
}

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

// TestMain has machines that do other things, too, answer in time.
func TestMain(m *testing.M) {
	askTime = 20 * time.Second
	os.Exit(m.Run())
}

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
