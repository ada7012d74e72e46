package main

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/talka-grid/talka/grid/api"
	"github.com/talka-grid/talka/workunits"
	"github.com/talka-grid/talka/workunits/ledger"
)

func (a *app) jobExportCmd() *cobra.Command {
	var out string
	var results bool
	cmd := &cobra.Command{
		Use: "export JOB -o FILE", Short: "Write a job's manifest and ledger to a file that talka verify checks", Args: argCount(1, 1),
		Long: "Write a job's manifest and ledger to a file that talka verify checks, and that talka job\n" +
			"import takes in on another node. With --results, the accepted results as well.",
		RunE: func(cmd *cobra.Command, args []string) error {
			if out == "" {
				return usage("usage: %s", cmd.UseLine())
			}
			c, id, err := a.ofJob(args[0])
			if err != nil {
				return err
			}
			x, err := a.exportJob(cmd.Context(), c, id, out, results)
			if err != nil {
				return err
			}
			return a.show(x, func(w io.Writer) {
				fields(w, "job", id.String(), "size", size(x.Bytes), "segments", plural(x.Segments, "segment"))
			})
		},
	}
	cmd.Flags().StringVarP(&out, "output", "o", "", "the new file")
	cmd.Flags().BoolVar(&results, "results", false, "write the accepted results, too")
	return cmd
}

func (a *app) jobImportCmd() *cobra.Command {
	return &cobra.Command{
		Use: "import FILE", Short: "Take in a job from a file that talka job export wrote", Args: argCount(1, 1),
		Long: "Take in a job from a file that talka job export wrote, on any node of its network. Every\n" +
			"signature in it is checked. Then talka job show, talka verify and talka job fetch know the\n" +
			"job here, without those who look after it if the file has the results; they are kept, and\n" +
			"given to peers, as long as the job asks from now on.",
		RunE: func(cmd *cobra.Command, args []string) error {
			path, err := filepath.Abs(args[0])
			if err != nil {
				return err
			}
			c, err := a.client()
			if err != nil {
				return err
			}
			bar := a.bytesBar("importing")
			r, err := c.ImportJob(cmd.Context(), path, bar.set)
			bar.end()
			if err != nil {
				return err
			}
			return a.show(r, func(w io.Writer) {
				fields(w, "job", r.Job.String(), "name", r.Name, "segments", plural(r.Segments, "segment"), "results", plural(r.Results, "record"))
			})
		},
	}
}

// exported is what an export wrote.
type exported struct {
	Job      workunits.JobID `json:"job"`
	Bytes    int64           `json:"bytes"`
	Segments int             `json:"segments"`
}

// exportJob writes what the node has of a job's ledger, and of its results if they are
// asked for; the file appears whole.
func (a *app) exportJob(ctx context.Context, c *api.Client, id workunits.JobID, path string, results bool) (x exported, err error) {
	l, err := c.Ledger(ctx, id)
	if err != nil {
		return x, err
	}
	f, err := os.CreateTemp(filepath.Dir(path), ".talka-export-")
	if err != nil {
		return x, err
	}
	defer os.Remove(f.Name())
	if err = ledger.WriteExport(f, l); err == nil && results {
		err = errors.Join(ledger.WriteEnd(f), a.exportResults(ctx, c, id, f))
	}
	err = errors.Join(err, f.Sync())
	x = exported{Job: id, Segments: len(l.Segments)}
	if info, serr := f.Stat(); serr == nil {
		x.Bytes = info.Size()
	}
	if err = errors.Join(err, f.Close()); err == nil {
		err = os.Rename(f.Name(), path)
	}
	return x, err
}

// exportResults has the node write an archive of a job's results, and appends it.
func (a *app) exportResults(ctx context.Context, c *api.Client, id workunits.JobID, to *os.File) (err error) {
	bar := a.countBar("gathering results")
	root, err := c.GatherResults(ctx, id, bar.set)
	bar.end()
	if err != nil {
		return err
	}
	dir, err := filepath.Abs(to.Name() + "-results")
	if err == nil {
		err = os.Mkdir(dir, 0o700)
	}
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	archive := filepath.Join(dir, "car")
	if _, err := c.ExportData(ctx, root, archive, nil, fetchTimeout, nil); err != nil {
		return err
	}
	in, err := os.Open(archive)
	if err != nil {
		return err
	}
	_, err = io.Copy(to, in)
	return errors.Join(err, in.Close())
}
