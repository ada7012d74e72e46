package grid

import (
	"context"
	"testing"

	"github.com/talka-grid/talka/workunits"
	"github.com/talka-grid/talka/workunits/verdict"
)

// restored reports whether a job's ledger and its book came from a snapshot.
func (m *member) restored(ctx context.Context, t *testing.T, id workunits.JobID) (yes bool) {
	t.Helper()
	if err := m.do(ctx, func() { yes = len(m.jobs[id].steward.Snapshot) > 0 }); err != nil {
		t.Fatal(err)
	}
	return yes
}

// TestRestoredBook stops a node that looks after a job, and looks whether the next process
// knows what all statements say; a snapshot that ends early counts for nothing.
func TestRestoredBook(t *testing.T) {
	t.Parallel()
	ctx := testContext(t)
	c, pub, _, id := settled(ctx, t, 20)
	c.alone(pub)
	if err := pub.do(ctx, func() { pub.snapshotFrom = 1 }); err != nil {
		t.Fatal(err)
	}
	for _, way := range []struct {
		name     string
		change   func(m *member) error // between the two processes
		restored bool
	}{
		{"stopped", func(*member) error { return nil }, true},
		{"snapshot without its end", func(m *member) error {
			raw, err := m.snapshots.get(id)
			if err != nil {
				return err
			}
			return m.snapshots.set(id, raw[:len(raw)/2])
		}, false},
	} {
		before, err := pub.Ledger(ctx, id)
		if err != nil {
			t.Fatal(err)
		}
		pub.stop()
		if err := way.change(pub); err != nil {
			t.Fatal(err)
		}
		pub = c.start(pub.cfg)
		if got := pub.restored(ctx, t, id); got != way.restored {
			t.Errorf("%s: from a snapshot: %t, want %t", way.name, got, way.restored)
		}
		if gone := lost(ctx, t, pub.Node, id, before.Segments); len(gone) > 0 {
			t.Errorf("%s: %d segments are lost", way.name, len(gone))
		}
		if err := pub.do(ctx, func() {
			j := pub.jobs[id]
			whole := verdict.ReadWith(j.id, j.manifest, j.standing, j.ledger, j.ledger.Heads())
			if b := j.steward.Book(); b.Digest() != whole.Digest() || b.Counts()[verdict.Accepted] != 20 {
				t.Errorf("%s: units are %v, and %v by all statements", way.name, b.Counts(), whole.Counts())
			}
			pub.snapshotFrom = 1
		}); err != nil {
			t.Fatal(err)
		}
	}
}
