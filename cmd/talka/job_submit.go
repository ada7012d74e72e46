package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/talka-grid/talka/grid/api"
	"github.com/talka-grid/talka/workunits"
	"github.com/talka-grid/talka/workunits/jobfile"
)

func (a *app) jobSubmitCmd() *cobra.Command {
	var wait bool
	var project string
	var timeout time.Duration
	cmd := &cobra.Command{
		Use: "submit FILE", Short: "Publish a job", Args: argCount(1, 1),
		Long: "Publish the job that a file describes (talka job new writes an example).\n" +
			"Prints the job's id once other stewards hold it, where there are any.",
		RunE: func(cmd *cobra.Command, args []string) error {
			if timeout <= 0 {
				return usage("--timeout: want a time above zero")
			}
			return a.submit(cmd.Context(), args[0], project, timeout, wait)
		},
	}
	cmd.Flags().BoolVar(&wait, "wait", false, "wait for the end of the job; exit code 4 if units failed")
	cmd.Flags().StringVar(&project, "project", "", "name of the project (default: the only one of this node)")
	cmd.Flags().DurationVar(&timeout, "timeout", time.Minute, "give up on content that the file names by CID after this long without progress")
	return cmd
}

func (a *app) submit(ctx context.Context, file, project string, timeout time.Duration, wait bool) error {
	f, text, err := readJobFile(file)
	if err != nil {
		return err
	}
	c, id, err := a.publish(ctx, file, text, f, project, timeout)
	if err != nil {
		return err
	}
	if !wait {
		return a.showJob(id)
	}
	return a.submitWait(ctx, c, id)
}

// publish puts what a job file names into the node's store and publishes the job.
func (a *app) publish(ctx context.Context, file string, text []byte, f jobfile.File, project string, timeout time.Duration) (c *api.Client, id workunits.JobID, err error) {
	dir, err := a.dir()
	if err != nil {
		return nil, id, err
	}
	c = api.NewClient(dir)
	p := &preparer{app: a, client: c, file: file, text: text, data: dir, timeout: timeout}
	defer p.clean()
	if err := p.check(f); err != nil { // needs no node
		return nil, id, err
	}
	if project, err = ownProject(ctx, c, project); err != nil {
		return nil, id, err
	}
	m, err := p.manifest(ctx, f)
	if err != nil {
		return nil, id, err
	}
	m.Project = project
	id, err = c.Submit(ctx, m, func(s string) { a.note("%s", s) })
	return c, id, err
}

func (a *app) showJob(id workunits.JobID) error {
	return a.show(map[string]string{"job": id.String()}, func(w io.Writer) {
		_, _ = io.WriteString(w, id.String()+"\n")
	})
}

func (a *app) submitWait(ctx context.Context, c *api.Client, id workunits.JobID) error {
	if !a.json {
		if err := a.showJob(id); err != nil {
			return err
		}
	}
	return a.follow(ctx, c, id)
}

// follow waits for the end of a job and shows it.
func (a *app) follow(ctx context.Context, c *api.Client, id workunits.JobID) error {
	info, err := a.waitJob(ctx, c, id)
	if err != nil {
		return fmt.Errorf("the job goes on without this command (talka job watch %s): %w", id, err)
	}
	if err := a.show(info, func(w io.Writer) { jobFields(w, info) }); err != nil {
		return err
	}
	return ended(info)
}

// readJobFile reads a job file and returns its text too; what is wrong with it
// is a usage error.
func readJobFile(file string) (job jobfile.File, text []byte, err error) {
	f, err := os.Open(file)
	if err != nil {
		return job, nil, &exitErr{exitUsage, err}
	}
	defer f.Close()
	text, err = io.ReadAll(io.LimitReader(f, jobfile.MaxFile+1)) // Parse refuses more
	if err != nil {
		return job, nil, err
	}
	if job, err = jobfile.Parse(file, text); err != nil {
		return job, nil, &exitErr{exitUsage, err}
	}
	return job, text, nil
}

// ownProject is the project to publish in: the one asked for, or the only one.
func ownProject(ctx context.Context, c *api.Client, name string) (string, error) {
	projects, err := c.Projects(ctx)
	if err != nil {
		return "", err
	}
	var own []string
	for _, p := range projects {
		if p.Own {
			own = append(own, p.Project.Name)
		}
		if p.Own && p.Project.Name == name {
			return name, nil
		}
	}
	switch {
	case name != "":
		return "", usage("no project %q on this node: make it with talka project new %s", name, name)
	case len(own) == 0:
		return "", usage("this node has no project yet: make one with talka project new NAME")
	case len(own) > 1:
		return "", usage("this node has several projects: choose with --project %s", strings.Join(own, " or "))
	}
	return own[0], nil
}
