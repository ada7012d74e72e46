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

	"github.com/ipfs/boxo/files"
	unixfile "github.com/ipfs/boxo/ipld/unixfs/file"
	"github.com/ipfs/go-cid"
	ipld "github.com/ipfs/go-ipld-format"
)

// Materialise writes content that is in the store to dest, a file or a folder
// that must not exist. It appears whole or not at all. The error wraps
// ErrNotFound if part of it is not here and ErrForeign if it is malformed, holds
// links or names that are no plain names, or unpacks to more than the quota.
func (s *Store) Materialise(ctx context.Context, root cid.Cid, dest string) error {
	if _, err := os.Lstat(dest); err == nil {
		return fmt.Errorf("%s: %w", dest, fs.ErrExist)
	}
	if codec := root.Prefix().Codec; codec != cid.Raw && codec != cid.DagProtobuf {
		return fmt.Errorf("%s is neither a file nor a folder: %w", root, ErrForeign)
	}
	defer s.Hold(root)()
	tmp, err := os.MkdirTemp(filepath.Dir(dest), ".talka-*")
	if err != nil {
		return err
	}
	defer os.RemoveAll(tmp)
	whole := filepath.Join(tmp, "root")
	if err := s.unpack(ctx, root, whole); err != nil {
		if cause := context.Cause(ctx); cause != nil {
			err = cause
		}
		return fmt.Errorf("%s: %w", root, err)
	}
	return os.Rename(whole, dest)
}

func (s *Store) unpack(ctx context.Context, root cid.Cid, path string) error {
	ctx, cancel := context.WithCancel(ctx) // ends the readers of folders left early
	defer cancel()
	w := &writer{dag: &limited{DAGService: s.dag()}, room: s.cfg.Quota, endless: s.cfg.Quota == 0}
	node, err := w.dag.Get(ctx, root)
	if err != nil {
		return w.kind(err)
	}
	file, err := unixfile.NewUnixfsFile(ctx, w.dag, node)
	if err != nil {
		return w.kind(err)
	}
	return w.write(path, file, 0)
}

// limited reads so many nodes and no more: small DAGs can refer to their nodes
// over and over.
type limited struct {
	ipld.DAGService
	visits atomic.Int64
}

func (l *limited) Get(ctx context.Context, c cid.Cid) (ipld.Node, error) {
	if l.visits.Add(1) > maxVisits {
		return nil, fmt.Errorf("more than %d chunks to read: %w", maxVisits, ErrForeign)
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

func (w *writer) write(path string, node files.Node, depth int) error {
	defer node.Close()
	if w.entries++; w.entries > maxEntries || depth > maxDepth {
		return fmt.Errorf("more than %d entries or %d levels: %w", maxEntries, maxDepth, ErrForeign)
	}
	switch node := node.(type) {
	case *files.Symlink:
		return fmt.Errorf("%.40q is a link: %w", filepath.Base(path), ErrForeign)
	case files.File:
		return w.file(path, node)
	case files.Directory:
		return w.folder(path, node, depth)
	}
	return ErrForeign
}

func (w *writer) file(path string, node files.File) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return w.taken(path, err)
	}
	_, err = io.Copy(&bounded{f, w}, node)
	if err != nil {
		err = w.kind(err)
	}
	return errors.Join(err, f.Close())
}

// bounded writes what the writer has room for.
type bounded struct {
	f *os.File
	w *writer
}

func (b *bounded) Write(p []byte) (int, error) {
	if !b.w.endless {
		if b.w.room -= int64(len(p)); b.w.room < 0 {
			return 0, fmt.Errorf("it unpacks to more bytes than the disk limit: %w", ErrForeign)
		}
	}
	return b.f.Write(p)
}

func (w *writer) folder(path string, node files.Directory, depth int) error {
	if err := os.Mkdir(path, 0o700); err != nil {
		return w.taken(path, err)
	}
	it := node.Entries()
	for it.Next() {
		if !plain(it.Name()) {
			return fmt.Errorf("entry %.40q is no plain name: %w", it.Name(), ErrForeign)
		}
		if err := w.write(filepath.Join(path, it.Name()), it.Node(), depth+1); err != nil {
			return err
		}
	}
	if err := it.Err(); err != nil {
		return w.kind(err)
	}
	return nil
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
