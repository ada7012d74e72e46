package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/talka-grid/talka/grid"
	"github.com/talka-grid/talka/grid/api"
	"github.com/talka-grid/talka/workunits"
)

func (a *app) jobCmd() *cobra.Command {
	cmd := group("job", "Publish jobs, follow them and fetch their results")
	cmd.AddCommand(
		a.jobNewCmd(), a.jobTryCmd(), a.jobSubmitCmd(), a.jobListCmd(), a.jobShowCmd(),
		a.jobWhyCmd(), a.jobWatchCmd(), a.jobLogsCmd(), a.jobFetchCmd(), a.jobExportCmd(), a.jobImportCmd(), a.jobAuditCmd(), a.jobRetryCmd(), a.jobCancelCmd(),
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

// ofJob is a client of the data directory's node, with the job of an argument.
func (a *app) ofJob(arg string) (*api.Client, workunits.JobID, error) {
	id, err := parseJob(arg)
	if err != nil {
		return nil, id, err
	}
	c, err := a.client()
	return c, id, err
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
	if d := j.Data; d != nil {
		fields(w, "data", dataHealth(*d))
	}
	switch r := j.Read; {
	case r == nil:
	case r.Imported:
		fmt.Fprintln(w, "read from a file that was imported; this node does not look after the job")
	default:
		fmt.Fprintf(w, "read from %s; %s did not answer, %s missing\n",
			plural(len(r.From), "node"), plural(len(r.Silent), "node"), plural(int(r.Missing), "statement"))
	}
	for _, f := range j.Faults {
		fmt.Fprintf(w, "fault: %s by %s (%s)\n", line(string(f.Name)), who(f.Node), plural(f.Units, "unit"))
	}
}

// dataHealth says how a job's data fares.
func dataHealth(d grid.DataHealth) string {
	text := fmt.Sprintf("%s: %s in %s, each with %s or more (%d online); the rarest can be had %.4g %% of the time",
		d.State, size(d.Bytes), plural(d.Objects, "object"), plural(d.Replicas, "replica"), d.Online, 100*d.Available)
	if d.Wanted > 0 {
		text += fmt.Sprintf("; %s to be made, %s at risk", plural(d.Wanted, "replica"), plural(d.AtRisk, "object"))
	}
	return text
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
	case grid.JobEnded:
		return fmt.Errorf("job %s has ended, and no node that looks after it answers how; ask again later", j.Job)
	case grid.JobRunning, grid.JobDone:
	}
	return nil
}

// jobOrLatest reads a job's id, or finds the job with a project's latest results.
func jobOrLatest(ctx context.Context, c *api.Client, s string) (workunits.JobID, error) {
	if !strings.Contains(s, "@") {
		return parseJob(s)
	}
	project, err := workunits.ParseProjectID(s)
	if err != nil {
		return workunits.JobID{}, usage("%v", err)
	}
	d, err := c.Project(ctx, project)
	if err != nil {
		return workunits.JobID{}, err
	}
	if d.Results != nil {
		return d.Results.Job, nil
	}
	if i := slices.IndexFunc(d.Jobs, func(j grid.ProjectJob) bool { return j.Latest }); i >= 0 {
		return d.Jobs[i].Job, nil
	}
	return workunits.JobID{}, &api.Error{Kind: api.KindNotFound, Detail: fmt.Sprintf("project %s: nobody that could be asked knows of results", project)}
}
