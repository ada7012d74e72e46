package main

import (
	"io"

	"github.com/spf13/cobra"
)

func (a *app) inviteCmd() *cobra.Command {
	return &cobra.Command{
		Use: "invite", Short: "Print a text by which another node finds this network", Args: argCount(0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := a.client()
			if err != nil {
				return err
			}
			invite, err := c.Invite(cmd.Context())
			if err != nil {
				return err
			}
			return a.show(map[string]string{"invite": invite}, func(w io.Writer) { _, _ = io.WriteString(w, line(invite)+"\n") })
		},
	}
}
