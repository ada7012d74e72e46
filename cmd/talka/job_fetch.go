package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/ipfs/go-cid"
	"github.com/spf13/cobra"

	"github.com/talka-grid/talka/grid"
	"github.com/talka-grid/talka/grid/api"
	"github.com/talka-grid/talka/workunits"
)

const (
	resultsName  = "results.json"
	stdoutName   = "stdout"
	reduceName   = "reduce"
	fetchTimeout = time.Minute // for a result's file, without progress
)

func (a *app) jobFetchCmd() *cobra.Command {
	var out string
	var cat, free bool
	cmd := &cobra.Command{
		Use: "fetch JOB|PROJECT (-o DIR | --cat [-o FILE])", Short: "Fetch the accepted results of a job, or a project's latest", Args: argCount(1, 1),
		Long: "Fetch the accepted results of a job, or the latest that a project's publisher has sealed\n" +
			"(NAME@NODE), into a folder: DIR/<unit>/stdout, the unit's files\n" +
			"beside it, those of a second stage in DIR/reduce, and DIR/results.json; or with --cat the\n" +
			"standard outputs one after another, of a job with a second stage that stage's alone.\n" +
			"Exit code 3 if units are still without result, 4 if units failed.",
		RunE: func(cmd *cobra.Command, args []string) error {
			if out == "" && !cat {
				return usage("usage: %s", cmd.UseLine())
			}
			c, err := a.client()
			if err != nil {
				return err
			}
			id, err := jobOrLatest(cmd.Context(), c, args[0])
			if err != nil {
				return err
			}
			if cat {
				err = a.fetchCat(cmd.Context(), c, id, out)
			} else {
				err = a.fetchDir(cmd.Context(), c, id, out)
			}
			if err != nil || !free {
				return err
			}
			return c.FreeData(cmd.Context(), id)
		},
	}
	cmd.Flags().StringVarP(&out, "output", "o", "", "where to write")
	cmd.Flags().BoolVar(&cat, "cat", false, "write the standard outputs in unit order")
	cmd.Flags().BoolVar(&free, "free", false, "then tell all who keep the job's data that they need not any more, if every unit has a result")
	return cmd
}

// fetched counts what a fetch brought.
type fetched struct {
	Job     workunits.JobID `json:"job"`
	Path    string          `json:"path"`
	Units   int             `json:"units"` // of the job, without its second stage
	Results int             `json:"results"`
	Failed  int             `json:"failed"`
	Missing int             `json:"missing"`          // neither accepted nor failed yet
	Reduce  grid.StageState `json:"reduce,omitempty"` // of the second stage, accepted if it was fetched
}

// newFetched is what a fetch begins with.
func newFetched(info grid.JobInfo, path string) fetched {
	return fetched{Job: info.Job, Path: path, Units: info.Units.Total, Missing: info.Units.Total, Reduce: info.Reduce}
}

// count counts one result.
func (s *fetched) count(r api.Result) {
	switch {
	case r.Reduce && r.Failed:
		s.Reduce = grid.StageFailed
	case r.Reduce:
		s.Reduce = grid.StageAccepted
	case r.Failed:
		s.Missing--
		s.Failed++
	default:
		s.Missing--
		s.Results++
	}
}

func (a *app) fetchDir(ctx context.Context, c *api.Client, id workunits.JobID, dir string) error {
	info, err := c.Job(ctx, id)
	if err != nil {
		return err
	}
	f, err := newFetch(c, info, dir)
	if err != nil {
		return err
	}
	bar := a.countBar("fetching results")
	err = c.Results(ctx, id, func(r api.Result) error {
		err := f.unit(ctx, r)
		bar.set(int64(f.sum.Results+f.sum.Failed), int64(info.Units.Total))
		return err
	})
	bar.end()
	if err := errors.Join(err, f.close(err == nil)); err != nil {
		return err
	}
	if err := a.show(f.sum, func(w io.Writer) {
		fmt.Fprintf(w, "%s in %s\n", plural(f.sum.Results, "result"), f.sum.Path)
	}); err != nil {
		return err
	}
	return f.sum.end()
}

// end is the command's end, by what is missing.
func (s fetched) end() error {
	switch {
	case s.Missing > 0:
		return &exitErr{exitPartial, fmt.Errorf("%s of %d have no result yet: fetch again later", plural(s.Missing, "unit"), s.Units)}
	case s.Failed > 0:
		return &exitErr{exitFailedUnits, fmt.Errorf("%s of %d failed", plural(s.Failed, "unit"), s.Units)}
	case s.Reduce == grid.StageFailed:
		return &exitErr{exitFailedUnits, errors.New("the second stage failed")}
	case s.Reduce != "" && s.Reduce != grid.StageAccepted:
		return &exitErr{exitPartial, errors.New("the second stage has no result yet: fetch again later")}
	}
	return nil
}

// fetch writes results into a folder. Paths come from volunteers: everything is
// written through root, which no path leaves.
type fetch struct {
	client *api.Client
	root   *os.Root
	sum    fetched
	list   *os.File // results.json before it has its name
	json   *bufio.Writer
	sep    string // before the next result in it
}

func newFetch(c *api.Client, info grid.JobInfo, dir string) (*fetch, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, err
	}
	list, err := os.CreateTemp(dir, "."+resultsName+"-")
	if err != nil {
		return nil, errors.Join(err, root.Close())
	}
	f := &fetch{client: c, root: root, list: list, json: bufio.NewWriter(list), sep: "\n"}
	f.sum = newFetched(info, dir)
	head, err := json.Marshal(map[string]any{"job": info.Job, "name": info.Name, "project": info.Project})
	if err != nil {
		return nil, errors.Join(err, root.Close())
	}
	// One result a line, and never all of them in memory.
	_, err = fmt.Fprintf(f.json, "%s,\"results\":[", strings.TrimSuffix(string(head), "}"))
	return f, err
}

// fetchedResult is a result as results.json lists it: with paths in the folder
// instead of contents.
type fetchedResult struct {
	Unit   uint32        `json:"unit"`
	Reduce bool          `json:"reduce,omitempty"` // the second stage
	Failed bool          `json:"failed"`
	How    string        `json:"how,omitempty"`
	Code   uint32        `json:"code"`
	Trap   string        `json:"trap,omitempty"`
	Files  []fetchedFile `json:"files"` // standard output first
}

type fetchedFile struct {
	Path  string `json:"path"` // in the folder
	Bytes uint64 `json:"bytes"`
	Cid   string `json:"cid,omitempty"`
}

// unit writes one result.
func (f *fetch) unit(ctx context.Context, r api.Result) error {
	out := fetchedResult{Unit: r.Unit, Reduce: r.Reduce, Failed: r.Failed, How: r.How, Code: r.Code, Trap: r.Trap, Files: []fetchedFile{}}
	f.sum.count(r)
	if !r.Failed {
		folder := strconv.FormatUint(uint64(r.Unit), 10)
		if r.Reduce {
			folder = reduceName
		}
		for i, file := range append([]api.File{r.Stdout}, r.Files...) {
			to := path.Join(folder, fileName(i == 0, file.Path))
			if err := f.file(ctx, to, file); err != nil {
				return fmt.Errorf("unit %d: %w", r.Unit, err)
			}
			out.Files = append(out.Files, fetchedFile{to, file.Bytes, file.Cid})
		}
	}
	b, err := json.Marshal(out)
	if err != nil {
		return err
	}
	_, err = f.json.WriteString(f.sep + string(b))
	f.sep = ",\n"
	return err
}

// fileName is a file's place in its unit's folder. A program may write a file
// named like the standard output; it is then found in "out".
func fileName(stdout bool, p string) string {
	switch {
	case stdout:
		return stdoutName
	case p == stdoutName || strings.HasPrefix(p, stdoutName+"/"):
		return "out/" + p
	}
	return p
}

// file writes one file, in place of one that an earlier fetch left.
func (f *fetch) file(ctx context.Context, to string, file api.File) error {
	if err := f.root.MkdirAll(path.Dir(to), 0o755); err != nil {
		return err
	}
	if file.Cid == "" {
		return f.root.WriteFile(to, file.Data, 0o644)
	}
	c, err := cid.Decode(file.Cid)
	if err != nil {
		return err
	}
	// The node writes to a name of ours, root gives it the volunteer's.
	tmp := ".fetching-" + c.String()
	if err := f.root.RemoveAll(tmp); err != nil {
		return err
	}
	if err := f.client.GetData(ctx, c, filepath.Join(f.sum.Path, tmp), fetchTimeout, func(_, _ int64) {}); err != nil {
		return err
	}
	return f.root.Rename(tmp, to)
}

// close gives results.json its name if all went well.
func (f *fetch) close(ok bool) error {
	_, err := f.json.WriteString("\n]}\n")
	err = errors.Join(err, f.json.Flush(), f.list.Chmod(0o644), f.list.Close(), f.root.Close())
	if !ok || err != nil {
		return errors.Join(err, os.Remove(f.list.Name()))
	}
	return os.Rename(f.list.Name(), filepath.Join(f.sum.Path, resultsName))
}

// fetchCat writes the standard outputs in unit order to a file, or to standard
// output if it has no name.
func (a *app) fetchCat(ctx context.Context, c *api.Client, id workunits.JobID, file string) (err error) {
	info, err := c.Job(ctx, id)
	if err != nil {
		return err
	}
	out := a.out
	if file != "" {
		f, cerr := os.Create(file)
		if cerr != nil {
			return cerr
		}
		defer func() { err = errors.Join(err, f.Close()) }()
		out = f
	}
	dir, err := a.dir()
	if err != nil {
		return err
	}
	tmp, remove, err := scratchIn(dir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, remove()) }()
	sum := newFetched(info, file)
	err = c.Results(ctx, id, func(r api.Result) error {
		if sum.count(r); r.Failed || r.Reduce != (info.Reduce != "") {
			return nil
		}
		return catFile(ctx, c, out, r.Stdout, filepath.Join(tmp, "stdout"))
	})
	if err != nil {
		return err
	}
	if file != "" {
		if err := a.show(sum, func(w io.Writer) { fmt.Fprintf(w, "%s in %s\n", plural(sum.Results, "result"), file) }); err != nil {
			return err
		}
	}
	return sum.end()
}

func catFile(ctx context.Context, c *api.Client, out io.Writer, file api.File, tmp string) error {
	if file.Cid == "" {
		_, err := out.Write(file.Data)
		return err
	}
	id, err := cid.Decode(file.Cid)
	if err != nil {
		return err
	}
	if err := c.GetData(ctx, id, tmp, fetchTimeout, func(_, _ int64) {}); err != nil {
		return err
	}
	f, err := os.Open(tmp)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, f)
	return errors.Join(err, f.Close(), os.Remove(tmp))
}
