package volunteer

import (
	"cmp"
	"io"
	"slices"

	"github.com/talka-grid/talka/grid/wire"
	"github.com/talka-grid/talka/workunits"
)

// commitDue commits finished copies of grants that are through, and those that
// have waited long enough.
func (m *Machine) commitDue(j *job) {
	for _, g := range j.batches() {
		if j.mute() {
			g.finished = nil
		}
		done := len(g.queue) == 0 && len(g.running) == 0
		if len(g.finished) > 0 && (done || m.now >= g.since+commitAfter) {
			m.commit(j, g)
		}
		if done {
			delete(j.grants, g.ref)
		}
	}
}

// commit says what the finished copies of a grant came to, sealed to its
// custodians; without custodians it opens them at once.
func (m *Machine) commit(j *job, g *batch) {
	slices.SortFunc(g.finished, func(x, y Finished) int { return cmp.Compare(x.Task.Unit, y.Task.Unit) })
	c := workunits.Commit{Grant: g.ref, Bound: g.bound}
	var opened workunits.SealedOpening
	if _, err := io.ReadFull(m.Rand, opened.Seed[:]); err != nil {
		panic(err) // the generator never fails
	}
	var blocks [][]byte
	for _, f := range g.finished {
		if f.Void != "" {
			c.Void = append(c.Void, workunits.VoidUnit{Unit: f.Task.Unit, Reason: f.Void})
			continue
		}
		name := workunits.Copy{Network: j.Manifest.Network, Job: j.Job, Volunteer: m.Self, Unit: f.Task.Unit}
		c.Units = append(c.Units, f.Task.Unit)
		c.Hashes = append(c.Hashes, name.CommitHash(f.Result.Digest, opened.Nonce(f.Task.Unit)))
		c.Millis += f.Millis
		opened.Results = append(opened.Results, f.Result)
		if len(f.Block) > 0 {
			blocks = append(blocks, f.Block)
		}
	}
	g.finished = nil
	bodies := []workunits.Body{c}
	if len(c.Units) > 0 && len(g.Custodians) > 0 {
		for _, n := range g.Custodians {
			i := slices.IndexFunc(j.Stewards, func(s workunits.Steward) bool { return s.Node == n })
			if i >= 0 {
				c.Sealed = append(c.Sealed, workunits.Sealed{To: n, Data: opened.Seal(j.Stewards[i].Enc, m.Rand)})
			}
		}
		bodies[0] = c
	} else if len(c.Units) > 0 {
		o := workunits.Opening{Commit: ref{Author: m.Self, Seq: j.Author.Ledger().Len(m.Self)}}
		for i, u := range c.Units {
			o.Units = append(o.Units, workunits.OpenUnit{Unit: u, Nonce: opened.Nonce(u), Result: opened.Results[i]})
		}
		bodies = append(bodies, o)
	}
	m.deliver(j, g, m.say(j, bodies...), blocks)
}

// deliver sends a commit to the grantor, to the custodians, which get the small
// results beside it, and to the other stewards that act.
func (m *Machine) deliver(j *job, g *batch, raw []byte, blocks [][]byte) {
	m.fx.Said[len(m.fx.Said)-1].Blocks = blocks
	to := append([]node{g.steward}, g.Custodians...)
	to = append(to, j.candidates(m)...)
	sent := map[node]bool{m.Self: true}
	for _, n := range to {
		if sent[n] {
			continue
		}
		sent[n] = true
		p := wire.Push{Job: j.Job, Segments: [][]byte{raw}}
		if len(g.Custodians) == 0 || slices.Contains(g.Custodians, n) {
			p.Blocks = blocks
		}
		m.send(n, p)
	}
}

// offer tells the stewards how long this node's log is, often after it grew and
// ever more seldom, so that a commit that was lost on the way is asked for again.
func (m *Machine) offer(j *job) {
	l := j.Author.Ledger()
	if m.now < j.offer || j.Steward || l.Len(m.Self) == 0 {
		return
	}
	j.offer = m.now + offerTime<<min(j.offers, 6)
	j.offers++
	for _, n := range j.candidates(m) {
		m.send(n, wire.Pull{Job: j.Job, Have: []workunits.LogHead{{Author: m.Self, Len: l.Len(m.Self), Hash: l.Last(m.Self)}}})
	}
}
