// Package whole writes small files of the node, whole or not at all.
package whole

import (
	"errors"
	"os"
	"path/filepath"
)

// Write replaces the file at path by one of the owner alone (mode 0600) that holds the
// parts one after the other. Whenever a crash comes, the old file or the new one is
// there, and the new one from the return on. What is half-written lies beside it, with a
// name that begins with a dot and the file's.
func Write(path string, parts ...[]byte) (err error) {
	dir, name := filepath.Split(path)
	f, err := os.CreateTemp(filepath.Clean(dir), "."+name+"-")
	if err != nil {
		return err
	}
	for _, p := range parts {
		if err == nil {
			_, err = f.Write(p)
		}
	}
	if err = errors.Join(err, f.Sync(), f.Close()); err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	// The file is there, and only its name may be lost. Not every system can say.
	if d, err := os.Open(filepath.Clean(dir)); err == nil {
		_ = d.Sync()
		_ = d.Close()
	}
	return nil
}
