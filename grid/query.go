package grid

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/ipfs/go-cid"

	"github.com/talka-grid/talka/grid/phrase"
	"github.com/talka-grid/talka/grid/volunteer"
	"github.com/talka-grid/talka/grid/volunteer/policy"
	"github.com/talka-grid/talka/workunits"
	"github.com/talka-grid/talka/workunits/verdict"
)

// findTime bounds the search for a job that this node does not know.
const findTime = 20 * time.Second

// Status says what the node does and why.
func (n *Node) Status() Status {
	s := Status{PeerID: n.self, Network: n.cfg.Network, Addrs: n.cfg.Net.Addrs(), Peers: len(n.cfg.Net.Peers()),
		StoreBytes: n.cfg.Data.Bytes(), Membership: n.cfg.Net.Reach().Membership}
	_ = n.do(n.ctx, func() {
		for _, j := range n.jobs {
			s.AcceptedUnits += n.creditIn(j)
		}
		s.RunningUnits = n.running()
		s.State, s.Said = n.why()
		s.Reason = phrase.Text(s.Said)
		s.PausedByOwner = n.rules.pause != policy.NoPause
	})
	return s
}

// creditIn counts this node's copies in accepted units of a job: a steward reads
// its ledger, others know what stewards say.
func (n *Node) creditIn(j *job) int {
	if j.steward != nil {
		return j.steward.Book().Stake(n.self)
	}
	return j.credit
}

// running counts the units that are executed here now.
func (n *Node) running() (units int) {
	for _, v := range n.volunteer.View() {
		units += v.Running
	}
	return units
}

// compiling is a sentence about what units wait for at first, if they do.
func (n *Node) compiling() []phrase.Phrase {
	list := n.cfg.Exec.Compiling()
	if len(list) == 0 {
		return nil
	}
	return say(phrase.New("compiles", "Compiles a program of {mb} MB for this machine, once; {time} so far.",
		"mb", fmt.Sprintf("%.1f", float64(list[0].Bytes)/1e6), "time", list[0].Wall.Round(time.Second)))
}

// why is what the node does, and sentences that say why.
func (n *Node) why() (State, []phrase.Phrase) {
	views, running := n.volunteer.View(), n.running()
	switch {
	case n.rules.Paused && !n.rules.Finish:
		return StatePaused, n.rules.Said()
	case n.rules.Finish:
		return StateRunning, n.rules.Said()
	case running > 0 && n.rules.InUse:
		return StateRunning, append(say(phrase.New("executes_in_use", "Executes {units|unit|units} of {jobs|job|jobs}, with the limits of a machine in use.",
			"units", running, "jobs", len(views))), n.compiling()...)
	case running > 0:
		return StateRunning, append(say(phrase.New("executes", "Executes {units|unit|units} of {jobs|job|jobs}.",
			"units", running, "jobs", len(views))), n.compiling()...)
	}
	return StateIdle, say(n.idles(views))
}

// idles says why nothing runs though it may.
func (n *Node) idles(views []volunteer.JobView) phrase.Phrase {
	switch {
	case len(n.trusted) == 0:
		return phrase.New("untrusting", "No work: no project is trusted. Trust one with `talka project trust`.")
	case n.cfg.Work > 0 && n.proof == nil:
		return phrase.New("identity", "Works for an identity that others can trust: half a minute of one processor, once.")
	case len(views) == 0 && len(n.trusted) == 1:
		return phrase.New("jobless_one", "No work: the trusted project has no open job that is known here.")
	case len(views) == 0:
		return phrase.New("jobless", "No work: none of the {n} trusted projects has an open job that is known here.", "n", len(n.trusted))
	}
	for _, v := range views {
		if v.Stewards == 0 {
			return phrase.New("stewardless", "No work: no steward of the known jobs can be reached.")
		}
		if v.Reason != "" {
			return phrase.New("refused", "No work: a steward says: {reason}.", "reason", v.Reason)
		}
	}
	return phrase.New("asks", "Asks for work.")
}

// Peers lists the connected peers.
func (n *Node) Peers() []PeerInfo { return n.cfg.Net.Peers() }

// Invite makes the text that lets another node find this network, and into it if
// that is private. See Network.
func (n *Node) Invite(valid time.Duration, to workunits.NodeID) (string, error) {
	return n.cfg.Net.Invite(valid, to)
}

// RemoveMember takes back a node's membership of a private network.
func (n *Node) RemoveMember(id workunits.NodeID) error { return n.cfg.Net.RemoveMember(id) }

// Join connects to the peers of an invite.
func (n *Node) Join(ctx context.Context, invite string) error { return n.cfg.Net.Join(ctx, invite) }

// NewProject makes a project of this node's; the node trusts it.
func (n *Node) NewProject(name string) (workunits.ProjectID, error) {
	p := workunits.ProjectID{Publisher: n.self, Name: name}
	if err := workunits.ValidName(name); err != nil {
		return p, err
	}
	if err := n.db.setProject(p, true, true); err != nil {
		return p, err
	}
	return p, n.do(n.ctx, func() { n.trusted[p] = true })
}

// Trust starts or stops executing units of a project.
func (n *Node) Trust(p workunits.ProjectID, trust bool) error {
	if err := n.db.setProject(p, p.Publisher == n.self, trust); err != nil {
		return err
	}
	return n.do(n.ctx, func() {
		if n.trusted[p] = trust; !trust {
			delete(n.trusted, p)
		}
		for _, j := range n.sortedJobs() {
			n.volunteerFor(j)
		}
		for id, a := range n.seen {
			if trust && n.jobs[id] == nil && !a.Ended && a.ProjectID() == p {
				n.wantJob(id, append(a.Stewards, a.Author)...)
			}
		}
	})
}

// Jobs lists the jobs that this node knows.
func (n *Node) Jobs() (list []JobInfo) {
	_ = n.do(n.ctx, func() {
		for _, j := range n.sortedJobs() {
			list = append(list, n.info(j))
		}
	})
	return list
}

// Job describes a job and how its data fares, and looks for it on the network if it is
// not known here.
func (n *Node) Job(ctx context.Context, id workunits.JobID) (JobInfo, error) {
	info, err := n.job(ctx, id)
	if err == nil {
		info.Data = n.keeper.Health(id)
	}
	return info, err
}

func (n *Node) job(ctx context.Context, id workunits.JobID) (info JobInfo, err error) {
	found := func() bool {
		if j := n.jobs[id]; j != nil {
			info = n.info(j)
			return true
		}
		return false
	}
	known, over := false, false
	if err := n.do(ctx, func() {
		known = found()
		j := n.jobs[id]
		over = known && (j.ended && j.steward == nil && j.packed == nil && time.Since(j.readAt) >= readKept || j.fromFile() && j.reading == nil)
	}); err != nil || known && !over {
		return info, err
	}
	if over {
		if _, err := n.read(ctx, id); err != nil {
			n.log.Debug("read a job that others look after", "job", id, "err", err)
		}
		return info, n.do(ctx, func() { found() })
	}
	ctx, cancel := context.WithTimeoutCause(ctx, findTime, ErrTimeout)
	defer cancel()
	if err := n.find(ctx, id); err != nil {
		return info, err
	}
	if err := n.await(ctx, found); err != nil {
		return info, fmt.Errorf("job %s: %w", id, err)
	}
	return info, nil
}

// find asks the stewards that the DHT names, and the peers, for a job.
func (n *Node) find(ctx context.Context, id workunits.JobID) error {
	stewards, err := n.cfg.Net.FindProviders(ctx, id.Cid(), 8)
	if err != nil && ctx.Err() == nil {
		n.log.Debug("find a job's stewards", "job", id, "err", err)
	}
	stewards = append(stewards, n.connected()...)
	if len(stewards) == 0 {
		return fmt.Errorf("job %s: no peer is connected: %w", id, ErrNotFound)
	}
	return n.do(ctx, func() {
		delete(n.wanted, id)
		n.wantJob(id, stewards...)
	})
}

// info describes a job as far as this node sees it: a steward reads its ledger,
// others know what stewards announce.
func (n *Node) info(j *job) JobInfo {
	if j.packed != nil {
		return j.packed.info()
	}
	info := JobInfo{Job: j.id, Name: j.manifest.Name, Project: j.manifest.ProjectID(), State: JobRunning,
		Units: UnitCounts{Total: int(j.manifest.Units)}, Stewards: []workunits.NodeID{}, Faults: []FaultInfo{}}
	for _, s := range j.list {
		info.Stewards = append(info.Stewards, s.Node)
	}
	info.BoundSaid, info.Credit = say(bound(j.manifest)), n.creditIn(j)
	info.Bound = phrase.Text(info.BoundSaid)
	if j.manifest.Reduce != nil {
		info.Reduce = StageWaiting
	}
	var b *verdict.Book
	switch {
	case j.steward != nil:
		b = j.steward.Book()
	case j.reading != nil:
		b, info.Read = j.reading.book, &j.reading.info
	default:
		return n.hearsay(j, info)
	}
	c := b.Counts()
	accepted := c[verdict.Accepted]
	if info.Reduce != "" {
		v := b.Unit(j.manifest.Units)
		c[v.State]--
		info.Reduce = stageState(b, v)
	}
	info.Units.Accepted, info.Units.Failed, info.Units.Running = c[verdict.Accepted], c[verdict.Failed], c[verdict.Pending]
	info.Units.Open = c[verdict.Open]
	granted := j.granted(b, info.Units.Open)
	info.Units.Open -= granted
	info.Units.Running += granted
	info.Copies, info.Volunteers, info.Expired = b.Copies(), len(b.Volunteers()), b.Expired()
	if accepted > 0 {
		info.CopiesPerAccepted = float64(info.Copies) / float64(accepted)
	}
	for _, f := range b.Faults() {
		info.Faults = append(info.Faults, FaultInfo{Node: f.Node, Name: f.Name, Units: len(f.Units)})
	}
	info.Settled = b.Sealed() != nil && b.Done()
	switch {
	case b.Cancelled() != nil:
		info.State = JobCancelled
	case b.Done() && (info.Units.Failed > 0 || info.Reduce == StageFailed):
		info.State = JobFailed
	case b.Done():
		info.State = JobDone
	}
	return info
}

// hearsay completes what a node says of a job that it does not look after.
func (n *Node) hearsay(j *job, info JobInfo) JobInfo {
	info.Units.Open = int(n.seen[j.id].Open)
	info.Units.Running = info.Units.Total - info.Units.Open
	if j.ended {
		info.State, info.Reduce = JobEnded, ""
		info.Units.Open, info.Units.Running = 0, 0
	}
	return info
}

// granted counts the open units that a volunteer has.
func (j *job) granted(b *verdict.Book, open int) (granted int) {
	if open == 0 || j.steward != nil && len(j.steward.Leases()) == 0 {
		return 0
	}
	for u := range j.manifest.Units {
		if b.Unit(u).State == verdict.Open && len(b.Outstanding(u)) > 0 {
			granted++
		}
	}
	return granted
}

func stageState(b *verdict.Book, v verdict.Unit) StageState {
	_, ready := b.StageInputs()
	switch {
	case v.State == verdict.Accepted:
		return StageAccepted
	case v.State == verdict.Failed:
		return StageFailed
	case ready:
		return StageRunning
	}
	return StageWaiting
}

// bound states the error bound that the job's verdicts vouch for.
func bound(m workunits.Manifest) phrase.Phrase {
	if m.Policy.Mode == workunits.VerifyNone {
		return phrase.New("bound_none", "none: volunteers are trusted")
	}
	return phrase.New("bound", "at most {error} wrong results a unit while colluders are at most {share} of the volunteers and newcomers are as honest as the rest",
		"error", m.Policy.Error, "share", m.Policy.Share)
}

// WaitJob returns when a job is done, has failed or was cancelled.
func (n *Node) WaitJob(ctx context.Context, id workunits.JobID) (info JobInfo, err error) {
	if _, err := n.Job(ctx, id); err != nil {
		return info, err
	}
	err = n.await(ctx, func() bool {
		info = n.info(n.jobs[id])
		return info.State != JobRunning
	})
	if err == nil && info.State == JobEnded {
		return n.Job(ctx, id)
	}
	return info, err
}

// Ledger is a job with all segments that are here; they must not be changed.
func (n *Node) Ledger(ctx context.Context, id workunits.JobID) (x workunits.Export, err error) {
	if err := n.unpack(ctx, id); err != nil {
		return x, err
	}
	var m workunits.Manifest
	ours := false
	var rerr error
	err = n.do(ctx, func() {
		if j := n.jobs[id]; j != nil {
			ours = j.steward != nil
			m, x.Manifest, x.Segments = j.manifest, j.block, j.ledger.Segments()
			rerr = j.ledger.Err()
		}
	})
	err = errors.Join(err, rerr)
	switch {
	case err != nil:
	case x.Manifest == nil:
		err = fmt.Errorf("job %s is not known here: %w", id, ErrNotFound)
	case !ours:
		r, rerr := n.read(ctx, id)
		if rerr != nil {
			return x, rerr
		}
		x.Segments = r.ledger.Segments()
		if m.Standing != nil {
			x.Standing, _ = r.standing.Encode()
		}
	case m.Standing != nil:
		x.Standing, err = n.stakeTable(ctx, *m.Standing, []workunits.NodeID{m.Publisher})
	}
	return x, err
}

// outcome brings a result with its files here and returns its record.
func (n *Node) outcome(ctx context.Context, r workunits.Result, hints []workunits.NodeID) (workunits.Outcome, error) {
	o, err := n.outcomeRecord(ctx, r, hints)
	if err != nil {
		return o, err
	}
	return n.withFiles(ctx, o, hints)
}

// promptOutcome is outcome where nobody waits who could end it: the time that it takes
// is bounded by what the record says of the files' sizes, and the job allows.
func (n *Node) promptOutcome(ctx context.Context, m workunits.Manifest, r workunits.Result, hints []workunits.NodeID) (workunits.Outcome, error) {
	find, found := context.WithTimeoutCause(ctx, findTime, ErrTimeout)
	defer found()
	o, err := n.outcomeRecord(find, r, hints)
	if err != nil {
		return o, err
	}
	ctx, cancel := context.WithTimeoutCause(ctx, transferTime(min(o.Size(), m.Limits.Output)), ErrTimeout)
	defer cancel()
	return n.withFiles(ctx, o, hints)
}

// slowest is the rate, in bytes a second, at which a result has to come at least.
const slowest = 64 << 10

// transferTime is how long so many bytes may take to come.
func transferTime(bytes uint64) time.Duration {
	return findTime + time.Duration(bytes/slowest)*time.Second
}

func (n *Node) outcomeRecord(ctx context.Context, r workunits.Result, hints []workunits.NodeID) (workunits.Outcome, error) {
	raw, err := n.record(ctx, r.Digest, r.Cid().Cid, hints)
	if err != nil {
		return workunits.Outcome{}, err
	}
	return workunits.ParseOutcome(raw)
}

func (n *Node) withFiles(ctx context.Context, o workunits.Outcome, hints []workunits.NodeID) (workunits.Outcome, error) {
	for _, l := range o.Links() {
		if err := n.cfg.Data.Fetch(ctx, l.Cid, hints, nil); err != nil {
			return o, err
		}
	}
	return o, nil
}

// record returns a record from the disk, or from those who have it under root.
func (n *Node) record(ctx context.Context, d workunits.Digest, root cid.Cid, hints []workunits.NodeID) ([]byte, error) {
	if raw := n.db.record(d); raw != nil {
		return raw, nil
	}
	if err := n.cfg.Data.Fetch(ctx, root, hints, nil); err != nil {
		return nil, err
	}
	return n.cfg.Data.Record(ctx, d)
}
