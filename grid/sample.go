package grid

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/talka-grid/talka/grid/volunteer/policy"
	"github.com/talka-grid/talka/workunits"
	"github.com/talka-grid/talka/workunits/sandbox"
)

// SampleTime is how long a sample takes.
const SampleTime = 20 * time.Second

// Sample is a unit whose result is known: the digest of what it prints followed
// by its files, in the order of their names. It takes a few seconds.
type Sample struct {
	Program []byte
	Args    []string
	Files   []string
	Limits  sandbox.Limits
	Want    [sha256.Size]byte
}

// SampleReport is how a machine did.
type SampleReport struct {
	Units   int     `json:"units"`   // all with the result that is known
	Seconds float64 `json:"seconds"` // that it took
	CPU     float64 `json:"cpu"`     // processor seconds of the units
	Percent int     `json:"percent"` // of its time that the processor could work, as the rules say
}

var errSampleBusy = fmt.Errorf("a sample is for a machine that has no units: %w", ErrDenied)

// Sample executes the unit of Config over and over for SampleTime, in the sandbox
// and at the percentage of the rules, and compares every result with what is
// known. The owner asked for it, so that no rule stops it; a pause does. Progress
// gets milliseconds.
func (n *Node) Sample(ctx context.Context, progress Progress) (r SampleReport, err error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	if derr := n.do(ctx, func() {
		switch {
		case n.rules.pause != policy.NoPause:
			err = fmt.Errorf("%s %w", n.rules.Sentence(), ErrDenied)
		case len(n.runs) > 0 || n.rules.sample != nil:
			err = errSampleBusy
		default:
			n.rules.sample = cancel
			r.Percent = n.rules.owner.Free.Percent
			n.decide()
		}
	}); derr != nil || err != nil {
		return r, errors.Join(err, derr)
	}
	defer n.post(func() {
		n.rules.sample = nil
		n.decide()
	})
	dir := n.folders.take("sample")
	defer n.folders.put("sample", dir)
	program := filepath.Join(n.cfg.Dir, "work", "sample.wasm")
	if err := errors.Join(os.MkdirAll(filepath.Dir(program), 0o700), os.WriteFile(program, n.cfg.Sample.Program, 0o600)); err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, os.Remove(program)) }()
	task := sandbox.Task{
		Program: program, ProgramID: workunits.Sum(n.cfg.Sample.Program), Args: n.cfg.Sample.Args,
		Dir: filepath.Join(dir, runFolder), Seed: workunits.Sum(n.cfg.Sample.Program), Limits: n.cfg.Sample.Limits,
	}
	began := time.Now()
	for ctx.Err() == nil && (r.Units == 0 || time.Since(began) < SampleTime) {
		if err := n.sampleUnit(ctx, task, &r); err != nil {
			return r, err
		}
		r.Seconds = time.Since(began).Seconds()
		progress(min(time.Since(began), SampleTime).Milliseconds(), SampleTime.Milliseconds())
	}
	return r, context.Cause(ctx)
}

func (n *Node) sampleUnit(ctx context.Context, task sandbox.Task, r *SampleReport) error {
	report, err := n.cfg.Exec.Run(ctx, task, func(pid int) { n.post(func() { n.started(&execution{}, pid, "") }) })
	if err != nil {
		return errors.Join(err, context.Cause(ctx))
	}
	var all bytes.Buffer
	for _, name := range append([]string{report.Stdout}, n.cfg.Sample.Files...) {
		if !filepath.IsAbs(name) {
			name = filepath.Join(report.Out, name)
		}
		b, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		all.Write(b)
	}
	if got := sha256.Sum256(all.Bytes()); got != n.cfg.Sample.Want {
		return fmt.Errorf("unit %d of the sample has the result %x…, and %x… is right: this machine computes wrong; look at its memory, its cooling and whether it is overclocked", r.Units, got[:4], n.cfg.Sample.Want[:4])
	}
	r.Units++
	r.CPU += report.CPU.Seconds()
	n.events.add(Event{Kind: "sample", Node: n.self, Unit: uint32(r.Units), Text: "right"})
	return nil
}
