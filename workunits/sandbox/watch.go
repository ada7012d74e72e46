package sandbox

import (
	"fmt"
	"io/fs"
	"path/filepath"
	"time"

	"github.com/talka-grid/talka/workunits"
)

// stopwatch measures time that passes while not paused. The zero value stands
// at zero and is stopped.
type stopwatch struct {
	past    time.Duration
	since   time.Time
	running bool
}

func (s *stopwatch) start(now time.Time) {
	if !s.running {
		s.since, s.running = now, true
	}
}

func (s *stopwatch) stop(now time.Time) {
	s.past = s.elapsed(now)
	s.running = false
}

func (s *stopwatch) elapsed(now time.Time) time.Duration {
	if !s.running {
		return s.past
	}
	return s.past + now.Sub(s.since)
}

// How often the parent looks at a child, and how far a child may be over its
// limits before the parent takes the engine's enforcement for failed. A look wakes
// the parent, which costs it more than a look: the longer a run lasts the fewer.
const (
	watchEvery     = 100 * time.Millisecond // at first
	watchSeldom    = time.Second            // in the end
	watchDisk      = 5 * time.Second
	memoryOverhead = 1 << 30 // engine, compiled module, tree of files; wazero lets stacks grow to 600 MiB
	diskOverhead   = 1 << 20
	loadWall       = 10 * time.Minute // to compile a module
	loadMemory     = 4 << 30
)

// guard is what the parent itself holds a child to during one order.
type guard struct {
	wall   time.Duration
	cpu    time.Duration // 0: any
	memory uint64        // bytes of memory of its own
	dir    string        // whose files are counted; empty: none
	disk   uint64

	cpuBefore time.Duration
	diskNext  time.Duration
}

// broken says which limit a child is over.
func (g *guard) broken(pid int, elapsed time.Duration) *Void {
	if elapsed >= g.wall {
		return &Void{Reason: workunits.VoidWall, Detail: fmt.Sprintf("limit %v", g.wall)}
	}
	cpu, memory, known := usage(pid)
	if known && g.cpu > 0 && cpu-g.cpuBefore > g.cpu {
		return &Void{Reason: workunits.VoidCPU, Detail: fmt.Sprintf("limit %v", g.cpu)}
	}
	if known && memory > g.memory {
		return &Void{Reason: workunits.VoidKilled, Detail: fmt.Sprintf("process grew to %d MiB of memory", memory>>20)}
	}
	if g.dir != "" && elapsed >= g.diskNext {
		g.diskNext = elapsed + watchDisk
		if diskUse(g.dir, g.disk) > g.disk {
			return &Void{Reason: workunits.VoidKilled, Detail: fmt.Sprintf("more than %d MiB on disk", g.disk>>20)}
		}
	}
	return nil
}

// next is when to look again.
func (g *guard) next(elapsed time.Duration) time.Duration {
	return max(time.Millisecond, min(max(watchEvery, elapsed/2), watchSeldom, g.wall-elapsed))
}

// diskUse sums the sizes of the files below dir, at least until they are more
// than enough.
func diskUse(dir string, enough uint64) (sum uint64) {
	// What goes away meanwhile takes no room.
	_ = filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return nil //nolint:nilerr // see above
		}
		if info, err := d.Info(); err == nil {
			sum += uint64(info.Size())
		}
		if sum > enough {
			return fs.SkipAll
		}
		return nil
	})
	return sum
}
