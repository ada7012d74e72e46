package p2p

import (
	"math/rand/v2"
	"net"
	"slices"
	"time"

	"github.com/libp2p/go-libp2p/p2p/net/swarm"
)

// A laptop that was closed, or carried elsewhere, finds its connections dead, its
// attempts put off and its router another one. Connections would notice within half
// a minute, back-offs within ten, the rest never.
const (
	refreshLook  = 10 * time.Second // between two looks at clock and addresses
	refreshLate  = 20 * time.Second // a look that is so late shows that the machine slept
	refreshEvery = 30 * time.Second // between two refreshes, whatever flaps
	longSleep    = time.Hour        // after which others may have forgotten what this node told them
	retellTime   = 10 * time.Minute // in which they are told again
)

// lookout notices that the machine has slept or moved.
type lookout struct {
	last  time.Time // of the last look; wall clock, which alone goes on in sleep
	addrs []string  // of its interfaces; nil if they are not known
	acted time.Time // the last refresh
}

// look compares what is with what was. It reports how long the machine slept, and
// whether it moved; both are held back while a refresh has just been.
func (l *lookout) look(now time.Time, addrs []string) (slept time.Duration, moved bool) {
	now = now.Round(0) // without the monotonic clock
	if late := now.Sub(l.last) - refreshLook; !l.last.IsZero() && late > refreshLate {
		slept = late
	}
	l.last = now
	if since := now.Sub(l.acted); since >= 0 && since < refreshEvery {
		return 0, false
	}
	if addrs != nil {
		moved = l.addrs != nil && !slices.Equal(l.addrs, addrs)
		l.addrs = addrs
	}
	if slept > 0 || moved {
		l.acted = now
	}
	return slept, moved
}

// interfaceAddrs are the addresses by which others may be reached, in order; nil if
// the system does not tell.
func interfaceAddrs() []string {
	all, err := net.InterfaceAddrs()
	if err != nil {
		return nil
	}
	out := []string{}
	for _, a := range all {
		if n, ok := a.(*net.IPNet); ok && !n.IP.IsLoopback() && !n.IP.IsLinkLocalUnicast() {
			out = append(out, n.String())
		}
	}
	slices.Sort(out)
	return out
}

// keepLookout refreshes the host when the machine has slept or moved.
func (h *Host) keepLookout() {
	var l lookout
	for {
		var addrs []string
		if !h.lan && !h.cfg.NoNAT { // others do not move
			addrs = interfaceAddrs()
		}
		if slept, moved := l.look(time.Now(), addrs); slept > 0 || moved {
			h.log.Info("the machine slept or changed its network; looking for peers anew", "slept", slept.Round(time.Second), "moved", moved)
			h.refresh(moved || slept > longSleep)
		}
		h.reach.seek(time.Now())
		select {
		case <-time.After(refreshLook):
		case <-h.ctx.Done():
			return
		}
	}
}

// Refresh makes the host doubt what it knows of its place: it tests its connections,
// tries again whom it had given up, looks for a router and for the LAN, and tells the
// DHT again what it provides. It does so by itself when it notices that the machine
// slept, or has other addresses.
func (h *Host) Refresh() { h.refresh(true) }

func (h *Host) refresh(tell bool) {
	for _, c := range h.base.Network().Conns() {
		h.probe(c)
	}
	if s, ok := h.base.Network().(*swarm.Swarm); ok {
		for _, p := range h.base.Peerstore().Peers() {
			s.Backoff().Clear(p)
		}
	}
	wake(h.manager.anew)
	h.reach.anew()
	wake(h.local.anew)
	if tell {
		h.keys.again(time.Now())
	}
	for _, p := range h.members() {
		h.pullSoon(p) // what was announced meanwhile
	}
}

// again has all keys told soon, one after the other.
func (p *provided) again(now time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, s := range p.keys {
		s.next, s.after = now.Add(rand.N(min(retellTime, time.Duration(len(p.keys))*time.Second))), provideFirst //nolint:gosec // nothing is won by guessing it
	}
	wake(p.more)
}

// forgetFailures is what the manager does of a refresh.
func (m *manager) forgetFailures() {
	clear(m.failed)
	clear(m.deaf)
	clear(m.detours)
}
