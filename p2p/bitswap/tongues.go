package bitswap

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"

	"github.com/talka-grid/talka/chunkstore/exchange"
)

// piece is what is metered at a time, in bytes.
const piece = 64 << 10

// tongues is a host on which bitswap speaks under the network's ids, and if it is
// open under those of IPFS as well. What its streams carry is metered.
type tongues struct {
	host.Host
	ctx    context.Context // ends with the exchange
	prefix protocol.ID
	cfg    Config
	idle   *exchange.Idle[peer.ID, network.Stream]
}

// ids are the ids that stand for one of bitswap's, the network's first.
func (t *tongues) ids(plain ...protocol.ID) []protocol.ID {
	var all []protocol.ID
	for _, id := range plain {
		all = append(all, t.prefix+id)
	}
	if t.cfg.Open {
		all = append(all, plain...)
	}
	return all
}

// SetStreamHandler is host.Host's.
func (t *tongues) SetStreamHandler(id protocol.ID, f network.StreamHandler) {
	for _, id := range t.ids(id) {
		t.Host.SetStreamHandler(id, func(s network.Stream) { f(t.stream(s)) })
	}
}

// RemoveStreamHandler is host.Host's.
func (t *tongues) RemoveStreamHandler(id protocol.ID) {
	for _, id := range t.ids(id) {
		t.Host.RemoveStreamHandler(id)
	}
}

// NewStream is host.Host's.
func (t *tongues) NewStream(ctx context.Context, p peer.ID, ids ...protocol.ID) (network.Stream, error) {
	again := func() (network.Stream, error) { return t.Host.NewStream(ctx, p, t.ids(ids...)...) }
	if s, ok := t.idle.Take(p); ok {
		used := t.stream(s)
		used.outgoing, used.again = true, again
		return used, nil
	}
	s, err := again()
	if err != nil {
		return nil, err
	}
	fresh := t.stream(s)
	fresh.outgoing = true
	return fresh, nil
}

func (t *tongues) stream(s network.Stream) *stream {
	p, meter := s.Conn().RemotePeer(), t.cfg.Meter
	if t.cfg.Near != nil && t.cfg.Near(p) {
		meter = nil
	}
	return &stream{Stream: s, t: t, peer: p, meter: meter}
}

// stream is one stream, which says that it speaks bitswap's own id.
type stream struct {
	network.Stream
	t     *tongues
	peer  peer.ID
	meter *exchange.Meter // nil for no limits

	outgoing bool                           // messages go out on it alone
	again    func() (network.Stream, error) // opens another if this one has ended meanwhile; nil: no need
	due      time.Time                      // when a write is to be done
}

// SetWriteDeadline is network.Stream's.
func (s *stream) SetWriteDeadline(due time.Time) error {
	s.due = due
	return s.Stream.SetWriteDeadline(due)
}

// Close keeps the stream for the next message.
func (s *stream) Close() error {
	if s.outgoing && s.t.idle.Put(s.peer, s.Stream) {
		return nil
	}
	return s.Stream.Close()
}

func (s *stream) Protocol() protocol.ID {
	return protocol.ID(strings.TrimPrefix(string(s.Stream.Protocol()), string(s.t.prefix)))
}

func (s *stream) Read(p []byte) (int, error) {
	n, err := s.Stream.Read(p)
	if n > 0 {
		if err := s.meter.Receive(s.t.ctx, s.peer, n); err != nil {
			return 0, err
		}
	}
	return n, err
}

func (s *stream) Write(p []byte) (n int, err error) {
	for part := range slices.Chunk(p, piece) {
		if err := s.meter.Send(s.t.ctx, s.peer, len(part)); err != nil {
			return n, err
		}
		m, err := s.Stream.Write(part)
		if err != nil && n+m == 0 && s.again != nil {
			if err := s.renew(); err != nil {
				return 0, err
			}
			m, err = s.Stream.Write(part)
		}
		s.again = nil
		n += m
		if err != nil {
			return n, err
		}
	}
	return n, nil
}

// renew goes on over another stream. If none opens the old one stays, since whoever
// was told of the error still resets and asks this one.
func (s *stream) renew() error {
	fresh, err := s.again()
	if err != nil {
		return err
	}
	_ = s.Stream.Reset() // it failed
	s.Stream = fresh
	return fresh.SetWriteDeadline(s.due)
}
