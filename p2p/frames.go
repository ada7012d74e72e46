package p2p

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"
	msmux "github.com/multiformats/go-multistream"

	"github.com/talka-grid/talka/workunits"
)

// Limits of the frame protocol.
const (
	// MaxFrame is the largest frame in bytes.
	MaxFrame = 4 << 20
	// maxWaiting is how many Sends may wait for one peer.
	maxWaiting = 256
	// frameTimeout bounds the time that a frame takes once its length is known,
	// and the time that a peer may refuse to take more.
	frameTimeout = 30 * time.Second
	// probeAfter is the age of a peer's last sign of life at which Send probes
	// the connection, so that a dead peer is noticed within probeTimeout.
	probeAfter = 3 * time.Second
)

// ErrBusy means that too many Sends wait for the peer already. Later it may
// succeed.
var ErrBusy = errors.New("peer takes frames too slowly")

// writeFrame writes one frame.
func writeFrame(w io.Writer, frame []byte, limit int) error {
	if len(frame) == 0 || len(frame) > limit {
		return fmt.Errorf("frame of %d bytes, want 1 to %d: %w", len(frame), limit, ErrTooLarge)
	}
	b := make([]byte, 4, 4+len(frame))
	binary.BigEndian.PutUint32(b, uint32(len(frame)))
	_, err := w.Write(append(b, frame...))
	return err
}

// readFrame reads one frame of at most limit bytes. It calls begun, if set, once
// the length is known. Memory grows with what arrives, not with what is claimed.
// io.EOF means that the stream ended between frames.
func readFrame(r io.Reader, limit int, begun func(n int) error) ([]byte, error) {
	var head [4]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return nil, err
	}
	n := binary.BigEndian.Uint32(head[:])
	if n == 0 || uint64(n) > uint64(limit) {
		return nil, errProtocol("frame of %d bytes, want 1 to %d", n, limit)
	}
	if begun != nil {
		if err := begun(int(n)); err != nil {
			return nil, err
		}
	}
	var body bytes.Buffer
	body.Grow(int(min(n, 64<<10)))
	if _, err := io.CopyN(&body, r, int64(n)); err != nil {
		if errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		return nil, err
	}
	return body.Bytes(), nil
}

// links are the streams that this node opened, one for each peer.
type links struct {
	mu  sync.Mutex
	all map[peer.ID]*link
}

// link is the way to one peer. Whoever holds the turn may use the stream.
type link struct {
	turn   chan struct{} // holds one token
	users  int           // guarded by links.mu
	stream network.Stream
	broken chan struct{} // closed when the stream has ended
	alive  time.Time     // last probe
}

func newLinks() links { return links{all: map[peer.ID]*link{}} }

func (l *links) acquire(p peer.ID) (*link, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	k := l.all[p]
	if k == nil {
		k = &link{turn: make(chan struct{}, 1)}
		k.turn <- struct{}{}
		l.all[p] = k
	}
	if k.users >= maxWaiting {
		return nil, ErrBusy
	}
	k.users++
	return k, nil
}

func (l *links) release(p peer.ID, k *link) {
	l.mu.Lock()
	defer l.mu.Unlock()
	k.users--
	if k.users == 0 && k.stream == nil {
		delete(l.all, p)
	}
}

// drop ends the stream to a peer whose connection is gone. A Send in progress
// notices by itself.
func (l *links) drop(p peer.ID) {
	l.mu.Lock()
	defer l.mu.Unlock()
	k := l.all[p]
	if k == nil {
		return
	}
	select {
	case <-k.turn:
		if !k.ready() && k.users == 0 {
			delete(l.all, p)
		}
		k.turn <- struct{}{}
	default:
	}
}

func (k *link) reset() {
	if k.stream != nil {
		_ = k.stream.Reset() // what fails has ended
		k.stream = nil
	}
}

// ready reports whether there is a stream that has not ended.
func (k *link) ready() bool {
	if k.stream == nil {
		return false
	}
	select {
	case <-k.broken:
		k.reset()
	default:
		if k.stream.Conn().IsClosed() {
			k.reset()
		}
	}
	return k.stream != nil
}

// HandleFrames sets the function that gets every frame. It is called serially
// for each peer, and while it blocks that peer is held back. It owns the frame.
// Its context ends with the host, and so must it. Call before Run.
func (h *Host) HandleFrames(f func(ctx context.Context, from workunits.NodeID, frame []byte)) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.handlers.frames = f
}

// Send hands a frame to the stream to the peer, after those that were sent
// before, connecting if need be. It blocks while the peer takes no more, at most
// half a minute. A stream that broke is replaced once. The error wraps
// ErrUnreachable, ErrNetwork, ErrTooLarge, ErrBusy, ErrClosed or the error of
// ctx; frames sent earlier may be lost then.
func (h *Host) Send(ctx context.Context, to workunits.NodeID, frame []byte) error {
	p, err := peerID(to)
	if err != nil {
		return fmt.Errorf("send: %w", err)
	}
	if len(frame) == 0 || len(frame) > MaxFrame {
		return fmt.Errorf("send to %s: frame of %d bytes, want 1 to %d: %w", to, len(frame), MaxFrame, ErrTooLarge)
	}
	if p == h.base.ID() {
		return fmt.Errorf("send to %s: %w: it is this node", to, ErrUnreachable)
	}
	ctx, cancel := context.WithTimeoutCause(ctx, frameTimeout, ErrBusy)
	defer cancel()
	defer context.AfterFunc(h.ctx, cancel)()
	if err := h.send(ctx, p, frame); err != nil {
		if h.ctx.Err() != nil {
			err = ErrClosed
		} else if ctx.Err() != nil {
			err = context.Cause(ctx)
		}
		return fmt.Errorf("send to %s: %w", to, err)
	}
	return nil
}

func (h *Host) send(ctx context.Context, p peer.ID, frame []byte) error {
	k, err := h.links.acquire(p)
	if err != nil {
		return err
	}
	defer h.links.release(p, k)
	select {
	case <-k.turn:
		defer func() { k.turn <- struct{}{} }()
	case <-ctx.Done():
		return ctx.Err()
	}
	if k.ready() {
		if err := h.write(ctx, k, frame); err == nil || ctx.Err() != nil {
			return err
		}
	}
	if err := h.dial(ctx, p, k); err != nil {
		return err
	}
	if err := h.write(ctx, k, frame); err != nil {
		return fmt.Errorf("%w: %w", ErrUnreachable, err)
	}
	return nil
}

// dial opens the link's stream. The caller holds the turn.
func (h *Host) dial(ctx context.Context, p peer.ID, k *link) error {
	s, err := h.routed.NewStream(network.WithAllowLimitedConn(ctx, "talka"), p, h.protocol("grid"))
	if err != nil {
		if errors.As(err, new(msmux.ErrNotSupported[protocol.ID])) {
			return fmt.Errorf("%w: %w", ErrNetwork, err)
		}
		return fmt.Errorf("%w: %w", ErrUnreachable, err)
	}
	if !h.enter() {
		_ = s.Reset()
		return ErrClosed
	}
	k.stream, k.broken, k.alive = s, make(chan struct{}), time.Now()
	broken := k.broken
	go func() {
		defer h.group.Done()
		defer close(broken)
		defer context.AfterFunc(h.ctx, func() { _ = s.Reset() })()
		// The other end never writes; this returns when it is gone.
		_, _ = s.Read(make([]byte, 1))
		_ = s.Reset()
	}()
	return nil
}

// write writes a frame to the link's stream, which ends if that fails. The
// caller holds the turn.
func (h *Host) write(ctx context.Context, k *link, frame []byte) error {
	s := k.stream
	stop := context.AfterFunc(ctx, func() { _ = s.Reset() })
	err := writeFrame(s, frame, MaxFrame)
	if !stop() && err == nil {
		err = ctx.Err()
	}
	if err != nil {
		k.reset()
		return err
	}
	_ = h.spoken.Bump(s.Conn().RemotePeer(), spokeValue) // a mark that is lost is made again
	if time.Since(k.alive) > probeAfter {
		k.alive = time.Now()
		h.probe(s.Conn())
	}
	return nil
}

// inbound makes the streams of a peer take turns.
type inbound struct {
	mu  sync.Mutex
	all map[peer.ID]*lane
}

type lane struct {
	turn    chan struct{}  // holds one token
	current network.Stream // the newest
	users   int
}

func newInbound() inbound { return inbound{all: map[peer.ID]*lane{}} }

// begin replaces the peer's stream by s: the older one ends, and s has its turn
// when the frames of the older one are handled.
func (in *inbound) begin(p peer.ID, s network.Stream) *lane {
	in.mu.Lock()
	defer in.mu.Unlock()
	l := in.all[p]
	if l == nil {
		l = &lane{turn: make(chan struct{}, 1)}
		l.turn <- struct{}{}
		in.all[p] = l
	}
	if l.current != nil {
		_ = l.current.Reset()
	}
	l.current = s
	l.users++
	return l
}

func (in *inbound) end(p peer.ID, l *lane, s network.Stream) {
	in.mu.Lock()
	defer in.mu.Unlock()
	if l.current == s {
		l.current = nil
	}
	if l.users--; l.users == 0 {
		delete(in.all, p)
	}
}

// receive handles the frames of one stream.
func (h *Host) receive(p peer.ID, s network.Stream) {
	defer func() { _ = s.Reset() }()
	handle := h.registered().frames
	from, ok := nodeID(p)
	if !ok || handle == nil {
		return
	}
	l := h.inbound.begin(p, s)
	defer h.inbound.end(p, l, s)
	select {
	case <-l.turn:
		defer func() { l.turn <- struct{}{} }()
	case <-h.ctx.Done():
		return
	}
	for {
		if err := h.receiveOne(from, s, handle); err != nil {
			if !errors.Is(err, io.EOF) && h.ctx.Err() == nil {
				h.log.Debug("frame stream ended", "peer", p, "error", err)
			}
			return
		}
	}
}

func (h *Host) receiveOne(from workunits.NodeID, s network.Stream, handle func(context.Context, workunits.NodeID, []byte)) error {
	reserved := 0
	defer func() { s.Scope().ReleaseMemory(reserved) }()
	frame, err := readFrame(s, MaxFrame, func(n int) error {
		if err := s.Scope().ReserveMemory(n, network.ReservationPriorityHigh); err != nil {
			return err
		}
		reserved = n
		return s.SetReadDeadline(time.Now().Add(frameTimeout))
	})
	if err != nil {
		return err
	}
	if err := s.SetReadDeadline(time.Time{}); err != nil {
		return err
	}
	handle(h.ctx, from, frame)
	return nil
}
