package grid

import (
	"context"
	"sync"
	"time"

	"github.com/talka-grid/talka/workunits"
)

// maxEvents is how many events are remembered for those who resume.
const maxEvents = 4096

// eventLog is a bounded log of events that many can follow. It is safe for
// concurrent use; following slowly costs events, never memory.
type eventLog struct {
	mu     sync.Mutex
	first  uint64 // number of ring[0]
	ring   []Event
	wake   chan struct{} // closed and replaced when an event comes
	closed bool
}

// newEventLog makes an empty log. Its numbers begin with the time, so that they
// ascend over the node's lives and whoever resumes misses nothing.
func newEventLog(now time.Time) *eventLog {
	return &eventLog{first: uint64(now.UnixMicro()), wake: make(chan struct{})}
}

func (l *eventLog) add(e Event) {
	e.Time = time.Now()
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return
	}
	e.Seq = l.first + uint64(len(l.ring))
	if l.ring = append(l.ring, e); len(l.ring) > maxEvents {
		l.first += uint64(len(l.ring) - maxEvents/2)
		l.ring = append([]Event(nil), l.ring[len(l.ring)-maxEvents/2:]...)
	}
	close(l.wake)
	l.wake = make(chan struct{})
}

func (l *eventLog) close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.closed {
		l.closed = true
		close(l.wake)
	}
}

// Note adds an event of what stands beside the node in its process.
func (n *Node) Note(kind string, of workunits.NodeID, text string) {
	n.events.add(Event{Kind: kind, Node: of, Text: text})
}

// after returns the events numbered above seq, and what to wait for if there are
// none. A number that this log has not reached is of a life with another clock:
// all events are above it.
func (l *eventLog) after(seq uint64) (events []Event, wake <-chan struct{}, closed bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	next := l.first + uint64(len(l.ring))
	if seq >= next {
		seq = 0
	}
	if from := max(seq+1, l.first); from < next {
		events = append(events, l.ring[from-l.first:]...)
	}
	return events, l.wake, l.closed
}

// Events sends the events numbered above after, the remembered ones first, until
// ctx ends or the node stops; then it closes the channel.
func (n *Node) Events(ctx context.Context, after uint64) <-chan Event {
	out := make(chan Event)
	go func() {
		defer close(out)
		for {
			events, wake, closed := n.events.after(after)
			for _, e := range events {
				select {
				case out <- e:
					after = e.Seq
				case <-ctx.Done():
					return
				}
			}
			if closed {
				return
			}
			if len(events) == 0 {
				select {
				case <-wake:
				case <-ctx.Done():
					return
				}
			}
		}
	}()
	return out
}
