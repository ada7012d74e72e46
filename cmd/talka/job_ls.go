package main

import (
	"fmt"
	"io"

	"github.com/spf13/cobra"
)

func (a *app) jobListCmd() *cobra.Command {
	cmd := &cobra.Command{
		Use: "ls", Short: "List the jobs that the node knows", Args: argCount(0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := a.clientAt(cmd)
			if err != nil {
				return err
			}
			jobs, err := c.Jobs(cmd.Context())
			if err != nil {
				return err
			}
			return a.show(jobs, func(w io.Writer) {
				var rows [][]string
				for _, j := range jobs {
					rows = append(rows, []string{
						j.Job.String(), j.Name, string(j.State),
						fmt.Sprintf("%d/%d", j.Units.Accepted, j.Units.Total), j.Project.String(),
					})
				}
				table(w, []string{"JOB", "NAME", "STATE", "ACCEPTED", "PROJECT"}, rows)
			})
		},
	}
	atFlag(cmd)
	return cmd
}
