package exchange

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/talka-grid/talka/chunkstore"
	"github.com/talka-grid/talka/workunits"
)

func TestReader(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	_, from := w.node(t, 1)
	x, to := w.node(t, 2)
	path := file(t, 5, 40*mib+77)
	want := noise(5, 40*mib+77)
	a := add(t, from, path)
	hints := []workunits.NodeID{id(1)}
	r, err := x.Open(t.Context(), a.Cid, nil, hints)
	if err != nil {
		t.Fatal(err)
	}
	if size, err := r.Seek(0, io.SeekEnd); size != int64(len(want)) || err != nil {
		t.Fatalf("size %d, %v", size, err)
	}
	// A range in the middle brings its leaves and a few ahead.
	if _, err := r.Seek(20*mib-5, io.SeekStart); err != nil {
		t.Fatal(err)
	}
	got := make([]byte, 10)
	if _, err := io.ReadFull(r, got); err != nil || !bytes.Equal(got, want[20*mib-5:20*mib+5]) {
		t.Fatalf("%x, %v", got, err)
	}
	_ = r.Close()
	if n := to.Stat().Chunks; n > readAhead+3 {
		t.Errorf("%d chunks came for a range of 10 bytes", n)
	}
	if r, err = x.Open(t.Context(), a.Cid, nil, hints); err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	rng := rand.New(rand.NewPCG(1, 1))
	for range 50 {
		at, n := rng.IntN(len(want)), rng.IntN(3*mib)
		n = min(n, len(want)-at)
		if _, err := r.Seek(int64(at), io.SeekStart); err != nil {
			t.Fatal(err)
		}
		got := make([]byte, n)
		if _, err := io.ReadFull(r, got); err != nil || !bytes.Equal(got, want[at:at+n]) {
			t.Fatalf("%d bytes at %d: %v", n, at, err)
		}
	}
	if _, err := r.Seek(0, io.SeekStart); err != nil {
		t.Fatal(err)
	}
	if all, err := io.ReadAll(r); err != nil || !bytes.Equal(all, want) {
		t.Fatalf("%d bytes, %v", len(all), err)
	}
}

func TestReaderPaths(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	_, from := w.node(t, 1)
	x, _ := w.node(t, 2)
	dir := filepath.Join(t.TempDir(), "dir")
	if err := os.MkdirAll(filepath.Join(dir, "a", "b"), 0o700); err != nil {
		t.Fatal(err)
	}
	for name, data := range map[string]string{"a/b/deep": "deep", "empty": ""} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(data), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	root := add(t, from, dir).Cid
	hints := []workunits.NodeID{id(1)}
	for _, c := range []struct {
		path []string
		want string
		err  error
	}{
		{[]string{"a", "b", "deep"}, "deep", nil},
		{[]string{"empty"}, "", nil},
		{[]string{"a"}, "", chunkstore.ErrForeign},
		{nil, "", chunkstore.ErrForeign},
		{[]string{"nothing"}, "", fs.ErrNotExist},
		{[]string{"..", "x"}, "", chunkstore.ErrForeign},
		{[]string{"a", ".."}, "", chunkstore.ErrForeign},
		{[]string{"a\x00"}, "", chunkstore.ErrForeign},
		{[]string{strings.Repeat("x", 10_000)}, "", chunkstore.ErrForeign},
		{make([]string, maxSegments+1), "", chunkstore.ErrForeign},
	} {
		r, err := x.Open(t.Context(), root, c.path, hints)
		if !errors.Is(err, c.err) {
			t.Errorf("%q: %v, want %v", c.path, err, c.err)
		}
		if err != nil {
			continue
		}
		if got, err := io.ReadAll(r); string(got) != c.want || err != nil {
			t.Errorf("%q: %q, %v", c.path, got, err)
		}
		_ = r.Close()
	}
	if _, err := x.Open(t.Context(), mustBlock(t, from, root).Cid(), []string{"a"}, nil); err == nil {
		t.Error("opened a folder")
	}
	if _, err := x.Block(t.Context(), workunits.RawCid(workunits.Digest{9}), hints); !errors.Is(err, ErrNotFound) {
		t.Errorf("block: %v", err)
	}
}
