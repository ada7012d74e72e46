package main

import "github.com/spf13/cobra"

func (a *app) resumeCmd() *cobra.Command {
	return &cobra.Command{
		Use: "resume", Short: "Execute units again", Args: argCount(0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := a.client()
			if err != nil {
				return err
			}
			st, err := c.Resume(cmd.Context())
			if err != nil {
				return err
			}
			return a.showStatus(st)
		},
	}
}
