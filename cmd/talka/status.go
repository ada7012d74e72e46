package main

import (
	"context"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/talka-grid/talka/grid"
	"github.com/talka-grid/talka/grid/api"
)

// watchEvery is how often a watched status is looked at.
const watchEvery = time.Second

func (a *app) statusCmd() *cobra.Command {
	var watch bool
	cmd := &cobra.Command{
		Use: "status", Short: "Show what the node is doing, and why", Args: argCount(0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := a.clientAt(cmd)
			if err != nil {
				return err
			}
			if watch {
				return a.watchStatus(cmd.Context(), c)
			}
			st, err := c.Status(cmd.Context())
			if err != nil {
				return err
			}
			return a.showStatus(st)
		},
	}
	atFlag(cmd)
	cmd.Flags().BoolVar(&watch, "watch", false, "show it again whenever it changes, until interrupted")
	return cmd
}

func (a *app) showStatus(st grid.Status) error {
	return a.show(st, func(w io.Writer) {
		fields(w,
			"node", st.PeerID.String(),
			"network", st.Network,
			"state", st.Reason, // it says the state, too
			"peers", fmt.Sprint(st.Peers),
			"units", fmt.Sprintf("%d running, %d accepted", st.RunningUnits, st.AcceptedUnits),
			"store", size(st.StoreBytes),
			"addresses", strings.Join(st.Addrs, " "),
		)
		if st.Membership != nil {
			fmt.Fprintln(w, line(st.Membership.Said().Text))
		}
	})
}

// watchStatus shows the status again whenever it changes.
func (a *app) watchStatus(ctx context.Context, c *api.Client) error {
	tick := time.NewTicker(watchEvery)
	defer tick.Stop()
	var last string
	for {
		st, err := c.Status(ctx)
		if err != nil {
			return err
		}
		if now := fmt.Sprint(st); now != last {
			if last != "" && !a.json {
				fmt.Fprintln(a.out)
			}
			if err := a.showStatus(st); err != nil {
				return err
			}
			last = now
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}
