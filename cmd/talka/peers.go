package main

import (
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"
)

func (a *app) peersCmd() *cobra.Command {
	return &cobra.Command{
		Use: "peers", Short: "List connected peers", Args: argCount(0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := a.client()
			if err != nil {
				return err
			}
			peers, err := c.Peers(cmd.Context())
			if err != nil {
				return err
			}
			return a.show(peers, func(w io.Writer) {
				var rows [][]string
				for _, p := range peers {
					way := "direct"
					if p.Relayed {
						way = "relayed"
					}
					rows = append(rows, []string{p.PeerID.String(), way, fmt.Sprintf("%.1f ms", p.LatencyMS), strings.Join(p.Addrs, " ")})
				}
				table(w, []string{"PEER", "WAY", "LATENCY", "ADDRESSES"}, rows)
			})
		},
	}
}
