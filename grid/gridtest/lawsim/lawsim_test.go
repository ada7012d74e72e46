package lawsim_test

import (
	"fmt"
	"testing"

	"github.com/talka-grid/talka/grid/gridtest/lawsim"
)

// TestTable plays small versions of the table's worlds and holds them to limits
// that are met with room.
func TestTable(t *testing.T) {
	t.Parallel()
	for _, x := range []struct {
		config                       lawsim.Config
		copies, wrong, burns, atMost float64 // burns are false ones per million honest copies
	}{
		{lawsim.Cold("cap-2", lawsim.Honest), 1.99, 0, 0, 2.00},
		{lawsim.Cold("cap-2", lawsim.Errors), 2, 1e-4, 50, 2.20},
		{lawsim.Cold("cap-2", lawsim.Always), 2, 1e-4, 50, 2.10},
		{lawsim.Cold("cap-2", lawsim.Spam), 2, 1e-4, 50, 2.30},
		{lawsim.Cold("cap-2", lawsim.ColdWorst), 2, 3e-4, 50, 2.30},
		{lawsim.Cold("cap-2", lawsim.Leavers), 2, 3e-4, 50, 2.30},
		{lawsim.Cold("strict", lawsim.Honest), 2.5, 0, 0, 2.95},
		{lawsim.Cold("boinc", lawsim.Honest), 1, 0, 0, 1.15},
		{lawsim.Long("cap-2", lawsim.Honest), 1.1, 0, 0, 1.21},
		{lawsim.Long("cap-2", lawsim.Spam), 1.1, 2e-5, 50, 1.25},
		{lawsim.Long("cap-2", lawsim.LongWorst), 1.1, 1e-4, 50, 1.35},
		{lawsim.Long("cap-2", lawsim.LongMiddle), 1.1, 1e-4, 50, 1.35},
		{lawsim.Long("cap-2", lawsim.LongLate), 1.1, 1e-4, 50, 1.35},
		{lawsim.Long("cap-2", lawsim.Leavers), 1.1, 5e-5, 50, 1.25},
		{lawsim.Long("strict", lawsim.Leavers), 1.1, 1e-4, 50, 1.45},
	} {
		c := x.config
		t.Run(fmt.Sprint(c.Name, " ", c.Scheme, " ", c.Adversary.Name), func(t *testing.T) {
			t.Parallel()
			c.Seed = 1
			if c.Name == "long" { // fewer lives, as long
				c.Volunteers, c.Units = c.Volunteers*2/5, c.Units*2/5
			}
			l := lawsim.Run(c).Line(c)
			if l.CopiesPerUnit < x.copies || l.CopiesPerUnit > x.atMost || l.Wrong > x.wrong || l.FalseBurns > x.burns || l.Completed < 1 {
				t.Errorf("%s\nwant %g to %g copies a unit, wrong at most %g, false burns at most %g; replay with: make sim-table SEED=%d",
					l, x.copies, x.atMost, x.wrong, x.burns, c.Seed)
			}
		})
	}
}

// TestFigures: what the table is judged by holds in small versions of its worlds.
func TestFigures(t *testing.T) {
	t.Parallel()
	var rows []lawsim.Row
	for _, c := range lawsim.Table(1) {
		if c.Scheme != "cap-2" {
			continue
		}
		c.Volunteers, c.Units = c.Volunteers*2/5, c.Units*2/5 // fewer lives, as long
		rows = append(rows, lawsim.Row{Config: c, Line: lawsim.Run(c).Line(c)})
	}
	for _, f := range lawsim.Figures(rows) {
		t.Log(f)
		if !f.Met {
			t.Errorf("%s; replay with: make sim-table SEED=1", f)
		}
	}
}

// TestBaseline: what the baselines are known to let through comes through.
func TestBaseline(t *testing.T) {
	t.Parallel()
	for _, x := range []struct {
		config       lawsim.Config
		wrong, about float64
	}{
		{lawsim.Cold("2-of-2", lawsim.Always), 5.9e-2, 0.004},
		{lawsim.Cold("3-of-5", lawsim.Always), 5.8e-2, 0.004},
		{lawsim.Cold("boinc", lawsim.Always), 8.3e-2, 0.006},
	} {
		c := x.config
		t.Run(c.Scheme, func(t *testing.T) {
			t.Parallel()
			c.Seed = 1
			if l := lawsim.Run(c).Line(c); l.Wrong < x.wrong-x.about || l.Wrong > x.wrong+x.about {
				t.Errorf("%s\nwant %g wrong", l, x.wrong)
			}
		})
	}
}

// TestReplay: a seed is the whole run.
func TestReplay(t *testing.T) {
	t.Parallel()
	c := lawsim.Cold("cap-2", lawsim.Spam)
	c.Units, c.Seed = 20_000, 7
	first := lawsim.Run(c)
	if again := lawsim.Run(c); again != first {
		t.Errorf("seed 7 gives %+v, then %+v", first, again)
	}
	c.Seed = 8
	if lawsim.Run(c) == first {
		t.Error("another seed gives the same run")
	}
}

// TestBytes: what a copy may take on the wire and on disk at batch 64.
func TestBytes(t *testing.T) {
	t.Parallel()
	if n := lawsim.BytesPerCopy(lawsim.Batch); n < 100 || n > 400 {
		t.Errorf("%.0f bytes a copy at batch %d, want at most 400", n, lawsim.Batch)
	}
}
