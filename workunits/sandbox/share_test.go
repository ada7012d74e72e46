//go:build linux

package sandbox

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/talka-grid/talka/workunits"
)

// TestProcessors has endless programs in all slots of a pool, and holds the time that
// the system counts of all their children against what was set: one processor.
func TestProcessors(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ slots, percent int }{{1, 100}, {2, 50}} {
		t.Run(fmt.Sprintf("%d at %d", c.slots, c.percent), func(t *testing.T) {
			t.Parallel()
			p := newPool(t, Config{CacheDir: cache, Slots: c.slots, Percent: c.percent})
			pids := make([]int, c.slots)
			for i := range pids {
				pids[i] = endlessly(t, p)
			}
			measure(t, pids...).settles(t, "100", atMost(110))
		})
	}
}

// TestSlots has more programs than slots: no more children work at a time.
func TestSlots(t *testing.T) {
	t.Parallel()
	const slots = 2
	p := newPool(t, Config{CacheDir: cache, Slots: slots})
	ended := make(chan error, 2*slots)
	for range cap(ended) {
		task := task(t, endless.file(t))
		task.Limits.Wall = 200 * time.Millisecond
		go func() {
			_, err := p.Run(t.Context(), task, func(int) {
				p.mu.Lock()
				defer p.mu.Unlock()
				if working := len(p.workers); working > slots {
					t.Errorf("%d children in %d slots", working, slots)
				}
			})
			ended <- err
		}()
	}
	for range cap(ended) {
		wantVoid(t, <-ended, workunits.VoidWall)
	}
}

// greedy fills all the memory that it is given, and exits with the number of pages.
var greedy = exitWith(wasm{pages: 1}, ops(opLoop, void, i32(1), opMemoryGrow, 0, i32(-1), 0x47, 0x0d, 0, opEnd, // as grower does
	i32(0), i32(1), opMemorySize, 0, i32(pageSize), 0x6c, 0xfc, 0x0b, 0, // i32.mul, memory.fill
	opMemorySize, 0))

// TestMemoryShare holds the largest memory that the system saw of a child, over that of
// one whose program wants none, against what was set for the unit.
func TestMemoryShare(t *testing.T) {
	eachEngine(t, func(t *testing.T, p *Pool) {
		peak := func(program string, set uint64) (bytes uint64, code uint32) {
			t.Helper()
			task := task(t, program)
			task.Limits.Memory = set
			pid := 0
			r, err := p.Run(t.Context(), task, func(n int) { pid = n })
			if err != nil {
				t.Fatal(err)
			}
			for line := range strings.Lines(read(t, fmt.Sprintf("/proc/%d/status", pid))) {
				if n, err := fmt.Sscanf(line, "VmHWM: %d kB", &bytes); n == 1 && err == nil {
					return bytes << 10, r.Code
				}
			}
			t.Fatal("the system does not tell")
			return 0, 0
		}
		for _, set := range []uint64{32 << 20, 128 << 20} {
			rest, _ := peak(wasm{pages: 1}.file(t), set)
			all, pages := peak(greedy.file(t), set)
			took := all - min(all, rest)
			t.Logf("set %d MiB, took %.1f, and %.1f for the engine", set>>20, float64(took)/(1<<20), float64(rest)/(1<<20))
			if uint64(pages)*pageSize != set || took < set*95/100 || took > set*105/100+8<<20 {
				t.Errorf("set %d bytes, was given %d, took %d", set, uint64(pages)*pageSize, took)
			}
		}
	})
}

// TestDiskShare holds what a unit leaves on the disk that writes until it is stopped, and
// its whole log, against what was set.
func TestDiskShare(t *testing.T) {
	eachEngine(t, func(t *testing.T, p *Pool) {
		for _, where := range []string{"-", "/out/x"} {
			task := task(t, guest(t), "fill", where, "9000000")
			task.Limits.Output = 1 << 20
			run(t, p, task)
			set, took := task.Limits.Output+task.Limits.Log, DiskUse(task.Dir)
			t.Logf("set %d bytes, took %d", set, took)
			if took > set || took < task.Limits.Output*95/100 {
				t.Errorf("%s: set %d bytes, took %d", where, set, took)
			}
		}
	})
}
