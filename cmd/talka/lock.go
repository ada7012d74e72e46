package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// lockName is the file that a running node holds in its data directory. It
// holds the node's process id.
const lockName = "lock"

// dirLock is the right to run a node on a data directory. The system takes it
// back when the process ends, however it ends.
type dirLock struct{ f *os.File }

// lockDir takes the lock, or says who has it.
func lockDir(dir string) (*dirLock, error) {
	return takeLock(dir, lockName, "a node is running on %s already (%s); use another --dir for a second node")
}

// takeLock takes the lock of a name; taken says that somebody has it, of the folder
// and the holder.
func takeLock(dir, name, taken string) (*dirLock, error) {
	f, err := os.OpenFile(filepath.Join(dir, name), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	if err := lockFile(f); err != nil {
		defer f.Close()
		if !errors.Is(err, errLocked) {
			return nil, fmt.Errorf("lock %s: %w", f.Name(), err)
		}
		return nil, fmt.Errorf(taken, dir, holder(f))
	}
	if err := errors.Join(f.Truncate(0), writePID(f)); err != nil {
		return nil, errors.Join(fmt.Errorf("lock %s: %w", f.Name(), err), f.Close())
	}
	return &dirLock{f}, nil
}

func writePID(f *os.File) error {
	_, err := f.WriteAt([]byte(strconv.Itoa(os.Getpid())+"\n"), 0)
	return err
}

func holder(f *os.File) string {
	if pid := readPID(f); pid > 0 {
		return "pid " + strconv.Itoa(pid)
	}
	return "its pid is not known yet"
}

// readPID is the holder's process id; 0: not known.
func readPID(f *os.File) int {
	b := make([]byte, 20)
	n, _ := f.ReadAt(b, 0) // what is there is said
	pid, _ := strconv.Atoi(strings.TrimSpace(string(b[:n])))
	return pid
}

// release gives the lock back. The file stays: removing it would let two nodes
// lock two files of one name.
func (l *dirLock) release() error { return l.f.Close() }
