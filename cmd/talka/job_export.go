package main

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/talka-grid/talka/workunits"
	"github.com/talka-grid/talka/workunits/ledger"
)

func (a *app) jobExportCmd() *cobra.Command {
	var out string
	cmd := &cobra.Command{
		Use: "export JOB -o FILE", Short: "Write a job's manifest and ledger to a file that talka verify checks", Args: argCount(1, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if out == "" {
				return usage("usage: %s", cmd.UseLine())
			}
			id, err := parseJob(args[0])
			if err != nil {
				return err
			}
			bytes, segments, err := a.exportJob(cmd.Context(), id, out)
			if err != nil {
				return err
			}
			return a.show(map[string]any{"job": id, "bytes": bytes, "segments": segments}, func(w io.Writer) {
				fields(w, "job", id.String(), "size", size(bytes), "segments", plural(segments, "segment"))
			})
		},
	}
	cmd.Flags().StringVarP(&out, "output", "o", "", "the new file")
	return cmd
}

// exportJob writes what the node has of a job's ledger; the file appears whole.
func (a *app) exportJob(ctx context.Context, id workunits.JobID, path string) (bytes int64, segments int, err error) {
	c, err := a.client()
	if err != nil {
		return 0, 0, err
	}
	x, err := c.Ledger(ctx, id)
	if err != nil {
		return 0, 0, err
	}
	f, err := os.CreateTemp(filepath.Dir(path), ".talka-export-")
	if err != nil {
		return 0, 0, err
	}
	defer os.Remove(f.Name())
	err = errors.Join(ledger.WriteExport(f, x), f.Sync())
	if info, serr := f.Stat(); serr == nil {
		bytes = info.Size()
	}
	if err = errors.Join(err, f.Close()); err == nil {
		err = os.Rename(f.Name(), path)
	}
	return bytes, len(x.Segments), err
}
