//go:build unix

package main

import (
	"os"
	"syscall"
)

// errLocked is lockFile's error for a file that another process has locked.
const errLocked = syscall.EWOULDBLOCK

// lockFile locks an open file for this process, or fails at once.
func lockFile(f *os.File) error { return syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB) }

// ownGroup keeps the keys of a terminal from a process that is started so.
func ownGroup() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: true} }
