package verdict_test

import (
	"fmt"
	"slices"
	"testing"

	"github.com/talka-grid/talka/workunits"
	"github.com/talka-grid/talka/workunits/verdict"
)

// TestOneGrantor: a steward cannot settle a unit with volunteers of its own,
// however many they are, nor burn somebody else's.
func TestOneGrantor(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name     string
		grantors []string
		mincopy  uint32
		support  int
		state    verdict.State
	}{
		{"one alone", []string{"s1", "s1"}, 0, 1, verdict.Open},
		{"one alone, often", []string{"s1", "s1", "s1", "s1"}, 0, 1, verdict.Open},
		{"two", []string{"s1", "s2"}, 0, 2, verdict.Accepted},
		{"most by one", []string{"s1", "s2", "s1", "s1"}, 4, 3, verdict.Open},
		{"half by one", []string{"s1", "s2", "s1", "s2"}, 4, 4, verdict.Accepted},
		{"the publisher", []string{"p", "p"}, 0, 2, verdict.Accepted},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(func(m *workunits.Manifest) { m.Policy.MinCopies = c.mincopy })
			for i, by := range c.grantors {
				k := w.commit(w.grant(by, fmt.Sprint("v", i+1), 0), "x")
				w.drawn(k, "s1", "s2", "p")
				w.keep(k)
			}
			if v := w.book().Unit(0); v.State != c.state || v.Support != c.support {
				t.Errorf("%s with support %d, want %s with %d", v.State, v.Support, c.state, c.support)
			}
		})
	}
	w := newWorld(nil)
	w.keep(w.execute("s2", "v9", 0, "right"))
	for i := range 6 {
		w.keep(w.execute("s1", fmt.Sprint("v", i+1), 0, "wrong"))
	}
	if b := w.book(); b.Burned(idOf("v9")) || b.Unit(0).State == verdict.Accepted {
		t.Errorf("a steward and its volunteers burned another's: %v, %+v", b.Faults(), b.Unit(0))
	}
}

// TestAbsent: fewer keepers are waited for once the publisher, or two stewards,
// say that one does not answer.
func TestAbsent(t *testing.T) {
	t.Parallel()
	w := newWorld(nil)
	a, b := w.execute("s1", "v1", 0, "x"), w.execute("s2", "v2", 0, "x")
	w.store("s1", w.open("s2", a), 0)
	o := w.open("s2", b)
	w.store("s2", o, 0)
	state := func(want verdict.State, why string) {
		t.Helper()
		if v := w.book().Unit(0); v.State != want {
			t.Errorf("%s: %s, want %s", why, v.State, want)
		}
	}
	absent := func(by, who string) {
		w.say(by, workunits.Fault{Name: workunits.FaultAbsent, Against: idOf(who)})
	}
	state(verdict.Pending, "kept by two of three")
	absent("s1", "s3")
	absent("s1", "s3")
	absent("v1", "s3")
	absent("s1", "p")
	state(verdict.Pending, "one steward says so")
	absent("s2", "s3")
	state(verdict.Pending, "three may still be present")
	absent("s2", "p")
	state(verdict.Accepted, "two are left")
	if got := w.book().KeptBy(0); len(got) != 2 {
		t.Errorf("kept by %v", got)
	}
}

// TestSurplus: a commit that is one too many of its author for a unit leaves its grant
// outstanding, also for a steward that starts again.
func TestSurplus(t *testing.T) {
	t.Parallel()
	w := newWorld(nil)
	var last grant
	for range 9 {
		last = w.grant("s1", "v1", 0)
		w.void(last)
	}
	b := w.book()
	if got := b.Outstanding(0); !slices.Equal(got, []workunits.Ref{last.ref}) {
		t.Fatalf("outstanding are %v, want %v alone", got, last.ref)
	}
	b.EachGrant(func(r workunits.Ref, _ workunits.Grant, runs bool) {
		if runs != (r == last.ref) {
			t.Errorf("%v runs: %t", r, runs)
		}
	})
}
