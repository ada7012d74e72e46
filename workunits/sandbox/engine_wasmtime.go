//go:build cgo && (amd64 || (arm64 && !windows)) && (linux || darwin || windows)

package sandbox

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/bytecodealliance/wasmtime-go/v44"

	"github.com/talka-grid/talka/workunits"
	"github.com/talka-grid/talka/workunits/sandbox/wasi"
)

var (
	engineNames = []string{Wasmtime}
	engines     = map[string]engine{Wasmtime: {"wasmtime-44.0.0", loadWasmtime, compileWasmtime}}
)

// wasmStack is how much of its thread's stack a program may use, in bytes.
const wasmStack = 1 << 20

// newEngine configures wasmtime for full speed and the features that wazero
// has as well.
func newEngine(canonical bool) *wasmtime.Engine {
	c := wasmtime.NewConfig()
	c.SetMaxWasmStack(wasmStack)
	c.SetCraneliftNanCanonicalization(canonical)
	c.SetParallelCompilation(true)
	c.SetWasmSIMD(true)
	c.SetWasmBulkMemory(true)
	c.SetWasmReferenceTypes(true)
	c.SetWasmMultiValue(true)
	c.SetWasmThreads(false)
	c.SetWasmRelaxedSIMD(false)
	c.SetWasmTailCall(false)
	c.SetWasmMultiMemory(false)
	c.SetWasmMemory64(false)
	c.SetWasmFunctionReferences(false)
	c.SetWasmGC(false)
	c.SetWasmWideArithmetic(false)
	c.SetWasmComponentModel(false)
	return wasmtime.NewEngineWithConfig(c)
}

func validate(code []byte) error {
	engine := newEngine(false)
	defer engine.Close()
	return wasmtime.ModuleValidate(engine, code)
}

type wasmtimeProgram struct {
	engine *wasmtime.Engine
	module *wasmtime.Module
	linker *wasmtime.Linker
	limit  uint64

	// Of the current run:
	host   *wasi.Process
	memory wasmtimeMemory
	args   [9]uint64
	result [1]wasmtime.Val
}

// wasmtimeFile is the compiled module in its folder.
const wasmtimeFile = "module"

func loadWasmtime(o loadOrder) (program, error) {
	w := &wasmtimeProgram{engine: newEngine(o.Canonical), limit: o.Memory}
	var err error
	// The file is mapped: all children share its memory.
	if w.module, err = wasmtime.NewModuleDeserializeFile(w.engine, filepath.Join(o.Module, wasmtimeFile)); err != nil {
		return nil, fmt.Errorf("%w: %w", errRefused, err)
	}
	return w, w.link()
}

func compileWasmtime(o loadOrder, code []byte) (p program, unkept, err error) {
	w := &wasmtimeProgram{engine: newEngine(o.Canonical), limit: o.Memory}
	if w.module, err = wasmtime.NewModule(w.engine, code); err != nil {
		return nil, nil, err
	}
	if o.Stage != "" {
		compiled, err := w.module.Serialize()
		if err == nil {
			err = os.WriteFile(filepath.Join(o.Stage, wasmtimeFile), compiled, 0o600)
		}
		unkept = err
	}
	return w, unkept, w.link()
}

// link defines the host's functions, once for all runs.
func (w *wasmtimeProgram) link() error {
	w.linker = wasmtime.NewLinker(w.engine)
	i32, i64 := wasmtime.NewValType(wasmtime.KindI32), wasmtime.NewValType(wasmtime.KindI64)
	for i, f := range wasi.Functions() {
		params := make([]*wasmtime.ValType, len(f.Params))
		for j, c := range f.Params {
			params[j] = i32
			if c == 'I' {
				params[j] = i64
			}
		}
		results := []*wasmtime.ValType{i32}[:f.Results()]
		call := func(caller *wasmtime.Caller, vals []wasmtime.Val) ([]wasmtime.Val, *wasmtime.Trap) {
			for j := range vals {
				if f.Params[j] == 'I' {
					w.args[j] = uint64(vals[j].I64())
				} else {
					w.args[j] = uint64(uint32(vals[j].I32()))
				}
			}
			w.memory.caller = caller
			errno, unwind := w.host.Call(i, w.args[:len(vals)], &w.memory)
			if unwind {
				return nil, wasmtime.NewTrap("ended by the host")
			}
			w.result[0] = wasmtime.ValI32(int32(errno))
			return w.result[:f.Results()], nil
		}
		if err := w.linker.FuncNew(wasi.ModuleName, f.Name, wasmtime.NewFuncType(params, results), call); err != nil {
			return err
		}
	}
	return nil
}

// wasmtimeMemory remembers where the linear memory is: wasmtime reserves 4 GiB
// of addresses for each, so that it grows but never moves, and asking costs
// more than most calls.
type wasmtimeMemory struct {
	caller *wasmtime.Caller
	memory *wasmtime.Memory
	b      []byte
}

// Read implements wasi.Memory.
func (m *wasmtimeMemory) Read(offset, count uint32) ([]byte, bool) {
	end := uint64(offset) + uint64(count)
	if end > uint64(len(m.b)) && !m.refresh(end) {
		return nil, false
	}
	return m.b[offset:end:end], true
}

func (m *wasmtimeMemory) refresh(end uint64) bool {
	if m.memory == nil {
		export := m.caller.GetExport("memory")
		if export == nil || export.Memory() == nil {
			return false
		}
		m.memory = export.Memory()
	}
	m.b = m.memory.UnsafeData(m.caller)
	return end <= uint64(len(m.b))
}

// run takes a failure to grow within the limit, which a program could see, for the
// machine's: it is there when the machine would not give the rest of the limit
// before or after.
func (w *wasmtimeProgram) run(p *wasi.Process) ending {
	err := available(w.limit)
	if err == nil {
		e := w.runOnce(p)
		if err = available(w.limit - min(e.memory, w.limit)); err == nil {
			return e
		}
	}
	return ending{void: workunits.VoidEngine, detail: err.Error()}
}

func (w *wasmtimeProgram) runOnce(p *wasi.Process) (e ending) {
	began := time.Now()
	store := wasmtime.NewStore(w.engine)
	defer store.Close()
	store.Limiter(int64(w.limit), -1, -1, -1, -1)
	w.host, w.memory = p, wasmtimeMemory{}
	instance, err := w.linker.Instantiate(store, w.module)
	if err != nil {
		return w.ending(err)
	}
	start, took := instance.GetFunc(store, "_start"), time.Since(began)
	if _, err = start.Call(store); err != nil {
		e = w.ending(err)
	}
	e.instance = took
	if export := instance.GetExport(store, "memory"); export != nil && export.Memory() != nil {
		e.memory = uint64(export.Memory().DataSize(store))
	}
	return e
}

func (w *wasmtimeProgram) ending(err error) ending {
	if _, stopped := w.host.Stopped(); stopped {
		return ending{}
	}
	var trap *wasmtime.Trap
	if !errors.As(err, &trap) || trap.Code() == nil {
		return ending{void: workunits.VoidEngine, detail: err.Error()}
	}
	switch *trap.Code() {
	case wasmtime.UnreachableCodeReached:
		return ending{trap: trapUnreachable}
	case wasmtime.MemoryOutOfBounds:
		return ending{trap: trapMemory}
	case wasmtime.TableOutOfBounds, wasmtime.IndirectCallToNull:
		return ending{trap: trapTable}
	case wasmtime.BadSignature:
		return ending{trap: trapSignature}
	case wasmtime.IntegerOverflow:
		return ending{trap: trapOverflow}
	case wasmtime.IntegerDivisionByZero:
		return ending{trap: trapDivide}
	case wasmtime.BadConversionToInteger:
		return ending{trap: trapConversion}
	case wasmtime.StackOverflow:
		return ending{void: workunits.VoidStack}
	}
	return ending{void: workunits.VoidEngine, detail: trap.Message()}
}
