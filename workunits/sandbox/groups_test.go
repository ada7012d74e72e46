//go:build linux

package sandbox

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/talka-grid/talka/workunits"
)

// groupedMain is a node to which a control group was delegated: it says what becomes
// of children that take too much.
func groupedMain(program string) error {
	dir, err := os.MkdirTemp("", "grouped-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	for _, what := range []string{"memory", "shared", "threads", "nothing"} {
		p, err := New(Config{CacheDir: filepath.Join(dir, "cache"), Slots: 1, Groups: true, Command: []string{os.Args[0], "sandbox-glutton", what}})
		if err != nil {
			return err
		}
		_, err = p.Run(context.Background(), Task{
			Program: program, ProgramID: workunits.Sum([]byte(program)), Dir: filepath.Join(dir, "run"),
			Limits: Limits{Memory: 16 << 20, Wall: mayLast},
		}, nil)
		fmt.Printf("%s: %.80v\n", what, err)
		if err := p.Close(); err != nil {
			return err
		}
		left, err := filepath.Glob(filepath.Join(p.groups.units, "*-*"))
		if err != nil || len(left) > 0 {
			return fmt.Errorf("groups that stay behind: %q, %w", left, err)
		}
	}
	fmt.Println("grouped:", Grouped(os.Getpid()))
	return nil
}

// testGroup is a control group that was delegated, of a system that has those
// controllers to give.
func testGroup(t *testing.T) string {
	t.Helper()
	top, err := belowMount("/")
	if err == nil {
		err = setGroup(top, "cgroup.subtree_control", "+memory +pids +cpu")
	}
	dir := filepath.Join(top, fmt.Sprint("talka-test-", os.Getpid()))
	if err == nil {
		err = os.Mkdir(dir, 0o755)
	}
	if err != nil {
		t.Skip("no control groups to divide here: ", err)
	}
	t.Cleanup(func() {
		for _, name := range []string{ownGroup, unitsGroup, "."} {
			if err := unix.Rmdir(filepath.Join(dir, name)); err != nil {
				t.Error(err)
			}
		}
	})
	return dir
}

// TestGroups: the kernel holds children to their memory, of every kind, and their
// threads, where a group was delegated, and a group that was not is left alone.
func TestGroups(t *testing.T) {
	t.Parallel()
	dir := testGroup(t)
	grouped := func() (string, error) {
		f, err := os.Open(dir)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		node := exec.CommandContext(t.Context(), os.Args[0], "sandbox-grouped", endless.file(t))
		node.SysProcAttr = &syscall.SysProcAttr{UseCgroupFD: true, CgroupFD: int(f.Fd())}
		said, err := node.CombinedOutput()
		return string(said), err
	}
	if err := delegated(dir); !errors.Is(err, errNotDelegated) {
		t.Errorf("an empty group that nobody delegated: %v", err)
	}
	if err := unix.Setxattr(dir, "trusted.delegate", []byte("1"), 0); err != nil {
		t.Fatal(err)
	}
	said, err := grouped()
	if err != nil {
		t.Errorf("%v: %s", err, said)
	}
	t.Log(said)
	const killed = "copy is void: killed: the process took more memory than it may"
	for _, want := range []string{
		"memory: " + killed, "shared: " + killed, "threads: copy is void: engine: child ended:", "nothing: <nil>", "grouped: true",
	} {
		if !strings.Contains(said, want) {
			t.Errorf("does not say %q", want)
		}
	}
}

// TestGroupsOfTheDeadGo: the next start removes the groups of a process that was
// killed, in which nothing runs any more, and no other.
func TestGroupsOfTheDeadGo(t *testing.T) {
	t.Parallel()
	top, err := belowMount("/")
	units := filepath.Join(top, fmt.Sprint("talka-test-sweep-", os.Getpid()))
	if err == nil {
		err = os.Mkdir(units, 0o755)
	}
	if err != nil {
		t.Skip("no control groups here: ", err)
	}
	t.Cleanup(func() {
		if err := unix.Rmdir(units); err != nil {
			t.Error(err)
		}
	})
	g := &groups{units: units}
	child := exec.CommandContext(t.Context(), os.Args[0], "sandbox-child") // waits for its order
	stdin, err := child.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	defer stdin.Close()
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"1-1", "1-2"} {
		if err := os.Mkdir(filepath.Join(units, name), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := setGroup(filepath.Join(units, "1-2"), "cgroup.procs", fmt.Sprint(child.Process.Pid)); err != nil {
		t.Fatal(err)
	}
	left := func() []string {
		list, err := filepath.Glob(filepath.Join(units, "*-*"))
		if err != nil {
			t.Fatal(err)
		}
		return list
	}
	g.sweep()
	if list := left(); len(list) != 1 || filepath.Base(list[0]) != "1-2" {
		t.Errorf("left are %q, want the group of who lives", list)
	}
	if err := child.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = child.Wait() // killed is what it was meant to be
	g.sweep()
	if list := left(); len(list) > 0 {
		t.Errorf("%q stay behind", list)
	}
}
