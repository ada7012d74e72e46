package main

import (
	"context"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/talka-grid/talka/grid/api"
	"github.com/talka-grid/talka/workunits"
	"github.com/talka-grid/talka/workunits/jobfile"
	"github.com/talka-grid/talka/workunits/sandbox"
)

// tryCache holds the modules that tries compiled, so that the next one need not.
// It is not the node's, which may be running.
const tryCache = "try-cache"

func (a *app) jobTryCmd() *cobra.Command {
	var (
		unit, reduce uint32
		cat          bool
	)
	cmd := &cobra.Command{
		Use: "try FILE", Short: "Execute one unit of a job on this machine, as a volunteer would", Args: argCount(1, 1),
		Long: "Execute one unit of a job file in the sandbox that volunteers use, with the job's limits.\n" +
			"Needs no running node: what the file names by CID, and the Python interpreter, come from\n" +
			"the node's store if it does not run.\n" +
			"Exit code 4 if the program fails; with --cat, the program's own.",
		RunE: func(cmd *cobra.Command, args []string) error {
			switch {
			case cat && a.json:
				return usage("--cat prints the output alone: leave --json out")
			case cmd.Flags().Changed("reduce") && (reduce == 0 || cmd.Flags().Changed("unit")):
				return usage("--reduce wants a number of units, from 1, and goes without --unit")
			}
			return a.try(cmd.Context(), args[0], unit, reduce, cat)
		},
	}
	cmd.Flags().Uint32Var(&unit, "unit", 0, "number of the unit")
	cmd.Flags().Uint32Var(&reduce, "reduce", 0, "execute so many units, from 0, and then the second stage over their results")
	cmd.Flags().BoolVar(&cat, "cat", false, "print the output alone")
	return cmd
}

func (a *app) try(ctx context.Context, file string, unit, reduce uint32, cat bool) error {
	f, text, err := readJobFile(file)
	if err != nil {
		return err
	}
	dir, err := a.dir()
	if err != nil {
		return err
	}
	t := &trier{preparer: &preparer{app: a, client: api.NewClient(dir), file: file, text: text, data: dir, timeout: time.Minute, offline: true}}
	defer t.clean()
	if err := t.check(f); err != nil {
		return err
	}
	var r sandbox.Report
	if reduce > 0 {
		r, err = t.second(ctx, f, reduce)
	} else {
		r, err = t.unit(ctx, f, unit)
	}
	if err != nil {
		return err
	}
	if cat {
		err = a.cat(r.Stdout)
	} else {
		var shown trial
		if shown, err = t.trial(f, r, unit, reduce); err == nil {
			err = a.show(shown, func(w io.Writer) { trialFields(w, shown) })
		}
	}
	if err != nil {
		return err
	}
	return t.verdict(f, r, cat)
}

// longRun is when somebody who waits is told that the unit goes on.
const longRun = 20 * time.Second

// trier executes units of a job file here.
type trier struct {
	*preparer
	units  uint32 // of the job, once one was executed
	pieces uint32 // of what the job splits, once it is
	runs   int
}

// unit executes a unit of the first stage.
func (t *trier) unit(ctx context.Context, f jobfile.File, unit uint32) (sandbox.Report, error) {
	task, err := t.task(ctx, f, unit)
	if err != nil {
		return sandbox.Report{}, err
	}
	r, err := t.run(ctx, task)
	if err != nil {
		return r, t.voided(fmt.Errorf("unit %d: %w", unit, err))
	}
	return r, nil
}

// second executes the second stage over the results of the first units.
func (t *trier) second(ctx context.Context, f jobfile.File, units uint32) (r sandbox.Report, err error) {
	if f.Reduce == nil {
		return r, usage("%s has no [reduce]: leave --reduce out", t.file)
	}
	tmp, err := t.scratch()
	if err != nil {
		return r, err
	}
	for unit := range units {
		if r, err = t.unit(ctx, f, unit); err != nil {
			return r, err
		}
		if err := layOutTrial(filepath.Join(tmp, filepath.FromSlash(workunits.StageFolder(unit))), r); err != nil {
			return r, err
		}
		t.app.note("unit %d: %s", unit, ending(r))
	}
	task := t.base(f, units)
	task.Args = f.Reduce.Args
	task.Inputs = []sandbox.Input{{Path: workunits.StageTop, Host: filepath.Join(tmp, workunits.StageTop)}}
	if err = t.load(ctx, &task, "reduce.program", f.Reduce.Program); err != nil {
		return r, err
	}
	if r, err = t.run(ctx, task); err != nil {
		return r, t.voided(fmt.Errorf("second stage: %w", err))
	}
	return r, nil
}

// layOutTrial moves a unit's result to where the second stage finds it.
func layOutTrial(folder string, r sandbox.Report) error {
	if err := os.MkdirAll(folder, 0o700); err != nil {
		return err
	}
	out, stdout := filepath.Join(folder, "out"), filepath.Join(folder, "stdout")
	o := workunits.Outcome{How: r.Kind, Code: r.Code, Trap: r.Trap}
	if err := os.WriteFile(filepath.Join(folder, "status"), []byte(o.Status()), 0o600); err != nil {
		return err
	}
	if r.Kind == workunits.OutputLimit { // of which nothing is kept
		return errors.Join(os.Mkdir(out, 0o700), os.WriteFile(stdout, nil, 0o600))
	}
	return errors.Join(os.Rename(r.Out, out), os.Rename(r.Stdout, stdout))
}

// run executes a task in a pool of its own. Its child does not step behind everything
// else as a volunteer's do: somebody is waiting.
func (t *trier) run(ctx context.Context, task sandbox.Task) (sandbox.Report, error) {
	tmp, err := t.scratch()
	if err != nil {
		return sandbox.Report{}, err
	}
	t.runs++
	task.Dir = filepath.Join(tmp, fmt.Sprint("run-", t.runs))
	pool, err := sandbox.New(sandbox.Config{CacheDir: filepath.Join(t.data, tryCache), Slots: 1})
	if err != nil {
		return sandbox.Report{}, err
	}
	slow := time.AfterFunc(time.Second, func() {
		if len(pool.Compiling()) > 0 {
			t.app.note("compiling the program for this machine, which happens once")
		}
	})
	defer slow.Stop()
	var long *time.Timer
	r, err := pool.Run(ctx, task, func(int) {
		long = time.AfterFunc(longRun, func() {
			t.app.note("the unit is running for %v now; its limit is %v, and Ctrl-C ends it", longRun, task.Limits.Wall)
		})
	})
	if long != nil {
		long.Stop()
	}
	return r, errors.Join(err, pool.Close())
}

// base is a task without its program, arguments and inputs. Its seed differs from
// that of any job, which has no id yet.
func (t *trier) base(f jobfile.File, unit uint32) sandbox.Task {
	return sandbox.Task{
		Env: f.Env, Canonical: f.Canonical, Limits: sandbox.LimitsOf(f.Limits),
		Seed: workunits.Sum(workunits.Encode([]any{"try", unit})),
	}
}

// load brings a task's program here.
func (t *trier) load(ctx context.Context, task *sandbox.Task, field, program string) (err error) {
	if task.Program, err = t.sourceOf(ctx, field, program); err != nil {
		return bringPython(program, err)
	}
	code, err := os.ReadFile(task.Program)
	if err != nil {
		return err
	}
	task.ProgramID = workunits.Sum(code)
	return nil
}

// task is one unit of a job from the files of this machine.
func (t *trier) task(ctx context.Context, f jobfile.File, unit uint32) (task sandbox.Task, err error) {
	tmp, err := t.scratch()
	if err != nil {
		return task, err
	}
	task = t.base(f, unit)
	task.Stdin = f.Units.Stdin
	if err := t.load(ctx, &task, "program", f.Program); err != nil {
		return task, err
	}
	for _, in := range f.Inputs {
		host, err := t.sourceOf(ctx, inputField(f, in), in.Source)
		if err != nil {
			return task, err
		}
		task.Inputs = append(task.Inputs, sandbox.Input{Path: in.Path, Host: host})
	}
	var row map[string]string
	t.units = f.Units.Count
	switch u := f.Units; {
	case u.Table != "":
		row, t.units, err = t.row(ctx, f, unit)
	case u.Split != nil:
		var piece sandbox.Input
		piece, t.units, err = t.piece(ctx, u.Split, filepath.Join(tmp, "pieces"), unit)
		task.Inputs = append(task.Inputs, piece)
	}
	if err != nil {
		return task, err
	}
	if unit >= t.units {
		return task, usage("unit %d: the job's units are 0 to %d", unit, t.units-1)
	}
	f.Units.Count, f.Units.Args = t.units, f.Args()
	task.Args, err = f.UnitArgs(int(unit), row)
	return task, err
}

// sourceOf is the path of what a field names.
func (t *trier) sourceOf(ctx context.Context, field, name string) (string, error) {
	src, err := t.find(field, name)
	if err != nil {
		return "", err
	}
	return t.local(ctx, field, src)
}

// row reads a unit's row of the table, and counts the rows.
func (t *trier) row(ctx context.Context, f jobfile.File, unit uint32) (map[string]string, uint32, error) {
	path, err := t.sourceOf(ctx, "units.table", f.Units.Table)
	if err != nil {
		return nil, 0, err
	}
	units, err := checkTable(f, path)
	if err != nil || unit >= units {
		return nil, units, t.at("units.table", err)
	}
	file, err := os.Open(path)
	if err != nil {
		return nil, 0, err
	}
	defer file.Close()
	r := csv.NewReader(file)
	head, err := r.Read()
	record := head
	for n := uint32(0); n <= unit && err == nil; n++ {
		record, err = r.Read()
	}
	if err != nil {
		return nil, 0, err
	}
	row := make(map[string]string, len(head))
	for i, c := range head {
		row[c] = record[i]
	}
	return row, units, nil
}

// piece cuts what the job splits, and counts the pieces.
func (t *trier) piece(ctx context.Context, s *jobfile.Split, folder string, unit uint32) (sandbox.Input, uint32, error) {
	path, err := t.sourceOf(ctx, "units.split", s.Source)
	if err != nil {
		return sandbox.Input{}, 0, err
	}
	if t.pieces == 0 {
		if t.pieces, err = split(path, folder, s.By, s.Size, maxPieces); err != nil {
			return sandbox.Input{}, 0, t.at("units.split", err)
		}
	}
	return sandbox.Input{Path: s.Path, Host: filepath.Join(folder, fmt.Sprint(unit))}, t.pieces, nil
}
