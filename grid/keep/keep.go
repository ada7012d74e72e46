// Package keep drives the replicas of jobs: it runs a [replica.Keeper] over what this
// node looks after as a steward, asks peers to keep replicas, has them show that they
// do, and keeps replicas that others ask this node for.
//
// It stands apart from package grid, whose loop owns ledgers and machines, because it
// has another pace (a tick a minute, fetches that take hours), a state of its own that
// outlives jobs' ledgers here, and needs of them no more than [Config] and the calls of
// [Driver] say.
//
// # What is an object
//
// Each input and program of a job is one. So is each file of an accepted result of at
// least [Large] bytes: the volunteers that agreed on it and the stewards that stored it
// hold it already, and count as replicas without moving a byte. All smaller results
// travel in runs: the records of [Run] consecutive units and their small files are one
// folder, made once all of them are accepted or failed. So a job of 10^5 results of a
// few hundred bytes is 391 objects, which cost some 1,200 audits a day over the whole
// network, not 300,000. Volunteers are not counted for those: their share of a run is
// worth less than the words that it takes to count it. Until a run is whole its results
// are where the law wants them before it calls them accepted: with several stewards and
// with the volunteers that agreed.
//
// The folder of a run is the same whoever makes it, as its records are in unit order.
//
// A large object that no two steady peers hold and that is to be kept for long is cut
// into pieces, see [erasure] and [replica.Code]. Its manifest is kept with the pieces'
// names; whoever leads makes them anew, if need be from what eight holders have.
//
// # Who acts
//
// All stewards of a job that are up, the publisher among them, run a Driver; for each
// object one of them leads (see [replica.Leads]), and tells the others who holds what,
// so that any of them can take over, and the publisher can see how its data fares. One
// that comes to lead waits before it acts. Holders do not know who leads: they keep what
// a listed steward asks for until the time that it names, a week, and every audit that
// they pass makes it a week from then.
//
// # What a holder agrees to
//
// It keeps what stewards of trusted projects ask for, at most Share bytes for one
// publisher, and as much as its quota leaves. It lets go of it when the time is over,
// or when it is shown the publisher's word that the results are collected.
//
// A Driver is safe for concurrent use.
package keep

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/ipfs/go-cid"

	"github.com/talka-grid/talka/chunkstore"
	"github.com/talka-grid/talka/chunkstore/erasure"
	"github.com/talka-grid/talka/chunkstore/replica"
	"github.com/talka-grid/talka/grid/wire"
	"github.com/talka-grid/talka/workunits"
)

// What is one object, see the package comment.
const (
	Run   = 256     // units
	Large = 1 << 20 // bytes of a file of a result
)

// Reason is that of the leases on replicas; they are for a job.
const Reason = "replica"

// Limits on what peers make this node remember and do.
const (
	maxHeld    = 1 << 16
	maxQueue   = 256 // replicas that are still to be fetched
	maxFetches = 2   // at a time
	maxProbes  = 4   // at a time
	maxItems   = 1 << 16
	maxHints   = 1 << 12 // runs
	maxNatural = 16      // holders that are noted of what they need no asking to hold
	slack      = 1 << 20
)

// Times are how long a Driver waits for what.
type Times struct {
	replica.Times
	Tick   time.Duration // between looks
	Again  time.Duration // until an unanswered request is made again
	Lease  time.Duration // that a holder is asked for
	Probe  time.Duration // that a holder has to show a leaf
	Fetch  time.Duration // that a replica may take to be fetched
	Save   time.Duration // between writes of the state
	Recall time.Duration // that peers are waited for who are asked what they keep
}

// DefaultTimes are those of the package comment.
func DefaultTimes() Times {
	const day = 24 * time.Hour
	return Times{
		Times: replica.DefaultTimes(), Tick: time.Minute, Again: 2 * time.Minute, Lease: 7 * day,
		Probe: 30 * time.Second, Fetch: 12 * time.Hour, Save: 10 * time.Minute, Recall: 3 * time.Second,
	}
}

// Data is what a Driver needs of chunks. Its methods are safe for concurrent use.
type Data interface {
	Keep(l chunkstore.Lease) error
	Release(l chunkstore.Lease) error
	Fetch(ctx context.Context, root cid.Cid, hints []workunits.NodeID, progress func(done, total int64)) error
	// Leaves lists the leaves below a root that is here, and its bytes.
	Leaves(ctx context.Context, root cid.Cid) ([]cid.Cid, int64, error)
	// Probe has a peer show a chunk. There is whether the peer answered at all; the
	// error wraps ErrLacks if it does not have the chunk.
	Probe(ctx context.Context, from workunits.NodeID, c cid.Cid) (there bool, err error)
	Sync() error

	// What an object is cut with: Add adds a file, Export writes the content archive of
	// what is here, Import reads one and names its roots, Open reads a file that is here.
	Add(ctx context.Context, path string) (cid.Cid, error)
	Export(ctx context.Context, root cid.Cid, w io.Writer) error
	Import(ctx context.Context, r io.Reader) ([]cid.Cid, error)
	Open(ctx context.Context, root cid.Cid) (io.ReadCloser, error)
}

// Config is what a Driver is made of.
type Config struct {
	Self  workunits.NodeID
	Path  string // of the file that remembers between runs
	Dir   string // for files that are written for a while
	Data  Data
	Send  func(to workunits.NodeID, m wire.Message) // queues; it does not wait
	Peers func() []replica.Peer                     // that are connected
	Rate  float64                                   // bytes a second that repair may take, until SetRate
	Share int64                                     // bytes that the replicas of one publisher may take here; 0: none are kept
	Times Times
	Log   *slog.Logger

	// Gather makes the folder of a run of units of a job, and names the large files of
	// its results. It is called for one run at a time.
	Gather func(ctx context.Context, job workunits.JobID, run uint32) (Gathered, error)
}

// Gathered is what became of a run.
type Gathered struct {
	Root  cid.Cid // of the folder
	Large []Held
}

// Held is content with some who hold it.
type Held struct {
	Root    cid.Cid
	Holders []workunits.NodeID
}

// Job is a job that this node looks after.
type Job struct {
	ID       workunits.JobID
	Stewards []workunits.NodeID // the publisher among them
	Copies   int                // replicas that are wanted
	Until    time.Time          // when its data is needed no more
}

// Driver is made with New; then call Run.
type Driver struct {
	cfg Config

	seeing sync.Mutex
	seen   map[workunits.NodeID]time.Time // since the last tick

	mu      sync.Mutex
	keeper  *replica.Keeper
	jobs    map[workunits.JobID]*job
	items   map[cid.Cid]*item
	pieces  map[cid.Cid]ref
	placing map[placing]time.Time          // when it was last asked for
	asked   map[workunits.NodeID]time.Time // whether they are there
	hints   map[string][]Held              // folders of runs that peers say they hold, by run
	held    map[heldKey]*kept              // for others
	queue   int                            // of those that are on the way
	dirty   bool
	saved   time.Time
	rng     *rand.Rand
	heard   chan struct{} // closed when word of holders comes, and made anew

	fetches chan struct{} // slots
	probes  chan struct{}
	gathers chan struct{}
	wait    sync.WaitGroup
	ctx     context.Context
}

type job struct {
	Job
	runs map[uint32]*run
	told map[workunits.NodeID]bool // stewards that know of all that is led here
}

// run is one of a job's runs of units.
type run struct {
	gathered bool
	busy     bool
}

// item is an object of a job, or of several: the first by id stands for them.
type item struct {
	job      workunits.JobID
	jobs     map[workunits.JobID]bool
	root     cid.Cid
	run      uint32 // one more than its number, 0 for none
	bytes    int64
	leaves   int // 0 until it was measured
	key      []byte
	goal     replica.Goal
	until    time.Time
	manifest cid.Cid           // of its pieces, undefined if it is whole
	cut      *erasure.Manifest // nil until it is read
	supplied bool              // all of its pieces are here
	busy     bool
	announce bool // the other stewards are to be told
	told     bool // by another steward alone: it is counted, and never acted for
}

type placing struct {
	root cid.Cid
	to   workunits.NodeID
}

// New makes a Driver and brings back what the last one knew. What cannot be read of
// that is told in the log and learnt anew.
func New(cfg Config) (*Driver, error) {
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	d := &Driver{
		cfg: cfg, keeper: replica.New(cfg.Rate, cfg.Times.Times), seen: map[workunits.NodeID]time.Time{},
		jobs: map[workunits.JobID]*job{}, items: map[cid.Cid]*item{}, pieces: map[cid.Cid]ref{}, placing: map[placing]time.Time{}, hints: map[string][]Held{}, asked: map[workunits.NodeID]time.Time{}, held: map[heldKey]*kept{},
		//nolint:gosec // which leaf is asked for nobody can know who does not see this process
		rng: rand.New(rand.NewPCG(rand.Uint64(), rand.Uint64())), heard: make(chan struct{}),
		fetches: make(chan struct{}, maxFetches), probes: make(chan struct{}, maxProbes), gathers: make(chan struct{}, 1),
		saved: time.Now(), ctx: context.Background(),
	}
	text, err := os.ReadFile(cfg.Path)
	if err == nil {
		err = d.restore(time.Now(), text)
	}
	if err != nil && !os.IsNotExist(err) {
		cfg.Log.Warn("what was known of replicas is lost; it is learnt anew", "err", err)
		if err := os.Rename(cfg.Path, cfg.Path+".bad"); err != nil {
			return nil, fmt.Errorf("replicas: %w", err)
		}
	}
	return d, nil
}

// Run works until ctx ends, and waits for what it has begun.
func (d *Driver) Run(ctx context.Context) error {
	d.mu.Lock()
	d.ctx = ctx
	d.mu.Unlock()
	tick := time.NewTicker(d.cfg.Times.Tick)
	defer tick.Stop()
	for ctx.Err() == nil {
		select {
		case <-ctx.Done():
		case <-tick.C:
			d.Tick(time.Now())
		}
	}
	d.wait.Wait()
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.save()
}

// goDo runs f beside. The lock is held.
func (d *Driver) goDo(f func(ctx context.Context)) {
	ctx := d.ctx
	if ctx.Err() == nil {
		d.wait.Go(func() { f(ctx) })
	}
}

// SetRate changes how many bytes a second repair may take.
func (d *Driver) SetRate(rate float64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.keeper.SetRate(rate)
}

// Seen tells that a peer has said something. It never waits for a tick.
func (d *Driver) Seen(n workunits.NodeID) {
	d.seeing.Lock()
	defer d.seeing.Unlock()
	d.seen[n] = time.Now()
}

// Look takes a job up, or takes note of what changed of it.
func (d *Driver) Look(j Job) {
	d.mu.Lock()
	defer d.mu.Unlock()
	old := d.jobs[j.ID]
	if old == nil {
		old = &job{runs: map[uint32]*run{}, told: map[workunits.NodeID]bool{}}
		d.jobs[j.ID] = old
		for _, it := range d.items { // of the last run
			if it.jobs[j.ID] && it.run > 0 {
				old.runs[it.run-1] = &run{gathered: true}
			}
		}
		for _, n := range j.Stewards { // who know what this node may not
			if n != d.cfg.Self {
				d.cfg.Send(n, wire.Keep{Job: j.ID})
			}
		}
	}
	old.Job = j
}

// Add takes up an object of a job that is looked after, with some who hold it.
func (d *Driver) Add(id workunits.JobID, root cid.Cid, holders ...workunits.NodeID) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if j := d.jobs[id]; j != nil {
		d.own(time.Now(), j, wire.Object{Root: workunits.Link{Cid: root}}, holders)
	}
}

// own takes up an object that this node knows to be the job's. The lock is held.
func (d *Driver) own(now time.Time, j *job, o wire.Object, holders []workunits.NodeID) *item {
	it := d.add(now, j, o, holders)
	if it != nil && it.told {
		it.told, it.run = false, o.Run
		if it.key = it.root.Bytes(); o.Run > 0 {
			it.key = runKey(j.ID, o.Run-1)
		}
	}
	return it
}

// Whole tells that all units of a run are accepted or failed, and its results can be
// gathered.
func (d *Driver) Whole(id workunits.JobID, number uint32) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if j := d.jobs[id]; j != nil && j.runs[number] == nil {
		j.runs[number] = &run{}
	}
}

// Reopened tells that a unit of a run is not accepted any more: what was made of the
// run is not kept further, and made anew once it is whole again.
func (d *Driver) Reopened(id workunits.JobID, number uint32) {
	d.mu.Lock()
	defer d.mu.Unlock()
	j := d.jobs[id]
	if j == nil || j.runs[number] == nil {
		return
	}
	delete(j.runs, number)
	for root, it := range d.items {
		if it.jobs[id] && it.run == number+1 {
			d.forget(root, id)
		}
	}
}

// add takes up an object, or notes who else holds it. The lock is held.
func (d *Driver) add(now time.Time, j *job, o wire.Object, holders []workunits.NodeID) *item {
	root := o.Root.Cid
	it := d.items[root]
	if it == nil {
		if len(d.items) >= maxItems {
			return nil
		}
		it = &item{jobs: map[workunits.JobID]bool{}, root: root, run: o.Run, key: root.Bytes(), announce: true}
		if o.Run > 0 {
			it.key = runKey(j.ID, o.Run-1)
		}
		d.items[root] = it
		d.dirty = true
	}
	it.jobs[j.ID] = true
	it.job = it.first()
	if it.leaves == 0 && o.Leaves > 0 {
		it.bytes, it.leaves = int64(o.Bytes), int(o.Leaves)
	}
	it.goal, it.until = replica.DefaultGoal(j.Copies), j.Until
	d.keeper.Keep(now, d.object(it))
	if it.leaves == 0 {
		d.keeper.Lead(now, root, false)
	}
	for _, n := range holders {
		if len(d.keeper.Holders(now, root)) >= maxNatural {
			break
		}
		d.keeper.Stored(now, root, n, replica.Whole)
	}
	return it
}

func runKey(id workunits.JobID, number uint32) []byte {
	return append(slices.Clone(id[:]), byte(number>>24), byte(number>>16), byte(number>>8), byte(number))
}

func (it *item) first() (first workunits.JobID) {
	for id := range it.jobs {
		if first.IsZero() || slices.Compare(id[:], first[:]) < 0 {
			first = id
		}
	}
	return first
}

// forget lets go of an object for a job, and tells who holds it if it is for no other.
// The lock is held.
func (d *Driver) forget(root cid.Cid, id workunits.JobID) []replica.Effect {
	it := d.items[root]
	if delete(it.jobs, id); len(it.jobs) > 0 {
		it.job = it.first()
		return nil
	}
	delete(d.items, root)
	if it.cut != nil {
		for _, p := range it.cut.Pieces {
			delete(d.pieces, p.Root.Cid)
		}
	}
	for p := range d.placing {
		if p.root == root {
			delete(d.placing, p)
		}
	}
	d.dirty = true
	return d.keeper.Release(root)
}

// Drop lets go of all that is known and kept here for a job: its time is over. The
// leases of its replicas are left to the caller, who ends all that are for the job.
func (d *Driver) Drop(id workunits.JobID) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for root, it := range d.items {
		if it.jobs[id] {
			d.forget(root, id)
		}
	}
	for k := range d.held {
		if k.job == id {
			delete(d.held, k)
			d.dirty = true
		}
	}
	maps.DeleteFunc(d.hints, func(key string, _ []Held) bool { return strings.HasPrefix(key, string(id[:])) })
	delete(d.jobs, id)
}

// Free is Drop for a job whose publisher has the results: it shows the publisher's word
// to those who hold what is led here. If others are named, who may hold some, it shows
// it to them and to all that are known to hold replicas.
func (d *Driver) Free(id workunits.JobID, proof []byte, others ...workunits.NodeID) {
	tell := map[workunits.NodeID]bool{}
	for _, n := range others {
		tell[n] = true
	}
	now := time.Now()
	d.mu.Lock()
	j := d.jobs[id]
	for root, it := range d.items {
		if !it.jobs[id] {
			continue
		}
		leads := j != nil && replica.Leads(d.cfg.Self, d.up(j, now), it.key)
		for _, e := range d.forget(root, id) {
			if leads || len(others) > 0 {
				tell[e.To] = true
			}
		}
	}
	d.mu.Unlock()
	d.Drop(id)
	delete(tell, d.cfg.Self)
	for n := range tell {
		d.cfg.Send(n, wire.Free{Job: id, Proof: proof})
	}
}

// Health tells how a job's data fares: the worst of its objects.
type Health struct {
	State     replica.State `json:"state"`
	Objects   int           `json:"objects"`
	Bytes     int64         `json:"bytes"`     // of each object once, as far as they were measured
	Replicas  int           `json:"replicas"`  // of the object that has the fewest, whose holders were heard of within a day
	Online    int           `json:"online"`    // of the object that has the fewest, whose holders are there now
	Wanted    int           `json:"wanted"`    // replicas that are still to be made, of all objects
	Available float64       `json:"available"` // chance that the object that is the hardest to have can be had at any moment
	Repairing int           `json:"repairing"` // objects
	AtRisk    int           `json:"at_risk"`   // objects
}

// Health is nil for a job that is not looked after here, or of which nothing is kept yet.
func (d *Driver) Health(id workunits.JobID) *Health {
	d.mu.Lock()
	defer d.mu.Unlock()
	now := time.Now()
	sum := &Health{State: replica.Healthy}
	for root, it := range d.items {
		h, ok := d.keeper.Health(now, root)
		if !it.jobs[id] || !ok {
			continue
		}
		if first := sum.Objects == 0; first || h.Available < sum.Available {
			sum.Available = h.Available
		}
		if first := sum.Objects == 0; first || h.Replicas < sum.Replicas {
			sum.Replicas = h.Replicas
		}
		if first := sum.Objects == 0; first || h.Online < sum.Online {
			sum.Online = h.Online
		}
		sum.Objects++
		sum.Bytes += it.bytes
		sum.Wanted += h.Wanted
		switch h.State {
		case replica.AtRisk:
			sum.AtRisk++
		case replica.Repairing:
			sum.Repairing++
		case replica.Healthy:
		}
	}
	switch {
	case sum.Objects == 0:
		return nil
	case sum.AtRisk > 0:
		sum.State = replica.AtRisk
	case sum.Repairing > 0:
		sum.State = replica.Repairing
	}
	return sum
}
