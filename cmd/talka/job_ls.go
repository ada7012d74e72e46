package main

import (
	"fmt"
	"io"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/talka-grid/talka/grid"
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
						acceptedOf(j.State, j.Units), j.Project.String(),
					})
				}
				table(w, []string{"JOB", "NAME", "STATE", "ACCEPTED", "PROJECT"}, rows)
			})
		},
	}
	atFlag(cmd)
	return cmd
}

// acceptedOf tells how many units of a job are accepted, if that is known.
func acceptedOf(s grid.JobState, u grid.UnitCounts) string {
	if s == grid.JobEnded {
		return "-/" + strconv.Itoa(u.Total)
	}
	return fmt.Sprintf("%d/%d", u.Accepted, u.Total)
}
