package gridtest

import (
	"bytes"
	"testing"

	"github.com/talka-grid/talka/workunits"
	"github.com/talka-grid/talka/workunits/verdict"
)

// TestStanding runs jobs of one project after one another: who did the first
// well is checked less in the next, unless its units are dearer, and a volunteer
// that was caught is a newcomer with a strike.
func TestStanding(t *testing.T) {
	t.Parallel()
	first, table := standingJob(t, workunits.StakeTable{}, "job units=240 shard=80 time=1s nominal=1s", "v6")
	liar := workunits.Stake{}
	for _, s := range table.Stakes {
		if s.Node == New(1, nil).Add("v6").ID {
			liar = s
		}
	}
	if len(table.Stakes) != 7 || liar.Strikes == 0 {
		t.Fatalf("the next job starts from %v", table.Stakes)
	}
	for i := range table.Stakes {
		table.Stakes[i].Millis *= 20 // as after many such jobs
	}
	second, next := standingJob(t, table, "job units=240 shard=80 time=1s nominal=1s", "")
	dear, _ := standingJob(t, table, "job units=240 shard=80 time=1s nominal=1000s", "")
	t.Logf("copies of 240 units: %d, then %d, and %d of dearer units", first, second, dear)
	if second > 420 || dear < 480 {
		t.Error("a standing saves too little where units are alike, or something where they are dearer")
	}
	for i, s := range next.Stakes {
		if old := table.Stakes[i]; s.Node != old.Node || s.Millis < old.Millis || s.Strikes != old.Strikes {
			t.Errorf("the third job starts from %+v, the second from %+v", s, old)
		}
	}
}

// standingJob runs a job; a volunteer may lie about some units.
func standingJob(t *testing.T, from workunits.StakeTable, job, liar string) (copies int, to workunits.StakeTable) {
	t.Helper()
	var log bytes.Buffer
	s := &Script{World: New(1, &log), Standing: from}
	commands := []string{"nodes publisher=p stewards=p,s1,s2,s3 volunteers=p,v1,v2,v3,v4,v5,v6 slots=2", job, "run until=sealed limit=2000s", "check", "right"}
	if liar != "" {
		commands = append(commands[:1], append([]string{"ways " + liar + " lies=0.06"}, commands[1:]...)...)
	}
	for _, c := range commands {
		if err := s.Do(c); err != nil {
			s.World.Explain(&log)
			t.Fatalf("%v\n%s", err, log.Bytes())
		}
	}
	l := s.World.Union()
	b := verdict.ReadWith(s.World.job.ID, s.World.job.Manifest, from, l, l.Heads())
	return b.Copies(), from.After(from, b.Stakes())
}
