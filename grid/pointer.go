package grid

import (
	"context"
	"maps"
	"slices"
	"time"

	"github.com/talka-grid/talka/grid/wire"
	"github.com/talka-grid/talka/workunits"
)

const (
	maxPointers  = 4096             // that are remembered
	pointerEvery = 8 * time.Hour    // between times that a pointer is told the DHT, which keeps it for two days
	pointerWait  = time.Second      // for peers' answers, when the DHT has given its own
	pointerFresh = 20 * time.Second // after which a project's latest results are looked for again
	pointerFirst = 5 * time.Second  // after the start, until the first time
)

// pointer is what is known of a project's latest results.
type pointer struct {
	workunits.Pointer
	raw  []byte
	told time.Time // to the DHT
}

// loadPointers brings back what is known of latest results.
func (n *Node) loadPointers() error {
	list, err := n.db.pointers()
	if err != nil {
		return err
	}
	for _, raw := range list {
		if p, err := workunits.ParsePointer(raw); err == nil && p.Network == n.cfg.Network {
			n.pointers[p.ProjectID()] = &pointer{Pointer: p, raw: raw, told: time.Now().Add(pointerFirst - pointerEvery)}
		}
	}
	return nil
}

// point makes a job of this node's the latest of its project, if its results are
// sealed and no newer job's are.
func (n *Node) point(j *job) {
	if j.manifest.Publisher != n.self || j.steward == nil {
		return
	}
	seal, known := j.steward.Book().Sealed(), n.pointers[j.manifest.ProjectID()]
	if seal == nil || seal.Failed > 0 || n.info(j).State != JobDone {
		return
	}
	p := workunits.Pointer{
		Network: n.cfg.Network, Project: j.manifest.Project, Number: now(), Job: j.id, Accepted: seal.Accepted, Results: seal.Results,
	}
	if known != nil {
		if known.Job == j.id && known.Results == p.Results {
			return
		}
		if old := n.jobs[known.Job]; old != nil && old.manifest.Created > j.manifest.Created {
			return
		}
		p.Number = max(p.Number, known.Number+1)
	}
	if err := n.learnPointer(p.Sign(n.cfg.Key)); err != nil {
		n.log.Warn("point to the latest results", "job", j.id, "err", err)
	}
}

// learnPointer takes a pointer that outweighs what is known, durably.
func (n *Node) learnPointer(raw []byte) error {
	p, err := workunits.ParsePointer(raw)
	if err != nil || p.Network != n.cfg.Network {
		return err
	}
	id := p.ProjectID()
	old := n.pointers[id]
	if old != nil && !p.Newer(old.Pointer) || old == nil && len(n.pointers) >= maxPointers {
		return nil
	}
	if err := n.db.setPointer(id, raw); err != nil {
		return err
	}
	n.pointers[id] = &pointer{Pointer: p, raw: raw}
	if id.Publisher != n.self { // others tell it later, in case its publisher is away
		n.pointers[id].told = time.Now()
	}
	n.events.add(Event{Kind: "results", Job: p.Job, Node: p.Publisher, Text: id.Name})
	n.changed()
	return nil
}

// tellPointers tells the DHT what it is about to forget: pointers of this node's
// projects and of those that it trusts.
func (n *Node) tellPointers() {
	for id, p := range n.pointers {
		if time.Since(p.told) < pointerEvery || id.Publisher != n.self && !n.trusted[id] {
			continue
		}
		p.told = time.Now()
		n.goDo(func(ctx context.Context) {
			if err := n.cfg.Net.PutPointer(ctx, p.raw); err != nil {
				n.post(func() { p.told = time.Now().Add(time.Minute - pointerEvery) })
			}
		})
	}
}

// answerPointer gives a peer the pointer that it asks for, if it has none or an
// older one.
func (n *Node) answerPointer(from workunits.NodeID, m wire.PointerAsk) {
	p := n.pointers[workunits.ProjectID{Publisher: m.Owner, Name: m.Project}]
	if p != nil && (p.Number > m.Number || p.Number == m.Number && p.Job != m.Job) {
		n.send(from, wire.Pointer{Job: p.Job, Pointer: p.raw})
	}
}

// hearPointer takes a pointer that a peer tells, of a project that this node asks
// about now: peers cannot fill its memory with others.
func (n *Node) hearPointer(m wire.Pointer) {
	p, err := workunits.ParsePointer(m.Pointer)
	if err != nil {
		return
	}
	if at, asked := n.sought[p.ProjectID()]; asked && time.Since(at) < time.Minute {
		n.learnFound(p.ProjectID(), m.Pointer)
	}
}

// seekPointer asks peers, the publisher and the DHT for the latest results of a
// project until ctx ends, and learns what they say.
func (n *Node) seekPointer(ctx context.Context, id workunits.ProjectID) {
	var before *pointer
	_ = n.do(ctx, func() {
		before = n.pointers[id]
		maps.DeleteFunc(n.sought, func(_ workunits.ProjectID, at time.Time) bool { return time.Since(at) > time.Minute })
		n.sought[id] = time.Now()
		ask := wire.PointerAsk{Owner: id.Publisher, Project: id.Name}
		if p := n.pointers[id]; p != nil {
			ask.Job, ask.Number = p.Job, p.Number
		}
		for _, p := range append(n.connected(), id.Publisher) {
			if p != n.self {
				n.send(p, ask)
			}
		}
	})
	if raw := n.cfg.Net.FindPointer(ctx, id); raw != nil {
		_ = n.do(ctx, func() { n.learnFound(id, raw) })
	}
	ctx, cancel := context.WithTimeout(ctx, pointerWait)
	defer cancel()
	_ = n.await(ctx, func() bool { return n.pointers[id] != before }) // nobody may know more
}

// learnFound takes a pointer that somebody gave for a project.
func (n *Node) learnFound(id workunits.ProjectID, raw []byte) {
	if p, err := workunits.ParsePointer(raw); err != nil || p.ProjectID() != id {
		return
	}
	if err := n.learnPointer(raw); err != nil {
		n.log.Debug("refused a pointer", "project", id, "err", err)
	}
}

// follow looks for the latest results of a project, and for the job that has them,
// until ctx ends. It returns early if nobody can know more.
func (n *Node) follow(ctx context.Context, id workunits.ProjectID) {
	fresh := false
	_ = n.do(ctx, func() { fresh = n.pointers[id] != nil && time.Since(n.sought[id]) < pointerFresh })
	if id.Publisher == n.self || fresh {
		return
	}
	n.seekPointer(ctx, id)
	var want workunits.JobID
	_ = n.do(ctx, func() {
		if p := n.pointers[id]; p != nil && n.jobs[p.Job] == nil {
			want = p.Job
		}
	})
	if want.IsZero() {
		return
	}
	if err := n.find(ctx, want); err != nil {
		n.log.Debug("find the job of the latest results", "job", want, "err", err)
		return
	}
	_ = n.await(ctx, func() bool { return n.jobs[want] != nil }) // it comes later, or not at all
}

// latest marks the job with the latest results among a project's: the one that its
// publisher points to, or else the newest that is done.
func (n *Node) latest(d *ProjectDetail) {
	if p := n.pointers[d.Project]; p != nil {
		d.Results = &LatestResults{Job: p.Job, Number: p.Number, Accepted: int(p.Accepted), Digest: p.Results.String()}
		for i, j := range d.Jobs {
			if j.Job == p.Job {
				d.Jobs[i].Latest, d.Jobs[i].Settled, d.Jobs[i].State = true, true, JobDone
				d.Jobs[i].Units = UnitCounts{Total: j.Units.Total, Accepted: int(p.Accepted)}
			}
		}
		return
	}
	if i := slices.IndexFunc(d.Jobs, func(j ProjectJob) bool { return j.State == JobDone }); i >= 0 {
		d.Jobs[i].Latest = true
	}
}
