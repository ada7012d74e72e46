package grid

import (
	"context"
	"fmt"
	"time"

	"github.com/talka-grid/talka/workunits"
	"github.com/talka-grid/talka/workunits/verdict"
)

// UnitStory tells how the verdict on a unit came about.
type UnitStory struct {
	Job    workunits.JobID    `json:"job"`
	Unit   uint32             `json:"unit"`
	State  string             `json:"state"`            // "open", "pending", "accepted" or "failed"
	Reason string             `json:"reason"`           // one sentence: why this state
	Result *workunits.Digest  `json:"result,omitempty"` // once copies agree
	Proven []workunits.NodeID `json:"proven_wrong"`     // by this unit
	Copies []CopyStory        `json:"copies"`           // each after those that it followed
}

// CopyStory tells of one copy: who granted it to whom, and what became of it.
// Times are when this node learned of it, or of what followed on it if that came
// sooner; zero where that is not known.
type CopyStory struct {
	Volunteer workunits.NodeID     `json:"volunteer"`
	Steward   workunits.NodeID     `json:"steward"` // that granted it
	Arch      string               `json:"arch"`
	Canonical bool                 `json:"canonical"`
	Keepers   []workunits.NodeID   `json:"keepers"`  // of its sealed result
	Received  []workunits.NodeID   `json:"received"` // stewards that signed for its commit
	Drawn     []workunits.NodeID   `json:"drawn"`    // stewards that drew on it
	Granted   time.Time            `json:"granted,omitzero"`
	Committed time.Time            `json:"committed,omitzero"`
	Opened    time.Time            `json:"opened,omitzero"`
	Result    *workunits.Digest    `json:"result,omitempty"` // once it is open
	Void      workunits.VoidReason `json:"void,omitempty"`
	Fate      verdict.Fate         `json:"fate"`
}

// TellUnit makes a story for people from one of statements, with the times that
// at knows of them; it returns the zero time for those that it does not know.
func TellUnit(job workunits.JobID, unit uint32, s verdict.Story, at func(workunits.Ref) time.Time) UnitStory {
	u := UnitStory{Job: job, Unit: unit, State: s.State.String(), Reason: reasonFor(s), Proven: notNull(s.Burned), Copies: []CopyStory{}}
	if s.Agreed() {
		u.Result = &s.Result.Digest
	}
	for _, c := range s.Copies {
		t := CopyStory{Volunteer: c.Volunteer, Steward: c.Grant.Author, Arch: c.Arch, Canonical: c.Canonical, Keepers: notNull(c.Keepers),
			Received: authors(c.Receipts), Drawn: authors(c.Draws), Granted: at(c.Grant), Void: c.Void, Fate: c.Fate}
		if c.Commit != nil {
			t.Committed = at(*c.Commit)
		}
		if c.Opening != nil {
			t.Opened, t.Result = at(*c.Opening), &c.Result
		}
		t.Committed = sooner(t.Committed, t.Opened)
		t.Granted = sooner(t.Granted, t.Committed)
		u.Copies = append(u.Copies, t)
	}
	return u
}

// sooner is t, or when what followed on it was learned of.
func sooner(t, next time.Time) time.Time {
	if !t.IsZero() && !next.IsZero() && next.Before(t) {
		return next
	}
	return t
}

func notNull(list []workunits.NodeID) []workunits.NodeID {
	return append([]workunits.NodeID{}, list...)
}

func authors(list []workunits.Ref) []workunits.NodeID {
	who := []workunits.NodeID{}
	for _, r := range list {
		who = append(who, r.Author)
	}
	return who
}

func reasonFor(s verdict.Story) string {
	out := 0
	for _, c := range s.Copies {
		if c.Fate == verdict.FateGranted {
			out++
		}
	}
	switch {
	case s.State == verdict.Accepted && len(s.Volunteers) == 1:
		return "One copy, and the law asks for no more."
	case s.State == verdict.Accepted:
		return fmt.Sprintf("%d copies agree, %d of them one after the other, and the draws ask for no more.", len(s.Volunteers), s.Support)
	case s.State == verdict.Failed:
		return fmt.Sprintf("%d copies came back void.", s.Voids)
	case s.Contested:
		return "Results differ and the law does not decide yet: it gets further copies."
	case len(s.Compare) > 0:
		return "Its results are being compared."
	case s.Agreed():
		return "Copies agree; stewards are to keep the result."
	case s.State == verdict.Pending:
		return "Waits for draws on its last copy, or for results to be opened."
	case out == 0 && s.Waits:
		return "Its copy may be enough once its volunteer has done more; if not, it gets another when no unit is without copies."
	case out > 0:
		return fmt.Sprintf("Wants a further copy; %d of its leases run.", out)
	case s.Copies == nil:
		return "Wants its first copy."
	}
	return "Wants a further copy."
}

// Story tells how the verdict on a unit of a job came about, from the ledger that
// this node keeps as a steward or publisher of the job.
func (n *Node) Story(ctx context.Context, id workunits.JobID, unit uint32) (UnitStory, error) {
	var s verdict.Story
	var total uint32
	err := n.book(ctx, id, func(j *job, b *verdict.Book) {
		if total = j.manifest.Total(); unit < total {
			s = b.Story(unit)
		}
	})
	if err == nil && unit >= total {
		err = fmt.Errorf("job %s has units 0 to %d: %w", id, total-1, ErrNotFound)
	}
	if err != nil {
		return UnitStory{}, err
	}
	times, err := n.db.times(ctx, id, refsOf(s))
	if err != nil {
		return UnitStory{}, err
	}
	return TellUnit(id, unit, s, func(r workunits.Ref) time.Time { return times[r] }), nil
}

// refsOf lists the statements whose times a story tells.
func refsOf(s verdict.Story) (list []workunits.Ref) {
	for _, c := range s.Copies {
		list = append(list, c.Grant)
		for _, r := range []*workunits.Ref{c.Commit, c.Opening} {
			if r != nil {
				list = append(list, *r)
			}
		}
	}
	return list
}
