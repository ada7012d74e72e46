package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/talka-grid/talka/grid"
	"github.com/talka-grid/talka/grid/api"
	"github.com/talka-grid/talka/workunits"
)

func (a *app) machinesCmd() *cobra.Command {
	cmd := group("machines", "See and control your other machines")
	cmd.Long = "See and control your other machines, which `talka pair` made known to this one.\n" +
		"status, why, pause, resume and config set take --machine NAME."
	cmd.AddCommand(
		&cobra.Command{
			Use: "ls", Short: "List your machines and what they do", Args: argCount(0, 0),
			RunE: func(cmd *cobra.Command, _ []string) error { return a.machinesList(cmd.Context()) },
		},
		&cobra.Command{
			Use: "rename NAME NEW", Short: "Change what this machine calls another", Args: argCount(2, 2),
			RunE: func(cmd *cobra.Command, args []string) error {
				c, id, err := a.machine(cmd.Context(), args[0])
				if err != nil {
					return err
				}
				m, err := c.RenameMachine(cmd.Context(), id, args[1])
				if err != nil {
					return err
				}
				return a.show(m, func(w io.Writer) { fmt.Fprintln(w, "It is called "+line(m.Name)+" here.") })
			},
		},
		&cobra.Command{
			Use: "remove NAME", Short: "Cut a machine off, as one that was lost", Args: argCount(1, 1),
			Long: "Cut a machine off: from now on it may do nothing here, and nothing at the machines\n" +
				"that this one may control, as soon as each can be reached. What it introduced goes, too.",
			RunE: func(cmd *cobra.Command, args []string) error { return a.machinesRemove(cmd.Context(), args[0]) },
		},
		&cobra.Command{
			Use: "introduce", Short: "Make all your machines known to each other", Args: argCount(0, 0),
			Long: "Make all machines that are paired with this one known to each other, none with more\n" +
				"than it may do here. A machine that was introduced goes when this one is removed.",
			RunE: func(cmd *cobra.Command, _ []string) error { return a.machinesIntroduce(cmd.Context()) },
		},
		&cobra.Command{
			Use: "leave", Short: "End all pairings of this machine", Args: argCount(0, 0),
			RunE: func(cmd *cobra.Command, _ []string) error {
				c, err := a.client()
				if err != nil {
					return err
				}
				return c.LeaveMachines(cmd.Context())
			},
		},
	)
	return cmd
}

// machine finds a paired machine by its name or id.
func (a *app) machine(ctx context.Context, name string) (c *api.Client, id workunits.NodeID, err error) {
	if c, err = a.client(); err != nil {
		return nil, id, err
	}
	l, err := c.Machines(ctx, false)
	if err != nil {
		return nil, id, err
	}
	for _, m := range l.Machines {
		if m.Name == name || m.ID.String() == name {
			return c, m.ID, nil
		}
	}
	return nil, id, &exitErr{exitNotFound, fmt.Errorf("no machine is called %q here (talka machines ls)", name)}
}

// atFlag adds --machine to a command; clientAt is its node's client.
func atFlag(cmd *cobra.Command) {
	cmd.Flags().String("machine", "", "at another machine of yours, by its name (talka machines ls)")
}

func (a *app) clientAt(cmd *cobra.Command) (*api.Client, error) {
	name, err := cmd.Flags().GetString("machine")
	if err != nil || name == "" {
		c, clientErr := a.client()
		return c, errors.Join(err, clientErr)
	}
	c, id, err := a.machine(cmd.Context(), name)
	if err != nil {
		return nil, err
	}
	return c.At(id), nil
}

func (a *app) machinesList(ctx context.Context) error {
	c, err := a.client()
	if err != nil {
		return err
	}
	l, err := c.Machines(ctx, true)
	if err != nil {
		return err
	}
	return a.show(l, func(w io.Writer) {
		row := func(name, here, there string, o api.Overview) []string {
			use := fmt.Sprintf("of %.3g", float64(o.Processors*o.Percent)/100)
			if o.Measured.Known {
				use = fmt.Sprintf("%.2f %s", o.Measured.Processors, use)
			}
			return []string{name, string(o.State), use, strconv.Itoa(o.AcceptedUnits), here, there, o.Reason}
		}
		rows := [][]string{row(l.Name+" (this)", "-", "-", l.This)}
		for _, m := range l.Machines {
			if m.Here && m.Overview != nil {
				rows = append(rows, row(m.Name, string(m.Role), string(m.Gives), *m.Overview))
				continue
			}
			state := "away"
			if m.Refuses {
				state = "refuses"
			}
			rows = append(rows, []string{m.Name, state, "-", "-", string(m.Role), string(m.Gives), m.Error})
		}
		table(w, []string{"NAME", "STATE", "PROCESSORS", "ACCEPTED", "MAY HERE", "MAY THERE", "WHY"}, rows)
	})
}

func (a *app) machinesRemove(ctx context.Context, name string) error {
	c, id, err := a.machine(ctx, name)
	if err != nil {
		return err
	}
	r, err := c.RemoveMachine(ctx, id)
	if err != nil {
		return err
	}
	return a.show(r, func(w io.Writer) {
		for _, m := range r.Gone {
			fmt.Fprintf(w, "%s (%s) is cut off.\n", line(m.Name), who(m.ID))
		}
		for _, m := range r.Deaf {
			fmt.Fprintf(w, "%s lets this machine only look: remove it there, too, if it is paired with it.\n", line(m.Name))
		}
	})
}

func (a *app) machinesIntroduce(ctx context.Context) error {
	c, err := a.client()
	if err != nil {
		return err
	}
	list, err := c.IntroduceMachines(ctx)
	if err != nil {
		return err
	}
	failed := 0
	err = a.show(list, func(w io.Writer) {
		for _, i := range list {
			if i.Error == "" {
				fmt.Fprintf(w, "%s knows the others.\n", line(i.Machine.Name))
			}
		}
	})
	for _, i := range list {
		if i.Error != "" {
			failed++
			a.note("%s", line(i.Error))
		}
	}
	if err == nil && failed > 0 {
		return &exitErr{exitPartial, fmt.Errorf("%s could not be told", plural(failed, "machine"))}
	}
	return err
}

// everywhere does something at this machine and at all that are paired with it.
func (a *app) everywhere(ctx context.Context, do func(*api.Client) (grid.Status, error)) error {
	c, err := a.client()
	if err != nil {
		return err
	}
	l, err := c.Machines(ctx, false)
	if err != nil {
		return err
	}
	type done struct {
		Name   string       `json:"name"`
		Status *grid.Status `json:"status,omitempty"`
		Error  string       `json:"error,omitempty"`
	}
	names, clients := []string{l.Name + " (this)"}, []*api.Client{c}
	for _, m := range l.Machines {
		names, clients = append(names, m.Name), append(clients, c.At(m.ID))
	}
	all, came := make([]done, len(clients)), make(chan int)
	for i, at := range clients {
		go func() {
			all[i].Name = names[i]
			if st, err := do(at); err != nil {
				all[i].Error = err.Error()
			} else {
				all[i].Status = &st
			}
			came <- i
		}()
	}
	failed := 0
	for range clients {
		if all[<-came].Error != "" {
			failed++
		}
	}
	err = a.show(all, func(w io.Writer) {
		var rows [][]string
		for _, d := range all {
			if d.Status != nil {
				rows = append(rows, []string{d.Name, string(d.Status.State), d.Status.Reason})
			} else {
				rows = append(rows, []string{d.Name, "-", d.Error})
			}
		}
		table(w, []string{"NAME", "STATE", "WHY"}, rows)
	})
	if err == nil && failed > 0 {
		return &exitErr{exitPartial, fmt.Errorf("%s could not be told", plural(failed, "machine"))}
	}
	return err
}
