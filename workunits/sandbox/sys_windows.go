package sandbox

import (
	"errors"
	"os"
	"syscall"
	"time"
)

// childAttr keeps the keys of a console from a child.
func childAttr() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{CreationFlags: syscall.CREATE_NEW_PROCESS_GROUP}
}

// childWalls is what a child does to itself before it reads anything of the
// program.
func childWalls(uint64) error { return nil }

// suspend cannot be done yet: the child goes on.
func suspend(_ *os.Process, _ bool) error { return errors.ErrUnsupported }

// holdFolder cannot be done: a folder has no lock.
func holdFolder(string) (*os.File, error) { return nil, errors.ErrUnsupported }

func wasKilled(*os.ProcessState) bool { return false }

// processorTime is what this process has used.
func processorTime() time.Duration {
	var start, exit, kernel, user syscall.Filetime
	self, err := syscall.GetCurrentProcess()
	if err != nil || syscall.GetProcessTimes(self, &start, &exit, &kernel, &user) != nil {
		return 0
	}
	return time.Duration(filetime(kernel) + filetime(user))
}

// filetime is a span of 100 ns in nanoseconds.
func filetime(t syscall.Filetime) int64 {
	return (int64(t.HighDateTime)<<32 | int64(t.LowDateTime)) * 100
}
