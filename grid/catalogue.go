package grid

import (
	"sync"
	"time"

	"github.com/talka-grid/talka/workunits"
)

// catalogue holds the live announcements as they were signed, for peers that
// missed them. It is safe for concurrent use.
type catalogue struct {
	mu   sync.Mutex
	live map[workunits.JobID]liveAnnouncement
}

type liveAnnouncement struct {
	data    []byte
	expires uint64
}

func (c *catalogue) put(id workunits.JobID, data []byte, expires uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.live[id] = liveAnnouncement{data, expires}
}

func (c *catalogue) drop(id workunits.JobID) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.live, id)
}

// Live returns the announcements that have not expired.
func (c *catalogue) list(now uint64) (all [][]byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for id, a := range c.live {
		if a.expires <= now {
			delete(c.live, id)
			continue
		}
		all = append(all, a.data)
	}
	return all
}

// Live returns the announcements that this node would tell a peer, in no order.
func (n *Node) Live() [][]byte { return n.catalogue.list(now()) }

// forget drops announcements that have expired.
func (n *Node) forget() {
	t := now()
	for id, a := range n.seen {
		if a.Expires <= t {
			delete(n.seen, id)
		}
	}
	for id, at := range n.wanted {
		if time.Since(at) > time.Hour {
			delete(n.wanted, id)
		}
	}
}
