package exchange

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"testing/synctest"

	"github.com/ipfs/go-cid"

	"github.com/talka-grid/talka/chunkstore"
	"github.com/talka-grid/talka/workunits"
)

// TestMend damages a cold chunk of what is kept: it is found, set aside, reported and
// fetched again.
func TestMend(t *testing.T) {
	t.Parallel()
	synctest.Test(t, mend) // it reads slowly
}

func mend(t *testing.T) {
	w := newWorld(t)
	_, from := w.node(t, 1)
	dir := t.TempDir()
	to, err := chunkstore.Open(dir, chunkstore.Config{})
	if err != nil {
		t.Fatal(err)
	}
	x := New(Config{Self: id(2), Store: to, Streams: w})
	path := file(t, 1, 2*mib)
	a := add(t, from, path)
	keep(t, to, a.Cid)
	if err := x.Fetch(t.Context(), a.Cid, []workunits.NodeID{id(1)}, nil); err != nil {
		t.Fatal(err)
	}
	lost := add(t, to, file(t, 2, 100)) // nobody else has it
	links, err := chunkstore.Links(mustBlock(t, from, a.Cid))
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []cid.Cid{links[1], lost.Cid} {
		name := c.String()
		at := filepath.Join(dir, "chunks", name[len(name)-2:], name)
		if err := errors.Join(os.Chmod(at, 0o600), os.Truncate(at, 50)); err != nil {
			t.Fatal(err)
		}
	}
	done, err := x.Mend(t.Context(), func() []workunits.NodeID { return []workunits.NodeID{id(1)} })
	if err != nil || len(done.Damaged) != 2 || len(done.Torn) != 2 || !slices.Equal(done.Failed, []cid.Cid{lost.Cid}) {
		t.Fatalf("%+v, %v", done, err)
	}
	whole(t, to, a.Cid, path)
	if st := to.Stat(); st.Damaged != 2 {
		t.Errorf("%+v", st)
	}
}
