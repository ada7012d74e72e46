package exchange

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/ipfs/go-cid"

	"github.com/talka-grid/talka/chunkstore"
	"github.com/talka-grid/talka/workunits"
)

// ErrLacks says that a peer was there and did not show a chunk, or showed a wrong one.
var ErrLacks = errors.New("the peer does not have the chunk")

// Probe has one peer show a chunk, which is not stored. It reports whether the peer
// was there: its error wraps ErrLacks if it was and does not have the chunk; another
// one tells that it did not answer until ctx ended, or in 30 s.
func (x *Exchange) Probe(ctx context.Context, from workunits.NodeID, c cid.Cid) (there bool, err error) {
	s, err := x.cfg.Streams.Open(ctx, from, Protocol)
	if err != nil {
		return false, fmt.Errorf("probe %s: %w", from.Short(), err)
	}
	stop := context.AfterFunc(ctx, func() { _ = s.Reset() })
	defer stop()
	data, err := x.probe(ctx, from, s, c)
	if err != nil {
		_ = s.Reset() // it failed already
		if cause := context.Cause(ctx); cause != nil {
			err = cause
		}
		return true, fmt.Errorf("probe %s: %w", from.Short(), err)
	}
	_ = s.Close()
	if data == nil {
		return true, fmt.Errorf("probe %s: %w", from.Short(), ErrLacks)
	}
	if err := chunkstore.Verify(c, data); err != nil {
		x.ban(from)
		return true, fmt.Errorf("probe %s: %w: %w", from.Short(), ErrLacks, err)
	}
	return true, nil
}

func (x *Exchange) probe(ctx context.Context, from workunits.NodeID, s Stream, c cid.Cid) ([]byte, error) {
	if err := s.SetDeadline(time.Now().Add(blockTime)); err != nil {
		return nil, err
	}
	if err := writeRequest(bufio.NewWriter(s), []cid.Cid{c}); err != nil {
		return nil, err
	}
	var buf []byte
	meter := x.meter(from)
	return readAnswer(bufio.NewReaderSize(s, 64<<10), &buf, func(n, _ int) error { return meter.Receive(ctx, from, n) })
}
