//go:build linux

package sandbox

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/talka-grid/talka/workunits"
)

// pidOf runs a task and answers which child it ran in.
func pidOf(t *testing.T, p *Pool, task Task) (pid int) {
	t.Helper()
	if _, err := p.Run(t.Context(), task, func(n int) { pid = n }); err != nil {
		t.Fatal(err)
	}
	return pid
}

func TestChildrenAreWarm(t *testing.T) {
	eachEngine(t, func(t *testing.T, p *Pool) {
		first := task(t, guest(t), "nothing")
		a := pidOf(t, p, first)
		if b := pidOf(t, p, taskAgain(t, first, "exit", "1")); b != a {
			t.Errorf("the second task ran in %d, the first in %d", b, a)
		}
		// A child can write to the folder of its first run alone.
		other := taskAgain(t, first, "nothing")
		other.Dir = filepath.Join(t.TempDir(), "run")
		if b := pidOf(t, p, other); b == a {
			t.Error("a task in another folder ran in the same child")
		}
		a = pidOf(t, p, taskAgain(t, first, "nothing"))
		// The only slot is needed for another program.
		if b := pidOf(t, p, task(t, exitWith(wasm{pages: 1}, i32(3)).file(t))); b == a {
			t.Errorf("another program ran in the same child")
		}
		if b := pidOf(t, p, taskAgain(t, first, "nothing")); b == a {
			t.Errorf("the first child still lives beside the only slot's")
		}
	})
}

func TestInstancesAreFresh(t *testing.T) {
	eachEngine(t, func(t *testing.T, p *Pool) {
		// Adds one to a word of its memory and exits with it.
		w := exitWith(wasm{pages: 1}, ops(i32(0), i32(0), opI32Load, 2, 0, i32(1), 0x6a, opI32Store, 2, 0, i32(0), opI32Load, 2, 0))
		first := task(t, w.file(t))
		for range 3 {
			if r := run(t, p, taskAgain(t, first)); r.Code != 1 {
				t.Fatalf("found %d from another run", r.Code)
			}
		}
	})
}

func TestIdleChildrenAreClosed(t *testing.T) {
	t.Parallel()
	p := newPool(t, Config{CacheDir: cache, Idle: time.Millisecond})
	var w *worker
	if _, err := p.Run(t.Context(), task(t, guest(t), "nothing"), func(int) { w = onlyWorker(t, p) }); err != nil {
		t.Fatal(err)
	}
	<-w.dead
}

func TestDeadIdleChildIsReplaced(t *testing.T) {
	t.Parallel()
	p := newPool(t, Config{CacheDir: cache})
	first := task(t, guest(t), "nothing")
	pid := pidOf(t, p, first)
	w := onlyWorker(t, p)
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	<-w.dead
	if again := pidOf(t, p, taskAgain(t, first, "nothing")); again == pid {
		t.Error("ran in a dead child")
	}
}

func TestManyAtOnce(t *testing.T) {
	eachEngine(t, func(t *testing.T, _ *Pool) {
		p := newPool(t, Config{Engine: strings.Split(t.Name(), "/")[1], CacheDir: cache, Slots: 3})
		var wg sync.WaitGroup
		for i := range 12 {
			tasks := []Task{task(t, guest(t), "exit", fmt.Sprint(i)), task(t, exitWith(wasm{pages: 1}, i32(int32(i%5))).file(t))}
			for _, task := range tasks {
				wg.Go(func() {
					r, err := p.Run(t.Context(), task, nil)
					if err != nil || r.Kind != workunits.Exited || len(task.Args) > 0 && r.Code != uint32(i) || len(task.Args) == 0 && r.Code != uint32(i%5) {
						t.Errorf("task %d %v: %+v, %v", i, task.Args, r, err)
					}
				})
			}
		}
		wg.Wait()
		if n := len(p.workers); n > 3 {
			t.Errorf("%d children beside 3 slots", n)
		}
	})
}

func TestPause(t *testing.T) {
	eachEngine(t, func(t *testing.T, p *Pool) {
		ctx, cancel := context.WithCancel(t.Context())
		// A minute of time is gone long before the end if it runs in a pause.
		var wall time.Duration
		done := make(chan struct{})
		_, err := p.Run(ctx, task(t, endless.file(t)), func(pid int) {
			go func() {
				defer close(done)
				defer cancel()
				p.Pause()
				wantStopped(t, pid)
				w := onlyWorker(t, p)
				before := w.elapsed()
				if after := w.elapsed(); after != before {
					t.Errorf("the clock went from %v to %v in a pause", before, after)
				}
				p.Resume()
				if err := unix.Waitid(unix.P_PID, pid, nil, unix.WCONTINUED|unix.WEXITED|unix.WNOWAIT, nil); err != nil {
					t.Errorf("it did not go on: %v", err)
				}
				p.Pause()
				wall = w.elapsed()
			}()
		})
		<-done
		wantVoid(t, err, workunits.VoidCancelled) // although paused
		if wall <= 0 {
			t.Errorf("time after the pause: %v", wall)
		}

		// What starts in a pause waits for its end.
		finished := make(chan Report)
		again := task(t, guest(t), "exit", "5")
		go func() {
			r, err := p.Run(t.Context(), again, nil)
			if err != nil {
				t.Error(err)
			}
			finished <- r
		}()
		for started := false; !started; {
			p.mu.Lock()
			started = len(p.workers) > 0
			p.mu.Unlock()
			runtime.Gosched()
		}
		wantStopped(t, onlyWorker(t, p).cmd.Process.Pid)
		p.Resume()
		if r := <-finished; r.Code != 5 {
			t.Errorf("code %d after the pause", r.Code)
		}
	})
}

func onlyWorker(t *testing.T, p *Pool) *worker {
	t.Helper()
	p.mu.Lock()
	defer p.mu.Unlock()
	for w := range p.workers {
		return w
	}
	t.Fatal("no child")
	return nil
}

// wantStopped waits for the system's word that a child has stopped.
func wantStopped(t *testing.T, pid int) {
	t.Helper()
	err := unix.Waitid(unix.P_PID, pid, nil, unix.WSTOPPED|unix.WEXITED|unix.WNOWAIT, nil)
	if err != nil {
		t.Errorf("child %d: %v", pid, err)
	}
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil || !strings.Contains(string(stat), ") T ") {
		t.Errorf("child %d is not stopped: %s, %v", pid, stat, err)
	}
}

func TestWalls(t *testing.T) {
	t.Setenv("TALKA_TEST_SECRET", "to be kept")
	p := newPool(t, Config{CacheDir: cache, Nice: 5})
	ctx, cancel := context.WithCancel(t.Context())
	_, err := p.Run(ctx, task(t, endless.file(t)), func(pid int) {
		defer cancel()
		proc := fmt.Sprintf("/proc/%d/", pid)
		status := read(t, proc+"status")
		if !strings.Contains(status, "NoNewPrivs:\t1\n") {
			t.Errorf("new privileges are possible: %s", status)
		}
		if env := read(t, proc+"environ"); env != "" {
			t.Errorf("environment %q", env)
		}
		if sid, err := unix.Getsid(pid); err != nil || sid != pid {
			t.Errorf("session %d, %v", sid, err)
		}
		var limit unix.Rlimit
		if err := unix.Prlimit(pid, unix.RLIMIT_CORE, nil, &limit); err != nil || limit.Max != 0 {
			t.Errorf("core limit %+v, %v", limit, err)
		}
		mine, err1 := unix.Getpriority(unix.PRIO_PROCESS, os.Getpid())
		nice := min(20-mine+5, 19)
		if prio, err := unix.Getpriority(unix.PRIO_PROCESS, pid); err != nil || err1 != nil || 20-prio != nice {
			t.Errorf("niceness %d, %v; want %d, %v", 20-prio, err, nice, err1)
		}
		if group, err := os.ReadFile(proc + "autogroup"); err == nil && os.Geteuid() == 0 && !strings.HasSuffix(string(group), fmt.Sprintf(" nice %d\n", nice)) {
			t.Errorf("the session competes as %s", group)
		}
		entries, err := os.ReadDir(proc + "fd")
		if err != nil {
			t.Error(err)
		}
		for _, e := range entries {
			to, err := os.Readlink(proc + "fd/" + e.Name())
			if err != nil || !own(to) {
				t.Errorf("open file %s -> %s, %v", e.Name(), to, err)
			}
		}
	})
	wantVoid(t, err, workunits.VoidCancelled)
	if status := read(t, "/proc/self/status"); !strings.Contains(status, "NoNewPrivs:\t0\n") {
		t.Error("the parent gave up privileges as well")
	}
}

// own says whether an open file of a child is its own: a pipe to the parent,
// what Go's runtime opens, memory, its compiled module, or of the run.
func own(name string) bool {
	for _, prefix := range []string{"pipe:", "anon_inode:", "/memfd:", "/sys/fs/cgroup/"} {
		if strings.HasPrefix(name, prefix) {
			return true
		}
	}
	return strings.Contains(name, "/run") || strings.Contains(name, "/"+modulesDir+"/")
}

// TestFullDiskKeepsNoModule compiles onto a real disk without room.
func TestFullDiskKeepsNoModule(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := unix.Mount("none", dir, "tmpfs", 0, "size=16k"); err != nil {
		t.Skip("no disk of its own: ", err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	program := filepath.Join("..", "apps", "kernels", "sha256.wasm")
	for _, engine := range Engines() {
		p := cachePool(t, engine, dir, 0)
		for range 2 {
			if r := run(t, p, task(t, program, "1")); r.Code != 0 {
				t.Errorf("%s: %+v", engine, r)
			}
			fresh(p)
		}
		if left := files(t, dir); len(left) != 1 { // the key
			t.Errorf("%s left %d files", engine, len(left))
		}
	}
}

// TestCompilingIsTold: the program is a pipe, from which the child that compiles
// it reads when the test wants it to.
func TestCompilingIsTold(t *testing.T) {
	t.Parallel()
	if Engines()[0] != Wasmtime {
		t.Skip("wazero reads the program again for each child")
	}
	p := cachePool(t, Wasmtime, t.TempDir(), 0)
	task := small(t, 3)
	code := read(t, task.Program)
	task.Program = filepath.Join(t.TempDir(), "pipe")
	if err := unix.Mkfifo(task.Program, 0o600); err != nil {
		t.Fatal(err)
	}
	ended := make(chan uint32)
	go func() {
		r, err := p.Run(t.Context(), task, nil)
		if err != nil {
			t.Error(err)
		}
		ended <- r.Code
	}()
	pipe, err := os.OpenFile(task.Program, os.O_WRONLY, 0) // once the child reads
	if err != nil {
		t.Fatal(err)
	}
	if list := p.Compiling(); len(list) != 1 || list[0].Program != task.ProgramID || list[0].Wall <= 0 {
		t.Errorf("compiling %+v", list)
	}
	if _, err := pipe.WriteString(code); err != nil {
		t.Error(err)
	}
	if err := pipe.Close(); err != nil {
		t.Error(err)
	}
	if got := <-ended; got != 3 || len(p.Compiling()) != 0 {
		t.Errorf("code %d, compiling %v", got, p.Compiling())
	}
}
