package keep

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/ipfs/go-cid"

	"github.com/talka-grid/talka/chunkstore"
	"github.com/talka-grid/talka/chunkstore/erasure"
	"github.com/talka-grid/talka/chunkstore/replica"
	"github.com/talka-grid/talka/grid/wire"
	"github.com/talka-grid/talka/workunits"
)

// pieceReason is that of the leases on pieces that this node made, until others keep
// them all.
const pieceReason = "pieces"

// ref is a piece of an object.
type ref struct {
	root  cid.Cid
	piece int
}

// setCut notes how an object is cut. The lock is held.
func (d *Driver) setCut(now time.Time, it *item, manifest cid.Cid, m erasure.Manifest) {
	it.manifest, it.cut, it.announce = manifest, &m, true
	for i, p := range m.Pieces {
		d.pieces[p.Root.Cid] = ref{it.root, i}
	}
	d.keeper.Keep(now, d.object(it))
	d.dirty = true
}

// object is an item as the keeper sees it.
func (d *Driver) object(it *item) replica.Object {
	o := replica.Object{Root: it.root, Group: it.job.String(), Bytes: it.bytes, Leaves: max(it.leaves, 1), Goal: it.goal, Until: it.until}
	if it.manifest.Defined() {
		o.Code = replica.DefaultCode()
	}
	return o
}

// pieceObject is a piece as messages name it.
func (it *item) pieceObject(i int) wire.Object {
	p := it.cut.Pieces[i]
	size := erasure.Code{Need: it.cut.Need, Total: len(it.cut.Pieces)}.Size(int64(it.cut.Bytes))
	return wire.Object{Root: p.Root, Bytes: uint64(size), Leaves: uint32(len(p.Leaves)), Code: &workunits.Link{Cid: it.manifest}}
}

// cutItem cuts an object, which is here, or makes its pieces again.
func (d *Driver) cutItem(ctx context.Context, it *item) error {
	select {
	case d.gathers <- struct{}{}:
		defer func() { <-d.gathers }()
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	d.mu.Lock()
	job, known, before := it.job, it.cut, it.manifest
	holders := d.everyone(it.root)
	d.mu.Unlock()
	if _, _, err := d.cfg.Data.Leaves(ctx, it.root); err != nil && known != nil {
		if err := d.rebuild(ctx, job, *known, holders); err != nil {
			return err
		}
	}
	manifest, m, err := d.makePieces(ctx, job, it.root)
	if err == nil && known != nil && manifest != before {
		err = fmt.Errorf("%s was cut into other pieces before, by another version of Talka", it.root)
	}
	if err != nil {
		return err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if it.supplied = true; known == nil {
		d.setCut(time.Now(), it, manifest, m)
	}
	return nil
}

// everyone are those who hold an object or a piece of it. The lock is held.
func (d *Driver) everyone(root cid.Cid) (list []workunits.NodeID) {
	for _, h := range d.keeper.Holders(time.Now(), root) {
		list = append(list, h.Node)
	}
	return list
}

// doCut cuts an object that the keeper wants cut.
func (d *Driver) doCut(ctx context.Context, it *item) {
	if err := d.cutItem(ctx, it); err != nil && ctx.Err() == nil {
		d.cfg.Log.Warn("cut an object into pieces", "cid", it.root, "err", err)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	it.busy = false
}

// placePieces has pieces made, if they are not here, and asks peers for them.
func (d *Driver) placePieces(ctx context.Context, it *item, list []replica.Effect) {
	d.mu.Lock()
	first := it.cut.Pieces[list[0].Piece].Root.Cid
	d.mu.Unlock()
	if _, _, err := d.cfg.Data.Leaves(ctx, first); err != nil {
		if err := d.cutItem(ctx, it); err != nil {
			if ctx.Err() == nil {
				d.cfg.Log.Warn("make pieces of an object anew", "cid", it.root, "err", err)
			}
			return // the keeper tries again
		}
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	asks := map[request]*wire.Keep{}
	now := time.Now()
	for _, e := range list {
		d.placing[placing{e.Root, e.To}] = now
		d.request(now, asks, it.job, it.pieceObject(e.Piece), e.To, []workunits.NodeID{d.cfg.Self})
	}
	d.send(asks)
}

// letPiecesGo ends the leases on pieces that others keep all of. The lock is held.
func (d *Driver) letPiecesGo(now time.Time) {
	for root, it := range d.items {
		if !it.supplied || !d.keeper.Complete(now, root) {
			continue
		}
		it.supplied = false
		for _, p := range it.cut.Pieces {
			if err := d.cfg.Data.Release(chunkstore.Lease{Root: p.Root.Cid, Reason: pieceReason, For: it.job.String()}); err != nil {
				d.cfg.Log.Warn("release a piece", "cid", p.Root.Cid, "err", err)
			}
		}
	}
}

// learnCut fetches the manifest of an object that others have cut, and asks from for
// the holders once it is here.
func (d *Driver) learnCut(ctx context.Context, it *item, from workunits.NodeID) {
	d.mu.Lock()
	manifest, job, hints := it.manifest, it.job, append(d.everyone(it.root), from)
	d.mu.Unlock()
	m, err := d.readManifest(ctx, job, manifest, hints)
	d.mu.Lock()
	defer d.mu.Unlock()
	it.busy = false
	if err != nil || m.Root.Cid != it.root || m.Need != replica.DefaultCode().Need || len(m.Pieces) != replica.DefaultCode().Total {
		d.cfg.Log.Debug("read the manifest of an object that is cut", "cid", it.root, "err", err)
		return
	}
	d.setCut(time.Now(), it, manifest, m)
	it.announce, it.supplied = false, from == d.cfg.Self // of an earlier run
	if from != d.cfg.Self {
		d.cfg.Send(from, wire.Keep{Job: job})
	}
}

// notePiece notes who holds a piece; false if the object is none that is known.
func (d *Driver) notePiece(now time.Time, from workunits.NodeID, o wire.KeptObject, steward bool) bool {
	r, ok := d.pieces[o.Root.Cid]
	if !ok {
		return false
	}
	delete(d.placing, placing{r.root, from})
	it := d.items[r.root]
	for _, n := range o.Holders {
		if it != nil && (n == from || steward && n != d.cfg.Self) {
			it.announce = it.announce || n == from && !steward
			d.keeper.Stored(now, r.root, n, r.piece)
		}
	}
	return true
}

// pieceHolders says who holds the pieces of an object that is cut.
func (d *Driver) pieceHolders(it *item) (list []wire.KeptObject) {
	by := map[int][]workunits.NodeID{}
	for _, h := range d.keeper.Holders(time.Now(), it.root) {
		if h.Piece != replica.Whole {
			by[h.Piece] = append(by[h.Piece], h.Node)
		}
	}
	for i := range it.cut.Pieces {
		if n := by[i]; len(n) > 0 {
			list = append(list, wire.KeptObject{Object: it.pieceObject(i), Holders: slices.Clip(n[:min(len(n), wire.MaxHolders)])})
		}
	}
	return list
}
