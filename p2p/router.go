package p2p

import (
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	basichost "github.com/libp2p/go-libp2p/p2p/host/basic"
	ma "github.com/multiformats/go-multiaddr"
)

const (
	routerAgain  = time.Minute // until a router is looked for again if there was none; then four times that, and so on
	routerRarely = time.Hour
	routerEnd    = 3 * time.Second // for taking back what was asked of a router
)

// router asks the router in front of the node to forward a port. libp2p's own
// manager looks for one once; this one begins anew when the node may have moved, and
// now and then while there is none: a machine that wakes has no network for some
// seconds, and routers start slowly.
type router struct {
	make func() basichost.NATManager

	mu   sync.Mutex
	now  basichost.NATManager // nil at the end
	next time.Time            // a router is looked for again if there is none by then
	wait time.Duration        // from then to the time after it
	ends sync.WaitGroup       // of managers that were there before
}

func newRouter(n network.Network) *router {
	r := &router{make: func() basichost.NATManager { return basichost.NewNATManager(n) }}
	r.begin(time.Now(), routerAgain)
	return r
}

// begin looks for a router; if there is none, for another after the wait.
func (r *router) begin(now time.Time, wait time.Duration) {
	r.now, r.next, r.wait = r.make(), now.Add(jitter(wait)), wait
}

func (r *router) manager() basichost.NATManager {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.now
}

// GetMapping implements basichost.NATManager.
func (r *router) GetMapping(a ma.Multiaddr) ma.Multiaddr {
	if m := r.manager(); m != nil {
		return m.GetMapping(a)
	}
	return nil
}

// HasDiscoveredNAT implements basichost.NATManager.
func (r *router) HasDiscoveredNAT() bool {
	m := r.manager()
	return m != nil && m.HasDiscoveredNAT()
}

// end ends the present manager, which takes back its mappings. That takes minutes if
// it has just asked a router that is gone, so nobody waits for it. The lock is held.
func (r *router) end() {
	if old := r.now; old != nil {
		r.now = nil
		r.ends.Go(func() { _ = old.Close() }) // what it cannot take back lapses within a minute
	}
}

// anew looks for a router again.
func (r *router) anew(now time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.now != nil {
		r.end()
		r.begin(now, routerAgain)
	}
}

// seek looks for a router again if none was found, and it is time.
func (r *router) seek(now time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.now == nil || now.Before(r.next) || r.now.HasDiscoveredNAT() {
		return
	}
	r.end()
	r.begin(now, min(4*r.wait, routerRarely))
}

// Close implements basichost.NATManager. It waits for a router that is there only.
func (r *router) Close() error {
	r.mu.Lock()
	r.end()
	r.mu.Unlock()
	done := make(chan struct{})
	go func() {
		defer close(done)
		r.ends.Wait()
	}()
	select {
	case <-done:
	case <-time.After(routerEnd):
	}
	return nil
}
