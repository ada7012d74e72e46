package sandbox

import (
	"fmt"
	"os"

	"github.com/talka-grid/talka/workunits"
	"github.com/talka-grid/talka/workunits/sandbox/wasi"
)

// The engines.
const (
	Wasmtime = "wasmtime"
	Wazero   = "wazero"
)

// Engines lists what this build can run programs with, the default first.
func Engines() []string { return engineNames() }

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
)

// tooBig is a program whose memory is over the limit before it starts.
type tooBig struct{ bytes uint64 }

func (t tooBig) run(*wasi.Process) ending {
	return ending{trap: trapStartsTooBig, memory: 0}
}

// load makes the program of an order ready to run.
func load(o loadOrder) (program, loadAnswer, error) {
	if o.Version != protocolVersion {
		return nil, loadAnswer{}, fmt.Errorf("protocol version %d, this binary speaks %d: restart the node", o.Version, protocolVersion)
	}
	switch o.Engine {
	case Wazero:
		return loadWazero(o)
	case Wasmtime:
		return loadWasmtime(o)
	}
	return nil, loadAnswer{}, fmt.Errorf("unknown engine %q", o.Engine)
}

// readProgram reads and checks the module of an order.
func readProgram(o loadOrder) ([]byte, moduleInfo, error) {
	code, err := os.ReadFile(o.Program)
	if err != nil {
		return nil, moduleInfo{}, err
	}
	info, err := parseModule(code)
	return code, info, err
}
