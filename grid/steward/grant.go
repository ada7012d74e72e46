package steward

import (
	"fmt"
	"maps"
	"math"
	"slices"

	"github.com/talka-grid/talka/grid/phrase"
	"github.com/talka-grid/talka/grid/wire"
	"github.com/talka-grid/talka/workunits"
	"github.com/talka-grid/talka/workunits/verdict"
)

// Times to ask again, in milliseconds.
const (
	retrySoon = 500
	retryLate = 5_000
	asking    = 30_000 // after a request its volunteer counts among those that units are for
	unwanted  = 20_000 // until a unit may go to whom it would better not
)

// request answers a volunteer with a grant or with the reason why not.
func (m *Machine) request(from node, w wire.WorkRequest) {
	reply := wire.WorkReply{Job: m.Job, Credit: uint32(m.book.Stake(from)), Ended: m.over(), Hints: m.hints(from)}
	var units []uint32
	var custodians []node
	var canonical bool
	if m.Manifest.Admits(from, w.Proof) && m.welcome(from) {
		m.note(from, w)
		m.noteHeld(from, w)
	}
	if raw := m.forgotten(from, w.Busy); raw != nil && m.welcome(from) && !m.over() {
		reply.Grant, reply.Again = raw, true
	} else if why, retry := m.refuse(from, w); why.Text != "" {
		reply.Reason, reply.Retry = why.Text, retry
	} else if units, custodians, canonical = m.choose(from, w); len(units) == 0 {
		reply.Reason, reply.Retry = NoUnit, retrySoon
		if !m.askers[from].plain && !m.kinds.canonical {
			reply.Reason = phrase.New("no_checkers", "too few volunteers here could check copies made on your architecture").Text
		}
		m.refused(from)
	}
	if len(units) > 0 {
		m.stage(units[0])
		g := workunits.Grant{To: from, Units: units, Inputs: m.book.Inputs(units[0]), Lease: m.lease(units),
			Custodians: custodians, Arch: w.Arch, Canonical: canonical}
		reply.Grant = m.speak(g)
		m.serve(from)
		m.event("granted", from, units[0], fmt.Sprintf("%d units", len(units)))
	}
	m.tally(from, reply.Reason)
	m.reply(from, reply)
}

// welcome reports whether a volunteer may get units of this job at all.
func (m *Machine) welcome(n node) bool { return !m.book.Closed(n) && !m.accused[n] }

// note remembers that a volunteer wants work.
func (m *Machine) note(from node, w wire.WorkRequest) {
	_, known := m.askers[from]
	m.askers[from] = asker{m.now, m.book.Plain(from, w.Arch), w.Canon}
	if !known && len(m.askers) <= promptly { // in a crowd one more changes little
		m.whoAsks()
	}
	if from != m.Manifest.Publisher && !m.pausing(from) {
		m.wantedAt = m.now
		if !m.poor(from) {
			m.askedStaked = m.now
		}
	}
}

// maxIdle bounds how many refused volunteers are remembered, to be called.
const maxIdle = 1 << 12

func (m *Machine) refused(from node) {
	if len(m.idle) < maxIdle && !slices.Contains(m.idle, from) {
		m.idle = append(m.idle, from)
	}
}

// call tells idle volunteers of units that want a copy since this step: for each
// unit the one that the draws put first.
func (m *Machine) call() {
	news := m.news
	m.news = nil
	if m.mute() || !m.isActive() {
		return
	}
	for _, u := range news {
		if len(m.idle) == 0 {
			break
		}
		if !m.grants(u) {
			continue
		}
		volunteers, stewards := m.book.Touched(u)
		best, lot, draws := -1, uint64(0), math.Float64bits(m.book.Lot(u, node{}))
		for i, n := range m.idle {
			if l := mix(draws ^ lotOf(n)); (best < 0 || l < lot) && m.may(n, u, volunteers, stewards) {
				best, lot = i, l
			}
		}
		if best < 0 {
			continue
		}
		to := m.idle[best]
		m.idle = slices.Delete(m.idle, best, best+1)
		m.reply(to, wire.WorkReply{Job: m.Job})
	}
}

// reply answers a volunteer, which may be this node's own. Volunteers have no
// ledger: it is here that they hear that a copy of theirs was wrong, and whom not to ask.
func (m *Machine) reply(to node, r wire.WorkReply) {
	r.Shuns, r.Wrong = m.shuns(), m.book.Wrong(to)
	if to == m.self {
		m.fx.Own = append(m.fx.Own, r)
		return
	}
	m.send(to, r)
}

// refuse says why a volunteer gets nothing, in words that the page knows, and when
// it may ask again.
func (m *Machine) refuse(from node, w wire.WorkRequest) (why phrase.Phrase, retry uint64) {
	switch {
	case m.doubt != nil:
		return phrase.New("no_behind", "this steward catches up with the others"), retrySoon
	case m.mute():
		return phrase.New("no_mute", "this steward's key signs elsewhere too"), retryLate
	case m.over():
		return phrase.New("no_over", "the job is over"), retryLate
	case !m.Manifest.Admits(from, w.Proof):
		return phrase.New("no_proof", "volunteers of this job show {bits} bits of work for their identity", "bits", m.Manifest.Policy.Work), retryLate
	case max(m.ledger.Count(), len(m.grantees)) >= mostAuthors && !m.grantees[from] && !m.book.Listed(from):
		return phrase.New("no_room", "this job has {n} volunteers, as many as one may have", "n", mostAuthors), retryLate
	case m.book.Closed(from):
		return phrase.New("no_wrong", "your copies in this job were proven wrong"), retryLate
	case m.book.Stale(from, m.self):
		return phrase.New("no_wrong_now", "your copies in this job were just proven wrong"), retrySoon
	case m.accused[from]:
		return phrase.New("no_accused", "a fault in your statements is on record"), retryLate
	case !m.isActive() || m.home() && !m.publisher():
		return phrase.New("no_others", "other stewards are active"), retrySoon
	case !w.Canon && (m.Manifest.Canonical || !m.book.Plain(from, w.Arch)):
		return phrase.New("no_platform", "units of this job are executed on {arch}, or with canonical NaNs, which the engine of this node does not make", "arch", m.book.Home()), retryLate
	case w.Memory < m.Manifest.Limits.Memory:
		return phrase.New("no_memory", "units take {bytes} bytes of memory", "bytes", m.Manifest.Limits.Memory), retryLate
	case m.pausing(from):
		return phrase.New("no_lapsed", "you let a lease end without a result"), retryLate
	case m.lent[from] >= m.limit(from):
		return phrase.New("no_more", "you hold as many units as a volunteer may"), retryLate
	case from == m.self && !m.publisher():
		return phrase.New("no_self", "a steward does not grant to itself"), retryLate
	}
	return why, 0
}

// lease is the time for a batch: a few times what it should take, with grace.
// How long the second stage takes nobody knows, but that its many inputs have to
// be fetched.
func (m *Machine) lease(units []uint32) uint64 {
	limit := m.Manifest.Limits.Wall * uint64(len(units))
	if m.Manifest.Reduces(units[0]) {
		limit += stageFetch * uint64(m.Manifest.Units)
	} else if m.unitTime > 0 {
		limit = min(limit, uint64(4*m.unitTime*float64(len(units))))
	}
	return min(leaseGrace+limit, workunits.MaxLease)
}

// choose picks units for a volunteer and custodians for them. Units that want a
// further copy come first, in the order of the volunteer's lots and scattered
// over their first committers; then units that have none; and where there is nothing
// else those whose further copy had better wait. All of a grant are of one platform.
func (m *Machine) choose(from node, w wire.WorkRequest) (units []uint32, custodians []node, canonical bool) {
	n := m.share(min(int(w.Units), m.limit(from)-m.lent[from]))
	if m.stranded() && m.book.Listed(from) {
		n = 1 // volunteers may come yet, and those who execute do not check
	}
	take := func(u uint32) bool {
		v := m.book.Unit(u)
		kind, ok := m.kind(u, v, m.askers[from])
		if v.State != verdict.Open || !ok || len(units) > 0 && kind != canonical ||
			len(units) > 0 && m.book.Inputs(u) != m.book.Inputs(units[0]) || m.underWay(u) || v.Copies > 0 && m.unreceipted(u) {
			return false
		}
		volunteers, stewards := m.book.Touched(u)
		if !m.may(from, u, volunteers, stewards) {
			return false
		}
		if len(units) == 0 {
			var ok bool
			if custodians, ok = m.custodians(from, volunteers); !ok {
				return false
			}
		} else if slices.ContainsFunc(custodians, func(c node) bool { return slices.Contains(volunteers, c) }) {
			return false
		}
		units, canonical = append(units, u), kind
		if v.Copies > 0 {
			m.checks++
			if m.poor(from) {
				m.poorChecks++
			}
		}
		return true
	}
	ready := m.offers()
	m.further(from, n, ready.now.list, take)
	if !m.leaves(from) {
		m.fresh(from, n, &units, take)
	}
	if len(units) == 0 {
		m.further(from, n, ready.late.list, take)
	}
	slices.Sort(units)
	return units, custodians, canonical
}

// share is how many units a volunteer gets that wants n: at most half of an even
// share of what is left here, so that batches are large while there is much to do,
// everybody is busy to the end, and who vanishes holds up little.
func (m *Machine) share(n int) int {
	ready := m.offers()
	left := len(ready.now.list) + len(ready.late.list)
	for s := uint32(0); s < m.Manifest.Shards() && left < 2*n*len(m.askers); s++ {
		if first, end := m.bounds(s); m.primary(s) {
			left += int(end - max(m.cursor[s], first))
		}
	}
	maps.DeleteFunc(m.askers, func(_ node, a asker) bool { return m.now > a.at+asking })
	return min(n, left/(2*max(len(m.askers), 1))+1)
}

// shard is the shard of a unit; the second stage belongs to the last one.
func (m *Machine) shard(u uint32) uint32 { return min(u, m.Manifest.Units-1) / m.Manifest.Shard }

// bounds are the first unit of a shard and the one after its last.
func (m *Machine) bounds(shard uint32) (first, end uint32) {
	return shard * m.Manifest.Shard, min((shard+1)*m.Manifest.Shard, m.Manifest.Units)
}

// poor reports whether a volunteer is a newcomer or poor among the others.
func (m *Machine) poor(n node) bool { return !m.book.Staked(n) || m.book.Poor(n, m.bar) }

// mayHelp reports whether a volunteer may get the next copy of a unit while others
// could take it: the poor do not decide disputes, nor whether a unit fails, get only
// their share of further copies, and no first ones while too many of theirs came to
// nothing. Nor do they get units of which results are open, if only of those who were
// proven wrong: in league with these they could bear them out. If nobody else asked or
// has taken it for a while they may.
func (m *Machine) mayHelp(from node, u uint32) bool {
	w := m.wanting[u]
	law := verdict.LawOf(m.Manifest.Policy)
	late, opened := uint64(patience), m.book.Poor(from, m.bar) && len(m.book.Digests(u)) > 0
	if opened {
		late = unwanted
	}
	switch {
	case w != nil && m.now < w.since+unwanted && (!m.delivered[from] || m.poor(from) && m.now < m.askedStaked+unwanted) && m.book.Unit(u).Voids > 0:
		return false
	case m.now >= m.askedStaked+late || w != nil && m.now >= w.since+late || !m.poor(from):
		return true
	case opened:
		return false
	case m.book.FirstCommitter(u) == node{}:
		return !m.book.Poor(from, m.bar) || law.Begins(m.burned, m.book.Counts()[verdict.Accepted])
	}
	return w == nil || law.Checks(m.poorChecks, m.checks)
}

// may reports whether a volunteer may execute a unit: it committed none of its
// copies; as a steward it had no part in them, and where results are verified enough
// other stewards are left to grant, draw and keep, or the publisher is to do so when it
// is back. The publisher's copies decide alone, so it gets
// only units on which volunteers differ, whose copies did not follow one another,
// that no volunteer here may take, or that none took or asked for in long: the rest
// is the volunteers' work. Whose copy was void gets the unit again only after others
// had as long to take it.
func (m *Machine) may(from node, u uint32, volunteers, stewards []node) bool {
	w := m.wanting[u]
	waited := w != nil && m.now >= w.since+unwanted
	if !m.mayHelp(from, u) {
		return false
	}
	if m.committed(u, from) || m.book.Voided(u, from) && !waited || m.seen(from, u) {
		return false
	}
	if from == m.Manifest.Publisher {
		v := m.book.Unit(u)
		return m.Manifest.Policy.Mode == workunits.VerifyNone || v.Contested || v.Copies > v.Support || waited ||
			(m.now >= m.wantedAt+unwanted || w != nil && m.now >= w.since+patience) && !m.takers(u, volunteers, stewards)
	}
	switch {
	case !m.book.Listed(from):
		return true
	case m.Manifest.Policy.Mode == workunits.VerifyNone: // nobody is to check it
		return from != m.self && !slices.Contains(stewards, from)
	}
	if m.stranded() {
		return m.book.FirstCommitter(u) == node{} && from != m.self && !slices.Contains(stewards, from) && !slices.Contains(volunteers, from)
	}
	free := 0
	for _, s := range m.book.Stewards() {
		if m.fit(s.Node) && s.Node != from && !slices.Contains(volunteers, s.Node) {
			free++
		}
	}
	need := 3 // that grant, draw and keep
	if m.home() {
		need = 2 // the publisher does all but one
	}
	return free >= need && !slices.Contains(stewards, from)
}

// committed reports whether a volunteer committed a copy of the unit that may count. Whom
// the publisher trusts may do again what it did for a steward that is shunned and shows
// the grant to nobody; of others the steward could show it when their second copy, a
// wrong one, is to be checked.
func (m *Machine) committed(u uint32, n node) bool {
	if m.book.Trusted(n) {
		return m.book.CommittedBut(u, n, m.shunned)
	}
	return m.book.Committed(u, n)
}

// seen reports whether a volunteer could read the results that it is to check, as
// stewards can that are open, while others could take the unit.
func (m *Machine) seen(from node, u uint32) bool {
	w := m.wanting[u]
	if w == nil || m.now >= w.since+unwanted || from == m.Manifest.Publisher || !m.book.Listed(from) || len(m.book.Digests(u)) == 0 {
		return false
	}
	for n, a := range m.askers {
		if !m.book.Listed(n) && m.now < a.at+asking && m.welcome(n) && !m.book.Committed(u, n) && !m.book.Voided(u, n) {
			return true
		}
	}
	return false
}

// takers reports whether any volunteer that was here lately may execute a unit.
func (m *Machine) takers(u uint32, volunteers, stewards []node) bool {
	may := func(n node) bool {
		return n != m.Manifest.Publisher && m.welcome(n) && !m.pausing(n) && m.may(n, u, volunteers, stewards)
	}
	for n, a := range m.askers {
		if m.now < a.at+asking && may(n) {
			return true
		}
	}
	for n := range m.lent {
		if may(n) {
			return true
		}
	}
	return false
}

// further offers units that want another copy.
func (m *Machine) further(from node, n int, units []uint32, take func(uint32) bool) {
	list := m.lots(from, units)
	firsts := map[node]bool{}
	for _, o := range list {
		if o.first != (node{}) && o.first != from {
			firsts[o.first] = true
		}
	}
	each := (n + max(len(firsts), 1) - 1) / max(len(firsts), 1)
	given := map[node]int{}
	taken := 0
	for _, o := range list {
		if taken == n {
			return
		}
		if (o.first == node{} || given[o.first] < each) && take(o.unit) {
			given[o.first]++
			taken++
		}
	}
}

// fresh offers units without copies from the shards that this steward is the
// primary of, beginning where each shard's last grant ended.
func (m *Machine) fresh(from node, n int, units *[]uint32, take func(uint32) bool) {
	for s := uint32(0); s < m.Manifest.Shards() && len(*units) < n; s++ {
		if !m.primary(s) {
			continue
		}
		first, end := m.bounds(s)
		u := max(m.cursor[s], first)
		for ; u < end && len(*units) < n && (m.book.Named(u) || take(u)); u++ {
		}
		m.cursor[s] = u
	}
	if len(*units) > 0 || !m.isActive() {
		m.dry = 0
		return
	}
	if m.dry == 0 {
		m.dry = m.now
	}
	if !m.stranded() { // two that grant the same would be two less to execute it
		m.borrow(from, n, units, take)
	}
}

// borrow offers units without copies from another's shard, from its end, where the
// other comes last: one to whoever asks while this steward has long had none. Where
// nothing is verified the other itself need not wait, as it grants nothing to itself;
// else it had better be left to grant, draw and keep.
func (m *Machine) borrow(from node, n int, units *[]uint32, take func(uint32) bool) {
	late, trusted := m.now >= m.dry+idleFirst, m.Manifest.Policy.Mode == workunits.VerifyNone
	for s := range m.Manifest.Shards() {
		ranked := m.rank(s)
		if len(ranked) == 0 || ranked[0] == m.self {
			continue
		}
		own := trusted && ranked[0] == from
		if !own && !late {
			continue
		}
		first, end := m.bounds(s)
		last, ok := m.lastOf[s]
		if !ok {
			last = end
		}
		for last > first && m.book.Named(last-1) {
			last--
		}
		m.lastOf[s] = last
		for u := last; u > first && take(u-1); u-- {
			if !own || len(*units) == n {
				return
			}
		}
	}
}

// custodians picks whom openings are sealed to: two stewards other than the
// grantor that execute none of the unit's copies, or one where there is but one.
// Where hardly anybody but stewards volunteers it is one, the same for all copies,
// and the publisher while it is away, so that others are left for the next copy.
// Where nobody else is left the publisher keeps what it granted or executed
// itself; with no verification nobody does, and volunteers open at once.
func (m *Machine) custodians(from node, volunteers []node) (list []node, ok bool) {
	if m.Manifest.Policy.Mode == workunits.VerifyNone {
		return nil, true
	}
	most := 2
	switch {
	case m.stranded():
		return []node{m.Manifest.Publisher}, true
	case m.home():
		most = 1
	}
	for _, s := range m.book.Stewards() {
		if n := s.Node; len(list) < most && m.fit(n) && n != m.self && n != from && !slices.Contains(volunteers, n) {
			list = append(list, n)
		}
	}
	if p := m.Manifest.Publisher; len(list) == 0 && (p == m.self || p == from) {
		list = []node{p}
	}
	return list, len(list) > 0
}

// stage keeps the record of what the second stage works on, for the volunteers
// that are granted it.
func (m *Machine) stage(u uint32) {
	if !m.Manifest.Reduces(u) || m.staged == m.book.Inputs(u) {
		return
	}
	if in, ok := m.book.StageInputs(); ok {
		m.staged = m.book.Inputs(u)
		b, _ := in.Encode()
		m.fx.Blocks = append(m.fx.Blocks, b)
	}
}

// Leases lists the outstanding grants, for those who want to look.
func (m *Machine) Leases() []workunits.Ref { return slices.Collect(maps.Keys(m.leases)) }
