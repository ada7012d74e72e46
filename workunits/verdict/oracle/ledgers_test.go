package oracle_test

import (
	"encoding/binary"
	"fmt"
	"slices"

	"pgregory.net/rapid"

	"github.com/talka-grid/talka/workunits"
	"github.com/talka-grid/talka/workunits/ledger"
	"github.com/talka-grid/talka/workunits/verdict/oracle"
)

// scribe writes ledgers as no honest grid would: any statement at any place, as
// long as each log keeps its order.
type scribe struct {
	t *rapid.T
	oracle.Job
	entries []ledger.Entry
	length  map[workunits.NodeID]uint64
	next    map[workunits.NodeID]uint32 // index of the next receipt

	stewards, volunteers []workunits.NodeID
	forked               []workunits.NodeID
	grants               []ledger.Entry
	commits              []ledger.Entry
	openings             []ledger.Entry
	receipts             []ledger.Entry
	heads                []workunits.Digest
}

func named(kind string, i int) workunits.NodeID {
	return workunits.NodeID(workunits.Sum(fmt.Appendf(nil, "%s %d", kind, i)))
}

const (
	units      = 4
	volunteers = 8 // that are no stewards
	chainLen   = 3
)

// chainOf is a steward's hash chain of a number, from 0.
func chainOf(n workunits.NodeID, number uint32) *workunits.Chain {
	return workunits.NewChain([32]byte(workunits.Sum(binary.BigEndian.AppendUint32(n[:], number))), chainLen)
}

// newScribe draws a job: its policy, its stewards, its volunteers.
func newScribe(t *rapid.T) *scribe {
	s := &scribe{t: t, length: map[workunits.NodeID]uint64{}, next: map[workunits.NodeID]uint32{}}
	for i := range rapid.IntRange(1, 4).Draw(t, "stewards") {
		s.stewards = append(s.stewards, named("steward", i))
	}
	for i := range volunteers {
		s.volunteers = append(s.volunteers, named("volunteer", i))
	}
	s.volunteers = append(s.volunteers, s.stewards...)
	s.Manifest = s.manifest()
	s.ID = workunits.JobID(workunits.Sum([]byte("job")))
	s.standing()
	for _, n := range s.volunteers {
		if !s.rarely(40, "no identity") {
			s.say(n, workunits.Identity{Arch: "amd64", Anchor: chainOf(n, 0).Value(0), Length: chainLen})
		}
	}
	late := rapid.IntRange(0, len(s.stewards)).Draw(t, "first stewards")
	s.amend(s.stewards[:late])
	return s
}

func (s *scribe) manifest() workunits.Manifest {
	m := workunits.Manifest{
		Network: "test", Publisher: s.stewards[0], Units: units, Limits: workunits.Limits{Tries: 2}, Active: 3, Nominal: 1000,
		Canonical: s.rarely(10, "canonical"),
		Policy: workunits.Policy{Mode: workunits.VerifyAudit, Error: 1e-2, Share: 0.2, Price: rapid.SampledFrom([]float64{10, 10, 1, 0}).Draw(s.t, "price"),
			MaxAgree: rapid.SampledFrom([]uint32{2, 2, 0}).Draw(s.t, "max agree"), MinCopies: rapid.SampledFrom([]uint32{0, 0, 0, 1, 3}).Draw(s.t, "min copies"),
			HistoryCap: rapid.SampledFrom([]uint32{0, 100}).Draw(s.t, "history cap"),
			Compare:    workunits.Comparator{Kind: workunits.CompareBytes}},
	}
	if s.rarely(10, "no verification") {
		m.Policy.Mode = workunits.VerifyNone
	}
	if s.rarely(5, "trusting") {
		m.Policy.Trusted = s.volunteers[:2]
	}
	if s.rarely(4, "numbers") {
		m.Policy.Compare = workunits.Comparator{Kind: workunits.CompareNumbers, Rel: 1e-6}
	}
	if s.rarely(3, "second stage") {
		m.Units, m.Reduce = units-2, &workunits.Stage{}
	}
	return m
}

// standing gives some volunteers a past.
func (s *scribe) standing() {
	for _, n := range s.volunteers {
		if s.rarely(5, "has a past") {
			s.Standing.Stakes = append(s.Standing.Stakes, workunits.Stake{Node: n, Strikes: rapid.Uint32Range(0, 3).Draw(s.t, "strikes"),
				Millis: rapid.SampledFrom([]uint64{500, 50_000, 1_000_000, 1e12}).Draw(s.t, "millis")})
		}
	}
	slices.SortFunc(s.Standing.Stakes, func(x, y workunits.Stake) int { return x.Node.Compare(y.Node) })
}

func (s *scribe) amend(nodes []workunits.NodeID) {
	var list []workunits.Steward
	for _, n := range nodes {
		list = append(list, workunits.Steward{Node: n})
	}
	s.say(s.Manifest.Publisher, workunits.Amendment{Stewards: list})
}

func (s *scribe) say(n workunits.NodeID, b workunits.Body) ledger.Entry {
	r := workunits.Ref{Author: n, Seq: s.length[n]}
	s.length[n]++
	e := ledger.Entry{Ref: r, Hash: workunits.Sum(binary.BigEndian.AppendUint64(n[:], r.Seq)), Body: b}
	s.entries = append(s.entries, e)
	return e
}

// rarely is true once in n times.
func (s *scribe) rarely(n int, what string) bool { return rapid.IntRange(1, n).Draw(s.t, what) == n }

func (s *scribe) pick(list []workunits.NodeID, what string) workunits.NodeID {
	return rapid.SampledFrom(list).Draw(s.t, what)
}

func (s *scribe) entry(list []ledger.Entry, what string) (ledger.Entry, bool) {
	if len(list) == 0 {
		return ledger.Entry{}, false
	}
	// The newest are the likeliest, so that stories come to their end.
	i := rapid.IntRange(0, min(len(list), 6)-1).Draw(s.t, what)
	return list[len(list)-1-i], true
}

// write says so many things at most.
func (s *scribe) write(most int) {
	for range rapid.IntRange(0, most).Draw(s.t, "length") {
		s.step()
	}
	if s.rarely(6, "fork") {
		s.forked = append(s.forked, s.pick(s.volunteers, "forked"))
	}
}

// step says one thing.
func (s *scribe) step() {
	switch rapid.IntRange(0, 21).Draw(s.t, "statement") {
	case 0:
		s.grant()
	case 1, 2:
		s.commit()
	case 3:
		s.receipt()
	case 4:
		s.draw()
	case 5, 6:
		s.open()
	case 7:
		s.store()
	case 8:
		if g, ok := s.entry(s.grants, "ended grant"); ok {
			s.say(s.pick(s.stewards, "who ends"), workunits.Expiry{Grant: g.Ref})
		}
	case 9:
		s.head()
	case 10:
		s.fault()
	case 11:
		s.comparison()
	case 12:
		s.rare()
	case 13, 14, 15, 16:
		s.agreement()
	case 17:
		s.conspiracy()
	default:
		s.story()
	}
}

// rare says what is said seldom.
func (s *scribe) rare() {
	switch rapid.IntRange(0, 6).Draw(s.t, "rare statement") {
	case 0:
		s.amend(s.stewards)
	case 1: // a commit that is never there
		by := s.pick(s.stewards, "who receipts")
		who := s.pick(s.volunteers, "withholds")
		s.next[by]++
		s.say(by, workunits.Receipt{Commit: workunits.Ref{Author: who, Seq: s.length[who] + 1000}, Index: s.next[by]})
	case 2, 3:
		s.exhaust(rapid.Uint32Max(s.Manifest.Total()-1).Draw(s.t, "exhausted unit"))
	case 4:
		s.retry(s.pick(slices.Concat(s.stewards, s.stewards[:1]), "who has it tried again"), rapid.Uint32Max(s.Manifest.Total()-1).Draw(s.t, "unit tried again"))
	case 5:
		s.say(s.pick(s.volunteers, "impostor"), workunits.Amendment{Stewards: []workunits.Steward{{Node: s.pick(s.volunteers, "false steward")}}})
	default:
		s.say(s.pick(s.volunteers, "who"), workunits.StorageReceipt{Job: true})
	}
}

// exhaust has copies of a unit come back void until it fails, or nearly, and then
// mostly has it tried again.
func (s *scribe) exhaust(u uint32) {
	g := s.task()
	g.Units = []uint32{u}
	if s.Manifest.Reduces(u) {
		g.Inputs = s.below()
	}
	for i := range rapid.IntRange(1, 5).Draw(s.t, "void copies") {
		g.To = s.pick(s.volunteers, "grantee")
		e := s.grantBy(s.stewards[i%len(s.stewards)], g)
		s.commits = append(s.commits, s.say(g.To, workunits.Commit{Grant: e.Ref, Bound: e.Hash, Void: []workunits.VoidUnit{{Unit: u, Reason: workunits.VoidWall}}}))
	}
	if s.rarely(2, "tried again") {
		s.retry(s.stewards[0], u)
	}
}

// retry gives a unit further tries, some others too, and one that the job does not have.
func (s *scribe) retry(by workunits.NodeID, unit uint32) {
	b := workunits.Retry{Units: []uint32{s.Manifest.Total()}}
	for u := range s.Manifest.Total() {
		if u == unit || s.rarely(2, "tried again") {
			b.Units = append(b.Units, u)
		}
	}
	slices.Sort(b.Units)
	s.say(by, b)
}

func (s *scribe) grant() ledger.Entry {
	by := s.pick(s.stewards, "grantor")
	if s.rarely(20, "false steward") {
		by = s.pick(s.volunteers, "false grantor")
	}
	return s.grantBy(by, s.task())
}

func (s *scribe) grantBy(by workunits.NodeID, g workunits.Grant) ledger.Entry {
	e := s.say(by, g)
	s.grants = append(s.grants, e)
	return e
}

// task is what a grant asks for.
func (s *scribe) task() workunits.Grant {
	g := workunits.Grant{To: s.pick(s.volunteers, "grantee"), Inputs: s.Manifest.InputsDigest(), Arch: "amd64", Canonical: s.Manifest.Canonical || s.rarely(10, "canonical grant")}
	for u := range s.Manifest.Units {
		if s.rarely(2, "granted unit") {
			g.Units = append(g.Units, u)
		}
	}
	if s.Manifest.Reduce != nil && s.rarely(2, "granted stage") {
		g.Units, g.Inputs = []uint32{s.Manifest.Units}, s.below()
	}
	if s.rarely(6, "arm") {
		g.Arch = "arm64"
	}
	if s.rarely(20, "other inputs") {
		g.Inputs = workunits.Sum([]byte("other"))
	}
	if s.rarely(6, "custodian") {
		g.Custodians = []workunits.NodeID{s.pick(s.stewards, "custodian")}
	}
	return g
}

// below is the digest of the second stage's inputs as they should be.
func (s *scribe) below() workunits.Digest {
	var in workunits.StageInputs
	for u := range s.Manifest.Units {
		in.Results = append(in.Results, outcome(u, 0))
	}
	_, d := in.Encode()
	return d
}

func outcome(u uint32, n int) workunits.Digest {
	return workunits.Sum(fmt.Appendf(nil, "unit %d: %d", u, n))
}

func (s *scribe) commit() {
	if e, ok := s.entry(s.grants, "grant"); ok {
		s.commitTo(e)
	}
}

func (s *scribe) commitTo(e ledger.Entry) ledger.Entry {
	return s.commitOf(e, rapid.SampledFrom([]int{0, 0, 0, 0, 1, 2}).Draw(s.t, "result"))
}

// commitOf commits to one result, right or wrong, of each unit.
func (s *scribe) commitOf(e ledger.Entry, wrong int) ledger.Entry {
	g := e.Body.(workunits.Grant)
	who := g.To
	if s.rarely(20, "thief") {
		who = s.pick(s.volunteers, "thief")
	}
	c := workunits.Commit{Grant: e.Ref, Bound: e.Hash}
	if s.rarely(20, "other bound") {
		c.Bound = workunits.Sum([]byte("other"))
	}
	for _, u := range g.Units {
		if s.rarely(12, "void") {
			c.Void = append(c.Void, workunits.VoidUnit{Unit: u, Reason: workunits.VoidDisk})
			continue
		}
		name := workunits.Copy{Network: s.Manifest.Network, Job: s.ID, Volunteer: who, Unit: u}
		c.Units, c.Hashes = append(c.Units, u), append(c.Hashes, name.CommitHash(outcome(u, wrong), [16]byte{}))
	}
	x := s.say(who, c)
	s.commits = append(s.commits, x)
	return x
}

func (s *scribe) receipt() {
	if c, ok := s.entry(s.commits, "receipted"); ok {
		s.receiptOf(s.pick(s.stewards, "who receipts"), c)
	}
}

func (s *scribe) receiptOf(by workunits.NodeID, c ledger.Entry) {
	s.next[by]++
	r := workunits.Receipt{Commit: c.Ref, Hash: c.Hash, Index: s.next[by]}
	if s.rarely(30, "other hash") {
		r.Hash = workunits.Sum([]byte("other"))
	}
	if r.Index%chainLen == 0 && !s.rarely(20, "no further chain") {
		r.Next = chainOf(by, r.Index/chainLen).Value(0)
	}
	s.receipts = append(s.receipts, s.say(by, r))
}

func (s *scribe) draw() {
	if e, ok := s.entry(s.receipts, "drawn"); ok {
		s.drawOf(e)
	}
}

func (s *scribe) drawOf(e ledger.Entry) {
	r := e.Body.(workunits.Receipt)
	if s.rarely(20, "other index") {
		r.Index++
	}
	number := (r.Index - 1) / chainLen
	d := workunits.Draw{Commit: r.Commit, Index: r.Index, Value: chainOf(e.Author, number).Value(r.Index - number*chainLen)}
	if s.rarely(2, "with another's") {
		d.With = s.pick(s.stewards, "with")
	}
	if len(s.heads) > 0 {
		d.Head = s.heads[len(s.heads)-1]
		if s.rarely(4, "older head") {
			d.Head = rapid.SampledFrom(s.heads).Draw(s.t, "head")
		}
	}
	if s.rarely(30, "chosen value") {
		d.Value = workunits.Sum([]byte("chosen"))
	}
	s.say(e.Author, d)
}

func (s *scribe) open() {
	if c, ok := s.entry(s.commits, "opened"); ok {
		s.openOf(s.pick(slices.Concat(s.stewards, []workunits.NodeID{c.Author}), "who opens"), c)
	}
}

// openOf opens each unit of a commit with the result that fits, if any does.
func (s *scribe) openOf(by workunits.NodeID, c ledger.Entry) {
	commit := c.Body.(workunits.Commit)
	var o workunits.Opening
	o.Commit = c.Ref
	for i, u := range commit.Units {
		name := workunits.Copy{Network: s.Manifest.Network, Job: s.ID, Volunteer: c.Author, Unit: u}
		for n := range 3 {
			d := outcome(u, n)
			if name.CommitHash(d, [16]byte{}) == commit.Hashes[i] != s.rarely(30, "bad opening") {
				o.Units = append(o.Units, workunits.OpenUnit{Unit: u, Result: workunits.Result{Digest: d}})
				break
			}
		}
	}
	s.openings = append(s.openings, s.say(by, o))
}

func (s *scribe) store() {
	if o, ok := s.entry(s.openings, "stored"); ok {
		s.storeOf(s.pick(s.stewards, "keeper"), o)
	}
}

func (s *scribe) storeOf(by workunits.NodeID, o ledger.Entry) {
	var list []uint32
	for _, u := range o.Body.(workunits.Opening).Units {
		list = append(list, u.Unit)
	}
	s.say(by, workunits.StorageReceipt{Results: []workunits.StoredUnits{{Opening: o.Ref, Units: list}}})
}

// head is a head that most stewards state, or one, with credits of any size.
func (s *scribe) head() {
	var h workunits.Head
	for _, n := range slices.SortedFunc(slices.Values(s.volunteers), workunits.NodeID.Compare) {
		h.Logs = append(h.Logs, workunits.LogHead{Author: n, Len: s.length[n]})
		h.Credit = append(h.Credit, rapid.SampledFrom([]uint64{0, 0, 1, 50, 2000, 1e6, 1e9}).Draw(s.t, "credit"))
	}
	s.heads = append(s.heads, h.ID())
	for _, n := range s.stewards {
		if !s.rarely(4, "does not state it") {
			s.say(n, h)
		}
	}
}

func (s *scribe) fault() {
	name := rapid.SampledFrom([]workunits.FaultName{workunits.FaultWrong, workunits.FaultWrong, workunits.FaultAbsent, workunits.FaultWithheld}).Draw(s.t, "fault")
	against := s.pick(s.volunteers, "accused")
	by := s.stewards
	if s.rarely(2, "one accuser") {
		by = []workunits.NodeID{s.pick(s.volunteers, "accuser")}
	}
	for _, n := range by {
		s.say(n, workunits.Fault{Name: name, Against: against})
	}
}

func (s *scribe) comparison() {
	u := rapid.Uint32Max(s.Manifest.Total()-1).Draw(s.t, "compared unit")
	a := rapid.IntRange(0, 2).Draw(s.t, "first result")
	c := workunits.Comparison{Program: s.Manifest.Policy.Compare.ID(), Unit: u, A: outcome(u, a), B: outcome(u, (a+1+rapid.IntRange(0, 1).Draw(s.t, "second result"))%3),
		Equal: !s.rarely(3, "unequal")}
	by := s.stewards
	if s.rarely(3, "one answers") {
		by = []workunits.NodeID{s.pick(s.volunteers, "who answers")}
	}
	for _, n := range by {
		s.say(n, c)
	}
}

// agreement is two or three volunteers, one after another, with the same task.
func (s *scribe) agreement() {
	g := s.task()
	for i := range rapid.IntRange(2, 3).Draw(s.t, "copies") {
		g.To = s.pick(s.volunteers, "grantee")
		s.copy(s.grantBy(s.stewards[i%len(s.stewards)], g))
	}
}

// conspiracy is two volunteers who agree on a unit and then are proven wrong about
// another.
func (s *scribe) conspiracy() {
	g := s.task()
	g.Inputs = s.Manifest.InputsDigest()
	for u := range uint32(2) {
		g.Units = []uint32{u}
		for i, n := range s.volunteers[:2] {
			g.To = n
			s.finish(s.commitOf(s.grantBy(s.stewards[i%len(s.stewards)], g), int(u)))
		}
	}
	g.To = s.Manifest.Publisher
	s.finish(s.commitOf(s.grantBy(s.stewards[len(s.stewards)-1], g), 0))
}

// story is a copy that goes as it should, to its end or nearly, after which more may be
// told of its volunteer.
func (s *scribe) story() {
	s.copy(s.grant())
	if s.rarely(4, "more is told") {
		s.head()
	}
}

func (s *scribe) copy(grant ledger.Entry) { s.finish(s.commitTo(grant)) }

// finish takes a commit to its end or nearly.
func (s *scribe) finish(c ledger.Entry) {
	for _, n := range s.stewards {
		s.receiptOf(n, c)
	}
	if s.rarely(12, "undrawn") {
		return
	}
	for _, r := range s.receipts[len(s.receipts)-len(s.stewards):] {
		s.drawOf(r)
	}
	if s.rarely(6, "unopened") {
		return
	}
	s.openOf(s.stewards[0], c)
	for _, n := range s.stewards {
		if !s.rarely(5, "keeps nothing") {
			s.storeOf(n, s.openings[len(s.openings)-1])
		}
	}
}

// tell lists the statements one a line, for reports.
func (s *scribe) tell() string {
	text := fmt.Sprintf("policy %+v\nstanding %v\nstewards %v, forked %v\n", s.Manifest.Policy, s.Standing, s.stewards, s.forked)
	for _, e := range s.entries {
		if e.Body.Kind() == workunits.KindIdentity {
			continue
		}
		text += fmt.Sprintf("%.6s/%d %s %+v\n", e.Author, e.Seq, e.Body.Kind(), e.Body)
	}
	return text
}
