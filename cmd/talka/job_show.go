package main

import (
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"github.com/talka-grid/talka/grid"
	"github.com/talka-grid/talka/workunits"
)

func (a *app) jobShowCmd() *cobra.Command {
	unit := int64(-1)
	cmd := &cobra.Command{
		Use: "show JOB", Short: "Show what is known of a job, looking it up on the network if need be", Args: argCount(1, 1),
		Long: "Show what is known of a job, looking it up on the network if need be. With --unit, tell how\n" +
			"the verdict on one unit came about: who executed it, who granted it, what they found, and\n" +
			"what became of each copy.",
		RunE: func(cmd *cobra.Command, args []string) error {
			c, id, err := a.ofJob(args[0])
			if err != nil {
				return err
			}
			if cmd.Flags().Changed("unit") {
				u, err := unitNumber(unit)
				if err != nil {
					return err
				}
				s, err := c.Story(cmd.Context(), id, u)
				if err != nil {
					return err
				}
				return a.show(s, func(w io.Writer) { writeStory(w, s) })
			}
			info, err := c.Job(cmd.Context(), id)
			if err != nil {
				return err
			}
			return a.show(info, func(w io.Writer) { jobFields(w, info) })
		},
	}
	unitFlag(cmd, &unit)
	return cmd
}

func unitFlag(cmd *cobra.Command, unit *int64) {
	cmd.Flags().Int64Var(unit, "unit", -1, "tell the story of this unit, from 0")
	cmd.Flag("unit").DefValue = "" // none
}

func unitNumber(n int64) (uint32, error) {
	if n < 0 || n > workunits.MaxUnits {
		return 0, usage("--unit %d: units are numbered from 0", n)
	}
	return uint32(n), nil
}

func writeStory(w io.Writer, s grid.UnitStory) {
	pairs := []string{"job", s.Job.String(), "unit", fmt.Sprint(s.Unit), "state", s.State, "reason", s.Reason}
	if s.Result != nil {
		pairs = append(pairs, "result", s.Result.String())
	}
	for _, n := range s.Proven {
		pairs = append(pairs, "proven wrong", who(n))
	}
	fields(w, pairs...)
	if len(s.Copies) == 0 {
		return
	}
	fmt.Fprintln(w)
	rows := make([][]string, 0, len(s.Copies))
	for _, c := range s.Copies {
		result := "-"
		switch {
		case c.Result != nil:
			result = c.Result.String()[:12]
		case c.Void != "":
			result = string(c.Void)
		}
		arch := c.Arch
		if c.Canonical {
			arch += ", canonical"
		}
		rows = append(rows, []string{who(c.Volunteer), arch, who(c.Steward), clock(c.Granted), clock(c.Committed), clock(c.Opened),
			fmt.Sprintf("%d/%d", len(c.Received), len(c.Drawn)), result, string(c.Fate)})
	}
	table(w, []string{"VOLUNTEER", "ON", "GRANTED BY", "GRANTED", "COMMITTED", "OPENED", "RECEIPTS/DRAWS", "RESULT", "FATE"}, rows)
}

// clock is a time as a table shows it.
func clock(t time.Time) string {
	if t.IsZero() {
		return "-"
	}
	return t.Format("01-02 15:04:05")
}
