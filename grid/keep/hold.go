package keep

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/ipfs/go-cid"

	"github.com/talka-grid/talka/chunkstore"
	"github.com/talka-grid/talka/grid/wire"
	"github.com/talka-grid/talka/workunits"
)

type heldKey struct {
	job  workunits.JobID
	root cid.Cid
}

// kept is a replica that this node keeps, or fetches, for others.
type kept struct {
	wire.Object
	publisher workunits.NodeID
	until     time.Time
	coming    bool
}

// lease names what this node keeps of a job, however long.
func lease(k heldKey) chunkstore.Lease {
	return chunkstore.Lease{Root: k.root, Reason: Reason, For: k.job.String()}
}

// lease is what keeps a replica until its time, in its publisher's share of the store.
func (h *kept) lease(k heldKey) chunkstore.Lease {
	l := lease(k)
	l.By, l.Expires = h.publisher.String(), h.until.Unix()
	return l
}

// Asked answers a steward's request to keep replicas of a publisher's job. Whether
// that steward may ask is for the caller to know: it gives a reason why not.
func (d *Driver) Asked(from workunits.NodeID, m wire.Keep, publisher workunits.NodeID, reason string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	now := time.Now()
	if j := d.jobs[m.Job]; j != nil && len(m.Objects) == 0 {
		delete(j.told, from) // a steward that begins anew asks so
	}
	if len(m.Objects) == 0 && reason == "" {
		d.tellHeld(from, m.Job)
		return
	}
	reply := wire.Kept{Job: m.Job}
	for _, o := range m.Objects {
		k := heldKey{m.Job, o.Root.Cid}
		h, why := d.held[k], reason
		if h == nil && why == "" {
			if d.queue >= maxQueue {
				continue // whoever gets no answer asks again
			}
			if why = d.room(publisher, int64(o.Bytes)); why == "" {
				h = &kept{Object: o, publisher: publisher, until: until(now, m.Until, d.cfg.Times.Lease), coming: true}
				d.held[k] = h
				d.queue++
				d.goDo(func(ctx context.Context) { d.fetch(ctx, from, k, h, m.Sources) })
			}
		}
		switch {
		case why != "":
			reply.Refused, reply.Reason = append(reply.Refused, o.Root), why
		case h != nil:
			h.until = later(h.until, until(now, m.Until, d.cfg.Times.Lease))
			d.dirty = true
			if !h.coming {
				if err := d.cfg.Data.Keep(h.lease(k)); err != nil {
					d.cfg.Log.Warn("keep a replica longer", "cid", k.root, "err", err)
				}
				reply.Objects = append(reply.Objects, wire.KeptObject{Object: h.Object, Holders: []workunits.NodeID{d.cfg.Self}})
			}
		}
	}
	if len(reply.Objects)+len(reply.Refused) > 0 {
		d.cfg.Send(from, reply)
	}
}

// until is when a lease ends that is asked for: never later than one that begins now.
func until(now time.Time, asked uint64, most time.Duration) time.Time {
	if last := now.Add(most); asked > uint64(last.UnixMilli()) {
		return last
	}
	return time.UnixMilli(int64(asked))
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// room says why a publisher's object is not taken, or nothing.
func (d *Driver) room(publisher workunits.NodeID, bytes int64) string {
	sum := bytes
	for _, h := range d.held {
		if h.publisher == publisher {
			sum += int64(h.Bytes)
		}
	}
	switch {
	case d.cfg.Share == 0:
		return "this node keeps no replicas for others"
	case sum > d.cfg.Share:
		return "this node keeps as much for the publisher as it may"
	case len(d.held) >= maxHeld:
		return "this node keeps as many replicas as it can"
	}
	return ""
}

// errDropped ends a fetch of what is not to be kept any more.
var errDropped = errors.New("nobody wants the object any more")

// errGrows ends a fetch of more than was said.
var errGrows = errors.New("the object is larger than its steward said")

// fetch brings a replica here and says so, or why not.
func (d *Driver) fetch(ctx context.Context, from workunits.NodeID, k heldKey, h *kept, sources []workunits.NodeID) {
	reply := wire.Kept{Job: k.job}
	err := d.bring(ctx, k, h, append(sources, from))
	d.mu.Lock()
	defer d.mu.Unlock()
	d.queue--
	h.coming = false
	switch now := d.held[k]; {
	case now != nil && now != h: // dropped, and asked for anew: the lease is for that
		return
	case now == nil:
		if err := d.cfg.Data.Release(lease(k)); err != nil {
			d.cfg.Log.Warn("release a replica", "cid", k.root, "err", err)
		}
		return
	}
	if err != nil {
		delete(d.held, k)
		if ctx.Err() != nil {
			return
		}
		d.cfg.Log.Debug("keep a replica", "job", k.job, "cid", k.root, "err", err)
		reply.Refused, reply.Reason = []workunits.Link{{Cid: k.root}}, reasonOf(err)
	} else {
		reply.Objects = []wire.KeptObject{{Object: h.Object, Holders: []workunits.NodeID{d.cfg.Self}}}
		d.dirty = true
	}
	d.cfg.Send(from, reply)
}

// reasonOf is an error as a peer may read it.
func reasonOf(err error) string {
	switch {
	case errors.Is(err, chunkstore.ErrFull):
		return "the disk quota of this node is used up"
	case errors.Is(err, chunkstore.ErrDenied):
		return "this node does not keep this content"
	case errors.Is(err, errGrows):
		return errGrows.Error()
	}
	return "this node could not fetch it"
}

// bring keeps a root, then fetches it: at most as many bytes as were said.
func (d *Driver) bring(ctx context.Context, k heldKey, h *kept, sources []workunits.NodeID) (err error) {
	select {
	case d.fetches <- struct{}{}:
		defer func() { <-d.fetches }()
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	ctx, cancel := context.WithTimeout(ctx, d.cfg.Times.Fetch)
	defer cancel()
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	d.mu.Lock()
	l, dropped := h.lease(k), d.held[k] != h
	d.mu.Unlock()
	if dropped {
		return errDropped
	}
	if err := d.cfg.Data.Keep(l); err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, d.cfg.Data.Release(lease(k)))
		}
	}()
	most := int64(h.Bytes) + slack
	err = d.cfg.Data.Fetch(ctx, k.root, sources, func(done, _ int64) {
		if done > most {
			stop(errGrows)
		}
	})
	if err != nil {
		return err
	}
	leaves, bytes, err := d.cfg.Data.Leaves(ctx, k.root) // some of it may have been here before
	if err != nil {
		return err
	}
	if bytes > most {
		return errGrows
	}
	d.mu.Lock()
	h.Bytes, h.Leaves = uint64(bytes), uint32(len(leaves))
	d.mu.Unlock()
	return d.cfg.Data.Sync()
}

// tellHeld tells a steward all that is kept here for a job, or that this node is
// there. The lock is held.
func (d *Driver) tellHeld(to workunits.NodeID, id workunits.JobID) {
	m := wire.Kept{Job: id}
	for k, h := range d.held {
		if k.job != id || h.coming {
			continue
		}
		m.Objects = append(m.Objects, wire.KeptObject{Object: h.Object, Holders: []workunits.NodeID{d.cfg.Self}})
		if len(m.Objects) == wire.MaxKept {
			d.cfg.Send(to, m)
			m.Objects = nil
		}
	}
	d.cfg.Send(to, m)
}

// lapse lets go of replicas whose time is over. The lock is held.
func (d *Driver) lapse(now time.Time) {
	for k, h := range d.held {
		if h.coming || now.Before(h.until) {
			continue
		}
		delete(d.held, k)
		d.dirty = true
		if err := d.cfg.Data.Release(lease(k)); err != nil {
			d.cfg.Log.Warn("release a replica", "cid", k.root, "err", err)
		}
	}
}

// Kept is what this node keeps for others.
type Kept struct {
	Replicas int
	Bytes    int64
}

// Kept tells what this node keeps for others.
func (d *Driver) Kept() (sum Kept) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, h := range d.held {
		if !h.coming {
			sum.Replicas++
			sum.Bytes += int64(h.Bytes)
		}
	}
	return sum
}

func (k heldKey) String() string { return fmt.Sprintf("%s for %s", k.root, k.job) }
