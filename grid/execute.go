package grid

import (
	"cmp"
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/talka-grid/talka/grid/volunteer"
	"github.com/talka-grid/talka/workunits"
	"github.com/talka-grid/talka/workunits/sandbox"
)

// inputTime bounds the wait for a unit's program and inputs; those of a second
// stage are as many as its job has units.
const (
	inputTime = 5 * time.Minute
	stageTime = 50 * time.Millisecond // more for each
)

// Executor runs copies; *sandbox.Pool is one.
type Executor interface {
	Run(ctx context.Context, t sandbox.Task, started func(pid int)) (sandbox.Report, error)
	Pause()
	Resume()
	SetPercent(percent int) // of its time that each copy may work; 0: all
	Compiling() []sandbox.Compiling
}

// execute starts a copy; the volunteer machine hears how it ended.
func (n *Node) execute(r volunteer.Run) {
	j := n.jobs[r.Job]
	ctx, cancel := context.WithCancel(n.ctx)
	e := &execution{cancel: cancel, began: time.Now()}
	if n.runs[r.Task] = e; len(n.runs) == 1 {
		n.senseSoon()
	}
	manifest := j.manifest
	n.wait.Go(func() {
		defer cancel()
		f := n.run(ctx, manifest, r, func(pid int, checkpoint string) { n.post(func() { n.started(e, pid, checkpoint) }) })
		n.post(func() {
			delete(n.runs, r.Task)
			n.efforts.add(time.Now(), f.Millis)
			n.tellHeld(j)
			if f.Void != "" {
				n.events.add(Event{Kind: "void copy", Job: r.Job, Node: n.self, Unit: r.Unit, Text: string(f.Void)})
			}
			n.stepVolunteer(f)
		})
	})
	n.events.add(Event{Kind: "started", Job: r.Job, Node: n.self, Unit: r.Unit})
}

// execution is a copy that is executed here. Its process is 0 until it has one.
type execution struct {
	cancel context.CancelFunc
	began  time.Time
	pid    int
	before time.Duration // that the process had used

	checkpoint string        // folder of what it saves; empty: it saves nothing
	saved      time.Time     // when it last did in this run
	safe       time.Duration // that the process had used then
}

// started notes the process of a copy, and where it saves its state.
func (n *Node) started(e *execution, pid int, checkpoint string) {
	e.checkpoint = checkpoint
	if n.cfg.Sensors != nil {
		e.pid, e.before = pid, n.meter.begin(pid, n.cfg.Sensors.Used)
	}
}

// Execution is a copy that is executed here now.
type Execution struct {
	Job  workunits.JobID `json:"job"`
	Name string          `json:"name"` // of the job
	Unit uint32          `json:"unit"`
	Wall float64         `json:"wall"` // seconds since it was begun
	CPU  float64         `json:"cpu"`  // processor seconds; 0 where the system does not tell
	Lost float64         `json:"lost"` // of them, those since it last saved its state: to end it now loses them
}

// executions are the copies executed here, the oldest first.
func (n *Node) executions(now time.Time) []Execution {
	list := make([]Execution, 0, len(n.runs))
	for task, e := range n.runs {
		x := Execution{Job: task.Job, Unit: task.Unit, Wall: now.Sub(e.began).Seconds()}
		if j := n.jobs[task.Job]; j != nil {
			x.Name = j.manifest.Name
		}
		if cpu, ok := n.meter.used[e.pid]; ok {
			x.CPU, x.Lost = max(cpu-e.before, 0).Seconds(), max(cpu-max(e.before, e.safe), 0).Seconds()
		}
		list = append(list, x)
	}
	slices.SortFunc(list, func(x, y Execution) int {
		return cmp.Or(cmp.Compare(y.Wall, x.Wall), cmp.Compare(x.Unit, y.Unit), strings.Compare(x.Job.String(), y.Job.String()))
	})
	return list
}

// run executes one copy from its inputs to its outcome's record.
func (n *Node) run(ctx context.Context, m workunits.Manifest, r volunteer.Run, started func(pid int, checkpoint string)) volunteer.Finished {
	f := volunteer.Finished{Task: r.Task}
	dir := n.folders.take(r.Job.String())
	defer n.folders.put(r.Job.String(), dir)
	task, err := n.task(ctx, m, r, dir)
	if err != nil {
		n.log.Info("a unit's inputs are missing", "job", r.Job, "unit", r.Unit, "err", err)
		f.Void = workunits.VoidInput
		return f
	}
	report, err := n.resume(ctx, m, r, task, started)
	if err == nil {
		f.Millis = uint64(report.CPU.Milliseconds())
		f.Result, f.Block, err = n.pack(ctx, r.Job, report)
	}
	if err != nil {
		f.Void = voidReason(ctx, err)
	}
	n.logged(r.Job, r.Unit, howEnded(report.Kind, report.Code, report.Trap, f.Void), sandbox.LogFile(task.Dir))
	if err != nil {
		n.log.Info("a copy is void", "job", r.Job, "unit", r.Unit, "reason", f.Void, "err", err)
	}
	return f
}

// resume executes a copy, from where an earlier run of it left off if there is a
// checkpoint. A failure after that may be the checkpoint's, which other machines do
// not have: it counts only if the copy fails from its beginning too.
func (n *Node) resume(ctx context.Context, m workunits.Manifest, r volunteer.Run, t sandbox.Task, started func(pid int, checkpoint string)) (report sandbox.Report, err error) {
	path, resumed, err := n.checkpoints.take(m, r)
	if err != nil {
		return report, err
	}
	defer func() {
		if err := n.checkpoints.put(path); err != nil {
			n.log.Warn("a checkpoint stays behind", "job", r.Job, "unit", r.Unit, "err", err)
		}
	}()
	t.Checkpoint, t.CheckpointRoom = path, n.checkpoints.each()
	runs := func(pid int) {
		if started != nil {
			started(pid, path)
		}
	}
	report, err = n.cfg.Exec.Run(ctx, t, runs)
	if !resumed || err != nil || report.Kind == workunits.Exited && report.Code == 0 {
		return report, err
	}
	if err := errors.Join(os.RemoveAll(path), os.Mkdir(path, 0o700)); err != nil {
		return report, err
	}
	return n.cfg.Exec.Run(ctx, t, runs)
}

// folders lends each running copy a folder below dir for itself alone. They are
// used again, see sandbox.Clear, for copies of the same job where there is one: a warm child
// serves one folder. It is safe for concurrent use.
type folders struct {
	dir   string
	slots int

	mu   sync.Mutex
	made int
	free []folder // the longest free first
}

// folder is one that is not in use, and what it was last used for.
type folder struct{ path, purpose string }

func (f *folders) take(purpose string) string {
	f.mu.Lock()
	defer f.mu.Unlock()
	i := len(f.free) - 1
	for i >= 0 && f.free[i].purpose != purpose {
		i--
	}
	if i < 0 && (len(f.free) == 0 || f.made < f.slots) {
		f.made++
		return filepath.Join(f.dir, strconv.Itoa(f.made))
	}
	i = max(i, 0)
	path := f.free[i].path
	f.free = slices.Delete(f.free, i, i+1)
	return path
}

// put takes a folder back and removes the files of the run in it.
func (f *folders) put(purpose, dir string) {
	if sandbox.Clear(filepath.Join(dir, runFolder)) != nil || os.RemoveAll(filepath.Join(dir, workunits.StageTop)) != nil {
		_ = os.RemoveAll(dir) // and what stays behind goes when the node starts
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.free = append(f.free, folder{dir, purpose})
}

// runFolder is the sandbox's part of a folder.
const runFolder = "run"

func voidReason(ctx context.Context, err error) workunits.VoidReason {
	var v *sandbox.Void
	switch {
	case ctx.Err() != nil:
		return workunits.VoidCancelled
	case errors.As(err, &v):
		return v.Reason
	case errors.Is(err, fs.ErrExist), errors.Is(err, fs.ErrPermission):
		return workunits.VoidDisk
	}
	return workunits.VoidEngine
}

// task gathers what the sandbox needs for a copy.
func (n *Node) task(ctx context.Context, m workunits.Manifest, r volunteer.Run, dir string) (sandbox.Task, error) {
	program, wait := m.Program.Cid, inputTime
	if m.Reduces(r.Unit) {
		program, wait = m.Reduce.Program.Cid, wait+time.Duration(m.Units)*stageTime
	}
	ctx, cancel := context.WithTimeoutCause(ctx, wait, ErrTimeout)
	defer cancel()
	t := sandbox.Task{
		ProgramID: workunits.Sum(program.Bytes()), Dir: filepath.Join(dir, runFolder), Env: m.Env, Canonical: r.Canonical,
		Limits: sandbox.LimitsOf(m.Limits),
		Seed:   workunits.Sum(workunits.Encode([]any{r.Job, r.Unit})),
	}
	err := n.keepInputs(r.Job, m)
	if err != nil {
		return t, err
	}
	if t.Program, err = n.fetch.file(ctx, program, r.Hints, r.Rest); err != nil {
		return t, err
	}
	if m.Reduces(r.Unit) {
		t.Args = m.UnitArgs(r.Unit, nil)
		t.Inputs, err = n.stageInputs(ctx, m, r, dir)
		t.Reads = []string{dir}
		return t, err
	}
	var row map[string]string
	if m.Table != nil {
		path, err := n.fetch.file(ctx, m.Table.Cid, r.Hints, r.Rest)
		if err != nil {
			return t, err
		}
		table, err := rows(path, m.Units)
		if err != nil {
			return t, err
		}
		row = table[r.Unit]
	}
	t.Args, t.Stdin = m.UnitArgs(r.Unit, row), m.Stdin
	for _, in := range m.Inputs {
		fetch := n.fetch.file
		if in.PerUnit {
			fetch = n.fetch.entry(strconv.FormatUint(uint64(r.Unit), 10))
		}
		path, err := fetch(ctx, in.Cid.Cid, r.Hints, r.Rest)
		if err != nil {
			return t, err
		}
		t.Inputs = append(t.Inputs, sandbox.Input{Path: in.Path, Host: path})
		if in.PerUnit {
			path = filepath.Dir(path) // the same for all units, so that one child serves them
		}
		t.Reads = append(t.Reads, path)
	}
	return t, nil
}

// pack turns what a run left on disk into its outcome's record. Files that do not
// fit into the record go to the store, durably, before the result is reported.
func (n *Node) pack(ctx context.Context, id workunits.JobID, report sandbox.Report) (workunits.Result, []byte, error) {
	o := workunits.Outcome{How: report.Kind, Code: report.Code, Trap: report.Trap}
	stored := false
	file := func(path, name string) (workunits.OutFile, error) {
		f, err := n.packFile(ctx, id, path, name)
		stored = stored || f.Cid != nil
		return f, err
	}
	var err error
	if o.How != workunits.OutputLimit { // what was cut off depends on the machine
		if o.Out, err = file(report.Stdout, ""); err != nil {
			return workunits.Result{}, nil, err
		}
		err = filepath.WalkDir(report.Out, func(path string, d fs.DirEntry, err error) error {
			if err != nil || !d.Type().IsRegular() {
				return err
			}
			name, err := filepath.Rel(report.Out, path)
			if err != nil {
				return err
			}
			f, err := file(path, filepath.ToSlash(name))
			o.Files = append(o.Files, f)
			return err
		})
		if err != nil {
			return workunits.Result{}, nil, err
		}
		sortFiles(o.Files)
	}
	block, digest := o.Encode()
	if len(block) > workunits.MaxOutcome || len(o.Files) > workunits.MaxOutFiles {
		block, digest = workunits.Outcome{How: workunits.OutputLimit}.Encode() // the same on every machine
	}
	result := workunits.Result{Digest: digest}
	if len(block) > workunits.MaxInline {
		err = errors.Join(n.cfg.Data.PutRecord(ctx, block), n.withhold(id, workunits.RecordCid(digest)))
		block, stored = nil, true
	}
	if stored {
		err = errors.Join(err, n.cfg.Data.Sync())
	}
	return result, block, err
}

func (n *Node) packFile(ctx context.Context, id workunits.JobID, path, name string) (workunits.OutFile, error) {
	info, err := os.Stat(path)
	if err != nil {
		return workunits.OutFile{}, err
	}
	f := workunits.OutFile{Path: name, Size: uint64(info.Size())}
	if f.Size <= workunits.InlineFile {
		f.Data, err = os.ReadFile(path)
		return f, err
	}
	root, _, _, err := n.cfg.Data.Add(ctx, path, nil)
	if err != nil {
		return f, err
	}
	f.Cid = &workunits.Link{Cid: root}
	return f, n.withhold(id, root)
}

// sortFiles orders files by path, as the record wants it.
func sortFiles(files []workunits.OutFile) {
	slices.SortFunc(files, func(x, y workunits.OutFile) int { return strings.Compare(x.Path, y.Path) })
}
