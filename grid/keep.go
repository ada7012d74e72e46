package grid

import (
	"context"
	"errors"
	"time"

	"github.com/ipfs/go-cid"

	"github.com/talka-grid/talka/chunkstore"
	"github.com/talka-grid/talka/grid/wire"
	"github.com/talka-grid/talka/workunits"
)

// Reasons for which a node keeps content. What it keeps for a job it keeps until
// the job's time is over.
const (
	ownData   = "own data"
	gotten    = "got" // by the owner; spare
	program   = "program"
	jobInput  = "job input"
	jobResult = "result" // withheld until an opening names it
)

// inputs lists the content that a job's units need, as what a node keeps.
func inputs(id workunits.JobID, m workunits.Manifest) []chunkstore.Lease {
	list := []chunkstore.Lease{{Root: m.Program.Cid, Reason: program, For: id.String()}}
	if m.Standing != nil {
		list = append(list, chunkstore.Lease{Root: m.Standing.Cid, Reason: jobInput, For: id.String()})
	}
	if m.Table != nil {
		list = append(list, chunkstore.Lease{Root: m.Table.Cid, Reason: jobInput, For: id.String()})
	}
	if m.Reduce != nil {
		list = append(list, chunkstore.Lease{Root: m.Reduce.Program.Cid, Reason: program, For: id.String()})
	}
	if c := m.Policy.Compare.Program; c != nil {
		list = append(list, chunkstore.Lease{Root: c.Cid, Reason: program, For: id.String()})
	}
	for _, in := range m.Inputs {
		list = append(list, chunkstore.Lease{Root: in.Cid.Cid, Reason: jobInput, For: id.String()})
	}
	for i := range list {
		list[i].By = m.Publisher.String()
	}
	return list
}

// keepInputs keeps a job's program and inputs, here or yet to come.
func (n *Node) keepInputs(id workunits.JobID, m workunits.Manifest) error {
	for _, l := range inputs(id, m) {
		if m.Publisher == n.self {
			l.By = "" // the owner's own have no limit
		}
		if err := n.cfg.Data.Keep(l); err != nil {
			return err
		}
	}
	return nil
}

// withhold keeps a part of a result that nobody may have yet.
func (n *Node) withhold(id workunits.JobID, root cid.Cid) error {
	return n.cfg.Data.Keep(chunkstore.Lease{Root: root, Reason: jobResult, For: id.String(), Withheld: true})
}

// sayOpened shows those who hold an agreed result of a unit that it is opened, so
// that they serve it.
func (n *Node) sayOpened(j *job, unit uint32) {
	v := j.steward.Book().Unit(unit)
	raw := j.ledger.Segment(v.Opening)
	if raw == nil {
		return
	}
	for _, to := range v.Volunteers {
		if to != n.self {
			n.send(to, wire.Push{Job: j.id, Segments: [][]byte{raw}})
		}
	}
}

// sayOpenedCopies shows each volunteer of a unit that its copy is opened, so that
// it serves a result that is to be compared.
func (n *Node) sayOpenedCopies(j *job, unit uint32) {
	for _, c := range j.steward.Book().Story(unit).Copies {
		if c.Opening == nil || c.Volunteer == n.self {
			continue
		}
		if raw := j.ledger.Segment(*c.Opening); raw != nil {
			n.send(c.Volunteer, wire.Push{Job: j.id, Segments: [][]byte{raw}})
		}
	}
}

// readOpening serves the results that an opening names, as far as they are here.
// Its author is this node or one of the job's stewards.
func (n *Node) readOpening(id workunits.JobID, body workunits.Body) {
	o, ok := body.(workunits.Opening)
	if !ok {
		return
	}
	for _, u := range o.Units {
		n.pending.opened = append(n.pending.opened, jobDigest{id, u.Result.Digest})
	}
}

// learnOpenings reads the openings of a segment that a steward said; with own set,
// those of this node's commits alone.
func (n *Node) learnOpenings(j *job, s workunits.Segment, own bool) {
	if !j.listed(s.Author) || s.Job != j.id || s.Network != n.cfg.Network {
		return
	}
	for _, st := range s.Statements {
		if st.Kind != workunits.KindOpening {
			continue
		}
		body, err := st.Decode()
		if o, ok := body.(workunits.Opening); err == nil && ok && (!own || o.Commit.Author == n.self) {
			n.readOpening(j.id, o)
		}
	}
}

// learnOwnOpenings reads what the steward machine has just taken into the ledger.
// That checked the signatures.
func (n *Node) learnOwnOpenings(j *job, segments [][]byte) {
	for _, raw := range segments {
		s, err := workunits.Decode[workunits.Segment](raw, workunits.MaxSegment)
		if err != nil || len(s.Statements) == 0 {
			continue
		}
		hashes := s.Hashes() // they stand for the bytes, which may be on the disk
		if j.ledger.At(s.Author, s.Seq+uint64(len(hashes))) == hashes[len(hashes)-1] {
			n.learnOpenings(j, s, true)
		}
	}
}

// serveLater serves beside the loop what was made durable as opened.
func (n *Node) serveLater(w writes) {
	list := w.opened
	for _, r := range w.records {
		if r.served {
			list = append(list, jobDigest{r.job, workunits.Sum(r.raw)})
		}
	}
	if len(list) == 0 {
		return
	}
	n.goDo(func(ctx context.Context) {
		for _, o := range list {
			if err := n.serve(ctx, o.job, o.digest); err != nil {
				n.log.Warn("serve a result", "job", o.job, "err", err)
			}
		}
	})
}

// serve lets peers have an opened record's files, and the record itself if it is
// in the store. A small one is served from the state.
func (n *Node) serve(ctx context.Context, id workunits.JobID, d workunits.Digest) error {
	var list []cid.Cid
	raw := n.db.record(d)
	switch {
	case raw != nil && n.db.served(d) == nil:
		if err := n.db.write(writes{opened: []jobDigest{{id, d}}}); err != nil {
			return err
		}
	case raw == nil:
		var err error
		if raw, err = n.cfg.Data.Record(ctx, d); err != nil {
			return nil //nolint:nilerr // others hold it
		}
		list = append(list, workunits.RecordCid(d))
	}
	if o, err := workunits.ParseOutcome(raw); err == nil { // not so for a table of stakes
		for _, l := range o.Links() {
			list = append(list, l.Cid)
		}
	}
	var errs []error
	for _, root := range list {
		errs = append(errs, n.cfg.Data.Keep(chunkstore.Lease{Root: root, Reason: jobResult, For: id.String()}))
	}
	return errors.Join(errs...)
}

// expired reports whether a job's time is over: it ended, and either its publisher,
// another node, has the results, or the days passed for which its data is kept.
func (j *job) expired(t uint64) bool {
	return j.ended && j.collected || j.ended && t >= j.endedAt+uint64(j.manifest.Days)*uint64(24*time.Hour/time.Millisecond)
}

// releaseExpired lets go of what is kept for jobs whose time is over.
func (n *Node) releaseExpired() {
	t := now()
	for _, j := range n.sortedJobs() {
		if j.released = j.released && j.ended; j.released || !j.expired(t) {
			continue
		}
		j.released = true
		if j.collected && j.steward != nil {
			n.keeper.Free(j.id, j.collectedProof())
		}
		n.keeper.Drop(j.id)
		inUse := map[cid.Cid]bool{}
		for _, other := range n.jobs {
			for _, l := range inputs(other.id, other.manifest) {
				inUse[l.Root] = inUse[l.Root] || !other.expired(t)
			}
		}
		n.goDo(func(context.Context) {
			var errs []error
			for _, l := range inputs(j.id, j.manifest) {
				if !inUse[l.Root] {
					errs = append(errs, n.fetch.drop(l.Root))
				}
			}
			errs = append(errs, n.db.dropRecords(j.id), n.logs.drop(j.id), n.cfg.Data.ReleaseFor(j.id.String()))
			if err := errors.Join(errs...); err != nil {
				n.log.Warn("release a job's data", "job", j.id, "err", err)
			}
		})
	}
}
