//go:build unix

package sandbox

import (
	"errors"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// childFiles is how many files a child may have open: those of the program and
// its own.
const childFiles = 2048

// limitUnix lowers the limits of the calling process. A limit that is lower
// already stays.
func limitUnix() {
	lower(unix.RLIMIT_CORE, 0)
	lower(unix.RLIMIT_NOFILE, childFiles)
}

func lower(resource int, to uint64) {
	var l unix.Rlimit
	if unix.Getrlimit(resource, &l) == nil && l.Max > to {
		l.Cur, l.Max = min(l.Cur, to), to
		if resource == unix.RLIMIT_NOFILE {
			l.Cur = to
		}
		// Lowering does not fail.
		_ = unix.Setrlimit(resource, &l)
	}
}

// holdFolder opens a folder and holds it against other processes until it is closed
// or this process ends, however that ends. It fails at once where another holds it.
func holdFolder(path string) (*os.File, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// suspend stops a process or lets it go on.
func suspend(p *os.Process, stop bool) error {
	if stop {
		return p.Signal(syscall.SIGSTOP)
	}
	return p.Signal(syscall.SIGCONT)
}

// wasKilled tells whether a process ended by SIGKILL, which is somebody else's
// doing (a person, or the system short of memory).
func wasKilled(s *os.ProcessState) bool {
	status, is := s.Sys().(syscall.WaitStatus)
	return is && status.Signaled() && status.Signal() == syscall.SIGKILL
}

// processorTime is what this process has used.
func processorTime() time.Duration {
	var u unix.Rusage
	if unix.Getrusage(unix.RUSAGE_SELF, &u) != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
