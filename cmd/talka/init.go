package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/talka-grid/talka/chunkstore/whole"
	"github.com/talka-grid/talka/configs"
	"github.com/talka-grid/talka/workunits"
)

func (a *app) initCmd() *cobra.Command {
	var preset string
	var yes bool
	cmd := &cobra.Command{
		Use: "init", Short: "Make a data directory: a key and a settings file", Args: argCount(0, 0),
		Long: "Make a data directory: a key, which is the node's identity, and a settings file.\n" +
			"What is there already stays. `talka up` does the same by itself with the quiet preset.",
		RunE: func(*cobra.Command, []string) error {
			dir, err := a.dir()
			if err != nil {
				return err
			}
			if preset == "" && !yes && isTerminal(a.in) {
				if preset, err = a.askPreset(); err != nil {
					return err
				}
			}
			return a.init(dir, preset)
		},
	}
	cmd.Flags().StringVar(&preset, "preset", "", "how much the machine gives: quiet, balanced or all-out (default quiet)")
	cmd.Flags().BoolVar(&yes, "yes", false, "ask nothing")
	return cmd
}

func (a *app) askPreset() (string, error) {
	fmt.Fprint(a.err, "How much may units take of this machine?\n"+
		"  quiet     a quarter of the processors; nobody notices\n"+
		"  balanced  half of them\n"+
		"  all-out   everything\n"+
		"[quiet] ")
	s := bufio.NewScanner(a.in)
	s.Scan()
	return strings.TrimSpace(s.Text()), s.Err()
}

func (a *app) init(dir, preset string) error {
	node, made, err := initDir(dir, preset)
	if err != nil {
		return err
	}
	type out struct {
		PeerID workunits.NodeID `json:"peer_id"`
		Dir    string           `json:"dir"`
		Made   bool             `json:"made"`
	}
	return a.show(out{node, dir, made}, func(w io.Writer) {
		fields(w, "node", node.String(), "directory", dir)
		if !made {
			fmt.Fprintln(w, "It was there already; its key stays.")
		}
		fmt.Fprintln(w, "Start it: talka up")
	})
}

// initDir makes what is missing in a data directory: key and settings. Preset
// is empty for the default; an existing settings file is never rewritten.
func initDir(dir, preset string) (node workunits.NodeID, made bool, err error) {
	p := configs.Preset(preset)
	if p != "" && !slices.Contains(configs.Presets(), p) {
		return node, false, usage("no preset %q: want quiet, balanced or all-out", preset)
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return node, false, err
	}
	file := filepath.Join(dir, configs.FileName)
	switch _, err := os.Stat(file); {
	case errors.Is(err, fs.ErrNotExist):
		if err := whole.Write(file, configs.Template(p)); err != nil {
			return node, false, err
		}
	case err != nil:
		return node, false, err
	case preset != "":
		return node, false, fmt.Errorf("%s is there and is never rewritten; run: talka config set preset %s", file, preset)
	}
	key, made, err := ensureKey(dir)
	if err != nil {
		return node, false, err
	}
	return workunits.NodeIDOf(key), made, nil
}
