// Package exchange fetches content from peers into a chunkstore and serves what
// the store lets peers have.
//
// A stream named Protocol carries requests and their answers, in order. A request is
// the number of chunks wanted (1 to MaxBatch) and their CIDs, each behind its
// length; the answer has for each of them, in order, its size plus one and its
// bytes, or 0 where it is not served here. All numbers are uvarints. One request may
// wait while another is answered, and is made then, so that the sender never waits.
//
// Fetch walks a DAG level by level, so that the leaves of a large file are asked
// for in wide batches, from several sources at once out of one queue. A source
// that keeps a chunk too long loses it to one that has nothing left to do, so that
// nobody waits for the slow and the silent. Every chunk is verified by the store
// before it counts; a source that sends a wrong one is not asked again. How much a
// source is asked for before it has answered follows its measured speed and delay;
// the end of a fetch is shared out so that few chunks come twice. What is
// in the store is not fetched again; what is kept is served as it arrives.
//
// All methods are safe for concurrent use. Memory does not grow with content, but
// by one CID for each chunk of a level.
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
	"sync/atomic"
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
	MaxBatch   = 16               // chunks of a request
	maxCid     = 64               // bytes
	blockTime  = 30 * time.Second // for a piece of a chunk
	idleTime   = 2 * time.Minute
	openTime   = 10 * time.Second
	findTime   = 15 * time.Second       // of the finder
	otherTime  = 15 * time.Second       // of the fallback, for one chunk
	stealAfter = 2 * time.Second        // a chunk may be asked of another source as well
	lackFor    = 250 * time.Millisecond // a source is not asked again for what it lacks
	slowRate   = 2                      // chunks a second, below which a source has one to bring at a time
	slowAfter  = 15 * time.Second       // it may, however busy the first source is
	twicePart  = 50                     // one chunk in so many may be asked of two busy sources
	maxPaces   = 1024                   // sources whose speed is remembered
	maxSources = 8                      // that are asked at a time
	maxHints   = 64                     // sources of a fetch
	perSource  = 3                      // streams
	others     = 8                      // chunks that the fallback fetches at a time
	window     = 4096                   // chunks in a queue
	maxFetched = 1 << 22
	maxLevels  = 512
)

// pauses are the waits before hinted sources are asked again for what they lack.
var pauses = [...]time.Duration{100 * time.Millisecond, 300 * time.Millisecond, time.Second}

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

// Finder names at most n nodes that may have a root. It is given 15 s.
type Finder interface {
	FindProviders(ctx context.Context, c cid.Cid, n int) ([]workunits.NodeID, error)
}

// Fallback fetches single chunks by other means. It is given 15 s for each.
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
	Meter    *Meter // nil for no limits
	// Near reports whether a peer's traffic is not metered; nil: none is so.
	Near func(workunits.NodeID) bool
}

// Exchange fetches and serves. Make it with New.
type Exchange struct {
	cfg Config

	mu     sync.Mutex
	banned map[workunits.NodeID]bool
	paces  map[workunits.NodeID]*pace

	// What was fetched from sources, and what of it came twice, in bytes.
	fetched, twice atomic.Int64
}

// New returns an exchange over a store.
func New(cfg Config) *Exchange {
	return &Exchange{cfg: cfg, banned: map[workunits.NodeID]bool{}, paces: map[workunits.NodeID]*pace{}}
}

// Serve answers a peer's requests until the stream ends or falls silent.
func (x *Exchange) Serve(from workunits.NodeID, s Stream) {
	requests, stop := make(chan []cid.Cid), make(chan struct{})
	var group sync.WaitGroup
	var ended error
	group.Go(func() {
		defer close(requests)
		ended = receive(s, requests, stop)
	})
	err := x.serve(s, x.meter(from), requests)
	close(stop)
	if err == nil {
		group.Wait() // the requests have ended
		err = ended
	}
	if err != nil {
		_ = s.Reset() // it failed already
	} else {
		_ = s.Close()
	}
	group.Wait()
}

// receive reads requests until the stream ends.
func receive(s Stream, requests chan<- []cid.Cid, stop <-chan struct{}) error {
	r := bufio.NewReader(s)
	for {
		wanted, err := readRequest(r)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		select {
		case requests <- wanted:
		case <-stop:
			return nil
		}
	}
}

func (x *Exchange) serve(s Stream, m *Meter, requests <-chan []cid.Cid) error {
	w := bufio.NewWriterSize(s, 64<<10)
	for {
		if err := s.SetDeadline(time.Now().Add(idleTime)); err != nil {
			return err
		}
		wanted, ok := <-requests
		if !ok {
			return nil
		}
		for _, c := range wanted {
			if err := s.SetDeadline(time.Now().Add(blockTime)); err != nil {
				return err
			}
			if err := x.answer(s, m, w, c); err != nil {
				return err
			}
		}
		if err := w.Flush(); err != nil {
			return err
		}
	}
}

func (x *Exchange) answer(s Stream, m *Meter, w *bufio.Writer, c cid.Cid) error {
	data, err := x.cfg.Store.Serve(c)
	if err == nil {
		err = m.sending(context.Background(), min(len(data), piece))
	}
	if err != nil {
		return writeUvarint(w, 0) // not served, or not in this month any more
	}
	if err := writeUvarint(w, uint64(len(data))+1); err != nil {
		return err
	}
	for first := true; len(data) > 0; first = false {
		part := data[:min(len(data), piece)]
		if data = data[len(part):]; !first {
			if err := m.sending(context.Background(), len(part)); err != nil {
				return err
			}
		}
		if err := s.SetDeadline(time.Now().Add(blockTime)); err != nil {
			return err
		}
		if _, err := w.Write(part); err != nil {
			return err
		}
	}
	return nil
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
	n, err := readUvarint(r)
	if err != nil {
		return nil, err
	}
	if n == 0 || n > MaxBatch {
		return nil, fmt.Errorf("request for %d chunks: %w", n, errProtocol)
	}
	list := make([]cid.Cid, 0, n)
	for range n {
		size, err := readUvarint(r)
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

// readUvarint reads a number that is worth reading: all are below 2^35. io.EOF is
// a clean end before it.
func readUvarint(r *bufio.Reader) (n uint64, err error) {
	for i := range binary.MaxVarintLen32 {
		b, err := r.ReadByte()
		if err != nil && i > 0 {
			err = noEOF(err)
		}
		if err != nil {
			return 0, err
		}
		n |= uint64(b&0x7f) << (7 * i)
		if b < 0x80 {
			return n, nil
		}
	}
	return 0, fmt.Errorf("number without an end: %w", errProtocol)
}

func noEOF(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

// readAnswer reads one chunk of an answer into buf, which grows as need be; nil if
// the peer does not serve it. Before each piece it calls pass with its size.
func readAnswer(r *bufio.Reader, buf *[]byte, pass func(n int) error) ([]byte, error) {
	n, err := readUvarint(r)
	if err != nil {
		return nil, noEOF(err)
	}
	if n == 0 {
		return nil, nil
	}
	if n-1 > chunkstore.MaxBlock {
		return nil, fmt.Errorf("chunk of %d bytes: %w", n-1, errProtocol)
	}
	if uint64(cap(*buf)) < n-1 {
		*buf = make([]byte, n-1)
	}
	data := (*buf)[: n-1 : n-1]
	if data == nil {
		data = []byte{} // an empty chunk is no missing one
	}
	for part := range slices.Chunk(data, piece) {
		if err := pass(len(part)); err != nil {
			return nil, err
		}
		if _, err := io.ReadFull(r, part); err != nil {
			return nil, noEOF(err)
		}
	}
	return data, nil
}

// pace is what is known of a source's speed.
func (x *Exchange) pace(n workunits.NodeID) *pace {
	x.mu.Lock()
	defer x.mu.Unlock()
	p := x.paces[n]
	if p == nil {
		if len(x.paces) == maxPaces {
			clear(x.paces) // they are learnt anew
		}
		p = &pace{}
		x.paces[n] = p
	}
	return p
}

// meter is what limits traffic with a peer.
func (x *Exchange) meter(n workunits.NodeID) *Meter {
	if x.cfg.Near != nil && x.cfg.Near(n) {
		return nil
	}
	return x.cfg.Meter
}

// Traffic tells the bytes of chunks that sources gave, and how many of them had
// come from another already.
func (x *Exchange) Traffic() (fetched, twice int64) { return x.fetched.Load(), x.twice.Load() }

func (x *Exchange) ban(n workunits.NodeID) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.banned[n] = true
}

func (x *Exchange) isBanned(n workunits.NodeID) bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.banned[n]
}
