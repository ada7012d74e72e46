package main

import (
	"github.com/spf13/cobra"

	"github.com/talka-grid/talka/grid"
	"github.com/talka-grid/talka/grid/api"
)

func (a *app) resumeCmd() *cobra.Command {
	var all bool
	cmd := &cobra.Command{
		Use: "resume", Short: "Execute units again", Args: argCount(0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.atOrAll(cmd, all, func(c *api.Client) (grid.Status, error) { return c.Resume(cmd.Context()) })
		},
	}
	atFlag(cmd)
	cmd.Flags().BoolVar(&all, "all", false, "this machine and all that are paired with it")
	return cmd
}
