package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"

	"github.com/adrg/xdg"
	"github.com/jezek/xgb"
	"github.com/spf13/cobra"

	"github.com/talka-grid/talka/grid/api"
	"github.com/talka-grid/talka/grid/desktop"
	"github.com/talka-grid/talka/grid/tray"
)

// trayLock is held by the tray of a data directory.
const trayLock = "tray.lock"

func (a *app) trayCmd() *cobra.Command {
	var autostart bool
	cmd := &cobra.Command{
		Use: "tray", Short: "Show Talka in the desktop's tray", Args: argCount(0, 0),
		Long: "Show Talka in the desktop's tray, and tell the node whether you are at the machine.\n" +
			"Where no node runs, the tray starts one, and ends it when you quit.\n" +
			"Where the desktop has no tray, the rest goes on.",
		RunE: func(cmd *cobra.Command, _ []string) error {
			dir, err := a.dir()
			if err != nil {
				return err
			}
			if cmd.Flags().Changed("autostart") {
				return a.autostart(dir, autostart)
			}
			return a.tray(cmd.Context(), dir)
		},
	}
	cmd.Flags().BoolVar(&autostart, "autostart", false, "have it begin at log-in from now on (=false: no more), and end")
	return cmd
}

// autostart writes or removes the file that begins the tray at log-in.
func (a *app) autostart(dir string, yes bool) error {
	exe, err := os.Executable()
	if err != nil {
		return err
	}
	config := xdg.ConfigHome
	if runtime.GOOS == "windows" {
		config = a.getenv("APPDATA")
	}
	f, err := desktop.AutostartOf(runtime.GOOS, xdg.Home, config, []string{exe, "--dir", dir, "tray"})
	if err != nil {
		return err
	}
	if yes {
		if err = os.MkdirAll(filepath.Dir(f.Path), 0o700); err == nil {
			err = os.WriteFile(f.Path, []byte(f.Text), 0o600)
		}
	} else if err = os.Remove(f.Path); errors.Is(err, os.ErrNotExist) {
		err = nil
	}
	if err != nil {
		return err
	}
	return a.show(map[string]any{"path": f.Path, "autostart": yes}, func(w io.Writer) {
		if yes {
			fmt.Fprintf(w, "Talka begins when you log in (%s).\n", line(f.Path))
		} else {
			fmt.Fprintln(w, "Talka no longer begins when you log in.")
		}
	})
}

// tray runs until ctx ends or its user quits.
func (a *app) tray(ctx context.Context, dir string) (err error) {
	xgb.Logger.SetOutput(io.Discard) // it says there that there is no X server
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	lock, err := takeLock(dir, trayLock, "the tray of %s is there already (%s)")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, lock.release()) }()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	t := &trayRun{
		app: a, dir: dir, client: api.NewClient(dir), text: trayTextOf(a.language()), quit: cancel,
		session: desktop.Open(a.getenv), views: make(chan tray.View, 1), poke: make(chan struct{}, 1), notices: make(chan string, 16),
	}
	hasBus, hasTray := t.session.Bus() != nil, t.session.HasTray(ctx)
	done := make(chan struct{})
	go func() { defer close(done); t.run(ctx) }()
	if err := a.show(map[string]any{"dir": dir, "pid": os.Getpid(), "tray": hasTray}, func(w io.Writer) {
		if !hasTray {
			fmt.Fprintln(w, "This desktop has no tray. The node is told whether you are there all the same; its page: talka open.")
		}
	}); err != nil {
		return err
	}
	if hasBus || runtime.GOOS != "linux" {
		if err := tray.Run(ctx, t.text.labels, t.views, func(x tray.Action) { t.act(ctx, x) }); err != nil {
			a.note("%v", err)
		}
	}
	<-done
	return t.stopOwn()
}

// language is the user's, as the environment has it.
func (a *app) language() string {
	for _, name := range []string{"LC_ALL", "LC_MESSAGES", "LANG"} {
		if v := a.getenv(name); v != "" {
			return v
		}
	}
	return ""
}
