package grid

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/talka-grid/talka/grid/steward"
	"github.com/talka-grid/talka/grid/volunteer"
	"github.com/talka-grid/talka/grid/wire"
	"github.com/talka-grid/talka/workunits"
)

// Run drives the node until ctx ends, then stops everything that it started.
func (n *Node) Run(ctx context.Context) error {
	n.out = newOutbox(n.ctx, n.cfg.Net, func(peer workunits.NodeID) { n.post(func() { n.unreachable(peer) }) })
	tick, quiet := time.NewTimer(tickTime), false
	defer tick.Stop()
	n.goDo(func(ctx context.Context) {
		if err := n.keeper.Run(ctx); err != nil {
			n.log.Warn("write down what is known of replicas", "err", err)
		}
	})
	n.post(n.begin)
	var err, werr error
	for err == nil {
		select {
		case <-ctx.Done():
			err = context.Cause(ctx)
		case f := <-n.inbox:
			f()
			n.gather()
			if quiet && !n.quiet() {
				quiet = false
				tick.Reset(tickTime)
			}
		case <-tick.C:
			n.tick()
			if quiet = n.quiet(); quiet {
				tick.Reset(quietTime)
			} else {
				tick.Reset(tickTime)
			}
		}
		if werr = n.settle(); werr != nil {
			err = werr
		}
	}
	n.stop()
	close(n.done)
	n.out.wait()
	n.wait.Wait()
	if werr == nil {
		n.lastSnapshots()
	}
	n.events.close()
	cerr := errors.Join(n.db.addEfforts(n.efforts.days), n.db.close())
	if errors.Is(err, context.Canceled) {
		err = nil
	}
	return errors.Join(err, cerr)
}

// How long the loop waits until it looks what time asks for: less where jobs are
// under way, since every look wakes a machine that its owner may want to sleep.
const (
	tickTime  = 250 * time.Millisecond
	quietTime = time.Second
)

// quiet reports whether no job is under way here.
func (n *Node) quiet() bool {
	for _, j := range n.jobs {
		if !j.ended && (j.joined || j.steward != nil) {
			return false
		}
	}
	return len(n.runs) == 0 && !n.auditing
}

// Stewards that have just answered wait for more to answer, so that a node of a
// busy job wakes, signs and writes a fraction as often.
const (
	gatherTime = 20 * time.Millisecond // between answers
	maxGather  = 256                   // inputs
)

// gather takes what else has arrived, and what does before the next answer is due
// if stewards have inputs that wait.
func (n *Node) gather() {
	due := time.NewTimer(time.Until(n.answered.Add(gatherTime)))
	defer due.Stop()
	for range maxGather {
		select {
		case f := <-n.inbox:
			f()
			continue
		default:
		}
		if !n.waiting() {
			return
		}
		select {
		case f := <-n.inbox:
			f()
			continue
		case <-due.C:
		case <-n.ctx.Done():
		}
		break
	}
	n.answered = time.Now()
}

func (n *Node) waiting() bool {
	for _, j := range n.jobs {
		if len(j.inputs) > 0 {
			return true
		}
	}
	return false
}

// settle steps the stewards, makes what the machines said durable, then lets the
// rest happen. What they said without all of a ledger is neither written nor sent.
func (n *Node) settle() error {
	for n.waiting() { // a step may give others inputs
		for _, j := range n.sortedJobs() {
			n.stepSteward(j)
		}
	}
	if err := n.unreadable(); err != nil {
		return err
	}
	if !n.pending.empty() {
		n.cfg.Effect()
		if err := n.db.write(n.pending); err != nil {
			return fmt.Errorf("write state: %w", err)
		}
		n.stored(n.pending.segments)
		n.serveLater(n.pending)
		n.pending = writes{}
	}
	after := n.after
	n.after = nil
	for _, f := range after {
		n.cfg.Effect()
		f()
	}
	return nil
}

// post hands the loop a function; it blocks while the loop is behind, which is
// what slows peers down.
func (n *Node) post(f func()) {
	select {
	case n.inbox <- f:
	case <-n.done:
	}
}

// do runs f in the loop and waits for it.
func (n *Node) do(ctx context.Context, f func()) error {
	ran := make(chan struct{})
	select {
	case n.inbox <- func() { f(); close(ran) }:
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-n.done:
		return ErrClosed
	}
	select {
	case <-ran:
		return nil
	case <-n.done:
		return ErrClosed
	}
}

// Frame takes a frame from a peer. It may block; call it serially for a peer.
func (n *Node) Frame(from workunits.NodeID, frame []byte) {
	m, err := wire.Decode(frame)
	if err != nil {
		n.log.Debug("refused a frame", "peer", from, "err", err)
		return
	}
	n.post(func() { n.receive(from, m) })
}

// now is the time by this machine's clock, in milliseconds since 1970.
func now() uint64 { return uint64(time.Now().UnixMilli()) }

// clock is the time of the machines that the loop steps: by this machine's clock,
// but that it goes on where that is set back, so that nothing waits for it to come
// as far again.
type clock struct{ last, ahead uint64 }

func (c *clock) at(t uint64) uint64 {
	if t += c.ahead; t < c.last {
		c.ahead += c.last - t
		t = c.last
	}
	c.last = t
	return t
}

// begin does what a start owes.
func (n *Node) begin() {
	if n.cfg.Work > 0 && n.proof == nil {
		n.goDo(n.prove)
	}
	if n.cfg.Sensors != nil {
		n.goDo(n.sense)
	}
	for _, j := range n.sortedJobs() {
		if j.grown {
			n.unpackLater(j, func() {})
		}
	}
	n.tick()
}

func (n *Node) tick() {
	n.takeSnapshot() // before anything is said that is not on the disk
	n.decide()
	for _, j := range n.sortedJobs() {
		if j.steward != nil {
			n.stepSteward(j, steward.Tick{})
		}
	}
	n.stepVolunteer(volunteer.Tick{})
	n.spare()
	n.forget()
	n.releaseExpired()
	n.lookAfterData()
	n.packSettled()
	n.sweepCheckpoints()
	n.writeEfforts(time.Now())
	n.tellPointers()
}

func (n *Node) unreachable(peer workunits.NodeID) {
	for _, j := range n.sortedJobs() {
		if j.steward != nil {
			n.stepSteward(j, steward.Unreachable{Peer: peer})
		}
	}
	n.stepVolunteer(volunteer.Unreachable{Peer: peer})
}

// send queues a message for a peer once what precedes it is durable.
func (n *Node) send(to workunits.NodeID, m wire.Message) {
	n.after = append(n.after, func() { n.out.send(to, wire.Encode(m)) })
}

// stepSteward steps a job's steward machine with what waits for it, and these
// inputs, and performs its effects.
func (n *Node) stepSteward(j *job, in ...steward.Input) {
	in = append(j.inputs, in...)
	if j.inputs = nil; len(in) == 0 {
		return
	}
	fx := j.steward.Step(n.clock.at(now()), in...)
	for _, i := range in {
		if r, ok := i.(steward.Received); ok {
			if p, ok := r.Msg.(wire.Push); ok {
				n.learnOwnOpenings(j, p.Segments)
			}
		}
	}
	for _, raw := range fx.Segments {
		n.pending.segments = append(n.pending.segments, jobSegment{job: j.id, raw: raw})
	}
	for _, b := range fx.Blocks {
		n.pending.records = append(n.pending.records, jobRecord{job: j.id, raw: b, served: true})
	}
	for _, o := range fx.Send {
		n.send(o.To, o.Msg)
	}
	if fx.Announce != nil && (n.cfg.Work == 0 || n.proof != nil) { // nobody passes on what shows no work
		fx.Announce.Proof = n.proof
		life := fx.Announce.Expires - fx.Announce.Time
		fx.Announce.Time = now() // which others hold against their clocks
		fx.Announce.Expires = fx.Announce.Time + life
		data := fx.Announce.Sign(n.cfg.Key)
		n.learnAnnouncement(*fx.Announce, data)
		n.after = append(n.after, func() { n.goDo(func(ctx context.Context) { _ = n.cfg.Net.Announce(ctx, data) }) })
	}
	if fx.Recruit > 0 {
		n.recruitMore(j, fx.Recruit)
	}
	for _, f := range fx.Fetch {
		if !f.Job {
			n.sayOpened(j, f.Unit)
		}
		n.after = append(n.after, func() { n.goFetch(j, f) })
	}
	for _, c := range fx.Compare {
		n.sayOpenedCopies(j, c.Unit)
		n.after = append(n.after, func() { n.goCompare(j, c) })
	}
	if fx.Audit != nil {
		n.audit(j, *fx.Audit)
	}
	for _, e := range fx.Events {
		if e.Kind == "reopened" {
			n.reopened(j, e.Unit)
		}
		n.events.add(Event{Kind: e.Kind, Job: j.id, Node: e.Node, Unit: e.Unit, Text: e.Text})
	}
	if len(fx.Segments) > 0 {
		j.used = time.Now()
		n.changed()
		n.refresh(j)
	}
	for _, w := range fx.Own {
		n.stepVolunteer(volunteer.Received{From: n.self, Msg: w})
	}
}

// stepVolunteer steps the volunteer machine and performs its effects.
func (n *Node) stepVolunteer(in volunteer.Input) {
	fx := n.volunteer.Step(n.clock.at(now()), in)
	for _, s := range fx.Said {
		n.pending.segments = append(n.pending.segments, jobSegment{job: s.Job, raw: s.Raw})
		for _, b := range s.Blocks {
			n.pending.records = append(n.pending.records, jobRecord{job: s.Job, raw: b})
		}
		for _, e := range s.Entries {
			n.readOpening(s.Job, e.Body)
			n.dropCommitted(s.Job, e.Body)
		}
	}
	for _, s := range fx.Said {
		if j := n.jobs[s.Job]; j != nil && j.steward != nil {
			j.inputs = append(j.inputs, steward.Local{Entries: s.Entries})
		}
	}
	for _, id := range fx.Wrong {
		n.tellWrong(id)
	}
	for _, t := range fx.Stop {
		if e := n.runs[t]; e != nil {
			e.cancel()
		}
	}
	for _, r := range fx.Run {
		n.execute(r)
	}
	for _, o := range fx.Send {
		if o.To != n.self {
			n.send(o.To, o.Msg)
		} else if j := n.jobs[o.Msg.JobID()]; j != nil && j.steward != nil {
			j.inputs = append(j.inputs, steward.Received{From: n.self, Msg: o.Msg})
		}
	}
}

// goDo runs f beside the loop; Run waits for it.
func (n *Node) goDo(f func(ctx context.Context)) {
	n.wait.Go(func() { f(n.ctx) })
}

// changed wakes those who wait for a job.
func (n *Node) changed() {
	for w := range n.watchers {
		select {
		case w <- struct{}{}:
		default:
		}
	}
}
