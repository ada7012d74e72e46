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

	"github.com/talka-grid/talka/grid"
	"github.com/talka-grid/talka/grid/api"
)

func (a *app) dataCmd() *cobra.Command {
	cmd := group("data", "Add content to the store, and get it from there or from peers")
	cmd.AddCommand(a.dataAddCmd(), a.dataGetCmd(), a.dataListCmd(), a.dataPinCmd(), a.dataUnpinCmd(),
		a.dataExportCmd(), a.dataImportCmd(), a.dataStatCmd())
	return cmd
}

func (a *app) dataAddCmd() *cobra.Command {
	var as grid.Adding
	hash := "blake3"
	add := func(c *api.Client, ctx context.Context, path string, progress func(done, total int64)) (api.Added, error) {
		switch hash {
		case "blake3":
		case "sha2-256":
			as.Hash = grid.SHA256
		default:
			return api.Added{}, usage("--hash %s: want blake3 or sha2-256", hash)
		}
		return c.AddDataAs(ctx, path, as, progress)
	}
	cmd := dataInCmd(a, "add PATH", "Add a file or folder", "adding", add, func(w io.Writer, added api.Added) {
		fields(w, "cid", added.Cid, "size", size(added.Bytes), "chunks", strconv.Itoa(added.Chunks))
	})
	cmd.Flags().BoolVar(&as.Link, "no-copy", false, "leave files where they are and read them there; what is changed is found out, and not served")
	cmd.Flags().StringVar(&hash, "hash", hash, "how chunks are named: blake3, or sha2-256, which is slower")
	return cmd
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
	return a.dataOutCmd("get CID -o PATH", "Write content to a new file or folder", "getting", (*api.Client).BringData)
}

func (a *app) dataExportCmd() *cobra.Command {
	return a.dataOutCmd("export CID -o FILE", "Write content to a new content archive (CAR)", "exporting", (*api.Client).ExportData)
}

// gotten is what `data get` and `data export` tell.
type gotten struct {
	Cid  string `json:"cid"`
	Path string `json:"path"`
	grid.DataOrigin
}

func (g gotten) write(w io.Writer) {
	_, _ = io.WriteString(w, g.Path+"\n")
	for _, s := range g.Sources {
		fields(w, "from", fmt.Sprintf("%s of %s over %s", size(s.Bytes), s.Peer, s.Protocol))
	}
	if g.Here > 0 {
		fields(w, "from", size(g.Here)+" of this node's store")
	}
}

// dataOutCmd is a command that has the node write content to a path.
func (a *app) dataOutCmd(use, short, doing string,
	get func(*api.Client, context.Context, cid.Cid, string, []string, time.Duration, func(done, total int64)) (grid.DataOrigin, error),
) *cobra.Command {
	var dest string
	var from []string
	var timeout time.Duration
	cmd := &cobra.Command{
		Use: use, Short: short, Args: argCount(1, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			id, err := parseCid(args[0])
			if err != nil {
				return err
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
			origin, err := get(c, cmd.Context(), id, path, from, timeout, bar.set)
			bar.end()
			if err != nil {
				return err
			}
			got := gotten{id.String(), path, origin}
			return a.show(got, got.write)
		},
	}
	cmd.Flags().StringVarP(&dest, "output", "o", "", "where to write it; must not exist")
	cmd.Flags().StringArrayVar(&from, "from", nil, "address of a peer to ask as well, an IPFS node too: /ip4/…/p2p/…; repeatable")
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
				fields(w, "stored", size(info.Bytes)+" of "+size(info.Quota), "chunks", strconv.Itoa(info.Chunks), "damaged", strconv.Itoa(info.Damaged), "not copied", size(info.Linked),
					"sent", size(info.Sent)+" this month", "received", size(info.Received)+" this month")
				for _, u := range info.Reasons {
					fields(w, u.Reason, fmt.Sprintf("%s in %d roots", size(u.Bytes), u.Roots))
				}
			})
		},
	}
}

func parseCid(s string) (cid.Cid, error) {
	id, err := cid.Decode(s)
	if err != nil {
		return id, usage("CID %q: %v", s, err)
	}
	return id, nil
}

func (a *app) dataListCmd() *cobra.Command {
	return &cobra.Command{
		Use: "ls", Short: "List what the store keeps, once for each reason", Args: argCount(0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := a.client()
			if err != nil {
				return err
			}
			list := []grid.Kept{}
			if err := c.KeptData(cmd.Context(), func(k grid.Kept) error { list = append(list, k); return nil }); err != nil {
				return err
			}
			return a.show(list, func(w io.Writer) {
				rows := make([][]string, len(list))
				for i, k := range list {
					reason := k.Reason
					if k.Withheld {
						reason += ", sealed"
					}
					rows[i] = []string{k.Cid, size(k.Bytes), reason, k.For}
				}
				table(w, []string{"CID", "HERE", "KEPT AS", "FOR"}, rows)
			})
		},
	}
}

func (a *app) dataPinCmd() *cobra.Command {
	var timeout time.Duration
	cmd := &cobra.Command{
		Use: "pin CID", Short: "Keep content, fetched from peers if need be", Args: argCount(1, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			id, err := parseCid(args[0])
			if err != nil {
				return err
			}
			if timeout <= 0 {
				return usage("--timeout: want a time above zero")
			}
			c, err := a.client()
			if err != nil {
				return err
			}
			bar := a.bytesBar("fetching " + id.String())
			pinned, err := c.Pin(cmd.Context(), id, timeout, bar.set)
			bar.end()
			if err != nil {
				return err
			}
			return a.show(pinned, func(w io.Writer) { fields(w, "pinned", pinned.Cid, "size", size(pinned.Bytes)) })
		},
	}
	cmd.Flags().DurationVar(&timeout, "timeout", time.Minute, "give up after this long without progress")
	return cmd
}

func (a *app) dataUnpinCmd() *cobra.Command {
	return &cobra.Command{
		Use: "unpin CID", Short: "Keep content that was added or pinned no longer", Args: argCount(1, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			id, err := parseCid(args[0])
			if err != nil {
				return err
			}
			c, err := a.client()
			if err != nil {
				return err
			}
			if err := c.Unpin(cmd.Context(), id); err != nil {
				return err
			}
			return a.show(map[string]string{"cid": id.String()}, func(w io.Writer) { fields(w, "unpinned", id.String()) })
		},
	}
}
