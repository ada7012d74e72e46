package grid

import (
	"strings"
	"testing"

	"github.com/talka-grid/talka/grid/phrase"
	"github.com/talka-grid/talka/grid/steward"
	"github.com/talka-grid/talka/workunits"
)

func TestJobWhySentences(t *testing.T) {
	t.Parallel()
	refused := func(reason string) []JobRefusal { return []JobRefusal{{reason, 2}, {"another", 1}} }
	open := UnitCounts{Total: 5, Open: 3, Running: 1, Accepted: 1}
	tests := map[string]struct {
		w            JobWhy
		reason, next string // parts of the sentences
		stuck        bool
	}{
		"cancelled":  {JobWhy{State: JobCancelled}, "cancelled", "", false},
		"ended":      {JobWhy{State: JobEnded}, "want no more", "job show", false},
		"done":       {JobWhy{State: JobDone, Stewards: 1}, "Every unit has an accepted", "", false},
		"failed":     {JobWhy{State: JobFailed, Units: UnitCounts{Total: 5, Failed: 2}}, "2 units of 5 failed", "job try", false},
		"stage":      {JobWhy{State: JobFailed}, "second stage failed", "job try", false},
		"others'":    {JobWhy{State: JobRunning, Units: open}, "Other nodes look after", "stewards", false},
		"last":       {JobWhy{State: JobRunning, Stewards: 1, Units: UnitCounts{Total: 5, Running: 5}}, "Volunteers have 5 units", "", false},
		"goes on":    {JobWhy{State: JobRunning, Stewards: 1, Units: open, Asked: 1, Eligible: 1, Holding: 1}, "1 volunteer at work on 1 unit; 3 units", "More volunteers", false},
		"alone":      {JobWhy{State: JobRunning, Stewards: 1, Units: open}, "no peer is connected", "talka invite", true},
		"unheard":    {JobWhy{State: JobRunning, Stewards: 1, Units: open, Peers: 3}, "no volunteer asked", "talka project trust", true},
		"eligible":   {JobWhy{State: JobRunning, Stewards: 1, Units: open, Asked: 2, Eligible: 1}, "1 volunteer may have them", "", false},
		"had theirs": {JobWhy{State: JobRunning, Stewards: 1, Units: open, Asked: 3, Refused: refused(steward.NoUnit)}, "3 volunteers asked", "had no part in them", true},
		"memory":     {JobWhy{State: JobRunning, Stewards: 1, Units: open, Asked: 3, Refused: refused("units take 9 bytes of memory")}, "9 bytes of memory", "limits.memory", true},
		"work":       {JobWhy{State: JobRunning, Stewards: 1, Units: open, Asked: 3, Refused: refused("28 bits of work for their identity")}, "28 bits", "half a minute", true},
		"other":      {JobWhy{State: JobRunning, Stewards: 1, Units: open, Asked: 3, Refused: refused("odd")}, "odd", "Wait", true},
	}
	for name, tt := range tests {
		said := tt.w.sentences(workunits.ProjectID{Name: "p"})
		reason, next := said[0].Text, phrase.Text(said[1:])
		if !strings.Contains(reason, tt.reason) || !strings.Contains(next, tt.next) || tt.next == "" && next != "" || tt.w.Stuck() != tt.stuck {
			t.Errorf("%s: %q, %q, stuck %v", name, reason, next, tt.w.Stuck())
		}
	}
}
