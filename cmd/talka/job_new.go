package main

import (
	_ "embed"
	"errors"
	"io"
	"io/fs"
	"os"

	"github.com/spf13/cobra"
)

//go:embed job.example.toml
var exampleJob string

func (a *app) jobNewCmd() *cobra.Command {
	return &cobra.Command{
		Use: "new [FILE]", Short: "Write a commented example of a job file (default job.toml)", Args: argCount(0, 1),
		RunE: func(_ *cobra.Command, args []string) error {
			file := append(args, "job.toml")[0]
			f, err := os.OpenFile(file, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o644)
			if errors.Is(err, fs.ErrExist) {
				return usage("%s is there already; give another name", file)
			}
			if err != nil {
				return err
			}
			_, err = f.WriteString(exampleJob)
			if err = errors.Join(err, f.Close()); err != nil {
				return err
			}
			return a.show(map[string]string{"file": file}, func(w io.Writer) {
				_, _ = io.WriteString(w, "Wrote "+file+". Edit it, then: talka job submit "+file+"\n")
			})
		},
	}
}
