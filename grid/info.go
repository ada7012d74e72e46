package grid

import (
	"time"

	"github.com/talka-grid/talka/grid/phrase"
	"github.com/talka-grid/talka/workunits"
)

// State tells what a node does with its processors.
type State string

// The states of a node.
const (
	StateRunning State = "running" // executes units
	StatePaused  State = "paused"  // its owner, or a rule of its owner, stops it
	StateIdle    State = "idle"    // could execute, has nothing to execute
)

// Status is what a node says of itself.
type Status struct {
	PeerID        workunits.NodeID `json:"peer_id"`
	Network       string           `json:"network"`
	Addrs         []string         `json:"addrs"`
	Peers         int              `json:"peers"`
	State         State            `json:"state"`
	Reason        string           `json:"reason"`          // one sentence: why this state, and what would change it
	Said          []phrase.Phrase  `json:"said"`            // what Reason is the English of
	PausedByOwner bool             `json:"paused_by_owner"` // now, or as soon as running units are finished
	RunningUnits  int              `json:"running_units"`
	AcceptedUnits int              `json:"accepted_units"` // of this node's copies
	StoreBytes    int64            `json:"store_bytes"`
	Membership    *Membership      `json:"membership,omitempty"` // in a private network
}

// JobState tells how far a job is.
type JobState string

// The states of a job.
const (
	JobRunning   JobState = "running"
	JobDone      JobState = "done"
	JobFailed    JobState = "failed" // finished, and some units failed
	JobCancelled JobState = "cancelled"
	JobEnded     JobState = "ended" // its stewards say so; how, this node has not read
)

// UnitCounts counts a job's units without its second stage; Open, Running, Accepted and Failed add up to
// Total, but for jobs that are JobEnded. A running unit has a copy granted or under verification.
type UnitCounts struct {
	Total    int `json:"total"`
	Open     int `json:"open"`
	Running  int `json:"running"`
	Accepted int `json:"accepted"`
	Failed   int `json:"failed"`
}

// StageState is how far the second stage of a job is.
type StageState string

// The states of a second stage. It waits until all units are accepted, and fails
// with them.
const (
	StageWaiting  StageState = "waiting"
	StageRunning  StageState = "running"
	StageAccepted StageState = "accepted"
	StageFailed   StageState = "failed"
)

// JobInfo is what a node knows of a job.
type JobInfo struct {
	Job               workunits.JobID     `json:"job"`
	Name              string              `json:"name"`
	Project           workunits.ProjectID `json:"project"`
	State             JobState            `json:"state"`
	Units             UnitCounts          `json:"units"`
	Reduce            StageState          `json:"reduce,omitempty"` // empty without a second stage
	Copies            int                 `json:"copies"`           // committed
	CopiesPerAccepted float64             `json:"copies_per_accepted"`
	Stewards          []workunits.NodeID  `json:"stewards"`   // the succession list
	Volunteers        int                 `json:"volunteers"` // that committed
	Credit            int                 `json:"credit"`     // this node's copies in accepted units
	Expired           int                 `json:"expired"`    // leases that ended without a commit
	Faults            []FaultInfo         `json:"faults"`
	Settled           bool                `json:"settled"`        // sealed by the publisher
	Bound             string              `json:"bound"`          // the error bound that the verdicts vouch for, in words
	BoundSaid         []phrase.Phrase     `json:"bound_said"`     // what Bound is the English of
	Data              *DataHealth         `json:"data,omitempty"` // as far as this node looks after it; not in lists
	Read              *ReadInfo           `json:"read,omitempty"` // of a job that other nodes look after, once it is over
}

// FaultInfo is a node that the ledger speaks against.
type FaultInfo struct {
	Node  workunits.NodeID    `json:"peer_id"`
	Name  workunits.FaultName `json:"fault"`
	Units int                 `json:"units"` // wrong copies
}

// UnitState is how far a unit is, as people look at it.
type UnitState string

// The states of a unit.
const (
	UnitOpen     UnitState = "open"     // wants a copy, nobody has it
	UnitGranted  UnitState = "granted"  // wants a copy, a volunteer has it
	UnitPending  UnitState = "pending"  // has copies that wait for statements
	UnitAccepted UnitState = "accepted" // its verdict names a result
	UnitFailed   UnitState = "failed"   // too many copies were void
)

// UnitInfo is what a steward knows of a unit.
type UnitInfo struct {
	Unit      uint32    `json:"unit"`
	State     UnitState `json:"state"`
	Copies    int       `json:"copies"`    // that count
	Support   int       `json:"support"`   // that agree, one after the other
	Granted   int       `json:"granted"`   // copies that volunteers have now
	Voids     int       `json:"voids"`     // copies that came back void
	Contested bool      `json:"contested"` // results differ and the law does not decide yet
}

// CopyInfo is a copy of a unit.
type CopyInfo struct {
	Node    workunits.NodeID `json:"peer_id"`
	Burned  bool             `json:"burned"`           // the ledger proves its volunteer wrong somewhere
	Open    bool             `json:"open"`             // its result is known
	Result  string           `json:"result,omitempty"` // digest of its record
	Accords bool             `json:"accords"`          // with the result that the verdict names
}

// MaxUnits is how many units one question may ask for.
const MaxUnits = 4096

// UnitResult is an accepted result, or the reason why there is none. The second
// stage is the unit after the last.
type UnitResult struct {
	Unit    uint32
	Reduce  bool // the second stage
	Failed  bool
	Outcome workunits.Outcome // decoded; files by CID are in the node's store
}

// PeerInfo is a connected peer.
type PeerInfo struct {
	PeerID    workunits.NodeID `json:"peer_id"`
	Addrs     []string         `json:"addrs"`
	Relayed   bool             `json:"relayed"`
	LAN       bool             `json:"lan"`       // on the LAN or this machine
	Inbound   bool             `json:"inbound"`   // it opened the connection
	Protected bool             `json:"protected"` // never closed for want of room
	Score     float64          `json:"score"`     // what gossip thinks of it; below 0 is bad
	LatencyMS float64          `json:"latency_ms"`
}

// DataInfo tells what the store holds, and what its traffic came to. Sizes are in
// bytes; a limit of 0 is none.
type DataInfo struct {
	Bytes    int64       `json:"bytes"`
	Quota    int64       `json:"quota"`
	Files    int64       `json:"files"`
	Chunks   int         `json:"chunks"`
	Linked   int64       `json:"linked" doc:"In files of the owner, added without copying; counts for no quota"`
	Damaged  int         `json:"damaged" doc:"Chunks that were found damaged and set aside"`
	Reasons  []DataUsage `json:"reasons" doc:"What is kept for several reasons counts for each"`
	Sent     int64       `json:"sent" doc:"This month, beyond the local network"`
	Received int64       `json:"received" doc:"This month, beyond the local network"`
}

// DataUsage is what is kept for a reason.
type DataUsage struct {
	Reason string `json:"reason"`
	Roots  int    `json:"roots"`
	Bytes  int64  `json:"bytes"`
}

// DataOrigin tells where content came from, in bytes.
type DataOrigin struct {
	Here    int64        `json:"here" doc:"Was in the store before"`
	Sources []DataSource `json:"sources"`
}

// DataSource is what a peer gave.
type DataSource struct {
	Peer     string `json:"peer_id"`
	Protocol string `json:"protocol" enum:"chunks,bitswap"`
	Bytes    int64  `json:"bytes"`
}

// Kept is content that the node keeps for a reason.
type Kept struct {
	Cid      string `json:"cid"`
	Reason   string `json:"reason"`
	For      string `json:"for,omitempty"` // as a job
	Bytes    int64  `json:"bytes"`         // of it that are here
	Withheld bool   `json:"withheld"`      // from peers, until what it is part of is opened
}

// ProjectInfo is a project that this node publishes, trusts or has heard of.
type ProjectInfo struct {
	Project  workunits.ProjectID `json:"project"`
	Own      bool                `json:"own"`
	Trusted  bool                `json:"trusted"`
	Share    int                 `json:"share"`     // of processor time, beside other trusted projects with work
	OpenJobs int                 `json:"open_jobs"` // that are known of
}

// ProjectJob is a job of a project: what its units ask for, and how far it is.
type ProjectJob struct {
	Job     workunits.JobID `json:"job"`
	Name    string          `json:"name"`
	Created time.Time       `json:"created"`
	State   JobState        `json:"state"`
	Units   UnitCounts      `json:"units"`
	Settled bool            `json:"settled"`
	Latest  bool            `json:"latest"`  // its results are the latest
	Program string          `json:"program"` // CID
	Memory  uint64          `json:"memory"`  // bytes that a unit may hold
	Seconds float64         `json:"seconds"` // that a unit may take
}

// ProjectDetail is a project with its jobs, the newest first.
type ProjectDetail struct {
	ProjectInfo
	Jobs    []ProjectJob   `json:"jobs"`
	Missing int            `json:"missing"` // jobs that are known of, whose manifests nobody gave
	Results *LatestResults `json:"results,omitempty"`
}

// LatestResults is where a publisher says that a project's latest sealed results are.
type LatestResults struct {
	Job      workunits.JobID `json:"job"`
	Number   uint64          `json:"number"` // higher is newer: milliseconds since 1970, or more
	Accepted int             `json:"accepted"`
	Digest   string          `json:"digest"` // of the accepted results in unit order
}

// Event is something that happened on this node, for people to follow.
type Event struct {
	Seq  uint64           `json:"seq"` // ascending, over restarts of the node too
	Time time.Time        `json:"time"`
	Kind string           `json:"kind"` // "granted", "committed", "accepted", "disputed", "fault", "expired", "voided", "joined", ...
	Job  workunits.JobID  `json:"job,omitzero"`
	Node workunits.NodeID `json:"peer_id,omitzero"`
	Unit uint32           `json:"unit"`
	Text string           `json:"text"`
	Said []phrase.Phrase  `json:"said,omitempty"` // what Text is the English of, if others may word it
}
