package main

import (
	"io"

	"github.com/spf13/cobra"

	"github.com/talka-grid/talka/workunits"
)

func (a *app) jobCancelCmd() *cobra.Command {
	var reason string
	cmd := &cobra.Command{
		Use: "cancel JOB", Short: "Cancel a job of this node; what is accepted stays", Args: argCount(1, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, id, err := a.ofJob(args[0])
			if err != nil {
				return err
			}
			if len(reason) > workunits.MaxWordLen {
				return usage("--reason: %d bytes, at most %d", len(reason), workunits.MaxWordLen)
			}
			if err := c.Cancel(cmd.Context(), id, reason); err != nil {
				return err
			}
			return a.show(map[string]string{"job": id.String()}, func(w io.Writer) {
				_, _ = io.WriteString(w, "cancelled "+id.String()+"\n")
			})
		},
	}
	cmd.Flags().StringVar(&reason, "reason", "", "told to the volunteers")
	return cmd
}
