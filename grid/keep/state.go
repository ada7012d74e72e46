package keep

import (
	"bytes"
	"fmt"
	"slices"
	"time"

	"github.com/ipfs/go-cid"

	"github.com/talka-grid/talka/chunkstore/replica"
	"github.com/talka-grid/talka/chunkstore/whole"
	"github.com/talka-grid/talka/grid/wire"
	"github.com/talka-grid/talka/workunits"
)

const stateVersion = 1

// saved is what a Driver remembers between runs.
type saved struct {
	Version uint32      `cbor:"version"`
	Keeper  []byte      `cbor:"keeper"`
	Items   []savedItem `cbor:"items"`
	Held    []savedHeld `cbor:"held"`
}

type savedItem struct {
	Object wire.Object       `cbor:"object"`
	Jobs   []workunits.JobID `cbor:"jobs"`
	Key    []byte            `cbor:"key"`
}

type savedHeld struct {
	Object    wire.Object      `cbor:"object"`
	Job       workunits.JobID  `cbor:"job"`
	Publisher workunits.NodeID `cbor:"publisher"`
	Until     int64            `cbor:"until"`
}

// save writes the state beside its place and renames it into it. The lock is held.
func (d *Driver) save() error {
	s := saved{Version: stateVersion, Keeper: d.keeper.Save(), Items: []savedItem{}, Held: []savedHeld{}}
	for _, it := range d.items {
		if it.told {
			continue // it will be told again
		}
		x := savedItem{Object: it.object(), Key: it.key}
		for id := range it.jobs {
			x.Jobs = append(x.Jobs, id)
		}
		slices.SortFunc(x.Jobs, func(a, b workunits.JobID) int { return bytes.Compare(a[:], b[:]) })
		s.Items = append(s.Items, x)
	}
	for k, h := range d.held {
		if !h.coming { // what is on the way is asked for again
			s.Held = append(s.Held, savedHeld{h.Object, k.job, h.publisher, h.until.UnixMilli()})
		}
	}
	byRoot := func(a, b cid.Cid) int { return bytes.Compare(a.Bytes(), b.Bytes()) }
	slices.SortFunc(s.Items, func(a, b savedItem) int { return byRoot(a.Object.Root.Cid, b.Object.Root.Cid) })
	slices.SortFunc(s.Held, func(a, b savedHeld) int {
		return slices.Compare(append(a.Object.Root.Cid.Bytes(), a.Job[:]...), append(b.Object.Root.Cid.Bytes(), b.Job[:]...))
	})
	d.dirty, d.saved = false, time.Now()
	return whole.Write(d.cfg.Path, workunits.Encode(s))
}

func (d *Driver) restore(now time.Time, text []byte) error {
	s, err := workunits.Decode[saved](text, 2*replica.MaxState)
	if err != nil {
		return err
	}
	if s.Version != stateVersion {
		return fmt.Errorf("version %d, want %d", s.Version, stateVersion)
	}
	if err := d.keeper.Restore(now, s.Keeper); err != nil {
		return err
	}
	for _, x := range s.Items {
		it := &item{
			jobs: map[workunits.JobID]bool{}, root: x.Object.Root.Cid, run: x.Object.Run, bytes: int64(x.Object.Bytes),
			leaves: int(x.Object.Leaves), key: x.Key, announce: true,
		}
		if x.Object.Code != nil {
			it.manifest = x.Object.Code.Cid
		}
		for _, id := range x.Jobs {
			it.jobs[id] = true
		}
		it.job = it.first()
		d.items[it.root] = it
	}
	for _, root := range d.keeper.Roots() {
		if d.items[root] == nil {
			d.keeper.Release(root)
		}
	}
	for _, h := range s.Held {
		d.held[heldKey{h.Job, h.Object.Root.Cid}] = &kept{Object: h.Object, publisher: h.Publisher, until: time.UnixMilli(h.Until)}
	}
	return nil
}
