package sandbox

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/talka-grid/talka/workunits"
	"github.com/talka-grid/talka/workunits/sandbox/wasi"
)

// ChildMain is the whole life of a child: the command that Config.Command
// starts does nothing but call it with its standard input and output and exit
// with the answer. It exits the process itself when its input ends while a
// program runs.
func ChildMain(stdin io.Reader, stdout io.Writer) int {
	return childMain(stdin, stdout, childWalls)
}

func childMain(stdin io.Reader, stdout io.Writer, build func(memory uint64) error) int {
	in := bufio.NewReader(stdin)
	order, err := readFrame[loadOrder](in, maxOrder)
	if err != nil {
		fmt.Fprintln(os.Stderr, "sandbox child is started by a node only:", err)
		return 2
	}
	walls := build(order.Memory)
	orders := make(chan runOrder)
	go readOrders(in, orders)
	p, answer, err := load(order)
	if err != nil {
		answer.Error = clip(err.Error())
	}
	if walls != nil {
		answer.Walls = clip(walls.Error())
	}
	if writeFrame(stdout, answer) != nil || err != nil {
		return 1
	}
	if order.Stage != "" {
		return 0
	}
	for o := range orders {
		if err := writeFrame(stdout, o.run(p)); err != nil {
			return 1
		}
	}
	return 0
}

// readOrders passes tasks on, and ends the process with its parent even while
// a program runs.
func readOrders(in *bufio.Reader, orders chan<- runOrder) {
	for {
		o, err := readFrame[runOrder](in, maxOrder)
		if errors.Is(err, io.EOF) {
			os.Exit(0)
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, "order:", err)
			os.Exit(2)
		}
		orders <- o
	}
}

// run performs one task.
func (o runOrder) run(prog program) (a runAnswer) {
	before := processorTime()
	config := wasi.Config{
		Args: o.Args, Env: o.Env, Stdin: o.Stdin,
		Out: filepath.Join(o.Dir, outName), Scratch: filepath.Join(o.Dir, scratchName), Checkpoint: o.Checkpoint,
		Stdout: filepath.Join(o.Dir, stdoutName), Stderr: filepath.Join(o.Dir, stderrName),
		OutputLimit: o.Output, FilesLimit: o.Files, FileLimit: o.File, CallsLimit: o.Calls, LogLimit: o.Log, ScratchLimit: o.Scratch, CheckpointLimit: o.Saved, CheckpointRoom: o.Room,
		Seed: o.Seed,
	}
	for _, in := range o.Inputs {
		config.Inputs = append(config.Inputs, wasi.Input{Path: in.Path, Host: in.Host})
	}
	host, err := wasi.New(config)
	if err != nil {
		return voidAnswer(reasonOf(err), err.Error())
	}
	e := prog.run(host)
	a = answerOf(host, e)
	a.Tally, a.Refusal = host.Tally(), host.Refusal()
	if err := host.Close(); err != nil && a.Void == "" {
		a = voidAnswer(reasonOf(err), err.Error())
	}
	a.CPU, a.Instance = uint64(processorTime()-before), uint64(e.instance)
	return a
}

// answerOf turns what the host and the engine saw into an outcome.
func answerOf(host *wasi.Process, e ending) runAnswer {
	stop, stopped := host.Stopped()
	switch {
	case stopped && stop.Kind == wasi.StopDiskFull:
		return voidAnswer(workunits.VoidDisk, stop.Detail)
	case stopped && stop.Kind == wasi.StopHost:
		return voidAnswer(workunits.VoidEngine, stop.Detail)
	case stopped && stop.Kind == wasi.StopOutput:
		return runAnswer{Kind: workunits.OutputLimit, Detail: stop.Detail, Memory: e.memory}
	case stopped && stop.Kind == wasi.StopCalls:
		return runAnswer{Kind: workunits.Trapped, Trap: trapCalls, Detail: stop.Detail, Memory: e.memory}
	case stopped:
		return runAnswer{Kind: workunits.Exited, Code: stop.Code, Memory: e.memory}
	case e.void != "":
		return voidAnswer(e.void, e.detail)
	case e.trap != "":
		return runAnswer{Kind: workunits.Trapped, Trap: e.trap, Memory: e.memory}
	}
	return runAnswer{Kind: workunits.Exited, Memory: e.memory}
}

func voidAnswer(reason workunits.VoidReason, detail string) runAnswer {
	return runAnswer{Void: reason, Detail: clip(detail)}
}

// clip keeps a text for people short enough for a frame.
func clip(s string) string {
	const most = 4096
	if len(s) > most {
		s = s[:most] + "..."
	}
	return strings.ToValidUTF8(s, "?")
}

// reasonOf tells why a failure of the host makes a copy void.
func reasonOf(err error) workunits.VoidReason {
	switch {
	case errors.Is(err, wasi.ErrInput):
		return workunits.VoidInput
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		return workunits.VoidDisk
	}
	return workunits.VoidEngine
}
