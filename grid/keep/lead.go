package keep

import (
	"bytes"
	"context"
	"errors"
	"maps"
	"slices"
	"time"

	"github.com/ipfs/go-cid"

	"github.com/talka-grid/talka/chunkstore/exchange"
	"github.com/talka-grid/talka/chunkstore/replica"
	"github.com/talka-grid/talka/grid/wire"
	"github.com/talka-grid/talka/workunits"
)

// Tick does what time asks for. Run calls it; tests may.
func (d *Driver) Tick(now time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.notePeers(now)
	d.lead(now)
	d.perform(now, d.keeper.Tick(now, d.rng))
	d.askAgain(now)
	d.letPiecesGo(now)
	d.lapse(now)
	d.ask(now)
	d.tell(now)
	if d.dirty || now.Sub(d.saved) >= d.cfg.Times.Save {
		if err := d.save(); err != nil {
			d.cfg.Log.Warn("write down what is known of replicas", "err", err)
		}
	}
}

// notePeers tells the keeper who is there.
func (d *Driver) notePeers(now time.Time) {
	d.keeper.Heard(now, replica.Peer{Node: d.cfg.Self})
	for _, p := range d.cfg.Peers() {
		d.keeper.Heard(now, p)
	}
	d.seeing.Lock()
	defer d.seeing.Unlock()
	for n, at := range d.seen {
		d.keeper.Heard(at, replica.Peer{Node: n})
	}
	clear(d.seen)
}

// up are a job's stewards that are there.
func (d *Driver) up(j *job, now time.Time) (list []workunits.NodeID) {
	for _, n := range j.Stewards {
		if n != d.cfg.Self && d.keeper.Here(now, n) {
			list = append(list, n)
		}
	}
	return list
}

// lead finds out which objects this node acts for, and has those measured and
// gathered that are new.
func (d *Driver) lead(now time.Time) {
	for _, j := range d.jobs {
		up := d.up(j, now)
		for number, r := range j.runs {
			if !r.gathered && !r.busy && replica.Leads(d.cfg.Self, up, runKey(j.ID, number)) {
				r.busy = true
				d.goDo(func(ctx context.Context) { d.gather(ctx, j.ID, number, r) })
			}
		}
	}
	for root, it := range d.items {
		j := d.jobs[it.job]
		leads := j != nil && !it.told && replica.Leads(d.cfg.Self, d.up(j, now), it.key)
		unread := it.manifest.Defined() && it.cut == nil
		d.keeper.Lead(now, root, leads && it.leaves > 0 && !unread)
		if j != nil && unread && !it.busy {
			it.busy = true
			d.goDo(func(ctx context.Context) { d.learnCut(ctx, it, d.cfg.Self) })
		}
		if leads && it.leaves == 0 && !it.busy {
			it.busy = true
			d.goDo(func(ctx context.Context) { d.measure(ctx, it) })
		}
	}
}

// gather makes the folder of a run.
func (d *Driver) gather(ctx context.Context, id workunits.JobID, number uint32, r *run) {
	select {
	case d.gathers <- struct{}{}:
		defer func() { <-d.gathers }()
	case <-ctx.Done():
		return
	}
	g, err := d.cfg.Gather(ctx, id, number)
	var leaves []cid.Cid
	var bytes int64
	if err == nil {
		leaves, bytes, err = d.cfg.Data.Leaves(ctx, g.Root)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	r.busy = false
	j := d.jobs[id]
	if err != nil {
		if ctx.Err() == nil {
			d.cfg.Log.Debug("gather results", "job", id, "run", number, "err", err)
		}
		return
	}
	if j == nil || j.runs[number] != r {
		return // it is over, or a unit was reopened
	}
	r.gathered = true
	now := time.Now()
	o := wire.Object{Root: workunits.Link{Cid: g.Root}, Run: number + 1, Bytes: uint64(bytes), Leaves: uint32(len(leaves))}
	for root, it := range d.items {
		if it.told && it.jobs[id] && it.run == number+1 {
			d.forget(root, id)
		}
	}
	d.own(now, j, o, []workunits.NodeID{d.cfg.Self})
	for _, l := range g.Large {
		if it := d.own(now, j, wire.Object{Root: workunits.Link{Cid: l.Root}}, l.Holders); it != nil {
			it.key = runKey(id, number) // whoever leads the run knows of it
		}
	}
}

// measure brings an object here, if it is not, and finds out how large it is.
func (d *Driver) measure(ctx context.Context, it *item) {
	ctx, cancel := context.WithTimeout(ctx, d.cfg.Times.Fetch)
	defer cancel()
	d.mu.Lock()
	k, hints, all, cut := heldKey{it.job, it.root}, d.holders(it.root), d.everyone(it.root), it.cut
	d.mu.Unlock()
	err := d.cfg.Data.Keep(lease(k))
	if err == nil {
		err = d.cfg.Data.Fetch(ctx, it.root, hints, nil)
	}
	if err != nil && cut != nil {
		err = d.rebuild(ctx, it.job, *cut, all)
	}
	var leaves []cid.Cid
	var size int64
	if err == nil {
		leaves, size, err = d.cfg.Data.Leaves(ctx, it.root)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	it.busy = false
	j := d.jobs[it.job]
	if err != nil || j == nil {
		d.cfg.Log.Debug("measure an object", "cid", it.root, "err", err)
		return
	}
	o := wire.Object{Root: workunits.Link{Cid: it.root}, Bytes: uint64(size), Leaves: uint32(max(len(leaves), 1))}
	it.announce = true
	d.own(time.Now(), j, o, []workunits.NodeID{d.cfg.Self})
}

// holders are those who are known to hold an object. The lock is held.
func (d *Driver) holders(root cid.Cid) (list []workunits.NodeID) {
	for _, h := range d.keeper.Holders(time.Now(), root) {
		if h.Piece == replica.Whole {
			list = append(list, h.Node)
		}
	}
	return list
}

// request is a Keep that is put together.
type request struct {
	job workunits.JobID
	to  workunits.NodeID
}

// perform does what the keeper says. The lock is held.
func (d *Driver) perform(now time.Time, effects []replica.Effect) {
	asks := map[request]*wire.Keep{}
	pieces := map[*item][]replica.Effect{}
	for _, e := range effects {
		it := d.items[e.Root]
		switch {
		case it == nil:
		case e.Kind == replica.Cut && !it.busy:
			it.busy = true
			d.goDo(func(ctx context.Context) { d.doCut(ctx, it) })
		case e.Kind == replica.Place && e.Piece != replica.Whole:
			pieces[it] = append(pieces[it], e)
		case e.Kind == replica.Place:
			d.placing[placing{e.Root, e.To}] = now
			d.request(now, asks, it.job, it.object(), e.To, e.Sources)
		case e.Kind == replica.Audit:
			d.goDo(func(ctx context.Context) { d.audit(ctx, it, e) })
		}
	}
	d.send(asks)
	for it, list := range pieces {
		d.goDo(func(ctx context.Context) { d.placePieces(ctx, it, list) })
	}
}

// request adds an object to what a peer is asked to keep.
func (d *Driver) request(now time.Time, asks map[request]*wire.Keep, id workunits.JobID, o wire.Object, to workunits.NodeID, sources []workunits.NodeID) {
	r := request{id, to}
	m := asks[r]
	if m != nil && len(m.Objects) == wire.MaxKept {
		d.cfg.Send(to, *m)
		m = nil
	}
	if m == nil {
		m = &wire.Keep{Job: id, Until: uint64(now.Add(d.cfg.Times.Lease).UnixMilli())}
		asks[r] = m
	}
	m.Objects = append(m.Objects, o)
	for _, n := range sources {
		if len(m.Sources) < wire.MaxHolders && !slices.Contains(m.Sources, n) {
			m.Sources = append(m.Sources, n)
		}
	}
}

func (it *item) object() wire.Object {
	o := wire.Object{Root: workunits.Link{Cid: it.root}, Run: it.run, Bytes: uint64(it.bytes), Leaves: uint32(it.leaves)}
	if it.manifest.Defined() {
		o.Code = &workunits.Link{Cid: it.manifest}
	}
	return o
}

func (d *Driver) send(asks map[request]*wire.Keep) {
	for r, m := range asks {
		d.cfg.Send(r.to, *m)
	}
}

// askAgain asks those again who are there and have not answered: a message may be lost,
// or the peer may have had to look for the job first.
func (d *Driver) askAgain(now time.Time) {
	asks := map[request]*wire.Keep{}
	for p, at := range d.placing {
		it := d.items[p.root]
		if it == nil || !d.keeper.Coming(p.root, p.to) {
			delete(d.placing, p)
			continue
		}
		if now.Sub(at) >= d.cfg.Times.Again && d.keeper.Here(now, p.to) {
			d.placing[p] = now
			o, sources := it.object(), d.holders(p.root)
			if piece := d.keeper.Piece(p.root, p.to); piece != replica.Whole {
				o, sources = it.pieceObject(piece), []workunits.NodeID{d.cfg.Self}
			}
			d.request(now, asks, it.job, o, p.to, sources)
		}
	}
	d.send(asks)
}

// audit has a holder show a leaf; one that does keeps the object longer.
func (d *Driver) audit(ctx context.Context, it *item, e replica.Effect) {
	select {
	case d.probes <- struct{}{}:
		defer func() { <-d.probes }()
	case <-ctx.Done():
		return
	}
	leaves, object, err := d.leavesOf(ctx, it, e)
	if e.To == d.cfg.Self {
		d.mu.Lock()
		defer d.mu.Unlock()
		if err == nil {
			d.keeper.Passed(time.Now(), e.Root, e.To)
		} else if ctx.Err() == nil {
			d.keeper.Failed(time.Now(), e.Root, e.To) // and is fetched again when it is measured
			it.leaves = 0
		}
		return
	}
	if err != nil || len(leaves) == 0 {
		return // this node has lost what it leads; its own audit tells
	}
	probing, cancel := context.WithTimeout(ctx, d.cfg.Times.Probe)
	there, err := d.cfg.Data.Probe(probing, e.To, leaves[e.Leaf%len(leaves)])
	cancel()
	d.mu.Lock()
	defer d.mu.Unlock()
	now := time.Now()
	switch {
	case ctx.Err() != nil || !there:
	case err == nil:
		d.keeper.Passed(now, e.Root, e.To)
		asks := map[request]*wire.Keep{}
		d.request(now, asks, it.job, object, e.To, []workunits.NodeID{d.cfg.Self})
		d.send(asks)
	case errors.Is(err, exchange.ErrLacks):
		d.keeper.Failed(now, e.Root, e.To)
		it.announce = true
	default:
		d.keeper.Missed(now, e.Root, e.To)
	}
}

// leavesOf lists the leaves of what an audit is about, as messages name it.
func (d *Driver) leavesOf(ctx context.Context, it *item, e replica.Effect) (leaves []cid.Cid, o wire.Object, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if e.Piece != replica.Whole {
		for _, l := range it.cut.Pieces[e.Piece].Leaves {
			leaves = append(leaves, l.Cid)
		}
		return leaves, it.pieceObject(e.Piece), nil
	}
	o = it.object()
	d.mu.Unlock()
	leaves, _, err = d.cfg.Data.Leaves(ctx, e.Root)
	d.mu.Lock()
	return leaves, o, err
}

// ask asks holders and fellow stewards that were not heard of for a while whether
// they are there, each at most twice in Times.Recent.
func (d *Driver) ask(now time.Time) {
	ping := func(n workunits.NodeID, id workunits.JobID) {
		if n != d.cfg.Self && now.Sub(d.asked[n]) >= d.cfg.Times.Recent/2 {
			d.asked[n] = now
			d.cfg.Send(n, wire.Keep{Job: id})
		}
	}
	for n, at := range d.asked {
		if now.Sub(at) >= d.cfg.Times.Recent {
			delete(d.asked, n)
		}
	}
	quiet := map[workunits.NodeID]bool{}
	for _, n := range d.keeper.Quiet(now) {
		quiet[n] = true
	}
	busy := map[workunits.JobID]bool{} // of which there is something to tell
	for _, it := range d.items {
		busy[it.job] = true
		if len(quiet) == 0 || d.jobs[it.job] == nil {
			continue
		}
		for _, h := range d.keeper.Holders(now, it.root) {
			if quiet[h.Node] {
				ping(h.Node, it.job)
			}
		}
	}
	for id, j := range d.jobs {
		for _, n := range j.Stewards {
			if busy[id] && !d.keeper.Here(now, n) {
				ping(n, id)
				delete(j.told, n) // of all, when it is back
			}
		}
	}
}

// tell tells fellow stewards who holds what is led here, as far as it is news to them.
func (d *Driver) tell(now time.Time) {
	for id, j := range d.jobs {
		var news, all []wire.KeptObject
		for _, root := range d.sorted(id) {
			it := d.items[root]
			if it.leaves == 0 || it.told || !replica.Leads(d.cfg.Self, d.up(j, now), it.key) {
				continue
			}
			o := wire.KeptObject{Object: it.object(), Holders: d.holders(root)}
			o.Holders = o.Holders[:min(len(o.Holders), wire.MaxHolders)]
			list := []wire.KeptObject{o}
			if it.cut != nil {
				list = append(list, d.pieceHolders(it)...)
			}
			all = append(all, list...)
			if it.announce {
				news = append(news, list...)
				it.announce = false
			}
		}
		for _, n := range d.up(j, now) {
			list := news
			if !j.told[n] {
				list = all
			}
			j.told[n] = true
			for part := range slices.Chunk(list, wire.MaxKept) {
				d.cfg.Send(n, wire.Kept{Job: id, Objects: part})
			}
		}
	}
}

func (d *Driver) sorted(id workunits.JobID) []cid.Cid {
	var list []cid.Cid
	for root, it := range d.items {
		if it.job == id {
			list = append(list, root)
		}
	}
	slices.SortFunc(list, func(a, b cid.Cid) int { return bytes.Compare(a.Bytes(), b.Bytes()) })
	return list
}

// Heard takes a peer's word on what it keeps of a job, and a steward's on what others
// do: that steward is one of the job's.
func (d *Driver) Heard(from workunits.NodeID, m wire.Kept, steward bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	now := time.Now()
	d.keeper.Heard(now, replica.Peer{Node: from})
	j := d.jobs[m.Job]
	if j == nil {
		return
	}
	for _, l := range m.Refused {
		root := l.Cid
		if r, ok := d.pieces[root]; ok {
			root = r.root
		}
		if _, asked := d.placing[placing{root, from}]; asked {
			delete(d.placing, placing{root, from})
			d.keeper.Refused(now, root, from)
			d.cfg.Log.Debug("a peer keeps no replica", "peer", from, "cid", l.Cid, "reason", m.Reason)
		}
	}
	for _, o := range m.Objects {
		d.note(now, j, from, o, steward)
	}
	close(d.heard)
	d.heard = make(chan struct{})
}

func (d *Driver) note(now time.Time, j *job, from workunits.NodeID, o wire.KeptObject, steward bool) {
	root := o.Root.Cid
	if d.notePiece(now, from, o, steward) {
		d.dirty = true
		return
	}
	it := d.items[root]
	delete(d.placing, placing{root, from})
	switch {
	case it == nil && !steward:
		if o.Run > 0 && slices.Contains(o.Holders, from) {
			d.hint(string(runKey(j.ID, o.Run-1)), root, from)
		}
		return // not an object of the job, for all that is known here
	case it == nil:
		if it = d.add(now, j, o.Object, nil); it == nil {
			return
		}
		it.told, it.announce = true, false
	case steward && it.leaves == 0 && o.Leaves > 0:
		d.add(now, j, o.Object, nil)
	}
	if steward && o.Code != nil && it.cut == nil && !it.busy {
		it.manifest, it.busy = o.Code.Cid, true
		d.goDo(func(ctx context.Context) { d.learnCut(ctx, it, from) })
	}
	for _, n := range o.Holders {
		own := n == d.cfg.Self // of its own replicas it knows best
		if h := d.held[heldKey{j.ID, root}]; own && h != nil && !h.coming || n == from || steward && !own {
			it.announce = it.announce || n == from && !slices.Contains(d.holders(root), n)
			d.keeper.Stored(now, root, n, replica.Whole)
		}
	}
	d.dirty = true
}

// hint notes who says that it holds the folder of a run that is not known here.
func (d *Driver) hint(key string, root cid.Cid, from workunits.NodeID) {
	list := d.hints[key]
	if list == nil && len(d.hints) >= maxHints || len(list) >= wire.MaxHolders {
		return
	}
	i := slices.IndexFunc(list, func(h Held) bool { return h.Root == root })
	if i < 0 {
		d.hints[key] = append(list, Held{root, []workunits.NodeID{from}})
	} else if !slices.Contains(list[i].Holders, from) {
		list[i].Holders = append(list[i].Holders, from)
	}
}

// Recall lists who may hold the results of a run, with the roots of the folder that
// they say it is: what is known here, else what peers say that are asked now.
func (d *Driver) Recall(ctx context.Context, id workunits.JobID, number uint32) []Held {
	deadline := time.NewTimer(d.cfg.Times.Recall)
	defer deadline.Stop()
	for asked := false; ; asked = true {
		d.mu.Lock()
		list := d.runFolders(id, number)
		heard := d.heard
		if len(list) == 0 && !asked {
			for _, p := range d.cfg.Peers() {
				d.cfg.Send(p.Node, wire.Keep{Job: id})
			}
		}
		d.mu.Unlock()
		if len(list) > 0 {
			return list
		}
		select {
		case <-heard:
		case <-deadline.C:
			return nil
		case <-ctx.Done():
			return nil
		}
	}
}

func (d *Driver) runFolders(id workunits.JobID, number uint32) (list []Held) {
	for root, it := range maps.All(d.items) {
		if it.jobs[id] && it.run == number+1 {
			list = append(list, Held{root, d.holders(root)})
		}
	}
	return append(list, d.hints[string(runKey(id, number))]...)
}
