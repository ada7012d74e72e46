package bitswap

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/ipfs/boxo/bitswap/message"
	"github.com/ipfs/boxo/bitswap/server"
	blocks "github.com/ipfs/go-block-format"
	"github.com/libp2p/go-libp2p/core/peer"
)

// unasked is how long the server runs on with no peer that wants anything.
const unasked = 5 * time.Minute

// asked is bitswap's server, which runs while peers want something: by itself it
// wakes the machine ten times a second, and most nodes are never asked for a thing.
type asked struct {
	begin func() *server.Server
	peers func() []peer.ID // that are connected

	mu     sync.RWMutex
	now    *server.Server // nil: not running
	closed bool
	last   time.Time // that somebody wanted something
	timer  *time.Timer
	ends   sync.WaitGroup // of servers
}

// running returns the server, if there is one; begun if wanted.
func (a *asked) running(wanted bool) *server.Server {
	a.mu.RLock()
	s := a.now
	a.mu.RUnlock()
	if !wanted {
		return s
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.closed {
		return nil
	}
	a.last = time.Now()
	if a.now == nil {
		a.now = a.begin()
		a.timer = time.AfterFunc(unasked, func() { a.quiet(time.Now()) })
	}
	return a.now
}

// quiet ends the server if nobody wants anything any more.
func (a *asked) quiet(now time.Time) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.closed || a.now == nil {
		return
	}
	wants := func(p peer.ID) bool { return len(a.now.WantlistForPeer(p)) > 0 }
	if left := unasked - now.Sub(a.last); left > 0 {
		a.timer.Reset(left)
	} else if slices.ContainsFunc(a.peers(), wants) {
		a.timer.Reset(unasked)
	} else {
		a.end()
	}
}

// end ends the server if it runs. The lock is held.
func (a *asked) end() {
	if s := a.now; s != nil {
		a.now = nil
		a.ends.Go(s.Close)
	}
}

func (a *asked) close() {
	a.mu.Lock()
	a.closed = true
	a.end()
	a.mu.Unlock()
	a.ends.Wait()
}

// ReceiveMessage implements network.Receiver, as do those below.
func (a *asked) ReceiveMessage(ctx context.Context, p peer.ID, m message.BitSwapMessage) {
	wants := func(e message.Entry) bool { return !e.Cancel }
	if s := a.running(slices.ContainsFunc(m.Wantlist(), wants)); s != nil {
		s.ReceiveMessage(ctx, p, m)
	}
}

// ReceiveError is one of them: the client hears of it, too.
func (a *asked) ReceiveError(error) {}

// PeerConnected is one of them.
func (a *asked) PeerConnected(p peer.ID) {
	if s := a.running(false); s != nil {
		s.PeerConnected(p)
	}
}

// PeerDisconnected is one of them.
func (a *asked) PeerDisconnected(p peer.ID) {
	if s := a.running(false); s != nil {
		s.PeerDisconnected(p)
	}
}

// ReceivedBlocks tells the server who gave something.
func (a *asked) ReceivedBlocks(from peer.ID, all []blocks.Block) {
	if s := a.running(false); s != nil {
		s.ReceivedBlocks(from, all)
	}
}
