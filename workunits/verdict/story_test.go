package verdict_test

import (
	"fmt"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/talka-grid/talka/workunits"
	"github.com/talka-grid/talka/workunits/verdict"
)

// TestStory: every copy is told, after those that it followed, with what became
// of it.
func TestStory(t *testing.T) {
	t.Parallel()
	w := newWorld(nil)
	a := w.execute("s1", "v1", 0, "x")
	w.void(w.grant("s2", "v2", 0))
	b := w.execute("s2", "v3", 0, "wrong")
	w.commit(w.grant("s1", "s2", 0), "x") // who granted the unit
	w.execute("s1", "v1", 0, "x")
	late := w.grant("s1", "v5", 0)
	w.say("s1", workunits.Expiry{Grant: late.ref})
	w.grant("s1", "v6", 0)
	p := w.commit(w.grant("p", "p", 0), "x")
	w.drawn(p, "s1", "s2", "p")
	w.keep(a, b, p)

	s := w.book().Story(0)
	names := map[workunits.NodeID]string{}
	for _, who := range []string{"p", "s1", "s2", "v1", "v2", "v3", "v5", "v6"} {
		names[idOf(who)] = who
	}
	for i, c := range s.Copies {
		for _, before := range s.Copies[i+1:] {
			if before.Commit != nil && slices.ContainsFunc(before.Receipts, func(r workunits.Ref) bool { return r.Author == c.Grant.Author && r.Seq < c.Grant.Seq }) {
				t.Errorf("%s's copy stands before %s's, which it followed", names[c.Volunteer], names[before.Volunteer])
			}
		}
	}
	var got []string
	for _, c := range s.Copies {
		got = append(got, fmt.Sprintf("%s by %s: %s, %d receipts, %d draws, open %t", names[c.Volunteer], names[c.Grant.Author], c.Fate, len(c.Receipts), len(c.Draws), c.Opening != nil))
	}
	slices.Sort(got)
	want := []string{
		"p by p: counts, 3 receipts, 3 draws, open true",
		"s2 by s1: conflict, 0 receipts, 0 draws, open false",
		"v1 by s1: again, 2 receipts, 2 draws, open false",
		"v1 by s1: counts, 2 receipts, 2 draws, open true",
		"v2 by s2: void, 0 receipts, 0 draws, open false",
		"v3 by s2: proven wrong, 2 receipts, 2 draws, open true",
		"v5 by s1: expired, 0 receipts, 0 draws, open false",
		"v6 by s1: granted, 0 receipts, 0 draws, open false",
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("copies (-want +got):\n%s", d)
	}
	if s.State != verdict.Accepted || !slices.Equal(s.Burned, []workunits.NodeID{idOf("v3")}) {
		t.Errorf("unit is %s, burned %v", s.State, s.Burned)
	}
	if other := w.book().Story(1); other.State != verdict.Open || other.Copies != nil {
		t.Errorf("a unit of which nothing is said has the story %+v", other)
	}
}
