package volunteer

import (
	"cmp"
	"slices"

	"github.com/talka-grid/talka/workunits"
)

// MaxShare is the largest share of a project.
const MaxShare = 100

// SetShare changes a project's share: of two projects that both have work, one
// with twice the share gets twice the processor time. It is 1 until set.
type SetShare struct {
	Project workunits.ProjectID
	Share   int // 1 to MaxShare
}

func (SetShare) input() {}

// shares divide processor time among projects. What a project used is divided by
// its share, and the project with the least is next: start-time fair queueing, see
// Goyal, Vin and Cheng, IEEE/ACM Transactions on Networking 5(5), 1997.
type shares struct {
	of   map[workunits.ProjectID]int
	used map[workunits.ProjectID]float64 // milliseconds of a processor
}

func newShares() shares {
	return shares{map[workunits.ProjectID]int{}, map[workunits.ProjectID]float64{}}
}

func (s *shares) share(p workunits.ProjectID) float64 {
	return float64(min(max(s.of[p], 1), MaxShare))
}

// uses counts a copy that ended. A void one counts as a second at least, so that a
// project whose copies fail at once is not always next.
func (s *shares) uses(p workunits.ProjectID, f Finished) {
	millis := f.Millis
	if f.Void != "" {
		millis = max(millis, 1000)
	}
	s.used[p] += float64(millis)
}

// joins has a project that comes begin where the others are: who was away has no
// claim to what it did not use.
func (s *shares) joins(p workunits.ProjectID, others []*job) {
	least := -1.0
	for _, j := range others {
		q := j.Manifest.ProjectID()
		if q == p {
			return
		}
		if at := s.used[q] / s.share(q); least < 0 || at < least {
			least = at
		}
	}
	s.used[p] = max(s.used[p], least*s.share(p))
}

// order sorts jobs by what their projects had, the least first; held says how many
// units of a job count as used already. Jobs of equal claims keep their order.
func (s *shares) order(jobs []*job, held func(*job) int) {
	had := map[workunits.ProjectID]float64{}
	for _, j := range jobs {
		p := j.Manifest.ProjectID()
		if _, ok := had[p]; !ok {
			had[p] = s.used[p] / s.share(p)
		}
		had[p] += float64(held(j)) * max(j.unitTime, 1) / s.share(p)
	}
	if len(had) > 1 {
		slices.SortStableFunc(jobs, func(x, y *job) int {
			return cmp.Compare(had[x.Manifest.ProjectID()], had[y.Manifest.ProjectID()])
		})
	}
}

// queued and running count the units of a job that wait here, and that run.
func (j *job) queued() (n int) {
	for _, g := range j.grants {
		n += len(g.queue)
	}
	return n
}

func (j *job) running() (n int) {
	for _, g := range j.grants {
		n += len(g.running)
	}
	return n
}
