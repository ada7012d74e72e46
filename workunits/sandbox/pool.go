package sandbox

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/talka-grid/talka/workunits"
)

// Config is how a Pool works.
type Config struct {
	CacheDir string        // of compiled modules; made if missing; may be removed when no pool uses it
	Cache    uint64        // bytes of compiled modules kept, but for the one in use; 0: DefaultCacheSize
	Slots    int           // tasks at once, and children alive; 0: one for each processor
	Engine   string        // one of Engines(); empty: the first
	Command  []string      // starts a process that calls ChildMain; empty: this binary with "sandbox-child"
	Percent  int           // of its time that each child may work at first, 1 to 100; 0: all; without effect on Windows
	Nice     int           // added to the children's niceness, 0 to 19; without effect on Windows
	Groups   bool          // children have control groups of their own, where this process was given one to divide (Linux); it moves to another below
	Idle     time.Duration // after which an idle child is closed; 0: 30 s
	Logger   *slog.Logger  // nil: none
}

// Validate says which field makes no sense.
func (c Config) Validate() error {
	switch {
	case c.CacheDir == "":
		return errors.New("sandbox needs a folder for compiled modules")
	case c.Slots < 0 || c.Nice < 0 || c.Nice > 19 || c.Idle < 0 || c.Percent < 0 || c.Percent > 100:
		return fmt.Errorf("sandbox with %d slots at %d percent, niceness %d, idle time %v", c.Slots, c.Percent, c.Nice, c.Idle)
	case c.Engine != "" && !slices.Contains(Engines(), c.Engine):
		return fmt.Errorf("engine %q is not in this build, which has %v", c.Engine, Engines())
	}
	return nil
}

// Pool runs tasks in child processes.
type Pool struct {
	cfg     Config
	log     *slog.Logger
	ctx     context.Context // ends when the pool is closed
	cancel  context.CancelFunc
	slots   chan struct{}
	modules *moduleCache
	groups  *groups
	wg      sync.WaitGroup

	launched chan struct{} // holds one when a child was started or the percentage changed
	percent  atomic.Int32
	open     bool // no walls around files, for tests to compare

	mu      sync.Mutex
	closed  bool
	paused  bool                 // by the owner
	resting bool                 // between turns of work
	workers map[*worker]struct{} // alive
	idle    []*worker            // the longest idle first
	starts  int                  // children being made ready
}

// New makes a pool. It starts no child yet.
func New(cfg Config) (*Pool, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	if cfg.Slots == 0 {
		cfg.Slots = runtime.NumCPU()
	}
	if cfg.Engine == "" {
		cfg.Engine = Engines()[0]
	}
	if cfg.Idle == 0 {
		cfg.Idle = 30 * time.Second
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	var err error
	if len(cfg.Command) == 0 {
		if cfg.Command, err = ownCommand(); err != nil {
			return nil, err
		}
	}
	if cfg.CacheDir, err = filepath.Abs(cfg.CacheDir); err != nil {
		return nil, err
	}
	modules, err := openModules(cfg.CacheDir, cfg.Cache)
	if err != nil {
		return nil, err
	}
	p := &Pool{
		modules: modules,
		cfg:     cfg, log: cfg.Logger, slots: make(chan struct{}, cfg.Slots), launched: make(chan struct{}, 1),
		workers: map[*worker]struct{}{},
	}
	if cfg.Groups {
		if p.groups, err = openGroups(); err != nil {
			p.log.Debug("children have no control groups", "error", err)
		}
	}
	p.ctx, p.cancel = context.WithCancel(context.Background())
	p.percent.Store(int32(cfg.Percent))
	p.wg.Go(p.keepDuty)
	return p, nil
}

// Engine is the engine that programs run with.
func (p *Pool) Engine() string { return p.cfg.Engine }

// Close kills all children and waits for them. Runs under way return.
func (p *Pool) Close() error {
	p.mu.Lock()
	p.closed = true
	p.mu.Unlock()
	p.cancel()
	p.wg.Wait()
	return nil
}

// Pause stops all children where they are, those included that start later.
func (p *Pool) Pause() { p.setPaused(true) }

// Resume lets them go on.
func (p *Pool) Resume() { p.setPaused(false) }

func (p *Pool) setPaused(paused bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.paused = paused
	if err := p.pauseAll(paused || p.resting); err != nil {
		p.log.Warn("children cannot be paused", "error", err)
	}
}

// Run performs one task and reports what the unit did. It waits for a free slot
// and calls started, if not nil, with the child's process id when the task is
// handed over. When ctx ends the child is killed at once.
//
// The error is a *Void if the copy is void; ErrCanonical, ErrClosed, ctx's
// error while it waits, or about the task itself, if nothing was run. Task.Dir
// belongs to the caller afterwards, for other runs too.
func (p *Pool) Run(ctx context.Context, t Task, started func(pid int)) (Report, error) {
	if err := t.validate(); err != nil {
		return Report{}, err
	}
	if t.Canonical && p.cfg.Engine != Wasmtime {
		return Report{}, ErrCanonical
	}
	t.Limits = t.Limits.withDefaults()
	if !p.enter() {
		return Report{}, ErrClosed
	}
	defer p.wg.Done()
	select {
	case p.slots <- struct{}{}:
		defer func() { <-p.slots }()
	case <-ctx.Done():
		return Report{}, context.Cause(ctx)
	case <-p.ctx.Done():
		return Report{}, ErrClosed
	}
	order, err := prepare(&t)
	if err != nil {
		return Report{}, err
	}
	f, k, err := p.ready(t)
	if err != nil {
		return Report{}, err
	}
	defer func() {
		if err := errors.Join(empty(filepath.Join(t.Dir, scratchName)), empty(filepath.Join(t.Dir, checkpointName))); err != nil {
			p.log.Warn("files of a run stay behind", "error", err)
		}
	}()
	w, err := p.take(ctx, t.Program, f, k)
	if err != nil {
		return Report{}, p.explain(err)
	}
	g := guard{limits: t.Limits, memory: t.Limits.Memory + memoryOverhead, dir: t.Dir, checkpoint: order.Checkpoint}
	answer, err := w.run(ctx, order, g, func() {
		if started != nil {
			started(w.cmd.Process.Pid)
		}
	})
	wall := w.elapsed()
	if err != nil {
		p.drop(w)
		return Report{}, p.explain(err)
	}
	if answer.Void != "" && answer.Void != workunits.VoidStack {
		p.drop(w) // another one may do better
	} else {
		p.put(w)
	}
	if answer.Void != "" {
		return Report{}, &Void{Reason: answer.Void, Detail: answer.Detail}
	}
	return Report{
		Kind: answer.Kind, Code: answer.Code, Trap: answer.Trap,
		Stdout: filepath.Join(t.Dir, stdoutName), Stderr: LogFile(t.Dir), Out: filepath.Join(t.Dir, outName),
		Tally: answer.Tally, Detail: answer.Detail, Refusal: answer.Refusal,
		Wall: wall, CPU: time.Duration(answer.CPU), Instance: time.Duration(answer.Instance), PeakMemory: answer.Memory,
	}, nil
}

// enter counts a Run, so that Close waits for it.
func (p *Pool) enter() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return false
	}
	p.wg.Add(1)
	return true
}

// explain turns the death of all children at Close into ErrClosed.
func (p *Pool) explain(err error) error {
	var void *Void
	if p.ctx.Err() != nil && errors.As(err, &void) && void.Reason == workunits.VoidKilled {
		return &Void{Reason: workunits.VoidCancelled, Cause: ErrClosed}
	}
	return err
}

// prepare says what a child is to run, and makes the run's folder.
func prepare(t *Task) (o runOrder, err error) {
	if t.Dir, err = filepath.Abs(t.Dir); err != nil {
		return o, err
	}
	if t.Program, err = filepath.Abs(t.Program); err != nil {
		return o, err
	}
	o = runOrder{
		Args: t.Args, Env: t.Env, Stdin: t.Stdin, Dir: t.Dir, Checkpoint: t.Checkpoint, Room: t.CheckpointRoom,
		Output: t.Limits.Output, Files: t.Limits.Files, File: t.Limits.File, Calls: t.Limits.Calls, Log: t.Limits.Log, Scratch: t.Limits.Scratch, Saved: t.Limits.Saved, Seed: t.Seed,
	}
	for _, in := range t.Inputs {
		o.Inputs = append(o.Inputs, inputOrder{Path: in.Path, Host: in.Host})
	}
	if t.Checkpoint == "" {
		o.Checkpoint = filepath.Join(t.Dir, checkpointName)
	}
	return o, folderError(os.MkdirAll(t.Dir, 0o700))
}

// folderError says what a failure to ready the run's folder means.
func folderError(err error) error {
	if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) {
		return &Void{Reason: workunits.VoidDisk, Detail: err.Error()}
	}
	if err != nil {
		return fmt.Errorf("folder of the run: %w", err)
	}
	return nil
}

// ready makes the run's folder the task's alone.
func (p *Pool) ready(t Task) (f reach, k key, err error) {
	if f, k, err = reachOf(t); err != nil {
		return f, k, err
	}
	p.oust(k)
	return f, k, folderError(Clear(t.Dir))
}

// reachOf is what a task's child reaches, and which children that are warm reach the
// same and can serve it.
func reachOf(t Task) (f reach, k key, err error) {
	f = reach{reads: t.Reads, writes: []string{t.Dir}}
	if f.reads == nil {
		for _, in := range t.Inputs {
			f.reads = append(f.reads, in.Host)
		}
	}
	if t.Checkpoint != "" {
		f.writes = append(f.writes, filepath.Dir(t.Checkpoint))
	}
	k = key{id: t.ProgramID, canonical: t.Canonical, memory: t.Limits.Memory, dir: t.Dir}
	if _, err := identity(t.Program); err != nil {
		return f, k, &Void{Reason: workunits.VoidEngine, Detail: err.Error()}
	}
	if k.reads, err = identities(f.reads); err != nil {
		return f, k, &Void{Reason: workunits.VoidInput, Detail: err.Error()}
	}
	if k.writes, err = identities(f.writes); err != nil {
		return f, k, fmt.Errorf("folder of the run: %w", err)
	}
	f.reads = append([]string{t.Program}, f.reads...)
	return f, k, nil
}

// identities tells files and folders from all others, those included that take their
// place later.
func identities(paths []string) (all string, err error) {
	for _, path := range paths {
		one, err := identity(path)
		if err != nil {
			return "", err
		}
		all += path + "\x00" + one + "\x00"
	}
	return all, nil
}

// oust ends the idle children of other tasks that reach the run's folder.
func (p *Pool) oust(k key) {
	var ousted []*worker
	p.mu.Lock()
	for _, w := range slices.Clone(p.idle) {
		if w.key != k && w.key.dir == k.dir {
			p.closeIdle(w)
			ousted = append(ousted, w)
		}
	}
	p.mu.Unlock()
	for _, w := range ousted {
		<-w.dead
	}
}

// take finds an idle child for the task or starts one, closing another if
// there are as many as slots.
func (p *Pool) take(ctx context.Context, program string, f reach, k key) (*worker, error) {
	p.mu.Lock()
	for i := len(p.idle) - 1; i >= 0; i-- {
		if w := p.idle[i]; w.key == k {
			p.idle = slices.Delete(p.idle, i, i+1)
			w.idle.Stop()
			p.mu.Unlock()
			return w, nil
		}
	}
	for len(p.workers)+p.starts >= p.cfg.Slots && len(p.idle) > 0 {
		p.closeIdle(p.idle[0])
	}
	p.starts++
	p.mu.Unlock()
	defer func() {
		p.mu.Lock()
		p.starts--
		p.mu.Unlock()
	}()
	w, refused, err := p.launch(ctx, program, f, k)
	if refused {
		w, _, err = p.launch(ctx, program, f, k)
	}
	return w, err
}

// launch starts a child and waits until it has loaded its program. refused says
// that its engine did not take the compiled module, which is removed, or that it was
// removed by others.
func (p *Pool) launch(ctx context.Context, program string, f reach, k key) (w *worker, refused bool, err error) {
	m, err := p.compiled(ctx, k, program)
	if err != nil {
		return nil, false, err
	}
	if m.dir != "" {
		f.reads = append(slices.Clone(f.reads), m.dir)
	}
	w, answer, err := p.bear(ctx, f, loadOrder{
		Version: protocolVersion, Engine: p.cfg.Engine, Program: program, Canonical: k.canonical, Memory: k.memory,
		Module: m.dir, MinPages: m.minPages,
	}, k)
	if m.dir != "" && errors.Is(err, errReach) {
		return nil, true, err // another pool may have made the module anew
	}
	if answer.Refused && m.dir != "" {
		p.log.Warn("the engine refuses a compiled module", "program", k.id, "error", answer.Error)
		if rerr := p.modules.remove(moduleName(p.cfg.Engine, k)); rerr != nil {
			p.log.Warn("a compiled module stays behind", "error", rerr)
			return nil, false, err
		}
		return nil, true, err
	}
	return w, false, err
}

// bear starts a child and waits until it has performed its first order.
func (p *Pool) bear(ctx context.Context, f reach, o loadOrder, k key) (*worker, loadAnswer, error) {
	w, stdout, err := p.start(f, k)
	if err != nil {
		return nil, loadAnswer{}, err
	}
	p.mu.Lock()
	p.workers[w] = struct{}{}
	if p.paused || p.resting {
		err = w.pause(true)
	}
	p.mu.Unlock()
	p.look()
	if err != nil {
		p.log.Warn("child cannot be paused", "pid", w.cmd.Process.Pid, "error", err)
	}
	p.wg.Go(func() {
		w.serve(stdout, func() {
			p.mu.Lock()
			defer p.mu.Unlock()
			p.closeIdle(w) // it died unasked
			delete(p.workers, w)
		})
	})
	answer, err := w.load(ctx, o)
	if answer.Walls != "" {
		p.log.Warn("a wall around a child is missing", "error", answer.Walls)
	}
	if err != nil {
		p.drop(w)
		return nil, answer, err
	}
	p.log.Debug("child is ready", "pid", w.cmd.Process.Pid, "program", k.id, "engine", p.cfg.Engine, "took", w.elapsed())
	return w, answer, nil
}

// put makes a child idle.
func (p *Pool) put(w *worker) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(w.bodies) > 0 {
		w.kill(nil) // it spoke unasked, and would be taken at its word
		return
	}
	p.idle = append(p.idle, w)
	w.idle = time.AfterFunc(p.cfg.Idle, func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.closeIdle(w)
	})
}

// closeIdle kills a child if it is idle. The caller holds the lock.
func (p *Pool) closeIdle(w *worker) {
	if i := slices.Index(p.idle, w); i >= 0 {
		p.idle = slices.Delete(p.idle, i, i+1)
		delete(p.workers, w)
		w.idle.Stop()
		w.kill(nil)
	}
}

// drop ends a child that is of no more use.
func (p *Pool) drop(w *worker) {
	w.kill(nil)
	<-w.dead
}
