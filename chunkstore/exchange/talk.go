package exchange

import (
	"bufio"
	"context"

	"github.com/talka-grid/talka/workunits"
)

// talk is a stream to a source, on which nothing is under way between two lines.
type talk struct {
	Stream
	r *bufio.Reader
	w *bufio.Writer
}

// talk returns a stream to a source, one that was kept if there is.
func (x *Exchange) talk(ctx context.Context, n workunits.NodeID) (t *talk, kept bool, err error) {
	if t, kept := x.talks.Take(n); kept {
		return t, true, nil
	}
	ctx, cancel := context.WithTimeout(ctx, openTime)
	defer cancel()
	s, err := x.cfg.Streams.Open(ctx, n, Protocol)
	if err != nil {
		return nil, false, err
	}
	return &talk{s, bufio.NewReaderSize(s, 64<<10), bufio.NewWriter(s)}, false, nil
}
