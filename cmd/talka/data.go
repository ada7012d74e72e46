package main

import (
	"context"
	"fmt"
	"io"
	"path/filepath"
	"strconv"
	"time"

	"github.com/ipfs/go-cid"
	"github.com/spf13/cobra"

	"github.com/talka-grid/talka/grid/api"
)

func (a *app) dataCmd() *cobra.Command {
	cmd := group("data", "Add content to the store, and get it from there or from peers")
	cmd.AddCommand(a.dataAddCmd(), a.dataGetCmd(), a.dataExportCmd(), a.dataImportCmd(), a.dataStatCmd())
	return cmd
}

func (a *app) dataAddCmd() *cobra.Command {
	return dataInCmd(a, "add PATH", "Add a file or folder", "adding", (*api.Client).AddData, func(w io.Writer, added api.Added) {
		fields(w, "cid", added.Cid, "size", size(added.Bytes), "chunks", strconv.Itoa(added.Chunks))
	})
}

func (a *app) dataImportCmd() *cobra.Command {
	return dataInCmd(a, "import FILE", "Add what a content archive (CAR) holds", "importing", (*api.Client).ImportData, func(w io.Writer, in api.Imported) {
		for _, root := range in.Roots {
			fields(w, "cid", root)
		}
		fields(w, "size", size(in.Bytes), "chunks", strconv.Itoa(in.Chunks))
	})
}

// dataInCmd is a command that has the node read a path, and writes what came of it.
func dataInCmd[T any](a *app, use, short, doing string,
	add func(*api.Client, context.Context, string, func(done, total int64)) (T, error), write func(io.Writer, T),
) *cobra.Command {
	return &cobra.Command{
		Use: use, Short: short, Args: argCount(1, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			path, err := filepath.Abs(args[0])
			if err != nil {
				return err
			}
			c, err := a.client()
			if err != nil {
				return err
			}
			bar := a.bytesBar(doing + " " + filepath.Base(path))
			added, err := add(c, cmd.Context(), path, bar.set)
			bar.end()
			if err != nil {
				return err
			}
			return a.show(added, func(w io.Writer) { write(w, added) })
		},
	}
}

func (a *app) dataGetCmd() *cobra.Command {
	return a.dataOutCmd("get CID -o PATH", "Write content to a new file or folder", "getting", (*api.Client).GetData)
}

func (a *app) dataExportCmd() *cobra.Command {
	return a.dataOutCmd("export CID -o FILE", "Write content to a new content archive (CAR)", "exporting", (*api.Client).ExportData)
}

// dataOutCmd is a command that has the node write content to a path.
func (a *app) dataOutCmd(use, short, doing string,
	get func(*api.Client, context.Context, cid.Cid, string, time.Duration, func(done, total int64)) error,
) *cobra.Command {
	var dest string
	var timeout time.Duration
	cmd := &cobra.Command{
		Use: use, Short: short, Args: argCount(1, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			id, err := cid.Decode(args[0])
			if err != nil {
				return usage("CID %q: %v", args[0], err)
			}
			if dest == "" || timeout <= 0 {
				return usage("usage: %s (with a timeout above zero)", cmd.UseLine())
			}
			path, err := filepath.Abs(dest)
			if err != nil {
				return err
			}
			c, err := a.client()
			if err != nil {
				return err
			}
			bar := a.bytesBar(doing + " " + id.String())
			err = get(c, cmd.Context(), id, path, timeout, bar.set)
			bar.end()
			if err != nil {
				return err
			}
			return a.show(map[string]string{"cid": id.String(), "path": path}, func(w io.Writer) {
				_, _ = io.WriteString(w, path+"\n")
			})
		},
	}
	cmd.Flags().StringVarP(&dest, "output", "o", "", "where to write it; must not exist")
	cmd.Flags().DurationVar(&timeout, "timeout", time.Minute, "give up after this long without progress")
	return cmd
}

func (a *app) dataStatCmd() *cobra.Command {
	return &cobra.Command{
		Use: "stat", Short: "Tell what the store holds, and why", Args: argCount(0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := a.client()
			if err != nil {
				return err
			}
			info, err := c.DataInfo(cmd.Context())
			if err != nil {
				return err
			}
			return a.show(info, func(w io.Writer) {
				fields(w, "stored", size(info.Bytes)+" of "+size(info.Quota), "chunks", strconv.Itoa(info.Chunks), "damaged", strconv.Itoa(info.Damaged),
					"sent", size(info.Sent)+" this month", "received", size(info.Received)+" this month")
				for _, u := range info.Reasons {
					fields(w, u.Reason, fmt.Sprintf("%s in %d roots", size(u.Bytes), u.Roots))
				}
			})
		},
	}
}
