package chunkstore

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/ipfs/boxo/blockservice"
	chunker "github.com/ipfs/boxo/chunker"
	"github.com/ipfs/boxo/exchange/offline"
	"github.com/ipfs/boxo/files"
	"github.com/ipfs/boxo/ipld/merkledag"
	unixfile "github.com/ipfs/boxo/ipld/unixfs/file"
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

// Limits on what a stranger's folder may make this machine do.
const (
	maxDepth   = 64
	maxEntries = 1 << 20
)

func builder() cid.Builder {
	return cid.V1Builder{Codec: cid.DagProtobuf, MhType: mh.BLAKE3, MhLength: -1}
}

// dag reads and writes nodes in the store alone.
func (s *Store) dag() ipld.DAGService {
	return merkledag.NewDAGService(blockservice.New(s, offline.Exchange(s)))
}

// Added tells what adding came to.
type Added struct {
	Cid    cid.Cid
	Bytes  int64
	Chunks int
}

// Add stores a file or folder. Anything else in it, links and devices, is
// refused. Memory does not grow with size. Progress, which may be nil, gets the
// bytes read so far and in all.
func (s *Store) Add(ctx context.Context, path string, progress func(done, total int64)) (Added, error) {
	a := &adder{store: s, progress: progress}
	info, err := os.Lstat(path)
	if err != nil {
		return Added{}, fmt.Errorf("add: %w", err)
	}
	if err := filepath.WalkDir(path, a.measure); err != nil {
		return Added{}, fmt.Errorf("add: %w", err)
	}
	node, err := a.add(ctx, path, info)
	if err != nil {
		return Added{}, fmt.Errorf("add %s: %w", path, err)
	}
	return Added{node.Cid(), a.done, a.chunks}, nil
}

type adder struct {
	store       *Store
	progress    func(done, total int64)
	done, total int64
	chunks      int
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
		return a.reader(ctx, f)
	}
	return nil, fmt.Errorf("%s is a %s: only files and folders can be added", path, kindName(info.Mode()))
}

func (a *adder) folder(ctx context.Context, path string) (ipld.Node, error) {
	entries, err := os.ReadDir(path)
	if err != nil {
		return nil, err
	}
	dir, err := uio.NewDirectory(a.store.dag(), uio.WithCidBuilder(builder()))
	if err != nil {
		return nil, err
	}
	for _, e := range entries {
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
	a.chunks++
	return node, a.store.dag().Add(ctx, node)
}

func (a *adder) reader(ctx context.Context, r io.Reader) (ipld.Node, error) {
	counted := &counter{r: r, ctx: ctx, a: a}
	params := helpers.DagBuilderParams{
		Maxlinks: maxLinks, RawLeaves: true, CidBuilder: builder(), Dagserv: &counting{a.store.dag(), a},
	}
	b, err := params.New(chunker.NewSizeSplitter(counted, leafSize))
	if err != nil {
		return nil, err
	}
	return balanced.Layout(b)
}

// counting counts the chunks that the importer adds.
type counting struct {
	ipld.DAGService
	a *adder
}

func (c *counting) Add(ctx context.Context, n ipld.Node) error {
	c.a.chunks++
	return c.DAGService.Add(ctx, n)
}

// counter reports progress and ends with the context.
type counter struct {
	r   io.Reader
	ctx context.Context
	a   *adder
}

func (c *counter) Read(p []byte) (int, error) {
	if err := c.ctx.Err(); err != nil {
		return 0, err
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
	if ipld.IsNotFound(err) {
		return nil, fmt.Errorf("record %s: %w", d, ErrNotFound)
	}
	if err != nil {
		return nil, err
	}
	return b.RawData(), nil
}

// Links lists what a chunk refers to: the children of a UnixFS node. Leaves and
// records have none.
func Links(b blocks.Block) ([]cid.Cid, error) {
	if b.Cid().Prefix().Codec != cid.DagProtobuf {
		return nil, nil
	}
	node, err := merkledag.DecodeProtobuf(b.RawData())
	if err != nil {
		return nil, fmt.Errorf("%s: %w", b.Cid(), err)
	}
	links := make([]cid.Cid, 0, len(node.Links()))
	for _, l := range node.Links() {
		links = append(links, l.Cid)
	}
	return links, nil
}

// Materialise writes content that is in the store to dest, a file or a folder
// that must not exist. It appears whole or not at all.
func (s *Store) Materialise(ctx context.Context, root cid.Cid, dest string) error {
	if _, err := os.Lstat(dest); err == nil {
		return fmt.Errorf("%s: %w", dest, fs.ErrExist)
	}
	node, err := s.dag().Get(ctx, root)
	if err != nil {
		return s.missing(root, err)
	}
	file, err := unixfile.NewUnixfsFile(ctx, s.dag(), node)
	if err != nil {
		return fmt.Errorf("%s is neither a file nor a folder: %w", root, err)
	}
	defer file.Close()
	tmp, err := os.MkdirTemp(filepath.Dir(dest), ".talka-*")
	if err != nil {
		return err
	}
	defer os.RemoveAll(tmp)
	w := &writer{ctx: ctx}
	if err := w.write(filepath.Join(tmp, "root"), file, 0); err != nil {
		return s.missing(root, err)
	}
	return os.Rename(filepath.Join(tmp, "root"), dest)
}

func (s *Store) missing(root cid.Cid, err error) error {
	if ipld.IsNotFound(err) {
		return fmt.Errorf("%s: %w", root, ErrNotFound)
	}
	return fmt.Errorf("%s: %w", root, err)
}

type writer struct {
	ctx     context.Context
	entries int
}

func (w *writer) write(path string, node files.Node, depth int) error {
	if w.entries++; w.entries > maxEntries || depth > maxDepth {
		return fmt.Errorf("more than %d entries or %d levels: %w", maxEntries, maxDepth, ErrForeign)
	}
	switch node := node.(type) {
	case *files.Symlink:
		return fmt.Errorf("%s is a link: %w", filepath.Base(path), ErrForeign)
	case files.File:
		f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
		if err != nil {
			return err
		}
		_, err = io.Copy(f, node)
		return errors.Join(err, f.Close())
	case files.Directory:
		if err := os.Mkdir(path, 0o700); err != nil {
			return err
		}
		it := node.Entries()
		for it.Next() {
			if !filepath.IsLocal(it.Name()) || filepath.Base(it.Name()) != it.Name() {
				return fmt.Errorf("entry %.40q is no plain name: %w", it.Name(), ErrForeign)
			}
			if err := w.write(filepath.Join(path, it.Name()), it.Node(), depth+1); err != nil {
				return err
			}
		}
		return it.Err()
	}
	return ErrForeign
}
