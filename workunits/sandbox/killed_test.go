//go:build linux

package sandbox

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/talka-grid/talka/workunits"
)

// parentMain is a node that dies: it runs a unit that never ends, says so, and waits
// to be killed.
func parentMain(cacheDir, program, dir string, paused bool) error {
	p, err := New(Config{CacheDir: cacheDir, Slots: 1})
	if err != nil {
		return err
	}
	_, err = p.Run(context.Background(), Task{
		Program: program, ProgramID: workunits.Sum([]byte(program)), Dir: dir,
		Limits: Limits{Memory: 1 << 20, Output: 1 << 20, Wall: mayLast},
	}, func(int) {
		if paused {
			p.Pause()
		}
		fmt.Println("running")
	})
	return err
}

// parent is a process that a test kills.
type parent struct {
	*exec.Cmd
	started chan struct{} // closed once it runs the unit, or cannot any more
}

func startParent(t *testing.T, cacheDir, program, dir, how string) parent {
	t.Helper()
	p := parent{exec.Command(os.Args[0], "sandbox-parent", cacheDir, program, dir, how), make(chan struct{})}
	out, err := p.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		defer close(p.started)
		var word string
		_, _ = fmt.Fscan(out, &word) // what it did not come to is missed below
	}()
	return p
}

// kill kills the parent alone, and waits for its children's end.
func (p parent) kill(t *testing.T) {
	t.Helper()
	lists, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", p.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	var children []unix.PollFd
	for _, list := range lists {
		b, _ := os.ReadFile(list) // of a thread that is gone
		for _, child := range strings.Fields(string(b)) {
			pid := 0
			if _, err := fmt.Sscan(child, &pid); err != nil {
				t.Fatal(err)
			}
			fd, err := unix.PidfdOpen(pid, 0)
			if err != nil {
				t.Fatal(err)
			}
			children = append(children, unix.PollFd{Fd: int32(fd), Events: unix.POLLIN})
		}
	}
	if len(children) != 1 {
		t.Errorf("%d children, want one", len(children))
	}
	if err := p.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	if err := p.Wait(); err == nil {
		t.Error("the parent was not killed")
	}
	for _, child := range children {
		// The handle is readable once the child has ended.
		if n, err := unix.Poll([]unix.PollFd{child}, 30000); n != 1 {
			t.Errorf("the child outlives its parent: %v", err)
		}
		if err := unix.Close(int(child.Fd)); err != nil {
			t.Error(err)
		}
	}
}

// holder makes a file in every folder that it can write to, and never ends.
func holder() wasm {
	w := wasm{imports: []string{"path_open"}, pages: 1}
	for _, name := range []string{"out/x", "checkpoint/x", "scratch/x"} {
		w.code = ops(w.code, i32(3), i32(0), i32(int32(len(w.data))), i32(int32(len(name))), i32(1), // create, in the root
			opI64Const, 0, opI64Const, 0, i32(0), i32(1024), call(0), opDrop)
		w.data += name
	}
	w.code = ops(w.code, endless.code)
	return w
}

// TestKilledInARun kills the parent while a unit has files in all its folders, or is
// stopped before it had any: the child ends, and the next run in that folder leaves
// nothing of the last.
func TestKilledInARun(t *testing.T) {
	t.Parallel()
	for _, how := range []string{"running", "paused"} {
		t.Run(how, func(t *testing.T) {
			t.Parallel()
			cacheDir, again := t.TempDir(), small(t, 3)
			parent := startParent(t, cacheDir, holder().file(t), again.Dir, how)
			<-parent.started
			if how == "running" {
				for !strings.Contains(listing(t, again.Dir), "scratch/x") { // its last
					runtime.Gosched()
				}
				wantEqual(t, "left", listing(t, again.Dir), "checkpoint/\ncheckpoint/x \"\"\nout/\nout/x \"\"\nscratch/\nscratch/x \"\"\nstderr \"\"\nstdout \"\"\n")
			}
			parent.kill(t)
			if r := run(t, newPool(t, Config{CacheDir: cacheDir}), again); r.Code != 3 {
				t.Errorf("%+v", r)
			}
			wantEqual(t, "left in the end", listing(t, again.Dir), "checkpoint/\nout/\nscratch/\nstderr \"\"\nstdout \"\"\n")
		})
	}
}

// TestKilledWhileItCompiles: what a compiler that nobody waits for any more has in the
// cache goes when the next pool opens it, and what another pool's compiles stays.
func TestKilledWhileItCompiles(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	pipe := filepath.Join(dir, "program")
	if err := unix.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	cacheDir := filepath.Join(dir, "cache")
	parent := startParent(t, cacheDir, pipe, filepath.Join(dir, "run"), "running")
	program, err := os.OpenFile(pipe, os.O_WRONLY, 0) // once the child reads it
	if err != nil {
		t.Fatal(err)
	}
	defer program.Close()
	stages := func() []string {
		list, err := filepath.Glob(filepath.Join(cacheDir, stageName+"*"))
		if err != nil {
			t.Fatal(err)
		}
		return list
	}
	list := stages()
	if len(list) != 1 {
		t.Fatalf("it compiles into %q", list)
	}
	write(t, filepath.Join(list[0], "half"), "a module")
	newPool(t, Config{CacheDir: cacheDir})
	if n := len(stages()); n != 1 {
		t.Errorf("another pool left %d folders of a child that compiles", n)
	}
	parent.kill(t)
	newPool(t, Config{CacheDir: cacheDir})
	if list := stages(); len(list) > 0 {
		t.Errorf("%q stay behind", list)
	}
}
