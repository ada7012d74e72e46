package exchange

import (
	"io"
	"slices"
	"sync"
	"time"
)

// keepIdle is how long a stream is kept for the next use: a new one has a small window
// again, which has to grow over several round trips before a chunk fits into it.
const keepIdle = 10 * time.Second

// Idle are open streams that carry nothing now, by peer; of a peer no more than a number.
// Make it with NewIdle. It is safe for concurrent use.
type Idle[P comparable, S Resettable] struct {
	most int

	mu     sync.Mutex
	of     map[P][]*idler[S] // last used last
	closed bool
}

// Resettable is what Idle asks of a stream.
type Resettable interface {
	io.Closer
	SetDeadline(t time.Time) error
	Reset() error
}

type idler[S any] struct {
	stream S
	end    *time.Timer // closes it if nobody takes it
}

// NewIdle returns room for streams, at most so many to each peer.
func NewIdle[P comparable, S Resettable](most int) *Idle[P, S] {
	return &Idle[P, S]{most: most, of: map[P][]*idler[S]{}}
}

// Take returns the stream to a peer that was used last, if there is any.
func (i *Idle[P, S]) Take(p P) (s S, ok bool) {
	i.mu.Lock()
	defer i.mu.Unlock()
	list := i.of[p]
	if len(list) == 0 {
		return s, false
	}
	k := list[len(list)-1]
	k.end.Stop()
	i.drop(p, len(list)-1)
	return k.stream, true
}

// drop forgets a stream. The lock is held.
func (i *Idle[P, S]) drop(p P, at int) {
	if i.of[p] = slices.Delete(i.of[p], at, at+1); len(i.of[p]) == 0 {
		delete(i.of, p)
	}
}

// Put keeps a stream for 10 s, and closes it if nobody takes it; false if it is not
// wanted, and still the caller's.
func (i *Idle[P, S]) Put(p P, s S) bool {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.closed || len(i.of[p]) >= i.most || s.SetDeadline(time.Time{}) != nil {
		return false
	}
	k := &idler[S]{stream: s}
	i.of[p] = append(i.of[p], k)
	k.end = time.AfterFunc(keepIdle, func() {
		i.mu.Lock()
		at := slices.Index(i.of[p], k)
		if at >= 0 {
			i.drop(p, at)
		}
		i.mu.Unlock()
		if at >= 0 {
			_ = s.Close() // it carried all that it was to
		}
	})
	return true
}

// Close resets all streams, and keeps none from then on.
func (i *Idle[P, S]) Close() {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.closed = true
	for _, list := range i.of {
		for _, k := range list {
			k.end.Stop()
			_ = k.stream.Reset() // it carries nothing
		}
	}
	i.of = nil
}
