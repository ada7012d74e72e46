package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/adrg/xdg"
	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/talka-grid/talka/grid"
	"github.com/talka-grid/talka/grid/api"
)

// app is one run of the command.
type app struct {
	in       io.Reader
	out, err io.Writer
	env      []string

	dirFlag string
	json    bool

	// change, if set, makes something else of a node that this command runs. Only
	// the demo's liar and tests set it.
	change func(*grid.Config)
}

// run executes a command line and returns the exit code.
func (a *app) run(ctx context.Context, args []string) int {
	root := a.root()
	root.SetArgs(args)
	err := root.ExecuteContext(ctx)
	if err == nil {
		return exitOK
	}
	code := exitCode(err)
	text := clean(err.Error())
	if a.json || slices.Contains(args, "--json") { // flags may not be read yet
		_ = a.writeJSON(a.err, map[string]any{"error": text, "code": code}) // nowhere left to say it
	} else {
		fmt.Fprintln(a.err, "talka:", text)
	}
	return code
}

func (a *app) root() *cobra.Command {
	root := group("talka", "Share computing with neighbours: no server, no account")
	root.Long = "Talka lets volunteers' machines find each other, take a researcher's work units,\n" +
		"check each other's results and keep each other's data, with no central server."
	root.SilenceErrors, root.SilenceUsage = true, true
	root.SetIn(a.in)
	root.SetOut(a.out)
	root.SetErr(a.err)
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error { return usage("%v (talka help%s)", err, helpPath(cmd)) })
	root.PersistentFlags().StringVar(&a.dirFlag, "dir", "", "data directory (TALKA_DIR; default: the user's own)")
	root.PersistentFlags().BoolVar(&a.json, "json", false, "print JSON")
	root.AddCommand(
		a.initCmd(), a.upCmd(), a.openCmd(), a.trayCmd(), a.inviteCmd(), a.joinCmd(), a.networkCmd(),
		a.statusCmd(), a.topCmd(), a.whyCmd(), a.peersCmd(), a.doctorCmd(), a.bugreportCmd(), a.netcheckCmd(), a.pauseCmd(), a.resumeCmd(),
		a.pairCmd(), a.machinesCmd(),
		a.projectCmd(), a.jobCmd(), a.runCmd(), a.dataCmd(), a.verifyCmd(), a.recordCmd(), a.configCmd(), a.tokenCmd(),
		a.demoCmd(), a.demoLiarCmd(), a.versionCmd(), a.sandboxChildCmd(),
	)
	return root
}

// group is a command that only has subcommands.
func group(name, short string) *cobra.Command {
	return &cobra.Command{
		Use: name, Short: short, Args: cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return cmd.Help()
			}
			cmd.SuggestionsMinimumDistance = 2
			hint := "talka help" + helpPath(cmd)
			if near := cmd.SuggestionsFor(args[0]); len(near) > 0 {
				hint = "do you mean " + near[0] + "?"
			}
			return usage("unknown command %q (%s)", args[0], hint)
		},
	}
}

func helpPath(cmd *cobra.Command) string {
	return strings.TrimPrefix(cmd.CommandPath(), "talka")
}

// argCount makes a wrong number of arguments a usage error.
func argCount(low, high int) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) < low || len(args) > high {
			return usage("usage: %s", cmd.UseLine())
		}
		return nil
	}
}

// dir is the absolute path of the data directory.
func (a *app) dir() (string, error) {
	for _, dir := range []string{a.dirFlag, a.getenv("TALKA_DIR")} {
		if dir != "" {
			return filepath.Abs(dir)
		}
	}
	return filepath.Join(xdg.DataHome, "talka"), nil
}

// getenv is the value of a variable; the last one of a name counts.
func (a *app) getenv(name string) (value string) {
	for _, kv := range a.env {
		if v, ok := strings.CutPrefix(kv, name+"="); ok {
			value = v
		}
	}
	return value
}

// client is a client of the data directory's node.
func (a *app) client() (*api.Client, error) {
	dir, err := a.dir()
	if err != nil {
		return nil, err
	}
	return api.NewClient(dir), nil
}

// show prints v as JSON, or what human writes.
func (a *app) show(v any, human func(w io.Writer)) error {
	if a.json {
		return a.writeJSON(a.out, v)
	}
	var b strings.Builder
	human(&b)
	_, err := io.WriteString(a.out, b.String())
	return err
}

// writeJSON writes one line. Control characters that JSON allows as they are
// (DEL and C1) are escaped: terminals obey them.
func (a *app) writeJSON(w io.Writer, v any) error {
	raw, err := json.Marshal(v)
	if err != nil {
		return err
	}
	var b strings.Builder
	for _, r := range string(raw) {
		if r >= 0x7f && r < 0xa0 {
			fmt.Fprintf(&b, `\u%04x`, r)
		} else {
			b.WriteRune(r)
		}
	}
	b.WriteByte('\n')
	_, err = io.WriteString(w, b.String())
	return err
}

// isTerminal reports whether a stream of this command is a terminal.
func isTerminal(stream any) bool {
	f, ok := stream.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}
