package exchange

import (
	"context"
	"math"
	"slices"
	"sync"
	"time"

	"github.com/ipfs/go-cid"

	"github.com/talka-grid/talka/workunits"
)

// queue hands out chunks to sources. A chunk that a source does not have comes
// back for the others.
type queue struct {
	streams int                     // of a source
	workers int                     // streams of all of them
	several bool                    // sources
	cancel  context.CancelCauseFunc // ends what is on the way

	mu      sync.Mutex
	wants   map[cid.Cid]*want
	order   []cid.Cid // all of them
	todo    []cid.Cid // asked of nobody now
	left    int       // have not come
	spare   int       // chunks that may still be asked of two busy sources
	sources map[workunits.NodeID]*supply
	err     error // ends the queue
	changed chan struct{}
}

// want is a chunk that is to be fetched.
type want struct {
	came  bool
	lack  map[workunits.NodeID]time.Time // did not give it, when they were asked
	asked []workunits.NodeID             // were asked and have not answered
	since time.Time                      // when it was last asked for
}

// supply is what a source does for the queue.
type supply struct {
	heard time.Time // when it last gave a chunk
	open  int       // chunks that it is asked for
	rate  float64   // chunks a second; 0 before it is known
}

// of is a source's supply. The lock is held.
func (q *queue) of(n workunits.NodeID) *supply {
	if q.sources[n] == nil {
		q.sources[n] = &supply{}
	}
	return q.sources[n]
}

// outpaced reports whether the others will have brought all before a source could
// bring one chunk more. That takes the soonest of them a chunk's time, too: else
// each would leave the last chunk to the rest. The lock is held.
func (q *queue) outpaced(n workunits.NodeID, now time.Time) bool {
	mine, others, open, soonest := q.of(n), 0.0, len(q.todo), math.Inf(1)
	for other, s := range q.sources {
		if other != n && s.rate > 0 && now.Sub(s.heard) < stealAfter {
			others += s.rate
			open += s.open
			soonest = min(soonest, float64(s.open+1)/s.rate)
		}
	}
	return mine.rate > 0 && others > 0 && float64(mine.open+1)/mine.rate > max(float64(open)/others, soonest)+slack.Seconds()
}

// slow reports whether a source is to have one chunk at a time: until its rate is
// known, and while it is far behind another's. All seem slow at first, when the
// windows of their streams are small. The lock is held.
func (q *queue) slow(from *supply) bool {
	behind := from.rate == 0
	for _, s := range q.sources {
		behind = behind || s.rate > 2*from.rate
	}
	return behind && from.rate < slowRate
}

// paced notes a source's rate, in chunks a second.
func (q *queue) paced(n workunits.NodeID, rate float64) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.of(n).rate = rate
}

func newQueue(list []cid.Cid, streams, sources int, cancel context.CancelCauseFunc) *queue {
	q := &queue{
		streams: streams, workers: max(streams*sources, 1), several: sources > 1, cancel: cancel, wants: make(map[cid.Cid]*want, len(list)),
		order: list, todo: slices.Clone(list), left: len(list), changed: make(chan struct{}),
		spare: max(len(list)/twicePart, 1), sources: map[workunits.NodeID]*supply{},
	}
	for _, c := range list {
		q.wants[c] = &want{lack: map[workunits.NodeID]time.Time{}}
	}
	return q
}

// take returns the next chunks to ask a source for, at most so many. It waits while others were
// asked for chunks that may become the source's; none means that nothing is left
// that the source could give.
func (q *queue) take(ctx context.Context, n workunits.NodeID, most int) []cid.Cid {
	for {
		q.mu.Lock()
		batch, wait := q.next(n, most, time.Now())
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

// more is take without waiting, and without what others are asked for. Over tells that
// little is left.
func (q *queue) more(n workunits.NodeID, most int) (batch []cid.Cid, over bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.todo) == 0 || q.several && len(q.todo) <= q.workers {
		return nil, true // the end is shared out as the sources come to it
	}
	batch, _ = q.next(n, most, time.Now())
	return batch, false
}

// next is the next batch for a source, else how long it may wait for one. The
// lock is held.
func (q *queue) next(n workunits.NodeID, most int, now time.Time) (batch []cid.Cid, wait time.Duration) {
	if q.left == 0 || q.err != nil {
		return nil, 0
	}
	if from := q.of(n); q.several && from.open > 0 && q.slow(from) {
		return nil, slack // one chunk at a time: others may have the next by then
	}
	if len(q.todo) > 0 && q.outpaced(n, now) {
		return nil, slack // they may turn out to be slower
	}
	// Small batches at the end let the sources end together.
	size := min(max(len(q.todo)/q.workers, 1), most)
	var again time.Duration
	rest := q.todo[:0]
	for i, c := range q.todo {
		if len(batch) == size {
			rest = append(rest, q.todo[i:]...)
			break
		}
		left := q.lacks(n, q.wants[c], now)
		if left == 0 {
			batch = append(batch, c)
			continue
		}
		rest = append(rest, c)
		if left > 0 && (again == 0 || left < again) {
			again = left
		}
	}
	q.todo = rest
	if len(batch) == 0 {
		batch, wait = q.late(n, now)
		if again > 0 && (wait <= 0 || again < wait) {
			wait = again
		}
	}
	for _, c := range batch {
		w := q.wants[c]
		w.asked = append(w.asked, n)
		w.since = now
	}
	q.of(n).open += len(batch)
	return batch, wait
}

// lacks is how long a source that did not give a chunk is not asked for it again;
// below zero if not at all, which is so unless others give something meanwhile: it
// may be fetching from them as well. The lock is held.
func (q *queue) lacks(n workunits.NodeID, w *want, now time.Time) time.Duration {
	since, ok := w.lack[n]
	if !ok {
		return 0
	}
	for other, s := range q.sources {
		if other != n && s.open > 0 && now.Sub(s.heard) < blockTime {
			return max(lackFor-now.Sub(since), 0)
		}
	}
	return -1
}

// late is half of what others keep too long, from the end that they come to last;
// else how long until there may be some. Of sources that are busy giving, a few
// chunks only: those come twice.
func (q *queue) late(n workunits.NodeID, now time.Time) (batch []cid.Cid, wait time.Duration) {
	for _, c := range slices.Backward(q.order) {
		w := q.wants[c]
		if w.came || len(w.asked) == 0 || slices.Contains(w.asked, n) || q.lacks(n, w, now) != 0 {
			continue
		}
		if left := q.patience(w, now) - now.Sub(w.since); left > 0 {
			if wait == 0 || left < wait {
				wait = left
			}
			continue
		}
		batch = append(batch, c)
	}
	batch = batch[:min((len(batch)+1)/2, MaxBatch)]
	for _, c := range batch {
		if q.busy(q.wants[c], now) {
			q.spare--
		}
	}
	return batch, wait
}

// patience is how long a chunk is left to those who were asked for it.
func (q *queue) patience(w *want, now time.Time) time.Duration {
	if q.spare <= 0 && q.busy(w, now) {
		return slowAfter
	}
	return stealAfter
}

// busy reports whether one of those who were asked for a chunk gives others.
func (q *queue) busy(w *want, now time.Time) bool {
	return slices.ContainsFunc(w.asked, func(n workunits.NodeID) bool { return now.Sub(q.of(n).heard) < stealAfter })
}

// got reports whether a chunk that a source gave was the first of its kind.
func (q *queue) got(n workunits.NodeID, c cid.Cid) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	from := q.of(n)
	from.heard = time.Now()
	from.open--
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
	q.of(n).open -= len(list)
	for _, c := range list {
		w := q.wants[c]
		w.lack[n] = time.Now()
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
