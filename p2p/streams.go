package p2p

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"
	msmux "github.com/multiformats/go-multistream"

	"github.com/talka-grid/talka/workunits"
)

// Stream is a two-way stream of bytes to a peer, ordered, reliable and with
// back-pressure. Close ends both directions and lets what was written arrive;
// Reset discards it and makes both ends fail.
type Stream interface {
	io.ReadWriteCloser
	CloseWrite() error
	SetDeadline(t time.Time) error
	Reset() error
}

// Open opens a stream to the peer's handler of that name, connecting if need
// be. ctx bounds the opening only. The error wraps ErrUnreachable, or
// ErrNetwork if the peer has no such handler.
func (h *Host) Open(ctx context.Context, to workunits.NodeID, name string) (Stream, error) {
	p, err := peerID(to)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", name, err)
	}
	s, err := h.routed.NewStream(network.WithAllowLimitedConn(ctx, "talka"), p, h.protocol(name))
	if errors.As(err, new(msmux.ErrNotSupported[protocol.ID])) {
		return nil, fmt.Errorf("open %s to %s: %w: %w", name, to, ErrNetwork, err)
	}
	if err != nil {
		return nil, fmt.Errorf("open %s to %s: %w: %w", name, to, ErrUnreachable, err)
	}
	return s, nil
}

// Handle sets the function that serves streams of that name, one goroutine for
// each stream; at most 64 of a peer at a time. It must close or reset the
// stream, which is reset when the host ends. It sets deadlines itself: a peer
// may fall silent at any time. Set it before Run.
func (h *Host) Handle(name string, f func(from workunits.NodeID, s Stream)) {
	h.base.SetStreamHandler(h.protocol(name), h.streamHandler(func(p peer.ID, s network.Stream) {
		from, ok := nodeID(p)
		if !ok {
			_ = s.Reset()
			return
		}
		f(from, s)
	}))
}
