package exchange

import (
	"errors"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/talka-grid/talka/chunkstore"
	"github.com/talka-grid/talka/workunits"
)

// TestDiskFull fills a real disk in the middle of a fetch: a clear error, and what was
// there before is served on.
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
	w := newWorld(t)
	_, from := w.node(t, 1)
	s, err := chunkstore.Open(dir, chunkstore.Config{})
	if err != nil {
		t.Fatal(err)
	}
	x := New(Config{Self: id(2), Store: s, Streams: w})
	path := file(t, 2, 2*mib)
	first := add(t, s, path)
	err = x.Fetch(t.Context(), add(t, from, file(t, 1, 10*mib)).Cid, []workunits.NodeID{id(1)}, nil)
	if !errors.Is(err, chunkstore.ErrFull) || errors.Is(err, ErrNotFound) || !strings.Contains(err.Error(), "has no room") || x.isBanned(id(1)) {
		t.Errorf("%v; the source is banned: %t", err, x.isBanned(id(1)))
	}
	if left, err := filepath.Glob(filepath.Join(dir, "tmp", "*")); err != nil || len(left) > 0 {
		t.Errorf("tmp holds %v, %v", left, err)
	}
	whole(t, s, first.Cid, path)
	if _, err := s.Serve(first.Cid, nil); err != nil {
		t.Errorf("served: %v", err)
	}
}
