// Command talka is Talka: the node, and the commands to use and publish with
// it. Each subcommand has a file of its own; node.go puts a node together.
//
// Commands talk to the node of a data directory over the unix socket in it.
// Results go to standard output (as JSON with --json), everything else to
// standard error. Texts of peers lose their control characters on the way to a
// screen. Exit codes are those of exit.go.
package main

import (
	"context"
	"os"
	"os/signal"
	"runtime"
	"slices"
	"syscall"
)

func main() {
	// A library of the tray's ties this goroutine to the process's first thread. Only
	// the tray needs that; children that execute units would pay for it.
	if !slices.Contains(os.Args, "tray") {
		runtime.UnlockOSThread()
	}
	a := &app{in: os.Stdin, out: os.Stdout, err: os.Stderr, env: os.Environ()}
	os.Exit(a.run(untilSignal(), os.Args[1:]))
}

// untilSignal is the context that the first signal ends; a second one ends the
// process at once.
func untilSignal() context.Context {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop)
	return ctx
}
