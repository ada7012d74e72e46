package sandbox

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"sync"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Walls tells which walls this system lets a pool build. A pool logs what it
// could not build all the same.
func Walls() []Wall {
	action := uint32(unix.SECCOMP_RET_ERRNO)
	_, _, errno := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_GET_ACTION_AVAIL, 0, uintptr(unsafe.Pointer(&action)))
	_, err := landlockVersion()
	return []Wall{{WallCalls, errno == 0 && auditArch != 0}, {WallFiles, err == nil}}
}

// landlockVersion is the kernel's version of landlock. The first one has no
// renaming from folder to folder, which programs do.
func landlockVersion() (int, error) {
	v, _, errno := unix.Syscall(unix.SYS_LANDLOCK_CREATE_RULESET, 0, 0, unix.LANDLOCK_CREATE_RULESET_VERSION)
	switch {
	case errno != 0:
		return 0, fmt.Errorf("landlock: %w", errno)
	case v < 2:
		return 0, errors.New("landlock: version 1, want 2 or later")
	}
	return int(v), nil
}

// Rights of landlock.
const (
	fileExecute = unix.LANDLOCK_ACCESS_FS_EXECUTE | unix.LANDLOCK_ACCESS_FS_READ_FILE
	dirRead     = unix.LANDLOCK_ACCESS_FS_READ_FILE | unix.LANDLOCK_ACCESS_FS_READ_DIR
	dirWrite    = dirRead | unix.LANDLOCK_ACCESS_FS_WRITE_FILE | unix.LANDLOCK_ACCESS_FS_REMOVE_FILE | unix.LANDLOCK_ACCESS_FS_REMOVE_DIR |
		unix.LANDLOCK_ACCESS_FS_MAKE_DIR | unix.LANDLOCK_ACCESS_FS_MAKE_REG | unix.LANDLOCK_ACCESS_FS_REFER | unix.LANDLOCK_ACCESS_FS_TRUNCATE
	dirAll = 1<<14 - 1 // what version 2 knows
)

// identity tells a file or folder from another that takes its place, which a child
// that was to reach the first does not reach. It is not given to another while such a
// child lives.
func identity(path string) (string, error) {
	var s unix.Stat_t
	if err := unix.Stat(path, &s); err != nil {
		return "", fmt.Errorf("%s: %w", path, err)
	}
	return strconv.FormatUint(s.Dev, 36) + ":" + strconv.FormatUint(s.Ino, 36), nil
}

// wallOffFiles leaves the calling thread, and the children that it starts, no
// files but their own binary, those to read and to write, and what is open
// already.
func (p *Pool) wallOffFiles(f reach) (err error) {
	if p.open {
		return nil
	}
	version, err := landlockVersion()
	if err != nil {
		return err
	}
	attr := unix.LandlockRulesetAttr{Handled_access_fs: dirAll}
	if version >= 3 {
		attr.Handled_access_fs |= unix.LANDLOCK_ACCESS_FS_TRUNCATE
	}
	if version >= 4 {
		attr.Handled_access_net = unix.LANDLOCK_ACCESS_NET_BIND_TCP | unix.LANDLOCK_ACCESS_NET_CONNECT_TCP
	}
	if version >= 5 {
		attr.Handled_access_fs |= unix.LANDLOCK_ACCESS_FS_IOCTL_DEV
	}
	fd, _, errno := unix.Syscall(unix.SYS_LANDLOCK_CREATE_RULESET, uintptr(unsafe.Pointer(&attr)), unsafe.Sizeof(attr), 0)
	if errno != 0 {
		return fmt.Errorf("landlock: %w", errno)
	}
	rules := landlock{fd: int(fd), handled: attr.Handled_access_fs}
	defer func() { err = errors.Join(err, unix.Close(rules.fd)) }()
	if err := p.landlockRules(rules, f); err != nil {
		return err
	}
	if _, _, errno := unix.Syscall(unix.SYS_LANDLOCK_RESTRICT_SELF, fd, 0, 0); errno != 0 {
		return fmt.Errorf("landlock: %w", errno)
	}
	return nil
}

func (p *Pool) landlockRules(rules landlock, f reach) error {
	// A child of the same binary maps what this process has mapped.
	mapped, err := mappedFiles()
	if err != nil {
		return err
	}
	binary, err := exec.LookPath(p.cfg.Command[0])
	if err != nil {
		return err
	}
	for _, path := range append(mapped, binary, "/etc/ld.so.cache") {
		if err := rules.add(path, fileExecute); err != nil && !errors.Is(err, unix.ENOENT) {
			return err
		}
	}
	for _, path := range f.writes {
		if err := rules.add(path, dirWrite); err != nil {
			return fmt.Errorf("%w: %w", errReach, err)
		}
	}
	for _, path := range f.reads {
		if err := rules.add(path, dirRead); err != nil {
			return fmt.Errorf("%w: %w", errReach, err)
		}
	}
	return nil
}

// landlock is a set of rules in the making.
type landlock struct {
	fd      int
	handled uint64
}

// add allows access to a file, or to everything below a folder.
func (l landlock) add(path string, access uint64) error {
	fd, err := unix.Open(path, unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("landlock: %s: %w", path, err)
	}
	var info unix.Stat_t
	if unix.Fstat(fd, &info) == nil && info.Mode&unix.S_IFMT != unix.S_IFDIR {
		access &= fileExecute | unix.LANDLOCK_ACCESS_FS_WRITE_FILE | unix.LANDLOCK_ACCESS_FS_TRUNCATE // the others are of folders alone
	}
	rule := unix.LandlockPathBeneathAttr{Allowed_access: access & l.handled, Parent_fd: int32(fd)}
	_, _, errno := unix.Syscall6(unix.SYS_LANDLOCK_ADD_RULE, uintptr(l.fd), unix.LANDLOCK_RULE_PATH_BENEATH, uintptr(unsafe.Pointer(&rule)), 0, 0, 0)
	if errno != 0 {
		err = fmt.Errorf("landlock: %s: %w", path, errno)
	}
	return errors.Join(err, unix.Close(fd))
}

// mappedFiles lists the code that this process has mapped: its program and the
// libraries.
var mappedFiles = sync.OnceValues(func() ([]string, error) {
	maps, err := os.ReadFile("/proc/self/maps")
	if err != nil {
		return nil, err
	}
	return slices.Clip(executables(string(maps))), nil // so that nobody appends to it
})

// executables lists the files that a process runs, of all that it has mapped: a
// database is another.
func executables(maps string) (list []string) {
	for line := range strings.Lines(maps) {
		i := strings.IndexByte(line, '/')
		if fields := strings.Fields(line); i < 0 || !strings.Contains(fields[1], "x") {
			continue
		}
		if path := strings.TrimSuffix(line[i:], "\n"); !slices.Contains(list, path) {
			list = append(list, path)
		}
	}
	return list
}

// keepInherited marks what the node itself was given by whoever started it, to be
// closed in its children, as all is that a Go process opens.
func keepInherited() error {
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return err
	}
	for _, e := range entries {
		if fd, err := strconv.Atoi(e.Name()); err == nil && fd > 2 {
			// The folder's own is closed by now.
			_, _ = unix.FcntlInt(uintptr(fd), unix.F_SETFD, unix.FD_CLOEXEC)
		}
	}
	return nil
}

// childWalls is what a child does to itself before it reads anything of the
// program. It says what could not be built.
func childWalls(memory uint64) error {
	limitUnix()
	lower(unix.RLIMIT_DATA, memory+loadMemory)
	// Nobody but root traces the child or reads its memory.
	return errors.Join(unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0), filterCalls())
}

// filterCalls leaves this process, all its threads, the system calls that Go and
// the engines make. The others fail with EPERM.
func filterCalls() error {
	if auditArch == 0 {
		return errors.New("seccomp: no list of system calls for this processor")
	}
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return err
	}
	filter := callFilter(os.Getpid())
	prog := unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}
	thread, _, errno := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, unix.SECCOMP_FILTER_FLAG_TSYNC, uintptr(unsafe.Pointer(&prog)))
	switch {
	case errno != 0:
		return fmt.Errorf("seccomp: %w", errno)
	case thread != 0:
		return fmt.Errorf("seccomp: thread %d has walls of its own", thread)
	}
	return nil
}

// Where a filter finds what it decides by.
const (
	offsetCall = 0
	offsetArch = 4
	offsetArg0 = 16 // the lower half, on a little-endian processor
	offsetArg1 = 24
	offsetArg2 = 32
)

// callFilter is the program of filterCalls for the process pid.
func callFilter(pid int) (f []unix.SockFilter) {
	load := func(offset uint32) {
		f = append(f, unix.SockFilter{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: offset})
	}
	answer := func(action uint32) { f = append(f, unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: action}) }
	// unless skips so many instructions where the loaded value is another.
	unless := func(value uint32, skip uint8) {
		f = append(f, unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: value, Jf: skip})
	}
	load(offsetArch)
	f = append(f, unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: auditArch, Jt: 1})
	answer(unix.SECCOMP_RET_KILL_PROCESS)
	load(offsetCall)
	for _, call := range append(allowedCalls, archCalls...) {
		unless(uint32(call), 1)
		answer(unix.SECCOMP_RET_ALLOW)
	}
	// Threads, but no processes: clone3 hides its flags, and who lacks it uses clone.
	unless(unix.SYS_CLONE3, 1)
	answer(unix.SECCOMP_RET_ERRNO | uint32(unix.ENOSYS))
	unless(unix.SYS_CLONE, 4)
	load(offsetArg0)
	f = append(f, unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_JSET | unix.BPF_K, K: unix.CLONE_THREAD, Jf: 1})
	answer(unix.SECCOMP_RET_ALLOW)
	answer(unix.SECCOMP_RET_ERRNO | uint32(unix.EPERM))
	// Memory in a file is not the process's own, which its limits are about. An
	// engine that hears that there is none does without.
	unless(unix.SYS_MEMFD_CREATE, 1)
	answer(unix.SECCOMP_RET_ERRNO | uint32(unix.ENOSYS))
	// Of files that are open all but who gets a signal from them, and which.
	unless(unix.SYS_FCNTL, uint8(2*len(allowedFcntl)+2))
	load(offsetArg1)
	for _, command := range allowedFcntl {
		unless(command, 1)
		answer(unix.SECCOMP_RET_ALLOW)
	}
	answer(unix.SECCOMP_RET_ERRNO | uint32(unix.EPERM))
	// Signals: to itself alone.
	unless(unix.SYS_TGKILL, 4)
	load(offsetArg0)
	unless(uint32(pid), 1)
	answer(unix.SECCOMP_RET_ALLOW)
	answer(unix.SECCOMP_RET_ERRNO | uint32(unix.EPERM))
	// Limits are read, since root's children could raise them again.
	unless(unix.SYS_PRLIMIT64, 7) // others are refused as well
	for i, none := range []uint32{offsetArg0, offsetArg2, offsetArg2 + 4} {
		load(none)
		unless(0, uint8(5-2*i))
	}
	answer(unix.SECCOMP_RET_ALLOW)
	answer(unix.SECCOMP_RET_ERRNO | uint32(unix.EPERM))
	return f
}

var allowedFcntl = []uint32{unix.F_DUPFD, unix.F_DUPFD_CLOEXEC, unix.F_GETFD, unix.F_SETFD, unix.F_GETFL, unix.F_SETFL}

// allowedCalls is what children may ask of the kernel, whatever the arguments.
// Which files they can open is landlock's part.
var allowedCalls = []int{
	// memory
	unix.SYS_BRK, unix.SYS_MADVISE, unix.SYS_MEMBARRIER, unix.SYS_MINCORE, unix.SYS_MMAP, unix.SYS_MPROTECT,
	unix.SYS_MREMAP, unix.SYS_MUNMAP,
	// files
	unix.SYS_CLOSE, unix.SYS_COPY_FILE_RANGE, unix.SYS_DUP, unix.SYS_DUP3, unix.SYS_FACCESSAT, unix.SYS_FACCESSAT2, unix.SYS_FALLOCATE,
	unix.SYS_FCHMODAT, unix.SYS_FDATASYNC, unix.SYS_FLOCK, unix.SYS_FSTAT, unix.SYS_FSTATFS, unix.SYS_FSYNC,
	unix.SYS_FTRUNCATE, unix.SYS_GETCWD, unix.SYS_GETDENTS64, unix.SYS_LSEEK, unix.SYS_MKDIRAT, unix.SYS_OPENAT, unix.SYS_PREAD64,
	unix.SYS_PREADV, unix.SYS_PWRITE64, unix.SYS_PWRITEV, unix.SYS_READ, unix.SYS_READLINKAT, unix.SYS_READV,
	unix.SYS_RENAMEAT2, unix.SYS_STATX, unix.SYS_UNLINKAT, unix.SYS_UTIMENSAT, unix.SYS_WRITE, unix.SYS_WRITEV,
	// waiting
	unix.SYS_EPOLL_CREATE1, unix.SYS_EPOLL_CTL, unix.SYS_EPOLL_PWAIT, unix.SYS_EVENTFD2, unix.SYS_FUTEX, unix.SYS_NANOSLEEP,
	unix.SYS_CLOCK_GETTIME, unix.SYS_CLOCK_NANOSLEEP, unix.SYS_GETTIMEOFDAY, unix.SYS_PIPE2, unix.SYS_PPOLL, unix.SYS_RESTART_SYSCALL,
	unix.SYS_SCHED_YIELD, unix.SYS_TIMER_CREATE, unix.SYS_TIMER_DELETE, unix.SYS_TIMER_SETTIME,
	// threads and signals
	unix.SYS_EXIT, unix.SYS_EXIT_GROUP, unix.SYS_GETTID, unix.SYS_RSEQ, unix.SYS_RT_SIGACTION, unix.SYS_RT_SIGPROCMASK,
	unix.SYS_RT_SIGRETURN, unix.SYS_SCHED_GETAFFINITY, unix.SYS_SET_ROBUST_LIST, unix.SYS_SET_TID_ADDRESS, unix.SYS_SIGALTSTACK,
	// who and how much
	unix.SYS_GETEGID, unix.SYS_GETEUID, unix.SYS_GETGID, unix.SYS_GETPID, unix.SYS_GETPPID, unix.SYS_GETRANDOM, unix.SYS_GETRUSAGE,
	unix.SYS_GETUID, unix.SYS_SYSINFO, unix.SYS_UNAME,
}
