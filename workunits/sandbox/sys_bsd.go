//go:build unix && !linux

package sandbox

import "syscall"

// childAttr puts a child into a session of its own.
func childAttr() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setsid: true} }

// childWalls is what a child does to itself before it reads anything of the
// program.
func childWalls(uint64) error { limitUnix(); return nil }
