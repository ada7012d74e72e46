package grid

import (
	"context"
	"sync"
	"time"

	"github.com/talka-grid/talka/workunits"
)

// Limits on what waits for a peer.
const (
	maxQueued   = 4096 // frames for one peer; more are dropped, and asked for again
	sendTimeout = 15 * time.Second
	idleAfter   = time.Minute
)

// outbox sends frames to peers, each in order on a goroutine of its own, so that
// a slow peer delays nobody else. It is safe for concurrent use.
type outbox struct {
	ctx  context.Context
	net  Network
	lost func(workunits.NodeID) // called on the peer's goroutine

	mu    sync.Mutex
	peers map[workunits.NodeID]chan []byte
	group sync.WaitGroup
}

func newOutbox(ctx context.Context, net Network, lost func(workunits.NodeID)) *outbox {
	return &outbox{ctx: ctx, net: net, lost: lost, peers: map[workunits.NodeID]chan []byte{}}
}

// send queues a frame. It never blocks: a peer that is too far behind loses it.
func (o *outbox) send(to workunits.NodeID, frame []byte) {
	o.mu.Lock()
	defer o.mu.Unlock()
	queue := o.peers[to]
	if queue == nil {
		queue = make(chan []byte, maxQueued)
		o.peers[to] = queue
		o.group.Go(func() { o.run(to, queue) })
	}
	select {
	case queue <- frame:
	default:
	}
}

// run sends a peer's frames until it has been idle for a while.
func (o *outbox) run(to workunits.NodeID, queue chan []byte) {
	idle := time.NewTimer(idleAfter)
	defer idle.Stop()
	for {
		select {
		case frame := <-queue:
			ctx, cancel := context.WithTimeout(o.ctx, sendTimeout)
			err := o.net.Send(ctx, to, frame)
			cancel()
			if err != nil && o.ctx.Err() == nil {
				o.discard(queue)
				o.lost(to)
			}
			idle.Reset(idleAfter)
		case <-idle.C:
			o.mu.Lock()
			if len(queue) == 0 {
				delete(o.peers, to)
				o.mu.Unlock()
				return
			}
			o.mu.Unlock()
			idle.Reset(idleAfter)
		case <-o.ctx.Done():
			return
		}
	}
}

// discard drops what waits for a peer that cannot be reached; it is stale by the
// time that the peer is back.
func (o *outbox) discard(queue chan []byte) {
	for {
		select {
		case <-queue:
		default:
			return
		}
	}
}

func (o *outbox) wait() { o.group.Wait() }
