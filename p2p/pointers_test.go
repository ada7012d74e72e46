package p2p

import (
	"context"
	"fmt"
	"testing"

	ds "github.com/ipfs/go-datastore"

	"github.com/talka-grid/talka/workunits"
)

// TestPointers: the DHT of real hosts keeps a project's pointer while its publisher
// is away, the newest wins, and what is none is refused.
func TestPointers(t *testing.T) {
	t.Parallel()
	all := cluster(t, 4, Config{}, nil)
	for _, h := range all {
		awaitPeers(t, h, len(all)-1)
		awaitTable(t, h)
	}
	pub := all[1]
	p := workunits.Pointer{Network: pub.cfg.Network, Project: "clusters", Number: 1, Job: workunits.JobID{1}}
	id := workunits.ProjectID{Publisher: pub.ID(), Name: p.Project}
	put := func(number uint64) []byte {
		t.Helper()
		p.Number = number
		raw := p.Sign(pub.cfg.Key)
		if err := pub.PutPointer(within(t), raw); err != nil {
			t.Fatal(err)
		}
		return raw
	}
	if found := all[3].FindPointer(within(t), id); found != nil {
		t.Errorf("found %q before there was one", found)
	}
	old := put(1)
	want := put(2)
	if err := pub.PutPointer(within(t), old); err == nil {
		t.Error("an old pointer is put over a newer one")
	}
	if err := pub.Close(); err != nil {
		t.Fatal(err)
	}
	if found := all[3].FindPointer(within(t), id); string(found) != string(want) {
		t.Errorf("found %q, want %q", found, want)
	}
	for name, raw := range map[string][]byte{
		"nonsense": []byte("x"), "another network's": workunits.Pointer{Network: "other", Project: "p", Number: 9, Job: p.Job}.Sign(all[0].cfg.Key),
	} {
		if err := all[0].PutPointer(within(t), raw); err == nil {
			t.Errorf("%s is put", name)
		}
	}
	v := pointers{pub.cfg.Network}
	mine := workunits.Pointer{Network: pub.cfg.Network, Project: "clusters", Number: 9, Job: p.Job}.Sign(all[0].cfg.Key)
	if v.Validate(pointerKey(pub.cfg.Network, id), mine) == nil {
		t.Error("another publisher's pointer under this project's key")
	}
	if i, err := v.Select("", [][]byte{[]byte("x"), old, want, old}); i != 2 || err != nil {
		t.Errorf("selects %d, %v", i, err)
	}
}

// FuzzPointers has anything put into the DHT under any key: what is taken is the
// pointer of that key, and among what is there one is chosen.
func FuzzPointers(f *testing.F) {
	v, author := pointers{"test"}, keyOf("author")
	p := workunits.Pointer{Network: "test", Project: "p", Number: 3, Job: workunits.JobID{1}}
	id := workunits.ProjectID{Publisher: workunits.NodeIDOf(author), Name: p.Project}
	good := p.Sign(author)
	f.Add(pointerKey("test", id), good)
	f.Add("/talka/", []byte{})
	f.Fuzz(func(t *testing.T, key string, b []byte) {
		err := v.Validate(key, b)
		q, bad := workunits.ParsePointer(b)
		if err == nil && (bad != nil || pointerKey("test", q.ProjectID()) != key) {
			t.Errorf("%x is taken under %q", b, key)
		}
		if i, err := v.Select(key, [][]byte{b, good}); err != nil || bad != nil && i != 1 {
			t.Errorf("chosen is %d, %v", i, err)
		}
	})
}

// keepsPointers fills the room for pointers: those that come later have some.
func keepsPointers(t *testing.T, most int) {
	v, ctx := newValues(), context.Background()
	key := func(i int) ds.Key { return ds.NewKey(fmt.Sprint("k", i)) }
	for i := range 2 * most {
		if err := v.Put(ctx, key(i), []byte("x")); err != nil {
			t.Fatal(err)
		}
	}
	if err := v.Put(ctx, key(2*most-1), []byte("y")); err != nil || len(v.keys) != most || len(v.at) != most {
		t.Fatalf("%d keys, %v", len(v.keys), err)
	}
	if b, err := v.Get(ctx, key(2*most-1)); err != nil || string(b) != "y" {
		t.Errorf("%q, %v", b, err)
	}
	for i := range 2 * most {
		if err := v.Delete(ctx, key(i)); err != nil {
			t.Fatal(err)
		}
	}
	if len(v.keys) != 0 || len(v.at) != 0 {
		t.Errorf("%d keys after all are gone", len(v.keys))
	}
}
