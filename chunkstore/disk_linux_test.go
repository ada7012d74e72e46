package chunkstore

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// TestDiskFull fills a real disk in the middle of an add, then of an import: a clear
// error, nothing half-written, and what was there before stays.
func TestDiskFull(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=5m"); err != nil {
		t.Skipf("a small disk needs the right to mount one: %v", err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, syscall.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	s := open(t, dir, 0)
	first, err := s.Add(t.Context(), input(t, map[string][]byte{"": noise(1, 2*leafSize)}), nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(s.Keep(Lease{Root: first.Cid, Reason: "own data"}), s.Sync()); err != nil {
		t.Fatal(err)
	}
	for name, write := range writings(t, input(t, map[string][]byte{"": noise(2, 8*leafSize)})) {
		err := write(s, nil)
		if !errors.Is(err, ErrFull) || !strings.Contains(err.Error(), "the disk of "+dir+" has no room") {
			t.Errorf("%s: %v", name, err)
		}
		if left, err := os.ReadDir(s.folder("tmp")); err != nil || len(left) > 0 || len(s.held) > 0 {
			t.Errorf("%s: tmp holds %v, %v; %d chunks are covered for ever", name, left, err, len(s.held))
		}
	}
	for range 2 {
		if st := s.Stat(); st.Bytes != onDisk(t, s) {
			t.Errorf("%+v, %d bytes on disk", st, onDisk(t, s))
		}
		if err := s.Materialise(t.Context(), first.Cid, filepath.Join(t.TempDir(), "back")); err != nil {
			t.Error(err)
		}
		_ = s.lock.Close() // it dies; even the index has no room
		s = open(t, dir, 0)
	}
	_ = s.lock.Close()
}
