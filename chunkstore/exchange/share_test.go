package exchange

import (
	"errors"
	"strings"
	"testing"

	"github.com/ipfs/go-cid"

	"github.com/talka-grid/talka/chunkstore"
	"github.com/talka-grid/talka/workunits"
)

// TestShare fetches for two publishers into a store that has a share for each: what
// one of them has beyond it does not come, whatever it is called, and the other, and
// the owner, are not kept from theirs.
func TestShare(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	_, from := w.node(t, 1)
	var roots []cid.Cid
	for seed := range uint64(5) {
		roots = append(roots, add(t, from, file(t, seed, 3*mib)).Cid)
	}
	s, err := chunkstore.Open(t.TempDir(), chunkstore.Config{Share: 4 * mib})
	if err != nil {
		t.Fatal(err)
	}
	x := New(Config{Self: id(2), Store: s, Streams: w})
	for _, step := range []struct {
		what  string
		lease chunkstore.Lease
		want  error
	}{
		{"the first", chunkstore.Lease{Root: roots[0], Reason: "job input", For: "job 1", By: "ann"}, nil},
		{"one too many", chunkstore.Lease{Root: roots[1], Reason: "job input", For: "job 2", By: "ann"}, chunkstore.ErrShare},
		{"by another name", chunkstore.Lease{Root: roots[1], Reason: "result", For: "job 1"}, chunkstore.ErrShare},
		{"another's", chunkstore.Lease{Root: roots[2], Reason: "job input", For: "job 3", By: "bob"}, nil},
		{"the owner's", chunkstore.Lease{Root: roots[3], Reason: "own data"}, nil},
		{"the owner's as well", chunkstore.Lease{Root: roots[1], Reason: "own data"}, nil},
		{"for no reason yet", chunkstore.Lease{Root: roots[4]}, nil},
	} {
		if step.lease.Reason != "" {
			if err := s.Keep(step.lease); err != nil {
				t.Fatal(err)
			}
		}
		err := x.Fetch(t.Context(), step.lease.Root, []workunits.NodeID{id(1)}, nil)
		if !errors.Is(err, step.want) {
			t.Errorf("%s: %v, want %v", step.what, err, step.want)
		}
		if step.want != nil && (err == nil || !strings.Contains(err.Error(), "disk_share")) {
			t.Errorf("%s: %v does not say what to do", step.what, err)
		}
		if used, err := s.Here(roots[0], roots[1]); step.want != nil && (err != nil || used > 4*mib) {
			t.Errorf("%s: %d bytes are here, %v", step.what, used, err)
		}
	}
	if err := s.ReleaseFor("job 1"); err != nil {
		t.Fatal(err)
	}
}
