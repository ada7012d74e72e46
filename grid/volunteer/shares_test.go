package volunteer

import (
	"fmt"
	"math"
	"testing"

	"pgregory.net/rapid"

	"github.com/talka-grid/talka/workunits"
)

// TestShares lets projects of any shares and units of any length take turns. None is
// ever ahead of another by more than a unit, and one that comes late neither
// waits for what the others had nor makes them wait.
func TestShares(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		s := newShares()
		var jobs []*job
		longest := 0.0
		add := func(i int) {
			j := &job{Join: Join{Job: workunits.JobID{byte(i)}, Manifest: workunits.Manifest{Project: fmt.Sprint(i)}}}
			j.unitTime = rapid.Float64Range(1, 1000).Draw(t, "unit")
			longest = max(longest, j.unitTime)
			s.of[j.Manifest.ProjectID()] = rapid.IntRange(0, 10).Draw(t, "share") // 0: never set
			s.joins(j.Manifest.ProjectID(), jobs)
			jobs = append(jobs, j)
		}
		turn := func() {
			s.order(jobs, func(*job) int { return 0 })
			s.used[jobs[0].Manifest.ProjectID()] += jobs[0].unitTime
		}
		fair := func() {
			least, most := math.Inf(1), 0.0
			for _, j := range jobs {
				p := j.Manifest.ProjectID()
				least, most = min(least, s.used[p]/s.share(p)), max(most, s.used[p]/s.share(p))
			}
			if most-least > longest*(1+1e-9) {
				t.Fatalf("one is %.0f ms ahead, and no unit takes more than %.0f: %v of %v", most-least, longest, s.used, s.of)
			}
		}
		for i := range rapid.IntRange(1, 5).Draw(t, "projects") {
			add(i)
		}
		for range rapid.IntRange(0, 200).Draw(t, "turns") {
			turn()
			fair()
		}
		add(100)
		fair()
		for range 50 {
			turn()
			fair()
		}
	})
}

// TestSharesCountWhatRuns wants long units that are under way to count before they
// end, or one project would get all slots at first.
func TestSharesCountWhatRuns(t *testing.T) {
	t.Parallel()
	s := newShares()
	var jobs []*job
	running := map[*job]int{}
	for i := range 2 {
		jobs = append(jobs, &job{Join: Join{Manifest: workunits.Manifest{Project: fmt.Sprint(i)}}})
	}
	a, b := jobs[0], jobs[1]
	s.of[b.Manifest.ProjectID()] = 3
	for range 8 {
		s.order(jobs, func(j *job) int { return running[j] })
		running[jobs[0]]++
	}
	if running[a] != 2 || running[b] != 6 {
		t.Errorf("slots are divided %d to %d, want 2 to 6", running[a], running[b])
	}
}
