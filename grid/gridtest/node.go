package gridtest

import (
	"crypto/ed25519"
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"slices"

	"github.com/talka-grid/talka/grid/steward"
	"github.com/talka-grid/talka/grid/volunteer"
	"github.com/talka-grid/talka/grid/wire"
	"github.com/talka-grid/talka/workunits"
	"github.com/talka-grid/talka/workunits/compare"
	"github.com/talka-grid/talka/workunits/ledger"
)

// Node is one simulated node: a disk that outlives crashes, and machines that
// do not.
type Node struct {
	Name  string
	ID    workunits.NodeID
	Arch  string
	Canon bool // can make NaNs canonical
	Slots int
	Ways  Ways // how it executes

	w        *World
	key      ed25519.PrivateKey
	disk     disk
	up       bool
	wants    bool                     // volunteers for the job
	begun    map[asked]bool           // of its steward, and not answered
	auditing bool                     // executes a unit that its job's steward asked to be audited
	life     int                      // counts restarts
	clock    int64                    // milliseconds that its clock is ahead
	addr     int                      // where it is found; changes when it moves
	knows    map[workunits.NodeID]int // addresses of others, as far as they differ from the first
	yes      bool                     // agrees to be a steward when asked

	restored bool               // got part of its own log from others
	asks     []workunits.NodeID // the only stewards that it asks for work, if any
	trap     string             // crash at the next statement of this kind, see CrashOn
	denied   bool               // told another history, see Ways.Forks
	sent     bool               // whether what the trap's statement is in still leaves

	ledger    *ledger.Ledger
	author    *ledger.Author
	steward   *steward.Machine
	waiting   []steward.Input // that it answers together
	answered  uint64          // when it did last
	ticks     int
	volunteer *volunteer.Machine
	crook     *crook
}

// disk is what is durable on a node.
type disk struct {
	segments  [][]byte // in the order of their arrival
	has       map[workunits.Digest]bool
	blocks    map[workunits.Digest][]byte
	job       bool // the job's manifest
	content   bool // the job's program and inputs
	stewards  []workunits.Steward
	steward   bool // keeps the job as one of its stewards
	volunteer bool
	snapshot  []byte // of the steward's book
}

// Add brings a new node into the world; it is up and has no part in a job yet.
func (w *World) Add(name string) *Node {
	seed := workunits.Sum([]byte("gridtest node " + name))
	key := ed25519.NewKeyFromSeed(seed[:])
	n := &Node{Name: name, ID: workunits.NodeIDOf(key), Arch: "amd64", Canon: true, Slots: 1, w: w, key: key, up: true,
		knows: map[workunits.NodeID]int{}, begun: map[asked]bool{}, disk: newDisk()}
	w.nodes = append(w.nodes, n)
	w.byID[n.ID] = n
	n.tick()
	return n
}

func newDisk() disk {
	return disk{has: map[workunits.Digest]bool{}, blocks: map[workunits.Digest][]byte{}}
}

// now is the time by the node's own clock.
func (n *Node) now() uint64 { return uint64(int64(n.w.now) + n.clock) }

// SetClock changes the node's clock by so many milliseconds; that of a node that is
// up can only go forward, as drivers see to it.
func (n *Node) SetClock(by int64) {
	n.w.printf("the clock of %s goes by %d s", n.Name, by/1000)
	n.clock += by
}

// Up reports whether the node runs.
func (n *Node) Up() bool { return n.up }

// Steward is the node's steward machine, nil if it has none.
func (n *Node) Steward() *steward.Machine { return n.steward }

func (n *Node) enc() [32]byte {
	pub, _ := workunits.EncryptionKey(n.key)
	return pub
}

// rand is the node's secret generator, another one in each life.
func (n *Node) rand(use string) *rand.ChaCha8 {
	b := binary.BigEndian.AppendUint64([]byte(use+n.Name), n.w.seed)
	return rand.NewChaCha8(workunits.Sum(binary.BigEndian.AppendUint64(b, uint64(n.life))))
}

func (n *Node) tick() {
	n.w.after(n, tickTime*3/4+n.w.rng.Uint64N(tickTime/2), func() {
		n.snapshot()
		n.stepSteward(steward.Tick{})
		n.spare()
		n.stepVolunteer(volunteer.Tick{})
		if n.crook != nil {
			n.crook.tick()
		}
		n.tick()
	})
}

// snapshotEvery is how many ticks a snapshot is good for.
const snapshotEvery = 8

// snapshot keeps what the next life need not read again.
func (n *Node) snapshot() {
	if n.ticks++; n.ticks%snapshotEvery == 0 && n.steward != nil {
		n.disk.snapshot = n.steward.Book().Snapshot()
	}
}

// open makes the ledger and the machines from what is on the disk.
func (n *Node) open() {
	j := n.w.job
	if j == nil || !n.disk.job || !n.disk.steward && !n.disk.volunteer {
		return
	}
	n.openLedger()
	if n.disk.steward && n.Ways.Crook != "" && n.Ways.Crook != crookOmits {
		if n.crook == nil {
			n.crook = newCrook(n)
		}
	} else if n.disk.steward && n.steward == nil {
		secret := n.secret()
		id := n.identity(secret)
		n.steward = steward.New(steward.Config{Key: n.key, Job: j.ID, Manifest: j.Manifest, Standing: j.Standing, Author: n.author,
			Identity: id, Secret: secret, Rand: n.rand("steward"), Restored: n.restored, Snapshot: n.disk.snapshot})
		n.stepSteward(steward.Tick{})
	}
	if n.disk.volunteer && n.volunteer == nil && n.up {
		n.volunteer = volunteer.New(volunteer.Config{Self: n.ID, Arch: n.Arch, Canon: n.Canon, Rand: n.rand("volunteer")})
		n.stepVolunteer(volunteer.SetPolicy{Policy: volunteer.Policy{Slots: n.Slots, Memory: j.Manifest.Limits.Memory}})
		n.join()
	}
}

// openLedger reads the ledger from the disk.
func (n *Node) openLedger() {
	j := n.w.job
	if n.ledger != nil {
		return
	}
	n.ledger = ledger.New(j.Manifest.Network, j.ID)
	n.ledger.ParseWith(n.w.parse)
	for _, raw := range n.disk.segments {
		var fork *ledger.ForkError
		if _, err := n.ledger.Load(raw); err != nil && !errors.As(err, &fork) {
			n.w.fail("%s cannot load its own segments: %v", n.Name, err)
		}
	}
	n.author = ledger.NewAuthor(n.key, n.ledger)
	if n.w.Fast {
		n.author.SignWith(n.sign)
	}
}

// join tells the volunteer machine of the job, or of its new succession list.
func (n *Node) join() {
	j := n.w.job
	n.stepVolunteer(volunteer.Join{Job: j.ID, Manifest: j.Manifest, Stewards: n.listed(), Author: n.author,
		Identity: n.identity(n.secret()), Steward: n.disk.steward})
}

func (n *Node) secret() [32]byte { return workunits.Sum(append([]byte("chain "), n.key.Seed()...)) }

// identity opens the node's log. A chain is long to make, so nodes that never
// draw show one that draws nothing.
func (n *Node) identity(secret [32]byte) workunits.Identity {
	id := workunits.Identity{Enc: n.enc(), Arch: n.Arch, Anchor: workunits.Sum(secret[:]), Length: 1}
	if n.disk.steward && !n.author.Begun() {
		id.Length = n.w.job.Chain
		id = steward.Identify(id, n.w.job.Manifest, secret)
	}
	return id
}

// listed is the succession list as the node knows it, with keys that are nobody's
// if it seals garbage.
func (n *Node) listed() []workunits.Steward {
	list := slices.Clone(n.disk.stewards)
	if len(n.asks) > 0 {
		list = slices.DeleteFunc(list, func(s workunits.Steward) bool { return !slices.Contains(n.asks, s.Node) })
	}
	for i := range list {
		if n.Ways.Garbage {
			list[i].Enc = workunits.Sum(list[i].Enc[:])
		}
	}
	return list
}

// Forget takes the last segments that a crashed node wrote itself from its disk,
// as an old backup would.
func (n *Node) Forget(segments int) {
	n.w.printf("%s forgets %d segments", n.Name, segments)
	n.disk.snapshot = nil // drivers see that it tells of more than there is
	for i := len(n.disk.segments) - 1; i >= 0 && segments > 0; i-- {
		if s, err := workunits.Decode[workunits.Segment](n.disk.segments[i], workunits.MaxSegment); err == nil && s.Author == n.ID {
			n.disk.segments = slices.Delete(n.disk.segments, i, i+1)
			segments--
		}
	}
}

// Crash ends the node at once; what it had not made durable is lost.
func (n *Node) Crash() {
	if !n.up {
		return
	}
	n.w.printf("%s crashes", n.Name)
	n.up, n.trap = false, ""
	n.life++
	n.auditing = false
	n.begun = map[asked]bool{}
	n.ledger, n.author, n.steward, n.volunteer, n.crook = nil, nil, nil, nil, nil
	n.waiting = nil
}

// Wipe is the end of the node's disk: only its key is left.
func (n *Node) Wipe() {
	n.Crash()
	n.w.printf("%s loses its disk", n.Name)
	n.disk = newDisk()
}

// Move gives a node that is down a new address: others reach it once they have
// heard from it.
func (n *Node) Move() {
	n.w.printf("%s moves", n.Name)
	n.addr++
}

// CrashOn crashes the node once the next statement of a kind that it says is
// durable: before what holds the statement leaves, or after.
func (n *Node) CrashOn(kind string, sent bool) { n.trap, n.sent = kind, sent }

// Restart brings a crashed node back with what is on its disk.
func (n *Node) Restart() {
	if n.up {
		return
	}
	n.w.printf("%s restarts", n.Name)
	n.up = true
	n.tick()
	n.open()
	if n.wants && !n.disk.volunteer {
		n.hear()
	}
	n.find()
}

// persist makes segments and blocks durable and reports whether what they
// belong to may still leave.
func (n *Node) persist(segments, blocks [][]byte) bool {
	trapped := false
	for _, raw := range segments {
		n.disk.segments = append(n.disk.segments, raw)
		n.disk.has[workunits.Sum(raw)] = true
		trapped = trapped || n.trap != "" && n.says(raw, n.trap)
	}
	for _, b := range blocks {
		n.disk.blocks[workunits.Sum(b)] = b
	}
	if trapped && !n.sent {
		n.Crash()
	}
	return n.up
}

// sprung crashes the node after a send that its trap waited for.
func (n *Node) sprung(segments [][]byte) {
	for _, raw := range segments {
		if n.up && n.trap != "" && n.says(raw, n.trap) {
			n.Crash()
		}
	}
}

func (n *Node) says(raw []byte, kind string) bool {
	s, err := workunits.Decode[workunits.Segment](raw, workunits.MaxSegment)
	if err != nil || s.Author != n.ID {
		return false
	}
	for _, st := range s.Statements {
		if st.Kind.String() == kind {
			return true
		}
	}
	return false
}

// maxGather is how many inputs a steward takes together.
const maxGather = 256

// stepSteward gives the steward an input. What peers and disks say waits for the
// next answer; what this node says itself, and the clock, do not.
func (n *Node) stepSteward(in steward.Input) {
	if n.steward == nil || !n.up {
		return
	}
	n.waiting = append(n.waiting, in)
	switch in.(type) {
	case steward.Received, steward.Fetched:
		if n.w.Gather == 0 || len(n.waiting) >= maxGather || n.w.now >= n.answered+n.w.Gather {
			n.answer()
		} else if len(n.waiting) == 1 {
			n.w.after(n, n.answered+n.w.Gather-n.w.now, n.answer)
		}
	default:
		n.answer()
	}
}

func (n *Node) answer() {
	if len(n.waiting) == 0 || n.steward == nil {
		return
	}
	in := n.waiting
	n.waiting, n.answered = nil, n.w.now
	fx := n.steward.Step(n.now(), in...)
	n.observe(fx.Events)
	n.said(fx.Segments)
	if !n.persist(fx.Segments, fx.Blocks) {
		return
	}
	for _, o := range fx.Send {
		n.send(o)
	}
	for _, r := range fx.Own {
		n.w.after(n, 0, func() { n.stepVolunteer(volunteer.Received{From: n.ID, Msg: r}) })
	}
	for _, f := range fx.Fetch {
		n.fetch(f)
	}
	for _, c := range fx.Compare {
		n.compare(c)
	}
	if a := fx.Audit; a != nil {
		n.auditing = true
		n.w.after(n, n.w.job.Time, func() {
			n.auditing = false
			n.stepSteward(n.audited(a.Unit, a.Inputs, a.Canonical))
			n.spare()
		})
	}
	if fx.Announce != nil {
		n.announce(*fx.Announce)
	}
	if fx.Recruit > 0 {
		n.recruit(fx.Recruit)
	}
	n.sprung(fx.Segments)
}

// stepVolunteer gives the volunteer an input and performs its effects.
func (n *Node) stepVolunteer(in volunteer.Input) {
	if n.volunteer == nil || !n.up {
		return
	}
	fx := n.volunteer.Step(n.now(), in)
	var raw, blocks [][]byte
	var entries []ledger.Entry
	for _, s := range fx.Said {
		raw = append(raw, s.Raw)
		blocks = append(blocks, s.Blocks...)
		entries = append(entries, s.Entries...)
	}
	n.said(raw)
	if !n.persist(raw, blocks) {
		return
	}
	if len(entries) > 0 { // at once: what the steward says comes after all of them
		n.stepSteward(steward.Local{Entries: entries})
	}
	for _, o := range fx.Send {
		n.send(o)
	}
	for _, r := range fx.Run {
		n.run(r)
	}
	for _, t := range fx.Stop {
		n.finish(volunteer.Run{Task: t}, 0, workunits.VoidCancelled, 0)
	}
	n.sprung(raw)
}

func (n *Node) send(o wire.Outgoing) {
	if !n.up {
		return
	}
	n.durable(o.Msg)
	if o.To == n.ID {
		n.w.after(n, 0, func() { n.stepSteward(steward.Received{From: n.ID, Msg: o.Msg}) })
		return
	}
	to := n.w.byID[o.To]
	if to == nil {
		n.w.fail("%s sends to nobody", n.Name)
		return
	}
	n.w.send(n, to, n.omit(o.To, o.Msg))
}

// receive hands a message to the role that it is for.
func (n *Node) receive(from workunits.NodeID, m wire.Message) {
	switch m := m.(type) {
	case wire.WorkReply:
		n.stepVolunteer(volunteer.Received{From: from, Msg: m})
	case wire.JobRequest:
		n.tellJob(from)
	case wire.JobReply:
		n.learnJob(m)
	default:
		if n.crook != nil {
			n.crook.receive(from, m)
		} else if n.steward != nil {
			n.stepSteward(steward.Received{From: from, Msg: m})
		} else {
			n.stepVolunteer(volunteer.Received{From: from, Msg: m})
		}
	}
}

func (n *Node) unreachable(id workunits.NodeID) {
	n.stepSteward(steward.Unreachable{Peer: id})
	n.stepVolunteer(volunteer.Unreachable{Peer: id})
}

// asked is a result that a steward asks for, or two that it has compared.
type asked struct {
	unit uint32
	a, b workunits.Digest
}

// once does what takes a while, which must not be under way already.
func (n *Node) once(delay uint64, what asked, do func()) {
	if n.begun[what] {
		n.w.fail("%s begins the same about unit %d twice at a time", n.Name, what.unit)
	}
	n.begun[what] = true
	n.w.after(n, delay, func() {
		delete(n.begun, what)
		do()
	})
}

// fetch looks for content on the nodes that are hinted at.
func (n *Node) fetch(f steward.Fetch) {
	took := 2*n.w.latency() + fetchTime
	if n.w.job.Large && !f.Job {
		took += n.w.job.Transfer
	}
	n.once(took, asked{unit: f.Unit, a: f.Result.Digest}, func() {
		for _, id := range append([]workunits.NodeID{n.ID}, f.Hints...) {
			o := n.w.byID[id]
			if o == nil || !n.w.reaches(n, o) && o != n {
				continue
			}
			if f.Job && o.disk.content {
				n.disk.content = true
				n.stepSteward(steward.Fetched{Fetch: f})
				return
			}
			if b, ok := o.disk.blocks[f.Result.Digest]; ok && !f.Job {
				n.disk.blocks[f.Result.Digest] = b
				n.stepSteward(steward.Fetched{Fetch: f})
				return
			}
		}
		n.stepSteward(steward.Fetched{Fetch: f, Failed: true})
	})
}

// compare runs the job's comparator over two results that somebody has.
func (n *Node) compare(c steward.Compare) {
	took := 2*n.w.latency() + fetchTime
	if n.w.job.Manifest.Policy.Compare.Kind == workunits.CompareProgram {
		took += compareTime
	}
	n.once(took, asked{c.Unit, c.A, c.B}, func() {
		var blocks [2][]byte
		for _, id := range append([]workunits.NodeID{n.ID}, c.Hints...) {
			if o := n.w.byID[id]; o != nil && (o == n || n.w.reaches(n, o)) {
				for i, d := range []workunits.Digest{c.A, c.B} {
					if blocks[i] == nil {
						blocks[i] = o.disk.blocks[d]
					}
				}
			}
		}
		in := steward.Compared{Compare: c, Failed: blocks[0] == nil || blocks[1] == nil}
		if !in.Failed {
			equal, err := compare.Outcomes(blocks[0], blocks[1], workunits.Comparator{Kind: workunits.CompareNumbers, Rel: 1e-6})
			in.Equal = equal && err == nil
		}
		n.stepSteward(in)
	})
}
