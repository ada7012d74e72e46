package main

import (
	"io"

	"github.com/spf13/cobra"
)

func (a *app) jobShowCmd() *cobra.Command {
	return &cobra.Command{
		Use: "show JOB", Short: "Show what is known of a job, looking it up on the network if need be", Args: argCount(1, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			id, err := parseJob(args[0])
			if err != nil {
				return err
			}
			c, err := a.client()
			if err != nil {
				return err
			}
			info, err := c.Job(cmd.Context(), id)
			if err != nil {
				return err
			}
			return a.show(info, func(w io.Writer) { jobFields(w, info) })
		},
	}
}
