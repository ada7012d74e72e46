package main

import (
	"fmt"
	"io"

	"github.com/spf13/cobra"
)

func (a *app) netcheckCmd() *cobra.Command {
	return &cobra.Command{
		Use: "netcheck", Short: "Tell how others can reach this node, and what to try next", Args: argCount(0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := a.client()
			if err != nil {
				return err
			}
			r, err := c.Netcheck(cmd.Context())
			if err != nil {
				return err
			}
			return a.show(r, func(w io.Writer) {
				fmt.Fprintln(w, line(r.State))
				for _, s := range r.Facts {
					fmt.Fprintln(w, "  "+line(s))
				}
				for _, s := range r.Next {
					fmt.Fprintln(w, "Next: "+line(s))
				}
			})
		},
	}
}
