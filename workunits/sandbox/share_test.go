//go:build linux

package sandbox

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/talka-grid/talka/workunits"
)

// TestProcessors has more endless programs than processors set, and holds the time that
// the system counted of all their children against what passed: one processor is what a
// single slot takes, and what two children take that began on more and share it now.
func TestProcessors(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		slots, percent int
		most           float64 // the turns of children end when their parent wakes
	}{{1, 100, 1.05}, {2, 50, 1.25}} {
		t.Run(fmt.Sprintf("%d at %d", c.slots, c.percent), func(t *testing.T) {
			t.Parallel()
			p := newPool(t, Config{CacheDir: cache, Slots: c.slots, Percent: c.percent})
			endlessly := task(t, endless.file(t))
			endlessly.Limits.Wall = time.Second
			var mu sync.Mutex
			children := map[*worker]bool{}
			var wait sync.WaitGroup
			began := time.Now()
			for range 4 {
				task := endlessly
				task.Dir = t.TempDir()
				wait.Go(func() {
					_, err := p.Run(t.Context(), task, func(pid int) {
						p.mu.Lock()
						defer p.mu.Unlock()
						mu.Lock()
						defer mu.Unlock()
						for w := range p.workers {
							children[w] = true
						}
						if working := len(p.workers); working > c.slots {
							t.Errorf("%d children in %d slots", working, c.slots)
						}
					})
					var void *Void
					if !errors.As(err, &void) || void.Reason != workunits.VoidWall {
						t.Errorf("an endless program ended: %v", err)
					}
				})
			}
			wait.Wait()
			passed := time.Since(began)
			var used time.Duration
			for w := range children {
				<-w.dead
				used += w.cmd.ProcessState.UserTime() + w.cmd.ProcessState.SystemTime()
			}
			took := used.Seconds() / passed.Seconds()
			t.Logf("set 1 processor, took %.2f: %v in %v", took, used, passed)
			if took > c.most || len(children) != 4 || used == 0 {
				t.Errorf("%d children took %.2f processors, set 1", len(children), took)
			}
		})
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
