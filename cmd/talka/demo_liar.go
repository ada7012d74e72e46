package main

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"os"

	"github.com/spf13/cobra"

	"github.com/talka-grid/talka/grid"
	"github.com/talka-grid/talka/workunits"
	"github.com/talka-grid/talka/workunits/sandbox"
)

// liarShare is the share of units on which the demo's liar lies.
const liarShare = 0.3

// liar is an executor that returns well-formed wrong results for units drawn
// from a seed: one digit of standard output is another. It writes each lie to a
// file, so that the demo can count them. Only the demo starts nodes with it.
type liar struct {
	grid.Executor
	seed uint64
	told string // path
}

// lie is one line of the file of lies.
type lie struct {
	Args []string `json:"args"`
	True []byte   `json:"true"`
	Told []byte   `json:"told"`
}

// Run executes the unit and, if it is one of those drawn, falsifies the result.
func (l liar) Run(ctx context.Context, t sandbox.Task, started func(int)) (sandbox.Report, error) {
	r, err := l.Executor.Run(ctx, t, started)
	if err != nil || !l.drawn(t.Args) {
		return r, err
	}
	out, err := os.ReadFile(r.Stdout)
	if err != nil {
		return r, err
	}
	i := bytes.LastIndexAny(out, "0123456789")
	if i < 0 {
		return r, nil
	}
	told := bytes.Clone(out)
	told[i] = '0' + (told[i]-'0'+1)%10
	if err := os.WriteFile(r.Stdout, told, 0o600); err != nil {
		return r, err
	}
	return r, l.record(lie{t.Args, out, told})
}

func (l liar) drawn(args []string) bool {
	d := workunits.Sum(workunits.Encode([]any{l.seed, args}))
	return float64(binary.BigEndian.Uint32(d[:])) < liarShare*(1<<32)
}

func (l liar) record(x lie) error {
	f, err := os.OpenFile(l.told, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer f.Close()
	return json.NewEncoder(f).Encode(x)
}

// demoLiarCmd is `up` with a lying executor, for the demo's use.
func (a *app) demoLiarCmd() *cobra.Command {
	var seed uint64
	var told string
	cmd := a.upCmd()
	cmd.Use, cmd.Hidden = "demo-liar", true
	cmd.Flags().Uint64Var(&seed, "lie-seed", 1, "draws the units")
	cmd.Flags().StringVar(&told, "lie-file", "", "where lies are recorded")
	cmd.PreRun = func(*cobra.Command, []string) {
		a.change = func(c *grid.Config) { c.Exec = liar{c.Exec, seed, told} }
	}
	return cmd
}
