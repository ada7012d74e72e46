package sandbox

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

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

func loadWazero(o loadOrder) (program, loadAnswer, error) {
	var answer loadAnswer
	code, info, err := readProgram(o)
	if err != nil {
		return nil, answer, err
	}
	if size := uint64(info.minPages) * pageSize; size > o.Memory {
		return tooBig{size}, answer, nil
	}
	// One folder a program, so that it can be told whether it was there.
	dir := filepath.Join(o.Cache, Wazero, o.ID.String())
	answer.Cached = filesBelow(dir) > 0
	w, err := compileWazero(code, o.Memory, dir)
	if err != nil && answer.Cached {
		// wazero refuses what is damaged, but does not compile it again.
		answer.Cached, answer.Note = false, err.Error()
		if err = os.RemoveAll(dir); err == nil {
			w, err = compileWazero(code, o.Memory, dir)
		}
	}
	if err != nil {
		return nil, answer, fmt.Errorf("compile: %w", err)
	}
	return w, answer, w.link()
}

func compileWazero(code []byte, memory uint64, dir string) (*wazeroProgram, error) {
	cache, err := wazero.NewCompilationCacheWithDir(dir)
	if err != nil {
		return nil, err
	}
	config := wazero.NewRuntimeConfig().
		WithCoreFeatures(wazeroFeatures).
		WithMemoryLimitPages(uint32(memory / pageSize)).
		WithDebugInfoEnabled(false).
		WithCompilationCache(cache)
	ctx := experimental.WithMemoryAllocator(context.Background(), experimental.MemoryAllocatorFunc(newLinearMemory))
	w := &wazeroProgram{runtime: wazero.NewRuntimeWithConfig(ctx, config), ctx: ctx}
	if w.module, err = w.runtime.CompileModule(ctx, code); err != nil {
		return nil, errors.Join(err, w.runtime.Close(ctx), cache.Close(ctx))
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
	instance, err := w.runtime.InstantiateModule(w.ctx, w.module, wazero.NewModuleConfig().WithName("").WithStartFunctions())
	if err != nil {
		return w.ending(err)
	}
	_, err = instance.ExportedFunction("_start").Call(w.ctx)
	e = w.ending(err)
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
	case "stack overflow":
		return ending{void: workunits.VoidStack}
	}
	if strings.HasPrefix(text, "data[") && strings.HasSuffix(text, trapMemory) {
		return ending{trap: trapMemory} // an initial value beyond the memory's end
	}
	return ending{void: workunits.VoidEngine, detail: text}
}

// validateWazero compiles for the interpreter, which costs least.
func validateWazero(code []byte) error {
	ctx := context.Background()
	runtime := wazero.NewRuntimeWithConfig(ctx, wazero.NewRuntimeConfigInterpreter().WithCoreFeatures(wazeroFeatures))
	_, err := runtime.CompileModule(ctx, code)
	return errors.Join(err, runtime.Close(ctx))
}

func filesBelow(dir string) (n int) {
	// What cannot be read is not there.
	_ = filepath.WalkDir(dir, func(_ string, d os.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() {
			n++
		}
		return nil
	})
	return n
}
