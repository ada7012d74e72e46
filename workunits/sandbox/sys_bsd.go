//go:build unix && !linux

package sandbox

import "syscall"

// childAttr puts a child into a session of its own.
func childAttr() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setsid: true} }

// childWalls is what a child does to itself before it reads anything.
func childWalls() { limitUnix() }
