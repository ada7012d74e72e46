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
	mine, err := newScratch(dir)
	if err != nil {
		t.Fatal(err)
	}
	killed, err := newScratch(dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := killed.lock.release(); err != nil { // as the system does
		t.Fatal(err)
	}
	old := time.Now().Add(-48 * time.Hour)
	for _, name := range []string{"submit-old", "submit-new", "runs"} {
		path := filepath.Join(dir, workDir, name)
		if err := os.MkdirAll(filepath.Join(path, "pieces"), 0o700); err != nil {
			t.Fatal(err)
		}
		if name == "submit-new" { // it is about to lock
			continue
		}
		if err := os.Chtimes(path, old, old); err != nil {
			t.Fatal(err)
		}
	}
	if err := sweepScratch(dir); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]bool{
		mine.path: true, killed.path: false, filepath.Join(dir, workDir, "submit-old"): false,
		filepath.Join(dir, workDir, "submit-new"): true, filepath.Join(dir, workDir, "runs"): true,
	} {
		if _, err := os.Stat(path); (err == nil) != want {
			t.Errorf("%s is there: %v, want %v", path, err == nil, want)
		}
	}
	if err := mine.remove(); err != nil {
		t.Error(err)
	}
}
