package main

import (
	"os"
	"syscall"

	"golang.org/x/sys/windows"
)

// errLocked is lockFile's error for a file that another process has locked.
const errLocked = windows.ERROR_LOCK_VIOLATION

// lockFile locks an open file for this process, or fails at once. The byte that
// it locks lies far beyond the text, so that others can still read who has it.
func lockFile(f *os.File) error {
	at := &windows.Overlapped{OffsetHigh: 1}
	return windows.LockFileEx(windows.Handle(f.Fd()), windows.LOCKFILE_EXCLUSIVE_LOCK|windows.LOCKFILE_FAIL_IMMEDIATELY, 0, 1, 0, at)
}

// ownGroup keeps the keys of a console from a process that is started so.
func ownGroup() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{CreationFlags: syscall.CREATE_NEW_PROCESS_GROUP}
}
