package grid

import (
	"testing"
	"time"

	"github.com/talka-grid/talka/workunits"
	"github.com/talka-grid/talka/workunits/verdict"
)

// A commit may come sooner than the grant that it followed; the story tells them in
// the order in which they were made, and nothing that is not known.
func TestStoryIsInOrder(t *testing.T) {
	t.Parallel()
	grant, commit, opening := workunits.Ref{Seq: 1}, workunits.Ref{Seq: 2}, workunits.Ref{Seq: 3}
	s := verdict.Story{Copies: []verdict.Told{{Grant: grant, Commit: &commit, Opening: &opening}}}
	for name, c := range map[string]struct{ came, want [3]int64 }{
		"in order":        {[3]int64{10, 20, 30}, [3]int64{10, 20, 30}},
		"grant late":      {[3]int64{25, 20, 30}, [3]int64{20, 20, 30}},
		"opening first":   {[3]int64{25, 20, 15}, [3]int64{15, 15, 15}},
		"grant not known": {[3]int64{0, 20, 30}, [3]int64{0, 20, 30}},
		"commit unknown":  {[3]int64{25, 0, 15}, [3]int64{25, 0, 15}},
	} {
		at := func(ms int64) (at time.Time) {
			if ms > 0 {
				at = time.UnixMilli(ms)
			}
			return at
		}
		k := TellUnit(workunits.JobID{}, 0, s, func(r workunits.Ref) time.Time { return at(c.came[r.Seq-1]) }).Copies[0]
		if got, want := [3]time.Time{k.Granted, k.Committed, k.Opened}, [3]time.Time{at(c.want[0]), at(c.want[1]), at(c.want[2])}; got != want {
			t.Errorf("%s: told %v, want %v", name, got, want)
		}
	}
}
