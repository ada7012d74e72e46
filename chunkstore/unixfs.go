package chunkstore

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"sync"

	"github.com/ipfs/boxo/blockservice"
	chunker "github.com/ipfs/boxo/chunker"
	"github.com/ipfs/boxo/exchange/offline"
	"github.com/ipfs/boxo/ipld/merkledag"
	"github.com/ipfs/boxo/ipld/unixfs/importer/balanced"
	"github.com/ipfs/boxo/ipld/unixfs/importer/helpers"
	uio "github.com/ipfs/boxo/ipld/unixfs/io"
	blocks "github.com/ipfs/go-block-format"
	"github.com/ipfs/go-cid"
	ipld "github.com/ipfs/go-ipld-format"
	mh "github.com/multiformats/go-multihash"

	"github.com/talka-grid/talka/workunits"
)

// The shape of what Talka adds.
const (
	leafSize = 1 << 20
	maxLinks = 1024
)

// Limits on what a stranger's content may make this machine do.
const (
	maxDepth   = 64      // folders in folders
	maxEntries = 1 << 20 // files and folders
	maxVisits  = 1 << 22 // chunks read, counting each as often as it is referred to
	maxName    = 255     // bytes of a name
)

// Hash is how chunks are named.
type Hash uint64

// The hashes that a store accepts. BLAKE3 is what Talka adds with; SHA256 is some four
// times slower and known to every IPFS implementation.
const (
	BLAKE3 Hash = mh.BLAKE3
	SHA256 Hash = mh.SHA2_256
)

func builder(h Hash) cid.Builder {
	return cid.V1Builder{Codec: cid.DagProtobuf, MhType: uint64(h), MhLength: -1}
}

// Adding says how content is added. The zero value copies it and names it by BLAKE3.
type Adding struct {
	Hash Hash // 0: BLAKE3
	// Link leaves the content of files where it is: the store reads it there, verified
	// each time, and it takes nothing of the quota. See CheckLinks.
	Link bool
}

// dag reads and writes nodes in the store alone.
func (s *Store) dag() ipld.DAGService {
	return merkledag.NewDAGService(blockservice.New(s, offline.Exchange(s)))
}

// Added tells what adding came to.
type Added struct {
	Cid    cid.Cid
	Bytes  int64 // of files
	Chunks int   // each once, though it may be referred to often
}

// Add stores a file or folder. Anything else in it, links and devices, is
// refused. Memory grows with size by a CID a chunk only. Progress, which may be
// nil, gets the bytes read so far and in all, on the caller's goroutine. What is
// added is covered until Add returns; Keep it at once.
//
// Whoever adds again what an earlier Add, or its process, did not finish has it read
// again and what is missing written.
func (s *Store) Add(ctx context.Context, path string, progress func(done, total int64)) (Added, error) {
	return s.AddAs(ctx, path, Adding{}, progress)
}

// AddAs is Add in a way that the caller chooses.
func (s *Store) AddAs(ctx context.Context, path string, as Adding, progress func(done, total int64)) (Added, error) {
	if as.Hash != 0 && as.Hash != BLAKE3 && as.Hash != SHA256 {
		return Added{}, fmt.Errorf("add: hash function %#x: %w", uint64(as.Hash), ErrForeign)
	}
	path, err := filepath.Abs(path)
	if err != nil {
		return Added{}, fmt.Errorf("add: %w", err)
	}
	a := newAdder(s, as)
	a.progress = progress
	defer func() {
		a.writes.Wait()
		s.unhold(s.held, slices.Collect(maps.Keys(a.held))...)
	}()
	info, err := os.Lstat(path)
	if err != nil {
		return Added{}, fmt.Errorf("add: %w", err)
	}
	if err := filepath.WalkDir(path, a.measure); err != nil {
		return Added{}, fmt.Errorf("add: %w", err)
	}
	node, err := a.add(ctx, path, info)
	if err == nil {
		a.writes.Wait()
		err = a.failed()
	}
	if err != nil {
		return Added{}, fmt.Errorf("add %s: %w", path, err)
	}
	if as.Link {
		if err := s.link(node.Cid(), a.files); err != nil {
			return Added{}, fmt.Errorf("add %s: %w", path, err)
		}
	}
	return Added{node.Cid(), a.done, len(a.held) + len(a.linked)}, nil
}

type adder struct {
	store       *Store
	link        bool
	builder     cid.Builder
	leaf        int64 // bytes
	dag         ipld.DAGService
	held        map[cid.Cid]struct{}
	linked      map[cid.Cid]struct{}
	files       []*source // if leaves are linked; the last one is read now
	progress    func(done, total int64)
	done, total int64

	// Leaves are written beside reading and hashing. What is above them is not, for
	// folders are read while they grow.
	writes sync.WaitGroup
	slots  chan struct{}
	mu     sync.Mutex
	err    error // the first of a write
}

// writers is how many leaves are written at a time.
const writers = 3

// write stores a leaf beside the caller.
func (a *adder) write(ctx context.Context, n ipld.Node) error {
	if err := a.failed(); err != nil {
		return err
	}
	a.slots <- struct{}{}
	a.writes.Go(func() {
		defer func() { <-a.slots }()
		if err := a.store.store(ctx, n.Cid(), n.RawData(), true); err != nil {
			a.mu.Lock()
			a.err = cmp.Or(a.err, err)
			a.mu.Unlock()
		}
	})
	return nil
}

func (a *adder) failed() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.err
}

func newAdder(s *Store, as Adding) *adder {
	a := &adder{
		store: s, link: as.Link, builder: builder(cmp.Or(as.Hash, BLAKE3)), leaf: leafSize,
		held: map[cid.Cid]struct{}{}, linked: map[cid.Cid]struct{}{}, slots: make(chan struct{}, writers),
	}
	a.dag = &counting{s.dag(), a}
	return a
}

func (a *adder) measure(path string, d fs.DirEntry, err error) error {
	switch {
	case err != nil:
		return err
	case d.IsDir():
		return nil
	case !d.Type().IsRegular():
		return fmt.Errorf("%s is a %s: only files and folders can be added", path, kindName(d.Type()))
	}
	info, err := d.Info()
	if err != nil {
		return err
	}
	a.total += info.Size()
	return nil
}

func kindName(m fs.FileMode) string {
	switch {
	case m&fs.ModeSymlink != 0:
		return "link"
	case m&fs.ModeDevice != 0:
		return "device"
	case m&fs.ModeNamedPipe != 0:
		return "pipe"
	case m&fs.ModeSocket != 0:
		return "socket"
	}
	return "special file"
}

func (a *adder) add(ctx context.Context, path string, info fs.FileInfo) (ipld.Node, error) {
	switch {
	case info.IsDir():
		return a.folder(ctx, path)
	case info.Mode().IsRegular():
		f, err := os.Open(path)
		if err != nil {
			return nil, err
		}
		defer f.Close()
		if a.link {
			info, err := f.Stat()
			if err != nil {
				return nil, err
			}
			a.files = append(a.files, &source{path: path})
			a.files[len(a.files)-1].stamp(info)
		}
		return a.reader(ctx, f)
	}
	return nil, fmt.Errorf("%s is a %s: only files and folders can be added", path, kindName(info.Mode()))
}

func (a *adder) folder(ctx context.Context, path string) (ipld.Node, error) {
	entries, err := os.ReadDir(path)
	if err != nil {
		return nil, err
	}
	dir, err := uio.NewDirectory(a.dag, uio.WithCidBuilder(a.builder), uio.WithSizeEstimationMode(uio.SizeEstimationBlock))
	if err != nil {
		return nil, err
	}
	for _, e := range entries {
		if err := ctx.Err(); err != nil {
			return nil, context.Cause(ctx)
		}
		info, err := e.Info()
		if err != nil {
			return nil, err
		}
		child, err := a.add(ctx, filepath.Join(path, e.Name()), info)
		if err != nil {
			return nil, err
		}
		if err := dir.AddChild(ctx, e.Name(), child); err != nil {
			return nil, err
		}
	}
	node, err := dir.GetNode()
	if err != nil {
		return nil, err
	}
	return node, a.dag.Add(ctx, node)
}

func (a *adder) reader(ctx context.Context, r io.Reader) (ipld.Node, error) {
	counted := &counter{r: r, ctx: ctx, a: a}
	params := helpers.DagBuilderParams{Maxlinks: maxLinks, RawLeaves: true, CidBuilder: a.builder, Dagserv: a.dag}
	b, err := params.New(chunker.NewSizeSplitter(counted, a.leaf))
	if err != nil {
		return nil, err
	}
	return balanced.Layout(b)
}

// counting counts the chunks that are added, and covers them first. Shards of
// folders are added twice.
type counting struct {
	ipld.DAGService
	a *adder
}

func (c *counting) Add(ctx context.Context, n ipld.Node) error {
	if c.a.link && n.Cid().Prefix().Codec == cid.Raw {
		return c.a.leave(n)
	}
	if _, ok := c.a.held[n.Cid()]; !ok {
		c.a.held[n.Cid()] = struct{}{}
		c.a.store.holdChunk(n.Cid())
	}
	if n.Cid().Prefix().Codec == cid.Raw {
		return c.a.write(ctx, n)
	}
	return c.a.store.store(ctx, n.Cid(), n.RawData(), true)
}

// leave notes where a leaf stays. The leaves of a file come in order, each once.
func (a *adder) leave(n ipld.Node) error {
	if a.store.denied(n.Cid()) {
		return fmt.Errorf("%s: %w", n.Cid(), ErrDenied)
	}
	f, offset := a.files[len(a.files)-1], int64(0)
	if n := len(f.leaves); n > 0 {
		offset = f.leaves[n-1].offset + int64(f.leaves[n-1].size)
	}
	f.leaves = append(f.leaves, leaf{n.Cid(), offset, int32(len(n.RawData()))})
	a.linked[n.Cid()] = struct{}{}
	return nil
}

func (c *counting) AddMany(ctx context.Context, list []ipld.Node) error {
	for _, n := range list {
		if err := c.Add(ctx, n); err != nil {
			return err
		}
	}
	return nil
}

// counter reports progress and ends with the context.
type counter struct {
	r   io.Reader
	ctx context.Context
	a   *adder
}

func (c *counter) Read(p []byte) (int, error) {
	if err := c.ctx.Err(); err != nil {
		return 0, context.Cause(c.ctx)
	}
	n, err := c.r.Read(p)
	c.a.done += int64(n)
	if c.a.progress != nil {
		c.a.progress(c.a.done, c.a.total)
	}
	return n, err
}

// PutRecord stores a canonical record under its CID.
func (s *Store) PutRecord(ctx context.Context, record []byte) error {
	b, err := blocks.NewBlockWithCid(record, workunits.RecordCid(workunits.Sum(record)))
	if err != nil {
		return err
	}
	return s.Put(ctx, b)
}

// Record reads a record by its digest.
func (s *Store) Record(ctx context.Context, d workunits.Digest) ([]byte, error) {
	b, err := s.Get(ctx, workunits.RecordCid(d))
	if err != nil {
		return nil, fmt.Errorf("record %s: %w", d, err)
	}
	return b.RawData(), nil
}

// Links lists what a chunk refers to: the children of a UnixFS node. Leaves and
// records have none. The error wraps ErrForeign.
func Links(b blocks.Block) ([]cid.Cid, error) {
	if b.Cid().Prefix().Codec != cid.DagProtobuf {
		return nil, nil
	}
	node, err := merkledag.DecodeProtobuf(b.RawData())
	if err != nil {
		return nil, fmt.Errorf("%s: %w: %w", b.Cid(), ErrForeign, err)
	}
	links := make([]cid.Cid, 0, len(node.Links()))
	for _, l := range node.Links() {
		links = append(links, l.Cid)
	}
	return links, nil
}
