package volunteer

import (
	"slices"

	"github.com/talka-grid/talka/grid/wire"
	"github.com/talka-grid/talka/workunits"
	"github.com/talka-grid/talka/workunits/ledger"
)

// ask requests units where there is room for them: one job at a time, one
// steward at a time, in turn, by the shares of projects.
func (m *Machine) ask() {
	waiting, running := m.held()
	if m.policy.Slots == 0 {
		return
	}
	jobs := m.sorted()
	at := slices.IndexFunc(jobs, func(j *job) bool { return slices.Compare(j.Job[:], m.last[:]) > 0 })
	if at > 0 {
		jobs = append(slices.Clone(jobs[at:]), jobs[:at]...)
	}
	m.shares.order(jobs, func(j *job) int { return j.queued() + j.running() })
	for _, j := range jobs {
		if j.asked != (node{}) {
			if m.now < j.askedAt+answerTime {
				continue
			}
			m.unreachable(j.asked)
		}
		want := j.room(m.policy, ahead) + m.policy.Slots - running - waiting
		list := j.candidates(m)
		if j.mute() || want <= 0 || m.now < j.next || len(list) == 0 || j.Manifest.Limits.Memory > m.policy.Memory {
			continue
		}
		if waiting > 0 && waiting >= j.room(m.policy, low) {
			continue // ask seldom, for more
		}
		m.last = j.Job
		j.asked, j.askedAt = list[j.turn%len(list)], m.now
		m.send(j.asked, wire.WorkRequest{Job: j.Job, Units: uint32(min(want, maxAsk)), Arch: m.Arch,
			Canon: m.Canon, Memory: m.policy.Memory, Held: j.holds, Proof: j.Identity.Proof, Busy: j.busy(j.asked)})
		return
	}
}

// busy lists the grants of a steward that are in hand. Of the others that run it
// sends one again: a reply was lost, or this node began anew.
func (j *job) busy(of node) (seqs []uint64) {
	for _, g := range j.batches() {
		if g.steward == of && len(seqs) < wire.MaxBusy {
			seqs = append(seqs, g.Seq)
		}
	}
	slices.Sort(seqs)
	return seqs
}

// room is how many units slots execute in a time.
func (j *job) room(p Policy, millis float64) int {
	if j.unitTime == 0 {
		return 0
	}
	took := max(j.unitTime, 1)
	if p.Percent > 0 {
		took = took * 100 / float64(p.Percent)
	}
	return min(p.Slots*int(millis/took), maxAsk)
}

// candidates are the job's stewards that may be asked now, first ones first.
func (j *job) candidates(m *Machine) (list []node) {
	for _, s := range j.Stewards {
		if len(list) < int(j.Manifest.Active) && m.up(s.Node) && (s.Node != m.Self || s.Node == j.Manifest.Publisher) && !j.shunned(m, s.Node) {
			list = append(list, s.Node)
		}
	}
	return list
}

// shunned reports whether a steward's grants lead to nothing, as others that are up say.
func (j *job) shunned(m *Machine, n node) bool {
	return j.believed(func(by node) bool { return by != n && m.up(by) && slices.Contains(j.words[by].shuns, n) })
}

// believed reports whether what some stewards say is to be believed: the publisher does,
// or two others, since one alone may lie.
func (j *job) believed(says func(by node) bool) bool {
	words := 0
	for _, s := range j.Stewards {
		switch {
		case !says(s.Node):
		case s.Node == j.Manifest.Publisher:
			return true
		default:
			words++
		}
	}
	return words >= 2
}

// reply takes a steward's answer. A grant counts even if it comes late, since
// its units would wait for the end of its lease.
func (m *Machine) reply(j *job, from node, w wire.WorkReply) {
	waiting, _ := m.held()
	if slices.Contains(j.rest(), from) {
		m.heed(j, from, word{w.Shuns, w.Wrong})
	}
	if len(w.Grant) == 0 && w.Reason == "" && !w.Ended {
		j.called(m, from)
		return
	}
	if from != j.asked && (len(w.Grant) == 0 || waiting > 2*maxAsk) {
		return
	}
	if from == j.asked {
		j.asked = node{}
	}
	j.credit = max(j.credit, int(w.Credit))
	j.reason = w.Reason
	if len(w.Grant) == 0 {
		j.turn++
		if j.turn%max(1, len(j.candidates(m))) == 0 {
			j.next = m.now + retryAfter(w.Retry, j.refused)
			j.refused++
		}
		return
	}
	j.refused = 0
	s, err := j.Author.Ledger().Parse(w.Grant)
	if err != nil || s.Author != from || s.Job != j.Job || s.Network != j.Manifest.Network || len(s.Statements) != 1 {
		m.unreachable(from)
		return
	}
	body, err := s.Statements[0].Decode()
	g, ok := body.(workunits.Grant)
	if err != nil || !ok || !m.acceptable(j, from, g) {
		m.unreachable(from)
		return
	}
	b := &batch{ref: ref{Author: s.Author, Seq: s.Seq}, bound: s.Hashes()[0], Grant: g, steward: from,
		hints: w.Hints, queue: slices.Clone(g.Units), running: map[uint32]bool{}, received: m.now}
	if j.Manifest.Reduces(g.Units[0]) {
		b.hints = append(b.hints, from) // who wrote down what it works on
	}
	if w.Again {
		j.next = m.now + againTime
		if b.queue = j.left(b); len(b.queue) == 0 {
			return
		}
	}
	j.grants[b.ref] = b
	j.seen = append(j.seen, grantSeen{b.ref, w.Grant})
	if len(j.seen) > maxSeen {
		j.seen = slices.Delete(j.seen, 0, maxSeen/2)
	}
}

// heed takes a steward's word.
func (m *Machine) heed(j *job, by node, w word) {
	j.words[by] = w
	if !j.wrong && j.believed(func(by node) bool { return j.words[by].wrong }) {
		j.wrong = true
		m.fx.Wrong = append(m.fx.Wrong, j.Job)
	}
}

// rest are the job's stewards, of which some have the program and the inputs.
func (j *job) rest() (list []node) {
	for _, s := range j.Stewards {
		list = append(list, s.Node)
	}
	return list
}

// againTime is until the next request after a grant that came again, in
// milliseconds: what this node said of it may be under way to the steward.
const againTime = 1_000

// left are the units of a grant that came again on which this node has neither
// worked in this life nor committed before.
func (j *job) left(b *batch) []uint32 {
	if slices.ContainsFunc(j.seen, func(s grantSeen) bool { return s.ref == b.ref }) {
		return nil
	}
	done := map[uint32]bool{}
	l := j.Author.Ledger()
	l.WalkKinds([]workunits.LogHead{l.Head(j.Author.ID)}, func(e ledger.Entry) {
		if c, ok := e.Body.(workunits.Commit); ok && c.Grant == b.ref {
			for _, u := range c.Units {
				done[u] = true
			}
			for _, v := range c.Void {
				done[v.Unit] = true
			}
		}
	}, workunits.KindCommit)
	return slices.DeleteFunc(b.queue, func(u uint32) bool { return done[u] })
}

// retryAfter is how long to wait after the last of some refusals in a row that
// named a time: ever longer, but no stranger decides how long.
func retryAfter(retry uint64, refused int) uint64 {
	retry = min(max(retry, 100), 60_000)
	return min(retry<<min(refused, 8), max(retry, patience))
}

// called makes the job's next request go to a steward that has work now.
func (j *job) called(m *Machine, from node) {
	if i := slices.Index(j.candidates(m), from); i >= 0 {
		j.turn, j.next, j.refused = i, 0, 0
	}
}

// acceptable refuses grants for someone else, of other inputs or another job's
// shape, and those that name custodians who are none.
func (m *Machine) acceptable(j *job, from node, g workunits.Grant) bool {
	listed := func(n node) bool {
		return n == j.Manifest.Publisher || slices.ContainsFunc(j.Stewards, func(s workunits.Steward) bool { return s.Node == n })
	}
	for _, c := range g.Custodians {
		if !listed(c) {
			return false
		}
	}
	last := g.Units[len(g.Units)-1]
	fits := last < j.Manifest.Units && g.Inputs == j.Manifest.InputsDigest() || j.Manifest.Reduces(last) && len(g.Units) == 1
	return g.To == m.Self && listed(from) && fits && g.Arch == m.Arch && (m.Canon || !g.Canonical) &&
		(len(g.Custodians) > 0 || j.Manifest.Policy.Mode == workunits.VerifyNone)
}
