package main

import (
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/talka-grid/talka/grid"
)

func (a *app) jobAuditCmd() *cobra.Command {
	var units int
	cmd := &cobra.Command{
		Use: "audit JOB", Short: "Execute some accepted units of a job of this node here, to check them", Args: argCount(1, 1),
		Long: "Execute a sample of a job's accepted units on this node, which is its publisher's: those\n" +
			"the sooner whose results are most in doubt. Where another result was accepted, those who\n" +
			"gave it are proven wrong, and units that rested on them are done again: all since the\n" +
			"first wrong one and a share of those before. Exit code 1 if a result was wrong.",
		RunE: func(cmd *cobra.Command, args []string) error {
			c, id, err := a.ofJob(args[0])
			if err != nil {
				return err
			}
			if units < 1 {
				return usage("--units %d: at least 1", units)
			}
			r, err := c.Audit(cmd.Context(), id, units, func(s string) { a.note("%s", s) })
			if err != nil {
				return err
			}
			if err := a.show(r, func(w io.Writer) { writeAudit(w, r) }); err != nil {
				return err
			}
			if len(r.Wrong) > 0 {
				return fmt.Errorf("%s had a wrong result", plural(len(r.Wrong), "unit"))
			}
			return nil
		},
	}
	cmd.Flags().IntVar(&units, "units", 20, "how many, at most")
	return cmd
}

func writeAudit(w io.Writer, r grid.AuditReport) {
	fields(w,
		"job", r.Job.String(),
		"audited", plural(len(r.Units), "unit"),
		"wrong", fmt.Sprint(len(r.Wrong)),
		"reopened", plural(r.Reopened, "unit"),
		"error bound", fmt.Sprintf("%.2g wrong results a unit, before the audit %.2g", r.After, r.Before),
	)
	for _, u := range r.Wrong {
		fmt.Fprintf(w, "wrong: unit %d\n", u)
	}
	for _, n := range r.Proven {
		fmt.Fprintf(w, "proven wrong: %s\n", who(n))
	}
}
