package grid

import (
	"context"
	"fmt"
	"strings"

	"github.com/talka-grid/talka/grid/steward"
	"github.com/talka-grid/talka/workunits"
)

// JobWhy says how a job goes and why it goes no faster, as far as this node sees it:
// from the units that want copies down to the volunteers that may make them.
type JobWhy struct {
	Job      workunits.JobID `json:"job"`
	State    JobState        `json:"state"`
	Reason   string          `json:"reason"`         // in one sentence
	Next     string          `json:"next,omitempty"` // what would change it
	Units    UnitCounts      `json:"units"`
	Peers    int             `json:"peers"`    // connected
	Stewards int             `json:"stewards"` // that act; 0 where this node does not look after the job
	Asked    int             `json:"asked"`    // other volunteers that wanted units of this node within two minutes
	Eligible int             `json:"eligible"` // of them that got some the last time, or hold some
	Holding  int             `json:"holding"`  // volunteers that hold units of this node's now, itself too
	Refused  []JobRefusal    `json:"refused"`  // why the others got nothing, the most frequent reason first
}

// JobRefusal is a reason why volunteers got no units.
type JobRefusal struct {
	Reason     string `json:"reason"`
	Volunteers int    `json:"volunteers"`
}

// Stuck reports whether units want copies and no volunteer that is known of may
// make one.
func (w JobWhy) Stuck() bool {
	return w.State == JobRunning && w.Stewards > 0 && w.Units.Open > 0 && w.Eligible == 0 && w.Holding == 0
}

// JobWhy says why a job is where it is, looked up on the network if need be.
func (n *Node) JobWhy(ctx context.Context, id workunits.JobID) (JobWhy, error) {
	info, err := n.Job(ctx, id)
	if err != nil {
		return JobWhy{}, err
	}
	w := JobWhy{Job: id, State: info.State, Units: info.Units, Peers: len(n.connected()), Refused: []JobRefusal{}}
	var f steward.Funnel
	err = n.do(ctx, func() {
		if j := n.jobs[id]; j != nil && j.steward != nil {
			f = j.steward.Funnel()
		}
	})
	w.Stewards, w.Asked, w.Holding, w.Eligible = f.Stewards, f.Asked, f.Holding, min(max(f.Granted, f.Holding), f.Asked)
	for _, r := range f.Refused {
		w.Refused = append(w.Refused, JobRefusal(r))
	}
	w.Reason, w.Next = w.sentence(info.Project)
	return w, err
}

// afterFailure is what the publisher of a job that failed may do.
const afterFailure = "talka job show --unit tells why, talka job try finds out what to change, talka job retry gives them further tries."

// sentence puts the funnel into words.
func (w JobWhy) sentence(p workunits.ProjectID) (reason, next string) {
	open := many(w.Units.Open, "unit")
	switch {
	case w.State == JobCancelled:
		return "The job was cancelled.", ""
	case w.State == JobFailed && w.Units.Failed == 0:
		return "The second stage failed.", afterFailure
	case w.State == JobFailed:
		return fmt.Sprintf("%s of %d failed: too many of their copies were void.", many(w.Units.Failed, "unit"), w.Units.Total),
			afterFailure
	case w.State == JobDone:
		return "Every unit has an accepted result.", ""
	case w.State == JobEnded:
		return "Its stewards want no more copies.", "talka job show reads how it ended."
	case w.Stewards == 0:
		return "Other nodes look after this job; this one knows what they announce.", "Ask on a node that talka job show lists among the stewards."
	case w.Units.Open == 0 && w.Units.Running == 0:
		return "Every unit has an accepted result; the job is about to end.", ""
	case w.Units.Open == 0:
		return fmt.Sprintf("Volunteers have %s, or their copies are being verified.", many(w.Units.Running, "unit")), ""
	case w.Holding > 0:
		return fmt.Sprintf("%s at work on %s; %s more without a copy.", volunteers(w.Holding), many(w.Units.Running, "unit"), open),
			"More volunteers that trust " + p.String() + " make it faster."
	case w.Asked == 0 && w.Peers == 0:
		return open + " without a copy, and no peer is connected.", "Bring one in with talka invite."
	case w.Asked == 0:
		return open + " without a copy, and no volunteer asked for any within two minutes.",
			"Volunteers say: talka project trust " + p.String()
	case w.Eligible > 0:
		return fmt.Sprintf("%s without a copy; %s may have them, and will ask again.", open, volunteers(w.Eligible)), ""
	}
	return fmt.Sprintf("%s without a copy; %s asked, and none may have any: %s.", open, volunteers(w.Asked), w.Refused[0].Reason), w.remedy(p)
}

// remedy is what helps against the most frequent refusal.
func (w JobWhy) remedy(p workunits.ProjectID) string {
	switch r := w.Refused[0].Reason; {
	case r == steward.NoUnit:
		return "Units want copies of volunteers that had no part in them yet: more volunteers that trust " + p.String() + " are needed."
	case strings.Contains(r, "memory"):
		return "Volunteers with more memory are needed, or a job with a lower limits.memory (talka job try suggests one)."
	case strings.Contains(r, "identity"):
		return "They work for their identity, about half a minute of one processor; wait."
	}
	return "Wait, or find more volunteers for " + p.String() + "."
}

func volunteers(n int) string { return many(n, "volunteer") }
