package main

import (
	"time"

	"github.com/spf13/cobra"

	"github.com/talka-grid/talka/grid"
	"github.com/talka-grid/talka/grid/api"
)

// morning is the hour at which tomorrow begins for who pauses until then.
const morning = 6

func (a *app) pauseCmd() *cobra.Command {
	var d time.Duration
	var until string
	var all bool
	cmd := &cobra.Command{
		Use: "pause", Short: "Stop executing units", Args: argCount(0, 0),
		Long: "Stop executing units, at once and without losing what they have done,\n" +
			"or as soon as those that run are finished, or have saved their state.",
		RunE: func(cmd *cobra.Command, _ []string) error {
			timed := cmd.Flags().Changed("for")
			switch {
			case d < 0 || timed && d == 0:
				return usage("--for %v: want a time above zero, such as 2h", d)
			case timed && until != "":
				return usage("want --for or --until, not both")
			case until != "" && until != "tomorrow" && until != "finished" && until != "saved":
				return usage("--until %q: want tomorrow, saved or finished", until)
			}
			return a.atOrAll(cmd, all, func(c *api.Client) (grid.Status, error) {
				switch until {
				case "finished":
					return c.Finish(cmd.Context())
				case "saved":
					return c.Save(cmd.Context())
				case "tomorrow":
					return c.Pause(cmd.Context(), untilTomorrow(time.Now()))
				}
				return c.Pause(cmd.Context(), d)
			})
		},
	}
	atFlag(cmd)
	cmd.Flags().BoolVar(&all, "all", false, "this machine and all that are paired with it")
	cmd.Flags().DurationVar(&d, "for", 0, "how long, such as 30m or 2h (default: until talka resume)")
	cmd.Flags().StringVar(&until, "until", "", "tomorrow: until 06:00; saved, finished: let units that run save their state, or end, then pause until talka resume")
	return cmd
}

// atOrAll does something at this machine, at the one of --machine, or everywhere.
func (a *app) atOrAll(cmd *cobra.Command, all bool, do func(*api.Client) (grid.Status, error)) error {
	if all && cmd.Flags().Changed("machine") {
		return usage("want --machine or --all, not both")
	}
	if all {
		return a.everywhere(cmd.Context(), do)
	}
	c, err := a.clientAt(cmd)
	if err != nil {
		return err
	}
	st, err := do(c)
	if err != nil {
		return err
	}
	return a.showStatus(st)
}

// untilTomorrow is how long it is until the next day's morning.
func untilTomorrow(now time.Time) time.Duration {
	return time.Date(now.Year(), now.Month(), now.Day()+1, morning, 0, 0, 0, now.Location()).Sub(now)
}
