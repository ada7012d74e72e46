package main

import (
	"os"
	"path/filepath"
	"testing"
	"time"
)

// TestScratchIsSwept: what a killed command left goes, what one is using stays.
func TestScratchIsSwept(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for _, name := range []string{"submit-old", "submit-new", "runs"} {
		if err := os.MkdirAll(filepath.Join(dir, workDir, name, "pieces"), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	old := time.Now().Add(-48 * time.Hour)
	for _, name := range []string{"submit-old", "runs"} {
		if err := os.Chtimes(filepath.Join(dir, workDir, name), old, old); err != nil {
			t.Fatal(err)
		}
	}
	if err := sweepScratch(dir, time.Now().Add(-24*time.Hour)); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]bool{"submit-old": false, "submit-new": true, "runs": true} {
		if _, err := os.Stat(filepath.Join(dir, workDir, name)); (err == nil) != want {
			t.Errorf("%s is there: %v, want %v", name, err == nil, want)
		}
	}
}
