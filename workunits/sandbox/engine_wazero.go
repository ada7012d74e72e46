package sandbox

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"
	"github.com/tetratelabs/wazero/experimental"
	"github.com/tetratelabs/wazero/sys"

	"github.com/talka-grid/talka/workunits"
	"github.com/talka-grid/talka/workunits/sandbox/wasi"
)

// wazeroFeatures is what wasmtime is configured to accept as well.
const wazeroFeatures = api.CoreFeaturesV2 | experimental.CoreFeaturesExtendedConst

type wazeroProgram struct {
	runtime wazero.Runtime
	module  wazero.CompiledModule
	ctx     context.Context // carries the memory allocator
	host    *wasi.Process   // of the current run
}

var wazeroEngine = engine{"wazero-1.12.0", loadWazero, compileWazero}

func loadWazero(o loadOrder) (program, error) {
	code, err := os.ReadFile(o.Program)
	if err != nil {
		return nil, err
	}
	// Where the module is missing wazero compiles, and cannot write it there.
	w, err := newWazero(code, o.Memory, o.Module)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errRefused, err)
	}
	return w, w.link()
}

func compileWazero(o loadOrder, code []byte) (p program, unkept, err error) {
	w, err := newWazero(code, o.Memory, o.Stage)
	if err != nil && o.Stage != "" {
		// It does not tell a module that it cannot write from one that it cannot compile.
		unkept = err
		w, err = newWazero(code, o.Memory, "")
	}
	if err != nil {
		return nil, nil, err
	}
	return w, unkept, w.link()
}

// newWazero compiles a module, or takes it from a folder of compiled ones.
func newWazero(code []byte, memory uint64, dir string) (w *wazeroProgram, err error) {
	defer notPanic(&err)
	config := wazero.NewRuntimeConfig().
		WithCoreFeatures(wazeroFeatures).
		WithMemoryLimitPages(uint32(memory / pageSize)).
		WithDebugInfoEnabled(false)
	if dir != "" {
		cache, err := wazero.NewCompilationCacheWithDir(dir)
		if err != nil {
			return nil, err
		}
		config = config.WithCompilationCache(cache)
	}
	ctx := experimental.WithMemoryAllocator(context.Background(), experimental.MemoryAllocatorFunc(newLinearMemory))
	w = &wazeroProgram{runtime: wazero.NewRuntimeWithConfig(ctx, config), ctx: ctx}
	if w.module, err = w.runtime.CompileModule(ctx, code); err != nil {
		return nil, errors.Join(err, w.runtime.Close(ctx))
	}
	return w, nil
}

// link makes the host's functions importable.
func (w *wazeroProgram) link() error {
	host := w.runtime.NewHostModuleBuilder(wasi.ModuleName)
	for i, f := range wasi.Functions() {
		params := make([]api.ValueType, len(f.Params))
		for j, c := range f.Params {
			params[j] = api.ValueTypeI32
			if c == 'I' {
				params[j] = api.ValueTypeI64
			}
		}
		results := []api.ValueType{api.ValueTypeI32}[:f.Results()]
		host.NewFunctionBuilder().WithGoModuleFunction(api.GoModuleFunc(func(_ context.Context, m api.Module, stack []uint64) {
			var memory wasi.Memory
			if m := m.Memory(); m != nil {
				memory = m
			}
			errno, unwind := w.host.Call(i, stack[:len(params)], memory)
			if unwind {
				panic(sys.NewExitError(0))
			}
			if len(results) > 0 {
				stack[0] = uint64(errno)
			}
		}), params, results).Export(f.Name)
	}
	_, err := host.Instantiate(w.ctx)
	return err
}

func (w *wazeroProgram) run(p *wasi.Process) (e ending) {
	w.host = p
	began := time.Now()
	instance, err := w.runtime.InstantiateModule(w.ctx, w.module, wazero.NewModuleConfig().WithName("").WithStartFunctions())
	if err != nil {
		return w.ending(err)
	}
	start, took := instance.ExportedFunction("_start"), time.Since(began)
	_, err = start.Call(w.ctx)
	e = w.ending(err)
	e.instance = took
	if m := instance.Memory(); m != nil {
		e.memory = uint64(m.Size())
	}
	if err := instance.Close(w.ctx); err != nil && e.void == "" {
		e.void, e.detail = workunits.VoidEngine, err.Error()
	}
	return e
}

// ending reads wazero's errors, whose types are internal to it.
func (w *wazeroProgram) ending(err error) ending {
	var exit *sys.ExitError
	if err == nil || errors.As(err, &exit) {
		return ending{}
	}
	if _, stopped := w.host.Stopped(); stopped {
		return ending{}
	}
	text, _, _ := strings.Cut(err.Error(), "\n")
	name := text
	if _, after, found := strings.Cut(text, "wasm error: "); found {
		name = after
	}
	switch name {
	case trapUnreachable, trapMemory, trapTable, trapSignature, trapOverflow, trapDivide, trapConversion:
		return ending{trap: name}
	}
	if strings.HasSuffix(name, "stack overflow") { // also in a start function
		return ending{void: workunits.VoidStack}
	}
	if strings.HasPrefix(text, "data[") && strings.HasSuffix(text, trapMemory) {
		return ending{trap: trapMemory} // an initial value beyond the memory's end
	}
	return ending{void: workunits.VoidEngine, detail: text}
}

// validateWazero compiles for the interpreter, which costs least.
func validateWazero(code []byte) (err error) {
	defer notPanic(&err)
	ctx := context.Background()
	runtime := wazero.NewRuntimeWithConfig(ctx, wazero.NewRuntimeConfigInterpreter().WithCoreFeatures(wazeroFeatures))
	_, err = runtime.CompileModule(ctx, code)
	return errors.Join(err, runtime.Close(ctx))
}

// notPanic makes an error of a panic: wazero panics on some modules that are not
// valid.
func notPanic(err *error) {
	if r := recover(); r != nil {
		*err = fmt.Errorf("damaged WebAssembly module: wazero: %v", r)
	}
}
