// Package exchange fetches content from peers into a chunkstore and serves what
// the store holds.
//
// A stream named Protocol carries requests and answers, one after the other. A
// request is the number of chunks wanted (1 to MaxBatch) and their CIDs, each
// behind its length; the answer has for each of them, in order, its size plus one
// and its bytes, or 0 where it is not served here. All numbers are uvarints.
//
// Fetch walks a DAG level by level, so that the leaves of a large file are asked
// for in wide batches, from all sources at once out of one queue; a slow source
// holds up its own batch only. Every chunk is verified by the store before it
// counts; a source that sends a wrong one is not asked again. What is in the
// store is not fetched again, and is served at once to others.
//
// All methods are safe for concurrent use.
package exchange

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
	"time"

	blocks "github.com/ipfs/go-block-format"
	"github.com/ipfs/go-cid"

	"github.com/talka-grid/talka/chunkstore"
	"github.com/talka-grid/talka/workunits"
)

// Protocol is the name of the streams.
const Protocol = "chunks"

// Limits on what a peer may ask or make this node wait for.
const (
	MaxBatch   = 16 // chunks of a request
	maxCid     = 64 // bytes
	blockTime  = 30 * time.Second
	idleTime   = 2 * time.Minute
	openTime   = 10 * time.Second
	maxSources = 8
	perSource  = 2 // streams
	maxFetched = 1 << 22
)

// Errors of Fetch.
var (
	ErrNotFound = errors.New("no peer that was asked has the content")
	errProtocol = errors.New("peer breaks the chunk protocol")
)

// Stream is a two-way stream of bytes to a peer.
type Stream interface {
	io.ReadWriteCloser
	CloseWrite() error
	SetDeadline(t time.Time) error
	Reset() error
}

// Streams opens streams to peers.
type Streams interface {
	Open(ctx context.Context, to workunits.NodeID, name string) (Stream, error)
}

// Finder names nodes that may have a root.
type Finder interface {
	FindProviders(ctx context.Context, c cid.Cid, n int) ([]workunits.NodeID, error)
}

// Fallback fetches single chunks by other means.
type Fallback interface {
	Block(ctx context.Context, c cid.Cid) (blocks.Block, error)
}

// Config is what an exchange works with. Finder and Fallback may be nil.
type Config struct {
	Self     workunits.NodeID
	Store    *chunkstore.Store
	Streams  Streams
	Finder   Finder
	Fallback Fallback
}

// Exchange fetches and serves. Make it with New.
type Exchange struct {
	cfg Config

	mu     sync.Mutex
	banned map[workunits.NodeID]bool
}

// New returns an exchange over a store.
func New(cfg Config) *Exchange {
	return &Exchange{cfg: cfg, banned: map[workunits.NodeID]bool{}}
}

// Serve answers a peer's requests until the stream ends or falls silent.
func (x *Exchange) Serve(_ workunits.NodeID, s Stream) {
	if err := x.serve(s); err != nil {
		_ = s.Reset() // it failed already
		return
	}
	_ = s.Close()
}

func (x *Exchange) serve(s Stream) error {
	r, w := bufio.NewReader(s), bufio.NewWriterSize(s, 64<<10)
	for {
		if err := s.SetDeadline(time.Now().Add(idleTime)); err != nil {
			return err
		}
		wanted, err := readRequest(r)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		for _, c := range wanted {
			if err := s.SetDeadline(time.Now().Add(blockTime)); err != nil {
				return err
			}
			if err := x.answer(w, c); err != nil {
				return err
			}
		}
		if err := w.Flush(); err != nil {
			return err
		}
	}
}

func (x *Exchange) answer(w *bufio.Writer, c cid.Cid) error {
	b, err := x.cfg.Store.Get(context.Background(), c)
	if err != nil {
		return writeUvarint(w, 0)
	}
	if err := writeUvarint(w, uint64(len(b.RawData()))+1); err != nil {
		return err
	}
	_, err = w.Write(b.RawData())
	return err
}

func writeUvarint(w *bufio.Writer, n uint64) error {
	_, err := w.Write(binary.AppendUvarint(nil, n))
	return err
}

func writeRequest(w *bufio.Writer, list []cid.Cid) error {
	if err := writeUvarint(w, uint64(len(list))); err != nil {
		return err
	}
	for _, c := range list {
		if err := writeUvarint(w, uint64(c.ByteLen())); err != nil {
			return err
		}
		if _, err := w.Write(c.Bytes()); err != nil {
			return err
		}
	}
	return w.Flush()
}

// readRequest reads one request; io.EOF is a clean end before it.
func readRequest(r *bufio.Reader) ([]cid.Cid, error) {
	n, err := binary.ReadUvarint(r)
	if err != nil {
		return nil, err
	}
	if n == 0 || n > MaxBatch {
		return nil, fmt.Errorf("request for %d chunks: %w", n, errProtocol)
	}
	list := make([]cid.Cid, 0, n)
	for range n {
		size, err := binary.ReadUvarint(r)
		if err != nil {
			return nil, noEOF(err)
		}
		if size > maxCid {
			return nil, fmt.Errorf("CID of %d bytes: %w", size, errProtocol)
		}
		raw := make([]byte, size)
		if _, err := io.ReadFull(r, raw); err != nil {
			return nil, noEOF(err)
		}
		c, err := cid.Cast(raw)
		if err != nil {
			return nil, fmt.Errorf("%w: %w", errProtocol, err)
		}
		list = append(list, c)
	}
	return list, nil
}

func noEOF(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

// readAnswer reads one chunk of an answer; nil if the peer does not serve it.
func readAnswer(r *bufio.Reader) ([]byte, error) {
	n, err := binary.ReadUvarint(r)
	if err != nil {
		return nil, noEOF(err)
	}
	if n == 0 {
		return nil, nil
	}
	if n-1 > chunkstore.MaxBlock {
		return nil, fmt.Errorf("chunk of %d bytes: %w", n-1, errProtocol)
	}
	data := make([]byte, n-1)
	_, err = io.ReadFull(r, data)
	return data, noEOF(err)
}

// Progress tells how many bytes were fetched; their total is not known before.
type Progress func(done, total int64)

// Fetch brings a root and all below it into the store: from the hinted nodes,
// else from those that the finder names, else by the fallback. It ends with
// ErrNotFound once nobody has a chunk, or with the cause of ctx.
func (x *Exchange) Fetch(ctx context.Context, root cid.Cid, hints []workunits.NodeID, progress Progress) error {
	f := &fetch{x: x, ctx: ctx, sources: x.usable(hints), progress: progress}
	level := []cid.Cid{root}
	for seen := 0; len(level) > 0; {
		if seen += len(level); seen > maxFetched {
			return fmt.Errorf("%s has more than %d chunks: %w", root, maxFetched, chunkstore.ErrForeign)
		}
		if err := f.level(root, level); err != nil {
			return fmt.Errorf("fetch %s: %w", root, err)
		}
		next, err := x.below(ctx, level)
		if err != nil {
			return fmt.Errorf("fetch %s: %w", root, err)
		}
		level = next
	}
	return nil
}

// below lists the children of chunks that are here, each once.
func (x *Exchange) below(ctx context.Context, level []cid.Cid) (next []cid.Cid, err error) {
	seen := map[cid.Cid]bool{}
	for _, c := range level {
		if c.Prefix().Codec != cid.DagProtobuf {
			continue
		}
		b, err := x.cfg.Store.Get(ctx, c)
		if err != nil {
			return nil, err
		}
		links, err := chunkstore.Links(b)
		if err != nil {
			return nil, err
		}
		for _, l := range links {
			if !seen[l] {
				seen[l] = true
				next = append(next, l)
			}
		}
	}
	return next, nil
}

func (x *Exchange) usable(nodes []workunits.NodeID) (list []workunits.NodeID) {
	x.mu.Lock()
	defer x.mu.Unlock()
	for _, n := range nodes {
		if n != x.cfg.Self && !x.banned[n] && !slices.Contains(list, n) {
			list = append(list, n)
		}
	}
	return list
}

func (x *Exchange) ban(n workunits.NodeID) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.banned[n] = true
}

// fetch is one call of Fetch.
type fetch struct {
	x        *Exchange
	ctx      context.Context
	sources  []workunits.NodeID
	searched bool
	progress Progress

	mu   sync.Mutex
	done int64
}

// level brings the chunks of one level here.
func (f *fetch) level(root cid.Cid, level []cid.Cid) error {
	for {
		missing, err := f.missing(level)
		if err != nil || len(missing) == 0 {
			return err
		}
		if left := f.from(f.sources, missing); len(left) == 0 {
			return nil
		}
		if err := f.ctx.Err(); err != nil {
			return context.Cause(f.ctx)
		}
		if !f.searched && f.x.cfg.Finder != nil {
			f.searched = true
			found, err := f.x.cfg.Finder.FindProviders(f.ctx, root, maxSources)
			if err == nil && len(found) > 0 {
				f.sources = f.x.usable(append(f.sources, found...))
				continue
			}
		}
		return f.fallback(level)
	}
}

func (f *fetch) missing(level []cid.Cid) (list []cid.Cid, err error) {
	for _, c := range level {
		ok, err := f.x.cfg.Store.Has(f.ctx, c)
		if err != nil {
			return nil, err
		}
		if !ok {
			list = append(list, c)
		}
	}
	return list, nil
}

func (f *fetch) fallback(level []cid.Cid) error {
	missing, err := f.missing(level)
	if err != nil {
		return err
	}
	for _, c := range missing {
		if f.x.cfg.Fallback == nil {
			return fmt.Errorf("%s: %w", c, ErrNotFound)
		}
		b, err := f.x.cfg.Fallback.Block(f.ctx, c)
		if err != nil {
			if cause := context.Cause(f.ctx); cause != nil {
				return cause
			}
			return fmt.Errorf("%s: %w: %w", c, ErrNotFound, err)
		}
		if err := f.put(c, b.RawData()); err != nil {
			return err
		}
	}
	return nil
}

func (f *fetch) put(c cid.Cid, data []byte) error {
	b, err := blocks.NewBlockWithCid(data, c)
	if err != nil {
		return err
	}
	if err := f.x.cfg.Store.Put(f.ctx, b); err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.done += int64(len(data))
	if f.progress != nil {
		f.progress(f.done, 0)
	}
	return nil
}

// queue hands out chunks to sources. A chunk that a source does not have comes
// back for the others.
type queue struct {
	mu   sync.Mutex
	list []cid.Cid
	lack map[cid.Cid][]workunits.NodeID
}

// take returns the next chunks that the source may have.
func (q *queue) take(n workunits.NodeID) (batch []cid.Cid) {
	q.mu.Lock()
	defer q.mu.Unlock()
	rest := q.list[:0]
	for _, c := range q.list {
		if len(batch) < MaxBatch && !slices.Contains(q.lack[c], n) {
			batch = append(batch, c)
		} else {
			rest = append(rest, c)
		}
	}
	q.list = rest
	return batch
}

func (q *queue) giveBack(n workunits.NodeID, list []cid.Cid) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, c := range list {
		q.lack[c] = append(q.lack[c], n)
	}
	q.list = append(q.list, list...)
}

// from fetches chunks from sources and returns those that none of them gave.
func (f *fetch) from(sources []workunits.NodeID, list []cid.Cid) []cid.Cid {
	q := &queue{list: slices.Clone(list), lack: map[cid.Cid][]workunits.NodeID{}}
	// A batch that comes back late may be what another source has: rounds end
	// when one brings nothing.
	for before := -1; len(q.list) > 0 && len(q.list) != before; {
		before = len(q.list)
		var group sync.WaitGroup
		for _, n := range sources[:min(len(sources), maxSources)] {
			for range min(perSource, (len(list)+MaxBatch-1)/MaxBatch) {
				group.Go(func() { f.source(n, q) })
			}
		}
		group.Wait()
	}
	return q.list
}

// source fetches batches from one peer until it has nothing more.
func (f *fetch) source(n workunits.NodeID, q *queue) {
	batch := q.take(n)
	if len(batch) == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(f.ctx, openTime)
	s, err := f.x.cfg.Streams.Open(ctx, n, Protocol)
	cancel()
	if err != nil {
		q.giveBack(n, batch)
		return
	}
	stop := context.AfterFunc(f.ctx, func() { _ = s.Reset() })
	defer stop()
	r, w := bufio.NewReaderSize(s, 64<<10), bufio.NewWriter(s)
	for len(batch) > 0 {
		left, err := f.batch(s, r, w, batch)
		if len(left) > 0 {
			q.giveBack(n, left)
		}
		if errors.Is(err, chunkstore.ErrDamaged) || errors.Is(err, errProtocol) {
			f.x.ban(n)
		}
		if err != nil {
			_ = s.Reset()
			return
		}
		batch = q.take(n)
	}
	_ = s.Close()
}

// batch asks for chunks and stores the answer. It returns those that did not come.
func (f *fetch) batch(s Stream, r *bufio.Reader, w *bufio.Writer, list []cid.Cid) (left []cid.Cid, err error) {
	if err := s.SetDeadline(time.Now().Add(blockTime)); err != nil {
		return list, err
	}
	if err := writeRequest(w, list); err != nil {
		return list, err
	}
	for i, c := range list {
		if err := s.SetDeadline(time.Now().Add(blockTime)); err != nil {
			return append(left, list[i:]...), err
		}
		data, err := readAnswer(r)
		if err != nil {
			return append(left, list[i:]...), err
		}
		if data == nil {
			left = append(left, c)
			continue
		}
		if err := f.put(c, data); err != nil {
			return append(left, list[i:]...), err
		}
	}
	return left, nil
}
