package main

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"time"
)

// scratch is a folder for one command in a data directory. The command holds a lock in
// it, so that others can tell whether it lives.
type scratch struct {
	path string
	lock *dirLock
}

const (
	scratchPrefix = "submit-"
	scratchLock   = "lock"
)

// newScratch makes a folder, and removes those of commands that were killed.
func newScratch(dir string) (*scratch, error) {
	work := filepath.Join(dir, workDir)
	if err := os.MkdirAll(work, 0o700); err != nil {
		return nil, err
	}
	if err := sweepScratch(dir); err != nil {
		return nil, err
	}
	path, err := os.MkdirTemp(work, scratchPrefix)
	if err != nil {
		return nil, err
	}
	lock, err := takeLock(path, scratchLock, "another command uses %s (%s): try again")
	if err != nil {
		return nil, errors.Join(err, os.RemoveAll(path))
	}
	return &scratch{path, lock}, nil
}

// scratchIn is a folder in the data directory, where it is found again if the command is
// killed, or in the system's temporary one if that is not made yet or cannot be written.
func scratchIn(dir string) (path string, remove func() error, err error) {
	if _, err := os.Stat(dir); err == nil {
		if s, err := newScratch(dir); err == nil {
			return s.path, s.remove, nil
		}
	}
	path, err = os.MkdirTemp("", "talka-")
	return path, func() error { return os.RemoveAll(path) }, err
}

func (s *scratch) remove() error { return errors.Join(s.lock.release(), os.RemoveAll(s.path)) }

// sweepScratch removes the scratch folders of commands that were killed.
func sweepScratch(dir string) error {
	work := filepath.Join(dir, workDir)
	list, err := fs.Glob(os.DirFS(work), scratchPrefix+"*")
	errs := []error{err}
	for _, name := range list {
		if path := filepath.Join(work, name); abandoned(path) {
			errs = append(errs, os.RemoveAll(path))
		}
	}
	return errors.Join(errs...)
}

// abandoned tells whether no command uses a scratch folder any more. The lock of one
// that has just been made is held before it names its holder.
func abandoned(path string) bool {
	f, err := os.OpenFile(filepath.Join(path, scratchLock), os.O_RDWR, 0)
	if err == nil {
		defer f.Close()
		if readPID(f) > 0 {
			return lockFile(f) == nil
		}
	}
	info, err := os.Stat(path)
	return err == nil && time.Since(info.ModTime()) > 24*time.Hour // killed before it had a lock
}
