package grid

import (
	"os"
	"path/filepath"
	"testing"
)

// TestLeftoversGo: what is under way goes, and what is whole stays.
func TestLeftoversGo(t *testing.T) {
	t.Parallel()
	work := filepath.Join(t.TempDir(), "[work")
	for name, stays := range map[string]bool{
		"runs/1/run/out/a/b": false, "ledger-1": false, "records-2": false, "pieces-3/0": false,
		"content/.talka-4/root": false, "content/x.entries/.talka-5/root": false,
		"content/x": true, "content/y/.talka-6": true, "content/x.entries/0": true, "checkpoints/j/0-1/state": true,
	} {
		path := filepath.Join(work, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := removeLeftovers(work); err != nil {
			t.Fatal(err)
		}
		if _, err := os.Stat(path); (err == nil) != stays {
			t.Errorf("%s stays: %v, want %v", name, err == nil, stays)
		}
	}
	if err := removeLeftovers(filepath.Join(work, "none")); err != nil {
		t.Error(err)
	}
}
