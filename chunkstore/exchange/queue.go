package exchange

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/ipfs/go-cid"

	"github.com/talka-grid/talka/workunits"
)

// queue hands out chunks to sources. A chunk that a source does not have comes
// back for the others.
type queue struct {
	workers int
	cancel  context.CancelCauseFunc // ends what is on the way

	mu      sync.Mutex
	wants   map[cid.Cid]*want
	order   []cid.Cid // all of them
	todo    []cid.Cid // asked of nobody now
	left    int       // have not come
	err     error     // ends the queue
	changed chan struct{}
}

// want is a chunk that is to be fetched.
type want struct {
	came  bool
	lack  []workunits.NodeID // did not give it
	asked []workunits.NodeID // were asked and have not answered
	since time.Time          // when it was last asked for
}

func newQueue(list []cid.Cid, workers int, cancel context.CancelCauseFunc) *queue {
	q := &queue{
		workers: max(workers, 1), cancel: cancel, wants: make(map[cid.Cid]*want, len(list)),
		order: list, todo: slices.Clone(list), left: len(list), changed: make(chan struct{}),
	}
	for _, c := range list {
		q.wants[c] = &want{}
	}
	return q
}

// take returns the next chunks to ask a source for. It waits while others were
// asked for chunks that may become the source's; none means that nothing is left
// that the source could give.
func (q *queue) take(ctx context.Context, n workunits.NodeID) []cid.Cid {
	for {
		q.mu.Lock()
		batch, wait := q.next(n, time.Now())
		changed := q.changed
		q.mu.Unlock()
		if len(batch) > 0 || wait <= 0 {
			return batch
		}
		timer := time.NewTimer(wait)
		select {
		case <-changed:
		case <-timer.C:
		case <-ctx.Done():
		}
		timer.Stop()
		if ctx.Err() != nil {
			return nil
		}
	}
}

// more is take without waiting, and without what others are asked for.
func (q *queue) more(n workunits.NodeID) []cid.Cid {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.todo) <= q.workers {
		return nil // the end is shared out as the sources come to it
	}
	batch, _ := q.next(n, time.Now())
	return batch
}

// next is the next batch for a source, else how long it may wait for one. The
// lock is held.
func (q *queue) next(n workunits.NodeID, now time.Time) (batch []cid.Cid, wait time.Duration) {
	if q.left == 0 || q.err != nil {
		return nil, 0
	}
	// Small batches at the end let the sources end together.
	size := min(max(len(q.todo)/q.workers, 1), MaxBatch)
	rest := q.todo[:0]
	for _, c := range q.todo {
		if len(batch) < size && !slices.Contains(q.wants[c].lack, n) {
			batch = append(batch, c)
		} else {
			rest = append(rest, c)
		}
	}
	q.todo = rest
	if len(batch) == 0 {
		batch, wait = q.late(n, now)
	}
	for _, c := range batch {
		w := q.wants[c]
		w.asked = append(w.asked, n)
		w.since = now
	}
	return batch, wait
}

// late is half of what others keep too long, from the end that they come to last;
// else how long until there may be some.
func (q *queue) late(n workunits.NodeID, now time.Time) (batch []cid.Cid, wait time.Duration) {
	for _, c := range slices.Backward(q.order) {
		w := q.wants[c]
		if w.came || len(w.asked) == 0 || slices.Contains(w.asked, n) || slices.Contains(w.lack, n) {
			continue
		}
		if left := stealAfter - now.Sub(w.since); left > 0 {
			if wait == 0 || left < wait {
				wait = left
			}
			continue
		}
		batch = append(batch, c)
	}
	return batch[:min((len(batch)+1)/2, MaxBatch)], wait
}

// got reports whether a chunk that came was the first of its kind.
func (q *queue) got(c cid.Cid) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	w := q.wants[c]
	if w.came {
		return false
	}
	w.came = true
	if i := slices.Index(q.todo, c); i >= 0 { // it was given up meanwhile
		q.todo = slices.Delete(q.todo, i, i+1)
	}
	if q.left--; q.left == 0 {
		q.cancel(nil) // others may be at work on it still
	}
	return true
}

// giveBack takes chunks back that a source did not give.
func (q *queue) giveBack(n workunits.NodeID, list []cid.Cid) {
	if len(list) == 0 {
		return
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, c := range list {
		w := q.wants[c]
		w.lack = append(w.lack, n)
		if i := slices.Index(w.asked, n); i >= 0 {
			w.asked = slices.Delete(w.asked, i, i+1)
		}
		if !w.came && len(w.asked) == 0 {
			q.todo = append(q.todo, c)
		}
	}
	close(q.changed)
	q.changed = make(chan struct{})
}

// fail ends the queue.
func (q *queue) fail(err error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.err == nil && q.left > 0 {
		q.err = err
		q.cancel(err)
	}
}

// rest is what has not come, or what ended the queue.
func (q *queue) rest() (list []cid.Cid, err error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, c := range q.order {
		if !q.wants[c].came {
			list = append(list, c)
		}
	}
	return list, q.err
}
