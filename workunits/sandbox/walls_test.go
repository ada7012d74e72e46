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
	{"write into an input", true, func(dir, _ string) error { return os.WriteFile(filepath.Join(dir, "inputs", "in"), nil, 0o600) }},
	{"move an input", true, func(dir, _ string) error {
		return os.Rename(filepath.Join(dir, "inputs", "other"), filepath.Join(dir, "runs", "other"))
	}},
	{"add a compiled module", true, func(dir, _ string) error {
		return os.WriteFile(filepath.Join(dir, "cache", modulesDir, "new"), nil, 0o600)
	}},
	{"read the key of the compiled modules", true, func(dir, _ string) error {
		_, err := os.ReadFile(filepath.Join(dir, "cache", keyName))
		return err
	}},
	{"follow a link to the key", true, func(dir, _ string) error { _, err := os.ReadFile(filepath.Join(dir, "runs", "link")); return err }},
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
	{"connect to the node's socket", true, func(dir, _ string) error { return dial("unix", filepath.Join(dir, "runs", "socket")) }},
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
	for _, name := range []string{"inputs/in", "inputs/other", "runs/x"} {
		write(t, filepath.Join(dir, name), name)
	}
	if err := os.Symlink(filepath.Join(dir, "key"), filepath.Join(dir, "runs", "link")); err != nil {
		t.Fatal(err)
	}
	tcp, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer tcp.Close()
	// The path of a socket is at most 108 bytes long.
	t.Chdir(dir)
	socket, err := net.Listen("unix", "runs/socket")
	if err != nil {
		t.Fatal(err)
	}
	defer socket.Close()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	c := Config{CacheDir: filepath.Join(dir, "cache"), Command: []string{self, "sandbox-planted", fmt.Sprint(walled), fmt.Sprint(compiling), ".", tcp.Addr().String()}, Slots: 1}
	if walled {
		c.Reads, c.Writes = []string{filepath.Join(dir, "inputs")}, []string{filepath.Join(dir, "runs")}
	}
	p, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	_, err = p.Run(t.Context(), task(t, endless.file(t)), nil)
	var void *Void
	if !errors.As(err, &void) || void.Reason != workunits.VoidEngine || !strings.HasSuffix(void.Detail, "end") {
		t.Fatal(err)
	}
	through := strings.Split(void.Detail, "; ")
	return through[:len(through)-1]
}

// TestEscapes plants a hostile child behind the walls, and one where there are
// none: what it tries would work.
func TestEscapes(t *testing.T) {
	for _, w := range Walls() {
		if !w.Active {
			t.Skipf("children can %s here: %s", w.Name, w.Remedy)
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
