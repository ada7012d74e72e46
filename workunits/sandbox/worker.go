package sandbox

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"sync"
	"time"

	"github.com/talka-grid/talka/workunits"
)

// key says which tasks one child can serve.
type key struct {
	id            workunits.Digest
	canonical     bool
	memory        uint64
	dir           string // of the run
	reads, writes string // identities of what it reaches
}

// reach is which files and folders a child reaches, beside its own binary.
type reach struct{ reads, writes []string }

// errReach says that something is gone that a child was to reach. One is not started
// without walls for that, as it is where the system has none.
var errReach = errors.New("a child's files are not there")

// worker is the parent's end of one child.
type worker struct {
	key    key
	cmd    *exec.Cmd
	stdin  io.WriteCloser
	bodies chan []byte   // of the child's frames; closed when there are no more
	dead   chan struct{} // closed once the process is gone
	tail   *tail
	group  *group

	idle *time.Timer   // closes it; set while idle
	seen time.Duration // processor time at the pool's last look, see took

	starved bool // the system ended it for its memory; of the dead

	mu     sync.Mutex
	watch  stopwatch // of the order under way
	busy   bool
	paused bool
	reason *Void // why the parent killed it
}

// serve reads frames until the child ends or misbehaves, and reaps it. It calls
// buried before anybody waiting for the death goes on.
func (w *worker) serve(stdout io.Reader, buried func()) {
	in := bufio.NewReader(stdout)
	for polite := true; polite; {
		body, err := readBody(in, maxAnswer)
		if err != nil {
			break
		}
		select {
		case w.bodies <- body:
		default:
			polite = false // it answers before it was asked
		}
	}
	close(w.bodies)
	// A process that went silent is of no use even if it lives.
	w.kill(nil)
	// How it ended is in ProcessState.
	_ = w.cmd.Wait()
	w.starved = w.group.starved()
	w.group.remove()
	buried()
	close(w.dead)
}

// kill ends the child at once, stopped or not; the first reason stays.
func (w *worker) kill(reason *Void) {
	w.mu.Lock()
	if w.reason == nil {
		w.reason = reason
	}
	w.mu.Unlock()
	// It may be gone already.
	_ = w.cmd.Process.Kill()
}

// pause stops or continues the child and its clock.
func (w *worker) pause(paused bool) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.paused = paused
	if paused {
		w.watch.stop(time.Now())
	} else if w.busy {
		w.watch.start(time.Now())
	}
	return suspend(w.cmd.Process, paused)
}

func (w *worker) begin() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.busy, w.watch = true, stopwatch{}
	if !w.paused {
		w.watch.start(time.Now())
	}
}

func (w *worker) end() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.watch.stop(time.Now())
	w.busy = false
}

func (w *worker) elapsed() time.Duration {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.watch.elapsed(time.Now())
}

// order sends one order and waits for the answer, holding the child to g. After
// an error, which is a *Void, the child is dead.
func (w *worker) order(ctx context.Context, v any, g guard, started func()) (body []byte, err error) {
	before, _ := usage(w.cmd.Process.Pid)
	g.cpuBefore = before.cpu
	g.diskNext = watchSeldom
	if err := w.group.allow(g.memory); err != nil {
		w.kill(&Void{Reason: workunits.VoidEngine, Detail: "memory of the child's group: " + err.Error()})
	}
	w.begin()
	defer w.end()
	uncancel := context.AfterFunc(ctx, func() {
		w.kill(&Void{Reason: workunits.VoidCancelled, Cause: context.Cause(ctx)})
	})
	defer uncancel()
	if started != nil {
		started()
	}
	// A child that does not read has ended, or is killed by the guard below.
	go func() {
		if writeFrame(w.stdin, v) != nil {
			w.kill(nil)
		}
	}()
	timer := time.NewTimer(g.next(0))
	defer timer.Stop()
	for {
		select {
		case body, alive := <-w.bodies:
			if alive && uncancel() {
				return body, nil
			}
			<-w.dead
			return nil, w.obituary()
		case <-timer.C:
			elapsed := w.elapsed()
			if v := g.broken(w.cmd.Process.Pid, elapsed); v != nil {
				w.kill(v)
			}
			timer.Reset(g.next(elapsed))
		}
	}
}

// load waits until the child has its program ready.
func (w *worker) load(ctx context.Context, o loadOrder) (loadAnswer, error) {
	body, err := w.order(ctx, o, guard{limits: Limits{Wall: loadWall}, memory: loadMemory}, nil)
	if err != nil {
		return loadAnswer{}, err
	}
	answer, err := workunits.Decode[loadAnswer](body, maxAnswer)
	if err == nil && answer.Error != "" {
		return answer, &Void{Reason: workunits.VoidEngine, Detail: answer.Error}
	}
	if err != nil {
		return answer, &Void{Reason: workunits.VoidEngine, Detail: "answer of the child: " + err.Error()}
	}
	return answer, nil
}

// run performs one task. After an error the child is of no more use.
func (w *worker) run(ctx context.Context, o runOrder, g guard, started func()) (runAnswer, error) {
	body, err := w.order(ctx, o, g, started)
	if err != nil {
		return runAnswer{}, err
	}
	answer, err := workunits.Decode[runAnswer](body, maxAnswer)
	if err == nil {
		err = answer.check()
	}
	if err == nil && answer.Void == "" {
		err = g.doubt(answer)
	}
	if err != nil {
		return answer, &Void{Reason: workunits.VoidEngine, Detail: "answer of the child: " + err.Error()}
	}
	return answer, nil
}

// obituary says why a dead child makes its copy void.
func (w *worker) obituary() *Void {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.reason != nil {
		return w.reason
	}
	v := &Void{Reason: workunits.VoidEngine, Detail: fmt.Sprintf("child ended: %v", w.cmd.ProcessState)}
	if wasKilled(w.cmd.ProcessState) {
		v.Reason = workunits.VoidKilled
	}
	if w.starved {
		v.Detail = "the process took more memory than it may"
	}
	if last := w.tail.String(); last != "" {
		v.Detail += ": " + last
	}
	return v
}

// tail keeps the beginning and the end of what a child says on standard error:
// a crash begins with its cause.
type tail struct {
	mu    sync.Mutex
	first []byte
	last  []byte
}

const tailSize = 2048

// Write implements io.Writer.
func (t *tail) Write(b []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	n := len(b)
	room := min(n, tailSize-len(t.first))
	t.first = append(t.first, b[:room]...)
	t.last = append(t.last, b[room:]...)
	if over := len(t.last) - tailSize; over > 0 {
		t.last = append(t.last[:0], t.last[over:]...)
	}
	return n, nil
}

func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.last) == 0 {
		return clip(string(t.first))
	}
	return clip(string(t.first) + " ... " + string(t.last))
}

// start starts a child; the caller runs serve.
func (p *Pool) start(f reach, k key) (*worker, io.Reader, error) {
	w := &worker{key: k, bodies: make(chan []byte, 1), dead: make(chan struct{}), tail: &tail{}}
	w.cmd = exec.CommandContext(p.ctx, p.cfg.Command[0], p.cfg.Command[1:]...)
	w.cmd.Env = []string{} // nil would hand down the node's
	w.cmd.Stderr = w.tail
	w.cmd.SysProcAttr = childAttr()
	w.cmd.WaitDelay = time.Second
	var err error
	if w.stdin, err = w.cmd.StdinPipe(); err != nil {
		return nil, nil, err
	}
	stdout, err := w.cmd.StdoutPipe()
	if err != nil {
		return nil, nil, err
	}
	if p.ctx.Err() != nil {
		return nil, nil, ErrClosed
	}
	started := make(chan error, 1)
	p.wg.Go(func() { p.startFrom(f, w, started) })
	if err := <-started; err != nil {
		return nil, nil, fmt.Errorf("start a child: %w", err)
	}
	p.stepBehind(w)
	if w.group, err = p.groups.add(w.cmd.Process.Pid); err != nil {
		p.log.Warn("a child has no control group", "error", err)
	}
	return w, stdout, nil
}

// ownCommand is the default of Config.Command.
func ownCommand() ([]string, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	return []string{self, "sandbox-child"}, nil
}
