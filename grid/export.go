package grid

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"

	"github.com/ipfs/go-cid"

	"github.com/talka-grid/talka/chunkstore"
	"github.com/talka-grid/talka/grid/keep"
	"github.com/talka-grid/talka/grid/steward"
	"github.com/talka-grid/talka/grid/wire"
	"github.com/talka-grid/talka/workunits"
	"github.com/talka-grid/talka/workunits/ledger"
	"github.com/talka-grid/talka/workunits/verdict"
)

// GatherResults makes one folder in the store of all accepted results of a job, run by
// run as they are replicated, with their large files beside, and keeps it as long as
// the job's data. Progress gets runs.
func (n *Node) GatherResults(ctx context.Context, id workunits.JobID, p Progress) (cid.Cid, error) {
	runs, err := n.runsOf(ctx, id)
	if err != nil {
		return cid.Undef, err
	}
	var entries []chunkstore.Entry
	for run := range runs {
		g, err := n.gatherRun(ctx, id, run)
		if err != nil {
			return cid.Undef, fmt.Errorf("results of units from %d: %w", run*keep.Run, err)
		}
		entries = append(entries, chunkstore.Entry{Name: runEntry(run), Root: g.Root})
		for i, large := range g.Large {
			if err := n.cfg.Data.Fetch(ctx, large.Root, large.Holders, nil); err != nil {
				return cid.Undef, fmt.Errorf("results of units from %d: %w", run*keep.Run, err)
			}
			entries = append(entries, chunkstore.Entry{Name: runEntry(run) + "-" + strconv.Itoa(i), Root: large.Root})
		}
		p(int64(run)+1, int64(runs))
	}
	root, err := n.cfg.Data.Compose(ctx, entries)
	if err != nil {
		return root, err
	}
	return root, errors.Join(n.cfg.Data.Keep(chunkstore.Lease{Root: root, Reason: jobResult, For: id.String()}), n.cfg.Data.Sync())
}

// runEntry names a run of units in the folder of a job's results.
func runEntry(run uint32) string { return strconv.FormatUint(uint64(run), 10) }

// runsOf is how many runs of units a job has.
func (n *Node) runsOf(ctx context.Context, id workunits.JobID) (runs uint32, err error) {
	err = n.book(ctx, id, func(j *job, _ *verdict.Book) { runs = (j.manifest.Total() + keep.Run - 1) / keep.Run })
	return runs, err
}

// ImportReport tells what an exported job brought.
type ImportReport struct {
	Job      workunits.JobID `json:"job"`
	Name     string          `json:"name"`
	Segments int             `json:"segments"` // of the ledger in the file
	Results  int             `json:"results"`  // whose records the file has, too
}

// ImportJob takes in a file that an export of a job wrote: its manifest, its ledger, of
// which every signature is checked, and its results, if they are in the file. A node
// that looks after the job learns what it lacks; any other tells what the file does. Of
// a job that is over, what is brought is kept as long as the job asks from now on.
// Progress gets bytes of results.
func (n *Node) ImportJob(ctx context.Context, path string, p Progress) (r ImportReport, err error) {
	f, err := os.Open(path)
	if err != nil {
		return r, err
	}
	defer f.Close()
	in := bufio.NewReader(f)
	x, err := ledger.ReadExport(in)
	if err != nil {
		return r, fmt.Errorf("%s: %w", path, err)
	}
	segments := x.Ledger.Segments()
	r = ImportReport{Job: x.Job, Name: x.Manifest.Name, Segments: len(segments)}
	if x.Manifest.Standing != nil {
		raw, _ := x.Standing.Encode()
		lease := chunkstore.Lease{Root: x.Manifest.Standing.Cid, Reason: jobInput, For: x.Job.String()}
		if err := errors.Join(n.cfg.Data.PutRecord(ctx, raw), n.cfg.Data.Keep(lease)); err != nil {
			return r, err
		}
	}
	if err := n.unpack(ctx, x.Job); err != nil {
		return r, err
	}
	derr := n.do(ctx, func() { err = n.takeIn(x, segments) })
	if err := errors.Join(derr, err); err != nil {
		return r, err
	}
	if _, err := in.Peek(1); err != nil {
		return r, nil // a ledger alone
	}
	r.Results, err = n.importResults(ctx, x.Job, in, p)
	return r, err
}

// takeIn learns a job with its ledger.
func (n *Node) takeIn(x ledger.Read, segments [][]byte) error {
	j, err := n.addJob(x.Block)
	if err != nil {
		return err
	}
	if j.steward != nil {
		for ; len(segments) > 0; segments = segments[min(len(segments), wire.MaxSegments):] {
			some := segments[:min(len(segments), wire.MaxSegments)]
			j.inputs = append(j.inputs, steward.Received{From: n.self, Msg: wire.Push{Job: j.id, Segments: some}})
		}
		return nil
	}
	if err := n.db.importJob(j.id); err != nil {
		return err
	}
	j.imported = true
	for _, raw := range segments {
		entries, err := j.ledger.Load(raw) // ReadExport checked it
		var fork *ledger.ForkError
		if len(entries) > 0 || errors.As(err, &fork) {
			n.pending.segments = append(n.pending.segments, jobSegment{job: j.id, raw: raw})
			j.restored = j.restored || len(entries) > 0 && entries[0].Author == n.self
		}
	}
	j.standing, j.stands, j.reading = x.Standing, true, nil
	if n.refresh(j); j.steward == nil {
		if j.reading = j.readFile(j.standing); j.reading.over() {
			n.end(j, true)
			n.volunteerFor(j)
		}
	}
	return nil
}

// fromFile reports whether the ledger of a job that is not looked after here came from a
// file: without one it holds but a part of the publisher's log, and this node's own.
func (j *job) fromFile() bool { return j.imported && j.steward == nil && j.packed == nil }

// readFile is the reading of a ledger that came from a file.
func (j *job) readFile(t workunits.StakeTable) *reading {
	l := ledger.New(j.manifest.Network, j.id)
	for _, raw := range j.ledger.Segments() {
		_, _ = l.Load(raw) // as it was loaded before
	}
	return &reading{manifest: j.manifest, ledger: l, standing: t, book: verdict.ReadWith(j.id, j.manifest, t, l, l.Heads()),
		info: ReadInfo{From: []workunits.NodeID{}, Silent: []workunits.NodeID{}, Imported: true}}
}

// readImported reads a ledger that came from a file, once.
func (n *Node) readImported(ctx context.Context, j *job) (r *reading, err error) {
	if j.reading != nil && j.reading.info.Imported {
		return j.reading, nil
	}
	var t workunits.StakeTable
	if j.manifest.Standing != nil {
		raw, err := n.stakeTable(ctx, *j.manifest.Standing, []workunits.NodeID{j.manifest.Publisher})
		if err != nil {
			return nil, err
		}
		if t, err = j.manifest.ParseStanding(raw); err != nil {
			return nil, err
		}
	}
	derr := n.do(ctx, func() {
		j := n.jobs[j.id]
		r = j.readFile(t)
		j.reading, err = r, j.ledger.Err()
	})
	return r, errors.Join(derr, err)
}

func (r *reading) over() bool { return r.book.Done() || r.book.Cancelled() != nil }

// importResults brings the results of a job into the store from an archive, and
// returns how many records of its accepted results were there.
func (n *Node) importResults(ctx context.Context, id workunits.JobID, in *bufio.Reader, p Progress) (found int, err error) {
	archive, err := n.cfg.Data.Import(ctx, in, func(done, _ int64) { p(done, 0) })
	if err != nil {
		return 0, err
	}
	for _, root := range archive.Roots {
		if err := n.cfg.Data.Keep(chunkstore.Lease{Root: root, Reason: jobResult, For: id.String()}); err != nil {
			return found, err
		}
		runs, err := n.runsOf(ctx, id)
		if err != nil {
			return found, err
		}
		for run := range runs {
			records, err := n.importRun(ctx, id, root, run)
			if err != nil {
				return found, fmt.Errorf("results of units from %d: %w", run*keep.Run, err)
			}
			found += records
		}
	}
	return found, n.cfg.Data.Sync()
}

// importRun keeps the records of a run that are of accepted results.
func (n *Node) importRun(ctx context.Context, id workunits.JobID, root cid.Cid, run uint32) (found int, err error) {
	units, err := n.runResults(ctx, id, run)
	if err != nil || len(units) == 0 {
		return 0, err
	}
	folder, err := n.cfg.Data.FetchEntry(ctx, root, runEntry(run), nil)
	if err != nil {
		return 0, err
	}
	records, err := n.recordsOf(ctx, folder, nil)
	if err != nil {
		return 0, err
	}
	wanted := map[workunits.Digest]bool{}
	for _, a := range units {
		wanted[a.result.Digest] = true
	}
	var w writes
	for _, raw := range records {
		if wanted[workunits.Sum(raw)] {
			w.records = append(w.records, jobRecord{job: id, raw: raw, served: true})
		}
	}
	return len(w.records), n.db.write(w)
}
