package main

import (
	"io"
	"path/filepath"
	"strconv"
	"time"

	"github.com/ipfs/go-cid"
	"github.com/spf13/cobra"
)

func (a *app) dataCmd() *cobra.Command {
	cmd := group("data", "Add content to the store, and get it from there or from peers")
	cmd.AddCommand(a.dataAddCmd(), a.dataGetCmd())
	return cmd
}

func (a *app) dataAddCmd() *cobra.Command {
	return &cobra.Command{
		Use: "add PATH", Short: "Add a file or folder", Args: argCount(1, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			path, err := filepath.Abs(args[0])
			if err != nil {
				return err
			}
			c, err := a.client()
			if err != nil {
				return err
			}
			bar := a.bytesBar("adding " + filepath.Base(path))
			added, err := c.AddData(cmd.Context(), path, bar.set)
			bar.end()
			if err != nil {
				return err
			}
			return a.show(added, func(w io.Writer) {
				fields(w, "cid", added.Cid, "size", size(added.Bytes), "chunks", strconv.Itoa(added.Chunks))
			})
		},
	}
}

func (a *app) dataGetCmd() *cobra.Command {
	var dest string
	var timeout time.Duration
	cmd := &cobra.Command{
		Use: "get CID -o PATH", Short: "Write content to a new file or folder", Args: argCount(1, 1),
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
			bar := a.bytesBar("getting " + id.String())
			err = c.GetData(cmd.Context(), id, path, timeout, bar.set)
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
