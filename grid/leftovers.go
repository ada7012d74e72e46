package grid

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
)

// leftovers are what is below the working directory while something is under way, and
// stays there only if the node is killed meanwhile: the folders of runs, content that is
// not whole yet, files on their way into the store. Checkpoints and whole content are
// meant to outlive it.
var leftovers = []string{
	"runs", "ledger-*", "records-*", "pieces-*",
	"content/.talka-*", "content/*.entries/.talka-*",
}

// removeLeftovers removes what a node that was killed has left. It is called before this
// one begins anything.
func removeLeftovers(work string) error {
	var errs []error
	for _, pattern := range leftovers {
		list, err := fs.Glob(os.DirFS(work), pattern)
		errs = append(errs, err)
		for _, name := range list {
			errs = append(errs, os.RemoveAll(filepath.Join(work, filepath.FromSlash(name))))
		}
	}
	return errors.Join(errs...)
}
