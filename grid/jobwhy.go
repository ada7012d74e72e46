package grid

import (
	"context"
	"strings"

	"github.com/talka-grid/talka/grid/phrase"
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
	Said     []phrase.Phrase `json:"said"`           // what Reason is the English of, and Next
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
	w.Said = w.sentences(info.Project)
	w.Reason, w.Next = w.Said[0].Text, phrase.Text(w.Said[1:])
	return w, err
}

// sentences put the funnel into words: one, and another if something would change it.
func (w JobWhy) sentences(p workunits.ProjectID) []phrase.Phrase {
	retry := phrase.New("job_retry", "talka job show --unit tells why, talka job try finds out what to change, talka job retry gives them further tries.")
	switch {
	case w.State == JobCancelled:
		return say(phrase.New("job_cancelled", "The job was cancelled."))
	case w.State == JobFailed && w.Units.Failed == 0:
		return say(phrase.New("job_stage_failed", "The second stage failed."), retry)
	case w.State == JobFailed:
		return say(phrase.New("job_failed", "{n|unit|units} of {total} failed: too many of their copies were void.", "n", w.Units.Failed, "total", w.Units.Total), retry)
	case w.State == JobDone:
		return say(phrase.New("job_done", "Every unit has an accepted result."))
	case w.State == JobEnded:
		return say(phrase.New("job_ended", "Its stewards want no more copies."), phrase.New("job_read", "talka job show reads how it ended."))
	case w.Stewards == 0:
		return say(phrase.New("job_elsewhere", "Other nodes look after this job; this one knows what they announce."),
			phrase.New("job_ask", "Ask on a node that talka job show lists among the stewards."))
	case w.Units.Open == 0 && w.Units.Running == 0:
		return say(phrase.New("job_ending", "Every unit has an accepted result; the job is about to end."))
	case w.Units.Open == 0:
		return say(phrase.New("job_given", "Volunteers have {n|unit|units}, or their copies are being verified.", "n", w.Units.Running))
	}
	return w.wanting(p)
}

func say(list ...phrase.Phrase) []phrase.Phrase { return list }

// wanting puts into words where copies are wanted.
func (w JobWhy) wanting(p workunits.ProjectID) []phrase.Phrase {
	open := w.Units.Open
	switch {
	case w.Holding > 0:
		return say(phrase.New("job_held", "{volunteers|volunteer|volunteers} at work on {n|unit|units}; {open|unit|units} more without a copy.",
			"volunteers", w.Holding, "n", w.Units.Running, "open", open), phrase.New("job_more", "More volunteers that trust {project} make it faster.", "project", p))
	case w.Asked == 0 && w.Peers == 0:
		return say(phrase.New("job_alone", "{open|unit|units} without a copy, and no peer is connected.", "open", open),
			phrase.New("job_invite", "Bring one in with talka invite."))
	case w.Asked == 0:
		return say(phrase.New("job_unasked", "{open|unit|units} without a copy, and no volunteer asked for any within two minutes.", "open", open),
			phrase.New("job_trust", "Volunteers say: talka project trust {project}", "project", p))
	case w.Eligible > 0:
		return say(phrase.New("job_eligible", "{open|unit|units} without a copy; {volunteers|volunteer|volunteers} may have them, and will ask again.",
			"open", open, "volunteers", w.Eligible))
	}
	return say(phrase.New("job_refused", "{open|unit|units} without a copy; {volunteers|volunteer|volunteers} asked, and none may have any: {reason}.",
		"open", open, "volunteers", w.Asked, "reason", w.Refused[0].Reason), w.remedy(p))
}

// remedy is what helps against the most frequent refusal.
func (w JobWhy) remedy(p workunits.ProjectID) phrase.Phrase {
	switch r := w.Refused[0].Reason; {
	case r == steward.NoUnit:
		return phrase.New("job_others", "Units want copies of volunteers that had no part in them yet: more volunteers that trust {project} are needed.", "project", p)
	case strings.Contains(r, "memory"):
		return phrase.New("job_memory", "Volunteers with more memory are needed, or a job with a lower limits.memory (talka job try suggests one).")
	case strings.Contains(r, "identity"):
		return phrase.New("job_identity", "They work for their identity, about half a minute of one processor; wait.")
	}
	return phrase.New("job_wait", "Wait, or find more volunteers for {project}.", "project", p)
}
