//go:build linux

package sandbox

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/talka-grid/talka/workunits"
)

func TestMemoryGrowthIsRefusedAtTheLimit(t *testing.T) {
	eachEngine(t, func(t *testing.T, p *Pool) {
		for _, c := range []struct {
			limit  uint64
			most   uint32
			expect uint32
		}{
			{1 << 20, 0, 16},
			{1<<20 + 65535, 0, 16},
			{1 << 20, 7, 7},
			{1 << 20, 100, 16},
			{65536, 0, 1},
		} {
			w := grower
			w.most = c.most
			task := task(t, w.file(t))
			task.Limits.Memory = c.limit
			r := run(t, p, task)
			if r.Code != c.expect || r.PeakMemory != uint64(c.expect)*pageSize {
				t.Errorf("limit %d, maximum %d: %d pages, peak of %d bytes; want %d", c.limit, c.most, r.Code, r.PeakMemory, c.expect)
			}
		}
		large := task(t, wasm{pages: 17}.file(t))
		large.Limits.Memory = 1 << 20
		for range 2 { // the second time from the cache
			if r := run(t, p, taskAgain(t, large)); r.Kind != workunits.Trapped || r.Trap != trapStartsTooBig {
				t.Errorf("too large at the start: %+v", r)
			}
		}
	})
}

func TestWholeAddressSpace(t *testing.T) {
	eachEngine(t, func(t *testing.T, p *Pool) {
		// Grows as far as it goes, and writes the last byte of that to its
		// output. Memory that is not touched costs nothing.
		const end = -pageSize // of the address space without its last page
		w := wasm{imports: []string{"fd_write", "proc_exit"}, pages: 1, code: ops(
			i32(65535), opMemoryGrow, 0, opDrop, // refused
			i32(65534), opMemoryGrow, 0, opDrop,
			i32(0), i32(end-1), opI32Store, 2, 0, // buffer at the last byte
			i32(4), i32(1), opI32Store, 2, 0, // of one byte
			i32(end-1), i32('x'), 0x3a, 0, 0, // i32.store8
			i32(1), i32(0), i32(1), i32(8), call(0), call(1))}
		task := task(t, w.file(t))
		task.Limits.Memory = 4 << 30
		r := run(t, p, task)
		if got := read(t, r.Stdout); r.Kind != workunits.Exited || r.Code != 0 || got != "x" || r.PeakMemory != maxMemory {
			t.Errorf("%s %q, code %d, output %q, peak of %d bytes", r.Kind, r.Trap, r.Code, got, r.PeakMemory)
		}
	})
}

func TestTraps(t *testing.T) {
	table := section{4, vec(ops(0x70, 0, leb(2)))}
	elem := section{9, vec(ops(0, i32(0), opEnd, vec(leb(0))))}
	indirect := func(typ, slot int) wasm {
		w := wasm{imports: []string{"sched_yield"}, pages: 1, extra: []section{table, elem}}
		w.code = ops(i32(int32(slot)), 0x11, leb(uint32(typ)), 0)
		if typ == 1 {
			w.code = append(w.code, opDrop)
		}
		return w
	}
	f64 := func(b ...byte) []byte { return append([]byte{opF64Const}, b...) }
	programs := map[string]wasm{
		trapUnreachable:  {code: ops(opUnreachable)},
		trapDivide:       {code: ops(i32(1), i32(0), opI32Div, opDrop)},
		trapOverflow:     {code: ops(i32(-1<<31), i32(-1), opI32Div, opDrop)},
		trapConversion:   {code: ops(f64(0, 0, 0, 0, 0, 0, 0xf8, 0x7f), opI32Trunc, opDrop)},
		trapMemory:       {pages: 1, code: ops(i32(65533), opI32Load, 2, 0, opDrop)},
		trapTable:        indirect(0, 2),
		trapSignature:    indirect(0, 0), // holds sched_yield, which returns something
		"overflow large": {code: ops(f64(0, 0, 0, 0, 0, 0, 0xf0, 0x43), opI32Trunc, opDrop)},
		"empty place":    indirect(0, 1),
		"data too large": {pages: 0, data: "x"},
		"after a call": {imports: []string{"sched_yield"}, pages: 1,
			code: ops(call(0), opDrop, i32(-4), opI32Load, 2, 0, opDrop)},
	}
	names := map[string]string{"overflow large": trapOverflow, "empty place": trapTable, "data too large": trapMemory, "after a call": trapMemory}
	eachEngine(t, func(t *testing.T, p *Pool) {
		for name, program := range programs {
			want := name
			if other := names[name]; other != "" {
				want = other
			}
			r, err := p.Run(t.Context(), task(t, program.file(t)), nil)
			if err != nil || r.Kind != workunits.Trapped || r.Trap != want || r.Code != 0 {
				t.Errorf("%s: %s %q %d, %v; want a trap: %s", name, r.Kind, r.Trap, r.Code, err, want)
			}
		}
	})
}

func TestOutputBeforeATrapStays(t *testing.T) {
	eachEngine(t, func(t *testing.T, p *Pool) {
		w := wasm{imports: []string{"fd_write"}, pages: 1, data: "\x08\x00\x00\x00\x05\x00\x00\x00hello",
			code: ops(i32(1), i32(0), i32(1), i32(64), call(0), opDrop, opUnreachable)}
		r := run(t, p, task(t, w.file(t)))
		if got := read(t, r.Stdout); r.Trap != trapUnreachable || got != "hello" {
			t.Errorf("trap %q, output %q", r.Trap, got)
		}
	})
}

func TestStackExhaustionIsVoid(t *testing.T) {
	eachEngine(t, func(t *testing.T, p *Pool) {
		first := task(t, wasm{code: call(0)}.file(t))
		_, err := p.Run(t.Context(), first, nil)
		wantVoid(t, err, workunits.VoidStack)
		// The child survives.
		_, err = p.Run(t.Context(), taskAgain(t, first), nil)
		wantVoid(t, err, workunits.VoidStack)
	})
}

func TestEndlessLoop(t *testing.T) {
	eachEngine(t, func(t *testing.T, p *Pool) {
		wall := task(t, endless.file(t))
		wall.Limits.Wall = 300 * time.Millisecond
		begin := time.Now()
		_, err := p.Run(t.Context(), wall, nil)
		wantVoid(t, err, workunits.VoidWall)
		if took := time.Since(begin); took < wall.Limits.Wall {
			t.Errorf("ended after %v", took)
		}

		wall.Limits.Wall, wall.Limits.CPU = mayLast, 200*time.Millisecond
		_, err = p.Run(t.Context(), taskAgain(t, wall), nil)
		wantVoid(t, err, workunits.VoidCPU)

		// A pool of which a child was killed goes on.
		if r := run(t, p, task(t, guest(t), "exit", "7")); r.Code != 7 {
			t.Errorf("code %d", r.Code)
		}
	})
}

func TestCancelKillsAtOnce(t *testing.T) {
	eachEngine(t, func(t *testing.T, p *Pool) {
		reason := errors.New("the job was cancelled")
		ctx, cancel := context.WithCancelCause(t.Context())
		child := 0
		_, err := p.Run(ctx, task(t, endless.file(t)), func(pid int) { child = pid; cancel(reason) })
		wantVoid(t, err, workunits.VoidCancelled)
		if !errors.Is(err, reason) {
			t.Errorf("error %v does not tell why", err)
		}
		if err := syscall.Kill(child, 0); !errors.Is(err, syscall.ESRCH) {
			t.Errorf("child %d is still there: %v", child, err)
		}
	})
}

func TestCancelledWhileWaiting(t *testing.T) {
	t.Parallel()
	p := newPool(t, Config{CacheDir: cache})
	ctx, cancel := context.WithCancel(t.Context())
	_, err := p.Run(ctx, task(t, endless.file(t)), func(int) {
		waiting, giveUp := context.WithCancel(t.Context())
		giveUp()
		if _, err := p.Run(waiting, task(t, guest(t), "nothing"), nil); !errors.Is(err, context.Canceled) {
			t.Errorf("waiting for the only slot: %v", err)
		}
		cancel()
	})
	wantVoid(t, err, workunits.VoidCancelled)
}

func TestCrashIsVoid(t *testing.T) {
	eachEngine(t, func(t *testing.T, p *Pool) {
		for sig, reason := range map[syscall.Signal]workunits.VoidReason{
			syscall.SIGKILL: workunits.VoidKilled,
			syscall.SIGABRT: workunits.VoidEngine,
		} {
			_, err := p.Run(t.Context(), task(t, endless.file(t)), func(pid int) {
				if err := syscall.Kill(pid, sig); err != nil {
					t.Error(err)
				}
			})
			wantVoid(t, err, reason)
		}
	})
}

func TestCloseEndsRuns(t *testing.T) {
	t.Parallel()
	p := newPool(t, Config{CacheDir: cache})
	closed := make(chan error)
	_, err := p.Run(t.Context(), task(t, endless.file(t)), func(int) {
		go func() { closed <- p.Close() }()
	})
	wantVoid(t, err, workunits.VoidCancelled)
	if !errors.Is(err, ErrClosed) {
		t.Errorf("error %v", err)
	}
	if err := <-closed; err != nil {
		t.Error(err)
	}
	if _, err := p.Run(t.Context(), task(t, guest(t), "nothing"), nil); !errors.Is(err, ErrClosed) {
		t.Errorf("after Close: %v", err)
	}
}

func TestBadPrograms(t *testing.T) {
	eachEngine(t, func(t *testing.T, p *Pool) {
		for name, code := range map[string]string{
			"not wasm": "#!/bin/sh", "empty": "", "cut": string(endless.bytes()[:20]),
			"invalid": string(wasm{code: ops(opDrop)}.bytes()),
		} {
			file := write(t, filepath.Join(t.TempDir(), "p"), code)
			_, err := p.Run(t.Context(), task(t, file), nil)
			wantVoid(t, err, workunits.VoidEngine)
			if err := Check([]byte(code)); !errors.Is(err, ErrProgram) {
				t.Errorf("%s: Check says %v", name, err)
			}
		}
		gone := task(t, guest(t), "nothing")
		gone.Program, gone.ProgramID = filepath.Join(t.TempDir(), "gone"), workunits.Sum([]byte("gone"))
		_, err := p.Run(t.Context(), gone, nil)
		wantVoid(t, err, workunits.VoidEngine)
	})
}

func TestFullDiskIsVoid(t *testing.T) {
	t.Parallel()
	if _, err := os.Stat("/dev/full"); err != nil {
		t.Skip("no /dev/full here")
	}
	for _, engine := range Engines() {
		// As a child does it, but for standard output, which is always full.
		first := task(t, guest(t), "fill", "-", "10")
		order, err := prepare(&first)
		if err := errors.Join(err, Clear(first.Dir)); err != nil {
			t.Fatal(err)
		}
		stdout := filepath.Join(first.Dir, "stdout")
		if err := errors.Join(os.Remove(stdout), os.Symlink("/dev/full", stdout)); err != nil {
			t.Fatal(err)
		}
		p := loadHere(t, loadOrder{Engine: engine, Program: guest(t), Memory: 64 << 20})
		if a := order.run(p); a.Void != workunits.VoidDisk || a.check() != nil {
			t.Errorf("%s: %+v", engine, a)
		}
	}
}

func TestStopwatch(t *testing.T) {
	t.Parallel()
	at := func(s int) time.Time { return time.Unix(int64(1000+s), 0) }
	var w stopwatch
	check := func(s int, want int) {
		t.Helper()
		if got := w.elapsed(at(s)); got != time.Duration(want)*time.Second {
			t.Errorf("at %d: %v, want %ds", s, got, want)
		}
	}
	check(0, 0)
	w.start(at(0))
	check(3, 3)
	w.stop(at(4))
	check(100, 4)
	w.stop(at(200))
	w.start(at(300))
	w.start(at(305))
	check(310, 14)
}

func TestVoidSpeaks(t *testing.T) {
	t.Parallel()
	v := &Void{Reason: workunits.VoidWall, Detail: "limit 1s", Cause: context.Canceled}
	if got := fmt.Sprint(v); got != "copy is void: wall time: limit 1s" || !errors.Is(v, context.Canceled) {
		t.Error(got)
	}
}
