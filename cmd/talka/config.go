package main

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sync"

	"github.com/spf13/cobra"

	"github.com/talka-grid/talka/chunkstore/whole"
	"github.com/talka-grid/talka/configs"
	"github.com/talka-grid/talka/grid/api"
)

func (a *app) configCmd() *cobra.Command {
	cmd := group("config", "See and change settings")
	at := func(c *cobra.Command) *cobra.Command {
		atFlag(c)
		return c
	}
	cmd.AddCommand(
		at(&cobra.Command{
			Use: "explain [KEY]", Short: "Show settings, what they mean and what decided them", Args: argCount(0, 1),
			RunE: func(cmd *cobra.Command, args []string) error { return a.configExplain(cmd, args) },
		}),
		&cobra.Command{
			Use: "get KEY", Short: "Show the value of a setting", Args: argCount(1, 1),
			RunE: func(_ *cobra.Command, args []string) error { return a.configGet(args[0]) },
		},
		at(&cobra.Command{
			Use: "set KEY VALUE", Short: "Change a setting; limits and rules count at once", Args: argCount(2, 2),
			RunE: func(cmd *cobra.Command, args []string) error { return a.configChange(cmd, args[0], &args[1]) },
		}),
		at(&cobra.Command{
			Use: "unset KEY", Short: "Forget what set changed", Args: argCount(1, 1),
			RunE: func(cmd *cobra.Command, args []string) error { return a.configChange(cmd, args[0], nil) },
		}),
	)
	return cmd
}

// sources are the settings' sources for a data directory.
func (a *app) sources(dir string, flags map[string]any) (configs.Sources, error) {
	s := configs.Sources{Flags: flags, Env: a.env}
	var err1, err2 error
	s.File, err1 = readIfThere(filepath.Join(dir, configs.FileName))
	s.Override, err2 = readIfThere(filepath.Join(dir, configs.OverrideName))
	return s, errors.Join(err1, err2)
}

func readIfThere(path string) ([]byte, error) {
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return b, err
}

// settings are the settings of a node's directory. Apply has those that are live
// count in the node that runs; it is nil where none does.
type settings struct {
	app   *app
	dir   string
	flags map[string]any
	apply func(configs.Config) error
	mu    sync.Mutex // held by changes
}

// Explain lists the settings with what decided them.
func (s *settings) Explain() ([]configs.Setting, error) {
	src, err := s.app.sources(s.dir, s.flags)
	if err != nil {
		return nil, err
	}
	return configs.Explain(src)
}

// Set changes a setting.
func (s *settings) Set(key, value string) error {
	return s.change(func(old []byte) ([]byte, error) { return configs.Set(old, key, value) })
}

// Unset forgets what Set changed.
func (s *settings) Unset(key string) error {
	return s.change(func(old []byte) ([]byte, error) { return configs.Unset(old, key) })
}

func (s *settings) change(change func(old []byte) ([]byte, error)) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	path := filepath.Join(s.dir, configs.OverrideName)
	old, err := readIfThere(path)
	if err != nil {
		return err
	}
	b, err := change(old)
	if err != nil {
		return &exitErr{exitUsage, err}
	}
	src, err := s.app.sources(s.dir, s.flags)
	if err != nil {
		return err
	}
	src.Override = b
	cfg, err := configs.Load(src) // one setting may not go with another
	if err != nil {
		return &exitErr{exitUsage, err}
	}
	if err := os.MkdirAll(s.dir, 0o700); err != nil {
		return err
	}
	if err := whole.Write(path, b); err != nil || s.apply == nil {
		return err
	}
	return s.apply(cfg)
}

// explained lists the settings, or the one of the given key.
func (a *app) explained(key string) ([]configs.Setting, error) {
	dir, err := a.dir()
	if err != nil {
		return nil, err
	}
	all, err := (&settings{app: a, dir: dir}).Explain()
	if err != nil {
		return nil, &exitErr{exitUsage, err}
	}
	return keyed(all, key)
}

// keyed is the setting of a key, or all settings where there is none.
func keyed(all []configs.Setting, key string) ([]configs.Setting, error) {
	if key == "" {
		return all, nil
	}
	for _, s := range all {
		if s.Key == key {
			return []configs.Setting{s}, nil
		}
	}
	_, err := configs.Set(nil, key, "") // knows what is near
	return nil, &exitErr{exitUsage, cmp.Or(err, fmt.Errorf("%s is not for other machines to see: only limits and rules are", key))}
}

func (a *app) configExplain(cmd *cobra.Command, args []string) error {
	key := append(args, "")[0]
	list, err := a.explained(key)
	if cmd.Flags().Changed("machine") {
		var c *api.Client
		if c, err = a.clientAt(cmd); err != nil {
			return err
		}
		if list, err = c.Settings(cmd.Context()); err == nil {
			list, err = keyed(list, key)
		}
	}
	if err != nil {
		return err
	}
	return a.show(list, func(w io.Writer) {
		var rows [][]string
		for _, s := range list {
			rows = append(rows, []string{s.Key, s.Value, s.Source, counts(s), s.Doc})
		}
		table(w, []string{"KEY", "VALUE", "SOURCE", "A CHANGE COUNTS", "MEANING"}, rows)
	})
}

func (a *app) configGet(key string) error {
	list, err := a.explained(key)
	if err != nil {
		return err
	}
	return a.show(list[0], func(w io.Writer) { _, _ = io.WriteString(w, line(list[0].Value)+"\n") })
}

// configChange changes a setting of the node that runs, or else of its directory. A
// nil value forgets what was changed.
func (a *app) configChange(cmd *cobra.Command, key string, value *string) error {
	c, err := a.clientAt(cmd)
	if err != nil {
		return err
	}
	list, err := c.Set(cmd.Context(), key, value)
	var e *api.Error
	if errors.As(err, &e) && e.Kind == api.KindNotRunning {
		return a.configFile(key, value)
	}
	if err != nil {
		return err
	}
	for _, s := range list {
		if s.Key == key {
			return a.show(s, func(w io.Writer) { fmt.Fprintln(w, changed(s)) })
		}
	}
	return nil
}

// changed says what a setting is now, from when, and what outweighs a change.
func changed(s configs.Setting) string {
	return fmt.Sprintf("%s is %s %s on (%s).", line(s.Key), line(s.Value), counts(s), line(s.Source))
}

// counts says from when a change of a setting counts.
func counts(s configs.Setting) string {
	if s.Live {
		return "from now"
	}
	return "from the next start"
}

// configFile changes the directory of a node that does not run.
func (a *app) configFile(key string, value *string) error {
	dir, err := a.dir()
	if err != nil {
		return err
	}
	s := &settings{app: a, dir: dir}
	if value == nil {
		return s.Unset(key)
	}
	return s.Set(key, *value)
}
