// Package wire holds the messages that nodes send each other over direct
// streams, one canonical dag-cbor record a frame.
//
// Messages are one-way: a request is answered by another message, or by silence,
// which the asker's timer notices. A log travels as whole signed segments, so
// most of the protocol is one message, Push; what it means stands in the
// statements.
package wire

import (
	"errors"
	"fmt"

	"github.com/talka-grid/talka/workunits"
)

// Version is the first number of every frame.
const Version = 1

// Limits on what a peer may send.
const (
	MaxFrame    = 4 << 20 // bytes
	MaxSegments = 256
	MaxBlocks   = 1024
	MaxHeld     = 256
	MaxBusy     = 1024
	MaxVector   = 1 << 14
	MaxReason   = 256
	MaxKept     = 256 // objects
	MaxHolders  = 64
	MaxLogText  = 64 << 10 // bytes of a copy's log that travel
)

// Type names a message. The numbers are part of the wire format.
type Type uint8

// The messages of version 1.
const (
	TypeWorkRequest Type = 1
	TypeWorkReply   Type = 2
	TypePush        Type = 3
	TypePull        Type = 4
	TypeJobRequest  Type = 5
	TypeJobReply    Type = 6
	TypeAsk         Type = 7
	TypeAnswer      Type = 8
	TypePointerAsk  Type = 9
	TypePointer     Type = 10
	TypeKeep        Type = 11
	TypeKept        Type = 12
	TypeFree        Type = 13
	TypeLogAsk      Type = 14
	TypeLogReply    Type = 15
)

// Message is the record of a frame.
type Message interface {
	Type() Type
	JobID() workunits.JobID
	check() error
}

// WorkRequest asks a steward for units of a job.
type WorkRequest struct {
	Job    workunits.JobID  `cbor:"job"`
	Units  uint32           `cbor:"units"`          // how many at most
	Arch   string           `cbor:"arch"`           // as in the volunteer's identity
	Canon  bool             `cbor:"canon"`          // can make NaNs canonical
	Memory uint64           `cbor:"memory"`         // bytes a unit may use
	Held   []workunits.Link `cbor:"held"`           // programs and large inputs that are here already
	Proof  []byte           `cbor:"pow,omitempty"`  // as in the volunteer's identity
	Busy   []uint64         `cbor:"busy,omitempty"` // places in the steward's log of its grants in hand, ascending
}

// WorkReply answers a WorkRequest: a segment with one grant, or the reason why
// there is none and after how many milliseconds to ask again. With neither it
// calls a volunteer that was refused: there is work now.
type WorkReply struct {
	Job    workunits.JobID    `cbor:"job"`
	Grant  []byte             `cbor:"grant"` // an encoded segment, empty for none
	Hints  []workunits.NodeID `cbor:"hints"` // who has the program and the inputs
	Reason string             `cbor:"reason"`
	Retry  uint64             `cbor:"retry"`
	Credit uint32             `cbor:"credit"`          // the asker's copies in accepted units
	Ended  bool               `cbor:"ended"`           // the job wants nothing more
	Again  bool               `cbor:"again,omitempty"` // the grant is an old one, which was not among those in hand
	Shuns  []workunits.NodeID `cbor:"shuns,omitempty"` // stewards that do not act as they should, as the sender sees it
	Wrong  bool               `cbor:"wrong,omitempty"` // a copy of the asker's was proven wrong in this job
}

// Outgoing is a message for a peer.
type Outgoing struct {
	To  workunits.NodeID
	Msg Message
}

// Push carries segments of logs, and the results (outcome records of at most
// workunits.MaxInline bytes) that travel beside them.
type Push struct {
	Job      workunits.JobID `cbor:"job"`
	Segments [][]byte        `cbor:"segs"`
	Blocks   [][]byte        `cbor:"blocks"`
}

// Pull tells what the sender holds of a job's logs; the receiver pushes what it
// has beyond that. Stewards send it to each other as a heartbeat.
type Pull struct {
	Job  workunits.JobID     `cbor:"job"`
	Have []workunits.LogHead `cbor:"have"` // ascending by author
	Part bool                `cbor:"part"` // it is about the logs in Have alone
	Ask  bool                `cbor:"ask"`  // answer with what the receiver holds in any case
}

// JobRequest asks for a job by its id.
type JobRequest struct {
	Job workunits.JobID `cbor:"job"`
}

// JobReply gives a job's signed manifest and its publisher's segments that hold
// the succession list; empty if the job is not known.
type JobReply struct {
	Job      workunits.JobID `cbor:"job"`
	Manifest []byte          `cbor:"manifest"`
	Segments [][]byte        `cbor:"segs"`
}

// Ask asks a node to be a steward of a job.
type Ask struct {
	Job      workunits.JobID `cbor:"job"`
	Manifest []byte          `cbor:"manifest"`
}

// Answer answers an Ask.
type Answer struct {
	Job    workunits.JobID `cbor:"job"`
	Yes    bool            `cbor:"yes"`
	Enc    [32]byte        `cbor:"enc"`
	Reason string          `cbor:"reason"`
}

// PointerAsk asks for a project's pointer. Who has one that outweighs the asker's
// tells it with a Pointer.
type PointerAsk struct {
	Job     workunits.JobID  `cbor:"job"` // that the asker's own names; zero without one
	Owner   workunits.NodeID `cbor:"owner"`
	Project string           `cbor:"project"`
	Number  uint64           `cbor:"number"` // of the asker's own
}

// Pointer tells a project's pointer, which names the job.
type Pointer struct {
	Job     workunits.JobID `cbor:"job"`
	Pointer []byte          `cbor:"pointer"` // as workunits.Pointer.Sign made it
}

// Object is content that is kept for a job. Run is one more than the number of the
// run of units whose results it holds, 0 for anything else.
type Object struct {
	Root   workunits.Link `cbor:"root"`
	Run    uint32         `cbor:"run"`
	Bytes  uint64         `cbor:"bytes"`
	Leaves uint32         `cbor:"leaves"`
	// Code is the manifest of the pieces that an object is cut into, if it is.
	Code *workunits.Link `cbor:"code,omitempty"`
}

// Keep asks a peer to fetch objects from Sources and to keep them until a time, in
// milliseconds since 1970, or longer than it keeps them already. It answers with Kept
// for each of them, and to a Keep of none with all that it keeps for the job.
type Keep struct {
	Job     workunits.JobID    `cbor:"job"`
	Objects []Object           `cbor:"objects"`
	Until   uint64             `cbor:"until"`
	Sources []workunits.NodeID `cbor:"sources"`
}

// KeptObject says who holds all of an object.
type KeptObject struct {
	Object
	Holders []workunits.NodeID `cbor:"holders"`
}

// Kept says who keeps which objects: a peer what it keeps itself, a steward to the
// others of its job what it knows. Refused are objects that the sender was asked to
// keep and does not, for this Reason.
type Kept struct {
	Job     workunits.JobID  `cbor:"job"`
	Objects []KeptObject     `cbor:"objects"`
	Refused []workunits.Link `cbor:"refused"`
	Reason  string           `cbor:"reason"`
}

// Free tells who keeps data of a job that it need not any more. Proof is the segment
// in which the publisher says so.
type Free struct {
	Job   workunits.JobID `cbor:"job"`
	Proof []byte          `cbor:"proof"`
}

// LogAsk asks a volunteer for what its copy of a unit wrote on standard error. Only the
// job's publisher is answered, with a LogReply in any case.
type LogAsk struct {
	Job  workunits.JobID `cbor:"job"`
	Unit uint32          `cbor:"unit"`
}

// LogReply gives the end of what a copy wrote, and how the copy ended; How is empty if
// nothing of it is here.
type LogReply struct {
	Job  workunits.JobID `cbor:"job"`
	Unit uint32          `cbor:"unit"`
	How  string          `cbor:"how"`
	Time uint64          `cbor:"time"` // milliseconds since 1970, when it ended
	Text []byte          `cbor:"text"`
}

// Type methods make each record a Message.
func (WorkRequest) Type() Type { return TypeWorkRequest }
func (WorkReply) Type() Type   { return TypeWorkReply }
func (Push) Type() Type        { return TypePush }
func (Pull) Type() Type        { return TypePull }
func (JobRequest) Type() Type  { return TypeJobRequest }
func (JobReply) Type() Type    { return TypeJobReply }
func (Ask) Type() Type         { return TypeAsk }
func (Answer) Type() Type      { return TypeAnswer }
func (PointerAsk) Type() Type  { return TypePointerAsk }
func (Pointer) Type() Type     { return TypePointer }
func (Keep) Type() Type        { return TypeKeep }
func (Kept) Type() Type        { return TypeKept }
func (Free) Type() Type        { return TypeFree }
func (LogAsk) Type() Type      { return TypeLogAsk }
func (LogReply) Type() Type    { return TypeLogReply }

// JobID is the job that the message is about.
func (m WorkRequest) JobID() workunits.JobID { return m.Job }
func (m WorkReply) JobID() workunits.JobID   { return m.Job }
func (m Push) JobID() workunits.JobID        { return m.Job }
func (m Pull) JobID() workunits.JobID        { return m.Job }
func (m JobRequest) JobID() workunits.JobID  { return m.Job }
func (m JobReply) JobID() workunits.JobID    { return m.Job }
func (m Ask) JobID() workunits.JobID         { return m.Job }
func (m Answer) JobID() workunits.JobID      { return m.Job }
func (m PointerAsk) JobID() workunits.JobID  { return m.Job }
func (m Pointer) JobID() workunits.JobID     { return m.Job }
func (m Keep) JobID() workunits.JobID        { return m.Job }
func (m Kept) JobID() workunits.JobID        { return m.Job }
func (m Free) JobID() workunits.JobID        { return m.Job }
func (m LogAsk) JobID() workunits.JobID      { return m.Job }
func (m LogReply) JobID() workunits.JobID    { return m.Job }

type frame struct {
	_       struct{} `cbor:",toarray"`
	Version uint8
	Type    Type
	Body    []byte
}

// ErrFrame is wrapped by every error of Decode.
var ErrFrame = errors.New("malformed frame")

// Encode returns the frame of a message.
func Encode(m Message) []byte {
	return workunits.Encode(frame{Version: Version, Type: m.Type(), Body: workunits.Encode(m)})
}

// Decode reads a frame and checks its limits. What a segment or a manifest in
// it says is for the receiver to check.
func Decode(b []byte) (Message, error) {
	f, err := workunits.Decode[frame](b, MaxFrame)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrFrame, err)
	}
	if f.Version != Version {
		return nil, fmt.Errorf("%w: version %d, this node speaks %d", ErrFrame, f.Version, Version)
	}
	m, err := decodeBody(f)
	if err == nil {
		err = m.check()
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrFrame, err)
	}
	return m, nil
}

func decodeBody(f frame) (Message, error) {
	switch f.Type {
	case TypeWorkRequest:
		return workunits.Decode[WorkRequest](f.Body, MaxFrame)
	case TypeWorkReply:
		return workunits.Decode[WorkReply](f.Body, MaxFrame)
	case TypePush:
		return workunits.Decode[Push](f.Body, MaxFrame)
	case TypePull:
		return workunits.Decode[Pull](f.Body, MaxFrame)
	case TypeJobRequest:
		return workunits.Decode[JobRequest](f.Body, MaxFrame)
	case TypeJobReply:
		return workunits.Decode[JobReply](f.Body, MaxFrame)
	case TypeAsk:
		return workunits.Decode[Ask](f.Body, MaxFrame)
	case TypeAnswer:
		return workunits.Decode[Answer](f.Body, MaxFrame)
	case TypePointerAsk:
		return workunits.Decode[PointerAsk](f.Body, MaxFrame)
	case TypePointer:
		return workunits.Decode[Pointer](f.Body, MaxFrame)
	case TypeKeep:
		return workunits.Decode[Keep](f.Body, MaxFrame)
	case TypeKept:
		return workunits.Decode[Kept](f.Body, MaxFrame)
	case TypeFree:
		return workunits.Decode[Free](f.Body, MaxFrame)
	case TypeLogAsk:
		return workunits.Decode[LogAsk](f.Body, MaxFrame)
	case TypeLogReply:
		return workunits.Decode[LogReply](f.Body, MaxFrame)
	}
	return nil, fmt.Errorf("type %d is unknown", f.Type)
}

func (m WorkRequest) check() error {
	return errors.Join(within("units", int(m.Units), workunits.MaxBatch), within("architecture", len(m.Arch), workunits.MaxWordLen),
		within("held", len(m.Held), MaxHeld), within("proof of work", len(m.Proof), workunits.MaxProof),
		within("busy", len(m.Busy), MaxBusy))
}

func (m WorkReply) check() error {
	return errors.Join(within("grant", len(m.Grant), workunits.MaxSegment), within("hints", len(m.Hints), workunits.MaxStewards),
		within("shunned stewards", len(m.Shuns), workunits.MaxStewards), within("reason", len(m.Reason), MaxReason))
}

func (m Push) check() error {
	err := errors.Join(within("segments", len(m.Segments), MaxSegments), within("blocks", len(m.Blocks), MaxBlocks))
	for _, b := range m.Blocks {
		err = errors.Join(err, within("block", len(b), workunits.MaxInline))
	}
	return err
}

func (m Pull) check() error {
	for i := 1; i < len(m.Have); i++ {
		if m.Have[i-1].Author.Compare(m.Have[i].Author) >= 0 {
			return errors.New("vector out of order")
		}
	}
	return within("vector", len(m.Have), MaxVector)
}

func (JobRequest) check() error { return nil }

func (m JobReply) check() error {
	return errors.Join(within("manifest", len(m.Manifest), workunits.MaxManifest), within("segments", len(m.Segments), MaxSegments))
}

func (m Ask) check() error    { return within("manifest", len(m.Manifest), workunits.MaxManifest) }
func (m Answer) check() error { return within("reason", len(m.Reason), MaxReason) }

func (m PointerAsk) check() error { return within("project", len(m.Project), workunits.MaxNameLen) }
func (m Pointer) check() error    { return within("pointer", len(m.Pointer), workunits.MaxPointer) }
func (m Keep) check() error {
	err := errors.Join(within("objects", len(m.Objects), MaxKept), within("sources", len(m.Sources), MaxHolders))
	for _, o := range m.Objects {
		err = errors.Join(err, o.check())
	}
	return err
}

func (o Object) check() error {
	if !o.Root.Cid.Defined() || o.Code != nil && !o.Code.Cid.Defined() || o.Bytes > 1<<50 || o.Run > workunits.MaxUnits {
		return fmt.Errorf("object of %d bytes, run %d: %w", o.Bytes, o.Run, workunits.ErrTooLarge)
	}
	return nil
}

func (m Kept) check() error {
	err := errors.Join(within("objects", len(m.Objects), MaxKept), within("refused", len(m.Refused), MaxKept), within("reason", len(m.Reason), MaxReason))
	for _, o := range m.Objects {
		err = errors.Join(err, o.check(), within("holders", len(o.Holders), MaxHolders))
	}
	return err
}

func (m Free) check() error { return within("proof", len(m.Proof), workunits.MaxSegment) }

func (m LogAsk) check() error { return within("unit", int(m.Unit), workunits.MaxUnits) }

func (m LogReply) check() error {
	return errors.Join(within("unit", int(m.Unit), workunits.MaxUnits), within("how", len(m.How), MaxReason), within("text", len(m.Text), MaxLogText))
}

func within(what string, n, limit int) error {
	if n > limit {
		return fmt.Errorf("%s: %d, limit %d: %w", what, n, limit, workunits.ErrTooLarge)
	}
	return nil
}
