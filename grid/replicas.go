package grid

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/ipfs/go-cid"

	"github.com/talka-grid/talka/chunkstore"
	"github.com/talka-grid/talka/chunkstore/replica"
	"github.com/talka-grid/talka/grid/keep"
	"github.com/talka-grid/talka/grid/steward"
	"github.com/talka-grid/talka/grid/volunteer"
	"github.com/talka-grid/talka/grid/wire"
	"github.com/talka-grid/talka/workunits"
	"github.com/talka-grid/talka/workunits/verdict"
)

// DataHealth tells how a job's data fares.
type DataHealth = keep.Health

// recordsName is the entry of a run's folder that holds the records of its units, in
// order, as one canonical list; the others are files of results, see fileEntry.
const recordsName = "records"

// maxRecords bounds that entry.
const maxRecords = keep.Run * workunits.MaxOutcome

func fileEntry(unit uint32, file int) string { return fmt.Sprintf("%d-%d", unit, file) }

// openKeeper makes what keeps replicas.
func (n *Node) openKeeper() (err error) {
	times := n.cfg.KeepTimes
	if times.Tick == 0 {
		times = keep.DefaultTimes()
	}
	work := filepath.Join(n.cfg.Dir, "work")
	if err := os.MkdirAll(work, 0o700); err != nil {
		return err
	}
	n.keeper, err = keep.New(keep.Config{
		Self: n.self, Path: filepath.Join(n.cfg.Dir, "replicas"), Dir: work, Data: keepData{n.cfg.Data}, Peers: n.replicaPeers,
		Send: func(to workunits.NodeID, m wire.Message) { n.out.send(to, wire.Encode(m)) },
		Rate: repairRate(0), Share: n.cfg.KeepShare, Times: times, Log: n.log, Gather: n.gatherRun,
	})
	n.lookEvery = times.Tick
	return err
}

// repairRate is how many bytes a second the repair of replicas may take: a tenth of what
// may be sent, or of 100 Mbit/s where that has no limit.
func repairRate(up int64) float64 {
	if up == 0 {
		return 12.5e6 / 10
	}
	return float64(max(up, 0)) / 10
}

// keepData is what replicas need of the data.
type keepData struct{ Data }

func (d keepData) Fetch(ctx context.Context, root cid.Cid, hints []workunits.NodeID, p func(done, total int64)) error {
	return d.Data.Fetch(ctx, root, hints, p)
}

func (d keepData) Add(ctx context.Context, path string) (cid.Cid, error) {
	root, _, _, err := d.Data.Add(ctx, path, nil)
	return root, err
}

func (d keepData) Import(ctx context.Context, r io.Reader) ([]cid.Cid, error) {
	in, err := d.Data.Import(ctx, r, func(int64, int64) {})
	return in.Roots, err
}

func (d keepData) Open(ctx context.Context, root cid.Cid) (io.ReadCloser, error) {
	return d.Data.Open(ctx, root, nil, nil)
}

// replicaPeers are the connected peers. Those behind one address have one operator,
// for all that is known.
func (n *Node) replicaPeers() (list []replica.Peer) {
	for _, p := range n.cfg.Net.Peers() {
		r := replica.Peer{Node: p.PeerID, Net: operator(p.Addrs)}
		for _, a := range p.Addrs {
			parts := strings.SplitN(strings.TrimPrefix(a, "/"), "/", 3)
			if len(parts) < 2 || r.Operator != "" {
				continue
			}
			if ip, err := netip.ParseAddr(parts[1]); err == nil {
				bits := 32
				if ip = ip.Unmap(); ip.Is6() {
					bits = 64
				}
				if at, err := ip.Prefix(bits); err == nil {
					r.Operator = at.String()
				}
			}
		}
		list = append(list, r)
	}
	return list
}

// lookAfterData tells the keeper now and then of the jobs that this node looks after.
func (n *Node) lookAfterData() {
	if time.Since(n.lookedAt) < n.lookEvery {
		return
	}
	n.lookedAt = time.Now()
	for _, j := range n.sortedJobs() {
		if j.released || j.collected || j.expired(now()) {
			continue
		}
		k := keep.Job{ID: j.id, Copies: max(int(j.manifest.Replicas), 1), Until: j.until()}
		switch {
		case j.packed != nil:
			k.Stewards = j.packed.info().Stewards
			n.keeper.Look(k)
		case j.steward != nil && j.steward.Book().Keeps(n.self) && !j.steward.Book().Collected():
			for _, s := range j.list {
				k.Stewards = append(k.Stewards, s.Node)
			}
			n.keeper.Look(k)
			n.addObjects(j, j.steward.Book())
		}
	}
}

// until is when a job's data is needed no more, as far as it can be known now.
func (j *job) until() time.Time {
	end := time.Now()
	if j.ended {
		end = time.UnixMilli(int64(j.endedAt))
	}
	return end.Add(time.Duration(j.manifest.Days) * 24 * time.Hour)
}

// addObjects tells the keeper of a job's inputs, and of the runs of units that are
// done.
func (n *Node) addObjects(j *job, b *verdict.Book) {
	var keepers []workunits.NodeID
	for _, s := range j.list {
		if b.Keeps(s.Node) {
			keepers = append(keepers, s.Node)
		}
	}
	for _, l := range inputs(j.id, j.manifest) {
		n.keeper.Add(j.id, l.Root, append(slices.Clone(keepers), j.steward.Holders(l.Root)...)...)
	}
	total := j.manifest.Total()
	for ; j.wholeRuns*keep.Run < total; j.wholeRuns++ {
		first := j.wholeRuns * keep.Run
		for u := first; u < min(first+keep.Run, total); u++ {
			if s := b.State(u); s != verdict.Accepted && s != verdict.Failed && !j.ended {
				return
			}
		}
		n.keeper.Whole(j.id, j.wholeRuns)
	}
}

// reopened tells the keeper that a unit's result is not accepted any more.
func (n *Node) reopened(j *job, unit uint32) {
	j.wholeRuns = min(j.wholeRuns, unit/keep.Run)
	n.keeper.Reopened(j.id, unit/keep.Run)
}

// agreed is an accepted unit, and who has its result.
type agreed struct {
	unit    uint32
	result  workunits.Result
	holders []workunits.NodeID
}

// runResults lists the accepted units of a run.
func (n *Node) runResults(ctx context.Context, id workunits.JobID, run uint32) (list []agreed, err error) {
	err = n.book(ctx, id, func(j *job, b *verdict.Book) {
		for u := run * keep.Run; u < min((run+1)*keep.Run, j.manifest.Total()); u++ {
			v := b.Unit(u)
			if v.State != verdict.Accepted {
				continue
			}
			list = append(list, agreed{u, v.Result, holders(b, u, v)})
		}
	})
	return list, err
}

// holders lists who has the result of an accepted unit: its volunteers, and the stewards
// that said so.
func holders(b *verdict.Book, u uint32, v verdict.Unit) []workunits.NodeID {
	list := slices.Clone(v.Volunteers)
	for _, s := range b.Stewards() {
		if b.Stored(u, s.Node, v.Opening) && !slices.Contains(list, s.Node) {
			list = append(list, s.Node)
		}
	}
	return list
}

// gatherRun makes the folder of a run: the records of its accepted units and the
// small files of their results. Large files are only named.
func (n *Node) gatherRun(ctx context.Context, id workunits.JobID, run uint32) (g keep.Gathered, err error) {
	units, err := n.runResults(ctx, id, run)
	if err != nil {
		return g, err
	}
	var entries []chunkstore.Entry
	records := [][]byte{}
	for _, a := range units {
		raw, err := n.record(ctx, a.result.Digest, a.result.Cid().Cid, a.holders)
		if err != nil {
			return g, err
		}
		records = append(records, raw)
		o, err := workunits.ParseOutcome(raw)
		if err != nil {
			return g, err
		}
		for i, f := range o.All() {
			switch {
			case f.Cid == nil:
			case f.Size >= keep.Large:
				g.Large = append(g.Large, keep.Held{Root: f.Cid.Cid, Holders: a.holders})
			default:
				if err := n.cfg.Data.Fetch(ctx, f.Cid.Cid, a.holders, nil); err != nil {
					return g, err
				}
				entries = append(entries, chunkstore.Entry{Name: fileEntry(a.unit, i), Root: f.Cid.Cid})
			}
		}
	}
	root, err := n.addFile(ctx, workunits.Encode(records))
	if err != nil {
		return g, err
	}
	g.Root, err = n.cfg.Data.Compose(ctx, append(entries, chunkstore.Entry{Name: recordsName, Root: root}))
	if err != nil {
		return g, err
	}
	err = n.cfg.Data.Keep(chunkstore.Lease{Root: g.Root, Reason: keep.Reason, For: id.String()})
	return g, errors.Join(err, n.cfg.Data.Sync())
}

// addFile adds a file of this content to the store.
func (n *Node) addFile(ctx context.Context, text []byte) (_ cid.Cid, err error) {
	dir := filepath.Join(n.cfg.Dir, "work")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return cid.Undef, err
	}
	f, err := os.CreateTemp(dir, "records-*")
	if err != nil {
		return cid.Undef, err
	}
	defer func() { err = errors.Join(err, os.Remove(f.Name())) }()
	_, err = f.Write(text)
	if err := errors.Join(err, f.Close()); err != nil {
		return cid.Undef, err
	}
	root, _, _, err := n.cfg.Data.Add(ctx, f.Name(), nil)
	return root, err
}

// recall brings a result back from who keeps a replica of its run.
func (n *Node) recall(ctx context.Context, id workunits.JobID, unit uint32, r workunits.Result) (o workunits.Outcome, err error) {
	err = ErrNotFound
	for _, h := range n.keeper.Recall(ctx, id, unit/keep.Run) {
		if o, err = n.recallFrom(ctx, id, h, r); err == nil {
			return o, nil
		}
	}
	return o, err
}

func (n *Node) recallFrom(ctx context.Context, id workunits.JobID, h keep.Held, r workunits.Result) (workunits.Outcome, error) {
	var none workunits.Outcome
	records, err := n.recordsOf(ctx, h.Root, h.Holders)
	if err != nil {
		return none, err
	}
	i := slices.IndexFunc(records, func(raw []byte) bool { return workunits.Sum(raw) == r.Digest })
	if i < 0 {
		return none, fmt.Errorf("folder %s has no such result: %w", h.Root, ErrNotFound)
	}
	if err := n.db.write(writes{records: []jobRecord{{job: id, raw: records[i], served: true}}}); err != nil {
		return none, err
	}
	return n.outcome(ctx, r, h.Holders)
}

// recordsOf reads the records in the folder of a run.
func (n *Node) recordsOf(ctx context.Context, root cid.Cid, holders []workunits.NodeID) ([][]byte, error) {
	entry, err := n.cfg.Data.FetchEntry(ctx, root, recordsName, holders)
	if err != nil {
		return nil, err
	}
	f, err := n.cfg.Data.Open(ctx, entry, nil, holders)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxRecords))
	if err != nil {
		return nil, err
	}
	return workunits.Decode[[][]byte](text, maxRecords)
}

// mayAsk says why a peer may not ask for replicas of a job's data, or nothing.
func (n *Node) mayAsk(j *job, from workunits.NodeID) string {
	switch {
	case from != j.manifest.Publisher && !j.listed(from) && (j.packed == nil || !slices.Contains(j.packed.info().Stewards, from)):
		return "you are no steward of the job, as far as this node knows"
	case !n.trusted[j.manifest.ProjectID()]:
		return "this node does not trust the project"
	case j.collected || j.expired(now()):
		return "the job's time is over"
	}
	return ""
}

// receiveKeep takes the messages about replicas.
func (n *Node) receiveKeep(j *job, from workunits.NodeID, m wire.Message) bool {
	switch m := m.(type) {
	case wire.Keep:
		n.keeper.Asked(from, m, j.manifest.Publisher, n.mayAsk(j, from))
	case wire.Kept:
		n.keeper.Heard(from, m, from == j.manifest.Publisher || j.listed(from))
	case wire.Free:
		n.receiveFree(j, m)
	default:
		return false
	}
	return true
}

// receiveFree lets go of what is kept for a job, if the publisher says that it may.
func (n *Node) receiveFree(j *job, m wire.Free) {
	s, err := workunits.ParseSegment(m.Proof)
	if err != nil || s.Author != j.manifest.Publisher || s.Job != j.id || s.Network != n.cfg.Network || j.steward != nil || j.packed != nil {
		return // stewards see it in the ledger
	}
	if !slices.ContainsFunc(s.Statements, func(st workunits.Statement) bool { return st.Kind == workunits.KindCollected }) {
		return
	}
	j.collected = true
	n.end(j, true)
	n.volunteerFor(j)
}

// FreeData says that this node, which publishes the job, has what it wants of it:
// nobody need keep the job's data any more. What is here stays until the job's time is
// over.
func (n *Node) FreeData(ctx context.Context, id workunits.JobID) error {
	if err := n.unpack(ctx, id); err != nil {
		return err
	}
	return n.insist(ctx, id, n.sayCollected)
}

// sayCollected says in the ledger that the results are collected, and once it stands
// there tells those who keep replicas.
func (n *Node) sayCollected(j *job) (said bool, err error) {
	if !j.ended {
		return false, fmt.Errorf("job %s is not over: %w", j.id, ErrDenied)
	}
	n.stepSteward(j, steward.Collect{})
	b := j.steward.Book()
	if !b.Collected() {
		return false, nil
	}
	others, proof := b.Volunteers(), j.collectedProof()
	for _, s := range j.list {
		others = append(others, s.Node)
	}
	n.after = append(n.after, func() { n.keeper.Free(j.id, proof, others...) })
	return true, nil
}

// collectedProof is the segment in which the publisher says that it has the results.
func (j *job) collectedProof() []byte {
	list := j.ledger.Holding(j.manifest.Publisher, workunits.KindCollected)
	if len(list) == 0 {
		return nil
	}
	return list[len(list)-1]
}

// largeInput is how large an input is that stewards are told of, in bytes.
const largeInput = 8 << 20

// tellHeld has stewards told which large inputs of a job are here, once they are all.
func (n *Node) tellHeld(j *job) {
	if j.holding {
		return
	}
	j.holding = true
	n.goDo(func(ctx context.Context) {
		var held []workunits.Link
		for _, l := range inputs(j.id, j.manifest) {
			_, bytes, err := n.cfg.Data.Leaves(ctx, l.Root)
			if err != nil {
				n.post(func() { j.holding = false }) // it is not here yet
				return
			}
			if bytes >= largeInput {
				held = append(held, workunits.Link{Cid: l.Root})
			}
		}
		if len(held) > 0 {
			n.post(func() { n.stepVolunteer(volunteer.Holds{Job: j.id, Held: held}) })
		}
	})
}
