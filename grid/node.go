package grid

import (
	"cmp"
	"context"
	"crypto/ed25519"
	"errors"
	"io"
	"log/slog"
	"path/filepath"
	"sync"
	"time"

	"github.com/ipfs/go-cid"

	"github.com/talka-grid/talka/chunkstore"
	"github.com/talka-grid/talka/chunkstore/exchange"
	"github.com/talka-grid/talka/grid/keep"
	"github.com/talka-grid/talka/grid/volunteer"
	"github.com/talka-grid/talka/grid/volunteer/policy"
	"github.com/talka-grid/talka/grid/wire"
	"github.com/talka-grid/talka/workunits"
)

// Errors that callers tell apart.
var (
	ErrNotFound = errors.New("not found")
	ErrTimeout  = errors.New("nobody answered in time")
	ErrClosed   = errors.New("the node is stopping")
	ErrDenied   = errors.New("not allowed")
	ErrFull     = errors.New("the disk or its quota is full")
)

// Network is what a node needs of its peers. Its methods are safe for
// concurrent use. Send delivers one frame; frames to one peer keep their order.
type Network interface {
	Send(ctx context.Context, to workunits.NodeID, frame []byte) error
	Announce(ctx context.Context, data []byte) error
	Provide(ctx context.Context, c cid.Cid) error
	PutPointer(ctx context.Context, raw []byte) error
	FindPointer(ctx context.Context, p workunits.ProjectID) []byte // nil: nobody found in time
	FindProviders(ctx context.Context, c cid.Cid, n int) ([]workunits.NodeID, error)
	Peers() []PeerInfo
	Reach() ReachInfo
	Block(id workunits.NodeID, block bool) error
	Addrs() []string
	// Invite makes an invite that is valid for a time, or as long as is usual if
	// that is zero; in a private network it may be for one node. RemoveMember takes
	// back a membership. Both wrap ErrDenied where others alone can do it.
	Invite(valid time.Duration, to workunits.NodeID) (string, error)
	RemoveMember(id workunits.NodeID) error
	Join(ctx context.Context, invite string) error
	Visit(ctx context.Context, addr string) error // connects to a peer, a member or not
}

// Progress tells how many bytes of how many are done; total is 0 if unknown.
type Progress func(done, total int64)

// Data is what a node needs of its chunks. Its methods are safe for concurrent
// use. What was put, added and kept is durable after Sync. FetchNear takes from others what near
// ones do not give. FetchEntry brings one
// entry of a folder; Compose makes one of what is here, Leaves lists the chunks below a root that is, and
// Probe has a peer show a chunk, see exchange.Probe; Open reads a file while it arrives; Export and Archive are exchange.Archive, the one of all that is here. View is Materialise for what is only read. Peers may have what
// a lease covers that is not withheld, and the records that the function given to ServeRecords returns; nil is none.
type Data interface {
	Add(ctx context.Context, path string, p Progress) (root cid.Cid, bytes int64, chunks int, err error)
	AddAs(ctx context.Context, path string, as Adding, p Progress) (root cid.Cid, bytes int64, chunks int, err error)
	PutRecord(ctx context.Context, record []byte) error
	Record(ctx context.Context, d workunits.Digest) ([]byte, error)
	Fetch(ctx context.Context, root cid.Cid, hints []workunits.NodeID, p Progress) error
	FetchNear(ctx context.Context, root cid.Cid, near, others []workunits.NodeID) error
	Collect(ctx context.Context, root cid.Cid, hints []workunits.NodeID, p Progress) (DataOrigin, error) // Fetch that tells of it
	FetchEntry(ctx context.Context, root cid.Cid, name string, hints []workunits.NodeID) (cid.Cid, error)
	Materialise(ctx context.Context, root cid.Cid, dest string) error
	Inspect(ctx context.Context, root cid.Cid) error // what is damaged is missing from then on
	View(ctx context.Context, root cid.Cid, dest string) error
	Open(ctx context.Context, root cid.Cid, path []string, hints []workunits.NodeID) (io.ReadSeekCloser, error)
	Chunk(ctx context.Context, c cid.Cid, hints []workunits.NodeID) ([]byte, error)
	Export(ctx context.Context, root cid.Cid, w io.Writer) error
	Archive(ctx context.Context, root cid.Cid, sel Selection, hints []workunits.NodeID, begin func() io.Writer) error
	Import(ctx context.Context, r io.Reader, p func(done, total int64)) (chunkstore.Imported, error)
	ServeRecords(records func(workunits.Digest) []byte)
	Compose(ctx context.Context, entries []chunkstore.Entry) (cid.Cid, error)
	Leaves(ctx context.Context, root cid.Cid) (list []cid.Cid, bytes int64, err error)
	Probe(ctx context.Context, from workunits.NodeID, c cid.Cid) (there bool, err error)
	Keep(l chunkstore.Lease) error
	Release(l chunkstore.Lease) error
	ReleaseFor(who string) error
	Leases() []chunkstore.Lease
	Here(roots ...cid.Cid) (int64, error)
	Sync() error
	Bytes() int64
	Stat() chunkstore.Stat
	Usage() ([]chunkstore.Usage, error)
	Traffic() (up, down int64) // of the month, beyond the local network
	Limit(l exchange.Limits)   // the same traffic
}

// Config is what a node is made of. Dir is the node's directory; what is zero
// has no default but Logger and Effect.
type Config struct {
	Key         ed25519.PrivateKey
	Network     string
	Dir         string
	Net         Network
	Data        Data
	Exec        Executor
	Arch        string       // platform that executes here, see sandbox.Platform
	Canonical   bool         // the executor can make NaNs canonical
	Slots       int          // units at a time while the machine is not in use
	Percent     int          // of its time that each may work; 0: all
	Memory      uint64       // bytes for one unit
	Checkpoints uint64       // bytes on disk of what copies have saved, see checkpoints; 0: nothing is kept
	Rules       policy.Rules // of the owner until SetRules; Free is Slots, Percent and Memory
	Sensors     Sensors      // nil: nothing is known
	Steward     bool         // look after others' jobs when asked
	Work        int          // bits of proof of work that identities of the network show
	Trust       []workunits.ProjectID
	Sample      Sample
	KeepShare   int64      // bytes that the replicas of one publisher may take here; 0: none are kept for others
	KeepTimes   keep.Times // zero: keep.DefaultTimes
	Rand        io.Reader  // secret randomness, used by the loop alone
	Logger      *slog.Logger

	// Effect is called before each write of the state and each message. A test
	// ends the process in it, as a power cut could.
	Effect func()
}

// Node is one running node. Make it with New, then Run it.
type Node struct {
	cfg  Config
	self workunits.NodeID
	db   *stateDB
	log  *slog.Logger

	inbox   chan func()
	stirred chan struct{} // has one when the sensors are to be read
	done    chan struct{}
	wait    sync.WaitGroup
	ctx     context.Context
	stop    context.CancelFunc

	out       *outbox
	events    *eventLog
	fetch     *fetcher
	comparing chan struct{} // holds one for each pair of results that is laid out, see maxCompares
	folders   folders

	checkpoints checkpoints
	snapshots   snapshots
	logs        logs
	swept       time.Time // the loop's

	catalogue catalogue
	keeper    *keep.Driver
	lookEvery time.Duration
	lookedAt  time.Time // the loop's

	// Owned by the loop.
	snapping     bool // a snapshot is being stored
	snapshotFrom int  // copies of a job that is worth one
	volunteer    *volunteer.Machine
	jobs         map[workunits.JobID]*job
	seen         map[workunits.JobID]workunits.Announcement
	wanted       map[workunits.JobID]time.Time // jobs asked for, when
	trusted      map[workunits.ProjectID]bool
	pointers     map[workunits.ProjectID]*pointer
	sought       map[workunits.ProjectID]time.Time // whose pointers were asked for, when
	runs         map[volunteer.Task]*execution
	meter        meter
	clock        clock
	efforts      efforts
	rules        rules

	auditing   bool      // an audit that a job asks for is under way
	auditAfter time.Time // none begins before
	proof      []byte    // of work, as soon as it is found
	pace       pace      // of announcements that are passed on
	pending    writes
	after      []func() // what waits until pending is durable
	answered   time.Time
	watchers   map[chan struct{}]bool
	answers    map[workunits.JobID]chan answer
	readers    map[workunits.JobID]chan heardLog
	logReplies map[chan heardReply]workunits.JobID // who waits for logs of which job
	signed     map[workunits.JobID]bool            // that are being published

	reading sync.Mutex // held by who reads a ledger that others keep
}

type answer struct {
	from workunits.NodeID
	wire.Answer
}

// New opens the node's state and brings its jobs back. Run gives back what it
// opened; without Run, Close does.
func New(cfg Config) (*Node, error) {
	db, err := openState(filepath.Join(cfg.Dir, "state.db"))
	if err != nil {
		return nil, err
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	if cfg.Effect == nil {
		cfg.Effect = func() {}
	}
	n := &Node{
		cfg: cfg, self: workunits.NodeIDOf(cfg.Key), db: db, log: cfg.Logger,
		inbox: make(chan func(), 1024), stirred: make(chan struct{}, 1), done: make(chan struct{}), comparing: make(chan struct{}, maxCompares),
		events: newEventLog(time.Now()), jobs: map[workunits.JobID]*job{}, seen: map[workunits.JobID]workunits.Announcement{},
		wanted: map[workunits.JobID]time.Time{}, trusted: map[workunits.ProjectID]bool{}, pointers: map[workunits.ProjectID]*pointer{}, sought: map[workunits.ProjectID]time.Time{},
		runs: map[volunteer.Task]*execution{}, meter: meter{used: map[int]time.Duration{}}, watchers: map[chan struct{}]bool{},
		answers: map[workunits.JobID]chan answer{}, readers: map[workunits.JobID]chan heardLog{}, logReplies: map[chan heardReply]workunits.JobID{}, signed: map[workunits.JobID]bool{}, catalogue: catalogue{live: map[workunits.JobID]liveAnnouncement{}},
	}
	n.rules.owner = cfg.Rules
	n.rules.owner.Free = policy.Limits{Processors: cfg.Slots, Percent: cmp.Or(cfg.Percent, 100), Memory: cfg.Memory}
	n.ctx, n.stop = context.WithCancel(context.Background())
	n.fetch = newFetcher(cfg.Data, filepath.Join(cfg.Dir, "work"))
	n.folders.dir, n.folders.slots = filepath.Join(cfg.Dir, "work", "runs"), cfg.Slots
	n.checkpoints = checkpoints{dir: filepath.Join(cfg.Dir, "work", "checkpoints"), room: cfg.Checkpoints, slots: cfg.Slots, busy: map[string]bool{}}
	n.snapshotFrom = snapshotFrom
	n.snapshots.dir = filepath.Join(cfg.Dir, "work", "snapshots")
	n.logs.dir, n.logs.most, n.logs.room = filepath.Join(cfg.Dir, "work", "logs"), maxLogs, maxLogBytes
	n.volunteer = volunteer.New(volunteer.Config{Self: n.self, Arch: cfg.Arch, Canon: cfg.Canonical, Rand: cfg.Rand})
	if err := errors.Join(removeLeftovers(filepath.Join(cfg.Dir, "work")), n.load(), n.unreadable()); err != nil {
		return nil, errors.Join(err, db.close())
	}
	if err := n.openKeeper(); err != nil {
		return nil, errors.Join(err, db.close())
	}
	cfg.Data.ServeRecords(db.served)
	return n, nil
}

// Close gives back what New opened. It is for a node that does not run, and does
// nothing after Run.
func (n *Node) Close() error {
	n.stop()
	n.wait.Wait()
	return n.db.close()
}
