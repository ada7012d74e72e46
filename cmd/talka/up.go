package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/talka-grid/talka/configs"
	"github.com/talka-grid/talka/grid"
	"github.com/talka-grid/talka/grid/api"
	"github.com/talka-grid/talka/workunits"
)

func (a *app) upCmd() *cobra.Command {
	var listen, join, trust []string
	var network, preset, processors, memory string
	var seed, steward bool
	cmd := &cobra.Command{
		Use: "up", Short: "Run the node until it is interrupted", Args: argCount(0, 0),
		Long: "Run the node until it is interrupted. A data directory that is not there is made first.\n" +
			"Flags win over TALKA_* variables, and those over the files (talka config explain).",
	}
	f := cmd.Flags()
	f.StringSliceVar(&listen, "listen", nil, "multiaddr to listen on, such as /ip4/0.0.0.0/udp/8255/quic-v1")
	f.StringSliceVar(&join, "join", nil, "invite to begin with")
	f.StringSliceVar(&trust, "trust", nil, "project (NAME@NODE) whose units to execute")
	f.StringVar(&network, "network", "", "name of the network")
	f.StringVar(&preset, "preset", "", "how much the machine gives: quiet, balanced or all-out")
	f.StringVar(&processors, "processors", "", "processors that units may use: a count, or a share such as 50%")
	f.StringVar(&memory, "memory", "", "memory that units may hold, such as 2GiB or 25%")
	f.BoolVar(&seed, "seed", false, "serve newcomers as a first peer")
	f.BoolVar(&steward, "steward", true, "offer to look after jobs")
	values := map[string]any{
		"listen": &listen, "join": &join, "trust": &trust, "network": &network, "preset": &preset,
		"processors": &processors, "memory": &memory, "seed": &seed, "steward": &steward,
	}
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		flags := map[string]any{}
		for name, v := range values {
			if cmd.Flags().Changed(name) {
				flags[name] = deref(v)
			}
		}
		return a.up(cmd.Context(), flags)
	}
	return cmd
}

// deref is the value of a flag's variable.
func deref(v any) any {
	switch v := v.(type) {
	case *[]string:
		return *v
	case *string:
		return *v
	case *bool:
		return *v
	}
	return nil
}

func (a *app) up(ctx context.Context, flags map[string]any) (err error) {
	dir, err := a.dir()
	if err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	lock, err := lockDir(dir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, lock.release()) }()
	if _, _, err := initDir(dir, ""); err != nil {
		return err
	}
	if err := sweepScratch(dir); err != nil {
		a.note("scratch files stay behind: %v", err)
	}
	src, err := a.sources(dir, flags)
	if err != nil {
		return err
	}
	key, err := loadKey(dir)
	if err != nil {
		return err
	}
	cfg, err := configs.Load(src)
	if err != nil {
		return &exitErr{exitUsage, err}
	}
	if entered, err := a.admit(dir, workunits.NodeIDOf(key), cfg.Join); err != nil {
		return err
	} else if entered { // the network has changed
		if src, err = a.sources(dir, flags); err != nil {
			return err
		}
		if cfg, err = configs.Load(src); err != nil {
			return &exitErr{exitUsage, err}
		}
	}
	recent := &api.Recent{}
	log := logger(cfg.Log, io.MultiWriter(recent, a.err))
	n, err := a.openNode(ctx, dir, key, cfg, log)
	if err != nil {
		return err
	}
	return a.serve(ctx, n, api.Config{
		Dir: dir, Version: version(), Page: cfg.API, Watts: n.watts, Settings: &settings{app: a, dir: dir, flags: flags, apply: n.setRules},
		Machines: n.machines, Recent: recent, Log: log,
		Doctor: func(ctx context.Context) api.Diagnosis { return a.diagnose(ctx, dir, flags).Diagnosis },
	})
}

// serve runs the node and its local interface until ctx ends or one of them
// fails; then it stops both and waits for them.
func (a *app) serve(ctx context.Context, n *node, cfg api.Config) error {
	server, err := api.New(n.Node, cfg)
	if err != nil {
		return errors.Join(err, n.close())
	}
	n.machines.Serve(server.Answer)
	socket, err := api.Listen(cfg.Dir)
	if err != nil {
		return errors.Join(err, n.close())
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	ended := make(chan error, 2)
	go func() { ended <- n.run(ctx) }()
	go func() { ended <- server.Run(ctx, socket) }()
	err = a.banner(cfg.Dir, n.Status())
	if err == nil {
		err = <-ended
	} else {
		cancel()
		err = errors.Join(err, <-ended)
	}
	cancel()
	return errors.Join(err, <-ended, n.close())
}

// banner says that the node is there. With --json it is one line that other
// programs can wait for.
func (a *app) banner(dir string, st grid.Status) error {
	type out struct {
		grid.Status
		Dir string `json:"dir"`
		PID int    `json:"pid"`
	}
	return a.show(out{st, dir, os.Getpid()}, func(w io.Writer) {
		fmt.Fprintln(w, "Talka is up.")
		fields(w,
			"  node", st.PeerID.String(),
			"  network", st.Network,
			"  directory", dir,
			"  listening", strings.Join(st.Addrs, " "),
		)
		fmt.Fprintln(w, "See what it does with `talka open`.")
		fmt.Fprintln(w, "Others join with what `talka invite` prints. Stop with Ctrl-C.")
	})
}

// logger writes what the settings ask for, a line a call.
func logger(cfg configs.Log, w io.Writer) *slog.Logger {
	var level slog.Level
	if err := level.UnmarshalText([]byte(cfg.Level)); err != nil {
		level = slog.LevelInfo // settings are validated
	}
	opts := &slog.HandlerOptions{Level: level}
	if cfg.Format == "json" {
		return slog.New(slog.NewJSONHandler(w, opts))
	}
	return slog.New(slog.NewTextHandler(w, opts))
}
