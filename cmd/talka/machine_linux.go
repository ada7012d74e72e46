package main

import "golang.org/x/sys/unix"

// freeBytes is the room that this user has on a folder's disk.
func freeBytes(dir string) (uint64, error) {
	var s unix.Statfs_t
	if err := unix.Statfs(dir, &s); err != nil {
		return 0, err
	}
	return s.Bavail * uint64(s.Bsize), nil
}

// clockState asks the kernel whether the clock follows another.
func clockState() (known, synchronised bool) {
	const timeError = 5 // TIME_ERROR: not synchronised
	var t unix.Timex
	state, err := unix.Adjtimex(&t)
	return err == nil, state != timeError
}
