package main

import (
	"io"
	"os"

	"github.com/talka-grid/talka/workunits/sandbox"
)

// checkProgram refuses what no sandbox would run.
func checkProgram(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return usage("%w", err)
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, sandbox.MaxProgram+1)) // Check refuses more
	if err != nil {
		return usage("%w", err)
	}
	if err := sandbox.Check(b); err != nil {
		return usage("%s: %w", path, err)
	}
	return nil
}
