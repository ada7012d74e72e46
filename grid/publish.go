package grid

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/talka-grid/talka/grid/steward"
	"github.com/talka-grid/talka/workunits"
)

// Times and numbers of publication.
const (
	handover = 60 * time.Second
	maxAsked = 64 // peers asked to be stewards
)

// askTime is for a peer's word whether it will be a steward; tests wait longer.
var askTime = 3 * time.Second

// Submit signs and publishes a job. The manifest needs neither publisher,
// network, time nor what an identity is to cost, and starts from what the project's jobs came to unless it
// names a standing; its program and inputs must be in this node's store. Submit
// returns once enough other stewards hold the job that it survives this node, or
// at once where no peer agrees to be one.
func (n *Node) Submit(ctx context.Context, m workunits.Manifest, progress func(string)) (workunits.JobID, error) {
	m.Network, m.Publisher, m.Created = n.cfg.Network, n.self, uint64(time.Now().Unix())
	if err := n.db.setProject(m.ProjectID(), true, true); err != nil {
		return workunits.JobID{}, err
	}
	m.Policy.Work = uint32(n.cfg.Work)
	if m.Policy.Price == 0 {
		m.Policy.Price = n.price(m)
	}
	standing, err := n.stand(ctx, &m)
	if err != nil {
		return workunits.JobID{}, err
	}
	id, block, err := n.sign(ctx, m)
	if err != nil {
		return id, err
	}
	defer n.post(func() { delete(n.signed, id) })
	if err := errors.Join(n.keepInputs(id, m), n.cfg.Data.Sync()); err != nil {
		return id, err
	}
	progress("asking peers to look after the job")
	enc, _ := workunits.EncryptionKey(n.cfg.Key)
	list := []workunits.Steward{{Node: n.self, Enc: enc}}
	more, err := n.recruit(ctx, id, block, int(m.Listed)-1, nil)
	if err != nil {
		return id, err
	}
	list = append(list, more...)
	if err := n.publish(ctx, block, standing, list); err != nil {
		return id, err
	}
	if len(list) == 1 {
		progress("no peer looks after the job: it runs while this node is up")
		return id, nil
	}
	need := min(3, len(list))
	progress(fmt.Sprintf("handing the job over to %d stewards", len(list)-1))
	return id, n.waitKeepers(ctx, id, need)
}

// sign makes a job of a manifest that is none yet: who submits the same twice within
// a second wants two jobs.
func (n *Node) sign(ctx context.Context, m workunits.Manifest) (id workunits.JobID, block []byte, err error) {
	for known := true; known; m.Created++ {
		if id, block, err = m.Sign(n.cfg.Key); err != nil {
			return id, nil, err
		}
		if err = n.do(ctx, func() { known = n.jobs[id] != nil || n.signed[id]; n.signed[id] = true }); err != nil {
			return id, nil, err
		}
	}
	return id, block, nil
}

// publish makes the job known here, with its list, and lets the steward machine
// tell the others.
func (n *Node) publish(ctx context.Context, block []byte, standing workunits.StakeTable, list []workunits.Steward) (err error) {
	derr := n.do(ctx, func() {
		var j *job
		if j, err = n.addJob(block); err != nil {
			return
		}
		n.trusted[j.manifest.ProjectID()] = true
		j.standing, j.stands = standing, true
		n.beSteward(j)
		n.list(j, list)
	})
	return errors.Join(derr, err)
}

// list puts stewards on a job's succession list and tells them.
func (n *Node) list(j *job, list []workunits.Steward) {
	n.stepSteward(j, steward.Publish{Stewards: list})
	for _, s := range list {
		if s.Node == n.self {
			continue
		}
		n.tellJob(s.Node, j.id, j)
	}
	n.refresh(j)
}

// waitKeepers waits until so many stewards keep the job's content.
func (n *Node) waitKeepers(ctx context.Context, id workunits.JobID, need int) error {
	ctx, cancel := context.WithTimeoutCause(ctx, handover, ErrTimeout)
	defer cancel()
	err := n.await(ctx, func() bool { return n.jobs[id].steward.Book().Keepers() >= need })
	if errors.Is(err, ErrTimeout) {
		return fmt.Errorf("job %s is published, but fewer than %d stewards hold its data yet: keep this node up: %w", id, need, err)
	}
	return err
}

// await returns when cond, which runs in the loop, is true.
func (n *Node) await(ctx context.Context, cond func() bool) error {
	wake := make(chan struct{}, 1)
	ok := false
	if err := n.do(ctx, func() { n.watchers[wake] = true; ok = cond() }); err != nil {
		return err
	}
	defer n.post(func() { delete(n.watchers, wake) })
	for !ok {
		select {
		case <-wake:
			if err := n.do(ctx, func() { ok = cond() }); err != nil {
				return err
			}
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-n.done:
			return ErrClosed
		}
	}
	return nil
}

// Cancel ends a job of this node's. A reason of more than workunits.MaxWordLen bytes
// is an error that wraps workunits.ErrTooLarge; a job that is done is one of ErrDenied.
func (n *Node) Cancel(ctx context.Context, id workunits.JobID, reason string) error {
	if len(reason) > workunits.MaxWordLen {
		return fmt.Errorf("reason of %d bytes, limit %d: %w", len(reason), workunits.MaxWordLen, workunits.ErrTooLarge)
	}
	if err := n.unpack(ctx, id); err != nil {
		return err
	}
	return n.insist(ctx, id, func(j *job) (said bool, err error) {
		if n.info(j).State == JobDone {
			return false, fmt.Errorf("job %s is done, there is nothing to cancel: %w", id, ErrDenied)
		}
		n.stepSteward(j, steward.Cancel{Reason: reason})
		return j.steward.Book().Cancelled() != nil, nil
	})
}
