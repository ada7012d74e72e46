package sandbox

import (
	"errors"
	"fmt"
	"io/fs"
	"math"
	"path/filepath"
	"runtime"
	"time"

	"github.com/talka-grid/talka/workunits"
	"github.com/talka-grid/talka/workunits/sandbox/wasi"
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
	memoryOverhead = 1 << 30          // engine, compiled module, tree of files; wazero lets stacks grow to 600 MiB
	loadWall       = 10 * time.Minute // to compile a module
	loadMemory     = 4 << 30
	diskFloor      = 64 << 20 // bytes left on the disk, below which the owner needs it more
	maxThreads     = 128      // and four for each processor: a child has about ten, and when it compiles one for each processor
)

// used is what a process has used or holds.
type used struct {
	cpu     time.Duration
	memory  uint64 // bytes that are its own and not of a file
	threads uint64
}

// mostThreads is how many threads a child may have.
func mostThreads() uint64 { return maxThreads + 4*uint64(runtime.NumCPU()) }

// guard is what the parent itself holds a child to during one order.
type guard struct {
	limits     Limits // of which CPU 0 is any
	memory     uint64 // bytes of memory of the process's own
	dir        string // of the run, whose files are looked at; empty: none
	checkpoint string

	cpuBefore time.Duration
	diskNext  time.Duration
}

// broken says which limit a child is over.
func (g *guard) broken(pid int, elapsed time.Duration) *Void {
	if elapsed >= g.limits.Wall {
		return &Void{Reason: workunits.VoidWall, Detail: fmt.Sprintf("limit %v", g.limits.Wall)}
	}
	u, known := usage(pid)
	if known && g.limits.CPU > 0 && u.cpu-g.cpuBefore > g.limits.CPU {
		return &Void{Reason: workunits.VoidCPU, Detail: fmt.Sprintf("limit %v", g.limits.CPU)}
	}
	if known && u.memory > g.memory {
		return &Void{Reason: workunits.VoidKilled, Detail: fmt.Sprintf("process grew to %d MiB of memory", u.memory>>20)}
	}
	if known && u.threads > mostThreads() {
		return &Void{Reason: workunits.VoidKilled, Detail: fmt.Sprintf("process has %d threads", u.threads)}
	}
	if left, known := diskLeft(g.dir); g.dir != "" && known && left < diskFloor {
		// It may hold files that have no name any more, which only its end gives back.
		return &Void{Reason: workunits.VoidDisk, Detail: fmt.Sprintf("less than %d MiB are left on the disk", diskFloor>>20)}
	}
	if g.dir != "" && elapsed >= g.diskNext {
		g.diskNext = elapsed + watchDisk
		if what := g.over(true); what != "" {
			return &Void{Reason: workunits.VoidKilled, Detail: "the engine let the program write " + what}
		}
	}
	return nil
}

// doubt says why an outcome cannot be one: no child whose engine works gives it.
func (g *guard) doubt(a runAnswer) error {
	l := g.limits
	if l.Calls > 0 && a.Tally.Calls > l.Calls && a.Trap != trapCalls {
		return fmt.Errorf("%d host calls, the limit is %d", a.Tally.Calls, l.Calls)
	}
	if a.Memory > l.Memory {
		return fmt.Errorf("%d bytes of memory, the limit is %d", a.Memory, l.Memory)
	}
	if what := g.over(false); what != "" {
		return errors.New("the engine let the program write " + what)
	}
	return nil
}

// over says what of a run's files is over the limits, which an engine never lets
// happen. Those that go with the run are of interest while it lasts.
func (g *guard) over(all bool) string {
	l := g.limits
	log, out, output := filesBelow(filepath.Join(g.dir, stderrName), 1), filesBelow(filepath.Join(g.dir, stdoutName), 1), filesBelow(filepath.Join(g.dir, outName), l.Files)
	switch {
	case log.bytes > l.Log:
		return fmt.Sprintf("more than %d bytes of log", l.Log)
	case output.files > uint64(l.Files):
		return fmt.Sprintf("more than %d files of output", l.Files)
	case out.bytes+output.bytes > l.Output:
		return fmt.Sprintf("more than %d bytes of output", l.Output)
	case max(out.largest, output.largest) > l.File:
		return fmt.Sprintf("more than %d bytes in one file of output", l.File)
	case !all:
		return ""
	}
	for _, part := range []struct {
		name, dir string
		bytes     uint64
	}{{"/scratch", filepath.Join(g.dir, scratchName), l.Scratch}, {"/checkpoint", g.checkpoint, l.Saved}} {
		if f := filesBelow(part.dir, wasi.MaxScratch); f.bytes > part.bytes || f.files > wasi.MaxScratch {
			return fmt.Sprintf("more than %d bytes or %d files to %s", part.bytes, wasi.MaxScratch, part.name)
		}
	}
	return ""
}

// next is when to look again.
func (g *guard) next(elapsed time.Duration) time.Duration {
	return max(time.Millisecond, min(max(watchEvery, elapsed/2), watchSeldom, g.limits.Wall-elapsed))
}

// DiskUse is how many bytes the files below a folder have.
func DiskUse(path string) uint64 { return filesBelow(path, math.MaxUint32).bytes }

// tree sums up the files of a folder.
type tree struct{ files, bytes, largest uint64 }

// filesBelow looks at a file or at all below a folder, and no further than one
// file more than most.
func filesBelow(path string, most uint32) (t tree) {
	// What goes away meanwhile takes no room.
	_ = filepath.WalkDir(path, func(_ string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return nil //nolint:nilerr // see above
		}
		if info, err := d.Info(); err == nil {
			t.files++
			t.bytes += uint64(info.Size())
			t.largest = max(t.largest, uint64(info.Size()))
		}
		if t.files > uint64(most) {
			return fs.SkipAll
		}
		return nil
	})
	return t
}
