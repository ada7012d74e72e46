// Package steward decides what a steward of one job says and does.
//
// A Machine is a pure state machine: Step takes the time and one input and
// returns effects. It keeps the job's ledger, answers volunteers' requests with
// grants, receipts their commits, draws, opens what it was made custodian of,
// keeps results, watches its fellow stewards, and acts for those that are silent.
//
// Order of effects: Segments and Blocks must be durable before any of Send or
// Announce leaves, so that a crash at any moment loses nothing that others
// rely on. Everything else in a Machine is rebuilt from the ledger.
//
// A Machine belongs to one goroutine. Times are milliseconds since 1970.
package steward

import (
	"cmp"
	"crypto/ed25519"
	"encoding/binary"
	"io"
	"math"
	"slices"

	"github.com/talka-grid/talka/grid/wire"
	"github.com/talka-grid/talka/workunits"
	"github.com/talka-grid/talka/workunits/ledger"
	"github.com/talka-grid/talka/workunits/verdict"
)

// Times, in milliseconds. A silent steward is replaced within Silence plus one
// Heartbeat, which is less than 10 s.
const (
	Heartbeat    = 2_000
	Silence      = 6_000
	patience     = 3_000  // for another steward's receipt, or a custodian's opening
	givingUp     = 30_000 // on custodians that do not open, and results that nobody serves
	linger       = 2_000  // until word of a result that enough others keep
	leaseGrace   = 10_000 // beyond the time that the units should take
	stageFetch   = 20     // for each result that a second stage works on
	announceTime = 15_000
	announceLife = 120_000

	headEvery    = 16     // accepted units, at least, from head to head
	overdueLease = 30_000 // until others end a lease that its grantor does not
	recently     = 4_000  // since when a log's growth is told in heartbeats
	wholeBeats   = 30     // heartbeats until one tells of every log
)

// underWay is in place of the time to ask again until there is an answer: what was asked
// for may be large, and a comparator may take long or wait until there is room for it.
const underWay = math.MaxUint64

type (
	node = workunits.NodeID
	ref  = workunits.Ref
)

// Config is what a machine is made of. Rand must be secret and unpredictable
// outside simulations; Author writes to Ledger, which may hold earlier history.
type Config struct {
	Key      ed25519.PrivateKey
	Job      workunits.JobID
	Manifest workunits.Manifest
	Standing workunits.StakeTable // that the manifest names
	Author   *ledger.Author
	Identity workunits.Identity // as Identify made it with Secret
	Secret   [32]byte           // seed of the hash chain, the same after a restart
	Rand     io.Reader
	Restored bool // part of the own log came from others: the disk may lack what it claims

	// Snapshot is that of this machine's book in an earlier life, nil for none: what
	// New need not read in the ledger. It is kept, and not to be changed.
	Snapshot []byte
	base     map[node]uint64 // statements of each author that it tells of, nil for none
}

// Input is something that happened.
type Input interface{ input() }

// Tick lets time pass; the driver gives one at least every Heartbeat.
type Tick struct{}

// Received is a message from a peer.
type Received struct {
	From workunits.NodeID
	Msg  wire.Message
}

// Unreachable tells that a message to the peer could not be sent.
type Unreachable struct{ Peer workunits.NodeID }

// Publish is the publisher's order to go ahead with a succession list.
type Publish struct{ Stewards []workunits.Steward }

// Cancel is the publisher's order to end the job.
type Cancel struct{ Reason string }

// Collect is the publisher's order to say that it has the results of a job that is over.
type Collect struct{}

// Retry is the publisher's order to try again the units that have failed.
type Retry struct{}

// Fetched answers a Fetch: the content is durable here, or Failed.
type Fetched struct {
	Fetch  Fetch
	Failed bool
}

// Local is a segment that another role of this node said in the same ledger.
type Local struct{ Entries []ledger.Entry }

func (Tick) input()        {}
func (Received) input()    {}
func (Unreachable) input() {}
func (Publish) input()     {}
func (Cancel) input()      {}
func (Collect) input()     {}
func (Retry) input()       {}
func (Fetched) input()     {}
func (Local) input()       {}

// Fetch asks for content: the job's program and inputs, or a result with all
// that it links to.
type Fetch struct {
	Job    bool
	Result workunits.Result
	Hints  []workunits.NodeID
	Unit   uint32
}

// Event is something that people may want to follow.
type Event struct {
	Kind string
	Node workunits.NodeID
	Unit uint32
	Text string
}

// Effects is what a step asks for, see the package comment for the order.
type Effects struct {
	Segments [][]byte
	Blocks   [][]byte
	Send     []wire.Outgoing
	Announce *workunits.Announcement // to be signed
	Own      []wire.WorkReply        // answers to this node's own requests
	Recruit  int                     // stewards to be found and published, the publisher's only
	Fetch    []Fetch
	Compare  []Compare
	Audit    *Audit // the answer to Spare, if there is something to do
	Events   []Event
}

// Machine is the steward's state. Make it with New.
type Machine struct {
	Config
	self     node
	ledger   *ledger.Ledger
	book     *verdict.Book
	chains   map[uint32]*workunits.Chain // the one in use, and perhaps the one before or after
	pub, prv [32]byte

	now    uint64
	fx     Effects
	say    []workunits.Body // said at the end of the step, in one segment
	spoken [][]byte         // own segments of the step, for the fellow stewards
	unread []ledger.Entry   // that pushes brought, read together
	doubt  *doubt           // nil once the own log is known to be whole

	heard     map[node]uint64 // when a fellow steward was last heard, while it can be reached
	lastHeard map[node]uint64
	acting    []node // the active stewards of this step, nil until they are worked out
	ranked    []node // those that ranks are of
	ranks     map[uint32][]node
	owed      map[node][]debt
	claims    map[node]claim
	loose     map[ref]uint64 // commits to grants that are not here, when to ask their volunteers
	untrue    map[node]bool  // stated what the ledger does not bear out
	missed    map[node]bool  // said to be absent by this steward
	recruitAt uint64
	swept     uint32 // the unit that sweep looks at next
	toSweep   uint32 // how many are left
	sweptFor  uint64 // the stewards that were up when it began
	beat      uint64 // when the next heartbeat is due
	beats     int
	grew      map[node]uint64 // logs that grew lately, when
	announce  uint64
	ended     bool // announced the end

	receipts  uint32         // said so far
	undrawn   []pendingDraw  // own receipts without own draw, oldest first
	thin      map[ref]bool   // commits that may want a receipt
	leases    map[ref]uint64 // ends of outstanding grants
	lent      map[node]int   // units of those, by volunteer
	lapsed    map[node]lapse
	delivered map[node]bool   // who committed a result
	grantees  map[node]bool   // who was granted anything
	touches   map[node]*touch // of volunteers that hold units of this steward's
	boxes     map[ref]*workunits.SealedOpening
	due       map[uint32]uint64 // units with openings due, since when
	toOpen    map[ref][]workunits.OpenUnit
	toStore   map[ref][]uint32 // results that are here, by opening
	storeAt   uint64           // when toStore was empty

	blocks   map[workunits.Digest][]byte // results that came beside statements
	have     map[workunits.Digest]bool   // results that are durable here
	fetching map[uint32]uint64           // units whose results were asked for: when again, or underWay
	agreed   map[uint32]uint64           // units that too few stewards keep, since when
	lacking  map[uint32]uint64           // agreed units whose results are not here, since when
	content  content
	retried  bool // its fetch failed once
	near     near

	accused   map[node]bool
	compared  map[uint32]bool
	answers   map[workunits.Comparison]bool // own ones, as if all said no
	agrees    map[pair]bool                 // what comparators said
	asked     map[pair]uint64               // what they were asked: when again, or underWay
	unproved  map[uint32][]told             // others' answers about a unit that are not checked yet
	states    []verdict.State               // of each unit, as told in events
	heads     map[workunits.Digest]*headSeen
	past      past
	topHead   workunits.Digest // id of the last co-signed head
	headAt    int              // accepted units at the last own head, about so many after a restart
	audits    int              // own copies of units that were accepted
	sealing   bool
	reopened  bool             // units were reopened, or are tried again, since the seal
	standings uint32           // own statements of stakes
	staged    workunits.Digest // the record of the second stage's inputs that is kept here

	wanting            map[uint32]*want // open units that were granted before
	ready              ready
	dry                uint64            // since when this steward has nothing to grant, 0 while it has
	askedStaked        uint64            // when one did that is not poor, and how many further copies went
	checks, poorChecks int               // to all, and to the poor
	bar                float64           // of the stakes, and how many copies burned
	burned             int               // lives had made, when this steward last stated a head
	wantedAt           uint64            // when a volunteer that may get units, but for the publisher, last asked
	idle               []node            // who was refused for want of units, longest first
	news               []uint32          // units that want a copy since this step
	askers             map[node]asker    // who asked for work lately
	requests           map[node]lastAsk  // for Funnel
	few, unasked       bool              // see whoAsks
	kinds              kinds             // see usual
	cursor             map[uint32]uint32 // by shard: units below were granted before
	lastOf             map[uint32]uint32 // by another's shard: this unit and those above were granted before
	unitTime           float64           // milliseconds of processor time, smoothed
}

// content tells whether the job's program and inputs are here.
type content uint8

const (
	contentUnknown content = iota
	contentAsked
	contentHere
)

// headSeen is a head with the stewards that stated it.
type headSeen struct {
	head    workunits.Head
	by      map[node]bool
	checked bool
	here    int // of its logs, the first ones that are here so far
}

type pendingDraw struct {
	commit ref
	index  uint32
	since  uint64
}

// New makes the machine from the ledger, which may be empty or a restart's. If that
// cannot be read, see its Err, the machine is not to be used.
func New(c Config) *Machine {
	b := c.readBook()
	if b == nil {
		b = verdict.NewWith(c.Job, c.Manifest, c.Standing)
	}
	return resume(c, b)
}

// empty is a machine that knows nothing yet but the book.
func empty(c Config, b *verdict.Book) *Machine {
	m := &Machine{
		Config: c, self: workunits.NodeIDOf(c.Key), ledger: c.Author.Ledger(), book: b, states: make([]verdict.State, c.Manifest.Total()),
		chains: map[uint32]*workunits.Chain{}, heard: map[node]uint64{}, lastHeard: map[node]uint64{}, ranks: map[uint32][]node{}, owed: map[node][]debt{},
		claims: map[node]claim{}, loose: map[ref]uint64{}, untrue: map[node]bool{}, missed: map[node]bool{}, lent: map[node]int{}, lapsed: map[node]lapse{}, delivered: map[node]bool{}, grantees: map[node]bool{},
		unasked: true, doubt: &doubt{answered: map[node]bool{}}, thin: map[ref]bool{}, leases: map[ref]uint64{}, touches: map[node]*touch{},
		boxes: map[ref]*workunits.SealedOpening{}, due: map[uint32]uint64{},
		toOpen: map[ref][]workunits.OpenUnit{}, toStore: map[ref][]uint32{},
		blocks: map[workunits.Digest][]byte{}, have: map[workunits.Digest]bool{}, fetching: map[uint32]uint64{}, lacking: map[uint32]uint64{}, agreed: map[uint32]uint64{},
		accused: map[node]bool{}, compared: map[uint32]bool{}, answers: map[workunits.Comparison]bool{}, agrees: map[pair]bool{}, asked: map[pair]uint64{}, unproved: map[uint32][]told{},
		grew: map[node]uint64{}, heads: map[workunits.Digest]*headSeen{}, wanting: map[uint32]*want{}, askers: map[node]asker{}, requests: map[node]lastAsk{}, cursor: map[uint32]uint32{}, lastOf: map[uint32]uint32{},
	}
	m.pub, m.prv = workunits.EncryptionKey(c.Key)
	return m
}

// chainLength is how many commits a steward can receipt with one hash chain.
func chainLength(m workunits.Manifest) uint32 { return min(max(64*m.Units, 1<<10), 1<<16) }

// Identify completes a node's identity for a job with the anchor of its first hash
// chain, of Length values if that is set. A node says the same in every role,
// since its log has one beginning.
func Identify(id workunits.Identity, m workunits.Manifest, secret [32]byte) workunits.Identity {
	id.Length = cmp.Or(id.Length, chainLength(m))
	id.Anchor = chain(secret, 0, id.Length).Value(0)
	return id
}

// chain is a node's hash chain of a number, from 0.
func chain(secret [32]byte, number, length uint32) *workunits.Chain {
	if number > 0 {
		secret = workunits.Sum(binary.BigEndian.AppendUint32(secret[:], number))
	}
	return workunits.NewChain(secret, length)
}

// chain makes one of the own chains, or finds it.
func (m *Machine) chain(number uint32) *workunits.Chain {
	if c := m.chains[number]; c != nil {
		return c
	}
	if len(m.chains) > 1 {
		clear(m.chains)
	}
	m.chains[number] = chain(m.Secret, number, m.Identity.Length)
	return m.chains[number]
}

// value is an own value, from 1.
func (m *Machine) value(index uint32) workunits.Digest {
	number := (index - 1) / m.Identity.Length
	return m.chain(number).Value(index - number*m.Identity.Length)
}

// Book is the machine's view of the verdicts; it changes with every Step.
func (m *Machine) Book() *verdict.Book { return m.book }

// Step takes inputs and returns what is to be done. Those of one
// step are answered together, which takes fewer segments. Entries of the own log
// come first, as whatever is said now follows them in it.
func (m *Machine) Step(now uint64, inputs ...Input) Effects {
	if m.now == 0 {
		m.wake(now)
	}
	m.now, m.fx, m.say, m.spoken, m.acting = now, Effects{}, nil, nil, nil
	slices.SortStableFunc(inputs, func(x, y Input) int { return cmp.Compare(turn(x), turn(y)) })
	for _, in := range inputs {
		if _, publish := in.(Publish); publish {
			m.doubt = nil // its first words
		}
		if m.doubt != nil {
			m.catchUp(in)
		} else {
			m.begin()
			m.handle(in)
		}
	}
	m.readUp()
	m.flush()
	return m.fx
}

// turn orders the inputs of a step: pushes come together, as reading them at once
// costs less.
func turn(in Input) int {
	if _, local := in.(Local); local {
		return 0
	}
	if isPush(in) {
		return 1
	}
	return 2
}

func isPush(in Input) bool {
	r, ok := in.(Received)
	if ok {
		_, ok = r.Msg.(wire.Push)
	}
	return ok
}

func (m *Machine) handle(in Input) {
	if !isPush(in) {
		m.readUp()
	}
	switch in := in.(type) {
	case Tick:
		m.tick()
	case Received:
		m.met(in.From)
		m.receive(in.From, in.Msg)
	case Unreachable:
		delete(m.heard, in.Peer)
		m.acting = nil
	case Publish:
		m.speak(workunits.Amendment{Stewards: in.Stewards})
		m.beat = 0
		m.tick()
	case Cancel:
		m.speak(workunits.Cancel{Reason: in.Reason})
	case Collect:
		if m.over() && !m.book.Collected() {
			m.speak(workunits.Collected{Results: m.book.Results()})
		}
	case Retry:
		m.retry()
	case Spare:
		m.spare()
	case Fetched:
		m.fetched(in)
	case Local:
		m.entries(in.Entries)
	case Audited:
		m.audited(in)
	case Compared:
		m.comparedTo(in)
	}
}

// begin opens the own log.
func (m *Machine) begin() {
	if !m.Author.Begun() {
		m.speak(m.Identity)
	}
}

// speak says statements at once, as a segment of their own.
func (m *Machine) speak(bodies ...workunits.Body) []byte {
	if m.mute() {
		return nil
	}
	raw, entries := m.Author.Say(bodies...)
	m.fx.Segments = append(m.fx.Segments, raw)
	m.spoken = append(m.spoken, raw)
	m.entries(entries)
	return raw
}

// Bounds of a segment, well below its limits.
const (
	maxSaid  = 64
	maxBytes = workunits.MaxSegment / 8 // beyond which nothing is added
)

// batch is how many of the statements go into the next segment.
func batch(say []workunits.Body) int {
	bytes := 0
	for i, b := range say {
		if bytes > maxBytes || i == maxSaid {
			return i
		}
		bytes += len(workunits.Encode(b))
	}
	return len(say)
}

// sayAll says what the step collected so far.
func (m *Machine) sayAll() {
	for m.collect(); len(m.say) > 0 && !m.mute(); m.collect() {
		n := batch(m.say)
		next := m.say[:n:n]
		m.say = m.say[n:]
		m.speak(next...)
	}
}

// flush says what the step collected and pushes all new own segments to the
// fellow stewards that are awake.
func (m *Machine) flush() {
	m.sayAll()
	if m.ended != m.over() {
		m.ended = m.over()
		m.announce = 0
		m.announcing()
	}
	m.call()
	if len(m.spoken) == 0 {
		return
	}
	var small [][]byte
	for _, b := range m.fx.Blocks {
		if len(b) <= workunits.MaxInline && len(small) < wire.MaxBlocks {
			small = append(small, b)
		}
	}
	for _, s := range m.book.Stewards() {
		if s.Node != m.self && m.awake(s.Node) {
			m.send(s.Node, wire.Push{Job: m.Job, Segments: m.spoken, Blocks: small})
		}
	}
}

func (m *Machine) send(to node, msg wire.Message) {
	if to != m.self {
		m.fx.Send = append(m.fx.Send, wire.Outgoing{To: to, Msg: msg})
	}
}

func (m *Machine) event(kind string, n node, unit uint32, text string) {
	m.fx.Events = append(m.fx.Events, Event{kind, n, unit, text})
}

// over reports whether the job wants nothing more.
func (m *Machine) over() bool { return m.book.Done() || m.book.Cancelled() != nil }

func (m *Machine) publisher() bool { return m.self == m.Manifest.Publisher }
