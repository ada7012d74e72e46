package steward

import (
	"cmp"
	"slices"

	"github.com/talka-grid/talka/workunits"
	"github.com/talka-grid/talka/workunits/ledger"
	"github.com/talka-grid/talka/workunits/verdict"
)

// readBook is the book of all that the ledger holds, nil if that cannot be read. It goes
// on from the snapshot as long as the ledger bears that out, which an author that
// equivocates can end.
func (c *Config) readBook() *verdict.Book {
	l := c.Author.Ledger()
	if b := c.restore(); b != nil {
		c.base = b.Known()
		if len(l.Forks()) > 0 {
			c.base = nil // whoever stated a head earlier may not have known
		}
		if b.ReadOn(l, l.Heads()) {
			return b
		}
	}
	c.Snapshot, c.base = nil, nil
	return verdict.ReadWith(c.Job, c.Manifest, c.Standing, l, l.Heads())
}

// restore is the book of the snapshot, nil if there is none or it is another version's.
func (c *Config) restore() *verdict.Book {
	if len(c.Snapshot) == 0 {
		return nil
	}
	b, err := verdict.Restore(c.Job, c.Manifest, c.Standing, c.Snapshot)
	if err != nil {
		return nil
	}
	return b
}

// resume makes the machine from the book of the whole ledger. What most statements say
// it takes from there, and reads only those of which there are few.
func resume(c Config, b *verdict.Book) *Machine {
	m := empty(c, b)
	if id, ok := b.Identity(m.self); ok {
		m.Identity.Length = id.Length // of the log as it began, whatever is said now
	}
	if b.Keeps(m.self) && !m.Restored {
		m.content = contentHere
	}
	var last workunits.Head // of the own ones
	m.ledger.WalkKinds(m.ledger.Heads(), func(e ledger.Entry) {
		m.derive(e)
		if h, ok := e.Body.(workunits.Head); ok && e.Author == m.self {
			last = h
		}
	}, workunits.KindAmendment, workunits.KindStanding, workunits.KindHead, workunits.KindFault, workunits.KindComparison)
	if m.headAt > 0 {
		m.headAt = m.acceptedAt(last)
	}
	for _, h := range m.heads {
		h.checked = m.checkedBefore(h)
	}
	m.resumeGrants()
	m.resumeCommits()
	m.resumeDraws()
	for _, u := range b.Unsettled() {
		m.want(u)
	}
	return m
}

// checkedBefore reports whether this steward checked a head before the snapshot, which
// tells of all that it takes, and found it true: it accuses who states another.
func (m *Machine) checkedBefore(h *headSeen) bool {
	for n := range h.by {
		if m.accused[n] {
			return false
		}
	}
	return m.base != nil && !slices.ContainsFunc(h.head.Logs, func(l workunits.LogHead) bool { return m.base[l.Author] < l.Len })
}

// acceptedAt estimates how many units were accepted at a head: as large a part of those
// that are now as the stakes that it tells are of those now.
func (m *Machine) acceptedAt(h workunits.Head) int {
	sum := func(h workunits.Head) (n int) {
		for _, c := range h.Credit {
			n += int(c)
		}
		return n
	}
	n, now := m.book.Counts()[verdict.Accepted], sum(m.book.Head(m.ledger.Heads()))
	return min(n, n*sum(h)/max(now, 1))
}

// resumeGrants counts the leases that run.
func (m *Machine) resumeGrants() {
	running := map[ref]workunits.Grant{}
	m.book.EachGrant(func(r ref, g workunits.Grant, runs bool) {
		m.count(r, g)
		if runs {
			running[r] = g
		}
	})
	for _, r := range sortedRefs(running) {
		if g := running[r]; m.unanswered(r, g) {
			m.lend(r, g)
		}
	}
}

func (m *Machine) resumeCommits() {
	m.book.EachCommit(m.self, func(d verdict.Delivery) {
		m.came(d.Author, d.Commit)
		m.took(d.Commit)
		if !d.Received && (d.Author != m.self || m.publisher()) {
			m.thin[d.Ref] = true
		}
		if !d.Granted && m.book.Listed(d.Grant.Author) {
			m.loose[d.Ref] = m.now + patience
		}
	})
}

// resumeDraws finds the draws that this steward and others still owe. It makes none
// that goes back in its chain, or where the chain was broken.
func (m *Machine) resumeDraws() {
	var owed []verdict.Promise
	var drawn uint32
	m.book.EachPromise(func(p verdict.Promise) {
		if p.By == m.self {
			drawn, m.receipts = max(drawn, p.Drawn), max(m.receipts, p.Index, p.Drawn)
		}
		if p.Received && p.Drawn == 0 {
			owed = append(owed, p)
		}
	})
	slices.SortFunc(owed, func(x, y verdict.Promise) int {
		return cmp.Or(x.By.Compare(y.By), cmp.Compare(x.Place, y.Place))
	})
	for _, p := range owed {
		if m.owes(p.By, p.Commit); p.By == m.self && p.Index > drawn && !m.book.Proven(m.self) {
			m.undrawn = append(m.undrawn, pendingDraw{p.Commit, p.Index, m.now})
		}
	}
}

// wake starts the clocks of what the ledger held before the machine had a time. It
// returns the units that may ask something of this steward, ascending.
func (m *Machine) wake(now uint64) (units []uint32) {
	m.wantedAt = now
	for n := range m.heard {
		m.heard[n], m.lastHeard[n] = now, now
	}
	for _, list := range m.owed {
		for i := range list {
			list[i].since = now
		}
	}
	m.recruitAt = now + recruitTime
	for r := range m.leases {
		m.leases[r] += now
	}
	for _, t := range m.touches {
		t.heard = now
	}
	for i := range m.undrawn {
		m.undrawn[i].since = now
	}
	for _, w := range m.wanting {
		w.since = now
	}
	unopened, acts := m.book.Unopened(), m.isActive() || m.publisher()
	for u := range m.Manifest.Total() {
		_, closed := slices.BinarySearch(unopened, u)
		if m.book.Named(u) && m.wakeUnit(u, now, closed, acts) {
			units = append(units, u)
		}
	}
	s := m.book.Sealed()
	m.reopened = s != nil && (!m.book.Done() || s.Results != m.book.Results())
	return units
}

// wakeUnit takes up what a unit asks for, and reports whether it may ask for more. A
// unit that is done is not looked into unless a copy of it may be due to be opened.
func (m *Machine) wakeUnit(u uint32, now uint64, closed, acts bool) bool {
	state := m.book.State(u)
	m.states[u] = state
	done := state == verdict.Accepted || state == verdict.Failed
	if !done || closed {
		if v := m.book.Unit(u); len(v.Unsealed) > 0 {
			m.due[u] = now
			return true
		} else if !done && v.Agreed() {
			m.fetching[u], m.lacking[u] = now+patience, now // the tick looks at it again
		}
	}
	if acts && state == verdict.Accepted && !m.book.KeepsResult(u, m.self) {
		m.fetching[u] = now + patience // it may be here, but unsaid
		return true
	}
	return !done || m.Restored || len(m.unproved[u]) > 0
}
