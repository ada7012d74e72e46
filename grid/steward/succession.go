package steward

import (
	"cmp"
	"maps"
	"slices"

	"github.com/talka-grid/talka/grid/wire"
	"github.com/talka-grid/talka/workunits"
	"github.com/talka-grid/talka/workunits/verdict"
)

// Times of the succession, in milliseconds.
const (
	absence     = 30_000 // of silence, after which a steward is not waited for
	withholding = 15_000 // for draws and statements that a steward owes
	recruitTime = 60_000 // between two orders to find more stewards
)

// sweepUnits is how many units a tick looks at for results to be kept anew.
const sweepUnits = 2048

// awake reports whether a node can be expected to act.
func (m *Machine) awake(n node) bool {
	at, ok := m.heard[n]
	return n == m.self || ok && m.now < at+Silence
}

// present reports whether a steward was heard not long ago.
func (m *Machine) present(n node) bool {
	at, ok := m.lastHeard[n]
	return n == m.self || ok && m.now < at+absence
}

// hear notes that a steward is up, or is taken to be until it proves silent.
func (m *Machine) hear(n node) {
	m.heard[n], m.lastHeard[n] = m.now, m.now
}

// shunned reports whether a steward does not act here any more: the ledger shows
// it at fault, or it owes statements for too long, until it makes them.
func (m *Machine) shunned(n node) bool {
	if n == m.self {
		return false
	}
	late := func(since uint64, owes bool) bool { return owes && m.now >= since+withholding }
	draws := m.owed[n]
	claim, claims := m.claims[n]
	return m.book.Proven(n) || m.untrue[n] || len(draws) > 0 && late(draws[0].since, true) || late(claim.since, claims)
}

// shuns lists the stewards that are shunned.
func (m *Machine) shuns() (list []node) {
	for _, s := range m.book.Stewards() {
		if m.shunned(s.Node) {
			list = append(list, s.Node)
		}
	}
	return list
}

// fit reports whether a steward can be expected to act, and as it should.
func (m *Machine) fit(n node) bool { return m.awake(n) && !m.shunned(n) }

// active lists the stewards that act now: the first of the list that are fit.
func (m *Machine) active() []node {
	if m.acting != nil {
		return m.acting
	}
	list := make([]node, 0, m.Manifest.Active)
	for _, s := range m.book.Stewards() {
		if len(list) < int(m.Manifest.Active) && m.fit(s.Node) {
			list = append(list, s.Node)
		}
	}
	m.acting = list
	if !slices.Equal(list, m.ranked) {
		m.ranked = list
		clear(m.ranks)
		m.ready = ready{}
	}
	return list
}

// Active lists the stewards that act now as this one sees it, in rank.
func (m *Machine) Active() []workunits.NodeID { return slices.Clone(m.active()) }

func (m *Machine) isActive() bool { return slices.Contains(m.active(), m.self) }

// whoAsks notes who volunteers here: whether hardly anybody does but stewards, or
// nobody at all. Who draws for a unit may not execute it, and were all stewards to
// draw, nobody could check what one executed. So while the publisher is up it grants
// and draws alone, which is enough, and seals openings to one other steward: in a grid
// of four, two are left to execute.
func (m *Machine) whoAsks() {
	stewards, others := 0, 0
	for n, a := range m.askers {
		switch {
		case n == m.Manifest.Publisher || m.now >= a.at+asking:
		case m.book.Listed(n):
			stewards++
		default:
			others++
		}
	}
	m.few = stewards > 0 && others < 2 && m.Manifest.Policy.Mode != workunits.VerifyNone
	m.unasked = stewards+others == 0
	m.kinds = m.usual()
}

// home reports whether the publisher grants and draws alone.
func (m *Machine) home() bool { return m.few && m.awake(m.Manifest.Publisher) }

// helpless reports whether those who are up could not check each other without the
// publisher: two execute, and two others draw. Where nobody asked here yet, since the
// publisher granted alone, that may be so.
func (m *Machine) helpless() bool {
	up := 0
	for _, s := range m.book.Stewards() {
		if s.Node != m.Manifest.Publisher && m.fit(s.Node) {
			up++
		}
	}
	return (m.few || m.unasked) && up < 5
}

// stranded reports whether those who are up can do no more than execute first copies:
// the publisher, which is away, has to draw on them and to open them.
func (m *Machine) stranded() bool {
	p := m.Manifest.Publisher
	return !m.awake(p) && m.book.Listed(p) && m.helpless()
}

// rank orders the active stewards for a shard by rendezvous hash, its primary first.
func (m *Machine) rank(shard uint32) []node {
	if m.home() {
		return []node{m.Manifest.Publisher}
	}
	active := m.active()
	if r, ok := m.ranks[shard]; ok {
		return r
	}
	score := map[node]workunits.Digest{}
	for _, n := range active {
		b := append(append([]byte(nil), n[:]...), m.Job[:]...)
		score[n] = workunits.Sum(append(b, byte(shard>>24), byte(shard>>16), byte(shard>>8), byte(shard)))
	}
	list := slices.SortedFunc(slices.Values(active), func(x, y node) int {
		dx, dy := score[x], score[y]
		return slices.Compare(dy[:], dx[:])
	})
	m.ranks[shard] = list
	return list
}

// primary reports whether this steward grants the units of a shard that nobody
// was granted before.
func (m *Machine) primary(shard uint32) bool {
	r := m.rank(shard)
	return len(r) > 0 && r[0] == m.self
}

// mayGrant reports whether a steward's grant of a unit would count, and undo no copy
// of its own that may come to count: it may not where the steward for which it
// executed the unit shows its grants to nobody.
func (m *Machine) mayGrant(u uint32, n node) bool {
	good := func(by node) bool { return !m.shunned(by) }
	return m.book.MayGrant(u, n) && !slices.ContainsFunc(m.book.Unshown(u, n), good)
}

// grants reports whether this steward grants a unit now: the first in the order
// of its shard that may.
func (m *Machine) grants(u uint32) bool {
	for _, n := range m.rank(m.shard(u)) {
		if m.mayGrant(u, n) {
			return n == m.self
		}
	}
	return false
}

// doubt is the state of a machine that does not know yet whether its own log goes
// on elsewhere: its disk may be new, or an old backup. It reads and says nothing.
type doubt struct {
	since    uint64
	answered map[node]bool // fellow stewards that know of nothing more
	restored bool          // the own log did go on
}

// catchUp is Step while in doubt. It ends when every fellow steward that is awake
// has told that it knows no more of this log, or nobody has for too long.
func (m *Machine) catchUp(in Input) {
	d := m.doubt
	if d.since == 0 {
		d.since = m.now
	}
	before := m.ledger.Len(m.self)
	switch in := in.(type) {
	case Received:
		if m.book.Listed(in.From) {
			m.hear(in.From)
		}
		switch msg := in.Msg.(type) {
		case wire.WorkRequest:
			m.request(in.From, msg)
		case wire.Push:
			m.push(in.From, msg)
		case wire.Pull:
			m.pull(in.From, msg)
			if m.book.Listed(in.From) {
				d.answered[in.From] = !slices.ContainsFunc(msg.Have, func(h workunits.LogHead) bool {
					return h.Author == m.self && h.Len > m.ledger.Len(m.self)
				})
			}
		}
	case Unreachable:
		delete(m.heard, in.Peer)
	case Local:
		m.entries(in.Entries)
	case Tick:
		m.heartbeat()
	}
	m.readUp()
	if m.ledger.Len(m.self) > before {
		d.since, d.restored = m.now, true
	}
	if m.certain() {
		m.Restored = m.Restored || d.restored
		fresh := resume(m.Config, m.book)
		fresh.doubt, fresh.heard, fresh.lastHeard, fresh.fx = nil, m.heard, m.lastHeard, m.fx
		fresh.now, fresh.beat, fresh.beats = m.now, m.beat, m.beats
		*m = *fresh
		units := m.wake(m.now)
		m.begin()
		for _, u := range units {
			m.unit(u)
		}
	}
}

// certain reports whether the doubt about the own log is over.
func (m *Machine) certain() bool {
	answers, asleep := 0, true
	for _, s := range m.book.Stewards() {
		if s.Node == m.self {
			continue
		}
		if m.doubt.answered[s.Node] {
			answers++
		} else if m.awake(s.Node) {
			asleep = false
		}
	}
	waited := m.now - m.doubt.since
	known := len(m.book.Stewards()) // none: the list, part of the publisher's log, is still to come
	return known == 1 || known > 1 && (answers > 0 && (asleep || waited >= patience) || waited >= Silence)
}

// owes notes the draws that fellow stewards owe, and what they said that is not here.
func (m *Machine) owes(author node, commit ref) {
	if author != m.self {
		m.owed[author] = append(m.owed[author], debt{commit: commit, since: m.now})
	}
}

func (m *Machine) paid(author node, commit ref) {
	if i := slices.IndexFunc(m.owed[author], func(d debt) bool { return d.commit == commit }); i >= 0 {
		m.owed[author] = slices.Delete(m.owed[author], i, i+1)
	}
}

// debt is a draw that a steward's receipt promised.
type debt struct {
	commit ref
	since  uint64
}

// claim is how long a steward's log is by its own word, while less of it is here.
type claim struct {
	length uint64
	since  uint64
	proof  []byte // a segment that it signed, if that shows it
}

// claimed notes how long a fellow steward's log is by its own word.
func (m *Machine) claimed(n node, length uint64, proof []byte) {
	if !m.book.Listed(n) || length <= m.ledger.Len(n) {
		return
	}
	c, ok := m.claims[n]
	if !ok {
		c.since = m.now
	}
	if len(c.proof) == 0 {
		c.proof = proof
	}
	c.length = max(c.length, length)
	m.claims[n] = c
}

// askAround asks volunteers for the grants that they committed to, where no
// steward tells of them.
func (m *Machine) askAround() {
	for _, r := range sortedRefs(m.loose) {
		c, _, _ := m.book.Commit(r)
		if _, known := m.book.Grant(c.Grant); known || m.ledger.Forked(c.Grant.Author) {
			delete(m.loose, r)
		} else if m.now >= m.loose[r] {
			m.loose[r] = m.now + absence
			m.send(r.Author, wire.Pull{Job: m.Job, Have: []workunits.LogHead{m.ledger.Head(c.Grant.Author)}, Part: true})
		}
	}
}

// overdue accuses stewards that withhold what they owe, and forgets claims that
// were made good.
func (m *Machine) overdue() {
	for _, n := range slices.SortedFunc(maps.Keys(m.claims), node.Compare) {
		if c := m.claims[n]; c.length <= m.ledger.Len(n) || m.ledger.Forked(n) {
			delete(m.claims, n)
		} else if !m.awake(n) {
			c.since = m.now
			m.claims[n] = c
		}
	}
	for _, n := range slices.SortedFunc(maps.Keys(m.owed), node.Compare) {
		if !m.awake(n) { // what it says cannot arrive
			for i := range m.owed[n] {
				m.owed[n][i].since = m.now
			}
		}
	}
	for _, s := range m.book.Stewards() {
		if !m.shunned(s.Node) || m.book.Proven(s.Node) || m.untrue[s.Node] {
			continue
		}
		f := workunits.Fault{Name: workunits.FaultWithheld, Against: s.Node}
		if c := m.claims[s.Node]; len(c.proof) > 0 {
			f.Evidence = [][]byte{c.proof}
		}
		m.accuse(f)
	}
}

// absentees tells of stewards that do not answer for long and owe a draw; and of
// those that do not answer, or do not keep what this one has kept for as long, where
// the others are fewer than those who must keep a result. A steward that ends and starts again all the time answers, too.
func (m *Machine) absentees() {
	if !m.isActive() || m.over() {
		return
	}
	for _, s := range m.book.Stewards() {
		if !m.present(s.Node) && len(m.owed[s.Node]) > 0 {
			m.miss(s.Node)
		}
	}
	var gone []node
	overdue := m.overdueResults()
	for _, s := range m.book.Stewards() {
		keeps := func(u uint32) bool { return m.book.Stored(u, s.Node, m.book.Unit(u).Opening) }
		if !m.present(s.Node) || len(overdue) > 0 && !slices.ContainsFunc(overdue, keeps) {
			gone = append(gone, s.Node)
		}
	}
	if len(m.book.Stewards())-len(gone) >= m.book.KeepersWanted() {
		return
	}
	for _, n := range gone {
		m.miss(n)
	}
}

// miss says that a steward is not waited for.
func (m *Machine) miss(n node) {
	if !m.missed[n] {
		m.missed[n] = true
		m.say = append(m.say, workunits.Fault{Name: workunits.FaultAbsent, Against: n})
	}
}

// maxOverdue bounds how many results are looked at.
const maxOverdue = 64

// overdueResults are some that this steward keeps and others should have by now.
func (m *Machine) overdueResults() (units []uint32) {
	for _, u := range slices.Sorted(maps.Keys(m.agreed)) {
		if len(units) < maxOverdue && m.now >= m.agreed[u]+absence && m.book.Stored(u, m.self, m.book.Unit(u).Opening) {
			units = append(units, u)
		}
	}
	return units
}

// recruit orders more stewards for the publisher's job where the list is short or
// some of it are gone.
func (m *Machine) recruit() {
	if !m.publisher() || m.over() || m.now < m.recruitAt || m.Manifest.Policy.Mode == workunits.VerifyNone {
		return
	}
	m.recruitAt = m.now + recruitTime
	good := 0
	for _, s := range m.book.Stewards() {
		if m.present(s.Node) && !m.shunned(s.Node) {
			good++
		}
	}
	m.fx.Recruit = max(0, min(int(m.Manifest.Listed)-good, workunits.MaxStewards-len(m.book.Stewards())))
}

// up is the set of stewards that are up and do as they should, and this one's part
// among them; what must be kept anew depends on it.
func (m *Machine) up() (set uint64) {
	for i, s := range m.book.Stewards() {
		if m.present(s.Node) && !m.shunned(s.Node) {
			set |= 2 << i
		}
	}
	if m.isActive() {
		set |= 1
	}
	return set
}

// sweep looks at every unit once more when stewards came or went, some at a time,
// and keeps the results that too few of those that are up keep.
func (m *Machine) sweep() {
	n := sweepUnits
	acts := m.isActive() || m.publisher()
	if up := m.up(); up != m.sweptFor {
		m.sweptFor, m.toSweep = up, m.Manifest.Total()
	}
	for ; m.toSweep > 0 && n > 0; n, m.toSweep = n-1, m.toSweep-1 {
		u := m.swept
		m.swept = (m.swept + 1) % m.Manifest.Total()
		if s := m.book.State(u); s == verdict.Failed || s == verdict.Accepted && !m.Restored && (!acts || m.book.KeepsResult(u, m.self)) {
			continue // which most are
		}
		v := m.book.Unit(u)
		if !v.Agreed() {
			continue
		}
		stored := m.book.Stored(u, m.self, v.Opening)
		if acts && !stored && (v.State != verdict.Accepted || m.scarce(u)) || stored && m.lost(v) {
			m.store(u, v)
		}
	}
}

// lost reports whether this steward said that it keeps a result that its disk may
// not hold any more.
func (m *Machine) lost(v verdict.Unit) bool { return m.Restored && !m.have[v.Result.Digest] }

// scarce reports whether too few stewards that are up keep a unit's result.
func (m *Machine) scarce(u uint32) bool {
	kept := 0
	for _, n := range m.book.KeptBy(u) {
		if m.present(n) && !m.shunned(n) {
			kept++
		}
	}
	return kept < m.book.KeepersWanted()
}

// limit is how many units a volunteer may hold: fewer after leases that it let
// lapse, until it commits again.
func (m *Machine) limit(n node) int {
	return max(1, (2*wire.MaxSegments+m.book.Stake(n))>>min(3*m.lapsed[n].times, 30))
}

// voidPause is how long a volunteer gets nothing whose copies came back void; twice
// as long each time, until one does not.
const voidPause = 5_000

// came forgives a volunteer the leases that it let end, unless most of what it
// commits is void: that costs it nothing, and the unit one of its tries. Of those that
// the publisher trusts nobody expects harm.
func (m *Machine) came(n node, c workunits.Commit) {
	m.delivered[n] = m.delivered[n] || len(c.Units) > 0
	if len(c.Void) <= len(c.Units) || m.Manifest.Policy.Mode == workunits.VerifyNone || m.book.Trusted(n) {
		delete(m.lapsed, n)
		return
	}
	l := m.lapsed[n]
	l.times++
	l.until = m.now + voidPause<<min(l.times-1, 10)
	m.lapsed[n] = l
}

// lapse is how often in a row a volunteer let a lease end, or gave units back, and
// since when the next grant may be.
type lapse struct {
	times int
	until uint64
}

// pausing reports whether a volunteer gets nothing for a while, since it gave nothing.
func (m *Machine) pausing(n node) bool { return m.now < m.lapsed[n].until }

// lapse ends a lease without a commit, which is held against its volunteer.
func (m *Machine) lapse(r ref) {
	if _, ok := m.leases[r]; !ok {
		return
	}
	if g, ok := m.book.Grant(r); ok && (m.now >= m.leases[r] || m.gone(r)) {
		l := m.lapsed[g.To]
		l.times++
		l.until = m.now + g.Lease<<min(l.times-1, 6)
		m.lapsed[g.To] = l
	}
	m.endLease(r)
}

// lend and endLease keep count of the units that volunteers hold.
func (m *Machine) lend(r ref, g workunits.Grant) {
	m.leases[r] = m.now + g.Lease
	if r.Author == m.self {
		m.hold(r, g.To)
	}
	m.lent[g.To] += len(g.Units)
}

// relend counts those leases of a unit that are outstanding again and were not counted.
// They have no time left.
func (m *Machine) relend(u uint32) {
	for _, r := range m.book.Outstanding(u) {
		if _, ok := m.leases[r]; !ok {
			g, _ := m.book.Grant(r)
			g.Lease = 0
			m.lend(r, g)
		}
	}
}

func (m *Machine) endLease(r ref) {
	if _, ok := m.leases[r]; !ok {
		return
	}
	delete(m.leases, r)
	if g, ok := m.book.Grant(r); ok {
		m.release(r, g.To)
		if m.lent[g.To] -= len(g.Units); m.lent[g.To] <= 0 {
			delete(m.lent, g.To)
		}
	}
}

func compareRefs(x, y ref) int {
	return cmp.Or(x.Author.Compare(y.Author), cmp.Compare(x.Seq, y.Seq))
}
