package main

import (
	"time"

	"github.com/spf13/cobra"
)

func (a *app) pauseCmd() *cobra.Command {
	var d time.Duration
	cmd := &cobra.Command{
		Use: "pause", Short: "Stop executing units", Args: argCount(0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if d < 0 || cmd.Flags().Changed("for") && d == 0 {
				return usage("--for %v: want a time above zero, such as 2h", d)
			}
			c, err := a.client()
			if err != nil {
				return err
			}
			st, err := c.Pause(cmd.Context(), d)
			if err != nil {
				return err
			}
			return a.showStatus(st)
		},
	}
	cmd.Flags().DurationVar(&d, "for", 0, "how long, such as 30m or 2h (default: until talka resume)")
	return cmd
}
