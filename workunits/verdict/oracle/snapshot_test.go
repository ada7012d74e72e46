package oracle_test

import (
	"bytes"
	"testing"

	"pgregory.net/rapid"

	"github.com/talka-grid/talka/workunits/verdict"
	"github.com/talka-grid/talka/workunits/verdict/oracle"
)

// TestSnapshot: a book that was restored at any moments ends as one that read all the
// statements, and knows the same to the last byte.
func TestSnapshot(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		s := newScribe(t)
		s.write(60)
		want := s.book(s.entries)
		list := s.shuffled()
		forks := rapid.IntRange(0, len(list)).Draw(t, "forks are known")
		b := verdict.NewWith(s.ID, s.Manifest, s.Standing)
		for i, e := range list {
			if b.Apply(e); i == forks {
				for _, n := range s.forked {
					b.Forked(n)
				}
			}
			switch rapid.IntRange(0, 9).Draw(t, "then") {
			case 0: // what is settled is packed
				b.Snapshot()
			case 1:
				b = s.restored(b)
			}
		}
		for _, n := range s.forked {
			b.Forked(n)
		}
		if b = s.restored(b); b.Digest() != want.Digest() {
			t.Fatalf("a restored book gives another verdict: %s\n%s", oracle.Judge(s.Job, s.entries, s.forked).Difference(b), s.tell())
		}
		if !bytes.Equal(b.Snapshot(), want.Snapshot()) || b.Bound() != want.Bound() {
			t.Fatalf("a restored book knows something else\n%s", s.tell())
		}
	})
}

// restored is what a restart makes of a book.
func (s *scribe) restored(b *verdict.Book) *verdict.Book {
	r, err := verdict.Restore(s.ID, s.Manifest, s.Standing, b.Snapshot())
	if err != nil {
		s.t.Fatal(err)
	}
	return r
}
