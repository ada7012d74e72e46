package grid

import (
	"fmt"
	"maps"
	"sync"
	"time"

	"github.com/talka-grid/talka/workunits"
)

// What one author may have others pass on: so many announcements at once, and so
// many a second then. What is beyond is not lost, peers ask each other for it.
const (
	authorBurst  = 128
	authorRate   = 4
	maxAuthors   = 4096
	maxPerAuthor = 512 // announcements of one author that are remembered at a time
)

// CheckAnnouncement reads an announcement before it is relayed: it must be
// signed, of this network, and neither expired nor from the future.
func (n *Node) CheckAnnouncement(data []byte) (workunits.Announcement, error) {
	a, err := workunits.ParseAnnouncement(data)
	if err != nil {
		return a, err
	}
	const skew = 10 * 60 * 1000
	switch t := now(); {
	case a.Network != n.cfg.Network:
		return a, fmt.Errorf("announcement of network %q", a.Network)
	case a.Expires <= t:
		return a, ErrStale
	case a.Time > t+skew:
		return a, fmt.Errorf("announcement from the future: check the clock")
	}
	if n.cfg.Work > 0 && workunits.Work(n.cfg.Network, a.Author, a.Proof) < n.cfg.Work {
		return a, fmt.Errorf("%w: it shows no %d bits of work", ErrUnproven, n.cfg.Work)
	}
	return a, nil
}

// RelayAnnouncement is CheckAnnouncement for gossip: it wraps ErrPace, too, for an
// author who has been passed on too often of late.
func (n *Node) RelayAnnouncement(data []byte) error {
	a, err := n.CheckAnnouncement(data)
	if err == nil && !n.pace.allows(a.Author, time.Now()) {
		err = ErrPace
	}
	return err
}

// Reasons not to pass on an announcement for which whoever sent it is not to blame.
var (
	// ErrUnproven is wrapped where the author's identity has cost it too little.
	ErrUnproven = fmt.Errorf("the author's identity is too cheap for this network")
	// ErrPace is wrapped where an author announces too much.
	ErrPace = fmt.Errorf("the author announces too much")
)

// ErrStale is returned for an announcement that is too old to be of use.
var ErrStale = fmt.Errorf("announcement has expired")

// Learn takes an announcement that gossip or a peer's catalogue brought.
func (n *Node) Learn(data []byte) error {
	a, err := n.CheckAnnouncement(data)
	if err != nil {
		return err
	}
	n.post(func() { n.learnAnnouncement(a, data) })
	return nil
}

// pace is how much each author has announced of late. It is safe for concurrent use.
type pace struct {
	mu  sync.Mutex
	all map[workunits.NodeID]allowance
}

// allowance is what an author has left, and since when.
type allowance struct {
	left float64
	at   time.Time
}

func (l allowance) now(t time.Time) float64 {
	return min(authorBurst, l.left+authorRate*max(t.Sub(l.at), 0).Seconds())
}

// allows counts one announcement. With too many authors at a time none of the new
// ones is passed on.
func (p *pace) allows(author workunits.NodeID, t time.Time) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	l, known := p.all[author]
	if !known {
		if len(p.all) >= maxAuthors {
			maps.DeleteFunc(p.all, func(_ workunits.NodeID, l allowance) bool { return l.now(t) >= authorBurst })
		}
		if len(p.all) >= maxAuthors {
			return false
		}
		l = allowance{authorBurst, t}
	}
	if p.all == nil {
		p.all = map[workunits.NodeID]allowance{}
	}
	left := l.now(t)
	if left < 1 {
		return false
	}
	p.all[author] = allowance{left - 1, t}
	return true
}

// roomFor reports whether one more job that this author announces is remembered. If
// there is no room at all, the author who takes most of it loses one.
func (n *Node) roomFor(author workunits.NodeID) bool {
	count := map[workunits.NodeID]int{}
	for _, a := range n.seen {
		count[a.Author]++
	}
	if count[author] >= maxPerAuthor {
		return false
	}
	if len(n.seen) < maxSeen {
		return true
	}
	most := author
	for who, c := range count {
		if c > count[most] || c == count[most] && who.Compare(most) < 0 {
			most = who
		}
	}
	if most == author {
		return false
	}
	oldest := workunits.Announcement{Time: ^uint64(0)}
	for _, a := range n.seen {
		if a.Author == most && a.Time < oldest.Time {
			oldest = a
		}
	}
	delete(n.seen, oldest.Job)
	n.catalogue.drop(oldest.Job)
	return true
}
