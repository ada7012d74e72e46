//go:build unix

package chunkstore

import (
	"errors"
	"os"
	"syscall"
)

// lockFile takes a lock that the system gives back when the file is closed or the
// process ends.
func lockFile(f *os.File) error {
	err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	if errors.Is(err, syscall.EWOULDBLOCK) {
		return ErrInUse
	}
	return err
}
