package main

import (
	"fmt"
	"io"

	"github.com/spf13/cobra"
)

func (a *app) jobRetryCmd() *cobra.Command {
	var wait bool
	cmd := &cobra.Command{
		Use: "retry JOB", Short: "Try the units of a job of this node again that have failed", Args: argCount(1, 1),
		Long: "Try the units again that have failed because too many of their copies were void, in the\n" +
			"same job: its limits stay what they are, and what is accepted stays. This node publishes\n" +
			"the job. Where the limits were too low, change the job file and submit it anew.\n" +
			"Exit code 12 if no unit has failed.",
		RunE: func(cmd *cobra.Command, args []string) error {
			c, id, err := a.ofJob(args[0])
			if err != nil {
				return err
			}
			r, err := c.Retry(cmd.Context(), id)
			if err != nil {
				return err
			}
			if wait && a.json { // one answer: the job at its end
				return a.follow(cmd.Context(), c, id)
			}
			if err := a.show(r, func(w io.Writer) {
				fmt.Fprintf(w, "trying %s of %s again\n", plural(len(r.Units), "unit"), id)
			}); err != nil || !wait {
				return err
			}
			return a.follow(cmd.Context(), c, id)
		},
	}
	cmd.Flags().BoolVar(&wait, "wait", false, "wait for the end of the job; exit code 4 if units failed again")
	return cmd
}
