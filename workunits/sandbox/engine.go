package sandbox

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"time"

	"github.com/talka-grid/talka/workunits"
	"github.com/talka-grid/talka/workunits/sandbox/wasi"
)

// The engines.
const (
	Wasmtime = "wasmtime"
	Wazero   = "wazero"
)

// Engines lists what this build can run programs with, the default first.
func Engines() []string { return slices.Clone(engineNames) }

// AddWazero lets this process execute with wazero, too, where it would with wasmtime
// alone. Tests that compare the two call it first; in a program that does not, the linker
// leaves wazero out.
func AddWazero() {
	if _, here := engines[Wazero]; !here {
		engines[Wazero] = wazeroEngine
		engineNames = append(engineNames, Wazero)
	}
}

// program is a module ready to run in this process.
type program interface {
	// run calls _start of a fresh instance whose host is p.
	run(p *wasi.Process) ending
}

// ending is how an engine came back. Unless trap or void is set the program
// returned, or p stopped it.
type ending struct {
	trap   string
	void   workunits.VoidReason
	detail string
	memory uint64 // bytes of linear memory at the end

	instance time.Duration // that it took to make the instance
}

// The names of traps, in the words of the WebAssembly specification's tests
// where both engines can tell the case.
const (
	trapUnreachable  = "unreachable"
	trapMemory       = "out of bounds memory access"
	trapTable        = "invalid table access" // beyond its end, or an empty place
	trapSignature    = "indirect call type mismatch"
	trapOverflow     = "integer overflow"
	trapDivide       = "integer divide by zero"
	trapConversion   = "invalid conversion to integer"
	trapStartsTooBig = "initial memory over the limit"
	trapCalls        = "host calls over the limit"
)

// tooBig is a program whose memory is over the limit before it starts.
type tooBig struct{ bytes uint64 }

func (t tooBig) run(*wasi.Process) ending {
	return ending{trap: trapStartsTooBig, memory: 0}
}

// engine makes programs ready to run.
type engine struct {
	version string // names the compiler
	// load takes the compiled module in the folder o.Module. errRefused is
	// wrapped by errors about that alone.
	load func(o loadOrder) (program, error)
	// compile compiles code for this process, and into the folder o.Stage if
	// there is one. unkept says why that folder holds no module all the same.
	compile func(o loadOrder, code []byte) (p program, unkept, err error)
}

var errRefused = errors.New("the engine refuses the compiled module")

// load makes the program of an order ready to run.
func load(o loadOrder) (p program, answer loadAnswer, err error) {
	e, known := engines[o.Engine]
	switch {
	case o.Version != protocolVersion:
		return nil, answer, fmt.Errorf("protocol version %d, this binary speaks %d: restart the node", o.Version, protocolVersion)
	case !known:
		return nil, answer, fmt.Errorf("unknown engine %q", o.Engine)
	}
	var code []byte
	if answer.MinPages = o.MinPages; o.Module == "" {
		if code, answer.MinPages, err = readProgram(o.Program); err != nil {
			return nil, answer, err
		}
	}
	if size := uint64(answer.MinPages) * pageSize; size > o.Memory {
		return tooBig{size}, answer, nil
	}
	if o.Module != "" {
		p, err = e.load(o)
		answer.Refused = errors.Is(err, errRefused)
		return p, answer, err
	}
	p, unkept, err := e.compile(o, code)
	if unkept != nil {
		answer.Note = clip(unkept.Error())
	}
	if err != nil {
		err = fmt.Errorf("compile: %w", err)
	}
	return p, answer, err
}

// readProgram reads and checks a program.
func readProgram(name string) (code []byte, minPages uint32, err error) {
	if code, err = os.ReadFile(name); err != nil {
		return nil, 0, err
	}
	info, err := parseModule(code)
	return code, info.minPages, err
}
