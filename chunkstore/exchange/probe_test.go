package exchange

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

func TestProbe(t *testing.T) {
	t.Parallel()
	path := file(t, 3, 3*mib)
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		_, s := w.node(t, 1)
		x, own := w.node(t, 2)
		a := add(t, s, path)
		leaves, _, err := s.Leaves(t.Context(), a.Cid)
		if err != nil {
			t.Fatal(err)
		}
		if there, err := x.Probe(t.Context(), id(1), leaves[1]); !there || err != nil {
			t.Errorf("a good holder: %t, %v", there, err)
		}
		if ok, _ := own.Has(t.Context(), leaves[1]); ok {
			t.Error("what was shown is stored")
		}
		if err := s.DeleteBlock(t.Context(), leaves[1]); err != nil {
			t.Fatal(err)
		}
		if there, err := x.Probe(t.Context(), id(1), leaves[1]); !there || !errors.Is(err, ErrLacks) {
			t.Errorf("one who lacks it: %t, %v", there, err)
		}
		if there, err := x.Probe(t.Context(), id(9), leaves[0]); there || err == nil {
			t.Errorf("one who is away: %t, %v", there, err)
		}
		w.mu.Lock()
		w.serve[id(3)] = silent
		w.mu.Unlock()
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		if there, err := x.Probe(ctx, id(3), leaves[0]); !there || !errors.Is(err, context.DeadlineExceeded) || errors.Is(err, ErrLacks) {
			t.Errorf("one who says nothing: %t, %v", there, err)
		}
		w.mu.Lock()
		w.serve[id(4)] = func(s Stream) { // sends something else
			buf := make([]byte, 100)
			_, _ = s.Read(buf)
			_, _ = s.Write([]byte{4, 'b', 'a', 'd'})
			_, _ = s.Read(buf) // the end
			_ = s.Close()
		}
		w.mu.Unlock()
		if there, err := x.Probe(t.Context(), id(4), leaves[0]); !there || !errors.Is(err, ErrLacks) || !x.isBanned(id(4)) {
			t.Errorf("one who lies: %t, %v", there, err)
		}
	})
}
