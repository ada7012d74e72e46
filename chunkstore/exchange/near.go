package exchange

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/ipfs/go-cid"

	"github.com/talka-grid/talka/chunkstore"
	"github.com/talka-grid/talka/workunits"
)

// nearPauses is how many pauses near sources get that give nothing: of a second each,
// but for the first two.
const nearPauses = 10

// FetchNear is Fetch from near nodes, which may be fetching it themselves, and from
// the others only for what those do not give. So a crowd whose members know each other
// takes little from the one who had it first. It waits for sources that have nothing
// yet for some nine seconds in which none gives anything.
func (x *Exchange) FetchNear(ctx context.Context, root cid.Cid, near, others []workunits.NodeID, progress Progress) error {
	defer x.cfg.Store.Hold(root)()
	f := x.fetch(ctx, root, near)
	f.progress, f.reserve, f.crowd = progress, others, true
	if len(near) == 0 {
		f.sources, f.reserve = slices.Clone(others), nil
	}
	if err := f.all(chunkstore.Selection{}.First(root)); err != nil {
		return fmt.Errorf("fetch %s: %w", root, err)
	}
	return nil
}

// pause waits before the hinted sources that answer are asked again, a few times
// for a fetch: they may be about to have, or about to be allowed to serve, what
// they were named for.
func (f *fetch) pause() (again bool, err error) {
	most := len(pauses)
	if f.crowd {
		most = nearPauses
	}
	if f.searched || f.pauses == most || len(f.usable(f.sources)) == 0 {
		return false, nil
	}
	timer := time.NewTimer(pauses[min(f.pauses, len(pauses)-1)])
	defer timer.Stop()
	f.pauses++
	select {
	case <-timer.C:
		return true, nil
	case <-f.ctx.Done():
		return false, context.Cause(f.ctx)
	}
}
