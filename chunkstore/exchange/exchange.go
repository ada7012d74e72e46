// Package exchange fetches content from peers into a chunkstore and serves what
// the store lets peers have.
//
// A stream named Protocol carries requests and their answers, in order. A request is
// the number of chunks wanted (1 to MaxBatch) and their CIDs, each behind its
// length; the answer has for each of them, in order, its size plus one and its
// bytes, or 0 where it is not served here. All numbers are uvarints. Up to 16 requests
// may wait while another is answered, and are made as chunks come, so that the sender
// never waits. A stream is kept for a while for the next fetch.
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
	leafSize   = 1 << 20
	blockTime  = 30 * time.Second // for a piece of a chunk
	idleTime   = 2 * time.Minute
	openTime   = 10 * time.Second
	findTime   = 15 * time.Second       // of the finder
	otherTime  = 15 * time.Second       // of the fallback, for its first chunk
	otherNext  = time.Minute            // of the fallback, between chunks
	nearTime   = 50 * time.Millisecond  // of a fallback that is near, for a chunk; bitswap alone takes 20 ms
	stealAfter = 2 * time.Second        // a chunk may be asked of another source as well
	lackFor    = 250 * time.Millisecond // a source is not asked again for what it lacks
	slowRate   = 2                      // chunks a second, below which a source may have one to bring at a time
	slowAfter  = 15 * time.Second       // it may, however busy the first source is
	twicePart  = 50                     // one chunk in so many may be asked of two busy sources
	maxPaces   = 1024                   // sources whose speed is remembered
	maxSources = 8                      // that are asked at a time
	maxHints   = 64                     // sources of a fetch
	perSource  = 3                      // streams to each of several sources
	ofOne      = 6                      // streams to the only one
	ofFar      = 12                     // if it is far: a window for each grows from small
	maxServed  = 48                     // chunks in memory for all peers that are served; more only for very many
	maxOpen    = 16                     // requests of a stream that are not answered
	maxAhead   = 8 * MaxBatch           // chunks of a stream that are asked for
	others     = 24                     // chunks that the fallback fetches at a time
	nearOthers = 12                     // if it answers within nearTime
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

// Fallback fetches chunks by other means.
type Fallback interface {
	// Session is for one content and ends with ctx. What it returns waits for a chunk
	// until its own ctx ends; many chunks are asked for at once.
	Session(ctx context.Context) func(context.Context, cid.Cid) (Found, error)
}

// Found is a chunk, which is not verified, and what it came from; empty: this node.
type Found struct {
	Data []byte
	From string
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
	desks  map[workunits.NodeID]*desk // of peers that are served

	talks   *Idle[workunits.NodeID, *talk]
	buffers sync.Pool // of *[]byte, for a leaf and a byte

	// What was fetched from sources, and what of it came twice, in bytes.
	fetched, twice atomic.Int64
}

// New returns an exchange over a store.
func New(cfg Config) *Exchange {
	return &Exchange{cfg: cfg, banned: map[workunits.NodeID]bool{}, paces: map[workunits.NodeID]*pace{}, desks: map[workunits.NodeID]*desk{}, talks: NewIdle[workunits.NodeID, *talk](ofFar)}
}

// desk is where a peer is served: however many streams it has, so many chunks are in
// memory for it at a time, and as many for each other peer that asks for as much; more
// for one that is alone. So peers have equal parts of the disk and of the processor. As
// many streams as a node has to one of several sources are always served, so that none
// waits for long.
type desk struct {
	streams int
	busy    int        // of these, with a chunk in memory
	less    *sync.Cond // there may be room
}

func (x *Exchange) enter(n workunits.NodeID) *desk {
	x.mu.Lock()
	defer x.mu.Unlock()
	d := x.desks[n]
	if d == nil {
		d = &desk{less: sync.NewCond(&x.mu)}
		x.desks[n] = d
	}
	d.streams++
	return d
}

func (x *Exchange) leave(n workunits.NodeID) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.desks[n].streams--; x.desks[n].streams > 0 {
		return
	}
	delete(x.desks, n)
	for _, d := range x.desks {
		d.less.Broadcast() // there is more for each
	}
}

// sit waits until a chunk may be in memory for a peer.
func (x *Exchange) sit(d *desk) {
	x.mu.Lock()
	defer x.mu.Unlock()
	for d.busy >= min(max(maxServed/len(x.desks), perSource), max(ofFar/len(x.desks), ofOne)) {
		d.less.Wait() // each chunk has a deadline
	}
	d.busy++
}

func (x *Exchange) rise(d *desk) {
	x.mu.Lock()
	defer x.mu.Unlock()
	d.busy--
	d.less.Signal()
}

// Serve answers a peer's requests until the stream ends or falls silent.
func (x *Exchange) Serve(from workunits.NodeID, s Stream) {
	desk := x.enter(from)
	defer x.leave(from)
	requests, stop := make(chan []cid.Cid, maxOpen), make(chan struct{})
	var group sync.WaitGroup
	var ended error
	group.Go(func() {
		defer close(requests)
		ended = receive(s, requests, stop)
	})
	err := x.serve(s, from, desk, requests)
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

func (x *Exchange) serve(s Stream, to workunits.NodeID, d *desk, requests <-chan []cid.Cid) error {
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
			if err := s.SetDeadline(time.Now().Add(idleTime)); err != nil {
				return err
			}
			x.sit(d)
			err := s.SetDeadline(time.Now().Add(blockTime))
			if err == nil {
				err = x.answer(s, to, w, c)
			}
			x.rise(d)
			if err != nil {
				return err
			}
		}
		if err := w.Flush(); err != nil {
			return err
		}
	}
}

func (x *Exchange) answer(s Stream, to workunits.NodeID, w *bufio.Writer, c cid.Cid) error {
	var buf []byte
	if size, err := x.cfg.Store.GetSize(context.Background(), c); err == nil && size > piece {
		large, ok := x.buffers.Get().(*[]byte)
		if !ok {
			large = new(make([]byte, leafSize+1))
		}
		buf = *large
		defer x.buffers.Put(large)
	}
	data, err := x.cfg.Store.Serve(c, buf)
	m := x.meter(to)
	if err == nil {
		err = m.Send(context.Background(), to, min(len(data), piece))
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
			if err := m.Send(context.Background(), to, len(part)); err != nil {
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
// the peer does not serve it. Before each piece it calls pass with its size and the
// chunk's.
func readAnswer(r *bufio.Reader, buf *[]byte, pass func(n, of int) error) ([]byte, error) {
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
		if err := pass(len(part), len(data)); err != nil {
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
