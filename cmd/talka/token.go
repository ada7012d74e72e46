package main

import (
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/talka-grid/talka/grid/api"
)

func (a *app) tokenCmd() *cobra.Command {
	cmd := group("token", "Let other programs talk to the node")
	cmd.AddCommand(a.tokenNewCmd(), a.tokenListCmd(), a.tokenRevokeCmd())
	return cmd
}

func (a *app) tokenNewCmd() *cobra.Command {
	var role string
	var life time.Duration
	cmd := &cobra.Command{
		Use: "new NAME", Short: "Make a token, which is shown once", Args: argCount(1, 1),
		Long: "Make a token, which is shown once. A program sends it to the node's page port, behind\n" +
			"\"Authorization: Bearer \". It may read; control: pause, join, trust; publish: make\n" +
			"projects and jobs; admin: all of these, and change settings. Set api.listen, so that\n" +
			"the port stays the same.",
		RunE: func(cmd *cobra.Command, args []string) error {
			if !slices.Contains(api.Roles(), api.Role(role)) {
				return usage("--role %q: want read, control, publish or admin", role)
			}
			c, err := a.client()
			if err != nil {
				return err
			}
			n, err := c.NewToken(cmd.Context(), args[0], api.Role(role), life)
			if err != nil {
				return err
			}
			return a.show(n, func(w io.Writer) {
				fmt.Fprintln(w, n.Text)
				fmt.Fprintf(w, "Good for %s at %s until %s.\n", n.Role, n.URL, n.Until.Local().Format("2 Jan 2006 15:04"))
			})
		},
	}
	cmd.Flags().StringVar(&role, "role", string(api.RoleRead), "read, control, publish or admin")
	cmd.Flags().DurationVar(&life, "for", 30*24*time.Hour, "how long it is good, up to a year")
	return cmd
}

func (a *app) tokenListCmd() *cobra.Command {
	return &cobra.Command{
		Use: "ls", Short: "List the tokens that are good", Args: argCount(0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := a.client()
			if err != nil {
				return err
			}
			list, err := c.Tokens(cmd.Context())
			if err != nil {
				return err
			}
			return a.show(list, func(w io.Writer) {
				var rows [][]string
				for _, t := range list {
					rows = append(rows, []string{line(t.Name), string(t.Role), t.Until.Local().Format("2 Jan 2006 15:04")})
				}
				table(w, []string{"NAME", "ROLE", "UNTIL"}, rows)
			})
		},
	}
}

func (a *app) tokenRevokeCmd() *cobra.Command {
	return &cobra.Command{
		Use: "revoke NAME", Short: "End a token", Args: argCount(1, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := a.client()
			if err != nil {
				return err
			}
			return c.RevokeToken(cmd.Context(), args[0])
		},
	}
}
