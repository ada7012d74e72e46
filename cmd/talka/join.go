package main

import (
	"io"

	"github.com/spf13/cobra"
)

func (a *app) joinCmd() *cobra.Command {
	return &cobra.Command{
		Use: "join INVITE", Short: "Join the network of an invite", Args: argCount(1, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := a.client()
			if err != nil {
				return err
			}
			st, err := c.Join(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			return a.show(st, func(w io.Writer) {
				_, _ = io.WriteString(w, "joined network "+line(st.Network)+": "+plural(st.Peers, "peer")+"\n")
			})
		},
	}
}
