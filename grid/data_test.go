package grid

import (
	"bytes"
	"context"
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"github.com/ipfs/go-cid"

	"github.com/talka-grid/talka/chunkstore"
)

// inspected is a store's part in mended.
type inspected struct {
	Data
	s *chunkstore.Store
}

func (i inspected) Inspect(ctx context.Context, root cid.Cid) error { return i.s.Inspect(ctx, root) }

// TestMended damages chunks of content that is here and uses it: it is fetched again,
// once or for a node and what is below it, whatever was damaged.
func TestMended(t *testing.T) {
	t.Parallel()
	dir, path := t.TempDir(), filepath.Join(t.TempDir(), "file")
	data := make([]byte, 5<<20)
	rand.NewChaCha8([32]byte{1}).Read(data) //nolint:errcheck // it never fails
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	var stores [2]*chunkstore.Store
	var root cid.Cid
	for i := range stores {
		s, err := chunkstore.Open(filepath.Join(dir, string(rune('a'+i))), chunkstore.Config{})
		if err != nil {
			t.Fatal(err)
		}
		added, err := s.Add(t.Context(), path, nil)
		if err != nil {
			t.Fatal(err)
		}
		stores[i], root = s, added.Cid
	}
	files, err := filepath.Glob(filepath.Join(dir, "b", "chunks", "*", "*"))
	if err != nil || len(files) != 6 {
		t.Fatal(files, err)
	}
	for _, f := range files[1:5] {
		raw, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		raw[len(raw)/2] ^= 1
		if err := errors.Join(os.Remove(f), os.WriteFile(f, raw, 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	dest, fetches := filepath.Join(t.TempDir(), "back"), 0
	use := func() error { return stores[1].Materialise(t.Context(), root, dest) }
	fetch := func() error {
		fetches++
		keys, err := stores[0].AllKeysChan(t.Context())
		if err != nil {
			return err
		}
		for c := range keys {
			b, err := stores[0].Get(t.Context(), c)
			if err := errors.Join(err, stores[1].Put(t.Context(), b)); err != nil {
				return err
			}
		}
		return nil
	}
	if err := mended(t.Context(), inspected{s: stores[1]}, root, use, fetch); err != nil || fetches > 2 {
		t.Fatalf("%d fetches, %v", fetches, err)
	}
	if got, err := os.ReadFile(dest); err != nil || !bytes.Equal(got, data) {
		t.Errorf("%d bytes came back, %v", len(got), err)
	}
	if st := stores[1].Stat(); st.Damaged == 0 {
		t.Errorf("%+v", st)
	}
	gone := errors.New("the disk is gone")
	if err := mended(t.Context(), inspected{s: stores[1]}, root, func() error { return gone }, fetch); !errors.Is(err, gone) || fetches > 2 {
		t.Errorf("%v", err)
	}
}
