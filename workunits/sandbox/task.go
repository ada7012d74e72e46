package sandbox

import (
	"errors"
	"fmt"
	"time"

	"github.com/talka-grid/talka/workunits"
	"github.com/talka-grid/talka/workunits/sandbox/wasi"
)

// Input is a file or folder of the host that a unit sees at Path.
type Input = wasi.Input

// DefaultScratch is the size of /scratch where a task names none. It is the
// same everywhere, because a program can see where it ends.
const DefaultScratch = 4 << 30

// Limits bounds one run.
type Limits struct {
	Memory  uint64        // bytes of linear memory, at least a page (64 KiB); growth beyond is refused, as is the last page of 4 GiB
	Output  uint64        // bytes of /out and standard output together; one more is the outcome
	Files   uint32        // files in /out; one more is the outcome; 0: workunits.MaxOutFiles
	File    uint64        // bytes of each file in /out, and of standard output; one more is the outcome; 0: as Output
	Calls   uint64        // of the functions of WASI; one more is a trap; 0: any number, which CPU bounds
	Log     uint64        // bytes of standard error that are kept, the rest is dropped
	Scratch uint64        // bytes of /scratch: ENOSPC; 0: DefaultScratch
	Saved   uint64        // bytes of /checkpoint: ENOSPC; 0: as Scratch
	Wall    time.Duration // time that passes while not paused; over it the copy is void
	CPU     time.Duration // processor time; over it the copy is void; 0: as much as Wall allows
}

// LimitsOf gives the limits of a job's copies.
func LimitsOf(l workunits.Limits) Limits {
	return Limits{
		Memory: l.Memory, Output: l.Output, Files: l.Files, File: l.File, Calls: l.Calls, Log: l.Log, Saved: l.Checkpoint,
		Wall: time.Duration(l.Wall) * time.Millisecond, CPU: time.Duration(l.CPU) * time.Millisecond,
	}
}

const (
	pageSize = 64 << 10
	// maxMemory is a page less than 4 GiB: wazero keeps sizes in 32 bits.
	maxMemory = workunits.MaxMemory - pageSize
)

// Validate says which limit makes no sense.
func (l Limits) Validate() error {
	switch {
	case l.Memory < pageSize || l.Memory > workunits.MaxMemory:
		return fmt.Errorf("memory limit of %d bytes, want %d to %d", l.Memory, pageSize, uint64(workunits.MaxMemory))
	case l.Wall <= 0:
		return fmt.Errorf("wall time limit of %v, want more than 0", l.Wall)
	case l.CPU < 0:
		return fmt.Errorf("processor time limit of %v, want 0 or more", l.CPU)
	case l.Output > 1<<62 || l.File > 1<<62 || l.Log > 1<<62 || l.Scratch > 1<<62 || l.Saved > 1<<62:
		return errors.New("limit of more than 2^62 bytes")
	}
	return nil
}

// withDefaults replaces the zeros that stand for something, and what no engine
// can give.
func (l Limits) withDefaults() Limits {
	l.Memory = min(l.Memory, maxMemory)
	if l.Files == 0 {
		l.Files = workunits.MaxOutFiles
	}
	if l.File == 0 {
		l.File = l.Output
	}
	if l.Scratch == 0 {
		l.Scratch = DefaultScratch
	}
	if l.Saved == 0 {
		l.Saved = l.Scratch
	}
	return l
}

// Task is one run of a program.
type Task struct {
	Program   string           // WebAssembly module on the host; it does not change
	ProgramID workunits.Digest // names the module in the cache and among warm children

	Args   []string // after the first, which is always "program"
	Env    []string // NAME=value; nothing is inherited
	Stdin  string   // path of a file in the unit's tree; empty: no input
	Inputs []Input  // read-only, never copied
	Reads  []string // files and folders of the host that hold Inputs: on Linux a child reads no others, and serves tasks with the same alone; nil: those of Inputs

	Dir            string // host folder of this run alone, see [Clear]. Gets out, stdout and stderr
	Checkpoint     string // host folder that is /checkpoint; empty: one that goes with the run
	CheckpointRoom uint64 // bytes that this host has for it: more makes the copy void; 0: as many as the limit
	Limits         Limits
	Seed           [32]byte // of the clock and of randomness
	Canonical      bool     // one bit pattern for every NaN; wasmtime only (ErrCanonical)
}

func (t Task) validate() error {
	if t.Program == "" || t.ProgramID.IsZero() || t.Dir == "" {
		return errors.New("task needs a program, its id and a folder")
	}
	return t.Limits.Validate()
}

// Report is what a unit did.
type Report struct {
	Kind workunits.OutcomeKind
	Code uint32 // exit code
	Trap string // the same words from both engines

	Stdout, Stderr string // host files in Task.Dir
	Out            string // host folder in Task.Dir: regular files and folders only

	wasi.Tally

	// For people:
	Detail  string // which limit ended the program
	Refusal wasi.Refusal

	// Not deterministic:
	Wall       time.Duration
	CPU        time.Duration
	Instance   time.Duration // of Wall, to make the instance that ran; 0: there was none
	PeakMemory uint64        // bytes of linear memory at the end; it never shrinks
}

// Void says that a run says nothing about its unit. It is an error.
type Void struct {
	Reason workunits.VoidReason
	Detail string // for people
	Cause  error  // a context's error for VoidCancelled, else nil
}

func (v *Void) Error() string {
	if v.Detail == "" {
		return "copy is void: " + string(v.Reason)
	}
	return fmt.Sprintf("copy is void: %s: %s", v.Reason, v.Detail)
}

// Unwrap gives the cause.
func (v *Void) Unwrap() error { return v.Cause }

// Errors of Run that say nothing about the unit either.
var (
	ErrCanonical = errors.New("canonical NaNs need wasmtime, which this build or pool lacks")
	ErrClosed    = errors.New("sandbox is closed")
)
