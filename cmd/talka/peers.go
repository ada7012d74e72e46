package main

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/talka-grid/talka/configs"
	"github.com/talka-grid/talka/grid"
	"github.com/talka-grid/talka/grid/api"
	"github.com/talka-grid/talka/workunits"
)

func (a *app) peersCmd() *cobra.Command {
	var graph string
	cmd := &cobra.Command{
		Use: "peers", Short: "List connected peers", Args: argCount(0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error { return a.peers(cmd, graph) },
	}
	cmd.Flags().StringVar(&graph, "graph", "", "draw them instead; dot is the form that Graphviz reads")
	cmd.AddCommand(
		&cobra.Command{
			Use: "block NODE", Short: "Cut off a node and keep it away", Args: argCount(1, 1),
			RunE: func(cmd *cobra.Command, args []string) error { return a.blockPeer(cmd, args[0], true) },
		},
		&cobra.Command{
			Use: "unblock NODE", Short: "Let a blocked node connect again", Args: argCount(1, 1),
			RunE: func(cmd *cobra.Command, args []string) error { return a.blockPeer(cmd, args[0], false) },
		},
	)
	return cmd
}

func (a *app) peers(cmd *cobra.Command, graph string) error {
	if graph != "" && graph != "dot" {
		return usage("--graph %s: want dot", graph)
	}
	c, err := a.client()
	if err != nil {
		return err
	}
	peers, err := c.Peers(cmd.Context())
	if err != nil {
		return err
	}
	if graph != "" {
		st, err := c.Status(cmd.Context())
		if err != nil {
			return err
		}
		return a.show(map[string]string{"dot": dot(st, peers)}, func(w io.Writer) { _, _ = io.WriteString(w, dot(st, peers)) })
	}
	return a.show(peers, func(w io.Writer) {
		var rows [][]string
		for _, p := range peers {
			opened := "this node"
			if p.Inbound {
				opened = "the peer"
			}
			kept := ""
			if p.Protected {
				kept = "kept"
			}
			rows = append(rows, []string{
				p.PeerID.String(), wayTo(p), latency(p), opened, kept, fmt.Sprintf("%.1f", p.Score), strings.Join(p.Addrs, " "),
			})
		}
		table(w, []string{"PEER", "WAY", "LATENCY", "OPENED BY", "KEPT", "SCORE", "ADDRESSES"}, rows)
	})
}

// wayTo is how a peer is connected.
func wayTo(p grid.PeerInfo) string {
	switch {
	case p.Relayed:
		return "relayed"
	case p.LAN:
		return "lan"
	}
	return "direct"
}

func latency(p grid.PeerInfo) string {
	if p.LatencyMS == 0 {
		return "-"
	}
	return fmt.Sprintf("%.1f ms", p.LatencyMS)
}

// dot draws the node and its peers in the language of Graphviz.
func dot(st grid.Status, peers []grid.PeerInfo) string {
	var b strings.Builder
	fmt.Fprintf(&b, "digraph talka {\n  label=%q;\n  %q [shape=box];\n", clean(st.Network), who(st.PeerID))
	styles := map[string]string{"relayed": "dashed", "lan": "bold", "direct": "solid"}
	for _, p := range peers {
		from, to := st.PeerID, p.PeerID
		if p.Inbound {
			from, to = to, from
		}
		label := latency(p)
		if label == "-" {
			label = ""
		}
		fmt.Fprintf(&b, "  %q -> %q [style=%s, label=%q];\n", who(from), who(to), styles[wayTo(p)], label)
	}
	b.WriteString("}\n")
	return b.String()
}

// blockPeer changes the setting, for the next start, and tells the node if it
// runs.
func (a *app) blockPeer(cmd *cobra.Command, text string, block bool) error {
	id, err := workunits.ParseNodeID(text)
	if err != nil {
		return usage("%w", err)
	}
	dir, err := a.dir()
	if err != nil {
		return err
	}
	src, err := a.sources(dir, nil)
	if err != nil {
		return err
	}
	cfg, err := configs.Load(src)
	if err != nil {
		return &exitErr{exitUsage, err}
	}
	list := slices.DeleteFunc(cfg.Block, func(s string) bool { return s == id.String() })
	if block {
		list = append(list, id.String())
	}
	if err := (&settings{app: a, dir: dir}).Set("block", strings.Join(list, ",")); err != nil {
		return err
	}
	c, err := a.client()
	if err != nil {
		return err
	}
	running := true
	if err := c.BlockPeer(cmd.Context(), id, block); err != nil {
		var e *api.Error
		if !errors.As(err, &e) || e.Kind != api.KindNotRunning {
			return err
		}
		running = false
	}
	verb := "unblocked"
	if block {
		verb = "blocked"
	}
	return a.show(map[string]any{"peer_id": id, "blocked": block, "running": running}, func(w io.Writer) {
		fmt.Fprintf(w, "%s is %s; %s.\n", id, verb, plural(len(list), "node")+" blocked in all")
	})
}
