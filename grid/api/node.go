package api

import (
	"context"
	"io"
	"time"

	"github.com/ipfs/go-cid"

	"github.com/talka-grid/talka/configs"
	"github.com/talka-grid/talka/grid"
	"github.com/talka-grid/talka/grid/volunteer/policy"
	"github.com/talka-grid/talka/workunits"
)

// Node is what the API needs of a node. Its methods are safe for concurrent
// use. Errors wrap grid.ErrNotFound and grid.ErrTimeout where those apply.
type Node interface {
	Status() grid.Status
	Peers() []grid.PeerInfo
	Reach() grid.ReachInfo
	// BlockPeer cuts off a node and keeps it away, or takes that back.
	BlockPeer(id workunits.NodeID, block bool) error

	// Invite makes the text that lets another node find this network, see
	// grid.Network, as of RemoveMember.
	Invite(valid time.Duration, to workunits.NodeID) (string, error)
	RemoveMember(id workunits.NodeID) error
	// Join connects to the peers of an invite; an invite of another network is
	// an error.
	Join(ctx context.Context, invite string) error

	// Pause stops the execution of units for d, or until Resume where d is 0.
	Pause(d time.Duration)
	// Finish lets running copies end and begins no other until Resume.
	Finish()
	// Save lets running copies go on until they have saved their state or end.
	Save()
	Resume()
	Why() grid.Why
	// Desktop takes what a user's session tells of its use; an end takes it back.
	Desktop(who string, s policy.Session, end bool)

	// Sample executes units whose result is known for grid.SampleTime. Progress gets
	// milliseconds.
	Sample(ctx context.Context, progress grid.Progress) (grid.SampleReport, error)

	Impact() (grid.Impact, error)
	// Contribution makes a workunits.Contribution of the node's.
	Contribution(ctx context.Context) ([]byte, error)

	NewProject(name string) (workunits.ProjectID, error)
	Trust(p workunits.ProjectID, trust bool) error
	// SetShare trusts a project and sets its share of processor time.
	SetShare(p workunits.ProjectID, share int) error
	Projects() []grid.ProjectInfo
	// Project asks the network for jobs that are known of, for a few seconds.
	Project(ctx context.Context, p workunits.ProjectID) (grid.ProjectDetail, error)

	// Submit signs and publishes a job. The manifest has neither publisher,
	// network nor time; program and inputs are in the node's store. It returns
	// once other stewards hold the job, where there are any. Progress gets one
	// sentence at a time.
	Submit(ctx context.Context, m workunits.Manifest, progress func(string)) (workunits.JobID, error)
	Jobs() []grid.JobInfo
	// Job also looks on the network for a job that this node does not know.
	Job(ctx context.Context, id workunits.JobID) (grid.JobInfo, error)
	// JobWhy says why a job is where it is, as far as this node sees it.
	JobWhy(ctx context.Context, id workunits.JobID) (grid.JobWhy, error)
	// WaitJob returns when the job is done, failed or cancelled.
	WaitJob(ctx context.Context, id workunits.JobID) (grid.JobInfo, error)
	// Ledger is what is here of a job's ledger, and what it is to be read with.
	Ledger(ctx context.Context, id workunits.JobID) (workunits.Export, error)
	// GatherResults makes one folder in the store of what is accepted of a job.
	// Progress gets runs of units.
	GatherResults(ctx context.Context, id workunits.JobID, progress grid.Progress) (cid.Cid, error)
	// ImportJob takes in a file that an export of a job wrote. Progress gets bytes.
	ImportJob(ctx context.Context, path string, progress grid.Progress) (grid.ImportReport, error)
	// Story tells how the verdict on a unit came about; the node looks after the job.
	Story(ctx context.Context, id workunits.JobID, unit uint32) (grid.UnitStory, error)
	// Audit executes up to so many accepted units of a job of this node's itself
	// and tells what that showed. Progress gets one sentence at a time.
	Audit(ctx context.Context, id workunits.JobID, units int, progress func(string)) (grid.AuditReport, error)
	// Retry has the units of a job of this node's tried again that have failed.
	Retry(ctx context.Context, id workunits.JobID) (grid.RetryReport, error)
	Cancel(ctx context.Context, id workunits.JobID, reason string) error
	FreeData(ctx context.Context, id workunits.JobID) error
	// Results yields accepted and failed units in ascending order; files by CID
	// are in the store when their unit is yielded. An error of yield ends it
	// and is returned.
	Results(ctx context.Context, id workunits.JobID, yield func(grid.UnitResult) error) error

	// Logs yields what copies of a job that were executed here wrote on standard error,
	// of one unit also what its volunteers show the publisher. An error of yield ends
	// it and is returned.
	Logs(ctx context.Context, id workunits.JobID, unit *uint32, yield func(grid.CopyLog) error) error

	// Units describes up to count units of a job from the given one on, the
	// second stage after the last. Units, Copies, Result and Results know jobs
	// that this node looks after.
	Units(ctx context.Context, id workunits.JobID, from, count uint32) ([]grid.UnitInfo, error)
	Copies(ctx context.Context, id workunits.JobID, unit uint32) ([]grid.CopyInfo, error)
	// Result is one of Results.
	Result(ctx context.Context, id workunits.JobID, unit uint32) (grid.UnitResult, error)

	// Events sends what happened after the event with the given number, from
	// a bounded ring, then what happens, until ctx ends; then it closes the
	// channel.
	Events(ctx context.Context, after uint64) <-chan grid.Event

	// AddData adds a file or folder to the store and keeps it. It returns its
	// CID, its bytes and its chunks.
	AddData(ctx context.Context, path string, as grid.Adding, progress func(done, total int64)) (cid.Cid, int64, int, error)
	// GetData writes content to dest, which must not exist, fetching what is
	// missing from peers. It gives up after timeout, or when ctx ends if
	// timeout is 0.
	GetData(ctx context.Context, c cid.Cid, dest string, from []string, progress func(done, total int64)) (grid.DataOrigin, error)
	// Pin keeps content for the owner, fetching what is missing from peers, until
	// Unpin, and returns the bytes that it takes. Unpinning what is not pinned is an
	// error of kind grid.ErrNotFound. Kept yields all that is kept, once for each
	// reason; an error of yield ends it and is returned.
	Pin(ctx context.Context, root cid.Cid, progress func(done, total int64)) (int64, error)
	Unpin(root cid.Cid) error
	Kept(yield func(grid.Kept) error) error
	// DataInfo tells what the store holds and why.
	DataInfo(ctx context.Context) (grid.DataInfo, error)
	// OpenData opens a file for reading while it arrives: the root, or what a path
	// leads to in it. ChunkData is one chunk. ArchiveData writes what is
	// selected as an archive to what begin returns, which it calls once all is
	// here. Errors wrap grid.ErrForeign where content is not of the kind.
	OpenData(ctx context.Context, root cid.Cid, path []string) (io.ReadSeekCloser, error)
	ChunkData(ctx context.Context, c cid.Cid) ([]byte, error)
	ArchiveData(ctx context.Context, root cid.Cid, sel grid.Selection, begin func() io.Writer) error
	// ExportData is GetData for a content archive (CAR).
	ExportData(ctx context.Context, c cid.Cid, dest string, from []string, progress func(done, total int64)) (grid.DataOrigin, error)
	// ImportData stores what a content archive (CAR) holds and keeps its roots.
	ImportData(ctx context.Context, path string, progress func(done, total int64)) (roots []cid.Cid, bytes int64, chunks int, err error)
}

// Settings are the owner's settings of the node; changes of those that are live
// count when Set and Unset return, of others from the next start. Methods are safe
// for concurrent use.
type Settings interface {
	Explain() ([]configs.Setting, error)
	Set(key, value string) error
	Unset(key string) error
}
