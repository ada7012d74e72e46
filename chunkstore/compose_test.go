package chunkstore

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/ipfs/go-cid"
)

// TestCompose makes the folder that adding one from disk makes.
func TestCompose(t *testing.T) {
	t.Parallel()
	s, err := Open(t.TempDir(), Config{})
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(t.TempDir(), "folder")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	var entries []Entry
	for name, size := range map[string]int{"b": 3*leafSize + 1, "a": 10, "c": 0} {
		path := filepath.Join(dir, name)
		data := make([]byte, size)
		for i := range data {
			data[i] = byte(i>>20) + name[0]
		}
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		a, err := s.Add(t.Context(), path, nil)
		if err != nil {
			t.Fatal(err)
		}
		entries = append(entries, Entry{name, a.Cid})
	}
	want, err := s.Add(t.Context(), dir, nil)
	if err != nil {
		t.Fatal(err)
	}
	got, err := s.Compose(t.Context(), entries)
	if err != nil || got != want.Cid {
		t.Fatalf("%s, %v; want %s", got, err, want.Cid)
	}
	leaves, bytes, err := s.Leaves(t.Context(), got)
	if err != nil || len(leaves) != 6 || bytes < 3*leafSize+11 || bytes > 3*leafSize+1000 {
		t.Errorf("%d leaves of %d bytes, %v", len(leaves), bytes, err)
	}
	again, _, _ := s.Leaves(t.Context(), got)
	if diff := cmp.Diff(leaves, again, cmp.Comparer(cid.Cid.Equals)); diff != "" {
		t.Error(diff)
	}
	if err := s.DeleteBlock(t.Context(), leaves[3]); err != nil {
		t.Fatal(err)
	}
	if _, _, err := s.Leaves(t.Context(), got); !errors.Is(err, ErrNotFound) {
		t.Errorf("a leaf is missing: %v", err)
	}
	if _, err := s.Compose(t.Context(), []Entry{{"x", leaves[3]}}); !errors.Is(err, ErrNotFound) {
		t.Errorf("a folder of what is not here: %v", err)
	}
}
