package exchange

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/ipfs/boxo/ipld/merkledag"
	"github.com/ipfs/boxo/ipld/unixfs"
	blocks "github.com/ipfs/go-block-format"
	"github.com/ipfs/go-cid"
	ipld "github.com/ipfs/go-ipld-format"

	"github.com/talka-grid/talka/chunkstore"
	"github.com/talka-grid/talka/workunits"
)

// TestArchive brings for an archive what it holds and no more, and begins it once that
// is here.
func TestArchive(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	_, from := w.node(t, 1)
	dir := filepath.Join(t.TempDir(), "tree")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	for name, size := range map[string]int{"large": 20*mib + 5, "other": 5} {
		if err := os.WriteFile(filepath.Join(dir, name), noise(7, size), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	a := add(t, from, dir)
	for _, k := range []struct {
		sel    chunkstore.Selection
		chunks int
		err    error
	}{
		{chunkstore.Selection{}, 1 + 1 + 21 + 1, nil},
		{chunkstore.Selection{Path: []string{"large"}}, 1 + 1 + 21, nil},
		{chunkstore.Selection{Path: []string{"large"}, Scope: chunkstore.ScopeBlock}, 2, nil},
		{chunkstore.Selection{Path: []string{"large"}, Bytes: &chunkstore.Range{From: -1, To: -1}}, 3, nil},
		{chunkstore.Selection{Path: []string{"large"}, Bytes: &chunkstore.Range{From: 5*mib - 1, To: 7 * mib}}, 2 + 4, nil},
		{chunkstore.Selection{Scope: chunkstore.ScopeEntity}, 1, nil},
		{chunkstore.Selection{Path: []string{"nothing"}}, 1, fs.ErrNotExist},
		{chunkstore.Selection{Path: []string{"other", "x"}}, 2, chunkstore.ErrForeign},
		{chunkstore.Selection{Path: make([]string, maxSegments+1)}, 0, chunkstore.ErrForeign},
	} {
		to := store(t, 0)
		x := New(Config{Self: id(2), Store: to, Streams: w})
		var car bytes.Buffer
		begun := -1
		err := x.Archive(t.Context(), a.Cid, k.sel, []workunits.NodeID{id(1)}, func() io.Writer {
			begun = to.Stat().Chunks
			return &car
		})
		if !errors.Is(err, k.err) || to.Stat().Chunks != k.chunks || (k.err == nil) != (begun == k.chunks) || (k.err == nil) != (car.Len() > 0) {
			t.Errorf("%+v: %d chunks came, %d before it began, %v; want %d", k.sel, to.Stat().Chunks, begun, err, k.chunks)
		}
	}
}

// TestArchiveOfShards lists a folder that is many chunks: those, and nothing in it.
func TestArchiveOfShards(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	_, from := w.node(t, 1)
	x, to := w.node(t, 2)
	top, leaf := shards(t, from)
	var car bytes.Buffer
	sel := chunkstore.Selection{Scope: chunkstore.ScopeEntity}
	if err := x.Archive(t.Context(), top, sel, []workunits.NodeID{id(1)}, func() io.Writer { return &car }); err != nil {
		t.Fatal(err)
	}
	for i := range 10_000 {
		var missing ipld.ErrNotFound
		if _, err := to.Entry(t.Context(), top, fmt.Sprintf("entry %d", i)); !errors.As(err, &missing) || missing.Cid != leaf {
			t.Fatalf("entry %d: %v; what is in the folder alone is to be missing", i, err)
		}
	}
}

// fileNode is a node of a file that says of its parts what the test wants.
func fileNode(t testing.TB, s *chunkstore.Store, sizes []uint64, parts ...cid.Cid) cid.Cid {
	t.Helper()
	shape := unixfs.NewFSNode(unixfs.TFile)
	for _, size := range sizes {
		shape.AddBlockSize(size)
	}
	data, err := shape.GetBytes()
	if err != nil {
		t.Fatal(err)
	}
	n := merkledag.NodeWithData(data)
	for _, c := range parts {
		if err := n.AddRawLink("", &ipld.Link{Cid: c}); err != nil {
			t.Fatal(err)
		}
	}
	b, err := blocks.NewBlockWithCid(n.RawData(), mustSum(t, n.RawData()))
	if err == nil {
		err = s.Put(t.Context(), b)
	}
	if err != nil {
		t.Fatal(err)
	}
	return b.Cid()
}

// TestLyingSizes reads, archives and writes out files whose nodes lie about their sizes: an
// error or the true bytes, soon and with few chunks.
func TestLyingSizes(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	x, s := w.node(t, 1)
	leaf := add(t, s, write(t, "0123456789")).Cid
	bomb := leaf
	size := uint64(10)
	for range 5 { // 10^16 bytes
		bomb = fileNode(t, s, slices.Repeat([]uint64{size}, 1000), slices.Repeat([]cid.Cid{bomb}, 1000)...)
		size *= 1000
	}
	for name, c := range map[string]struct {
		root cid.Cid
		read error // of the first bytes; nil: they are those of the leaf
	}{
		"larger than said":  {fileNode(t, s, []uint64{4}, leaf), chunkstore.ErrForeign},
		"smaller than said": {fileNode(t, s, []uint64{1 << 40}, leaf), chunkstore.ErrForeign},
		"above 2^60":        {fileNode(t, s, []uint64{1<<64 - 1, 1 << 63}, leaf, leaf), chunkstore.ErrForeign},
		"too few sizes":     {fileNode(t, s, []uint64{10}, leaf, leaf), chunkstore.ErrForeign},
		"too many sizes":    {fileNode(t, s, []uint64{10, 10}, leaf), chunkstore.ErrForeign},
		"of nothing":        {fileNode(t, s, slices.Repeat([]uint64{0}, 1000), slices.Repeat([]cid.Cid{leaf}, 1000)...), io.EOF},
		"bomb":              {bomb, nil},
	} {
		got := make([]byte, 10)
		r, err := x.Open(t.Context(), c.root, nil, nil)
		if err == nil {
			_, err = io.ReadFull(r, got)
			_ = r.Close()
		}
		if !errors.Is(err, c.read) || err == nil && string(got) != "0123456789" {
			t.Errorf("%s: read %q, %v; want %v", name, got, err, c.read)
		}
		for _, want := range []chunkstore.Range{{From: 0, To: -1}, {From: 3, To: 12}, {From: 1 << 50, To: 1<<50 + 5}, {From: -7, To: 1 << 62}} {
			var car bytes.Buffer
			err := x.Archive(t.Context(), c.root, chunkstore.Selection{Bytes: &want}, nil, func() io.Writer { return &car })
			if err != nil && !errors.Is(err, chunkstore.ErrForeign) || car.Len() > 500_000 {
				t.Errorf("%s, bytes %+v: %d bytes, %v", name, want, car.Len(), err)
			}
		}
	}
}
