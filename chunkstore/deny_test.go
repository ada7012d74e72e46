package chunkstore

import (
	"errors"
	"testing"

	"github.com/ipfs/go-cid"

	"github.com/talka-grid/talka/workunits"
)

func TestDeny(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := open(t, dir, 0)
	bad, good := raw(t, []byte("bad")), raw(t, []byte("good"))
	put(t, s, bad, good)
	for _, c := range []cid.Cid{bad.Cid(), good.Cid()} {
		if err := s.Keep(Lease{Root: c, Reason: "own data"}); err != nil {
			t.Fatal(err)
		}
	}
	closed(t, s)
	// The same hash behind another codec is the same content.
	s, err := Open(dir, Config{Deny: []cid.Cid{cid.NewCidV1(cid.DagProtobuf, bad.Cid().Hash())}})
	if err != nil {
		t.Fatal(err)
	}
	defer closed(t, s)
	if has(t, s, bad.Cid()) || !has(t, s, good.Cid()) || s.Stat().Bytes != onDisk(t, s) {
		t.Error("not what is denied was removed")
	}
	if err := s.Put(t.Context(), bad); !errors.Is(err, ErrDenied) {
		t.Errorf("put: %v", err)
	}
	record := []byte("record")
	s.ServeRecords(func(workunits.Digest) []byte { return record })
	s.deny[string(workunits.RecordCid(workunits.Sum(record)).Hash())] = true
	if s.Served(workunits.RecordCid(workunits.Sum(record))) {
		t.Error("a denied record is served")
	}
	if _, err := s.Serve(bad.Cid(), nil); !errors.Is(err, ErrNotFound) {
		t.Errorf("serve: %v", err)
	}
}
