package main

import (
	"time"

	"github.com/spf13/cobra"

	"github.com/talka-grid/talka/grid"
)

// morning is the hour at which tomorrow begins for who pauses until then.
const morning = 6

func (a *app) pauseCmd() *cobra.Command {
	var d time.Duration
	var until string
	cmd := &cobra.Command{
		Use: "pause", Short: "Stop executing units", Args: argCount(0, 0),
		Long: "Stop executing units, at once and without losing what they have done,\n" +
			"or as soon as those that run are finished.",
		RunE: func(cmd *cobra.Command, _ []string) error {
			timed := cmd.Flags().Changed("for")
			switch {
			case d < 0 || timed && d == 0:
				return usage("--for %v: want a time above zero, such as 2h", d)
			case timed && until != "":
				return usage("want --for or --until, not both")
			case until != "" && until != "tomorrow" && until != "finished":
				return usage("--until %q: want tomorrow or finished", until)
			}
			c, err := a.client()
			if err != nil {
				return err
			}
			var st grid.Status
			switch until {
			case "finished":
				st, err = c.Finish(cmd.Context())
			case "tomorrow":
				st, err = c.Pause(cmd.Context(), untilTomorrow(time.Now()))
			default:
				st, err = c.Pause(cmd.Context(), d)
			}
			if err != nil {
				return err
			}
			return a.showStatus(st)
		},
	}
	cmd.Flags().DurationVar(&d, "for", 0, "how long, such as 30m or 2h (default: until talka resume)")
	cmd.Flags().StringVar(&until, "until", "", "tomorrow: until 06:00; finished: let units that run end, then pause until talka resume")
	return cmd
}

// untilTomorrow is how long it is until the next day's morning.
func untilTomorrow(now time.Time) time.Duration {
	return time.Date(now.Year(), now.Month(), now.Day()+1, morning, 0, 0, 0, now.Location()).Sub(now)
}
