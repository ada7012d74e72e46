package exchange

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"

	blocks "github.com/ipfs/go-block-format"
	"github.com/ipfs/go-cid"

	"github.com/talka-grid/talka/chunkstore"
	"github.com/talka-grid/talka/workunits"
)

const (
	readAhead   = 8  // leaves
	maxNesting  = 64 // nodes of a file above a leaf
	keptNodes   = 64 // of a reader
	maxSegments = 64 // names of a path
)

// Block returns a chunk, from the store or as Fetch brings it.
func (x *Exchange) Block(ctx context.Context, c cid.Cid, hints []workunits.NodeID) (blocks.Block, error) {
	defer x.cfg.Store.Hold(c)()
	return x.block(ctx, c, c, hints)
}

// block is Block for a chunk below a root that is held.
func (x *Exchange) block(ctx context.Context, root, c cid.Cid, hints []workunits.NodeID) (blocks.Block, error) {
	b, err := x.cfg.Store.Get(ctx, c)
	if !errors.Is(err, chunkstore.ErrNotFound) {
		return b, err
	}
	f := x.fetch(ctx, root, hints)
	if err := f.bring([]cid.Cid{c}); err != nil {
		return nil, err
	}
	return x.cfg.Store.Get(ctx, c)
}

// Reader reads a file while it arrives, and of it only what is read and a few
// leaves ahead. It is for one goroutine. Close it.
type Reader struct {
	x       *Exchange
	ctx     context.Context
	cancel  context.CancelFunc
	root    cid.Cid // what sources are looked for by
	top     cid.Cid // the file
	hints   []workunits.NodeID
	size    int64
	at      int64
	leaf    []byte // what was read last
	from    int64  // where that begins in the file
	nodes   map[cid.Cid]chunkstore.File
	release func()

	mu    sync.Mutex
	ahead map[cid.Cid]chan struct{} // leaves on the way; closed when they are here or lost
	group sync.WaitGroup
}

// Open opens a file: the root itself, or what a path of names leads to in it. It
// fetches what leads there. The error is as of Fetch; fs.ErrNotExist if a folder has
// no such entry, and one that wraps chunkstore.ErrForeign if it is no file.
func (x *Exchange) Open(ctx context.Context, root cid.Cid, path []string, hints []workunits.NodeID) (*Reader, error) {
	ctx, cancel := context.WithCancel(ctx)
	r := &Reader{
		x: x, ctx: ctx, cancel: cancel, root: root, hints: hints, release: x.cfg.Store.Hold(root),
		nodes: map[cid.Cid]chunkstore.File{}, ahead: map[cid.Cid]chan struct{}{},
	}
	var err error
	var file chunkstore.File
	if r.top, err = x.fetch(ctx, root, hints).follow(path); err == nil {
		file, err = r.node(r.top)
	}
	if err != nil {
		_ = r.Close() // it never fails
		return nil, fmt.Errorf("open %s: %w", root, err)
	}
	r.size = file.Size
	return r, nil
}

// Close ends what is on the way. It returns nil.
func (r *Reader) Close() error {
	r.cancel()
	r.group.Wait()
	r.release()
	return nil
}

// Seek is io.Seeker.
func (r *Reader) Seek(offset int64, whence int) (int64, error) {
	switch whence {
	case io.SeekCurrent:
		offset += r.at
	case io.SeekEnd:
		offset += r.size
	}
	if offset < 0 {
		return 0, errors.New("seek before the beginning of a file")
	}
	r.at = offset
	return offset, nil
}

// Read is io.Reader.
func (r *Reader) Read(p []byte) (int, error) {
	if r.at >= r.size {
		return 0, io.EOF
	}
	if r.at < r.from || r.at >= r.from+int64(len(r.leaf)) {
		if err := r.find(); err != nil {
			return 0, err
		}
	}
	n := copy(p, r.leaf[r.at-r.from:])
	r.at += int64(n)
	return n, nil
}

// find brings the bytes at the reader's place.
func (r *Reader) find() error {
	c, start, claimed := r.top, int64(0), r.size
	for range maxNesting {
		file, err := r.node(c)
		if err != nil {
			return err
		}
		if file.Size != claimed {
			return fmt.Errorf("%s has %d bytes, not %d: %w", c, file.Size, claimed, chunkstore.ErrForeign)
		}
		if r.at < start+int64(len(file.Bytes)) {
			r.leaf, r.from = file.Bytes, start
			return nil
		}
		start += int64(len(file.Bytes))
		i := 0
		for r.at >= start+file.Parts[i].Size { // there is one: the sizes add up
			start += file.Parts[i].Size
			i++
		}
		c, claimed = file.Parts[i].Cid, file.Parts[i].Size
		r.prepare(file.Parts[i:min(len(file.Parts), i+readAhead)])
	}
	return fmt.Errorf("more than %d levels: %w", maxNesting, chunkstore.ErrForeign)
}

// node brings a chunk as a node of a file.
func (r *Reader) node(c cid.Cid) (chunkstore.File, error) {
	if file, ok := r.nodes[c]; ok {
		return file, nil
	}
	r.mu.Lock()
	wait := r.ahead[c]
	r.mu.Unlock()
	if wait != nil {
		<-wait
	}
	b, err := r.x.block(r.ctx, r.root, c, r.hints)
	if err != nil {
		return chunkstore.File{}, err
	}
	file, err := chunkstore.ParseFile(b)
	if err == nil && c.Prefix().Codec != cid.Raw {
		if len(r.nodes) == keptNodes {
			clear(r.nodes)
		}
		r.nodes[c] = file
	}
	return file, err
}

// prepare has parts fetched beside the reader.
func (r *Reader) prepare(parts []chunkstore.Part) {
	for _, p := range parts {
		if ok, _ := r.x.cfg.Store.Has(r.ctx, p.Cid); ok { // it never fails
			continue
		}
		r.mu.Lock()
		full := len(r.ahead) >= readAhead || r.ahead[p.Cid] != nil
		done := make(chan struct{})
		if !full {
			r.ahead[p.Cid] = done
		}
		r.mu.Unlock()
		if full {
			continue
		}
		r.group.Go(func() {
			_, _ = r.x.block(r.ctx, r.root, p.Cid, r.hints) // who needs it tries again, and fails
			r.mu.Lock()
			delete(r.ahead, p.Cid)
			r.mu.Unlock()
			close(done)
		})
	}
}
