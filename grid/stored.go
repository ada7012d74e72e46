package grid

import (
	"errors"
	"fmt"

	"github.com/talka-grid/talka/workunits/ledger"
)

// How ledgers lie on the disk: what is written leaves memory, and what a snapshot tells
// of need not be read at a start.

// newLedger gives a job an empty ledger, which leaves to the disk what is stored.
func (n *Node) newLedger(j *job) {
	j.ledger = ledger.New(j.manifest.Network, j.id)
	j.ledger.ReadWith(n.db.segment)
	j.author = ledger.NewAuthor(n.cfg.Key, j.ledger)
}

// loadLedger brings a job's ledger back from the disk. What its snapshot tells of is
// taken as it is; if that is not there as it should be all is read anew.
func (n *Node) loadLedger(j *job) error {
	if outline, book := n.readSnapshot(j.id); outline != nil {
		err := n.recallLedger(j, outline)
		if err == nil {
			j.memory = book
			return nil
		}
		n.log.Warn("a snapshot does not fit what is stored, so that all is read again", "job", j.id, "err", err)
		n.dropSnapshot(j.id)
		n.newLedger(j)
	}
	return n.db.eachSegment(n.ctx, j.id, func(raw []byte, row uint64) { n.loadSegment(j, raw, row) })
}

// errNoRow says that a snapshot tells of a segment that is not stored.
var errNoRow = errors.New("a segment is missing")

// recallLedger takes the segments that an outline tells of without reading them, and reads
// the others.
func (n *Node) recallLedger(j *job, outline []byte) error {
	known, err := j.ledger.Recall(outline)
	if err != nil {
		return err
	}
	rows, err := n.db.segmentRows(n.ctx, j.id)
	if err != nil {
		return err
	}
	var rest []uint64
	for _, row := range rows {
		if len(known) > 0 && known[0] == row {
			known = known[1:]
		} else {
			rest = append(rest, row)
		}
	}
	if len(known) > 0 {
		return fmt.Errorf("row %d: %w", known[0], errNoRow)
	}
	for _, row := range rest {
		raw, err := n.db.segment(row)
		if err != nil {
			return err
		}
		n.loadSegment(j, raw, row)
	}
	return nil
}

// loadSegment takes a segment from a row, or from an archive if that is 0.
func (n *Node) loadSegment(j *job, raw []byte, row uint64) {
	var fork *ledger.ForkError
	if err := j.ledger.Restore(raw, row); err != nil && !errors.As(err, &fork) {
		n.log.Warn("stored segment", "job", j.id, "err", err)
	}
}

// recentBytes is how much of what is on the disk a ledger has in memory: heads of
// fellow stewards and their pulls ask for what is new.
const recentBytes = 4 << 20

// stored has the ledgers leave to the disk what was written.
func (n *Node) stored(list []jobSegment) {
	for _, s := range list {
		if j := n.jobs[s.job]; j != nil {
			j.ledger.Stored(s.raw, s.row)
			j.ledger.Forget(recentBytes)
		}
	}
}

// unreadable tells of a ledger whose segments the disk does not give back. The next
// start reads all of it anew.
func (n *Node) unreadable() error {
	for _, j := range n.jobs {
		if err := j.ledger.Err(); err != nil {
			n.dropSnapshot(j.id)
			return fmt.Errorf("read state: job %s: %w", j.id, err)
		}
	}
	return nil
}
