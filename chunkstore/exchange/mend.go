package exchange

import (
	"context"
	"errors"
	"time"

	"github.com/ipfs/go-cid"

	"github.com/talka-grid/talka/chunkstore"
	"github.com/talka-grid/talka/workunits"
)

// scrubRate is how fast a store is read through, in bytes a second: a disk is busy
// with it for a few hundredths of its time.
const scrubRate = 4 << 20

// Mended tells what Mend found and did.
type Mended struct {
	chunkstore.Scrubbed
	Torn   []cid.Cid // roots with a lease that were not whole
	Failed []cid.Cid // of these, those that nobody has all of now
}

// Mend reads the whole store slowly, sets damaged chunks aside and fetches what is
// missing of all that a lease keeps: from hinted nodes, and as Fetch does. The error
// is that of ctx or of the disk.
func (x *Exchange) Mend(ctx context.Context, hints func() []workunits.NodeID) (done Mended, err error) {
	pace := func(ctx context.Context, n int) error {
		timer := time.NewTimer(time.Duration(n) * time.Second / scrubRate)
		defer timer.Stop()
		select {
		case <-timer.C:
			return nil
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	if done.Scrubbed, err = x.cfg.Store.Scrub(ctx, pace); err != nil {
		return done, err
	}
	if done.Torn, err = x.cfg.Store.Torn(ctx); err != nil {
		return done, err
	}
	for _, root := range done.Torn {
		err := x.Fetch(ctx, root, hints(), nil)
		switch {
		case ctx.Err() != nil:
			return done, context.Cause(ctx)
		case errors.Is(err, chunkstore.ErrFull):
			return done, err
		case err != nil:
			done.Failed = append(done.Failed, root)
		}
	}
	return done, x.cfg.Store.Sync()
}
