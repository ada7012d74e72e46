package main

import (
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/talka-grid/talka/grid"
)

func (a *app) jobLogsCmd() *cobra.Command {
	unit := int64(-1)
	cmd := &cobra.Command{
		Use: "logs JOB", Short: "Show what units of a job wrote on standard error", Args: argCount(1, 1),
		Long: "Show what units of a job wrote on standard error, as far as limits.log lets it be kept. It is\n" +
			"no part of a result: the nodes that execute a copy keep it for a while, the newest of each\n" +
			"unit. This shows what is kept here; with --unit, and on the node of the job's publisher, also\n" +
			"what the unit's volunteers show that can be reached (its last 64 KiB).\n" +
			"Exit code 12 if there is nothing.",
		RunE: func(cmd *cobra.Command, args []string) error {
			c, id, err := a.ofJob(args[0])
			if err != nil {
				return err
			}
			var one *uint32
			if cmd.Flags().Changed("unit") {
				u, err := unitNumber(unit)
				if err != nil {
					return err
				}
				one = &u
			}
			return c.Logs(cmd.Context(), id, one, func(l grid.CopyLog) error {
				return a.show(l, func(w io.Writer) {
					passage(w, fmt.Sprintf("unit %d, %s, by %s on %s", l.Unit, line(l.How), who(l.Node), clock(l.Time)), l.Text, int64(len(l.Text)))
				})
			})
		},
	}
	unitFlag(cmd, &unit)
	cmd.Flag("unit").Usage = "of this unit, from 0"
	return cmd
}
