package grid

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"lukechampine.com/blake3"

	"github.com/talka-grid/talka/grid/steward"
	"github.com/talka-grid/talka/grid/volunteer"
	"github.com/talka-grid/talka/grid/wire"
	"github.com/talka-grid/talka/workunits"
	"github.com/talka-grid/talka/workunits/ledger"
)

// Limits on what strangers can make a node remember.
const (
	maxJobs       = 4096
	maxSeen       = 4096
	askAgainAfter = 5 * time.Second
)

// job is what the node holds of one job. The loop owns it.
type job struct {
	id        workunits.JobID
	block     []byte // the signed manifest
	manifest  workunits.Manifest
	ledger    *ledger.Ledger
	author    *ledger.Author
	list      []workunits.Steward
	steward   *steward.Machine // nil unless this node is on the list
	standing  workunits.StakeTable
	stands    bool            // standing is what the manifest names
	seeking   bool            // it is on its way
	inputs    []steward.Input // that wait for its next step, see gather
	joined    bool            // the volunteer machine knows it
	ended     bool
	endedAt   uint64              // milliseconds since 1970
	released  bool                // nothing is kept for it any more
	collected bool                // its publisher, another node, has the results
	wholeRuns uint32              // runs of units that are done, from the first
	holding   bool                // it was told which large inputs are here
	amended   []workunits.Steward // listed by segments that do not continue the log here
	restored  bool                // part of this node's own log came from others
	credit    int                 // own copies in accepted units, as stewards say

	memory  []byte // the book's part of the last snapshot, until there is a steward
	snapped int    // copies at the last snapshot

	packed    *packed // instead of the ledger and the steward machine, nil while they are here
	archived  bool    // it was packed in this life or before
	unpacking bool
	grown     bool      // there is more of the ledger than was packed
	used      time.Time // when somebody last asked for it, or it changed

	imported bool // its ledger came from a file
	wronged  bool // its owner was told that a copy was proven wrong

	reading *reading // of a job that is over and not looked after here
	readAt  time.Time
}

func (n *Node) sortedJobs() []*job {
	return slices.SortedFunc(maps.Values(n.jobs), func(x, y *job) int { return slices.Compare(x.id[:], y.id[:]) })
}

// load brings back projects and jobs from the disk.
func (n *Node) load() error {
	proof, err := n.db.proof(n.cfg.Network)
	if err != nil {
		return err
	}
	if workunits.Work(n.cfg.Network, n.self, proof) >= n.cfg.Work {
		n.proof = proof // else another key's, or of a network that asked for less
	}
	projects, err := n.db.projects()
	if err != nil {
		return err
	}
	for _, p := range projects {
		n.trusted[p.Project] = p.Trusted
		n.volunteer.Step(n.clock.at(now()), volunteer.SetShare{Project: p.Project, Share: p.Share})
	}
	for _, p := range n.cfg.Trust {
		n.trusted[p] = true
	}
	if err := n.loadPointers(); err != nil {
		return err
	}
	stored, err := n.db.jobs()
	if err != nil {
		return err
	}
	for _, s := range stored {
		j, err := n.newJob(s.manifest)
		if err != nil {
			return fmt.Errorf("stored job: %w", err)
		}
		j.ended, j.endedAt, j.credit, j.used = s.ended > 0, s.ended, s.credit, time.Now()
		j.imported, j.wronged = s.imported, s.wronged
		n.jobs[j.id] = j
		if s.packed != nil {
			p, err := workunits.Decode[packed](s.packed, maxPacked)
			if err != nil {
				return fmt.Errorf("stored job %s: %w", j.id, err)
			}
			j.packed, j.archived, j.grown = &p, true, s.rows
			continue
		}
		if err := n.loadLedger(j); err != nil {
			return err
		}
		n.refresh(j)
		j.ledger.Forget(recentBytes)
	}
	n.sweepSnapshots()
	return nil
}

// newJob makes a job from its signed manifest.
func (n *Node) newJob(block []byte) (*job, error) {
	id, m, err := workunits.ParseManifest(block)
	if err != nil {
		return nil, err
	}
	if m.Network != n.cfg.Network {
		return nil, fmt.Errorf("job of network %q, this is %q", m.Network, n.cfg.Network)
	}
	j := &job{id: id, block: block, manifest: m, stands: m.Standing == nil}
	n.newLedger(j)
	return j, nil
}

// addJob makes a job known, durably.
func (n *Node) addJob(block []byte) (*job, error) {
	j, err := n.newJob(block)
	if err != nil {
		return nil, err
	}
	if old := n.jobs[j.id]; old != nil {
		return old, nil
	}
	if len(n.jobs) >= maxJobs {
		return nil, fmt.Errorf("%d jobs are known: %w", len(n.jobs), workunits.ErrTooLarge)
	}
	if err := n.db.addJob(j.id, block); err != nil {
		return nil, err
	}
	n.jobs[j.id] = j
	n.changed()
	return j, nil
}

// refresh brings a job's roles in line with its ledger: this node becomes a
// steward when the publisher lists it, and a volunteer when it trusts the project.
func (n *Node) refresh(j *job) {
	if j.steward == nil {
		j.list = n.succession(j)
		if slices.ContainsFunc(j.list, func(s workunits.Steward) bool { return s.Node == n.self }) || j.manifest.Publisher == n.self {
			n.beSteward(j)
		}
	} else {
		j.list = j.steward.Book().Stewards()
		j.collected = j.steward.Book().Collected() && j.manifest.Publisher != n.self
		if over := j.steward.Book().Done() || j.steward.Book().Cancelled() != nil; over != j.ended {
			n.end(j, over)
		}
		n.point(j)
	}
	n.volunteerFor(j)
}

// tellWrong tells the owner, once, that a copy of this node's was proven wrong.
func (n *Node) tellWrong(id workunits.JobID) {
	j := n.jobs[id]
	if j == nil || j.wronged {
		return
	}
	j.wronged = true
	if err := n.db.wrongJob(id); err != nil {
		n.log.Warn("record that a copy was wrong", "job", id, "err", err)
	}
	n.events.add(Event{Kind: "fault", Job: id, Node: n.self, Text: string(workunits.FaultWrong)})
}

// end records that a job wants nothing more, or that it does again.
func (n *Node) end(j *job, over bool) {
	if over && !j.ended {
		j.endedAt = now()
	}
	j.ended = over
	if over {
		if err := n.db.endJob(j.id, j.endedAt, j.credit); err != nil {
			n.log.Warn("record the end of a job", "job", j.id, "err", err)
		}
	}
}

func (n *Node) volunteerFor(j *job) {
	want := n.trusted[j.manifest.ProjectID()] && !j.ended && len(j.list) > 0 && j.manifest.Admits(n.self, n.proof)
	switch {
	case want:
		j.joined = true
		in := volunteer.Join{Job: j.id, Manifest: j.manifest, Stewards: j.list, Author: j.author, Steward: j.steward != nil}
		if in.Identity.Proof = n.proofFor(j); !j.author.Begun() {
			in.Identity = n.identity(j)
		}
		n.stepVolunteer(in)
		n.tellHeld(j)
	case j.joined:
		j.joined = false
		n.stepVolunteer(volunteer.Leave{Job: j.id})
		n.dropCheckpoints(j.id)
	}
}

// knows reports whether nodes are on the part of the succession list that is here.
func (j *job) knows(stewards []workunits.NodeID) bool {
	return !slices.ContainsFunc(stewards, func(n workunits.NodeID) bool { return !j.listed(n) })
}

// amend takes the stewards that the publisher lists in a segment whose place in
// its log is not known here.
func (j *job) amend(s workunits.Segment) (added bool) {
	for _, st := range s.Statements {
		if st.Kind != workunits.KindAmendment {
			continue
		}
		if b, err := st.Decode(); err == nil {
			for _, x := range b.(workunits.Amendment).Stewards {
				if len(j.amended) < workunits.MaxStewards && !slices.Contains(j.amended, x) {
					j.amended = append(j.amended, x)
					added = true
				}
			}
		}
	}
	return added
}

// succession reads the publisher's list from what is here of its log.
func (n *Node) succession(j *job) (list []workunits.Steward) {
	p := j.manifest.Publisher
	j.ledger.WalkKinds([]workunits.LogHead{{Author: p, Len: j.ledger.Len(p), Hash: j.ledger.Last(p)}}, func(e ledger.Entry) {
		list = append(list, e.Body.(workunits.Amendment).Stewards...)
	}, workunits.KindAmendment)
	for _, s := range j.amended {
		if !slices.ContainsFunc(list, func(x workunits.Steward) bool { return x.Node == s.Node }) {
			list = append(list, s)
		}
	}
	return list
}

// beSteward makes this node a steward of a job, at once or when it has the table
// that the job starts from.
func (n *Node) beSteward(j *job) {
	if !j.stands {
		n.seekStanding(j)
		return
	}
	j.steward = steward.New(steward.Config{
		Key: n.cfg.Key, Job: j.id, Manifest: j.manifest, Standing: j.standing, Author: j.author, Identity: n.identity(j),
		Secret: chainSecret(n.cfg.Key, j.id), Rand: n.cfg.Rand,
		Restored: j.restored, Snapshot: j.memory,
	})
	if j.memory != nil {
		j.memory, j.snapped = nil, j.steward.Book().Copies()
	}
	n.goDo(func(ctx context.Context) {
		if err := n.cfg.Net.Provide(ctx, j.id.Cid()); err != nil {
			n.log.Debug("provide a job", "job", j.id, "err", err)
		}
	})
}

// chainSecret is the same whenever the node looks after the same job.
func chainSecret(key ed25519.PrivateKey, id workunits.JobID) (s [32]byte) {
	blake3.DeriveKey(s[:], "talka 2026-11 draw chain", append(key.Seed(), id[:]...))
	return s
}

// receive routes a message to the machine that it is for.
func (n *Node) receive(from workunits.NodeID, m wire.Message) {
	j := n.jobs[m.JobID()]
	n.keeper.Seen(from)
	switch m := m.(type) {
	case wire.JobRequest:
		n.tellJob(from, m.Job, j)
		return
	case wire.JobReply:
		n.learnJob(from, m)
		return
	case wire.Ask:
		n.answerAsk(from, m)
		return
	case wire.Answer:
		if c := n.answers[m.Job]; c != nil {
			select {
			case c <- answer{from, m}:
			default:
			}
		}
		return
	case wire.PointerAsk:
		n.answerPointer(from, m)
		return
	case wire.Pointer:
		n.hearPointer(m)
		return
	case wire.WorkReply:
		n.stepVolunteer(volunteer.Received{From: from, Msg: m})
		if j != nil && j.steward == nil && j.listed(from) {
			n.learnCredit(j, m)
		}
		return
	}
	if j == nil {
		n.wantJob(m.JobID(), from)
		return
	}
	if n.receiveKeep(j, from, m) || n.receiveLog(j, from, m) {
		return
	}
	if j.packed != nil {
		if p, ok := m.(wire.Pull); !ok || !j.packed.bears(p.Have) {
			n.unpackLater(j, func() { n.receive(from, m) })
		}
		return
	}
	if j.steward == nil && n.hearLogs(j, from, m) {
		return
	}
	if p, ok := m.(wire.Push); ok && j.steward == nil {
		n.learnList(j, p.Segments)
	}
	if j.steward != nil {
		j.inputs = append(j.inputs, steward.Received{From: from, Msg: m})
	} else {
		n.stepVolunteer(volunteer.Received{From: from, Msg: m})
	}
}

// learnCredit takes a steward's word on what this node's copies came to, the
// last one with the end of the job.
func (n *Node) learnCredit(j *job, m wire.WorkReply) {
	j.credit = max(j.credit, int(m.Credit))
	if m.Ended {
		j.credit = int(m.Credit)
		n.end(j, true)
		n.volunteerFor(j)
		n.changed()
	}
}

// listed reports whether a node is on the part of the succession list that is here.
func (j *job) listed(node workunits.NodeID) bool {
	return slices.ContainsFunc(j.list, func(s workunits.Steward) bool { return s.Node == node })
}

// wantJob asks a peer for a job that it speaks of, now and then.
func (n *Node) wantJob(id workunits.JobID, from ...workunits.NodeID) {
	if len(n.wanted) >= maxSeen || time.Since(n.wanted[id]) < askAgainAfter {
		return
	}
	n.wanted[id] = time.Now()
	for _, p := range from {
		if p != n.self {
			n.send(p, wire.JobRequest{Job: id})
		}
	}
}

// tellJob gives a job's manifest and the segments that its succession list is in,
// as far as they are here.
func (n *Node) tellJob(to workunits.NodeID, id workunits.JobID, j *job) {
	r := wire.JobReply{Job: id}
	if j != nil && j.packed != nil {
		n.unpackLater(j, func() { n.tellJob(to, id, j) })
		return
	}
	if j != nil {
		r.Manifest = j.block
		size := 0
		for _, raw := range j.ledger.Holding(j.manifest.Publisher, workunits.KindIdentity, workunits.KindAmendment) {
			if size += len(raw); size > wire.MaxFrame/2 || len(r.Segments) == wire.MaxSegments {
				break
			}
			r.Segments = append(r.Segments, raw)
		}
	}
	n.send(to, r)
}

// learnJob takes a job that this node asked for, if it may concern it.
func (n *Node) learnJob(from workunits.NodeID, r wire.JobReply) {
	if j := n.jobs[r.Job]; j != nil {
		if j.packed != nil {
			n.unpackLater(j, func() {})
		} else if j.steward == nil {
			n.learnList(j, r.Segments)
		}
		return
	}
	if _, asked := n.wanted[r.Job]; !asked || len(r.Manifest) == 0 {
		return
	}
	if id, _, err := workunits.ParseManifest(r.Manifest); err != nil || id != r.Job {
		n.log.Debug("refused a job", "peer", from, "err", err)
		return
	}
	j, err := n.addJob(r.Manifest)
	if err != nil {
		n.log.Debug("refused a job", "peer", from, "err", err)
		return
	}
	delete(n.wanted, r.Job)
	n.events.add(Event{Kind: "job", Job: j.id, Node: j.manifest.Publisher, Text: j.manifest.Name})
	n.learnList(j, r.Segments)
}

// learnList adds the publisher's segments to a job that this node only knows, and
// serves what stewards have opened.
func (n *Node) learnList(j *job, segments [][]byte) {
	added := false
	for _, raw := range segments {
		s, err := workunits.ParseSegment(raw)
		if err != nil {
			continue
		}
		n.learnOpenings(j, s, false)
		if s.Author != j.manifest.Publisher {
			continue
		}
		entries, err := j.ledger.Add(raw)
		if errors.Is(err, ledger.ErrGap) {
			added = j.amend(s) || added
		}
		if err == nil && len(entries) > 0 {
			n.pending.segments = append(n.pending.segments, jobSegment{job: j.id, raw: raw})
			added = true
			j.restored = j.restored || s.Author == n.self
		}
	}
	if added {
		n.refresh(j)
	}
}

// answerAsk agrees to be a job's steward, or says why not. A yes costs nothing
// until the publisher lists this node.
func (n *Node) answerAsk(from workunits.NodeID, a wire.Ask) {
	reply := wire.Answer{Job: a.Job}
	id, m, err := workunits.ParseManifest(a.Manifest)
	switch {
	case err != nil || id != a.Job || m.Publisher != from:
		reply.Reason = "not a job of yours"
	case !n.cfg.Steward:
		reply.Reason = "this node looks after no jobs of others"
	case !n.trusted[m.ProjectID()]:
		reply.Reason = "this node does not trust the project"
	case n.proof == nil && n.cfg.Work > 0:
		reply.Reason = "this node still works for its identity" // which begins its log
	default:
		if _, err := n.addJob(a.Manifest); err != nil {
			reply.Reason = err.Error()
			break
		}
		reply.Yes = true
		reply.Enc, _ = workunits.EncryptionKey(n.cfg.Key)
	}
	n.send(from, reply)
}

// learnAnnouncement keeps the newest announcement of a job and follows it up.
func (n *Node) learnAnnouncement(a workunits.Announcement, data []byte) {
	old, known := n.seen[a.Job]
	// Who dates an announcement ahead is not newer than others for so long.
	a.Time = min(a.Time, now())
	if known && old.Time >= a.Time || !known && !n.roomFor(a.Author) {
		return
	}
	n.seen[a.Job] = a
	n.catalogue.put(a.Job, data, a.Expires)
	switch j := n.jobs[a.Job]; {
	case !a.Ended && n.trusted[a.ProjectID()] && (j == nil || !j.knows(a.Stewards)):
		n.wantJob(a.Job, append(slices.Clone(a.Stewards), a.Author)...)
	case j == nil || j.steward != nil || !j.listed(a.Author) || a.Ended == j.ended:
	case a.Ended && j.joined:
		// The answer ends it, and says what this node's copies came to.
		n.send(a.Author, wire.WorkRequest{Job: j.id, Units: 1, Arch: n.cfg.Arch, Canon: n.cfg.Canonical, Memory: n.rules.owner.Free.Memory, Proof: n.proofFor(j)})
	default:
		n.end(j, a.Ended)
		n.volunteerFor(j)
	}
	n.changed()
}
