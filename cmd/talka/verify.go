package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/talka-grid/talka/grid"
	"github.com/talka-grid/talka/workunits"
	"github.com/talka-grid/talka/workunits/ledger"
	"github.com/talka-grid/talka/workunits/verdict"
)

func (a *app) verifyCmd() *cobra.Command {
	unit := int64(-1)
	cmd := &cobra.Command{
		Use: "verify JOB|FILE", Short: "Check a whole job again from its signed statements", Args: argCount(1, 1),
		Long: "Check a job again from its ledger: a file that talka job export wrote, or the ledger of\n" +
			"this node. Every signature is checked and every verdict worked out anew, without the\n" +
			"network and without trust in the node that wrote the file. Exit code 1 if the ledger\n" +
			"is damaged or contradicts the publisher's seal, 3 if units are still without result, 4 if\n" +
			"units failed.\n" +
			"With --unit, tell how the verdict on one unit came about instead.",
		RunE: func(cmd *cobra.Command, args []string) error {
			x, err := a.readLedger(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			if cmd.Flags().Changed("unit") {
				return a.verifyUnit(x, unit)
			}
			r := verified(x)
			if err := a.show(r, r.write); err != nil {
				return err
			}
			return r.end()
		},
	}
	unitFlag(cmd, &unit)
	return cmd
}

func (a *app) verifyUnit(x ledger.Read, unit int64) error {
	u, err := unitNumber(unit)
	if err != nil {
		return err
	}
	if u >= x.Manifest.Total() {
		return usage("--unit %d: the job has units 0 to %d", u, x.Manifest.Total()-1)
	}
	b := verdict.ReadWith(x.Job, x.Manifest, x.Standing, x.Ledger, x.Ledger.Heads())
	s := grid.TellUnit(x.Job, u, b.Story(u), func(workunits.Ref) time.Time { return time.Time{} })
	return a.show(s, func(w io.Writer) { writeStory(w, s) })
}

// verification is what a ledger alone says of a job.
type verification struct {
	Job        workunits.JobID     `json:"job"`
	Name       string              `json:"name"`
	Project    workunits.ProjectID `json:"project"`
	Units      verifiedUnits       `json:"units"`
	Copies     int                 `json:"copies"`
	Volunteers int                 `json:"volunteers"`
	Logs       int                 `json:"logs"`
	Statements uint64              `json:"statements"`
	Results    workunits.Digest    `json:"results"` // of the accepted results in unit order
	Sealed     bool                `json:"sealed"`
	SealFits   bool                `json:"seal_fits"`
	Cancelled  bool                `json:"cancelled"`
	Faults     []verifiedFault     `json:"faults"`
}

type verifiedUnits struct {
	Total    int `json:"total"`
	Accepted int `json:"accepted"`
	Failed   int `json:"failed"`
	Open     int `json:"open"` // without verdict
}

type verifiedFault struct {
	Node workunits.NodeID    `json:"node"`
	Name workunits.FaultName `json:"name"`
}

// readLedger reads a file, or what the node has of a job.
func (a *app) readLedger(ctx context.Context, arg string) (x ledger.Read, err error) {
	path := arg
	if _, perr := workunits.ParseJobID(arg); perr == nil {
		var remove func() error
		if path, remove, err = a.exportScratch(ctx, arg); err != nil {
			return x, err
		}
		defer func() { err = errors.Join(err, remove()) }()
	}
	f, err := os.Open(path)
	if errors.Is(err, os.ErrNotExist) {
		return x, usage("%s: no such file, and not a job id", arg)
	}
	if err != nil {
		return x, err
	}
	defer f.Close()
	if x, err = ledger.ReadExport(f); err != nil {
		return x, &exitErr{exitError, fmt.Errorf("%s: %w", arg, err)} // whatever is wrong in it
	}
	return x, nil
}

// exportScratch writes what the node has of a job to a file that remove removes.
func (a *app) exportScratch(ctx context.Context, arg string) (path string, remove func() error, err error) {
	c, id, err := a.ofJob(arg)
	if err != nil {
		return "", nil, err
	}
	dir, err := a.dir()
	if err != nil {
		return "", nil, err
	}
	dir, remove, err = scratchIn(dir)
	if err != nil {
		return "", nil, err
	}
	path = filepath.Join(dir, "ledger")
	if _, err := a.exportJob(ctx, c, id, path, false); err != nil {
		return "", nil, errors.Join(err, remove())
	}
	return path, remove, nil
}

func verified(x ledger.Read) verification {
	m, l := x.Manifest, x.Ledger
	b := verdict.ReadWith(x.Job, m, x.Standing, l, l.Heads())
	counts := b.Counts()
	v := verification{
		Job: x.Job, Name: m.Name, Project: m.ProjectID(), Copies: b.Copies(), Volunteers: len(b.Volunteers()), Logs: len(l.Authors()),
		Units:   verifiedUnits{Total: int(m.Units), Accepted: counts[verdict.Accepted], Failed: counts[verdict.Failed]},
		Results: b.Results(), Cancelled: b.Cancelled() != nil, Faults: []verifiedFault{},
	}
	v.Units.Open = v.Units.Total - v.Units.Accepted - v.Units.Failed
	for _, n := range l.Authors() {
		v.Statements += l.Len(n)
	}
	if s := b.Sealed(); s != nil {
		v.Sealed = true
		v.SealFits = s.Results == v.Results && int(s.Accepted) == v.Units.Accepted && int(s.Failed) == v.Units.Failed
	}
	for _, f := range b.Faults() {
		v.Faults = append(v.Faults, verifiedFault{f.Node, f.Name})
	}
	return v
}

func (v verification) write(w io.Writer) {
	seal := "not sealed"
	switch {
	case v.SealFits:
		seal = "sealed by the publisher, as the statements say"
	case v.Sealed:
		seal = "SEALED OTHERWISE than the statements say"
	case v.Cancelled:
		seal = "cancelled by the publisher"
	}
	fields(w,
		"job", v.Job.String(),
		"name", v.Name,
		"project", v.Project.String(),
		"units", fmt.Sprintf("%d: %d accepted, %d failed, %d without verdict", v.Units.Total, v.Units.Accepted, v.Units.Failed, v.Units.Open),
		"copies", fmt.Sprintf("%d by %s", v.Copies, plural(v.Volunteers, "volunteer")),
		"checked", fmt.Sprintf("%d statements in %s, every signature", v.Statements, plural(v.Logs, "log")),
		"results", v.Results.String(),
		"seal", seal,
	)
	for _, f := range v.Faults {
		fmt.Fprintf(w, "fault: %s by %s\n", line(string(f.Name)), who(f.Node))
	}
}

// end turns the verdicts into the command's end.
func (v verification) end() error {
	switch {
	case v.Sealed && !v.SealFits:
		return errors.New("the publisher's seal contradicts the statements: ask for the ledgers of other stewards")
	case v.Units.Failed > 0:
		return &exitErr{exitFailedUnits, fmt.Errorf("%s of %d failed", plural(v.Units.Failed, "unit"), v.Units.Total)}
	case v.Units.Open > 0:
		return &exitErr{exitPartial, fmt.Errorf("%s of %d without verdict", plural(v.Units.Open, "unit"), v.Units.Total)}
	}
	return nil
}
