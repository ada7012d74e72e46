//go:build linux

package sandbox

import (
	"bufio"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/talka-grid/talka/workunits"
)

// An escape is what a program would try that has taken its engine over. It
// returns nil if it got through.
type escape struct {
	name string
	free bool // gets through where there are no walls, and does no harm
	try  func(dir, address string) error
}

// syscallOf makes one system call.
func syscallOf(call uintptr, args ...uintptr) func(string, string) error {
	return func(string, string) error {
		var a [6]uintptr
		copy(a[:], args)
		if _, _, errno := unix.RawSyscall6(call, a[0], a[1], a[2], a[3], a[4], a[5]); errno != 0 {
			return errno
		}
		return nil
	}
}

var escapes = []escape{
	{"read the node's key", true, func(dir, _ string) error { _, err := os.ReadFile(filepath.Join(dir, "key")); return err }},
	{"list the node's folder", true, func(dir, _ string) error { _, err := os.ReadDir(dir); return err }},
	{"change the node's key", true, func(dir, _ string) error { return os.Truncate(filepath.Join(dir, "key"), 3) }},
	{"write beside the runs", true, func(dir, _ string) error { return os.WriteFile(filepath.Join(dir, "new"), nil, 0o600) }},
	{"read another job's input", true, func(dir, _ string) error {
		_, err := os.ReadFile(filepath.Join(dir, "work", "content", "other"))
		return err
	}},
	{"read a folder of another job's inputs", true, func(dir, _ string) error {
		_, err := os.ReadFile(filepath.Join(dir, "work", "content", "others", "in"))
		return err
	}},
	{"list all jobs' inputs", true, func(dir, _ string) error { _, err := os.ReadDir(filepath.Join(dir, "work", "content")); return err }},
	{"open another job's input from its own folder", true, func(dir, _ string) error {
		own, err := unix.Open(filepath.Join(dir, "work", "content", "own"), unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		if err != nil {
			return err
		}
		other, err := unix.Openat(own, "../other", unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err == nil {
			err = unix.Close(other)
		}
		return errors.Join(err, unix.Close(own))
	}},
	{"give another job's input a name of its own", true, func(dir, _ string) error {
		name := filepath.Join(dir, "work", "runs", "1", "linked")
		err := os.Link(filepath.Join(dir, "work", "content", "other"), name)
		if err == nil {
			err = os.Remove(name)
		}
		return err
	}},
	{"read another run's results", true, func(dir, _ string) error { _, err := os.ReadFile(filepath.Join(dir, "work", "runs", "x")); return err }},
	{"write into another run", true, func(dir, _ string) error { return os.WriteFile(filepath.Join(dir, "work", "runs", "x"), nil, 0o600) }},
	{"write into an input", true, func(dir, _ string) error {
		return os.WriteFile(filepath.Join(dir, "work", "content", "own", "in"), nil, 0o600)
	}},
	{"move an input", true, func(dir, _ string) error {
		return os.Rename(filepath.Join(dir, "work", "content", "own", "in"), filepath.Join(dir, "work", "runs", "1", "other"))
	}},
	{"add a compiled module", true, func(dir, _ string) error {
		return os.WriteFile(filepath.Join(dir, "cache", modulesDir, "new"), nil, 0o600)
	}},
	{"read the key of the compiled modules", true, func(dir, _ string) error {
		_, err := os.ReadFile(filepath.Join(dir, "cache", keyName))
		return err
	}},
	{"follow a link to the key", true, func(dir, _ string) error {
		_, err := os.ReadFile(filepath.Join(dir, "work", "runs", "1", "link"))
		return err
	}},
	{"read the parent's environment", true, func(string, string) error {
		_, err := os.ReadFile(fmt.Sprintf("/proc/%d/environ", os.Getppid()))
		return err
	}},
	{"write the parent's memory", false, func(string, string) error {
		_, err := os.OpenFile(fmt.Sprintf("/proc/%d/mem", os.Getppid()), os.O_WRONLY, 0)
		return err
	}},
	{"read the passwords", true, func(string, string) error { _, err := os.ReadFile("/etc/passwd"); return err }},
	{"connect to the machine itself", true, func(_, address string) error { return dial("tcp", address) }},
	{"connect to the node's socket", true, func(dir, _ string) error { return dial("unix", filepath.Join(dir, "work", "runs", "socket")) }},
	{"listen", true, func(string, string) error {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err == nil {
			err = l.Close()
		}
		return err
	}},
	{"run a program", true, func(string, string) error { return exec.Command("/bin/true").Run() }},
	{"fork", true, func(string, string) error {
		pid, _, errno := unix.RawSyscall6(unix.SYS_CLONE, uintptr(unix.SIGCHLD), 0, 0, 0, 0, 0)
		if errno != 0 {
			return errno
		}
		if pid == 0 {
			_, _, _ = unix.RawSyscall(unix.SYS_EXIT_GROUP, 0, 0, 0)
		}
		return nil
	}},
	// The system would signal its owner when the pipe is read: any process of the user.
	{"have a signal sent to the parent", true, func(string, string) error {
		var pipe [2]int
		if err := unix.Pipe2(pipe[:], unix.O_CLOEXEC); err != nil {
			return err
		}
		_, err := unix.FcntlInt(uintptr(pipe[0]), unix.F_SETOWN, os.Getppid())
		return err
	}},
	{"choose the signal", true, func(string, string) error { _, err := unix.FcntlInt(0, unix.F_SETSIG, int(unix.SIGKILL)); return err }},
	{"keep memory that is not its own", true, func(string, string) error { _, err := unix.MemfdCreate("x", 0); return err }},
	{"make a file executable in memory", false, func(string, string) error {
		fd, err := unix.MemfdCreate("x", 0)
		if err != nil {
			return err
		}
		path, args := []byte{0}, []uintptr{0}
		return syscallOf(unix.SYS_EXECVEAT, uintptr(fd), uintptr(unsafe.Pointer(&path[0])), uintptr(unsafe.Pointer(&args[0])), 0, unix.AT_EMPTY_PATH)("", "")
	}},
	{"trace the parent", false, syscallOf(unix.SYS_PTRACE, unix.PTRACE_SEIZE, uintptr(os.Getppid()))},
	// The parent would be its tracer, without knowing, and wait for it forever.
	{"be traced", false, syscallOf(unix.SYS_PTRACE, unix.PTRACE_TRACEME)},
	{"signal the parent", true, func(string, string) error { return syscall.Kill(os.Getppid(), 0) }},
	{"signal a thread of the parent", true, syscallOf(unix.SYS_TGKILL, uintptr(os.Getppid()), uintptr(os.Getppid()), 0)},
	{"limit the parent", true, func(string, string) error {
		var l unix.Rlimit
		return unix.Prlimit(os.Getppid(), unix.RLIMIT_CORE, nil, &l)
	}},
	{"come before others", false, func(string, string) error { return unix.Setpriority(unix.PRIO_PROCESS, 0, -1) }},
	{"make a namespace", false, syscallOf(unix.SYS_UNSHARE, unix.CLONE_NEWUSER)},
	{"mount", false, syscallOf(unix.SYS_MOUNT)},
	{"queue calls past the filter", false, syscallOf(unix.SYS_IO_URING_SETUP, 1)},
	{"load a program into the kernel", false, syscallOf(unix.SYS_BPF)},
	{"read keys of the kernel", false, syscallOf(unix.SYS_KEYCTL)},
	{"take 64 GiB of memory", true, func(string, string) error {
		for range 64 {
			_, _, errno := unix.RawSyscall6(unix.SYS_MMAP, 0, 1<<30, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS|unix.MAP_NORESERVE, ^uintptr(0), 0)
			if errno != 0 {
				return errno
			}
		}
		return nil
	}},
	{"dump its memory to disk", true, func(string, string) error {
		return unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{Cur: 1 << 20, Max: 1 << 20})
	}},
}

func dial(network, address string) error {
	c, err := net.DialTimeout(network, address, 10*time.Second)
	if err == nil {
		err = c.Close()
	}
	return err
}

// planted is a child that was taken over: the one that compiles or the one that
// runs, behind walls or not. It answers with what it could do.
func planted(walled, compiling bool, dir, address string) int {
	in := bufio.NewReader(os.Stdin)
	order, err := readFrame[loadOrder](in, maxOrder)
	if err == nil && order.Stage != "" && !compiling {
		_ = writeFrame(os.Stdout, loadAnswer{Note: "not yet"})
		return 0
	}
	if err == nil && walled {
		err = childWalls(order.Memory)
	}
	if err == nil && !compiling {
		_, err = os.ReadFile(filepath.Join(dir, "work", "content", "own", "in")) // which it may
	}
	if err != nil {
		_ = writeFrame(os.Stdout, loadAnswer{Error: err.Error()})
		return 1
	}
	var through []string
	for _, e := range escapes {
		if (walled || e.free) && e.try(dir, address) == nil {
			through = append(through, e.name)
		}
	}
	_ = writeFrame(os.Stdout, loadAnswer{Error: strings.Join(append(through, "end"), "; ")})
	return 0
}

// plant runs a planted child of a pool, and answers what it could do.
func plant(t *testing.T, walled, compiling bool) []string {
	t.Helper()
	dir := t.TempDir()
	write(t, filepath.Join(dir, "key"), "secret")
	for _, name := range []string{"content/own/in", "content/other", "content/others/in", "runs/x", "runs/1/x"} {
		write(t, filepath.Join(dir, "work", name), name)
	}
	if err := os.Symlink(filepath.Join(dir, "key"), filepath.Join(dir, "work", "runs", "1", "link")); err != nil {
		t.Fatal(err)
	}
	tcp, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer tcp.Close()
	// The path of a socket is at most 108 bytes long.
	t.Chdir(dir)
	socket, err := net.Listen("unix", "work/runs/socket")
	if err != nil {
		t.Fatal(err)
	}
	defer socket.Close()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	p, err := New(Config{CacheDir: filepath.Join(dir, "cache"), Command: []string{self, "sandbox-planted", fmt.Sprint(walled), fmt.Sprint(compiling), ".", tcp.Addr().String()}, Slots: 1})
	if err != nil {
		t.Fatal(err)
	}
	p.open = !walled
	defer p.Close()
	doomed := task(t, endless.file(t))
	doomed.Dir = filepath.Join(dir, "work", "runs", "1")
	doomed.Inputs = []Input{{Path: "own", Host: filepath.Join(dir, "work", "content", "own")}}
	_, err = p.Run(t.Context(), doomed, nil)
	var void *Void
	if !errors.As(err, &void) || void.Reason != workunits.VoidEngine || !strings.HasSuffix(void.Detail, "end") {
		t.Fatal(err)
	}
	through := strings.Split(void.Detail, "; ")
	return through[:len(through)-1]
}

// TestDataIsNotCode: what this process has mapped to read it, as a database does, is not
// its children's to read.
func TestDataIsNotCode(t *testing.T) {
	t.Parallel()
	self, err1 := os.Executable()
	data, err2 := os.Open(write(t, filepath.Join(t.TempDir(), "data"), "secret"))
	if err := errors.Join(err1, err2); err != nil {
		t.Fatal(err)
	}
	defer data.Close()
	mapped, err := unix.Mmap(int(data.Fd()), 0, 6, unix.PROT_READ, unix.MAP_SHARED)
	if err != nil {
		t.Fatal(err)
	}
	maps := read(t, "/proc/self/maps")
	if err := unix.Munmap(mapped); err != nil {
		t.Fatal(err)
	}
	if list := executables(maps); !strings.Contains(maps, data.Name()) || slices.Contains(list, data.Name()) || !slices.Contains(list, self) {
		t.Errorf("code is %q, of\n%s", list, maps)
	}
}

// TestWarmChildrenReachTheSame: a child serves only tasks that read what it reaches,
// and that is the files and folders as they were, not what stands in their place.
func TestWarmChildrenReachTheSame(t *testing.T) {
	t.Parallel()
	p := newPool(t, Config{CacheDir: cache, Slots: 2})
	content := t.TempDir()
	a, b := write(t, filepath.Join(content, "a", "1"), "a1"), write(t, filepath.Join(content, "b", "1"), "b1")
	first := task(t, guest(t))
	cat := func(host string, reads ...string) (said string, pid int) {
		t.Helper()
		task := taskAgain(t, first, "cat", "in")
		task.Inputs, task.Reads = []Input{{Path: "in", Host: host}}, reads
		r, err := p.Run(t.Context(), task, func(n int) { pid = n })
		if err != nil || r.Code != 0 {
			t.Fatalf("%s: code %d, %v", host, r.Code, err)
		}
		return read(t, r.Stdout), pid
	}
	said, one := cat(a)
	if again, pid := cat(a); said != "a1" || again != "a1" || pid != one {
		t.Errorf("%q and %q, in children %d and %d", said, again, one, pid)
	}
	said, other := cat(b)
	if said != "b1" || other == one {
		t.Errorf("%q, in child %d, which reads %s", said, other, a)
	}
	// Of a folder that all tasks have in common a child sees what comes later, too.
	_, shared := cat(a, filepath.Dir(a))
	later := write(t, filepath.Join(content, "a", "2"), "a2")
	if said, pid := cat(later, filepath.Dir(a)); said != "a2" || pid != shared {
		t.Errorf("%q, in child %d, want %d", said, pid, shared)
	}
	if err := os.Rename(filepath.Dir(a), filepath.Join(content, "old")); err != nil {
		t.Fatal(err)
	}
	write(t, a, "new")
	if said, pid := cat(a, filepath.Dir(a)); said != "new" || pid == shared {
		t.Errorf("%q, in child %d", said, pid)
	}
	gone := taskAgain(t, first, "nothing")
	gone.Reads = []string{filepath.Join(content, "gone")}
	_, err := p.Run(t.Context(), gone, nil)
	wantVoid(t, err, workunits.VoidInput)
}

// TestIdleChildrenLeaveTheFolder: while a task runs in a folder no child lives that has
// run another one there, and could change its results.
func TestIdleChildrenLeaveTheFolder(t *testing.T) {
	t.Parallel()
	p := newPool(t, Config{CacheDir: cache, Slots: 2})
	first, elsewhere := small(t, 1), small(t, 1)
	old, away := pidOf(t, p, first), pidOf(t, p, elsewhere)
	second := small(t, 2)
	second.Dir = first.Dir
	if _, err := p.Run(t.Context(), second, func(int) {
		if err := syscall.Kill(old, 0); !errors.Is(err, syscall.ESRCH) {
			t.Errorf("a child of the task before lives on: %v", err)
		}
		if err := syscall.Kill(away, 0); err != nil {
			t.Errorf("a child of another folder is gone: %v", err)
		}
	}); err != nil {
		t.Fatal(err)
	}
}

// TestEscapes plants a hostile child behind the walls, and one where there are
// none: what it tries would work.
func TestEscapes(t *testing.T) {
	for _, w := range Walls() {
		if !w.Active {
			t.Skipf("children have no wall here: %s", w.Name)
		}
	}
	for _, compiling := range []bool{true, false} {
		if through := plant(t, true, compiling); len(through) > 0 {
			t.Errorf("compiling %v, through the walls: %q", compiling, through)
		}
	}
	through := plant(t, false, false)
	for _, e := range escapes {
		if e.free && !slices.Contains(through, e.name) {
			t.Errorf("without walls, too, a child cannot %s", e.name)
		}
	}
}
