package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"github.com/pelletier/go-toml/v2"
	"github.com/spf13/cobra"

	"github.com/talka-grid/talka/grid"
	"github.com/talka-grid/talka/grid/api"
	"github.com/talka-grid/talka/workunits"
	"github.com/talka-grid/talka/workunits/jobfile"
)

// runOptions is what talka run makes a job file of.
type runOptions struct {
	units        uint32
	inputs       []string
	stdin        string
	memory, time string
	project      string
	out          string
}

func (a *app) runCmd() *cobra.Command {
	var o runOptions
	cmd := &cobra.Command{
		Use: "run PROGRAM [-- ARGS]", Short: "Have volunteers run a program once, and print its output", Args: cobra.ArbitraryArgs,
		Long: "Publish a job of one unit, wait for its verified result and print its standard output.\n" +
			"PROGRAM is a WebAssembly module, a CID, or a Python script (NAME.py). With --units, the\n" +
			"program runs that often and {unit} in ARGS is the number of the run.\n" +
			"Exit code as the program's own where it runs once; 4 if units failed. A job file says more\n" +
			"(talka job new), and talka job try runs on this machine alone.",
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return usage("usage: %s", cmd.UseLine())
			}
			return a.runProgram(cmd.Context(), args[0], args[1:], o)
		},
	}
	flags := cmd.Flags()
	flags.Uint32Var(&o.units, "units", 1, "how often it runs")
	flags.StringArrayVar(&o.inputs, "input", nil, "file or folder, or NAME=PATH, that it finds in its tree; may be repeated")
	flags.StringVar(&o.stdin, "stdin", "", "name of the input that it reads as standard input")
	flags.StringVar(&o.memory, "memory", "256MiB", "memory that it may have")
	flags.StringVar(&o.time, "time", "10m", "time that a run may take")
	flags.StringVar(&o.project, "project", "", "name of the project (default: the only one of this node)")
	flags.StringVarP(&o.out, "output", "o", "", "write all results into this folder, and print nothing")
	return cmd
}

func (a *app) runProgram(ctx context.Context, program string, args []string, o runOptions) error {
	text, err := o.jobFile(program, args)
	if err != nil {
		return err
	}
	// Paths are relative to the folder that the command runs in, as in a job file that
	// lies there.
	const file = "talka run"
	f, err := jobfile.Parse(file, text)
	if err != nil {
		return &exitErr{exitUsage, err}
	}
	c, id, err := a.publish(ctx, file, text, f, o.project, time.Minute)
	if err != nil {
		return err
	}
	a.note("job %s", id)
	info, err := a.waitJob(ctx, c, id)
	if err != nil {
		return fmt.Errorf("the job goes on without this command (talka job watch %s): %w", id, err)
	}
	switch {
	case o.out != "":
		err = a.fetchDir(ctx, c, id, o.out)
	case a.json:
		err = a.showResults(ctx, c, info)
	default:
		err = a.fetchCat(ctx, c, id, "")
	}
	if err != nil {
		return err
	}
	return a.programEnd(ctx, c, id, o.units)
}

// showResults prints a job with its results, of which large files stay in the store.
func (a *app) showResults(ctx context.Context, c *api.Client, info grid.JobInfo) error {
	all := struct {
		Job     grid.JobInfo `json:"job"`
		Results []api.Result `json:"results"`
	}{info, []api.Result{}}
	if err := c.Results(ctx, info.Job, func(r api.Result) error { all.Results = append(all.Results, r); return nil }); err != nil {
		return err
	}
	return errors.Join(a.writeJSON(a.out, all), ended(info))
}

// programEnd gives the command the exit code of a program that ran once.
func (a *app) programEnd(ctx context.Context, c *api.Client, id workunits.JobID, units uint32) error {
	if units != 1 {
		return nil
	}
	return c.Results(ctx, id, func(r api.Result) error {
		switch {
		case r.Failed || r.How == string(workunits.Exited) && r.Code == 0:
			return nil
		case r.How == string(workunits.Exited):
			return &exitErr{int(r.Code), fmt.Errorf("the program ended with exit code %d", r.Code)}
		case r.How == string(workunits.Trapped):
			return &exitErr{exitFailedUnits, errors.New("the program trapped: " + r.Trap)}
		}
		return &exitErr{exitFailedUnits, errors.New("the program wrote more than its output limit")}
	})
}

var notName = regexp.MustCompile(`[^A-Za-z0-9._-]+`)

// jobFile is the job file of a run.
func (o runOptions) jobFile(program string, args []string) ([]byte, error) {
	name := strings.Trim(notName.ReplaceAllString(strings.TrimSuffix(filepath.Base(program), filepath.Ext(program)), "-"), "-._")
	units := map[string]any{"count": o.units, "args": args}
	if o.stdin != "" {
		units["stdin"] = o.stdin
	}
	job := map[string]any{
		"name": name[:min(len(name), 64)], "program": program, "units": units,
		"limits": map[string]any{"memory": o.memory, "time": o.time},
	}
	if name == "" {
		job["name"] = "run"
	}
	if strings.HasSuffix(program, ".py") {
		job["program"], job["script"] = jobfile.Python, program
	}
	inputs := map[string]string{}
	for _, in := range o.inputs {
		at, path, named := strings.Cut(in, "=")
		if _, err := os.Stat(in); err == nil || !named {
			at, path = filepath.Base(in), in
		}
		if _, twice := inputs[at]; twice {
			return nil, usage("--input %s: there is an input %s already: name it, as other=%s", in, at, path)
		}
		inputs[at] = path
	}
	if len(inputs) > 0 {
		job["inputs"] = inputs
	}
	return toml.Marshal(job)
}
