package api

import (
	"bytes"
	"cmp"
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/ipfs/go-cid"

	"github.com/talka-grid/talka/configs"
	"github.com/talka-grid/talka/grid"
	"github.com/talka-grid/talka/grid/volunteer/policy"
	"github.com/talka-grid/talka/workunits"
)

const memNetwork = "test"

// memNode is a Node without network or execution: what a test tells it about a
// job is what it knows. End-to-end tests use the real node.
type memNode struct {
	key workunits.NodeID

	mu       sync.Mutex
	changed  chan struct{} // closed and replaced at every change
	paused   bool
	projects map[workunits.ProjectID]*grid.ProjectInfo
	jobs     map[workunits.JobID]*memJob
	blobs    map[cid.Cid][]byte
	pinned   []cid.Cid
	events   []grid.Event
}

type memJob struct {
	manifest workunits.Manifest
	results  []grid.UnitResult
	state    grid.JobState
}

func newMemNode() *memNode {
	return &memNode{
		key:      workunits.NodeID{1},
		changed:  make(chan struct{}),
		projects: map[workunits.ProjectID]*grid.ProjectInfo{},
		jobs:     map[workunits.JobID]*memJob{},
		blobs:    map[cid.Cid][]byte{},
	}
}

// change wakes those who wait. The caller holds the lock.
func (n *memNode) change(e grid.Event) {
	e.Seq = uint64(len(n.events)) + 1
	n.events = append(n.events, e)
	close(n.changed)
	n.changed = make(chan struct{})
}

func (n *memNode) Status() grid.Status {
	n.mu.Lock()
	defer n.mu.Unlock()
	st := grid.Status{PeerID: n.key, Network: memNetwork, State: grid.StateIdle, Reason: "no job of a trusted project"}
	if n.paused {
		st.State, st.Reason = grid.StatePaused, "its owner paused it"
	}
	return st
}

func (n *memNode) Peers() []grid.PeerInfo { return nil }

func (n *memNode) Reach() grid.ReachInfo { return grid.ReachInfo{} }

func (n *memNode) BlockPeer(id workunits.NodeID, _ bool) error {
	if id == n.key {
		return errors.New("it is this node")
	}
	return nil
}

func (n *memNode) Invite(time.Duration, workunits.NodeID) (string, error) {
	return memNetwork + "/" + n.key.String(), nil
}

func (n *memNode) RemoveMember(workunits.NodeID) error {
	return fmt.Errorf("the network is open: %w", grid.ErrDenied)
}

func (n *memNode) Join(_ context.Context, invite string) error {
	if want, _ := n.Invite(0, workunits.NodeID{}); invite != want {
		return &Error{KindRequest, "the invite is for another network"}
	}
	return nil
}

func (n *memNode) setPaused(p bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.paused = p
	n.change(grid.Event{Kind: "paused"})
}

func (n *memNode) Pause(time.Duration) { n.setPaused(true) }
func (n *memNode) Finish()             { n.setPaused(true) }
func (n *memNode) Save()               { n.setPaused(true) }
func (n *memNode) Resume()             { n.setPaused(false) }

func (n *memNode) Desktop(who string, s policy.Session, end bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.change(grid.Event{Kind: "desktop", Text: fmt.Sprint(who, " ", s.ID, " ", s.Source, " ", s.Idle, " ", s.Locked, " ", end)})
}

func (n *memNode) Why() grid.Why {
	st := n.Status()
	return grid.Why{State: st.State, Reason: st.Reason, Processors: 2}
}

func (n *memNode) NewProject(name string) (workunits.ProjectID, error) {
	id := workunits.ProjectID{Publisher: n.key, Name: name}
	if err := workunits.ValidName(name); err != nil {
		return id, err
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.projects[id] = &grid.ProjectInfo{Project: id, Own: true}
	return id, nil
}

func (n *memNode) Trust(id workunits.ProjectID, trust bool) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	p, ok := n.projects[id]
	if !ok {
		p = &grid.ProjectInfo{Project: id}
		n.projects[id] = p
	}
	p.Trusted = trust
	return nil
}

func (n *memNode) Project(_ context.Context, p workunits.ProjectID) (d grid.ProjectDetail, err error) {
	d.Project = p
	return d, nil
}

func (n *memNode) Impact() (grid.Impact, error) {
	return grid.Impact{Accepted: 3, All: grid.Effort{Copies: 4, CPU: 3600}}, nil
}

func (n *memNode) Contribution(context.Context) ([]byte, error) {
	return workunits.Contribution{Network: "mem", Accepted: 3}.Sign(ed25519.NewKeyFromSeed(make([]byte, 32))), nil
}

func (n *memNode) Sample(_ context.Context, progress grid.Progress) (grid.SampleReport, error) {
	progress(1, 2)
	return grid.SampleReport{Units: 3, Seconds: 20, CPU: 19, Percent: 50}, nil
}

func (n *memNode) SetShare(p workunits.ProjectID, share int) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, known := range n.projects {
		if known.Project == p {
			known.Trusted, known.Share = true, share
			return nil
		}
	}
	return grid.ErrNotFound
}

func (n *memNode) Projects() (list []grid.ProjectInfo) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, p := range n.projects {
		list = append(list, *p)
	}
	slices.SortFunc(list, func(a, b grid.ProjectInfo) int { return cmp.Compare(a.Project.String(), b.Project.String()) })
	return list
}

func (n *memNode) Submit(_ context.Context, m workunits.Manifest, progress func(string)) (workunits.JobID, error) {
	progress("signing")
	m.Publisher, m.Network = n.key, memNetwork
	if err := m.Check(); err != nil {
		return workunits.JobID{}, err
	}
	id := workunits.JobID(workunits.Sum(workunits.Encode(m)))
	n.mu.Lock()
	defer n.mu.Unlock()
	n.jobs[id] = &memJob{manifest: m, state: grid.JobRunning}
	n.change(grid.Event{Kind: "submitted", Job: id})
	return id, nil
}

// accept adds results; with the last one the job is done.
func (n *memNode) accept(id workunits.JobID, results ...grid.UnitResult) {
	n.mu.Lock()
	defer n.mu.Unlock()
	j := n.jobs[id]
	j.results = append(j.results, results...)
	if len(j.results) == int(j.manifest.Units) {
		j.state = grid.JobDone
	}
	for _, r := range results {
		n.change(grid.Event{Kind: "accepted", Job: id, Unit: r.Unit})
	}
}

func (n *memNode) Jobs() (list []grid.JobInfo) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for id := range n.jobs {
		info, _ := n.info(id)
		list = append(list, info)
	}
	return list
}

// info is for callers that hold the lock.
func (n *memNode) info(id workunits.JobID) (grid.JobInfo, error) {
	j, ok := n.jobs[id]
	if !ok {
		return grid.JobInfo{}, fmt.Errorf("job %s: %w", id, grid.ErrNotFound)
	}
	total, accepted := int(j.manifest.Units), len(j.results)
	return grid.JobInfo{
		Job: id, Name: j.manifest.Name, Project: j.manifest.ProjectID(), State: j.state,
		Units: grid.UnitCounts{Total: total, Open: total - accepted, Accepted: accepted},
	}, nil
}

func (n *memNode) Job(_ context.Context, id workunits.JobID) (grid.JobInfo, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.info(id)
}

func (n *memNode) JobWhy(ctx context.Context, id workunits.JobID) (grid.JobWhy, error) {
	info, err := n.Job(ctx, id)
	return grid.JobWhy{Job: id, State: info.State, Refused: []grid.JobRefusal{}}, err
}

func (n *memNode) Audit(ctx context.Context, id workunits.JobID, units int, progress func(string)) (grid.AuditReport, error) {
	if _, err := n.Job(ctx, id); err != nil {
		return grid.AuditReport{}, err
	}
	progress("audits")
	return grid.AuditReport{Job: id, Units: make([]uint32, units), Wrong: []uint32{}, Proven: []workunits.NodeID{}}, nil
}

func (n *memNode) Story(ctx context.Context, id workunits.JobID, unit uint32) (grid.UnitStory, error) {
	if _, err := n.Job(ctx, id); err != nil {
		return grid.UnitStory{}, err
	}
	return grid.UnitStory{Job: id, Unit: unit, State: "open", Proven: []workunits.NodeID{}, Copies: []grid.CopyStory{}}, nil
}

func (n *memNode) WaitJob(ctx context.Context, id workunits.JobID) (grid.JobInfo, error) {
	for {
		n.mu.Lock()
		info, err := n.info(id)
		changed := n.changed
		n.mu.Unlock()
		if err != nil || info.State != grid.JobRunning {
			return info, err
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return info, ctx.Err()
		}
	}
}

func (n *memNode) Ledger(_ context.Context, id workunits.JobID) (workunits.Export, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if _, err := n.info(id); err != nil {
		return workunits.Export{}, err
	}
	return workunits.Export{
		Manifest: []byte(n.jobs[id].manifest.Name), Standing: []byte("stakes"), Segments: [][]byte{[]byte("first"), []byte("second")},
	}, nil
}

func (n *memNode) FreeData(_ context.Context, id workunits.JobID) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	info, err := n.info(id)
	if err == nil && info.State == grid.JobRunning {
		err = grid.ErrDenied
	}
	return err
}

func (n *memNode) Cancel(_ context.Context, id workunits.JobID, _ string) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if _, err := n.info(id); err != nil {
		return err
	}
	n.jobs[id].state = grid.JobCancelled
	n.change(grid.Event{Kind: "cancelled", Job: id})
	return nil
}

func (n *memNode) Results(_ context.Context, id workunits.JobID, yield func(grid.UnitResult) error) error {
	n.mu.Lock()
	_, err := n.info(id)
	if err != nil {
		n.mu.Unlock()
		return err
	}
	results := slices.Clone(n.jobs[id].results)
	n.mu.Unlock()
	slices.SortFunc(results, func(a, b grid.UnitResult) int { return cmp.Compare(a.Unit, b.Unit) })
	for _, r := range results {
		if err := yield(r); err != nil {
			return err
		}
	}
	return nil
}

func (n *memNode) Units(_ context.Context, id workunits.JobID, from, count uint32) (list []grid.UnitInfo, err error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if _, err := n.info(id); err != nil {
		return nil, err
	}
	j := n.jobs[id]
	for u := from; u < j.manifest.Units && u-from < count; u++ {
		info := grid.UnitInfo{Unit: u, State: grid.UnitOpen}
		if slices.ContainsFunc(j.results, func(r grid.UnitResult) bool { return r.Unit == u }) {
			info.State, info.Copies = grid.UnitAccepted, 1
		}
		list = append(list, info)
	}
	return list, nil
}

func (n *memNode) Copies(_ context.Context, id workunits.JobID, unit uint32) ([]grid.CopyInfo, error) {
	r, err := n.Result(context.Background(), id, unit)
	if errors.Is(err, grid.ErrNotFound) {
		return []grid.CopyInfo{}, nil
	}
	_, digest := r.Outcome.Encode()
	return []grid.CopyInfo{{Node: n.key, Open: true, Accords: true, Result: digest.String()}}, err
}

func (n *memNode) Result(_ context.Context, id workunits.JobID, unit uint32) (grid.UnitResult, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if _, err := n.info(id); err != nil {
		return grid.UnitResult{}, err
	}
	for _, r := range n.jobs[id].results {
		if r.Unit == unit {
			return r, nil
		}
	}
	return grid.UnitResult{}, fmt.Errorf("unit %d: %w", unit, grid.ErrNotFound)
}

func (n *memNode) Events(ctx context.Context, after uint64) <-chan grid.Event {
	out := make(chan grid.Event)
	go func() {
		defer close(out)
		for ; ; after++ {
			n.mu.Lock()
			for after >= uint64(len(n.events)) {
				changed := n.changed
				n.mu.Unlock()
				select {
				case <-changed:
				case <-ctx.Done():
					return
				}
				n.mu.Lock()
			}
			e := n.events[after]
			n.mu.Unlock()
			select {
			case out <- e:
			case <-ctx.Done():
				return
			}
		}
	}()
	return out
}

func (n *memNode) AddData(_ context.Context, path string, as grid.Adding, progress func(done, total int64)) (cid.Cid, int64, int, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return cid.Undef, 0, 0, err
	}
	progress(0, int64(len(b)))
	if as.Hash == grid.SHA256 || as.Link {
		return cid.Undef, 0, 0, fmt.Errorf("%+v: %w", as, grid.ErrForeign)
	}
	c := workunits.RawCid(workunits.Sum(b))
	n.mu.Lock()
	n.blobs[c] = b
	n.mu.Unlock()
	progress(int64(len(b)), int64(len(b)))
	return c, int64(len(b)), 1, nil
}

func (n *memNode) GetData(ctx context.Context, c cid.Cid, dest string, _ []string, progress func(done, total int64)) (grid.DataOrigin, error) {
	n.mu.Lock()
	b, ok := n.blobs[c]
	n.mu.Unlock()
	if !ok {
		<-ctx.Done() // peers are asked as long as there is hope
		return grid.DataOrigin{}, ctx.Err()
	}
	f, err := os.OpenFile(dest, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return grid.DataOrigin{}, err
	}
	_, err = f.ReadFrom(bytes.NewReader(b))
	progress(int64(len(b)), int64(len(b)))
	return grid.DataOrigin{Here: int64(len(b))}, errors.Join(err, f.Close())
}

func (n *memNode) Pin(ctx context.Context, c cid.Cid, _ func(done, total int64)) (int64, error) {
	n.mu.Lock()
	b, ok := n.blobs[c]
	if ok {
		n.pinned = append(n.pinned, c)
	}
	n.mu.Unlock()
	if !ok {
		<-ctx.Done()
		return 0, ctx.Err()
	}
	return int64(len(b)), nil
}

func (n *memNode) Unpin(c cid.Cid) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	i := slices.Index(n.pinned, c)
	if i < 0 {
		return grid.ErrNotFound
	}
	n.pinned = slices.Delete(n.pinned, i, i+1)
	return nil
}

func (n *memNode) Kept(yield func(grid.Kept) error) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, c := range n.pinned {
		if err := yield(grid.Kept{Cid: c.String(), Reason: "own data"}); err != nil {
			return err
		}
	}
	return nil
}

func (n *memNode) ExportData(ctx context.Context, c cid.Cid, dest string, from []string, progress func(done, total int64)) (grid.DataOrigin, error) {
	return n.GetData(ctx, c, dest, from, progress)
}

func (n *memNode) ImportData(ctx context.Context, path string, progress func(done, total int64)) ([]cid.Cid, int64, int, error) {
	c, bytes, chunks, err := n.AddData(ctx, path, grid.Adding{}, progress)
	return []cid.Cid{c}, bytes, chunks, err
}

type openFile struct{ *bytes.Reader }

func (openFile) Close() error { return nil }

func (n *memNode) OpenData(ctx context.Context, root cid.Cid, path []string) (io.ReadSeekCloser, error) {
	if len(path) > 0 {
		return nil, fmt.Errorf("no folder: %w", grid.ErrForeign)
	}
	b, err := n.ChunkData(ctx, root)
	return openFile{bytes.NewReader(b)}, err
}

func (n *memNode) ChunkData(_ context.Context, c cid.Cid) ([]byte, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	b, ok := n.blobs[c]
	if !ok {
		return nil, grid.ErrNotFound
	}
	return b, nil
}

func (n *memNode) ArchiveData(ctx context.Context, root cid.Cid, _ grid.Selection, begin func() io.Writer) error {
	b, err := n.ChunkData(ctx, root)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(begin(), "archive %s", b)
	return err
}

// memSettings are settings whose override file is in memory.
type memSettings struct {
	mu       sync.Mutex
	override []byte
}

func (s *memSettings) Explain() ([]configs.Setting, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return configs.Explain(configs.Sources{Override: s.override})
}

func (s *memSettings) Set(key, value string) error {
	return s.change(func(old []byte) ([]byte, error) { return configs.Set(old, key, value) })
}

func (s *memSettings) Unset(key string) error {
	return s.change(func(old []byte) ([]byte, error) { return configs.Unset(old, key) })
}

func (s *memSettings) change(change func([]byte) ([]byte, error)) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	b, err := change(s.override)
	if err == nil {
		s.override = b
	}
	return err
}

func (n *memNode) DataInfo(context.Context) (grid.DataInfo, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	return grid.DataInfo{Chunks: len(n.blobs)}, nil
}
