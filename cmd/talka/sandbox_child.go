package main

import (
	"os"

	"github.com/spf13/cobra"

	"github.com/talka-grid/talka/workunits/sandbox"
)

// sandboxChildName is the command that a node starts to execute units in.
const sandboxChildName = "sandbox-child"

func (a *app) sandboxChildCmd() *cobra.Command {
	return &cobra.Command{
		Use: sandboxChildName, Short: "Execute units for a node", Hidden: true, Args: argCount(0, 0),
		Run: func(*cobra.Command, []string) { os.Exit(sandbox.ChildMain(os.Stdin, os.Stdout)) },
	}
}
