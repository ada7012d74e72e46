package sandbox

import (
	"bytes"
	"errors"
	"os"
	"runtime"
	"strconv"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// startFrom starts a child from a thread of its own, for two reasons. A child is
// told of its parent's death when the thread that started it ends. And what the
// thread gives up first, the child never had: the thread belongs to nothing else, so
// that nothing is lost. It returns when the child has ended, or was not started.
func (p *Pool) startFrom(f reach, w *worker, started chan<- error) {
	runtime.LockOSThread() // never unlocked: the thread ends with this goroutine
	if unix.Gettid() == os.Getpid() {
		// The main thread cannot end. While it waits here, another is taken.
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			p.startFrom(f, w, started)
		}()
		<-ended
		runtime.UnlockOSThread()
		return
	}
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		p.log.Warn("children may gain privileges", "error", err)
	}
	if p.cfg.Nice > 0 {
		old, err := unix.Getpriority(unix.PRIO_PROCESS, 0)
		if err == nil {
			// The system call answers 20 minus the niceness. 0 is this thread.
			err = unix.Setpriority(unix.PRIO_PROCESS, 0, min(20-old+p.cfg.Nice, 19))
		}
		if err != nil {
			p.log.Warn("children run at full priority", "error", err)
		}
	}
	err := errors.Join(keepInherited(), p.wallOffFiles(f))
	if errors.Is(err, errReach) {
		started <- err
		return
	}
	if err != nil {
		p.log.Warn("children can reach files that are not theirs", "error", err)
	}
	err = w.cmd.Start()
	started <- err
	if err == nil {
		<-w.dead
	}
}

// childAttr puts a child into a session of its own, so that no terminal
// reaches it, and ends it with its parent.
func childAttr() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setsid: true, Pdeathsig: syscall.SIGKILL}
}

// clockTick is USER_HZ, which is 100 on every architecture that Go runs on.
const clockTick = 10 * time.Millisecond

// usage is what a process has used.
func usage(pid int) (u used, known bool) {
	dir := "/proc/" + strconv.Itoa(pid) + "/"
	stat, err := readProc(dir + "stat")
	if err != nil {
		return u, false
	}
	// The second field is a name in brackets that may hold anything.
	fields := bytes.Fields(stat[bytes.LastIndexByte(stat, ')')+1:])
	if len(fields) < 18 {
		return u, false
	}
	pages, err := readProc(dir + "statm")
	if err != nil {
		return u, false
	}
	sizes := bytes.Fields(pages)
	if len(sizes) < 3 {
		return u, false
	}
	resident, shared := number(sizes[1]), number(sizes[2])
	return used{
		cpu:     time.Duration(number(fields[11])+number(fields[12])) * clockTick,
		memory:  (resident - min(resident, shared)) * uint64(os.Getpagesize()),
		threads: number(fields[17]),
	}, true
}

// diskLeft is how many bytes whoever is not root can still write where a folder is.
func diskLeft(dir string) (bytes uint64, known bool) {
	var s unix.Statfs_t
	if unix.Statfs(dir, &s) != nil {
		return 0, false
	}
	return s.Bavail * uint64(s.Bsize), true
}

// readProc reads a short file of /proc. Package os would try to watch for its
// readiness first, and read it twice.
func readProc(path string) ([]byte, error) {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	b := make([]byte, 1024)
	n, err := unix.Read(fd, b)
	return b[:max(n, 0)], errors.Join(err, unix.Close(fd))
}

// number reads a decimal field of /proc.
func number(b []byte) uint64 {
	n, err := strconv.ParseUint(string(b), 10, 64)
	if err != nil {
		return 0
	}
	return n
}

// stepBehind gives a child's session the niceness of the child. Where the kernel
// groups tasks by session (autogroup), niceness counts only within one, and a child
// would take as much as everything that its user has on the screen. The child has
// not yet kept others from its files in /proc.
func (p *Pool) stepBehind(w *worker) {
	prio, err := unix.Getpriority(unix.PRIO_PROCESS, w.cmd.Process.Pid)
	if err != nil || prio >= 20 {
		return
	}
	f, err := os.OpenFile("/proc/"+strconv.Itoa(w.cmd.Process.Pid)+"/autogroup", os.O_WRONLY, 0)
	if err != nil {
		return // the kernel does not group
	}
	// The kernel allows it to one user process every 100 ms, and asks others to try again.
	again := func() bool {
		_, err := f.WriteString(strconv.Itoa(20 - prio))
		return errors.Is(err, unix.EAGAIN)
	}
	if !again() {
		_ = f.Close()
		return
	}
	p.wg.Go(func() {
		defer f.Close()
		tick := time.NewTicker(100 * time.Millisecond)
		defer tick.Stop()
		for range 20 {
			select {
			case <-tick.C:
			case <-w.dead:
				return
			}
			if !again() {
				return
			}
		}
	})
}
