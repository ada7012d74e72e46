package main

import (
	"fmt"
	"io"
	"slices"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/talka-grid/talka/grid"
	"github.com/talka-grid/talka/grid/volunteer"
	"github.com/talka-grid/talka/workunits"
)

func (a *app) projectCmd() *cobra.Command {
	cmd := group("project", "Publish projects, and choose whose units to execute")
	cmd.AddCommand(a.projectNewCmd(), a.projectListCmd(), a.projectShowCmd(), a.projectTrustCmd(true), a.projectTrustCmd(false))
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
		Use: "ls", Short: "List the projects that this node publishes, trusts or has heard of", Args: argCount(0, 0),
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
					rows = append(rows, []string{p.Project.String(), yes[p.Own], yes[p.Trusted], strconv.Itoa(p.Share), strconv.Itoa(p.OpenJobs)})
				}
				table(w, []string{"PROJECT", "OWN", "TRUSTED", "SHARE", "OPEN JOBS"}, rows)
			})
		},
	}
}

func (a *app) projectShowCmd() *cobra.Command {
	return &cobra.Command{
		Use: "show PROJECT", Short: "Show a project's jobs, what they run and its latest results", Args: argCount(1, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			id, err := workunits.ParseProjectID(args[0])
			if err != nil {
				return usage("%v", err)
			}
			c, err := a.client()
			if err != nil {
				return err
			}
			d, err := c.Project(cmd.Context(), id)
			if err != nil {
				return err
			}
			return a.show(d, func(w io.Writer) { writeProject(w, d) })
		},
	}
}

func writeProject(w io.Writer, d grid.ProjectDetail) {
	trust := "not trusted: nothing of it runs here (talka project trust)"
	if d.Trusted {
		trust = "trusted: its units run here"
	}
	fields(w, "project", line(d.Project.Name), "publisher", d.Project.Publisher.String(), "consent", trust)
	var rows [][]string
	for _, j := range d.Jobs {
		rows = append(rows, []string{
			j.Job.String(), line(j.Name), j.Created.Format(time.DateOnly), string(j.State), acceptedOf(j.State, j.Units),
			size(int64(min(j.Memory, 1<<62))), (time.Duration(j.Seconds) * time.Second).String(), j.Program,
		})
	}
	if len(rows) > 0 {
		fmt.Fprintln(w)
		table(w, []string{"JOB", "NAME", "CREATED", "STATE", "ACCEPTED", "MEMORY", "TIME", "PROGRAM"}, rows)
	}
	if d.Missing > 0 {
		fmt.Fprintf(w, "%s known of that no peer told more about.\n", plural(d.Missing, "job"))
	}
	if r := d.Results; r != nil {
		fmt.Fprintf(w, "\nLatest results, number %d: %s of job %s\n  talka job fetch %s -o DIR\n", r.Number, plural(r.Accepted, "unit"), r.Job, d.Project)
	} else if i := slices.IndexFunc(d.Jobs, func(j grid.ProjectJob) bool { return j.Latest }); i >= 0 {
		fmt.Fprintf(w, "\nLatest results, not sealed yet: talka job fetch %s -o DIR\n", d.Jobs[i].Job)
	}
}

func (a *app) projectTrustCmd(trust bool) *cobra.Command {
	use, short, done := "revoke PROJECT", "Execute no more units of a project", "no longer trusted"
	if trust {
		use, short, done = "trust PROJECT", "Execute units of a project", "trusted"
	}
	share := 0
	cmd := &cobra.Command{
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
			given := trust && cmd.Flags().Changed("share")
			if given && (share < 1 || share > volunteer.MaxShare) {
				return usage("--share %d: %w", share, grid.ErrShare)
			}
			if given {
				err = c.SetShare(cmd.Context(), id, share)
			} else {
				err = c.Trust(cmd.Context(), id, trust)
			}
			if err != nil {
				return err
			}
			return a.show(map[string]any{"project": id.String(), "trusted": trust}, func(w io.Writer) {
				_, _ = io.WriteString(w, id.String()+" is "+done+"\n")
			})
		},
	}
	if trust {
		cmd.Flags().IntVar(&share, "share", 1, "of processor time beside other projects with work, 1 to 100")
	}
	return cmd
}
