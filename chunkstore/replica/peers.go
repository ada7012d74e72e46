package replica

import (
	"cmp"
	"slices"
	"time"

	"github.com/talka-grid/talka/workunits"
)

// peer is what was measured of one.
type peer struct {
	Peer
	known, heard time.Time
	up, total    time.Duration
}

// Heard tells that a peer is there. It is told at least twice in Times.Recent while so.
func (k *Keeper) Heard(now time.Time, p Peer) {
	at := k.peers[p.Node]
	if at == nil {
		if len(k.peers) >= maxPeers {
			k.forget()
		}
		k.peers[p.Node] = &peer{Peer: p, known: now, heard: now}
		return
	}
	at.Operator, at.Net = cmp.Or(p.Operator, at.Operator), cmp.Or(p.Net, at.Net)
	gap := now.Sub(at.heard)
	if gap <= 0 {
		return
	}
	if gap <= k.times.Recent {
		at.up += gap
	}
	if at.total += gap; at.total > k.times.Memory {
		at.up, at.total = at.up/2, at.total/2
	}
	at.heard = now
}

// forget drops the peer that was silent longest. Its replicas are forgotten too.
func (k *Keeper) forget() {
	var oldest *peer
	for _, p := range k.peers {
		if oldest == nil || cmp.Or(p.heard.Compare(oldest.heard), p.Node.Compare(oldest.Node)) < 0 {
			oldest = p
		}
	}
	delete(k.peers, oldest.Node)
	for _, o := range k.objects {
		o.drop(oldest.Node)
	}
}

// Availability is the share of its time that a peer is there, as far as was measured.
func (k *Keeper) Availability(now time.Time, n workunits.NodeID) float64 {
	return k.availability(now, k.peers[n])
}

func (k *Keeper) availability(now time.Time, p *peer) float64 {
	if p == nil {
		return 0
	}
	prior := k.times.Silence.Hours()
	up, total := p.up.Hours()+newcomer*prior, (p.total+now.Sub(p.heard)).Hours()+prior
	return up / total
}

func (k *Keeper) anchor(now time.Time, p *peer) bool { return k.availability(now, p) >= anchorAt }

func (p *peer) within(now time.Time, d time.Duration) bool { return p != nil && now.Sub(p.heard) <= d }

// heardWithin reports whether the holder of a replica was heard not longer ago.
func (k *Keeper) heardWithin(c *copied, now time.Time, d time.Duration) bool {
	if c.peer == nil {
		c.peer = k.peers[c.node]
	}
	return c.peer.within(now, d)
}

func (k *Keeper) here(c *copied, now time.Time) bool { return k.heardWithin(c, now, k.times.Recent) }

// Here reports whether a peer was heard of lately.
func (k *Keeper) Here(now time.Time, n workunits.NodeID) bool {
	return k.peers[n].within(now, k.times.Recent)
}

// Quiet lists those who hold something, or are to, and were not heard of for half of
// Times.Recent, but within Times.Memory: they should be asked whether they are there.
func (k *Keeper) Quiet(now time.Time) (list []workunits.NodeID) {
	seen := map[workunits.NodeID]bool{}
	for _, o := range k.objects {
		for _, c := range o.copies {
			if !seen[c.node] && !k.heardWithin(c, now, k.times.Recent/2) {
				list = append(list, c.node)
			}
			seen[c.node] = true
		}
	}
	slices.SortFunc(list, workunits.NodeID.Compare)
	return list
}
