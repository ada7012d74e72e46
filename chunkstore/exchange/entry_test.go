package exchange

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/ipfs/boxo/blockservice"
	"github.com/ipfs/boxo/exchange/offline"
	"github.com/ipfs/boxo/ipld/merkledag"
	uio "github.com/ipfs/boxo/ipld/unixfs/io"
	"github.com/ipfs/go-cid"

	"github.com/talka-grid/talka/chunkstore"
	"github.com/talka-grid/talka/workunits"
)

func TestFetchEntry(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.dial = loopback(t)
	_, from := w.node(t, 1)
	x, to := w.node(t, 2)
	dir := filepath.Join(t.TempDir(), "tree")
	for i := range 5 {
		if err := os.MkdirAll(filepath.Join(dir, strconv.Itoa(i)), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, strconv.Itoa(i), "file"), noise(uint64(i), 1000), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	a := add(t, from, dir)
	entry, err := x.FetchEntry(t.Context(), a.Cid, "3", []workunits.NodeID{id(1)})
	if err != nil {
		t.Fatal(err)
	}
	dest := filepath.Join(t.TempDir(), "entry")
	if err := to.Materialise(t.Context(), entry, dest); err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile(filepath.Join(dest, "file")); err != nil || !bytes.Equal(got, noise(3, 1000)) {
		t.Errorf("the entry's file holds %d bytes, %v", len(got), err)
	}
	if n := to.Stat().Chunks; n != 3 {
		t.Errorf("%d chunks are here, want those of the folder, its entry and the file there", n)
	}
	if _, err := x.FetchEntry(t.Context(), a.Cid, "5", nil); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("an entry that is not there: %v", err)
	}
	if _, err := x.FetchEntry(t.Context(), a.Cid, "4", nil); !errors.Is(err, ErrNotFound) {
		t.Errorf("an entry that nobody has: %v", err)
	}
	if _, err := from.Entry(t.Context(), add(t, from, filepath.Join(dir, "0", "file")).Cid, "x"); !errors.Is(err, chunkstore.ErrForeign) {
		t.Errorf("an entry of a file: %v", err)
	}
}

// shards is a folder that is itself many chunks, and the file of which it has ten
// thousand.
func shards(t *testing.T, s *chunkstore.Store) (top, leaf cid.Cid) {
	t.Helper()
	leaf = add(t, s, file(t, 1, 1000)).Cid
	nodes := merkledag.NewDAGService(blockservice.New(s, offline.Exchange(s)))
	child, err := nodes.Get(t.Context(), leaf)
	if err != nil {
		t.Fatal(err)
	}
	dir, err := uio.NewDirectory(nodes, uio.WithCidBuilder(cid.V1Builder{Codec: cid.DagProtobuf, MhType: child.Cid().Prefix().MhType, MhLength: -1}))
	if err != nil {
		t.Fatal(err)
	}
	for i := range 10_000 {
		if err := dir.AddChild(t.Context(), fmt.Sprintf("entry %d", i), child); err != nil {
			t.Fatal(err)
		}
	}
	node, err := dir.GetNode()
	if err != nil {
		t.Fatal(err)
	}
	if err := nodes.Add(t.Context(), node); err != nil {
		t.Fatal(err)
	}
	keep(t, s, node.Cid())
	return node.Cid(), leaf
}

// TestFetchEntryOfShards finds an entry in a folder that is itself many chunks.
func TestFetchEntryOfShards(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.dial = loopback(t)
	_, from := w.node(t, 1)
	x, to := w.node(t, 2)
	top, leaf := shards(t, from)
	entry, err := x.FetchEntry(t.Context(), top, "entry 7777", []workunits.NodeID{id(1)})
	if err != nil || entry != leaf {
		t.Fatalf("%v, %v", entry, err)
	}
	if here, there := to.Stat().Chunks, from.Stat().Chunks; here > 6 || there < 50 {
		t.Errorf("%d of %d chunks are here, want those on the way alone", here, there)
	}
}
