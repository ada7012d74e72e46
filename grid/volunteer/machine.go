// Package volunteer decides what a volunteer asks for, executes and commits,
// over all the jobs it supports.
//
// A Machine is a pure state machine: Step takes the time and one input and
// returns effects. It requests units from the stewards of trusted projects'
// jobs, starts as many as its policy has slots for, seals what they produced to
// the custodians that each grant names, and commits.
//
// Order of effects: Segments and Blocks must be durable before any of Send
// leaves. A grant is nothing to be kept: after a crash its steward sends it again;
// commits live in this node's log and are offered again.
//
// A Machine belongs to one goroutine. Times are milliseconds since 1970.
package volunteer

import (
	"cmp"
	"io"
	"maps"
	"slices"

	"github.com/talka-grid/talka/grid/wire"
	"github.com/talka-grid/talka/workunits"
	"github.com/talka-grid/talka/workunits/ledger"
)

// Times in milliseconds.
const (
	ahead       = 4_000 // of work to hold for each slot, at most
	low         = 2_000 // of work that waits: below it more is asked for
	commitAfter = 2_000 // a finished copy waits so long for others of its grant
	patience    = 5_000 // between requests of a volunteer that stewards call when there is work
	answerTime  = 5_000 // a steward that has not answered by then is passed over
	downTime    = 4_000
	offerTime   = 5_000
)

// maxAsk is the most units asked for at once.
const maxAsk = 128

type (
	node = workunits.NodeID
	ref  = workunits.Ref
)

// Config is what a machine is made of. Rand must be secret and unpredictable
// outside simulations.
type Config struct {
	Self  workunits.NodeID
	Arch  string // platform that executes here, see workunits.Identity
	Canon bool   // can make NaNs canonical
	Rand  io.Reader
}

// Policy is what the owner allows now.
type Policy struct {
	Slots   int    // units at a time; 0 pauses
	Percent int    // of its time that each may work, 1 to 100; 0: all
	Memory  uint64 // bytes for one unit
}

// Input is something that happened.
type Input interface{ input() }

// Tick lets time pass.
type Tick struct{}

// SetPolicy changes what the owner allows.
type SetPolicy struct{ Policy Policy }

// Join tells of a job of a trusted project: its manifest, its stewards and the
// log that this node writes in it. Steward is whether this node is one of them.
type Join struct {
	Job      workunits.JobID
	Manifest workunits.Manifest
	Stewards []workunits.Steward
	Author   *ledger.Author
	Identity workunits.Identity // said at the head of the log, if nothing was; its proof of work in any case
	Steward  bool
}

// Holds tells which large inputs of a job are here.
type Holds struct {
	Job  workunits.JobID
	Held []workunits.Link
}

// Leave drops a job: it ended, or its project is trusted no more.
type Leave struct{ Job workunits.JobID }

// Received is a message from a peer, or from this node's own steward.
type Received struct {
	From workunits.NodeID
	Msg  wire.Message
}

// Unreachable tells that a message to the peer could not be sent.
type Unreachable struct{ Peer workunits.NodeID }

// Finished reports on a Run. A result is durable before it is reported, except
// for Block, which is the outcome's record if it is small enough to travel.
type Finished struct {
	Task   Task
	Void   workunits.VoidReason // empty for a result
	Result workunits.Result
	Block  []byte
	Millis uint64 // processor time
}

func (Tick) input()        {}
func (SetPolicy) input()   {}
func (Join) input()        {}
func (Holds) input()       {}
func (Leave) input()       {}
func (Received) input()    {}
func (Unreachable) input() {}
func (Finished) input()    {}

// Task names one copy to execute.
type Task struct {
	Job       workunits.JobID
	Grant     workunits.Ref
	Unit      uint32
	Canonical bool
}

// Said is a segment of this node's log in a job, and the small results that it
// commits to. Another role of this node in the job must be told of the entries.
type Said struct {
	Job     workunits.JobID
	Raw     []byte
	Entries []ledger.Entry
	Blocks  [][]byte
}

// Run starts a copy; Hints are nodes that have its program and inputs. Inputs is
// the digest that its grant binds it to, in a second stage the one of the record
// of what it works on.
type Run struct {
	Task
	Inputs workunits.Digest
	Hints  []workunits.NodeID
	Rest   []workunits.NodeID // who has them if none of Hints does
}

// Effects is what a step asks for, see the package comment for the order.
type Effects struct {
	Said []Said
	Send []wire.Outgoing // to this node itself: for its own steward
	Run  []Run
	Stop []Task // no longer wanted; each is still reported as finished

	// Wrong are jobs in which a copy of this node was proven wrong, each once, as
	// stewards say.
	Wrong []workunits.JobID
}

type job struct {
	Join
	next     uint64 // not to be asked for work before
	asked    node   // whose answer is awaited
	askedAt  uint64
	turn     int    // whom to ask next
	offer    uint64 // when to tell how long the log is
	offers   int    // since it grew
	credit   int
	refused  int     // rounds of requests without a grant
	unitTime float64 // milliseconds, smoothed
	reason   string  // why the last answer held no grant
	grants   map[ref]*batch
	holds    []workunits.Link // large inputs that are here
	seen     []grantSeen      // newest last
	words    map[node]word    // the last of each steward
	wrong    bool             // they are believed that a copy of this node was
}

// word is what a steward says beside its answer: which stewards do not act as they
// should, and whether a copy of this node was proven wrong.
type word struct {
	shuns []node
	wrong bool
}

// grantSeen is a grant that a steward signed, whether it tells others or not.
type grantSeen struct {
	ref
	raw []byte
}

// maxSeen is how many grants of a job are remembered to be shown.
const maxSeen = 4096

// batch is a grant that this node works on.
type batch struct {
	ref
	bound workunits.Digest
	workunits.Grant
	steward  node
	hints    []node
	queue    []uint32
	running  map[uint32]bool
	finished []Finished // not committed yet, ascending by unit at commit
	since    uint64     // of the oldest in finished
	received uint64
}

// Machine is the volunteer's state. Make it with New.
type Machine struct {
	Config
	now    uint64
	fx     Effects
	policy Policy
	jobs   map[workunits.JobID]*job
	down   map[node]uint64
	last   workunits.JobID // whose turn it was
	shares shares
}

// New returns a machine that has no jobs and, until SetPolicy, no slots.
func New(c Config) *Machine {
	return &Machine{Config: c, jobs: map[workunits.JobID]*job{}, down: map[node]uint64{}, shares: newShares()}
}

// Step takes one input and returns what is to be done.
func (m *Machine) Step(now uint64, in Input) Effects {
	m.now, m.fx = now, Effects{}
	switch in := in.(type) {
	case SetPolicy:
		m.policy = in.Policy
	case SetShare:
		m.shares.of[in.Project] = in.Share
	case Join:
		m.join(in)
	case Holds:
		if j := m.jobs[in.Job]; j != nil {
			j.holds = in.Held[:min(len(in.Held), wire.MaxHeld)]
		}
	case Leave:
		m.leave(in.Job)
	case Received:
		m.receive(in.From, in.Msg)
	case Unreachable:
		m.unreachable(in.Peer)
	case Finished:
		m.finished(in)
	}
	for _, j := range m.sorted() {
		m.commitDue(j)
		m.offer(j)
	}
	m.start()
	m.ask()
	return m.fx
}

func (m *Machine) join(in Join) {
	if j := m.jobs[in.Job]; j != nil {
		j.Stewards, j.Steward = in.Stewards, in.Steward
		return
	}
	m.shares.joins(in.Manifest.ProjectID(), m.sorted())
	j := &job{Join: in, grants: map[ref]*batch{}, words: map[node]word{}}
	m.jobs[in.Job] = j
	if !in.Author.Begun() && !j.mute() {
		m.say(j, in.Identity)
	}
}

func (m *Machine) leave(id workunits.JobID) {
	j := m.jobs[id]
	if j == nil {
		return
	}
	for _, g := range j.batches() {
		for _, u := range slices.Sorted(maps.Keys(g.running)) {
			m.fx.Stop = append(m.fx.Stop, g.task(id, u))
		}
	}
	delete(m.jobs, id)
}

func (g *batch) task(id workunits.JobID, u uint32) Task {
	return Task{Job: id, Grant: g.ref, Unit: u, Canonical: g.Canonical}
}

func (m *Machine) sorted() []*job {
	return slices.SortedFunc(maps.Values(m.jobs), func(x, y *job) int { return slices.Compare(x.Job[:], y.Job[:]) })
}

func (j *job) batches() []*batch {
	return slices.SortedFunc(maps.Values(j.grants), func(x, y *batch) int {
		return cmp.Or(cmp.Compare(x.received, y.received), x.ref.Author.Compare(y.ref.Author), cmp.Compare(x.Seq, y.Seq))
	})
}

func (m *Machine) say(j *job, bodies ...workunits.Body) []byte {
	raw, entries := j.Author.Say(bodies...)
	m.fx.Said = append(m.fx.Said, Said{Job: j.Job, Raw: raw, Entries: entries})
	j.offer, j.offers = m.now+offerTime, 0
	return raw
}

func (m *Machine) send(to node, msg wire.Message) {
	m.fx.Send = append(m.fx.Send, wire.Outgoing{To: to, Msg: msg})
}

func (m *Machine) up(n node) bool { return m.now >= m.down[n] }

func (m *Machine) unreachable(n node) {
	m.down[n] = m.now + downTime
	for _, j := range m.sorted() {
		if j.asked == n {
			j.asked = node{}
			j.turn++
		}
	}
}

func (m *Machine) receive(from node, msg wire.Message) {
	j := m.jobs[msg.JobID()]
	if j == nil {
		return
	}
	switch msg := msg.(type) {
	case wire.WorkReply:
		m.reply(j, from, msg)
	case wire.Pull:
		m.pull(j, from, msg)
	}
}

// pull tells a peer what it lacks of the logs here, and which grants stewards
// signed beyond what it has of their logs: no steward can hide what it said.
func (m *Machine) pull(j *job, from node, p wire.Pull) {
	l := j.Author.Ledger()
	var raw [][]byte
	if p.Part {
		raw = l.MissingOf(p.Have, wire.MaxFrame/2)
	} else {
		raw = l.Missing(p.Have, wire.MaxFrame/2)
	}
	have := map[node]uint64{}
	for _, h := range p.Have {
		have[h.Author] = h.Len
	}
	size := 0
	for _, g := range j.seen {
		if n, named := have[g.Author]; (named || !p.Part) && g.Seq >= n && g.Seq >= l.Len(g.Author) && size < wire.MaxFrame/2 {
			size += len(g.raw)
			raw = append(raw, g.raw)
		}
	}
	if len(raw) > 0 || p.Ask {
		m.send(from, wire.Push{Job: j.Job, Segments: raw[:min(len(raw), wire.MaxSegments)]})
	}
}

// held counts the units that wait or run, and those that run.
func (m *Machine) held() (waiting, running int) {
	for _, j := range m.jobs {
		for _, g := range j.grants {
			waiting += len(g.queue)
			running += len(g.running)
		}
	}
	return waiting, running
}

// start runs waiting units while there are slots, oldest grants first.
func (m *Machine) start() {
	waiting, running := m.held()
	jobs := m.sorted()
	for ; waiting > 0 && running < m.policy.Slots; running++ {
		m.shares.order(jobs, (*job).running)
		waiting--
		m.startOne(jobs)
	}
}

// startOne starts the first unit that waits, of the first job that has one.
func (m *Machine) startOne(jobs []*job) {
	for _, j := range jobs {
		for _, g := range j.batches() {
			if len(g.queue) > 0 {
				u := g.queue[0]
				g.queue = g.queue[1:]
				g.running[u] = true
				m.fx.Run = append(m.fx.Run, Run{g.task(j.Job, u), g.Inputs, g.hints, j.rest()})
				return
			}
		}
	}
}

// mute reports whether this node's log was cut, so that it cannot go on: its key
// signs elsewhere too.
func (j *job) mute() bool { return j.Author.Ledger().Forked(j.Author.ID) }

func (m *Machine) finished(f Finished) {
	j := m.jobs[f.Task.Job]
	if j == nil {
		return
	}
	g := j.grants[f.Task.Grant]
	if g == nil || !g.running[f.Task.Unit] {
		return
	}
	delete(g.running, f.Task.Unit)
	m.shares.uses(j.Manifest.ProjectID(), f)
	if len(g.finished) == 0 {
		g.since = m.now
	}
	g.finished = append(g.finished, f)
	if f.Void == "" && !j.Manifest.Reduces(f.Task.Unit) {
		each := float64(f.Millis)
		if j.unitTime == 0 {
			j.unitTime = max(each, 1)
		}
		j.unitTime += (each - j.unitTime) / 8
	}
}

// JobView is what a volunteer sees of its part in a job.
type JobView struct {
	Job      workunits.JobID
	Waiting  int
	Running  int
	Credit   int    // own copies in accepted units, as stewards say
	Reason   string // why a steward had nothing, empty if it had
	Stewards int    // that can be asked now
}

// View describes the jobs, in the order of their ids.
func (m *Machine) View() (list []JobView) {
	for _, j := range m.sorted() {
		v := JobView{Job: j.Job, Credit: j.credit, Reason: j.reason, Stewards: len(j.candidates(m))}
		for _, g := range j.grants {
			v.Waiting += len(g.queue)
			v.Running += len(g.running)
		}
		list = append(list, v)
	}
	return list
}
