package main

import (
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/talka-grid/talka/grid"
)

// whyDecisions is how many of the latest decisions are shown.
const whyDecisions = 10

func (a *app) whyCmd() *cobra.Command {
	cmd := &cobra.Command{
		Use: "why", Short: "Say why the node executes units or does not, and what would change it", Args: argCount(0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := a.clientAt(cmd)
			if err != nil {
				return err
			}
			w, err := c.Why(cmd.Context())
			if err != nil {
				return err
			}
			return a.show(w, func(out io.Writer) { writeWhy(out, w) })
		},
	}
	atFlag(cmd)
	return cmd
}

func writeWhy(out io.Writer, w grid.Why) {
	fmt.Fprintln(out, line(w.Reason))
	if len(w.Rules) > 1 {
		for _, r := range w.Rules {
			fmt.Fprintf(out, "  %s: %s. %s\n", line(string(r.Rule)), line(r.Text), line(r.Change))
		}
	}
	if w.Processors > 0 {
		fmt.Fprintf(out, "Units may use %d processors, %d %% of their time, with %s for each.\n", w.Processors, w.Percent, size(int64(min(w.Memory, 1<<62))))
	}
	if m := w.Measured; m.Known && w.Processors > 0 {
		fmt.Fprintf(out, "They take %.2f, measured over %.0f s, and hold %s.\n", m.Processors, m.Seconds, size(int64(min(m.Memory, 1<<62))))
	}
	if n := len(w.Executions); n > 0 {
		var cpu float64
		for _, x := range w.Executions {
			cpu += x.Lost
		}
		fmt.Fprintf(out, "To end the node now loses %.0f s of processor time of %s; a pause loses nothing.\n", cpu, plural(n, "unit"))
	}
	if w.Source == "" {
		fmt.Fprintln(out, "Nothing tells whether the machine is in use; it counts as not in use.")
	}
	if len(w.Decisions) > 0 {
		fmt.Fprintln(out, "\nLatest decisions:")
	}
	for _, d := range w.Decisions[max(len(w.Decisions)-whyDecisions, 0):] {
		fmt.Fprintf(out, "  %s  %s\n", d.Time.Local().Format("2 Jan 15:04:05"), line(d.Text))
	}
}
