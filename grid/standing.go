package grid

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/talka-grid/talka/workunits"
)

// Waits between two looks for a table of stakes.
const (
	standingWait    = time.Second
	maxStandingWait = time.Minute
)

// project is the table of stakes that the next job of a project of this node's
// starts from: what came of those that are over.
func (n *Node) project(p workunits.ProjectID) (t workunits.StakeTable) {
	var over []*job
	for _, j := range n.jobs {
		if j.ended && (j.packed != nil || j.stands && j.steward != nil) && j.manifest.ProjectID() == p {
			over = append(over, j)
		}
	}
	slices.SortFunc(over, func(x, y *job) int {
		return cmp.Or(cmp.Compare(x.endedAt, y.endedAt), slices.Compare(x.id[:], y.id[:]))
	})
	for _, j := range over {
		if j.packed != nil {
			t = t.After(j.packed.Standing, j.packed.Stakes)
		} else {
			t = t.After(j.standing, j.steward.Book().Stakes())
		}
	}
	return t
}

// stand names the project's standing in a manifest of this node's that names none.
func (n *Node) stand(ctx context.Context, m *workunits.Manifest) (t workunits.StakeTable, err error) {
	if m.Standing != nil {
		raw, err := n.stakeTable(ctx, *m.Standing, nil)
		if err != nil {
			return t, err
		}
		return m.ParseStanding(raw)
	}
	if err := n.do(ctx, func() { t = n.project(m.ProjectID()) }); err != nil || len(t.Stakes) == 0 {
		return t, err
	}
	raw, digest := t.Encode()
	m.Standing = &workunits.Link{Cid: workunits.RecordCid(digest)}
	return t, n.cfg.Data.PutRecord(ctx, raw)
}

// seekStanding brings the table of stakes that a job starts from; no verdict can
// be told without it. Then it refreshes the job.
func (n *Node) seekStanding(j *job) {
	if j.seeking || j.manifest.Standing == nil {
		return
	}
	j.seeking = true
	hints := []workunits.NodeID{j.manifest.Publisher}
	for _, s := range j.list {
		if s.Node != n.self {
			hints = append(hints, s.Node)
		}
	}
	n.goDo(func(ctx context.Context) {
		raw, err := n.stakeTable(ctx, *j.manifest.Standing, hints)
		for wait := standingWait; err != nil; wait = min(2*wait, maxStandingWait) {
			n.log.Info("waiting for the job's table of stakes", "job", j.id, "err", err)
			select {
			case <-time.After(wait):
			case <-ctx.Done():
				return
			}
			raw, err = n.stakeTable(ctx, *j.manifest.Standing, hints)
		}
		t, err := j.manifest.ParseStanding(raw)
		if err != nil { // for good: the manifest names what is none
			n.log.Warn("this node cannot look after a job", "job", j.id, "err", err)
			return
		}
		n.post(func() {
			j.standing, j.stands = t, true
			n.refresh(j)
		})
	})
}

// stakeTable returns the record of a table of stakes, from here or from a peer.
func (n *Node) stakeTable(ctx context.Context, link workunits.Link, hints []workunits.NodeID) ([]byte, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, findTime, ErrTimeout)
	defer cancel()
	digest, _ := workunits.RecordDigest(link.Cid)
	raw, err := n.cfg.Data.Record(ctx, digest)
	if err != nil {
		raw, err = n.record(ctx, digest, link.Cid, hints)
	}
	if err != nil {
		return nil, fmt.Errorf("table of stakes %s: %w", link.Cid, err)
	}
	return raw, nil
}
