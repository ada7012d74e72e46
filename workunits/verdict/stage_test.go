package verdict_test

import (
	"slices"
	"testing"

	"github.com/talka-grid/talka/workunits"
	"github.com/talka-grid/talka/workunits/verdict"
)

// reduced gives a job a second stage over so many units.
func reduced(units uint32) func(*workunits.Manifest) {
	return func(m *workunits.Manifest) {
		m.Units, m.Reduce = units, &workunits.Stage{Program: m.Program}
	}
}

// accept has two volunteers agree on a unit.
func (w *world) accept(unit uint32, text string) {
	w.keep(w.execute("s1", "v1", unit, text), w.execute("s2", "v2", unit, text))
}

func (w *world) wants(t *testing.T, unit uint32, state verdict.State, copies int) *verdict.Book {
	t.Helper()
	b := w.book()
	if v := b.Unit(unit); v.State != state || v.Copies != copies {
		t.Errorf("unit %d is %s with %d copies, want %s with %d", unit, v.State, v.Copies, state, copies)
	}
	return b
}

func TestStageOpensWhenAllIsThere(t *testing.T) {
	t.Parallel()
	w := newWorld(reduced(2))
	b := w.wants(t, 2, verdict.Pending, 0)
	if c := b.Counts(); c[verdict.Open] != 2 || c[verdict.Pending] != 1 {
		t.Errorf("counts %v", c)
	}
	w.accept(0, "x")
	w.execute("s1", "v3", 2, "too early")
	if b = w.wants(t, 2, verdict.Pending, 0); b.Done() {
		t.Error("done with a unit open")
	}
	w.accept(1, "y")
	b = w.wants(t, 2, verdict.Open, 0)
	in, ok := b.StageInputs()
	if _, d := in.Encode(); !ok || d != b.Inputs(2) || !slices.Equal(in.Results, []workunits.Digest{result("x").Digest, result("y").Digest}) {
		t.Errorf("inputs %v", in)
	}
	w.wants(t, 2, verdict.Open, 0)
	c := w.execute("s1", "v1", 2, "best")
	w.wants(t, 2, verdict.Open, 1)
	w.keep(c, w.execute("s2", "v2", 2, "best"))
	b = w.wants(t, 2, verdict.Accepted, 2)
	if !b.Done() || b.Stake(idOf("v1")) != 3 {
		t.Errorf("done %t, stake %d", b.Done(), b.Stake(idOf("v1")))
	}
}

func TestStageFailsWithAUnit(t *testing.T) {
	t.Parallel()
	w := newWorld(reduced(2))
	w.accept(0, "x")
	w.void(w.grant("s1", "v1", 1))
	w.void(w.grant("s2", "v2", 1))
	w.wants(t, 1, verdict.Failed, 0)
	if b := w.wants(t, 2, verdict.Failed, 0); !b.Done() || b.Counts()[verdict.Failed] != 2 {
		t.Errorf("done %t, counts %v", b.Done(), b.Counts())
	}
	w.accept(1, "y") // granted before it failed, and late
	w.wants(t, 2, verdict.Open, 0)
}

// TestInputReopens: copies of the second stage count for the results that they
// were made from alone. Where those change nobody is wrong for them, and whoever
// made them may do so again.
func TestInputReopens(t *testing.T) {
	t.Parallel()
	w := newWorld(reduced(1))
	late := w.grant("s1", "v3", 0)
	w.accept(0, "wrong")
	void := w.grant("s1", "v5", 1)
	w.keep(w.execute("s1", "v1", 1, "of wrong"), w.execute("s2", "v4", 1, "of wrong"))
	w.void(void)
	b := w.wants(t, 1, verdict.Accepted, 2)
	old := b.Inputs(1)
	outstanding := w.grant("s1", "v6", 1)

	c := w.commit(late, "right")
	w.drawn(c, "s1", "s2")
	w.keep(c)
	var changed []uint32
	for _, e := range w.entries {
		changed = append(changed, b.Apply(e)...)
	}
	if b.Unit(1).State != verdict.Pending || !slices.Contains(changed, 1) || b.Done() {
		t.Errorf("the second stage is %s after its input reopened; told of: %t", b.Unit(1).State, slices.Contains(changed, 1))
	}
	w.keep(w.execute("s1", "p", 0, "right")) // the publisher decides: v1 and v2 were wrong
	b = w.wants(t, 1, verdict.Open, 0)
	if b.Inputs(1) == old || b.Burned(idOf("v4")) || !b.Burned(idOf("v1")) || b.Unit(1).Voids != 0 {
		t.Errorf("inputs as before: %t; faults %v; %+v", b.Inputs(1) == old, b.Faults(), b.Unit(1))
	}
	if b.Committed(1, idOf("v4")) || b.Voided(1, idOf("v5")) || len(b.Outstanding(1)) > 0 {
		t.Errorf("earlier copies stand in the way: %v", b.Outstanding(1))
	}
	w.drawn(w.commit(outstanding, "of wrong"), "s1", "s2")
	w.wants(t, 1, verdict.Open, 0)
	w.keep(w.execute("s1", "v4", 1, "of right"), w.execute("s2", "v5", 1, "of right"))
	if b = w.wants(t, 1, verdict.Accepted, 2); b.Unit(1).Result != result("of right") || b.Burned(idOf("v4")) {
		t.Errorf("%+v, faults %v", b.Unit(1), b.Faults())
	}
}

// TestStageLiar: of one set of inputs there is one result, and who lies about it
// is burned with what rests on its copies.
func TestStageLiar(t *testing.T) {
	t.Parallel()
	const stage = 20
	w := newWorld(reduced(stage))
	for u := range uint32(stage) {
		w.accept(u, "x")
	}
	lie := w.execute("s1", "v2", stage, "lie")
	w.keep(w.execute("s1", "p", stage, "best"), lie)
	b := w.book()
	if !b.Burned(idOf("v2")) || b.Burned(idOf("v1")) {
		t.Errorf("faults %v", b.Faults())
	}
	if b.Counts()[verdict.Open] == 0 || b.Unit(stage).State != verdict.Pending {
		t.Errorf("%v, the second stage is %s", b.Counts(), b.Unit(stage).State)
	}
	for u := range uint32(stage) {
		if b.State(u) == verdict.Open {
			w.keep(w.execute("s2", "v3", u, "x"))
		}
	}
	b = w.wants(t, stage, verdict.Accepted, 1)
	if !b.Burned(idOf("v2")) || b.Unit(stage).Result != result("best") {
		t.Errorf("faults %v, %+v", b.Faults(), b.Unit(stage))
	}
}
