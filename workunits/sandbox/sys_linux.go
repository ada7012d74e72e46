package sandbox

import (
	"bytes"
	"errors"
	"os"
	"runtime"
	"strconv"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// startThread starts children from one thread until the end, for two reasons. A
// child is told of its parent's death when the thread that started it ends. And
// what the thread gives up first, children never had: the thread belongs to
// nothing else, so that nothing is lost. reads and writes are the only files
// that the children reach; none of both: all.
func (p *Pool) startThread(spawn <-chan func(), end <-chan struct{}, reads, writes []string) {
	runtime.LockOSThread() // never unlocked: the thread ends with this goroutine
	if unix.Gettid() == os.Getpid() {
		// The main thread cannot end. While it waits here, another is taken.
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			p.startThread(spawn, end, reads, writes)
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
	// Put up with the first child: only then the folders are sure to be there.
	var once sync.Once
	startLoop(spawn, end, func() {
		once.Do(func() {
			if err := errors.Join(keepInherited(), p.wallOffFiles(reads, writes)); err != nil {
				p.log.Warn("children can reach files that are not theirs", "error", err)
			}
		})
	})
}

// childAttr puts a child into a session of its own, so that no terminal
// reaches it, and ends it with its parent.
func childAttr() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setsid: true, Pdeathsig: syscall.SIGKILL}
}

// clockTick is USER_HZ, which is 100 on every architecture that Go runs on.
const clockTick = 10 * time.Millisecond

// usage is what a process has used: processor time, and memory that is its own
// and not of a file.
func usage(pid int) (cpu time.Duration, memory uint64, known bool) {
	dir := "/proc/" + strconv.Itoa(pid) + "/"
	stat, err := readProc(dir + "stat")
	if err != nil {
		return 0, 0, false
	}
	// The second field is a name in brackets that may hold anything.
	fields := bytes.Fields(stat[bytes.LastIndexByte(stat, ')')+1:])
	if len(fields) < 13 {
		return 0, 0, false
	}
	pages, err := readProc(dir + "statm")
	if err != nil {
		return 0, 0, false
	}
	sizes := bytes.Fields(pages)
	if len(sizes) < 3 {
		return 0, 0, false
	}
	resident, shared := number(sizes[1]), number(sizes[2])
	ticks := number(fields[11]) + number(fields[12])
	return time.Duration(ticks) * clockTick, (resident - min(resident, shared)) * uint64(os.Getpagesize()), true
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
