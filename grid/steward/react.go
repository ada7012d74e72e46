package steward

import (
	"slices"

	"github.com/talka-grid/talka/workunits"
	"github.com/talka-grid/talka/workunits/ledger"
	"github.com/talka-grid/talka/workunits/verdict"
)

// read applies statements to the book and to what the machine derives from the
// ledger, and returns the units whose verdicts they may change, ascending. It says
// nothing.
func (m *Machine) read(list []ledger.Entry) []uint32 {
	units := m.book.Apply(list...)
	for _, e := range list {
		m.grew[e.Author] = m.now
		m.derive(e)
		if c, ok := e.Body.(workunits.Commit); ok {
			for _, u := range c.Units {
				m.moved(u)
			}
			for _, v := range c.Void {
				if w := m.wanting[v.Unit]; w != nil {
					w.since = m.now // for others, before it goes to the same volunteer again
				}
			}
		}
	}
	for _, u := range units {
		m.want(u)
	}
	return units
}

// moved notes that a unit has a copy more: what it wants next waits from here.
func (m *Machine) moved(u uint32) {
	if w := m.wanting[u]; w != nil && w.count != m.book.Unit(u).Copies {
		w.since, w.count = m.now, m.book.Unit(u).Copies
	}
	delete(m.lacking, u)
}

// derive keeps what the machine knows beside the book. It asks for no verdict.
func (m *Machine) derive(e ledger.Entry) {
	own := e.Author == m.self
	switch b := e.Body.(type) {
	case workunits.Standing:
		if own && m.publisher() {
			m.standings = b.Number
		}
	case workunits.Amendment:
		// Whoever is on the list is expected to be up until it proves silent:
		// otherwise every steward would begin as if it were alone.
		for _, s := range b.Stewards {
			if _, ok := m.heard[s.Node]; !ok {
				m.hear(s.Node)
			}
		}
		m.acting = nil
	case workunits.Identity:
		if own {
			m.Identity.Length = b.Length // of the log as it began, whatever is said now
		}
	case workunits.Grant:
		m.granted(e.Ref, b)
	case workunits.Expiry:
		if m.book.Ended(b.Grant) {
			m.lapse(b.Grant)
		}
	case workunits.Commit:
		m.came(e.Author, b)
		m.thin[e.Ref] = true
		m.answered(e.Ref, b)
	case workunits.Receipt:
		if own {
			m.receipts = max(m.receipts, b.Index)
			m.undrawn = append(m.undrawn, pendingDraw{b.Commit, b.Index, m.now})
		}
		m.owes(e.Author, b.Commit)
	case workunits.Draw:
		m.paid(e.Author, b.Commit)
		if own {
			m.undrawn = slices.DeleteFunc(m.undrawn, func(p pendingDraw) bool { return p.index <= b.Index })
		}
	case workunits.Head:
		m.readHead(e.Author, b)
	case workunits.Fault:
		if b.Name == workunits.FaultAbsent {
			m.missed[b.Against] = m.missed[b.Against] || own
		} else {
			m.accused[b.Against] = m.accused[b.Against] || own && b.Name != workunits.FaultWrong
			m.untrue[b.Against] = m.untrue[b.Against] || own && b.Name == workunits.FaultHead
		}
	case workunits.Comparison:
		m.compared[b.Unit] = true
		if own {
			b.Equal = false
			m.answers[b] = true
		} else {
			m.hearAnswer(e.Author, b)
		}
	case workunits.StorageReceipt:
		if own && b.Job && !m.Restored {
			m.content = contentHere
		}
	}
}

// granted notes a lease that is not answered yet, and own audits.
func (m *Machine) granted(r ref, g workunits.Grant) {
	m.count(r, g)
	if m.unanswered(r, g) {
		m.lend(r, g)
	}
}

// count notes to whom a grant went.
func (m *Machine) count(r ref, g workunits.Grant) {
	m.grantees[g.To] = true
	if r.Author == m.self && g.To == m.self && g.Lease == auditLease {
		m.audits++
	}
}

// want keeps the list of units that want a further copy.
func (m *Machine) want(u uint32) {
	w := m.wanting[u]
	switch open := m.book.State(u) == verdict.Open; {
	case !open && w != nil:
		delete(m.wanting, u)
		m.ready.remove(u)
		return
	case !open:
		return
	case w == nil:
		m.wanting[u] = &want{since: m.now}
	}
	m.ready.stale = append(m.ready.stale, u)
	if len(m.book.Outstanding(u)) == 0 {
		m.news = append(m.news, u)
	}
}

// took learns how long units take.
func (m *Machine) took(c workunits.Commit) {
	if n := len(c.Units); n > 0 && !m.Manifest.Reduces(c.Units[0]) {
		each := float64(c.Millis) / float64(n)
		if m.unitTime == 0 {
			m.unitTime = each
		}
		m.unitTime += (each - m.unitTime) / 8
	}
}

// answered ends the lease of a grant once each of its units has a commit, and
// learns how long units take.
func (m *Machine) answered(r ref, c workunits.Commit) {
	if _, known := m.book.Grant(c.Grant); !known && m.book.Listed(c.Grant.Author) {
		m.loose[r] = m.now + patience
	}
	m.took(c)
	if g, ok := m.book.Grant(c.Grant); ok && !m.unanswered(c.Grant, g) {
		m.endLease(c.Grant)
	}
}

// unanswered reports whether units of a grant have neither a commit nor an expiry.
func (m *Machine) unanswered(r ref, g workunits.Grant) bool {
	return slices.ContainsFunc(g.Units, func(u uint32) bool { return slices.Contains(m.book.Outstanding(u), r) })
}

func (m *Machine) readHead(author node, h workunits.Head) {
	if !m.book.Listed(author) {
		return
	}
	seen := m.heads[h.ID()]
	if seen == nil {
		seen = &headSeen{head: h, by: map[node]bool{}}
		m.heads[h.ID()] = seen
	}
	seen.by[author] = true
	if seen.by[m.self] && (len(seen.by) > 1 || m.publisher()) {
		m.topHead = h.ID()
	}
	if author == m.self {
		m.headAt = m.book.Counts()[verdict.Accepted]
		m.bar, m.burned = m.book.Crowd()
	}
}

// entries reads new statements and reacts to what they changed.
func (m *Machine) entries(list []ledger.Entry) {
	units := m.read(list)
	if m.doubt != nil {
		return // what all this asks for is worked out at its end
	}
	for _, e := range list {
		m.follow(e)
	}
	for _, u := range units {
		m.unit(u)
	}
}

// follow tells people what happened.
func (m *Machine) follow(e ledger.Entry) {
	switch b := e.Body.(type) {
	case workunits.Commit:
		for _, v := range b.Void {
			m.event("voided", e.Author, v.Unit, string(v.Reason))
		}
		for _, u := range b.Units {
			m.event("committed", e.Author, u, "")
		}
	case workunits.Expiry:
		if g, ok := m.book.Grant(b.Grant); ok {
			for _, u := range g.Units {
				m.event("expired", g.To, u, "")
			}
		}
	case workunits.Fault:
		if b.Name == workunits.FaultAbsent {
			m.event("absent", b.Against, 0, "")
		} else {
			m.event("fault", b.Against, b.Unit, string(b.Name))
		}
	case workunits.Cancel:
		m.event("cancelled", e.Author, 0, b.Reason)
	case workunits.Seal:
		m.event("sealed", e.Author, 0, "")
	case workunits.Collected:
		m.event("collected", e.Author, 0, "")
	}
}

// unit does what a unit's verdict asks of this steward.
func (m *Machine) unit(u uint32) {
	v := m.book.Unit(u)
	if len(v.Unsealed) == 0 {
		delete(m.due, u)
	} else if _, ok := m.due[u]; !ok {
		m.due[u] = m.now
	}
	for _, c := range v.Unsealed {
		m.unseal(u, c)
	}
	if v.Contested && !m.compared[u] && m.isActive() {
		if d := m.book.Digests(u); len(d) > 1 {
			m.compared[u] = true
			m.say = append(m.say, workunits.Comparison{Unit: u, A: d[0], B: d[1]})
			m.event("disputed", node{}, u, "")
		}
	}
	m.compare(u, v)
	if v.Agreed() {
		m.store(u, v)
	}
	m.stage(u)
	if !v.Agreed() || v.State == verdict.Accepted {
		delete(m.agreed, u)
	} else if _, ok := m.agreed[u]; !ok {
		m.agreed[u] = m.now
	}
	m.tell(u, v)
}

// tell has people know of a unit that is done, or not any more.
func (m *Machine) tell(u uint32, v verdict.Unit) {
	was := m.states[u]
	if m.states[u] = v.State; was == v.State {
		return
	}
	switch was {
	case verdict.Accepted:
		m.event("reopened", node{}, u, "")
		m.reopened, m.sealing = true, false
	case verdict.Failed:
		m.event("retried", node{}, u, "")
		m.reopened, m.sealing = true, false
	}
	switch v.State {
	case verdict.Accepted:
		m.event("accepted", v.Volunteers[0], u, "")
	case verdict.Failed:
		m.event("failed", node{}, u, "")
	}
}

// store keeps an agreed result and says so.
func (m *Machine) store(u uint32, v verdict.Unit) {
	d := v.Result.Digest
	stored := m.book.Stored(u, m.self, v.Opening)
	if stored && !m.lost(v) || !stored && !m.isActive() && !m.publisher() && !m.unkept(u) {
		return
	}
	if b, ok := m.blocks[d]; ok && !m.have[d] {
		m.fx.Blocks = append(m.fx.Blocks, b)
		m.have[d] = true
	}
	if m.have[d] {
		delete(m.lacking, u)
		if !stored {
			m.toStore[v.Opening] = append(m.toStore[v.Opening], u)
		}
		return
	}
	if _, ok := m.lacking[u]; !ok {
		m.lacking[u] = m.now
	}
	if _, busy := m.fetching[u]; !busy {
		m.fetching[u] = underWay
		hints := append(slices.Clone(v.Volunteers), v.Opening.Author)
		for _, s := range m.book.Stewards() {
			if m.book.Stored(u, s.Node, v.Opening) {
				hints = append(hints, s.Node)
			}
		}
		m.fx.Fetch = append(m.fx.Fetch, Fetch{Result: v.Result, Unit: u, Hints: hints})
	}
}

func (m *Machine) fetched(in Fetched) {
	switch {
	case in.Fetch.Job && in.Failed:
		m.content, m.retried = contentUnknown, true
	case in.Fetch.Job:
		m.content = contentHere
		if !m.book.Keeps(m.self) {
			m.say = append(m.say, workunits.StorageReceipt{Job: true})
		}
	case in.Failed:
		m.fetching[in.Fetch.Unit] = m.now + patience
	default:
		delete(m.fetching, in.Fetch.Unit)
		m.have[in.Fetch.Result.Digest] = true
		m.unit(in.Fetch.Unit)
	}
}

// unseal opens a unit of a commit if this steward is its custodian: the first
// at once, the next if the ones before it stay silent.
func (m *Machine) unseal(u uint32, r ref) {
	c, _, ok := m.book.Commit(r)
	if !ok {
		return
	}
	g, ok := m.book.Grant(c.Grant)
	rank := slices.Index(g.Custodians, m.self)
	if !ok || rank < 0 || m.now < m.due[u]+uint64(rank)*patience {
		return
	}
	box := m.box(r, c)
	i, named := slices.BinarySearch(c.Units, u)
	if box == nil || !named {
		return
	}
	o := workunits.OpenUnit{Unit: u, Nonce: box.Nonce(u), Result: box.Results[i]}
	name := workunits.Copy{Network: m.Manifest.Network, Job: m.Job, Volunteer: r.Author, Unit: u}
	if name.CommitHash(o.Result.Digest, o.Nonce) != c.Hashes[i] {
		m.accuse(workunits.Fault{Name: workunits.FaultOpening, Against: r.Author, Unit: u})
		return
	}
	if !slices.ContainsFunc(m.toOpen[r], func(x workunits.OpenUnit) bool { return x.Unit == u }) {
		m.toOpen[r] = append(m.toOpen[r], o)
	}
}

// box unseals a commit's openings once; nil if they are unreadable.
func (m *Machine) box(r ref, c workunits.Commit) *workunits.SealedOpening {
	if b, ok := m.boxes[r]; ok {
		return b
	}
	m.boxes[r] = nil
	for _, s := range c.Sealed {
		if s.To != m.self {
			continue
		}
		if o, err := workunits.Unseal(s.Data, m.pub, m.prv); err == nil && len(o.Results) == len(c.Units) {
			m.boxes[r] = &o
		}
	}
	if m.boxes[r] == nil {
		m.accuse(workunits.Fault{Name: workunits.FaultOpening, Against: r.Author})
	}
	return m.boxes[r]
}

func (m *Machine) accuse(f workunits.Fault) {
	if !m.accused[f.Against] && f.Against != m.self {
		m.accused[f.Against] = true
		m.say = append(m.say, f)
	}
}
