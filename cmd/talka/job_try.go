package main

import (
	"context"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"io/fs"
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

// trial is what one unit did on this machine.
type trial struct {
	Unit   uint32                `json:"unit"`
	Units  uint32                `json:"units"`
	How    workunits.OutcomeKind `json:"how"`
	Code   uint32                `json:"code"`
	Trap   string                `json:"trap,omitempty"`
	Output int64                 `json:"output"` // bytes of standard output
	Log    int64                 `json:"log"`    // bytes of standard error that were kept
	Files  []trialFile           `json:"files"`  // in /out, ascending by path
	Wall   float64               `json:"wall"`   // seconds
	CPU    float64               `json:"cpu"`    // seconds
	Memory uint64                `json:"memory"` // bytes of linear memory at the end
	Hours  float64               `json:"hours"`  // processor hours of one copy of every unit, if all are like this one
}

type trialFile struct {
	Path string `json:"path"`
	Size int64  `json:"size"`
}

func (a *app) jobTryCmd() *cobra.Command {
	var unit uint32
	var cat bool
	cmd := &cobra.Command{
		Use: "try FILE", Short: "Execute one unit of a job on this machine, as a volunteer would", Args: argCount(1, 1),
		Long: "Execute one unit of a job file in the sandbox that volunteers use, with the job's limits.\n" +
			"Needs no running node, unless the file names something by CID or the program is python.\n" +
			"Exit code 4 if the program fails; with --cat, the program's own.",
		RunE: func(cmd *cobra.Command, args []string) error {
			if cat && a.json {
				return usage("--cat prints the output alone: leave --json out")
			}
			return a.try(cmd.Context(), args[0], unit, cat)
		},
	}
	cmd.Flags().Uint32Var(&unit, "unit", 0, "number of the unit")
	cmd.Flags().BoolVar(&cat, "cat", false, "print the unit's output alone")
	return cmd
}

func (a *app) try(ctx context.Context, file string, unit uint32, cat bool) error {
	f, text, err := readJobFile(file)
	if err != nil {
		return err
	}
	dir, err := a.dir()
	if err != nil {
		return err
	}
	p := &preparer{app: a, client: api.NewClient(dir), file: file, text: text, data: dir, timeout: time.Minute}
	defer p.clean()
	if err := p.check(f); err != nil {
		return err
	}
	task, units, err := p.task(ctx, f, unit)
	if err != nil {
		return err
	}
	r, err := runTask(ctx, filepath.Join(dir, tryCache), task)
	if err != nil {
		return p.tried(err)
	}
	if cat {
		err = a.cat(r.Stdout)
	} else {
		err = a.showTrial(r, unit, units)
	}
	switch {
	case err != nil:
		return err
	case r.Kind == workunits.Exited && r.Code == 0:
		return nil
	case r.Kind == workunits.Exited && cat:
		return &exitErr{int(r.Code), fmt.Errorf("the program ended with exit code %d", r.Code)}
	case r.Kind == workunits.Exited:
		return &exitErr{exitFailedUnits, fmt.Errorf("the program ended with exit code %d", r.Code)}
	case r.Kind == workunits.Trapped:
		return &exitErr{exitFailedUnits, fmt.Errorf("the program trapped: %s", r.Trap)}
	}
	return &exitErr{exitFailedUnits, p.at("limits.output", usage("more output than the job's limits of %s and %s allow",
		size(int64(f.Limits.Output)), plural(int(f.Limits.Files), "file")))}
}

// runTask executes a task in a pool of its own, whose children reach what the
// task needs alone.
func runTask(ctx context.Context, cache string, t sandbox.Task) (sandbox.Report, error) {
	reads := []string{filepath.Dir(t.Program)}
	for _, in := range t.Inputs {
		info, err := os.Stat(in.Host)
		if err != nil {
			return sandbox.Report{}, err
		}
		folder := in.Host
		if !info.IsDir() {
			folder = filepath.Dir(folder)
		}
		reads = append(reads, folder)
	}
	pool, err := sandbox.New(sandbox.Config{CacheDir: cache, Reads: reads, Writes: []string{t.Dir}, Slots: 1})
	if err != nil {
		return sandbox.Report{}, err
	}
	r, err := pool.Run(ctx, t, nil)
	return r, errors.Join(err, pool.Close())
}

// tried says which line of the job file bounds what made a run void.
func (p *preparer) tried(err error) error {
	var v *sandbox.Void
	if errors.As(err, &v) && (v.Reason == workunits.VoidWall || v.Reason == workunits.VoidCPU) {
		return p.at("limits.time", usage("%w: raise the limit, or make units smaller", err))
	}
	return err
}

// task is one unit of a job from the files of this machine, and the number of
// units. Its seed differs from that of any job, which has no id yet.
func (p *preparer) task(ctx context.Context, f jobfile.File, unit uint32) (t sandbox.Task, units uint32, err error) {
	tmp, err := p.scratch()
	if err != nil {
		return t, 0, err
	}
	t = sandbox.Task{
		Dir: filepath.Join(tmp, "run"), Env: f.Env, Stdin: f.Units.Stdin, Canonical: f.Canonical,
		Limits: sandbox.LimitsOf(f.Limits),
		Seed:   workunits.Sum(workunits.Encode([]any{"try", unit})),
	}
	if t.Program, err = p.sourceOf(ctx, "program", f.Program); err != nil {
		return t, 0, err
	}
	code, err := os.ReadFile(t.Program)
	if err != nil {
		return t, 0, err
	}
	t.ProgramID = workunits.Sum(code)
	for _, in := range f.Inputs {
		host, err := p.sourceOf(ctx, inputField(f, in), in.Source)
		if err != nil {
			return t, 0, err
		}
		t.Inputs = append(t.Inputs, sandbox.Input{Path: in.Path, Host: host})
	}
	var row map[string]string
	units = f.Units.Count
	switch u := f.Units; {
	case u.Table != "":
		row, units, err = p.row(ctx, f, unit)
	case u.Split != nil:
		var piece sandbox.Input
		piece, units, err = p.piece(ctx, u.Split, filepath.Join(tmp, "pieces"), unit)
		t.Inputs = append(t.Inputs, piece)
	}
	if err != nil {
		return t, 0, err
	}
	if unit >= units {
		return t, 0, usage("--unit %d: the job's units are 0 to %d", unit, units-1)
	}
	f.Units.Count, f.Units.Args = units, f.Args()
	t.Args, err = f.UnitArgs(int(unit), row)
	return t, units, err
}

// sourceOf is the path of what a field names.
func (p *preparer) sourceOf(ctx context.Context, field, name string) (string, error) {
	src, err := p.find(field, name)
	if err != nil {
		return "", err
	}
	return p.local(ctx, field, src)
}

// row reads a unit's row of the table, and counts the rows.
func (p *preparer) row(ctx context.Context, f jobfile.File, unit uint32) (map[string]string, uint32, error) {
	path, err := p.sourceOf(ctx, "units.table", f.Units.Table)
	if err != nil {
		return nil, 0, err
	}
	units, err := checkTable(f, path)
	if err != nil || unit >= units {
		return nil, units, p.at("units.table", err)
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
func (p *preparer) piece(ctx context.Context, s *jobfile.Split, folder string, unit uint32) (sandbox.Input, uint32, error) {
	path, err := p.sourceOf(ctx, "units.split", s.Source)
	if err != nil {
		return sandbox.Input{}, 0, err
	}
	units, err := split(path, folder, s.By, s.Size, maxPieces)
	return sandbox.Input{Path: s.Path, Host: filepath.Join(folder, fmt.Sprint(unit))}, units, p.at("units.split", err)
}

func (a *app) cat(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = io.Copy(a.out, f)
	return err
}

func (a *app) showTrial(r sandbox.Report, unit, units uint32) error {
	t := trial{
		Unit: unit, Units: units, How: r.Kind, Code: r.Code, Trap: r.Trap, Files: []trialFile{},
		Wall: r.Wall.Seconds(), CPU: r.CPU.Seconds(), Memory: r.PeakMemory, Hours: r.CPU.Hours() * float64(units),
	}
	for path, n := range map[string]*int64{r.Stdout: &t.Output, r.Stderr: &t.Log} {
		info, err := os.Stat(path)
		if err != nil {
			return err
		}
		*n = info.Size()
	}
	err := filepath.WalkDir(r.Out, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		name, err := filepath.Rel(r.Out, path)
		t.Files = append(t.Files, trialFile{filepath.ToSlash(name), info.Size()})
		return err
	})
	if err != nil {
		return err
	}
	return a.show(t, func(w io.Writer) { trialFields(w, t) })
}

func trialFields(w io.Writer, t trial) {
	how := fmt.Sprintf("exit code %d", t.Code)
	if t.How != workunits.Exited {
		how = string(t.How) + " " + t.Trap
	}
	fields(w,
		"unit", fmt.Sprintf("%d of %d", t.Unit, t.Units),
		"end", how,
		"output", size(t.Output),
		"log", size(t.Log),
		"time", fmt.Sprintf("%.2f s, %.2f s of processor time", t.Wall, t.CPU),
		"memory", size(int64(t.Memory)),
		"whole job", fmt.Sprintf("%.3g processor hours for one copy of every unit", t.Hours),
	)
	if t.How == workunits.Exited && t.Code == 0 {
		fields(w, "enough", t.enough())
	}
	for _, f := range t.Files {
		fmt.Fprintf(w, "file: %s (%s)\n", line(f.Path), size(f.Size))
	}
}

// enough suggests limits for the job file: twice the memory that the unit took,
// and five times its time, as other units and machines differ.
func (t trial) enough() string {
	const mib = 1 << 20
	return fmt.Sprintf(`memory = "%dMiB", time = "%ds"`, min(max(1, (2*t.Memory+mib-1)/mib), workunits.MaxMemory/mib), max(1, int(5*t.Wall+1)))
}
