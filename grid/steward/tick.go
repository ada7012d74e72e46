package steward

import (
	"maps"
	"slices"

	"github.com/talka-grid/talka/grid/wire"
	"github.com/talka-grid/talka/workunits"
	"github.com/talka-grid/talka/workunits/verdict"
)

// tick does what time asks for.
func (m *Machine) tick() {
	m.heartbeat()
	m.askAround()
	m.overdue()
	m.absentees()
	m.whoAsks()
	m.knock()
	m.expire()
	m.giveUp()
	m.sweep()
	m.recruit()
	m.takeOver()
	m.compareAgain()
	for _, u := range slices.Sorted(maps.Keys(m.due)) {
		m.unit(u)
	}
	for _, u := range slices.Sorted(maps.Keys(m.fetching)) {
		if m.now >= m.fetching[u] {
			delete(m.fetching, u)
			if v := m.book.Unit(u); v.Agreed() {
				m.store(u, v)
			}
		}
	}
	if m.content == contentUnknown && m.book.Listed(m.self) && len(m.book.Stewards()) > 0 {
		m.content = contentAsked
		m.fx.Fetch = append(m.fx.Fetch, Fetch{Job: true, Hints: m.jobHints()})
	}
	m.announcing()
}

// giveUp says that nothing more is to be had of commits: their custodians do not
// open them, or nobody serves the result that they agree on. The stewards that
// receipted them wait for those before them in the list.
func (m *Machine) giveUp() {
	rank := uint64(max(slices.Index(m.active(), m.self), 0))
	late := func(since uint64) bool { return m.now >= since+givingUp+rank*patience }
	lost := map[ref]bool{}
	for u, since := range m.due {
		for _, r := range m.book.Unit(u).Unsealed {
			lost[r] = lost[r] || late(since)
		}
	}
	for u, since := range m.lacking {
		v := m.book.Unit(u)
		if !v.Agreed() || v.State == verdict.Accepted {
			delete(m.lacking, u)
		} else if late(since) && m.fetching[u] != underWay {
			for _, r := range m.book.Supporters(u) {
				lost[r] = true
			}
		}
	}
	for _, r := range sortedRefs(lost) {
		c, _, _ := m.book.Commit(r)
		if got, _ := m.book.Received(r, m.self); lost[r] && got && m.isActive() && !m.book.GivenUp(r) && !m.book.GivenUpBy(r, m.self) {
			m.say = append(m.say, workunits.Expiry{Grant: c.Grant})
		}
	}
}

// keepers lists who should have the program and the inputs.
func (m *Machine) keepers() (list []node) {
	for _, s := range m.book.Stewards() {
		if s.Node == m.Manifest.Publisher || m.book.Keeps(s.Node) {
			list = append(list, s.Node)
		}
	}
	return list
}

// heartbeat tells the fellow stewards what is here, and asks for what is not.
func (m *Machine) heartbeat() {
	if m.now < m.beat {
		return
	}
	m.beat = m.now + Heartbeat
	m.beats++
	pull := wire.Pull{Job: m.Job, Ask: m.doubt != nil}
	if m.doubt != nil || m.beats%wholeBeats == 1 {
		pull.Have = m.ledger.Heads()
	} else {
		pull.Part, pull.Have = true, m.recent()
	}
	for _, s := range m.book.Stewards() {
		if s.Node != m.self && (m.awake(s.Node) || m.beats%3 == 1) {
			m.send(s.Node, pull)
		}
	}
}

// recent tells how far the logs go that grew lately, and the own one.
func (m *Machine) recent() (heads []workunits.LogHead) {
	for n, at := range m.grew {
		if m.now >= at+recently {
			delete(m.grew, n)
		} else {
			heads = append(heads, m.ledger.Head(n))
		}
	}
	if _, ok := m.grew[m.self]; !ok {
		heads = append(heads, m.ledger.Head(m.self))
	}
	slices.SortFunc(heads, func(x, y workunits.LogHead) int { return x.Author.Compare(y.Author) })
	return heads
}

// expire ends leases: the grantor's own, also of volunteers that are gone, and
// those of a grantor that is silent or lets them go on for too long.
func (m *Machine) expire() {
	over := map[ref]bool{}
	for r, end := range m.leases {
		others := m.isActive() && (!m.awake(r.Author) || m.now >= end+overdueLease)
		ended := m.now >= end && (r.Author == m.self || others) || m.gone(r)
		if ended && !m.book.ExpiredBy(r, m.self) {
			over[r] = true
		}
	}
	for _, r := range sortedRefs(over) {
		m.say = append(m.say, workunits.Expiry{Grant: r})
	}
}

// announcing tells the network about the job, if this is the first steward awake.
func (m *Machine) announcing() {
	active := m.active()
	if m.now < m.announce || len(active) == 0 || active[0] != m.self {
		return
	}
	m.announce = m.now + announceTime
	a := workunits.Announcement{
		Network: m.Manifest.Network, Job: m.Job, Project: m.Manifest.Project, Owner: m.Manifest.Publisher,
		Open: uint32(m.book.Counts()[verdict.Open]), Ended: m.over(), Time: m.now, Expires: m.now + announceLife, Stewards: active,
	}
	m.fx.Announce = &a
}
