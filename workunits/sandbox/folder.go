package sandbox

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
)

// What is in the folder of a run.
const (
	outName        = "out"
	scratchName    = "scratch"
	checkpointName = "checkpoint"
	stdoutName     = "stdout"
	stderrName     = "stderr"
)

// LogFile is where a run in a folder writes its standard error, whatever becomes of the
// run.
func LogFile(dir string) string { return filepath.Join(dir, stderrName) }

// Clear makes the folder of a run, or removes what an earlier run left in it. Run
// does so itself; whoever has read the results may sooner. Making files and
// folders is the larger part of what a short run costs, so that a folder had
// better be used again than be removed.
func Clear(dir string) error {
	var errs []error
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	for _, name := range []string{outName, scratchName, checkpointName} {
		errs = append(errs, empty(filepath.Join(dir, name)))
	}
	for _, name := range []string{stdoutName, stderrName} {
		f, err := os.OpenFile(filepath.Join(dir, name), os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
		if err == nil {
			err = f.Close()
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// empty makes a folder, or removes what is in it.
func empty(dir string) error {
	list, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return os.Mkdir(dir, 0o700)
	}
	if err != nil {
		return err
	}
	var errs []error
	for _, e := range list {
		errs = append(errs, os.RemoveAll(filepath.Join(dir, e.Name())))
	}
	return errors.Join(errs...)
}
