package main

import (
	"io"

	"github.com/spf13/cobra"

	"github.com/talka-grid/talka/workunits"
)

func (a *app) projectCmd() *cobra.Command {
	cmd := group("project", "Publish projects, and choose whose units to execute")
	cmd.AddCommand(a.projectNewCmd(), a.projectListCmd(), a.projectTrustCmd(true), a.projectTrustCmd(false))
	return cmd
}

func (a *app) projectNewCmd() *cobra.Command {
	return &cobra.Command{
		Use: "new NAME", Short: "Make a project that this node publishes", Args: argCount(1, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := workunits.ValidName(args[0]); err != nil {
				return usage("%v", err)
			}
			c, err := a.client()
			if err != nil {
				return err
			}
			id, err := c.NewProject(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			return a.show(map[string]string{"project": id.String()}, func(w io.Writer) {
				_, _ = io.WriteString(w, id.String()+"\n")
			})
		},
	}
}

func (a *app) projectListCmd() *cobra.Command {
	return &cobra.Command{
		Use: "ls", Short: "List the projects that this node publishes or trusts", Args: argCount(0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := a.client()
			if err != nil {
				return err
			}
			projects, err := c.Projects(cmd.Context())
			if err != nil {
				return err
			}
			yes := map[bool]string{true: "yes", false: "no"}
			return a.show(projects, func(w io.Writer) {
				var rows [][]string
				for _, p := range projects {
					rows = append(rows, []string{p.Project.String(), yes[p.Own], yes[p.Trusted]})
				}
				table(w, []string{"PROJECT", "OWN", "TRUSTED"}, rows)
			})
		},
	}
}

func (a *app) projectTrustCmd(trust bool) *cobra.Command {
	use, short, done := "revoke PROJECT", "Execute no more units of a project", "no longer trusted"
	if trust {
		use, short, done = "trust PROJECT", "Execute units of a project", "trusted"
	}
	return &cobra.Command{
		Use: use, Short: short, Args: argCount(1, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			id, err := workunits.ParseProjectID(args[0])
			if err != nil {
				return usage("%v", err)
			}
			c, err := a.client()
			if err != nil {
				return err
			}
			if err := c.Trust(cmd.Context(), id, trust); err != nil {
				return err
			}
			return a.show(map[string]any{"project": id.String(), "trusted": trust}, func(w io.Writer) {
				_, _ = io.WriteString(w, id.String()+" is "+done+"\n")
			})
		},
	}
}
