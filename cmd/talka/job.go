package main

import (
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/talka-grid/talka/grid"
	"github.com/talka-grid/talka/workunits"
)

func (a *app) jobCmd() *cobra.Command {
	cmd := group("job", "Publish jobs, follow them and fetch their results")
	cmd.AddCommand(
		a.jobNewCmd(), a.jobTryCmd(), a.jobSubmitCmd(), a.jobListCmd(), a.jobShowCmd(),
		a.jobWatchCmd(), a.jobFetchCmd(), a.jobExportCmd(), a.jobAuditCmd(), a.jobCancelCmd(),
	)
	return cmd
}

func parseJob(s string) (workunits.JobID, error) {
	id, err := workunits.ParseJobID(s)
	if err != nil {
		return id, usage("%v", err)
	}
	return id, nil
}

// jobFields writes what is known of a job.
func jobFields(w io.Writer, j grid.JobInfo) {
	var stewards []string
	for _, s := range j.Stewards {
		stewards = append(stewards, who(s))
	}
	settled := ""
	if j.Settled {
		settled = ", settled"
	}
	units := fmt.Sprintf("%d: %d accepted, %d running, %d open, %d failed",
		j.Units.Total, j.Units.Accepted, j.Units.Running, j.Units.Open, j.Units.Failed)
	if j.Reduce != "" {
		units += "; second stage " + string(j.Reduce)
	}
	fields(w,
		"job", j.Job.String(),
		"name", j.Name,
		"project", j.Project.String(),
		"state", string(j.State)+settled,
		"units", units,
		"copies", fmt.Sprintf("%d (%.2f for an accepted unit) by %s, %d leases expired",
			j.Copies, j.CopiesPerAccepted, plural(j.Volunteers, "volunteer"), j.Expired),
		"stewards", strings.Join(stewards, " "),
		"wrong results", j.Bound,
	)
	if r := j.Read; r != nil {
		fmt.Fprintf(w, "read from %s; %s did not answer, %s missing\n",
			plural(len(r.From), "node"), plural(len(r.Silent), "node"), plural(int(r.Missing), "statement"))
	}
	for _, f := range j.Faults {
		fmt.Fprintf(w, "fault: %s by %s (%s)\n", line(string(f.Name)), who(f.Node), plural(f.Units, "unit"))
	}
}

// ended turns how a job ended into the command's end.
func ended(j grid.JobInfo) error {
	switch j.State {
	case grid.JobFailed:
		if j.Units.Failed == 0 {
			return &exitErr{exitFailedUnits, errors.New("the second stage failed")}
		}
		return &exitErr{exitFailedUnits, fmt.Errorf("%s of %d failed", plural(j.Units.Failed, "unit"), j.Units.Total)}
	case grid.JobCancelled:
		return fmt.Errorf("job %s was cancelled", j.Job)
	case grid.JobRunning, grid.JobDone:
	}
	return nil
}
