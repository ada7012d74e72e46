package sandbox

import (
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"
)

// benchPool is a pool with a warm cache, whose children are those of the binary
// that users run where make bench names it.
func benchPool(b *testing.B, c Config) *Pool {
	c.CacheDir = cache
	if exe := os.Getenv("TALKA_TEST_BIN"); exe != "" && len(c.Command) == 0 {
		c.Command = []string{exe, "sandbox-child"}
	}
	return newPool(b, c)
}

// eachEngineBench runs a benchmark with a warm child of every engine.
func eachEngineBench(b *testing.B, bench func(b *testing.B, p *Pool)) {
	for _, engine := range Engines() {
		b.Run(engine, func(b *testing.B) { bench(b, benchPool(b, Config{Engine: engine})) })
	}
}

// runBench runs a task in a folder that is used again.
func runBench(b *testing.B, p *Pool, t Task) Report {
	b.Helper()
	r, err := p.Run(b.Context(), t, nil)
	if err != nil {
		b.Fatal(err)
	}
	return r
}

// benchRuns runs a task b.N times after a first one that warms the child.
func benchRuns(b *testing.B, p *Pool, t Task) {
	runBench(b, p, t)
	var cpu, wall time.Duration
	for b.Loop() {
		r := runBench(b, p, t)
		cpu += r.CPU
		wall += r.Wall
	}
	b.ReportMetric(cpu.Seconds()*1e6/float64(b.N), "child-us/op")
	b.ReportMetric(wall.Seconds()*1e6/float64(b.N), "run-us/op")
}

// BenchmarkEmptyUnit is what a unit costs that does nothing: an instance, the
// tree of its files, and an order to the child and back.
func BenchmarkEmptyUnit(b *testing.B) {
	eachEngineBench(b, func(b *testing.B, p *Pool) { benchRuns(b, p, task(b, wasm{pages: 1}.file(b))) })
}

// mostInstance is the promise of BenchmarkInstance.
const mostInstance = time.Millisecond

// BenchmarkInstance is how long an engine takes to make an instance in a warm child,
// of the compiled form of a module that was kept: of one that does nothing, and of a
// small program in C.
func BenchmarkInstance(b *testing.B) {
	programs := map[string]func(b *testing.B) Task{
		"empty": func(b *testing.B) Task { return task(b, wasm{pages: 1}.file(b)) },
		"c":     func(b *testing.B) Task { return task(b, filepath.Join("..", "apps", "kernels", "sha256.wasm"), "1") },
	}
	eachEngineBench(b, func(b *testing.B, p *Pool) {
		for _, name := range slices.Sorted(maps.Keys(programs)) {
			b.Run(name, func(b *testing.B) {
				t := programs[name](b)
				runBench(b, p, t)
				var took []time.Duration
				for b.Loop() {
					took = append(took, runBench(b, p, t).Instance)
				}
				slices.Sort(took)
				middle := took[len(took)/2]
				b.ReportMetric(middle.Seconds()*1e6, "instance-us")
				b.ReportMetric(took[len(took)*99/100].Seconds()*1e6, "p99-instance-us")
				if middle <= 0 || middle > mostInstance {
					b.Errorf("an instance takes %v, want at most %v", middle, mostInstance)
				}
			})
		}
	})
}

// BenchmarkWalls runs empty units with the walls and, in turn, without.
func BenchmarkWalls(b *testing.B) {
	walled := newPool(b, Config{CacheDir: cache})
	open, err := New(Config{CacheDir: cache, Slots: 1, Command: []string{os.Args[0], "sandbox-open"}})
	if err != nil {
		b.Fatal(err)
	}
	open.open = true
	defer open.Close()
	t := task(b, wasm{pages: 1}.file(b))
	t.Dir = b.TempDir()
	runBench(b, walled, t)
	runBench(b, open, t)
	var with, without time.Duration
	for b.Loop() {
		with += runBench(b, walled, t).CPU
		without += runBench(b, open, t).CPU
	}
	b.ReportMetric(with.Seconds()*1e6/float64(b.N), "walled-us/op")
	b.ReportMetric(without.Seconds()*1e6/float64(b.N), "open-us/op")
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

// BenchmarkReading reads 256 MiB in pieces of 64 KiB, as this process does in turn.
func BenchmarkReading(b *testing.B) {
	const size = 256 << 20
	input := filepath.Join(b.TempDir(), "input")
	if err := os.WriteFile(input, make([]byte, size), 0o600); err != nil {
		b.Fatal(err)
	}
	plain := func() time.Duration {
		f, err := os.Open(input)
		if err != nil {
			b.Fatal(err)
		}
		defer f.Close()
		begin, buffer := time.Now(), make([]byte, 64<<10)
		for {
			if _, err := f.Read(buffer); err == io.EOF {
				return time.Since(begin)
			} else if err != nil {
				b.Fatal(err)
			}
		}
	}
	eachEngineBench(b, func(b *testing.B, p *Pool) {
		w := wasm{imports: []string{"fd_read"}, pages: 3, data: "\x00\x01\x00\x00\x00\x00\x01\x00", code: ops(
			opLoop, void,
			i32(0), i32(0), i32(1), i32(16), call(0), opDrop,
			i32(16), opI32Load, 2, 0, 0x0d, 0, // br_if
			opEnd)}
		t := task(b, w.file(b))
		t.Inputs, t.Stdin = []Input{{Path: "in", Host: input}}, "in"
		runBench(b, p, t)
		inside, outside := time.Hour, time.Hour
		for b.Loop() {
			inside, outside = min(inside, runBench(b, p, t).Wall), min(outside, plain())
		}
		b.ReportMetric(size/1e9/inside.Seconds(), "GB/s")
		b.ReportMetric(size/1e9/outside.Seconds(), "plain-GB/s")
	})
}

// BenchmarkPython starts the interpreter where it was compiled before: in a new
// child, and in a warm one.
func BenchmarkPython(b *testing.B) {
	program := filepath.Join("..", "..", "bin", "apps", "python.wasm")
	if _, err := os.Stat(program); err != nil {
		b.Skip("the Python interpreter is not here: make python")
	}
	eachEngineBench(b, func(b *testing.B, p *Pool) {
		t := task(b, program, "empty.py")
		t.Limits.Memory = 256 << 20
		t.Inputs = []Input{{Path: "empty.py", Host: write(b, filepath.Join(b.TempDir(), "empty.py"), "")}}
		runBench(b, p, t)
		cold, warm, cpu := time.Hour, time.Hour, time.Hour
		for b.Loop() {
			fresh(p)
			begin := time.Now()
			runBench(b, p, t)
			cold = min(cold, time.Since(begin))
			r := runBench(b, p, t)
			warm, cpu = min(warm, r.Wall), min(cpu, r.CPU)
		}
		b.ReportMetric(cold.Seconds()*1e3, "new-child-ms")
		b.ReportMetric(warm.Seconds()*1e3, "warm-child-ms")
		b.ReportMetric(cpu.Seconds()*1e3, "warm-cpu-ms")
	})
}

// BenchmarkIdleChild is the memory of a child that has run small units and
// waits: its own, and all that is resident.
func BenchmarkIdleChild(b *testing.B) {
	eachEngineBench(b, func(b *testing.B, p *Pool) {
		pid := 0
		t := task(b, wasm{pages: 1}.file(b))
		for b.Loop() {
			if _, err := p.Run(b.Context(), t, func(n int) { pid = n }); err != nil {
				b.Fatal(err)
			}
		}
		u, known := usage(pid)
		if !known {
			b.Skip("nothing is known of a child's memory here")
		}
		b.ReportMetric(float64(u.memory)/(1<<20), "own-MiB")
		var pages, resident float64
		statm, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", pid))
		if err == nil {
			_, err = fmt.Sscan(string(statm), &pages, &resident)
		}
		if err != nil {
			b.Fatal(err)
		}
		b.ReportMetric(resident*float64(os.Getpagesize())/(1<<20), "resident-MiB")
	})
}
