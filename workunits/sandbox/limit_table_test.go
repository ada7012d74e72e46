//go:build linux

package sandbox

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/talka-grid/talka/workunits"
	"github.com/talka-grid/talka/workunits/sandbox/wasi"
)

// TestLimits goes over every limit. What is the same on every machine is a result,
// and what is not makes the copy void.
func TestLimits(t *testing.T) {
	looping, yielding := endless, wasm{imports: []string{"sched_yield"}, pages: 1, code: ops(opLoop, void, call(0), opDrop, opBr, 0, opEnd)}
	eachEngine(t, func(t *testing.T, p *Pool) {
		for _, c := range []struct {
			limit   string
			program string // a file; else the guest with args
			args    []string
			set     func(*Limits)
			kind    workunits.OutcomeKind // or
			reason  workunits.VoidReason
			says    string // trap, detail, log or output
		}{
			{"memory at the start", wasm{pages: 17}.file(t), nil, func(l *Limits) { l.Memory = 1 << 20 }, workunits.Trapped, "", trapStartsTooBig},
			{"memory growth", grower.file(t), nil, func(l *Limits) { l.Memory = 1 << 20 }, workunits.Exited, "", "code 16"}, // pages, and then it was told no
			{"wall time", looping.file(t), nil, func(l *Limits) { l.Wall = 300 * time.Millisecond }, "", workunits.VoidWall, "wall time: limit 300ms"},
			{"processor time", looping.file(t), nil, func(l *Limits) { l.CPU = 200 * time.Millisecond }, "", workunits.VoidCPU, "processor time: limit 200ms"},
			{"standard output", "", []string{"fill", "-", "1001"}, func(l *Limits) { l.Output = 1000 }, workunits.OutputLimit, "", "more than 1000 bytes of output"},
			{"output", "", []string{"fill", "/out/x", "1001"}, func(l *Limits) { l.Output = 1000 }, workunits.OutputLimit, "", "more than 1000 bytes of output"},
			{"files", "", []string{"files", "/out", "6"}, func(l *Limits) { l.Files = 5 }, workunits.OutputLimit, "", "more than 5 files of output"},
			{"file", "", []string{"fill", "/out/x", "1001"}, func(l *Limits) { l.File = 1000 }, workunits.OutputLimit, "", "more than 1000 bytes in one file of output"},
			{"log", "", []string{"log"}, func(l *Limits) { l.Log = 1000 }, workunits.Exited, "", "7890 bytes dropped"},
			{"host calls", yielding.file(t), nil, func(l *Limits) { l.Calls = 1000 }, workunits.Trapped, "", trapCalls},
			{"scratch", "", []string{"scratch"}, func(l *Limits) { l.Scratch = 1 << 20 }, workunits.Exited, "", "1048576 write /scratch/big: No space left on device"},
		} {
			if c.program == "" {
				c.program = guest(t)
			}
			task := task(t, c.program, c.args...)
			c.set(&task.Limits)
			r, err := p.Run(t.Context(), task, nil)
			said := fmt.Sprint(err)
			if c.kind != "" {
				if err != nil || r.Kind != c.kind {
					t.Errorf("%s: %s, %v; want %s", c.limit, r.Kind, err, c.kind)
					continue
				}
				said = fmt.Sprintf("%s|%s|code %d|%d bytes dropped|%s", r.Trap, r.Detail, r.Code, r.Dropped, read(t, r.Stdout))
			} else {
				wantVoid(t, err, c.reason)
			}
			if !strings.Contains(said, c.says) {
				t.Errorf("%s: %q says nothing of %q", c.limit, said, c.says)
			}
		}
	})
}

// gluttony is what a child does that has no limits of its own, and what it is told.
var gluttony = map[string]struct {
	do     func(o runOrder) runAnswer
	set    func(*Limits)
	reason workunits.VoidReason
	says   string
}{
	"wall":    {func(runOrder) runAnswer { select {} }, func(l *Limits) { l.Wall = 200 * time.Millisecond }, workunits.VoidWall, "limit 200ms"},
	"cpu":     {spin, func(l *Limits) { l.CPU = 200 * time.Millisecond }, workunits.VoidCPU, "limit 200ms"},
	"memory":  {eat, func(*Limits) {}, workunits.VoidKilled, "MiB of memory"},
	"claim":   {func(runOrder) runAnswer { return runAnswer{Kind: workunits.Exited, Memory: 1 << 30} }, func(*Limits) {}, workunits.VoidEngine, "1073741824 bytes of memory, the limit is 67108864"},
	"nothing": {do: func(runOrder) runAnswer { return runAnswer{Kind: workunits.Exited} }},
	"hidden":  {do: hide},
	"shared":  {do: share},
	"stdout":  {writes(stdoutName, 1, 1001), func(l *Limits) { l.Output = 1000 }, workunits.VoidEngine, "more than 1000 bytes of output"},
	"out":     {writes(outName, 2, 501), func(l *Limits) { l.Output = 1000 }, workunits.VoidEngine, "more than 1000 bytes of output"},
	"files":   {writes(outName, 6, 1), func(l *Limits) { l.Files = 5 }, workunits.VoidEngine, "more than 5 files of output"},
	"file":    {writes(outName, 1, 1001), func(l *Limits) { l.File = 1000 }, workunits.VoidEngine, "more than 1000 bytes in one file of output"},
	"log":     {writes(stderrName, 1, 1001), func(l *Limits) { l.Log = 1000 }, workunits.VoidEngine, "more than 1000 bytes of log"},
	"scratch": {func(o runOrder) runAnswer { writes(scratchName, 1, 1001)(o); select {} },
		func(l *Limits) { l.Scratch = 1000 }, workunits.VoidKilled, "more than 1000 bytes or 65536 files to /scratch"},
	"threads": {breed, func(*Limits) {}, workunits.VoidKilled, "threads"},
	"calls": {func(runOrder) runAnswer { return runAnswer{Kind: workunits.Exited, Tally: wasi.Tally{Calls: 1001}} },
		func(l *Limits) { l.Calls = 1000 }, workunits.VoidEngine, "1001 host calls, the limit is 1000"},
}

func spin(runOrder) (a runAnswer) {
	for a.Void == "" {
		a.Code++
	}
	return a
}

// share takes memory that counts for nobody, in a file without a name or a disk, and
// waits.
func share(runOrder) runAnswer {
	fd, err := unix.MemfdCreate("shared", 0)
	for piece := make([]byte, 1<<20); err == nil; {
		_, err = unix.Write(fd, piece)
	}
	<-time.After(mayLast)
	return voidAnswer(workunits.VoidEngine, err.Error())
}

// breed starts more threads than any engine, and waits.
func breed(runOrder) runAnswer {
	for range maxThreads + 4*runtime.NumCPU() {
		go func() {
			runtime.LockOSThread()
			select {}
		}()
	}
	<-time.After(mayLast)
	return runAnswer{Kind: workunits.Exited}
}

// hide writes to a file without a name for as long as there is room, and waits.
func hide(o runOrder) runAnswer {
	name := filepath.Join(o.Dir, scratchName, "hidden")
	f, err := os.Create(name)
	if err == nil {
		err = os.Remove(name)
	}
	for piece := make([]byte, 1<<20); err == nil; {
		_, err = f.Write(piece)
	}
	<-time.After(mayLast)
	return voidAnswer(workunits.VoidEngine, err.Error())
}

// eat takes more memory than a child with its engine may have, in pages that are as large
// as there are, which is quick, and waits.
func eat(runOrder) runAnswer {
	all, err := unix.Mmap(-1, 0, memoryOverhead+192<<20, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANON)
	if err != nil {
		return voidAnswer(workunits.VoidEngine, err.Error())
	}
	_ = unix.Madvise(all, unix.MADV_HUGEPAGE)
	for i := 0; i < len(all); i += os.Getpagesize() {
		all[i] = 1
	}
	<-time.After(mayLast)
	return runAnswer{Kind: workunits.Exited, Memory: uint64(len(all))}
}

// writes makes so many files of a size.
func writes(name string, files, size int) func(runOrder) runAnswer {
	return func(o runOrder) runAnswer {
		for i := range files {
			path := filepath.Join(o.Dir, name)
			if name == outName || name == scratchName {
				path = filepath.Join(path, fmt.Sprint(i))
			}
			if err := os.WriteFile(path, make([]byte, size), 0o600); err != nil {
				return voidAnswer(workunits.VoidDisk, err.Error())
			}
		}
		return runAnswer{Kind: workunits.Exited}
	}
}

// glutton is a child that obeys no limit.
func glutton(what string, stdin io.Reader, stdout io.Writer) int {
	in := bufio.NewReader(stdin)
	load, err1 := readFrame[loadOrder](in, maxOrder)
	err2 := writeFrame(stdout, loadAnswer{})
	if load.Stage != "" {
		return 0 // there is no module
	}
	o, err3 := readFrame[runOrder](in, maxOrder)
	if err := errors.Join(err1, err2, err3); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	if err := writeFrame(stdout, gluttony[what].do(o)); err != nil {
		return 1
	}
	return 0
}

// TestHiddenFilesAreNotKept: a child that fills the disk with what no folder shows is
// ended, which gives it back.
func TestHiddenFilesAreNotKept(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := unix.Mount("none", dir, "tmpfs", 0, fmt.Sprint("size=", diskFloor+8<<20)); err != nil {
		t.Skip("no disk of its own: ", err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	p := newPool(t, Config{CacheDir: t.TempDir(), Command: []string{self, "sandbox-glutton", "hidden"}})
	task := task(t, endless.file(t))
	task.Dir = filepath.Join(dir, "run")
	_, err = p.Run(t.Context(), task, nil)
	wantVoid(t, err, workunits.VoidDisk)
	if left, known := diskLeft(dir); !known || left < diskFloor {
		t.Errorf("%d bytes are left", left)
	}
}

// poor are the walls of a child whose machine has a quarter of a GiB for it.
func poor(uint64) error {
	lower(unix.RLIMIT_DATA, 256<<20)
	return nil
}

// TestGrowthIsNotTheMachines: a machine that cannot give a program what its limit
// allows says nothing, rather than refuse what others grant.
func TestGrowthIsNotTheMachines(t *testing.T) {
	t.Parallel()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for _, engine := range Engines() {
		p := newPool(t, Config{Engine: engine, CacheDir: t.TempDir(), Command: []string{self, "sandbox-poor"}})
		task := task(t, grower.file(t))
		task.Limits.Memory = 512 << 20
		r, err := p.Run(t.Context(), task, nil)
		if wantVoid(t, err, workunits.VoidEngine); err == nil {
			t.Errorf("%s: grew to %d pages", engine, r.Code)
		}
	}
}

// TestParentEnforces: a child whose engine fails to is held to the limits all the
// same.
func TestParentEnforces(t *testing.T) {
	t.Parallel()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for what, c := range gluttony {
		if c.set == nil {
			continue // has a test of its own
		}
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			p := newPool(t, Config{CacheDir: t.TempDir(), Command: []string{self, "sandbox-glutton", what}})
			task := task(t, endless.file(t))
			c.set(&task.Limits)
			_, err := p.Run(t.Context(), task, nil)
			var void *Void
			if errors.As(err, &void) && c.reason == workunits.VoidEngine && void.Reason == workunits.VoidKilled && strings.HasPrefix(void.Detail, "the engine let the program write ") {
				void.Reason = c.reason // the guard looked at the disk before the answer was read
			}
			wantVoid(t, err, c.reason)
			if !strings.Contains(fmt.Sprint(err), c.says) {
				t.Errorf("%v, want it to say %q", err, c.says)
			}
		})
	}
}
