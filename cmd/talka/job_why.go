package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"github.com/talka-grid/talka/grid"
	"github.com/talka-grid/talka/grid/api"
	"github.com/talka-grid/talka/workunits"
)

func (a *app) jobWhyCmd() *cobra.Command {
	return &cobra.Command{
		Use: "why JOB", Short: "Say why a job is where it is, and what would change it", Args: argCount(1, 1),
		Long: "Say why a job is where it is, and what would change it: which units want copies, who asked\n" +
			"this node for them, and why some got none.\n" +
			"Exit code 14 if units wait and no volunteer that is known of may have them.",
		RunE: func(cmd *cobra.Command, args []string) error {
			c, id, err := a.ofJob(args[0])
			if err != nil {
				return err
			}
			w, err := c.JobWhy(cmd.Context(), id)
			if err != nil {
				return err
			}
			if err := a.show(w, func(out io.Writer) { writeJobWhy(out, w) }); err != nil {
				return err
			}
			if w.Stuck() {
				return &exitErr{exitNoVolunteer, errors.New("no volunteer is eligible now")}
			}
			return nil
		},
	}
}

func writeJobWhy(out io.Writer, w grid.JobWhy) {
	fmt.Fprintln(out, line(w.Reason))
	if w.Next != "" {
		fmt.Fprintln(out, line(w.Next))
	}
	fmt.Fprintln(out)
	pairs := []string{
		"units", fmt.Sprintf("%d, of which %d accepted, %d running, %d open, %d failed", w.Units.Total, w.Units.Accepted, w.Units.Running, w.Units.Open, w.Units.Failed),
		"peers", fmt.Sprint(w.Peers),
	}
	if w.Stewards > 0 {
		pairs = append(pairs,
			"stewards", fmt.Sprintf("%d at work", w.Stewards),
			"volunteers", fmt.Sprintf("%d asked this node lately, %d eligible, %d hold units of it", w.Asked, w.Eligible, w.Holding))
	}
	for _, r := range w.Refused {
		pairs = append(pairs, "refused", fmt.Sprintf("%d: %s", r.Volunteers, r.Reason))
	}
	fields(out, pairs...)
}

// Who waits for a job hears why it is stuck, if it still is after a while.
const (
	stuckAfter = 15 * time.Second
	stuckEvery = 5 * time.Minute
)

// noteStuck tells of a job that no volunteer may execute, until ctx ends.
func (a *app) noteStuck(ctx context.Context, c *api.Client, id workunits.JobID) {
	wait := time.NewTimer(stuckAfter)
	defer wait.Stop()
	for {
		select {
		case <-wait.C:
		case <-ctx.Done():
			return
		}
		w, err := c.JobWhy(ctx, id)
		if err != nil {
			return // the one who waits hears of it as well
		}
		next := stuckAfter
		if w.Stuck() {
			a.note("%s %s", w.Reason, w.Next)
			next = stuckEvery
		}
		wait.Reset(next)
	}
}
