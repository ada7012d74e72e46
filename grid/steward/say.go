package steward

import (
	"cmp"
	"maps"
	"slices"

	"github.com/talka-grid/talka/workunits"
	"github.com/talka-grid/talka/workunits/verdict"
)

// collect turns what the step gathered into statements.
func (m *Machine) collect() {
	m.receiptCommits()
	m.reveal()
	for _, r := range sortedRefs(m.toOpen) {
		units := m.toOpen[r]
		slices.SortFunc(units, func(x, y workunits.OpenUnit) int { return cmp.Compare(x.Unit, y.Unit) })
		m.say = append(m.say, workunits.Opening{Commit: r, Units: units})
		for _, o := range units {
			// The result travels with its opening.
			if b, ok := m.blocks[o.Result.Digest]; ok && !m.have[o.Result.Digest] {
				m.have[o.Result.Digest] = true
				m.fx.Blocks = append(m.fx.Blocks, b)
			}
		}
	}
	clear(m.toOpen)
	m.keepWords()
	m.blame()
	m.cosign()
	m.conclude()
}

// keepWords says which results this steward keeps. Where one keeper is enough the
// others say so seldom, for many.
func (m *Machine) keepWords() {
	if len(m.toStore) == 0 {
		m.storeAt = m.now
		return
	}
	pressing := m.now >= m.storeAt+linger || m.book.Done()
	for _, units := range m.toStore {
		pressing = pressing || slices.ContainsFunc(units, func(u uint32) bool { return m.book.State(u) != verdict.Accepted })
	}
	if !pressing {
		return
	}
	var stored []workunits.StoredUnits
	for _, r := range sortedRefs(m.toStore) {
		units := slices.Compact(slices.Sorted(slices.Values(m.toStore[r])))
		stored = append(stored, workunits.StoredUnits{Opening: r, Units: units})
	}
	for len(stored) > 0 {
		n := min(len(stored), maxSaid)
		m.say = append(m.say, workunits.StorageReceipt{Results: stored[:n]})
		stored = stored[n:]
	}
	clear(m.toStore)
}

func sortedRefs[T any](set map[ref]T) []ref {
	return slices.SortedFunc(maps.Keys(set), compareRefs)
}

// receiptCommits receipts commits that still need it, if this steward is active.
// Its draws count only for units that it does not execute itself.
func (m *Machine) receiptCommits() {
	if !m.isActive() {
		return
	}
	for _, r := range sortedRefs(m.thin) {
		c, hash, _ := m.book.Commit(r)
		got, _ := m.book.Received(r, m.self)
		spare := m.spared(c)
		if got || r.Author == m.self && !m.publisher() || m.needless(r, c, spare) {
			delete(m.thin, r)
			continue
		}
		if spare || m.receipts >= workunits.MaxDraws {
			continue
		}
		delete(m.thin, r)
		m.receipts++
		receipt := workunits.Receipt{Commit: r, Hash: hash, Index: m.receipts}
		if n := m.Identity.Length; m.receipts%n == 0 {
			receipt.Next = m.chain(m.receipts / n).Value(0)
		}
		m.say = append(m.say, receipt)
	}
}

// spared reports whether a commit is left to the publisher: where nothing is
// verified, and where it grants alone or alone keeps openings, unless this steward
// is to grant another copy of one of the units, which has to follow it. One that
// nobody asks for work is not, though it cannot tell, unless it keeps the opening.
func (m *Machine) spared(c workunits.Commit) bool {
	p := m.Manifest.Publisher
	g, _ := m.book.Grant(c.Grant)
	alone := len(g.Custodians) == 1 && (c.Grant.Author == p || (m.few || m.unasked) && g.Custodians[0] == p)
	switch {
	case m.publisher():
		return false
	case !m.awake(p):
		return alone && m.helpless()
	case m.Manifest.Policy.Mode == workunits.VerifyNone, alone && m.unasked && g.Custodians[0] != m.self:
		return true
	}
	return (alone || m.home()) && !slices.ContainsFunc(c.Units, func(u uint32) bool {
		return m.book.State(u) == verdict.Open && m.grants(u)
	})
}

// unreceipted reports whether a unit has a commit that a copy which this steward
// granted now would not follow.
func (m *Machine) unreceipted(u uint32) bool {
	for r := range m.thin {
		if c, _, _ := m.book.Commit(r); slices.Contains(c.Units, u) {
			return true
		}
	}
	return false
}

// needless reports whether a commit was drawn, and came to results that were
// accepted, without this steward; one that it is spared, by the publisher alone.
func (m *Machine) needless(r ref, c workunits.Commit, spared bool) bool {
	drawn := 0
	if _, draw := m.book.Received(r, m.Manifest.Publisher); draw && spared {
		drawn = 2
		if m.Manifest.Policy.Mode == workunits.VerifyNone {
			return true
		}
	}
	for _, s := range m.book.Stewards() {
		if _, draw := m.book.Received(r, s.Node); draw {
			drawn++
		}
	}
	return drawn >= 2 && !slices.ContainsFunc(c.Units, func(u uint32) bool { return m.book.State(u) != verdict.Accepted })
}

// reveal draws: it shows the values that own receipts fixed, in order, each once
// another steward's receipt has fixed the other value, or that steward was
// silent for too long. The publisher's draw needs no second value.
func (m *Machine) reveal() {
	for len(m.undrawn) > 0 {
		p := m.undrawn[0]
		with, ready := m.partner(p.commit)
		if !ready && !m.publisher() && m.now < p.since+patience {
			return
		}
		m.undrawn = m.undrawn[1:]
		m.say = append(m.say, workunits.Draw{Commit: p.commit, Index: p.index, Value: m.value(p.index), Head: m.topHead, With: with})
	}
}

// partner finds another steward that receipted a commit: one that has drawn, or one
// for whose value the copy then waits, who acts here if there is such. The
// publisher's draws wait for nobody.
func (m *Machine) partner(commit ref) (with node, found bool) {
	acts := false
	for _, s := range m.book.Stewards() {
		got, drew := m.book.Received(commit, s.Node)
		if !got || s.Node == m.self {
			continue
		}
		if drew || m.publisher() {
			return node{}, true
		}
		if a := m.fit(s.Node); !found || a && !acts {
			with, found, acts = s.Node, true, a
		}
	}
	return with, found
}

// blame states the faults that the verdicts imply.
func (m *Machine) blame() {
	for _, n := range m.book.BurnedNodes() {
		said := slices.ContainsFunc(m.say, func(b workunits.Body) bool {
			f, ok := b.(workunits.Fault)
			return ok && f.Against == n && f.Name == workunits.FaultWrong
		})
		if said || n == m.self || !m.isActive() || !m.book.Stale(n, m.self) {
			continue
		}
		f := workunits.Fault{Name: workunits.FaultWrong, Against: n}
		for _, known := range m.book.Faults() {
			if known.Node == n && len(known.Units) > 0 {
				f.Unit = known.Units[0]
			}
		}
		m.say = append(m.say, f)
	}
}

// cosign states the heads of others that this ledger bears out, and now and then
// a new one.
func (m *Machine) cosign() {
	active := m.active()
	for _, k := range slices.SortedFunc(maps.Keys(m.heads), func(x, y workunits.Digest) int { return slices.Compare(x[:], y[:]) }) {
		h := m.heads[k]
		if h.by[m.self] || h.checked {
			continue
		}
		for h.here < len(h.head.Logs) && m.ledger.Holds(h.head.Logs[h.here]) {
			h.here++
		}
		if h.here < len(h.head.Logs) {
			continue // not here yet
		}
		b := m.past.at(m, h.head.Logs)
		if b == nil {
			continue // a log was cut since
		}
		h.checked = true
		if !slices.Equal(b.Head(h.head.Logs).Credit, h.head.Credit) {
			m.disbelieve(h)
		} else if slices.Contains(active, m.self) {
			m.say = append(m.say, h.head)
		}
	}
	if len(active) == 0 || active[0] != m.self || len(m.say) > 0 {
		return
	}
	n := m.book.Counts()[verdict.Accepted]
	// Each head costs as much as what it is over: let them grow together.
	if grown := n - m.headAt; grown > 0 && (m.book.Done() || grown >= max(m.headAt/4, headEvery)) {
		m.headAt = n
		m.say = append(m.say, m.book.Head(m.ledger.Heads()))
	}
}

// disbelieve drops the stewards that stated a head which the ledger does not bear
// out, and tells the others, which see it themselves.
func (m *Machine) disbelieve(h *headSeen) {
	for _, n := range slices.SortedFunc(maps.Keys(h.by), node.Compare) {
		m.untrue[n] = true
		m.acting = nil
		m.accuse(workunits.Fault{Name: workunits.FaultHead, Against: n, Evidence: [][]byte{workunits.Encode(h.head)}})
	}
}

// retry gives units that have failed further tries, until none has. A second stage
// that has failed with them waits for them again.
func (m *Machine) retry() {
	if !m.publisher() || m.mute() || m.book.Cancelled() != nil || m.book.Collected() {
		return
	}
	// More copies may have come back void than the tries that are given at once.
	for spent := m.book.Spent(); len(spent) > 0; spent = m.book.Spent() {
		for units := range slices.Chunk(spent, workunits.MaxBatch) {
			m.speak(workunits.Retry{Units: units})
		}
	}
}

// conclude seals a finished job, again if units were reopened and done again; only
// its publisher can.
func (m *Machine) conclude() {
	if !m.publisher() || !m.book.Done() || m.book.Sealed() != nil && !m.reopened || m.sealing || len(m.say) > 0 {
		return
	}
	m.sealing, m.reopened = true, false
	table, digest := m.Standing.After(m.Standing, m.book.Stakes()).Encode()
	m.fx.Blocks = append(m.fx.Blocks, table)
	counts := m.book.Counts()
	m.say = append(m.say,
		workunits.Standing{Number: m.standings + 1, Table: workunits.Link{Cid: workunits.RecordCid(digest)}},
		workunits.Seal{Accepted: uint32(counts[verdict.Accepted]), Failed: uint32(counts[verdict.Failed]),
			Results: m.book.Results(), Head: workunits.Sum(workunits.Encode(m.ledger.Heads()))})
}
