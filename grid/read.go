package grid

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/talka-grid/talka/grid/wire"
	"github.com/talka-grid/talka/workunits"
	"github.com/talka-grid/talka/workunits/ledger"
	"github.com/talka-grid/talka/workunits/verdict"
)

// Bounds of reading a ledger that others keep.
const (
	answerTime  = 5 * time.Second  // for a node that is asked
	readKept    = 10 * time.Minute // that what was read is good for, or that a failure is not tried again
	maxRead     = 1 << 30          // bytes of segments
	maxWitness  = 64               // volunteers that are asked
	readBacklog = 256              // messages that wait
)

// reading is the ledger of a finished job as others showed it to a node that does
// not look after the job. All of it is signed; several nodes are asked, volunteers
// among them, so that no steward can hide a fault.
type reading struct {
	manifest workunits.Manifest
	ledger   *ledger.Ledger
	standing workunits.StakeTable
	book     *verdict.Book
	info     ReadInfo
}

// ReadInfo tells from whom a node has the ledger of a job that it does not look
// after.
type ReadInfo struct {
	From    []workunits.NodeID `json:"from"`    // who answered
	Silent  []workunits.NodeID `json:"silent"`  // who was asked and did not
	Missing uint64             `json:"missing"` // statements that somebody spoke of and nobody showed

	Imported bool `json:"imported,omitempty"` // from a file, and nobody was asked
}

// heardLog is what a node that was asked answered.
type heardLog struct {
	from workunits.NodeID
	msg  wire.Message
}

// hearLogs takes the messages about logs for a job that this node does not look
// after, unless they are for the volunteer: answers to who reads it here, and
// questions of who reads it elsewhere.
func (n *Node) hearLogs(j *job, from workunits.NodeID, m wire.Message) bool {
	p, pull := m.(wire.Pull)
	_, push := m.(wire.Push)
	switch c := n.readers[j.id]; {
	case !pull && !push:
		return false
	case c != nil:
		select {
		case c <- heardLog{from, m}:
		default: // who reads asks again
		}
		return true
	case pull && !j.joined:
		raw := j.ledger.MissingOf(p.Have, wire.MaxFrame/2)
		n.send(from, wire.Push{Job: j.id, Segments: raw[:min(len(raw), wire.MaxSegments)]})
		return true
	}
	return false
}

// read brings the ledger of a finished job here that this node does not look
// after. What it read is kept for a while.
func (n *Node) read(ctx context.Context, id workunits.JobID) (r *reading, err error) {
	n.reading.Lock() // one at a time
	defer n.reading.Unlock()
	heard := make(chan heardLog, readBacklog)
	var j job
	if err := n.do(ctx, func() {
		if known := n.jobs[id]; known != nil {
			j = *known
			r = j.reading
		}
	}); err != nil {
		return nil, err
	}
	if !j.id.IsZero() && j.fromFile() {
		kept, err := n.readImported(ctx, &j)
		if err != nil || kept.over() || !j.ended {
			return kept, err
		}
		defer func() { // the file is older than what others may have
			if err != nil {
				r, err = kept, nil
			}
		}()
	}
	switch {
	case j.id.IsZero():
		return nil, fmt.Errorf("job %s is not known here: %w", id, ErrNotFound)
	case r != nil && !r.info.Imported && time.Since(j.readAt) < readKept:
		return r, nil
	case j.joined && !j.ended || j.manifest.Publisher == n.self:
		return nil, fmt.Errorf("what stewards say of it they show once it is over, so that no volunteer sees who else has its units: %w", ErrNotFound)
	}
	if err := n.do(ctx, func() { n.readers[id] = heard }); err != nil {
		return nil, err
	}
	r, err = n.readFrom(ctx, &j, heard)
	return r, errors.Join(err, n.do(n.ctx, func() {
		delete(n.readers, id)
		n.jobs[id].reading, n.jobs[id].readAt = r, time.Now()
	}))
}

// readFrom asks the stewards, then volunteers, for a job's logs.
func (n *Node) readFrom(ctx context.Context, j *job, heard <-chan heardLog) (*reading, error) {
	r := &reading{manifest: j.manifest, ledger: ledger.New(j.manifest.Network, j.id), info: ReadInfo{From: []workunits.NodeID{}, Silent: []workunits.NodeID{}}}
	var spoken []workunits.LogHead
	bytes := 0
	for _, s := range j.list {
		for more := s.Node != n.self; more; {
			heads, got, err := n.askSteward(ctx, r.ledger, j.id, s.Node, heard)
			if err != nil {
				return nil, err
			}
			spoken = append(spoken, heads...)
			bytes += got
			r.info.note(s.Node, heads != nil)
			more = heads != nil && got > 0 && bytes < maxRead
		}
	}
	if len(r.info.From) == 0 {
		return nil, fmt.Errorf("no steward of job %s shows its ledger: they do so once the job is over: %w", j.id, ErrNotFound)
	}
	if err := n.askVolunteers(ctx, r, j, heard); err != nil {
		return nil, err
	}
	for _, h := range spoken {
		if held := r.ledger.Len(h.Author); held < h.Len {
			r.info.Missing = max(r.info.Missing, h.Len-held)
		}
	}
	if j.manifest.Standing != nil {
		raw, err := n.stakeTable(ctx, *j.manifest.Standing, r.info.From)
		if err == nil {
			r.standing, err = j.manifest.ParseStanding(raw)
		}
		if err != nil {
			return nil, err
		}
	}
	r.book = verdict.ReadWith(j.id, j.manifest, r.standing, r.ledger, r.ledger.Heads())
	return r, nil
}

// note says whether a node answered; the first word stands.
func (i *ReadInfo) note(who workunits.NodeID, answered bool) {
	switch {
	case slices.Contains(i.From, who) || slices.Contains(i.Silent, who):
	case answered:
		i.From = append(i.From, who)
	default:
		i.Silent = append(i.Silent, who)
	}
}

// askSteward takes one answer of a steward: what it has more, and how far its logs
// go, nil if it is silent.
func (n *Node) askSteward(ctx context.Context, l *ledger.Ledger, id workunits.JobID, who workunits.NodeID, heard <-chan heardLog) (heads []workunits.LogHead, bytes int, err error) {
	if err := n.ask(ctx, who, wire.Pull{Job: id, Have: l.Heads(), Ask: true}); err != nil {
		return nil, 0, err
	}
	late := time.NewTimer(answerTime)
	defer late.Stop()
	for {
		select {
		case h := <-heard:
			switch m := h.msg.(type) {
			case wire.Push:
				bytes += addTo(l, m.Segments)
			case wire.Pull:
				if h.from == who && !m.Part {
					return append([]workunits.LogHead{}, m.Have...), bytes, nil
				}
			}
		case <-late.C:
			return nil, bytes, nil
		case <-ctx.Done():
			return nil, 0, context.Cause(ctx)
		}
	}
}

// askVolunteers asks those who committed copies for what stewards did not show of
// their logs.
func (n *Node) askVolunteers(ctx context.Context, r *reading, j *job, heard <-chan heardLog) error {
	asked := map[workunits.NodeID]bool{}
	for _, a := range r.ledger.Authors() {
		if len(asked) < maxWitness && a != n.self && !j.listed(a) {
			asked[a] = true
			if err := n.ask(ctx, a, wire.Pull{Job: j.id, Have: []workunits.LogHead{r.ledger.Head(a)}, Part: true, Ask: true}); err != nil {
				return err
			}
		}
	}
	late := time.NewTimer(answerTime)
	defer late.Stop()
	for waiting := len(asked); waiting > 0; {
		select {
		case h := <-heard:
			if m, ok := h.msg.(wire.Push); ok && asked[h.from] {
				addTo(r.ledger, m.Segments)
				r.info.note(h.from, true)
				delete(asked, h.from)
				waiting--
			}
		case <-late.C:
			waiting = 0
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	for _, a := range r.ledger.Authors() {
		if asked[a] {
			r.info.note(a, false)
		}
	}
	return nil
}

func (n *Node) ask(ctx context.Context, who workunits.NodeID, m wire.Message) error {
	return n.do(ctx, func() { n.send(who, m) })
}

// addTo adds segments and tells how many bytes of them were new. What is wrong
// with the others their signers would have to say.
func addTo(l *ledger.Ledger, segments [][]byte) (bytes int) {
	for _, raw := range segments {
		if entries, err := l.Add(raw); err == nil && len(entries) > 0 {
			bytes += len(raw)
		}
	}
	return bytes
}
