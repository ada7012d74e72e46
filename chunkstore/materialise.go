package chunkstore

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"

	"github.com/ipfs/boxo/ipld/merkledag"
	"github.com/ipfs/boxo/ipld/unixfs"
	uio "github.com/ipfs/boxo/ipld/unixfs/io"
	"github.com/ipfs/go-cid"
	ipld "github.com/ipfs/go-ipld-format"
)

// Materialise writes content that is in the store to dest, a file or a folder
// that must not exist. It appears whole or not at all. The error wraps
// ErrNotFound if part of it is not here and ErrForeign if it is malformed, holds
// links or names that are no plain names, or unpacks to more than the quota.
func (s *Store) Materialise(ctx context.Context, root cid.Cid, dest string) error {
	return s.materialise(ctx, root, dest, false)
}

// View is Materialise for those who only read: a file of one chunk is that
// chunk's own file under another name where the disk allows it, which costs
// neither time nor space. Nothing below dest may be written to. Remove dest before
// its content is released, for until then the quota counts it once.
func (s *Store) View(ctx context.Context, root cid.Cid, dest string) error {
	return s.materialise(ctx, root, dest, true)
}

func (s *Store) materialise(ctx context.Context, root cid.Cid, dest string, share bool) error {
	if _, err := os.Lstat(dest); err == nil {
		return fmt.Errorf("%s: %w", dest, fs.ErrExist)
	}
	defer s.Hold(root)()
	tmp, err := os.MkdirTemp(filepath.Dir(dest), ".talka-*")
	if err != nil {
		return err
	}
	defer os.RemoveAll(tmp)
	whole := filepath.Join(tmp, "root")
	w := &writer{store: s, ctx: ctx, share: share, dag: &limited{DAGService: s.dag()}, room: s.cfg.Quota + s.Stat().Linked, endless: s.cfg.Quota == 0}
	if err := w.write(whole, root, 0); err != nil {
		if cause := context.Cause(ctx); cause != nil {
			err = cause
		}
		return fmt.Errorf("%s: %w", root, err)
	}
	return os.Rename(whole, dest)
}

var errVisits = fmt.Errorf("more than %d chunks to read: %w", maxVisits, ErrForeign)

// limited reads so many nodes and no more: small DAGs can refer to their nodes
// over and over.
type limited struct {
	ipld.DAGService
	visits atomic.Int64
}

func (l *limited) Get(ctx context.Context, c cid.Cid) (ipld.Node, error) {
	if l.visits.Add(1) > maxVisits {
		return nil, errVisits
	}
	return l.DAGService.Get(ctx, c)
}

// GetMany reads one after the other. Unlike the one it stands for, its errors
// say what is missing.
func (l *limited) GetMany(ctx context.Context, list []cid.Cid) <-chan *ipld.NodeOption {
	out := make(chan *ipld.NodeOption)
	go func() {
		defer close(out)
		for _, c := range list {
			n, err := l.Get(ctx, c)
			select {
			case out <- &ipld.NodeOption{Node: n, Err: err}:
			case <-ctx.Done():
				return
			}
		}
	}()
	return out
}

// writer writes nodes to files and folders within the limits.
type writer struct {
	store   *Store
	ctx     context.Context
	share   bool
	dag     *limited
	room    int64 // bytes of files that may be written still
	endless bool  // no limit on them
	entries int
}

// kind gives an error of reading content one of the store's kinds: what is here
// and cannot be read as UnixFS is foreign.
func (*writer) kind(err error) error {
	for _, known := range []error{ErrNotFound, ErrForeign, context.Canceled, context.DeadlineExceeded} {
		if errors.Is(err, known) {
			return err
		}
	}
	if errors.As(err, new(*fs.PathError)) {
		return err
	}
	return fmt.Errorf("neither a file nor a folder: %w: %w", ErrForeign, err)
}

func (w *writer) write(path string, c cid.Cid, depth int) error {
	if w.entries++; w.entries > maxEntries || depth > maxDepth {
		return fmt.Errorf("more than %d entries or %d levels: %w", maxEntries, maxDepth, ErrForeign)
	}
	if err := w.ctx.Err(); err != nil {
		return err
	}
	switch c.Prefix().Codec {
	case cid.Raw:
		return w.leaf(path, c)
	case cid.DagProtobuf:
	default:
		return fmt.Errorf("%s is neither a file nor a folder: %w", c, ErrForeign)
	}
	node, err := w.dag.Get(w.ctx, c)
	if err != nil {
		return w.kind(err)
	}
	proto, ok := node.(*merkledag.ProtoNode)
	if !ok {
		return fmt.Errorf("%s is neither a file nor a folder: %w", c, ErrForeign)
	}
	shape, err := unixfs.FSNodeFromBytes(proto.Data())
	if err != nil {
		return w.kind(err)
	}
	switch shape.Type() {
	case unixfs.TDirectory, unixfs.THAMTShard:
		return w.folder(path, node, depth)
	case unixfs.TFile, unixfs.TRaw:
		return w.file(path, node)
	case unixfs.TSymlink:
		return fmt.Errorf("%.40q is a link: %w", filepath.Base(path), ErrForeign)
	}
	return fmt.Errorf("%s is neither a file nor a folder: %w", c, ErrForeign)
}

// leaf writes a file of one chunk.
func (w *writer) leaf(path string, c cid.Cid) error {
	if w.dag.visits.Add(1) > maxVisits {
		return errVisits
	}
	b, err := w.store.Get(w.ctx, c) // verified here, whether it is copied or not
	if err != nil {
		return w.kind(err)
	}
	if err := w.take(len(b.RawData())); err != nil {
		return err
	}
	if w.share && os.Link(w.store.path(c), path) == nil {
		return nil
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return w.taken(path, err)
	}
	_, err = f.Write(b.RawData())
	return errors.Join(err, f.Close())
}

func (w *writer) file(path string, node ipld.Node) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return w.taken(path, err)
	}
	r, err := uio.NewDagReader(w.ctx, node, w.dag)
	if err == nil {
		_, err = io.Copy(&bounded{f, w}, r)
		_ = r.Close() // nothing was written through it
	}
	if err != nil {
		err = w.kind(err)
	}
	return errors.Join(err, f.Close())
}

// take takes room for so many bytes.
func (w *writer) take(n int) error {
	if w.room -= int64(n); w.room < 0 && !w.endless {
		return fmt.Errorf("it unpacks to more bytes than the disk limit: %w", ErrForeign)
	}
	return nil
}

// bounded writes what the writer has room for.
type bounded struct {
	f *os.File
	w *writer
}

func (b *bounded) Write(p []byte) (int, error) {
	if err := b.w.take(len(p)); err != nil {
		return 0, err
	}
	return b.f.Write(p)
}

func (w *writer) folder(path string, node ipld.Node, depth int) error {
	if err := os.Mkdir(path, 0o700); err != nil {
		return w.taken(path, err)
	}
	ctx, cancel := context.WithCancel(w.ctx) // ends the readers of shards left early
	defer cancel()
	dir, err := uio.NewDirectoryFromNode(w.dag, node)
	if err != nil {
		return w.kind(err)
	}
	var own error
	err = dir.ForEachLink(ctx, func(l *ipld.Link) error {
		if !plain(l.Name) {
			own = fmt.Errorf("entry %.40q is no plain name: %w", l.Name, ErrForeign)
		} else {
			own = w.write(filepath.Join(path, l.Name), l.Cid, depth+1)
		}
		return own
	})
	if own != nil || err == nil {
		return own
	}
	return w.kind(err)
}

// Entry returns the CID of an entry of a folder. The error is ErrNotFound, and an
// ipld.ErrNotFound that names it, while a chunk on the way, which may be the
// entry's first, is not here; fs.ErrNotExist if the folder has no such entry, and one
// that wraps ErrForeign if none may have such a name.
func (s *Store) Entry(ctx context.Context, root cid.Cid, name string) (cid.Cid, error) {
	return entry(ctx, s.dag(), root, name)
}

func entry(ctx context.Context, dag ipld.DAGService, root cid.Cid, name string) (cid.Cid, error) {
	if !plain(name) {
		return cid.Undef, fmt.Errorf("%.40q is no plain name of an entry: %w", name, ErrForeign)
	}
	node, err := dag.Get(ctx, root)
	if err != nil {
		return cid.Undef, err
	}
	dir, err := uio.NewDirectoryFromNode(dag, node)
	if err != nil {
		return cid.Undef, fmt.Errorf("%s is no folder: %w: %w", root, ErrForeign, err)
	}
	found, err := dir.Find(ctx, name)
	if err != nil {
		return cid.Undef, fmt.Errorf("entry %.40q of %s: %w", name, root, err)
	}
	return found.Cid(), nil
}

// plain reports whether a name names an entry of its folder and nothing else.
func plain(name string) bool {
	return name != "." && len(name) <= maxName && filepath.IsLocal(name) && filepath.Base(name) == name &&
		!strings.ContainsRune(name, 0)
}

// taken tells an entry that is there twice from the disk's own errors.
func (*writer) taken(path string, err error) error {
	if errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("two entries are named %.40q: %w", filepath.Base(path), ErrForeign)
	}
	return err
}
