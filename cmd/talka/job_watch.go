package main

import (
	"context"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"github.com/talka-grid/talka/grid"
	"github.com/talka-grid/talka/grid/api"
	"github.com/talka-grid/talka/workunits"
)

// barEvery is how often a job's bar is brought up to date.
const barEvery = 500 * time.Millisecond

func (a *app) jobWatchCmd() *cobra.Command {
	return &cobra.Command{
		Use: "watch JOB", Short: "Show what happens to a job until it ends", Args: argCount(1, 1),
		Long: "Show what happens to a job as this node sees it, recent events first, until it ends.\n" +
			"With --json one event a line, and at last the job itself.",
		RunE: func(cmd *cobra.Command, args []string) error {
			c, id, err := a.ofJob(args[0])
			if err != nil {
				return err
			}
			return a.watchJob(cmd.Context(), c, id)
		},
	}
}

func (a *app) watchJob(ctx context.Context, c *api.Client, id workunits.JobID) error {
	if _, err := c.Job(ctx, id); err != nil { // look it up, or say that it is not there
		return err
	}
	following, stop := context.WithCancel(ctx)
	defer stop()
	followed := make(chan struct{})
	go func() {
		defer close(followed)
		_ = c.Events(following, 0, id, a.printEvent) // what ends it ends the waiting too
	}()
	info, err := c.WaitJob(ctx, id)
	stop()
	<-followed
	if err != nil {
		return err
	}
	if err := a.show(info, func(w io.Writer) { jobFields(w, info) }); err != nil {
		return err
	}
	return ended(info)
}

func (a *app) printEvent(e api.Event) error {
	return a.show(e, func(w io.Writer) {
		fmt.Fprintf(w, "%s  unit %-6d %-12s %s  %s\n", e.Time.Local().Format(time.TimeOnly), e.Unit, line(e.Kind), who(e.Node), line(e.Text))
	})
}

// waitJob waits for the end of a job, with a bar of accepted units on a terminal.
func (a *app) waitJob(ctx context.Context, c *api.Client, id workunits.JobID) (grid.JobInfo, error) {
	bar := a.countBar("accepted units")
	defer bar.end()
	watching, stop := context.WithCancel(ctx)
	defer stop()
	var group sync.WaitGroup
	group.Go(func() { a.noteStuck(watching, c, id) })
	if bar.p != nil {
		group.Go(func() { watchBar(watching, c, id, bar) })
	}
	info, err := c.WaitJob(ctx, id)
	stop()
	group.Wait()
	return info, err
}

func watchBar(ctx context.Context, c *api.Client, id workunits.JobID, b bar) {
	tick := time.NewTicker(barEvery)
	defer tick.Stop()
	for {
		info, err := c.Job(ctx, id)
		if err != nil {
			return // the one who waits hears of it as well
		}
		b.set(int64(info.Units.Accepted), int64(info.Units.Total))
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}
