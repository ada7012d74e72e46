package sandbox

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"io"

	"github.com/talka-grid/talka/workunits"
	"github.com/talka-grid/talka/workunits/sandbox/wasi"
)

// protocolVersion changes with every message below. Parent and child are the
// same binary unless it was replaced while the node runs.
const protocolVersion = 6

// Limits of frames in bytes.
const (
	maxOrder  = 16 << 20 // to the child: arguments and inputs of a unit
	maxAnswer = 64 << 10 // to the parent
)

// loadOrder is the first frame to a child.
type loadOrder struct {
	Version   uint64 `cbor:"version"`
	Engine    string `cbor:"engine"`
	Program   string `cbor:"program"`
	Canonical bool   `cbor:"canonical"`
	Memory    uint64 `cbor:"memory"`
	Module    string `cbor:"module"`   // folder with the compiled module; empty: compile
	MinPages  uint32 `cbor:"minpages"` // of the compiled module, as answered when it was compiled
	Stage     string `cbor:"stage"`    // empty folder to compile into: the child does that alone
}

// loadAnswer is the first frame from a child. It is of no use if Error is set.
type loadAnswer struct {
	Error    string `cbor:"error"`
	Refused  bool   `cbor:"refused"`  // the error is about the compiled module, not the program
	MinPages uint32 `cbor:"minpages"` // of the program's memory
	Note     string `cbor:"note"`     // why Stage holds no module all the same
	Walls    string `cbor:"walls"`    // which walls the child could not build, for the log
}

// runOrder starts a task.
type runOrder struct {
	Args       []string     `cbor:"args"`
	Env        []string     `cbor:"env"`
	Stdin      string       `cbor:"stdin"`
	Inputs     []inputOrder `cbor:"inputs"`
	Dir        string       `cbor:"dir"`
	Checkpoint string       `cbor:"checkpoint"`
	Room       uint64       `cbor:"room"` // bytes of the host for it; 0: any
	Output     uint64       `cbor:"output"`
	Files      uint32       `cbor:"files"`
	File       uint64       `cbor:"file"`
	Calls      uint64       `cbor:"calls"`
	Log        uint64       `cbor:"log"`
	Scratch    uint64       `cbor:"scratch"`
	Saved      uint64       `cbor:"saved"`
	Seed       [32]byte     `cbor:"seed"`
}

type inputOrder struct {
	_    struct{} `cbor:",toarray"`
	Path string
	Host string
}

// runAnswer is the end of a task: an outcome, or Void and Detail.
type runAnswer struct {
	Kind     workunits.OutcomeKind `cbor:"kind"`
	Code     uint32                `cbor:"code"`
	Trap     string                `cbor:"trap"`
	Void     workunits.VoidReason  `cbor:"void"`
	Detail   string                `cbor:"detail"`
	Refusal  wasi.Refusal          `cbor:"refusal"`
	Tally    wasi.Tally            `cbor:"tally"`
	CPU      uint64                `cbor:"cpu"`      // nanoseconds of processor time
	Instance uint64                `cbor:"instance"` // nanoseconds to make the instance
	Memory   uint64                `cbor:"memory"`   // bytes of linear memory
}

func (a runAnswer) check() error {
	switch {
	case a.Void != "":
		switch a.Void {
		case workunits.VoidStack, workunits.VoidDisk, workunits.VoidInput, workunits.VoidEngine:
			return nil
		}
		return fmt.Errorf("reason %.40q is not a child's to give", a.Void)
	case a.Kind != workunits.Exited && a.Kind != workunits.Trapped && a.Kind != workunits.OutputLimit:
		return fmt.Errorf("outcome %.40q", a.Kind)
	case len(a.Trap) > maxTrap || (a.Trap != "") != (a.Kind == workunits.Trapped) || a.Code != 0 && a.Kind != workunits.Exited:
		return fmt.Errorf("outcome %s with trap %.40q and code %d", a.Kind, a.Trap, a.Code)
	}
	return nil
}

const maxTrap = 64

// writeFrame sends one message in one write.
func writeFrame(w io.Writer, v any) error {
	body := workunits.Encode(v)
	_, err := w.Write(append(binary.BigEndian.AppendUint32(nil, uint32(len(body))), body...))
	return err
}

// readBody receives a frame's record of at most limit bytes. The error is
// io.EOF between frames only.
func readBody(r *bufio.Reader, limit int) ([]byte, error) {
	var head [4]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return nil, err
	}
	n := binary.BigEndian.Uint32(head[:])
	if uint64(n) > uint64(limit) {
		return nil, fmt.Errorf("frame of %d bytes, the limit is %d", n, limit)
	}
	body := make([]byte, n)
	if _, err := io.ReadFull(r, body); err != nil {
		return nil, fmt.Errorf("frame cut short: %w", io.ErrUnexpectedEOF)
	}
	return body, nil
}

// readFrame receives one message.
func readFrame[T any](r *bufio.Reader, limit int) (v T, err error) {
	body, err := readBody(r, limit)
	if err != nil {
		return v, err
	}
	return workunits.Decode[T](body, limit)
}
