package gridtest

import (
	"encoding/binary"
	"fmt"
	"slices"

	"github.com/talka-grid/talka/grid/steward"
	"github.com/talka-grid/talka/grid/volunteer"
	"github.com/talka-grid/talka/grid/wire"
	"github.com/talka-grid/talka/workunits"
	"github.com/talka-grid/talka/workunits/verdict"
)

// Job is the world's job and the truth about it, which no node knows.
type Job struct {
	ID        workunits.JobID
	Manifest  workunits.Manifest
	Standing  workunits.StakeTable // that the manifest names
	Block     []byte               // the signed manifest
	Publisher *Node
	Time      uint64 // milliseconds that a unit takes on a node of speed 1
	Large     bool   // results do not travel beside statements
	Transfer  uint64 // milliseconds that one takes then
	Split     bool   // results differ by architecture unless NaNs are canonical
	Chain     uint32 // values of a steward's hash chain; 0 for as many as nodes take
	Noisy     bool   // results differ a little from node to node, within the job's tolerance
}

// Ways is how a node's executions go.
type Ways struct {
	Slow float64 // times as long as they should take; 0 means 1
	Hang bool    // never end
	Void bool    // end void
	// Garbage seals openings so that no custodian can read them.
	Garbage bool
	Lies    float64 // share of units with a wrong result
	Units   []uint32
	Plain   bool // lies only where an architecture could be blamed
	// Crook makes a steward lie, see crook; Copycat a volunteer that commits only
	// what others opened; Late one that commits when its lease has long ended.
	Crook   string
	Copycat bool
	Late    bool
	// Forks makes a volunteer deny its log once one of its lies is found.
	Forks bool
	// Colluders give the same wrong result for a unit; others each their own.
	Collude bool
}

// manifest is a job's manifest with what tests seldom care about filled in.
func manifest(units, shard uint32) workunits.Manifest {
	return workunits.Manifest{
		Network: "sim", Project: "sim", Name: "job", Created: epoch / 1000,
		Program: workunits.Link{Cid: workunits.RawCid(workunits.Sum([]byte("program")))}, Units: units,
		Limits: workunits.Limits{Memory: 1 << 20, Output: 1 << 20, Files: 16, Wall: 10_000, CPU: 10_000, Tries: 3},
		Policy: workunits.Policy{Mode: workunits.VerifyAudit, Error: 1e-3, Share: 0.2, Price: 1, MaxAgree: 2, Compare: workunits.Comparator{Kind: workunits.CompareBytes}},
		Days:   30, Active: 3, Listed: 8, Shard: shard,
	}
}

// Publish signs the job and starts it: the publisher with its stewards at once,
// volunteers as they hear of it.
func (w *World) Publish(j *Job, stewards, volunteers []*Node) error {
	j.Manifest.Publisher = j.Publisher.ID
	id, block, err := j.Manifest.Sign(j.Publisher.key)
	if err != nil {
		return err
	}
	j.ID, j.Block, w.job = id, block, j
	j.Publisher.disk.content = true
	var list []workunits.Steward
	for _, n := range stewards {
		list = append(list, workunits.Steward{Node: n.ID, Enc: n.enc()})
	}
	for _, n := range stewards {
		n.disk.job, n.disk.steward, n.disk.stewards = true, true, list
		n.open()
	}
	for _, n := range volunteers {
		n.disk.job, n.disk.stewards, n.wants = true, list, true
		n.hear()
	}
	j.Publisher.stepSteward(steward.Publish{Stewards: list})
	return nil
}

// hear makes the node join the job as a volunteer once it hears of it.
func (n *Node) hear() {
	n.w.after(n, 200+n.w.rng.Uint64N(300), func() {
		n.disk.volunteer = true
		n.open()
	})
}

// The rest stands for what the driver does about jobs: it tells them, learns
// them, and finds stewards.

// find asks whoever is there for the job, if its manifest is not here: all that
// the node has is its key and the job's id.
func (n *Node) find() {
	if n.w.job == nil || n.disk.job {
		return
	}
	for _, o := range n.w.nodes {
		if o != n {
			n.w.send(n, o, wire.JobRequest{Job: n.w.job.ID})
		}
	}
	n.w.after(n, findTime, n.find)
}

func (n *Node) tellJob(to workunits.NodeID) {
	if !n.disk.job || n.ledger == nil {
		return
	}
	r := wire.JobReply{Job: n.w.job.ID, Manifest: n.w.job.Block,
		Segments: n.ledger.Holding(n.w.job.Publisher.ID, workunits.KindIdentity, workunits.KindAmendment)}
	n.send(wire.Outgoing{To: to, Msg: r})
}

// learnJob takes the manifest and the succession list.
func (n *Node) learnJob(r wire.JobReply) {
	id, m, err := workunits.ParseManifest(r.Manifest)
	if err != nil || id != n.w.job.ID {
		n.w.fail("%s was told of another job: %v", n.Name, err)
		return
	}
	list := succession(m, r.Segments)
	if len(list) <= len(n.disk.stewards) {
		return
	}
	n.disk.job, n.disk.stewards = true, list
	if n.steward == nil { // else its machine gets them itself
		n.openLedger()
		for _, raw := range r.Segments {
			if entries, err := n.ledger.Add(raw); err == nil && len(entries) > 0 {
				n.persist([][]byte{raw}, nil)
				n.restored = n.restored || entries[0].Author == n.ID
			}
		}
	}
	if n.steward == nil && (n.ID == m.Publisher || slices.ContainsFunc(list, func(s workunits.Steward) bool { return s.Node == n.ID })) {
		n.disk.steward = true
	}
	if n.volunteer != nil {
		n.join()
	}
	n.open()
}

func succession(m workunits.Manifest, segments [][]byte) (list []workunits.Steward) {
	for _, raw := range segments {
		s, err := workunits.ParseSegment(raw)
		if err != nil || s.Author != m.Publisher {
			continue
		}
		for _, st := range s.Statements {
			if b, err := st.Decode(); err == nil && st.Kind == workunits.KindAmendment {
				list = append(list, b.(workunits.Amendment).Stewards...)
			}
		}
	}
	return list
}

// announce makes those who do not know all of the stewards ask for the list.
func (n *Node) announce(a workunits.Announcement) {
	for _, o := range n.w.nodes {
		n.w.after(o, n.w.Net.MaxLatency, func() {
			known := func(id workunits.NodeID) bool {
				return slices.ContainsFunc(o.disk.stewards, func(s workunits.Steward) bool { return s.Node == id })
			}
			if o.disk.job && o != n && slices.ContainsFunc(a.Stewards, func(id workunits.NodeID) bool { return !known(id) }) {
				o.send(wire.Outgoing{To: n.ID, Msg: wire.JobRequest{Job: a.Job}})
			}
		})
	}
}

// recruit asks nodes to be stewards, and publishes those that agree.
func (n *Node) recruit(want int) {
	var list []workunits.Steward
	known := n.steward.Book().Listed
	for _, o := range n.w.nodes {
		if len(list) < want && o.yes && !known(o.ID) && n.w.reaches(n, o) {
			list = append(list, workunits.Steward{Node: o.ID, Enc: o.enc()})
		}
	}
	if len(list) == 0 {
		return
	}
	n.w.after(n, 2*n.w.Net.MaxLatency, func() {
		n.disk.stewards = append(n.disk.stewards, list...)
		n.stepSteward(steward.Publish{Stewards: list})
		for _, s := range list {
			o := n.w.byID[s.Node]
			n.w.printf("%s lists %s as a steward", n.Name, o.Name)
			n.w.after(o, n.w.Net.MaxLatency, func() { o.send(wire.Outgoing{To: n.ID, Msg: wire.JobRequest{Job: n.w.job.ID}}) })
		}
	})
}

// lie reports whether the node gives a wrong result for the unit.
func (n *Node) lie(u uint32) bool {
	if slices.Contains(n.Ways.Units, u) || n.Ways.Copycat {
		return true
	}
	if n.Ways.Lies == 0 {
		return false
	}
	who := n.Name
	if n.Ways.Collude {
		who = "" // colluders agree on the units, too
	}
	b := binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint64([]byte("lie"+who), n.w.seed), u)
	d := workunits.Sum(b)
	return float64(binary.BigEndian.Uint32(d[:]))/(1<<32) < n.Ways.Lies
}

func outcome(text string) ([]byte, workunits.Digest) {
	return workunits.Outcome{How: workunits.Exited, Out: workunits.OutFile{Size: uint64(len(text)), Data: []byte(text)}}.Encode()
}

// honest is the right result of a unit, in the second stage of its inputs.
func (j *Job) honest(u uint32, inputs workunits.Digest, arch string, canonical bool, noise int) ([]byte, workunits.Digest) {
	text := fmt.Sprintf("result of unit %d", u)
	if j.Manifest.Reduces(u) {
		text = fmt.Sprintf("result of results %x", inputs)
	}
	if j.Split && !canonical {
		text += " on " + arch
	}
	if j.Noisy {
		text += fmt.Sprintf(": %.10f", 1+1e-9*float64(noise))
	}
	return outcome(text)
}

// noises are the ways in which results differ in a noisy job.
const noises = 4

// right reports whether an honest copy gives the digest, of a unit with the
// inputs that the book says.
func (j *Job) right(b *verdict.Book, u uint32, d workunits.Digest) bool {
	for _, arch := range []string{"amd64", "arm64"} {
		for _, canonical := range []bool{true, false} {
			for noise := range noises {
				if _, h := j.honest(u, b.Inputs(u), arch, canonical, noise); h == d {
					return true
				}
			}
		}
	}
	return false
}

// result is what the node's copy of a unit comes to.
func (n *Node) result(t volunteer.Run) ([]byte, workunits.Digest) {
	if !n.lie(t.Unit) || n.Ways.Plain && t.Canonical {
		return n.w.job.honest(t.Unit, t.Inputs, n.Arch, t.Canonical, int(n.ID[0]%noises))
	}
	if d, opened := n.w.obs.opened[t.Unit]; opened && n.Ways.Copycat {
		return n.w.block(d), d
	}
	n.w.obs.lies++
	n.w.printf("%s lies about unit %d", n.Name, t.Unit)
	if n.Ways.Collude {
		return outcome(fmt.Sprintf("wrong result of unit %d", t.Unit))
	}
	return outcome(fmt.Sprintf("wrong result of unit %d by %s", t.Unit, n.Name))
}

// staged reports whether all that the second stage works on can be fetched: the
// record that its grant names, and the results in it.
func (n *Node) staged(r volunteer.Run) bool {
	fetch := func(d workunits.Digest) []byte {
		for _, id := range r.Hints {
			if o := n.w.byID[id]; o != nil && n.w.reaches(n, o) && o.disk.blocks[d] != nil {
				return o.disk.blocks[d]
			}
		}
		return n.disk.blocks[d]
	}
	in, err := workunits.ParseStageInputs(fetch(r.Inputs), n.w.job.Manifest.Units)
	return err == nil && !slices.ContainsFunc(in.Results, func(d workunits.Digest) bool { return fetch(d) == nil })
}

// run executes a copy.
func (n *Node) run(t volunteer.Run) {
	j := n.w.job
	if n.Ways.Hang {
		return
	}
	slow := n.Ways.Slow
	if slow == 0 {
		slow = 1
	}
	took := uint64(float64(j.Time) * slow * (0.9 + 0.2*n.w.rng.Float64()))
	var void workunits.VoidReason
	if n.Ways.Void {
		took, void = 10, workunits.VoidDisk
	} else if j.Manifest.Reduces(t.Unit) && !n.staged(t) {
		took, void = 10, workunits.VoidInput
	} else if took > j.Manifest.Limits.Wall {
		took, void = j.Manifest.Limits.Wall, workunits.VoidWall
	}
	if n.Ways.Late {
		took += lateTime - n.w.Elapsed()%lateTime // all of them at one time
	}
	if n.Ways.Copycat && void == "" {
		n.copycat(t)
		return
	}
	n.finish(t, took, void, took)
}

// copycat waits until it sees what somebody opened, which it then commits; or
// guesses once it has waited for long.
func (n *Node) copycat(t volunteer.Run) {
	if _, opened := n.w.obs.opened[t.Unit]; opened {
		n.w.obs.copied++
	} else if n.w.Elapsed()%8000 != 0 {
		n.w.after(n, 8000-n.w.Elapsed()%8000, func() { n.copycat(t) })
		return
	}
	n.finish(t, 10, "", 10)
}

func (n *Node) finish(t volunteer.Run, delay uint64, void workunits.VoidReason, millis uint64) {
	n.w.after(n, delay, func() {
		in := volunteer.Finished{Task: t.Task, Void: void, Millis: millis}
		if void == "" {
			block, d := n.result(t)
			n.disk.blocks[d] = block
			in.Result = workunits.Result{Digest: d}
			if !n.w.job.Large {
				in.Block = block
			}
		}
		n.stepVolunteer(in)
	})
}

// Cancel is the publisher's order to end the job.
func (n *Node) Cancel(reason string) { n.stepSteward(steward.Cancel{Reason: reason}) }

// Collect is the publisher's order to say that it has the results.
func (n *Node) Collect() { n.stepSteward(steward.Collect{}) }

// Retry is the publisher's order to try again the units that have failed.
func (n *Node) Retry() { n.stepSteward(steward.Retry{}) }

// spare offers the publisher's time for the audits that its job asks for.
func (n *Node) spare() {
	if j := n.w.job; j != nil && j.Publisher == n && j.Manifest.Policy.Audit > 0 && !n.auditing {
		n.stepSteward(steward.Spare{})
	}
}

// Audit executes a sample of so many accepted units at the publisher.
func (n *Node) Audit(units int) {
	var seed [32]byte
	_, _ = n.rand("audit").Read(seed[:])
	b := n.steward.Book()
	for _, u := range b.Sample(units, seed) {
		n.stepSteward(n.audited(u, b.Inputs(u), n.steward.Canonically(u)))
	}
}

// audited is the publisher's own copy of a unit.
func (n *Node) audited(u uint32, inputs workunits.Digest, canonical bool) steward.Audited {
	j := n.w.job
	block, d := j.honest(u, inputs, n.Arch, canonical, int(n.ID[0]%noises))
	n.disk.blocks[d] = block
	in := steward.Audited{Unit: u, Canonical: canonical, Arch: n.Arch, Result: workunits.Result{Digest: d}}
	if !j.Large {
		in.Block = block
	}
	return in
}
