package chunkstore

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

// syncAll syncs the file system that dir is on.
func syncAll(dir string) (done bool, err error) {
	f, err := os.Open(dir)
	if err != nil {
		return false, err
	}
	return true, errors.Join(unix.Syncfs(int(f.Fd())), f.Close())
}
