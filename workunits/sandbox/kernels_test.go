//go:build cgo && (amd64 || (arm64 && !windows)) && (linux || darwin)

package sandbox

import (
	"context"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/bytecodealliance/wasmtime-go/v44"
)

// kernel is a program in three shapes, and what each took at best.
type kernel struct {
	name, source, program string
	native, bare, inside  time.Duration
}

// BenchmarkKernels holds programs in C, in the sandbox, against the same source
// compiled for this machine by clang -O2, and against wasmtime with its own WASI
// and nothing around it: processor time of the best of some runs, in turn. The
// module is compiled before.
func BenchmarkKernels(b *testing.B) {
	p := benchPool(b, Config{Engine: Wasmtime})
	sources, err := filepath.Glob(filepath.Join("..", "apps", "kernels", "*.c"))
	if err != nil || len(sources) == 0 {
		b.Fatal("no kernels: ", err)
	}
	var done []*kernel
	for _, source := range sources {
		program := strings.TrimSuffix(source, ".c") + ".wasm"
		k := &kernel{name: strings.TrimSuffix(filepath.Base(source), ".c"), source: source, program: program, native: math.MaxInt64, bare: math.MaxInt64, inside: math.MaxInt64}
		b.Run(k.name, func(b *testing.B) {
			k.measure(b, p)
			done = append(done, k)
		})
	}
	b.Run("mean", func(b *testing.B) {
		if len(done) == 0 {
			b.Skip("no kernel was measured")
		}
		var native, bare float64
		for b.Loop() { // which is over
			native, bare = 0, 0
			for _, k := range done {
				native += math.Log(k.inside.Seconds()/k.native.Seconds()) / float64(len(done))
				bare += math.Log(k.inside.Seconds()/k.bare.Seconds()) / float64(len(done))
			}
		}
		b.ReportMetric(math.Exp(native), "x-native")
		b.ReportMetric(math.Exp(bare), "x-bare")
		b.ReportMetric(float64(len(done)), "kernels")
	})
}

func (k *kernel) measure(b *testing.B, p *Pool) {
	cc := "clang-14"
	if _, err := exec.LookPath(cc); err != nil {
		cc = "clang"
	}
	binary := filepath.Join(b.TempDir(), k.name)
	if out, err := exec.Command(cc, "-O2", "-ffp-contract=off", "-o", binary, k.source, "-lm").CombinedOutput(); err != nil {
		b.Skipf("%v: %s", err, out)
	}
	t := task(b, k.program)
	runBench(b, p, t)
	bare := bareWasmtime(b, k.program)
	for b.Loop() {
		for range 5 {
			ctx, cancel := context.WithTimeout(b.Context(), time.Minute)
			native := exec.CommandContext(ctx, binary)
			err := native.Run()
			cancel()
			if err != nil {
				b.Fatal(err)
			}
			k.native = min(k.native, native.ProcessState.UserTime()+native.ProcessState.SystemTime())
			k.bare = min(k.bare, bare())
			k.inside = min(k.inside, runBench(b, p, t).CPU)
		}
	}
	b.ReportMetric(k.inside.Seconds()/k.native.Seconds(), "x-native")
	b.ReportMetric(k.inside.Seconds()/k.bare.Seconds(), "x-bare")
	b.ReportMetric(k.inside.Seconds()*1e3, "cpu-ms")
}

// bareWasmtime compiles a program as wasmtime does by default, and answers what
// runs it once.
func bareWasmtime(b *testing.B, program string) func() time.Duration {
	engine := wasmtime.NewEngine()
	module, err := wasmtime.NewModuleFromFile(engine, program)
	if err != nil {
		b.Fatal(err)
	}
	linker := wasmtime.NewLinker(engine)
	if err := linker.DefineWasi(); err != nil {
		b.Fatal(err)
	}
	return func() time.Duration {
		before := processorTime()
		wasi := wasmtime.NewWasiConfig()
		wasi.SetArgv([]string{"program"})
		if err := wasi.SetStdoutFile(os.DevNull); err != nil {
			b.Fatal(err)
		}
		store := wasmtime.NewStore(engine)
		defer store.Close()
		store.SetWasi(wasi)
		instance, err := linker.Instantiate(store, module)
		if err != nil {
			b.Fatal(err)
		}
		if _, err := instance.GetFunc(store, "_start").Call(store); err != nil {
			b.Fatal(err)
		}
		return processorTime() - before
	}
}
