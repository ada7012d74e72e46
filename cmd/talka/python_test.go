package main

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/talka-grid/talka/chunkstore"
	"github.com/talka-grid/talka/workunits/apps"
)

// TestPython: the interpreter that is fetched is the one that job files mean.
func TestPython(t *testing.T) {
	t.Parallel()
	store, err := chunkstore.Open(t.TempDir(), chunkstore.Config{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := store.Close(); err != nil {
			t.Error(err)
		}
	})
	added, err := store.Add(t.Context(), pythonWasm(t), nil)
	if err != nil {
		t.Fatal(err)
	}
	if got := added.Cid.String(); got != apps.PythonCID {
		t.Errorf("cid %s, pinned is %s", got, apps.PythonCID)
	}
}

const pythonPath = "../../bin/apps/python.wasm"

// pythonWasm is the interpreter, which is too large to be committed.
func pythonWasm(t *testing.T) string {
	t.Helper()
	path, err := filepath.Abs(pythonPath)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(path); err != nil {
		t.Skip("the Python interpreter is not here: make python")
	}
	return path
}
