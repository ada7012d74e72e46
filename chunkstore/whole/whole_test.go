package whole

import (
	"os"
	"path/filepath"
	"slices"
	"testing"
)

// files lists what is in a folder.
func files(dir string) []string {
	list, _ := filepath.Glob(filepath.Join(dir, "*")) // the pattern is good
	return list
}

func TestWrite(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path := filepath.Join(dir, "file")
	if err := os.WriteFile(path, []byte("of before, and longer"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := Write(path, []byte("one"), nil, []byte("two")); err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile(path); err != nil || string(got) != "onetwo" {
		t.Errorf("%q, %v", got, err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	if got := files(dir); !slices.Equal(got, []string{path}) {
		t.Errorf("files %q", got)
	}
}

// TestWriteFails leaves things as they were.
func TestWriteFails(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	taken := filepath.Join(dir, "folder")
	if err := os.MkdirAll(filepath.Join(taken, "full"), 0o700); err != nil {
		t.Fatal(err)
	}
	if Write(taken, []byte("text")) == nil {
		t.Error("a folder was replaced")
	}
	if Write(filepath.Join(dir, "absent", "file"), nil) == nil {
		t.Error("written into no folder")
	}
	if got := files(dir); !slices.Equal(got, []string{taken}) {
		t.Errorf("files %q", got)
	}
}

// TestWriteHere writes to the working folder.
func TestWriteHere(t *testing.T) {
	t.Chdir(t.TempDir())
	if err := Write("file", []byte("text")); err != nil {
		t.Fatal(err)
	}
	if got := files("."); !slices.Equal(got, []string{"file"}) {
		t.Errorf("files %q", got)
	}
}
