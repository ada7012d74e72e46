package main

import (
	"fmt"
	"io"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/talka-grid/talka/workunits"
)

func (a *app) recordCmd() *cobra.Command {
	cmd := group("record", "Records of what a node gave, for others to check")
	cmd.AddCommand(a.recordMakeCmd(), a.recordVerifyCmd())
	return cmd
}

func (a *app) recordMakeCmd() *cobra.Command {
	var out string
	cmd := &cobra.Command{
		Use: "make -o FILE", Short: "Write a signed record of what this node gave", Args: argCount(0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if out == "" {
				return usage("want -o FILE")
			}
			c, err := a.client()
			if err != nil {
				return err
			}
			b, err := c.Record(cmd.Context())
			if err != nil {
				return err
			}
			f, err := os.OpenFile(out, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o644)
			if err != nil {
				return err
			}
			if _, err = f.Write(b.Record); err == nil {
				err = f.Sync()
			}
			if cerr := f.Close(); err == nil {
				err = cerr
			}
			if err != nil {
				return err
			}
			return a.verified(b.Record)
		},
	}
	cmd.Flags().StringVarP(&out, "output", "o", "", "file to write, which must not exist")
	return cmd
}

func (a *app) recordVerifyCmd() *cobra.Command {
	return &cobra.Command{
		Use: "verify FILE", Short: "Check a record, and tell who vouches for what", Args: argCount(1, 1),
		Long: "Check a record, and tell who vouches for what. Needs neither a node nor a network: the\n" +
			"record holds what publishers signed. What a node says of itself is told apart.",
		RunE: func(_ *cobra.Command, args []string) error {
			f, err := os.Open(args[0])
			if err != nil {
				return err
			}
			raw, err := io.ReadAll(io.LimitReader(f, workunits.MaxContribution+1))
			if cerr := f.Close(); err == nil {
				err = cerr
			}
			if err != nil {
				return err
			}
			return a.verified(raw)
		},
	}
}

// verified checks a record and shows what it proves.
func (a *app) verified(raw []byte) error {
	c, vouched, err := workunits.ParseContribution(raw)
	if err != nil {
		return fmt.Errorf("this record proves nothing: %w", err)
	}
	type out struct {
		Node     workunits.NodeID    `json:"peer_id"`
		Network  string              `json:"network"`
		Made     time.Time           `json:"made"`
		Vouched  []workunits.Vouched `json:"vouched"`
		Accepted uint64              `json:"accepted"`
		Copies   uint64              `json:"copies"`
		Millis   uint64              `json:"millis"`
	}
	made := time.Unix(int64(c.Made), 0).UTC()
	if vouched == nil {
		vouched = []workunits.Vouched{}
	}
	return a.show(out{c.Node, c.Network, made, vouched, c.Accepted, c.Copies, c.Millis}, func(w io.Writer) {
		fields(w, "node", c.Node.String(), "network", line(c.Network), "made", made.Format(time.RFC3339))
		fmt.Fprintln(w)
		for _, v := range vouched {
			by := "signed by its publisher " + v.Project.Publisher.String()
			if v.Project.Publisher == c.Node {
				by = "its own project, so nobody else vouches"
			}
			fmt.Fprintf(w, "%s: %s of accepted work by %s, %s; %s\n", line(v.Project.Name), time.Duration(v.Millis)*time.Millisecond,
				time.Unix(int64(v.Created), 0).UTC().Format(time.DateOnly), plural(int(v.Strikes), "strike"), by)
		}
		if len(vouched) == 0 {
			fmt.Fprintln(w, "No publisher vouches for this node yet: that comes with the next job of a project.")
		}
		fmt.Fprintf(w, "\nBy its own word: %d copies in accepted units, %d executed, %s of processor time.\n", c.Accepted, c.Copies, time.Duration(c.Millis)*time.Millisecond)
	})
}
