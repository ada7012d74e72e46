package main

import (
	"bufio"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/talka-grid/talka/grid/machines"
)

// maxCode is more than a pairing code has, in bytes.
const maxCode = 4 << 10

func (a *app) pairCmd() *cobra.Command {
	var role, name string
	var picture, yes bool
	cmd := &cobra.Command{
		Use: "pair [CODE|-]", Short: "Make this machine and another one of yours know each other", Args: argCount(0, 1),
		Long: "Make this machine and another one of yours know each other, so that each can be seen\n" +
			"and controlled from the other: its state and why, pause and resume, limits and rules.\n" +
			"Run it without a code on the one machine, and with the code that it prints on the\n" +
			"other. The code is good once, for ten minutes, while the command waits; whoever has\n" +
			"it can pair, so show it to nobody else; - reads it from standard input, where other users\n" +
			"of the machine do not see it. --role says what the other machine may do here.",
		RunE: func(cmd *cobra.Command, args []string) error {
			r := machines.Role(role)
			if !r.Valid() {
				return usage("--role %q: want read or control", role)
			}
			if len(args) == 0 {
				return a.offerMachine(cmd, name, r, picture)
			}
			return a.joinMachine(cmd, args[0], name, r, yes)
		},
	}
	f := cmd.Flags()
	f.StringVar(&role, "role", string(machines.RoleControl), "what the other machine may do here: read or control")
	f.StringVar(&name, "name", "", "what the other machine shall call this one (default: the host's name)")
	f.BoolVar(&picture, "qr", false, "draw the code as a QR code, too")
	f.BoolVar(&yes, "yes", false, "pair without asking")
	return cmd
}

// offerMachine shows a code and waits until it was used.
func (a *app) offerMachine(cmd *cobra.Command, name string, role machines.Role, picture bool) error {
	c, err := a.client()
	if err != nil {
		return err
	}
	m, err := c.OfferMachine(cmd.Context(), name, role, func(o machines.Offer) error {
		code := ""
		if picture {
			if code, err = drawQR(o.Code); err != nil {
				return err
			}
		}
		return a.show(o, func(w io.Writer) {
			fmt.Fprint(w, code)
			fmt.Fprintln(w, "On the other machine, before "+o.Until.Local().Format("15:04")+":")
			fmt.Fprintln(w, "\n  talka pair "+line(o.Code))
			fmt.Fprintln(w, "\nWho uses it "+may(role)+" this machine. Waiting; Ctrl-C withdraws it.")
		})
	})
	if err != nil {
		return err
	}
	return a.showPaired(m)
}

// joinMachine uses a code, after it was said what that means.
func (a *app) joinMachine(cmd *cobra.Command, text, name string, role machines.Role, yes bool) error {
	in := bufio.NewReader(a.in)
	if text == "-" {
		b, err := io.ReadAll(io.LimitReader(in, maxCode))
		if err != nil {
			return err
		}
		text = string(b)
	}
	code, err := machines.ParseCode(text)
	if err != nil {
		return &exitErr{exitUsage, err}
	}
	c, err := a.client()
	if err != nil {
		return err
	}
	if !yes {
		if a.json || !isTerminal(a.in) {
			return usage("%s (%s): this machine %s it, and it %s this machine. Say --yes to pair", line(code.Name), who(code.ID), may(code.Role), may(role))
		}
		fmt.Fprintf(a.out, "%s (%s)\n  this machine %s it\n  it %s this machine\nPair them? [y/N] ", line(code.Name), who(code.ID), may(code.Role), may(role))
		answer, err := in.ReadString('\n')
		if err != nil || !strings.EqualFold(strings.TrimSpace(answer), "y") {
			return usage("not paired")
		}
	}
	m, err := c.PairMachine(cmd.Context(), text, name, role)
	if err != nil {
		return err
	}
	return a.showPaired(m)
}

func (a *app) showPaired(m machines.Machine) error {
	return a.show(m, func(w io.Writer) {
		fmt.Fprintf(w, "Paired with %s (%s): it %s this machine, this machine %s it.\n", line(m.Name), who(m.ID), may(m.Role), may(m.Gives))
		fmt.Fprintln(w, "See both with `talka machines ls`, or on the page.")
	})
}

// may says a role in a sentence.
func may(r machines.Role) string {
	if r == machines.RoleControl {
		return "may see and control"
	}
	return "may see"
}
