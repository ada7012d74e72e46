package main

import (
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"rsc.io/qr"

	"github.com/talka-grid/talka/workunits"
)

func (a *app) inviteCmd() *cobra.Command {
	var picture bool
	var valid time.Duration
	var to string
	cmd := &cobra.Command{
		Use: "invite", Short: "Print a text by which another node finds this network", Args: argCount(0, 0),
		Long: "Print a text by which another node finds this network. Into a private network it also lets the\n" +
			"other node in: only the node with the network key can make it, and whoever has it can use it.",
		RunE: func(cmd *cobra.Command, _ []string) error {
			var node workunits.NodeID
			if cmd.Flags().Changed("for") && valid < time.Second {
				return usage("--for %s: want a time above zero", valid)
			}
			if to != "" {
				var err error
				if node, err = workunits.ParseNodeID(to); err != nil {
					return usage("--to: %w", err)
				}
			}
			c, err := a.client()
			if err != nil {
				return err
			}
			invite, err := c.Invite(cmd.Context(), valid, node)
			if err != nil {
				return err
			}
			code := ""
			if picture {
				if code, err = drawQR(invite); err != nil {
					return err
				}
			}
			return a.show(map[string]string{"invite": invite}, func(w io.Writer) { _, _ = io.WriteString(w, code+line(invite)+"\n") })
		},
	}
	cmd.Flags().BoolVar(&picture, "qr", false, "draw the invite as a QR code, too")
	cmd.Flags().DurationVar(&valid, "for", 0, "how long it is valid, such as 2h (default: for ever, 24h into a private network)")
	cmd.Flags().StringVar(&to, "to", "", "the only node that may use it, into a private network")
	return cmd
}

// drawQR returns an invite or a pairing code as a QR code of half blocks, two modules to a
// character, with the quiet zone that scanners need. Its colours are set, not
// the terminal's, so that it is dark on light everywhere. Capitals make the code
// smaller, and both are read in either case.
func drawQR(text string) (string, error) {
	const quiet = 4
	code, err := qr.Encode(strings.ToUpper(text), qr.L)
	if err != nil {
		return "", fmt.Errorf("it does not fit a QR code: %w; send its text instead", err)
	}
	blocks := [2][2]string{{" ", "▄"}, {"▀", "█"}} // by upper and lower module
	dark := func(x, y int) int {
		if code.Black(x, y) {
			return 1
		}
		return 0
	}
	var b strings.Builder
	for y := -quiet; y < code.Size+quiet; y += 2 {
		b.WriteString("\x1b[30;107m")
		for x := -quiet; x < code.Size+quiet; x++ {
			b.WriteString(blocks[dark(x, y)][dark(x, y+1)])
		}
		b.WriteString("\x1b[0m\n")
	}
	return b.String(), nil
}
