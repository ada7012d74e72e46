package wasi

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestTally(t *testing.T) {
	t.Parallel()
	c := start(t, newConfig(t))
	fd := c.mustOpen("scratch/f", oCreat, rightRead|rightWrite)
	before := c.p.Tally()
	if e := c.write(fd, "hello"); e != ok {
		t.Fatal(e)
	}
	if e := c.write(2, "a word"); e != ok {
		t.Fatal(e)
	}
	got := c.p.Tally()
	if got.Calls != before.Calls+2 || got.Written != before.Written+11 || got.Dropped != 0 {
		t.Errorf("%+v, before %+v", got, before)
	}
}

func TestCallsOverTheLimitEndTheProgram(t *testing.T) {
	t.Parallel()
	config := newConfig(t)
	config.CallsLimit = 2
	c := start(t, config)
	c.must("sched_yield")
	c.must("sched_yield")
	if _, unwind := c.p.Call(byName()["sched_yield"], nil, c.mem); !unwind {
		t.Error("a third call is let through")
	}
	if s, stopped := c.p.Stopped(); !stopped || s.Kind != StopCalls {
		t.Errorf("%v %+v", stopped, s)
	}
}

func TestRefusal(t *testing.T) {
	t.Parallel()
	c := start(t, newConfig(t))
	if r := c.p.Refusal(); r.String() != "" {
		t.Errorf("before anything: %v", r)
	}
	if _, e := c.open("scratch/no/such", 0, rightRead); e != eNoent {
		t.Fatal(e)
	}
	want := Refusal{Path: "/scratch/no/such", In: "/scratch", Names: []string{}}
	if diff := cmp.Diff(want, c.p.Refusal()); diff != "" {
		t.Error(diff)
	}
	if got := want.String(); got != "/scratch/no/such is not there, and /scratch is empty" {
		t.Error(got)
	}
	if _, e := c.open("new", oCreat, rightWrite); e != eRofs {
		t.Fatal(e)
	}
	if r := c.p.Refusal(); r.Path != "/new" || !r.ReadOnly {
		t.Errorf("%+v", r)
	}
}

// TestCheckpointRoom: what the host has no room for is no doing of the program's.
func TestCheckpointRoom(t *testing.T) {
	t.Parallel()
	config := newConfig(t)
	config.CheckpointRoom = 10
	c := start(t, config)
	fd := c.mustOpen("checkpoint/f", oCreat, rightRead|rightWrite)
	if e := c.write(fd, "0123456789"); e != ok {
		t.Fatal(e)
	}
	if s, stopped := c.p.Stopped(); stopped {
		t.Fatalf("stopped within the room: %+v", s)
	}
	c.write(fd, "x")
	if s, stopped := c.p.Stopped(); !stopped || s.Kind != StopDiskFull {
		t.Errorf("%v %+v", stopped, s)
	}
}
