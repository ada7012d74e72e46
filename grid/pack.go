package grid

import (
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"time"

	"lukechampine.com/blake3"

	"github.com/talka-grid/talka/chunkstore"
	"github.com/talka-grid/talka/workunits"
	"github.com/talka-grid/talka/workunits/ledger"
)

// packAfter is how long nobody has asked for a settled job, or heard anything new
// of it, when its ledger is packed.
const packAfter = 10 * time.Minute

// ledgerArchive is the reason for which a node keeps what it packed. It is kept as
// long as the job is known.
const ledgerArchive = "ledger"

// packed is what a node holds at hand of a settled job: the root and the heads of
// its ledger, and what came of it. The ledger itself is a compressed export in
// the chunk store, where each steward keeps it, and comes back when it is asked for.
//
// Of a job that is not settled nothing can be left out, as no unit is final before its
// job is: a burn reopens units that were accepted long ago. A restart goes on from its
// snapshot.
type packed struct {
	Archive  workunits.Link       `cbor:"archive"`
	Root     workunits.Digest     `cbor:"root"` // of the export; equal ledgers have equal roots
	Heads    []workunits.LogHead  `cbor:"heads"`
	Info     []byte               `cbor:"info"` // JobInfo as JSON
	Standing workunits.StakeTable `cbor:"standing"`
	Stakes   workunits.StakeTable `cbor:"stakes"`
}

// maxPacked bounds the record of a packed job.
const maxPacked = 64 << 20

// bears reports whether all heads are those of the packed ledger, which then
// lacks nothing that whoever tells them has, and has nothing that they lack.
func (p *packed) bears(heads []workunits.LogHead) bool {
	for _, h := range heads {
		i, found := slices.BinarySearchFunc(p.Heads, h.Author, func(x workunits.LogHead, a workunits.NodeID) int { return x.Author.Compare(a) })
		if !found || p.Heads[i] != h {
			return false
		}
	}
	return true
}

// info is what was known of the job when it was packed.
func (p *packed) info() (info JobInfo) {
	_ = json.Unmarshal(p.Info, &info) // as this node wrote it
	return info
}

// packSettled packs a job that is settled and of which nothing was heard for long,
// if there is one.
func (n *Node) packSettled() {
	for _, j := range n.sortedJobs() {
		if j.steward == nil || !j.ended || time.Since(j.used) < packAfter || !n.info(j).Settled {
			continue
		}
		j.used = time.Now() // until the next try, should this one fail
		n.goDo(func(ctx context.Context) {
			if err := n.packLedger(ctx, j.id); err != nil && ctx.Err() == nil {
				n.log.Warn("pack a settled job", "job", j.id, "err", err)
			}
		})
		return
	}
}

// packLedger replaces a settled job's ledger here by what packed holds. It does
// nothing if somebody asks for the ledger meanwhile, or it grows.
func (n *Node) packLedger(ctx context.Context, id workunits.JobID) error {
	var x workunits.Export
	var p packed
	var used time.Time
	var err error
	derr := n.do(ctx, func() {
		j := n.jobs[id]
		used = j.used
		x = workunits.Export{Manifest: j.block, Segments: j.ledger.Segments()}
		err = j.ledger.Err()
		if j.manifest.Standing != nil {
			x.Standing, _ = j.standing.Encode()
		}
		p = packed{Heads: j.ledger.Heads(), Standing: j.standing, Stakes: j.steward.Book().Stakes()}
		p.Info, _ = json.Marshal(n.info(j)) // it has nothing that cannot be written
	})
	if err := errors.Join(derr, err); err != nil {
		return err
	}
	if err := n.archive(ctx, x, &p); err != nil {
		return err
	}
	derr = n.do(ctx, func() {
		j := n.jobs[id]
		if j.used != used || len(j.inputs) > 0 || !slices.Equal(j.ledger.Heads(), p.Heads) {
			return
		}
		j.credit = n.creditIn(j)
		if err = n.db.pack(id, j.credit, workunits.Encode(p)); err != nil {
			return
		}
		n.dropSnapshot(id)
		j.packed, j.archived, j.steward = &p, true, nil
		n.newLedger(j)
		err = n.db.shrink()
	})
	return errors.Join(derr, err)
}

// archive writes a compressed export into the chunk store and keeps it.
func (n *Node) archive(ctx context.Context, x workunits.Export, p *packed) (err error) {
	dir := filepath.Join(n.cfg.Dir, "work")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	f, err := os.CreateTemp(dir, "ledger-*")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.Remove(f.Name())) }()
	sum := blake3.New(len(p.Root), nil)
	z, _ := gzip.NewWriterLevel(f, gzip.BestSpeed) // hashes and keys get no smaller with more effort
	if err := errors.Join(ledger.WriteExport(io.MultiWriter(z, sum), x), z.Close(), f.Close()); err != nil {
		return err
	}
	p.Root = workunits.Digest(sum.Sum(nil))
	root, _, _, err := n.cfg.Data.Add(ctx, f.Name(), nil)
	if err != nil {
		return err
	}
	p.Archive = workunits.Link{Cid: root}
	return errors.Join(n.cfg.Data.Keep(chunkstore.Lease{Root: root, Reason: ledgerArchive}), n.cfg.Data.Sync())
}

// unpack brings a packed job's ledger back, from this node's store or another
// steward's, with whatever was learned since; it does nothing for other jobs.
func (n *Node) unpack(ctx context.Context, id workunits.JobID) error {
	var p *packed
	var hints []workunits.NodeID
	err := n.do(ctx, func() {
		if j := n.jobs[id]; j != nil {
			if j.used = time.Now(); j.packed != nil {
				p = j.packed
				hints = n.info(j).Stewards
			}
		}
	})
	if err != nil || p == nil {
		return err
	}
	segments, err := n.unarchive(ctx, p, hints)
	if err != nil {
		return fmt.Errorf("ledger of job %s, which is packed: %w", id, err)
	}
	derr := n.do(ctx, func() {
		j := n.jobs[id]
		if j.packed == nil {
			return // somebody else was faster
		}
		for _, raw := range segments {
			n.loadSegment(j, raw, 0)
		}
		err = n.db.eachSegment(ctx, id, func(raw []byte, row uint64) { n.loadSegment(j, raw, row) })
		j.packed, j.standing, j.stands = nil, p.Standing, true
		n.refresh(j)
	})
	return errors.Join(derr, err)
}

// unarchive reads the segments of an archive that this node wrote.
func (n *Node) unarchive(ctx context.Context, p *packed, hints []workunits.NodeID) ([][]byte, error) {
	f, err := n.cfg.Data.Open(ctx, p.Archive.Cid, nil, hints)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		return nil, err
	}
	sum := blake3.New(len(p.Root), nil)
	x, err := ledger.ParseExport(io.TeeReader(z, sum))
	if err == nil && workunits.Digest(sum.Sum(nil)) != p.Root {
		err = ledger.ErrExport // its chunks are right: this node's own record is not
	}
	return x.Segments, err
}

// unpackLater brings a packed job's ledger back beside the loop, for who will ask
// again.
func (n *Node) unpackLater(j *job, then func()) {
	if j.unpacking {
		return
	}
	j.unpacking = true
	n.goDo(func(ctx context.Context) {
		err := n.unpack(ctx, j.id)
		if err != nil && ctx.Err() == nil {
			n.log.Warn("unpack a job", "job", j.id, "err", err)
		}
		n.post(func() {
			if j.unpacking = false; err == nil {
				then()
			}
		})
	})
}
