package sandbox

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
)

// eachEngineBench runs a benchmark with a warm child of every engine.
func eachEngineBench(b *testing.B, bench func(b *testing.B, p *Pool)) {
	for _, engine := range Engines() {
		b.Run(engine, func(b *testing.B) {
			bench(b, newPool(b, Config{Engine: engine, CacheDir: cache}))
		})
	}
}

// benchRuns runs a task b.N times after a first one that warms the child.
func benchRuns(b *testing.B, p *Pool, t Task) {
	cpu := 0.0
	for i := -1; i < b.N; i++ {
		if i == 0 {
			b.ResetTimer()
			cpu = 0
		}
		t.Dir = filepath.Join(b.TempDir(), fmt.Sprint("run", i+1))
		r, err := p.Run(b.Context(), t, nil)
		if err != nil {
			b.Fatal(err)
		}
		cpu += r.CPU.Seconds()
		if err := os.RemoveAll(t.Dir); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(cpu*1e6/float64(b.N), "child-us/op")
}

func BenchmarkEmptyUnit(b *testing.B) {
	eachEngineBench(b, func(b *testing.B, p *Pool) { benchRuns(b, p, task(b, wasm{pages: 1}.file(b))) })
}

// BenchmarkHostCalls looks at the clock a million times a run.
func BenchmarkHostCalls(b *testing.B) {
	const calls = 1e6
	eachEngineBench(b, func(b *testing.B, p *Pool) {
		w := wasm{imports: []string{"clock_time_get"}, pages: 1, locals: 1, code: ops(
			opLoop, void,
			i32(1), opI64Const, 0, i32(64), call(0), opDrop,
			opLocalGet, 0, i32(1), 0x6a, 0x22, 0, i32(calls), 0x49, 0x0d, 0, // local.tee, i32.lt_u, br_if
			opEnd)}
		benchRuns(b, p, task(b, w.file(b)))
		b.ReportMetric(float64(b.Elapsed().Nanoseconds())/calls/float64(b.N), "ns/call")
	})
}

// BenchmarkReading reads 256 MiB in pieces of 64 KiB.
func BenchmarkReading(b *testing.B) {
	const size = 256 << 20
	input := filepath.Join(b.TempDir(), "input")
	if err := os.WriteFile(input, make([]byte, size), 0o600); err != nil {
		b.Fatal(err)
	}
	eachEngineBench(b, func(b *testing.B, p *Pool) {
		w := wasm{imports: []string{"fd_read"}, pages: 3, data: "\x00\x01\x00\x00\x00\x00\x01\x00", code: ops(
			opLoop, void,
			i32(0), i32(0), i32(1), i32(16), call(0), opDrop,
			i32(16), opI32Load, 2, 0, 0x0d, 0, // br_if
			opEnd)}
		t := task(b, w.file(b))
		t.Inputs, t.Stdin = []Input{{Path: "in", Host: input}}, "in"
		b.SetBytes(size)
		benchRuns(b, p, t)
	})
}
