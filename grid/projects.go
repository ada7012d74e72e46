package grid

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/talka-grid/talka/grid/volunteer"
	"github.com/talka-grid/talka/workunits"
)

const (
	projectWait = 5 * time.Second // for the manifests of a project's jobs
	maxListed   = 256             // projects of others, and jobs of a project, that are told
)

// Projects lists the projects that this node publishes or trusts, and those that
// it has heard of, in the order of their names.
func (n *Node) Projects() (list []ProjectInfo) {
	rows, err := n.db.projects()
	if err != nil {
		n.log.Warn("read projects", "err", err)
	}
	_ = n.do(n.ctx, func() {
		known := map[workunits.ProjectID]*ProjectInfo{}
		add := func(p workunits.ProjectID) *ProjectInfo {
			if known[p] == nil {
				known[p] = &ProjectInfo{Project: p, Own: p.Publisher == n.self, Trusted: n.trusted[p], Share: 1}
			}
			return known[p]
		}
		for _, r := range rows {
			add(r.Project).Share = r.Share
		}
		for _, p := range n.cfg.Trust {
			add(p)
		}
		for _, j := range n.jobs {
			if p := add(j.manifest.ProjectID()); !j.ended {
				p.OpenJobs++
			}
		}
		for _, a := range n.seen {
			if _, here := n.jobs[a.Job]; !here && !a.Ended && len(known) < maxListed {
				add(a.ProjectID()).OpenJobs++
			}
		}
		for _, p := range known {
			list = append(list, *p)
		}
	})
	slices.SortFunc(list, func(x, y ProjectInfo) int {
		return cmp.Or(strings.Compare(x.Project.Name, y.Project.Name), strings.Compare(x.Project.String(), y.Project.String()))
	})
	return list
}

// ErrShare is returned for a share out of bounds.
var ErrShare = fmt.Errorf("want a share from 1 to %d", volunteer.MaxShare)

// SetShare trusts a project and changes its share: of two with work, one with twice
// the share gets twice the processor time.
func (n *Node) SetShare(p workunits.ProjectID, share int) error {
	if share < 1 || share > volunteer.MaxShare {
		return ErrShare
	}
	if err := n.Trust(p, true); err != nil {
		return err
	}
	if err := n.db.setShare(p, share); err != nil {
		return err
	}
	return n.do(n.ctx, func() { n.stepVolunteer(volunteer.SetShare{Project: p, Share: share}) })
}

// Project tells what is known of a project. Manifests that are not here are asked
// for, and waited for a few seconds.
func (n *Node) Project(ctx context.Context, p workunits.ProjectID) (d ProjectDetail, err error) {
	d.ProjectInfo = ProjectInfo{Project: p, Own: p.Publisher == n.self, Share: 1}
	list := n.Projects()
	if i := slices.IndexFunc(list, func(x ProjectInfo) bool { return x.Project == p }); i >= 0 {
		d.ProjectInfo = list[i]
	}
	missing := func() (m int) {
		for _, a := range n.seen {
			if _, here := n.jobs[a.Job]; !here && a.ProjectID() == p {
				m++
			}
		}
		return m
	}
	if err := n.do(ctx, func() {
		for _, a := range n.seen {
			if _, here := n.jobs[a.Job]; !here && a.ProjectID() == p {
				n.wantJob(a.Job, append(slices.Clone(a.Stewards), a.Author)...)
			}
		}
	}); err != nil {
		return d, err
	}
	soon, cancel := context.WithTimeout(ctx, projectWait)
	defer cancel()
	n.follow(soon, p)
	_ = n.await(soon, func() bool { return missing() == 0 }) // those that came are told
	err = n.do(ctx, func() {
		d.Missing = missing()
		for _, j := range n.jobs {
			if j.manifest.ProjectID() == p {
				d.Jobs = append(d.Jobs, n.projectJob(j))
			}
		}
	})
	slices.SortFunc(d.Jobs, func(x, y ProjectJob) int {
		return cmp.Or(y.Created.Compare(x.Created), slices.Compare(x.Job[:], y.Job[:]))
	})
	if err == nil {
		err = n.do(ctx, func() { n.latest(&d) })
	}
	d.Jobs = d.Jobs[:min(len(d.Jobs), maxListed)]
	return d, err
}

func (n *Node) projectJob(j *job) ProjectJob {
	i, m := n.info(j), j.manifest
	return ProjectJob{
		Job: j.id, Name: m.Name, Created: time.Unix(int64(min(m.Created, 1<<40)), 0).UTC(), State: i.State, Units: i.Units, Settled: i.Settled,
		Program: m.Program.Cid.String(), Memory: m.Limits.Memory, Seconds: float64(m.Limits.Wall) / 1000,
	}
}
