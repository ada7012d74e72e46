package main

import (
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"
	"rsc.io/qr"
)

func (a *app) inviteCmd() *cobra.Command {
	var picture bool
	cmd := &cobra.Command{
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
	return cmd
}

// drawQR returns the invite as a QR code of half blocks, two modules to a
// character, with the quiet zone that scanners need. Its colours are set, not
// the terminal's, so that it is dark on light everywhere. Capitals make the code
// smaller, and an invite is read in either case.
func drawQR(invite string) (string, error) {
	const quiet = 4
	code, err := qr.Encode(strings.ToUpper(invite), qr.L)
	if err != nil {
		return "", fmt.Errorf("the invite does not fit a QR code: %w; send its text instead", err)
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
