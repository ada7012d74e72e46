package steward_test

import (
	"fmt"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/talka-grid/talka/grid/steward"
	"github.com/talka-grid/talka/grid/wire"
	"github.com/talka-grid/talka/workunits"
)

// wants is a request for units by a volunteer that holds some inputs.
func (j job) wants(name string, units uint32, held ...workunits.Link) steward.Received {
	return steward.Received{From: idOf(name), Msg: wire.WorkRequest{Job: j.id, Units: units, Arch: "amd64", Memory: 1 << 20, Held: held}}
}

// TestHolders: the last first copies are left to a volunteer that holds a large input,
// for a while; a second copy of a unit never is.
func TestHolders(t *testing.T) {
	t.Parallel()
	j := newJob(t)
	input := workunits.Link{Cid: workunits.RawCid(workunits.Sum([]byte("genome")))}
	j.manifest.Units, j.manifest.Shard = 8, 8
	j.manifest.Inputs = []workunits.Input{{Path: "genome", Cid: input}}
	var err error
	if j.id, _, err = j.manifest.Sign(keyOf("p")); err != nil {
		t.Fatal(err)
	}
	m, _ := j.machine(t)
	j.publish(m)
	now := uint64(start)
	step := func(in steward.Received) wire.WorkReply {
		now += 100
		return reply(t, m.Step(now, in))
	}
	if r := step(j.wants("poor", 1)); len(r.Grant) == 0 {
		t.Errorf("before anybody said anything: %q", r.Reason)
	}
	other := workunits.Link{Cid: workunits.RawCid(workunits.Sum([]byte("not of this job")))}
	first := step(j.wants("rich", 2, input, other))
	if len(first.Grant) == 0 {
		t.Fatalf("the holder got nothing: %q", first.Reason)
	}
	if diff := cmp.Diff([]workunits.NodeID{idOf("rich")}, m.Holders(input.Cid)); diff != "" || len(m.Holders(other.Cid)) > 0 {
		t.Errorf("holders: %s; of what is no input: %v", diff, m.Holders(other.Cid))
	}
	if r := step(j.wants("poor", 1)); len(r.Grant) == 0 {
		t.Errorf("there is enough for both, and it gets nothing: %q", r.Reason)
	}
	step(j.wants("rich", 8, input)) // it can take all that is left
	if r := step(j.wants("late", 1)); len(r.Grant) > 0 {
		t.Error("one without the input got a first copy that the holder can take")
	}
	// The holder's first unit wants another copy: that goes to whom the draws say.
	g, err := workunits.ParseSegment(first.Grant)
	if err != nil {
		t.Fatal(err)
	}
	body, _ := g.Statements[0].Decode()
	unit := body.(workunits.Grant).Units[0]
	now += 100
	m.Step(now, j.push("p", j.commit(t, "rich", g, unit)...))
	for range 40 { // the publisher draws
		now += 250
		m.Step(now, steward.Tick{})
	}
	r := step(j.wants("late", 1))
	if g, err = workunits.ParseSegment(r.Grant); err != nil {
		t.Fatalf("who lacks the input gets no second copy: %q", r.Reason)
	}
	if body, _ := g.Statements[0].Decode(); !slices.Equal(body.(workunits.Grant).Units, []uint32{unit}) {
		t.Errorf("it got units %v, want the second copy of %d", body.(workunits.Grant).Units, unit)
	}
	if r := step(j.wants("late", 1)); len(r.Grant) == 0 {
		t.Errorf("the holder has not taken what was left to it for long, and it gets nothing: %q", r.Reason)
	}
}

// commit is a volunteer's log with a commit of one unit of a grant.
func (j job) commit(t *testing.T, name string, g workunits.Segment, unit uint32) [][]byte {
	t.Helper()
	a := j.log(name)
	id, _ := a.Say(steward.Identify(workunits.Identity{Arch: "amd64"}, j.manifest, [32]byte{3}))
	c, _ := a.Say(workunits.Commit{Grant: workunits.Ref{Author: g.Author, Seq: g.Seq}, Bound: g.Hashes()[0], Units: []uint32{unit}, Hashes: []workunits.Digest{{1}}})
	return [][]byte{id, c}
}

// TestHints names the publisher to the first two volunteers alone, and to others those
// who were there before, a few and not the same to all.
func TestHints(t *testing.T) {
	t.Parallel()
	j := newJob(t)
	j.manifest.Units, j.manifest.Shard = 500, 500
	var err error
	if j.id, _, err = j.manifest.Sign(keyOf("p")); err != nil {
		t.Fatal(err)
	}
	m, _ := j.machine(t)
	j.publish(m)
	named := map[workunits.NodeID]int{}
	var before []workunits.NodeID
	for i := range 50 {
		name := fmt.Sprint("volunteer ", i)
		r := reply(t, m.Step(start+uint64(i)*10, j.request(name)))
		if slices.Contains(r.Hints, idOf("p")) != (i < 2) || len(r.Hints) > 6 || i >= 2 && len(r.Hints) != min(i, 6) {
			t.Errorf("volunteer %d is sent to %d, the publisher among them: %t", i, len(r.Hints), slices.Contains(r.Hints, idOf("p")))
		}
		for _, h := range r.Hints {
			if named[h]++; h != idOf("p") && !slices.Contains(before, h) || h == idOf(name) {
				t.Errorf("volunteer %d is sent to one who has nothing", i)
			}
		}
		before = append(before, idOf(name))
	}
	for n, times := range named {
		if times > 25 {
			t.Errorf("%d of 50 are sent to %s", times, n.Short())
		}
	}
}
