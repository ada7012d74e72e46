package main

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/talka-grid/talka/configs"
)

func (a *app) configCmd() *cobra.Command {
	cmd := group("config", "See and change settings")
	cmd.AddCommand(
		&cobra.Command{
			Use: "explain [KEY]", Short: "Show settings, what they mean and what decided them", Args: argCount(0, 1),
			RunE: func(_ *cobra.Command, args []string) error { return a.configExplain(args) },
		},
		&cobra.Command{
			Use: "get KEY", Short: "Show the value of a setting", Args: argCount(1, 1),
			RunE: func(_ *cobra.Command, args []string) error { return a.configGet(args[0]) },
		},
		&cobra.Command{
			Use: "set KEY VALUE", Short: "Change a setting from the next start on", Args: argCount(2, 2),
			RunE: func(_ *cobra.Command, args []string) error {
				return a.configChange(func(s settings) error { return s.Set(args[0], args[1]) })
			},
		},
		&cobra.Command{
			Use: "unset KEY", Short: "Forget what set changed", Args: argCount(1, 1),
			RunE: func(_ *cobra.Command, args []string) error {
				return a.configChange(func(s settings) error { return s.Unset(args[0]) })
			},
		},
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

// settings are the settings of a node's directory.
type settings struct {
	app   *app
	dir   string
	flags map[string]any
}

// Explain lists the settings with what decided them.
func (s settings) Explain() ([]configs.Setting, error) {
	src, err := s.app.sources(s.dir, s.flags)
	if err != nil {
		return nil, err
	}
	return configs.Explain(src)
}

// Set changes a setting from the next start on.
func (s settings) Set(key, value string) error {
	return s.change(func(old []byte) ([]byte, error) { return configs.Set(old, key, value) })
}

// Unset forgets what Set changed.
func (s settings) Unset(key string) error {
	return s.change(func(old []byte) ([]byte, error) { return configs.Unset(old, key) })
}

func (s settings) change(change func(old []byte) ([]byte, error)) error {
	path := filepath.Join(s.dir, configs.OverrideName)
	old, err := readIfThere(path)
	if err != nil {
		return err
	}
	b, err := change(old)
	if err != nil {
		return &exitErr{exitUsage, err}
	}
	if err := os.MkdirAll(s.dir, 0o700); err != nil {
		return err
	}
	return writeFile(path, b)
}

// explained lists the settings, or the one of the given key.
func (a *app) explained(key string) ([]configs.Setting, error) {
	dir, err := a.dir()
	if err != nil {
		return nil, err
	}
	all, err := settings{a, dir, nil}.Explain()
	if err != nil {
		return nil, &exitErr{exitUsage, err}
	}
	if key == "" {
		return all, nil
	}
	for _, s := range all {
		if s.Key == key {
			return []configs.Setting{s}, nil
		}
	}
	_, err = configs.Set(nil, key, "") // knows what is near
	return nil, &exitErr{exitUsage, err}
}

func (a *app) configExplain(args []string) error {
	list, err := a.explained(append(args, "")[0])
	if err != nil {
		return err
	}
	return a.show(list, func(w io.Writer) {
		var rows [][]string
		for _, s := range list {
			rows = append(rows, []string{s.Key, s.Value, s.Source, s.Doc})
		}
		table(w, []string{"KEY", "VALUE", "SOURCE", "MEANING"}, rows)
	})
}

func (a *app) configGet(key string) error {
	list, err := a.explained(key)
	if err != nil {
		return err
	}
	return a.show(list[0], func(w io.Writer) { _, _ = io.WriteString(w, line(list[0].Value)+"\n") })
}

func (a *app) configChange(change func(s settings) error) error {
	dir, err := a.dir()
	if err != nil {
		return err
	}
	return change(settings{a, dir, nil})
}
