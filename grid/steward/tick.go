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
	m.expire()
	m.giveUp()
	for _, u := range slices.Sorted(maps.Keys(m.due)) {
		m.unit(u)
	}
	for _, u := range slices.Sorted(maps.Keys(m.fetching)) {
		if m.now >= m.fetching[u]+patience {
			delete(m.fetching, u)
			if v := m.book.Unit(u); v.Agreed() {
				m.store(u, v)
			}
		}
	}
	if m.content == contentUnknown && m.book.Listed(m.self) && len(m.book.Stewards()) > 0 {
		m.content = contentAsked
		m.fx.Fetch = append(m.fx.Fetch, Fetch{Job: true, Hints: m.keepers()})
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
		} else if late(since) {
			for _, r := range m.book.Supporters(u) {
				lost[r] = true
			}
		}
	}
	for _, r := range sortedRefs(lost) {
		c, _, _ := m.book.Commit(r)
		if got, _ := m.book.Received(r, m.self); lost[r] && got && m.isActive() && !m.book.GivenUp(r) {
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
	for _, s := range m.book.Stewards() {
		if s.Node != m.self && (m.awake(s.Node) || m.beats%3 == 1) {
			m.send(s.Node, wire.Pull{Job: m.Job, Have: m.ledger.Heads()})
		}
	}
}

// expire ends leases: the grantor's own, and those of a grantor that is silent.
func (m *Machine) expire() {
	active := m.active()
	if len(active) == 0 {
		return
	}
	for _, r := range sortedRefs(m.leases) {
		if m.now < m.leases[r] || r.Author != m.self && (m.awake(r.Author) || active[0] != m.self) {
			continue
		}
		delete(m.leases, r)
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
