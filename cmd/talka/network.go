package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/talka-grid/talka/configs"
	"github.com/talka-grid/talka/grid/api"
	"github.com/talka-grid/talka/p2p"
	"github.com/talka-grid/talka/p2p/membership"
	"github.com/talka-grid/talka/workunits"
)

func (a *app) networkCmd() *cobra.Command {
	cmd := group("network", "Private networks: make one, join one, and say who is a member")
	cmd.AddCommand(
		&cobra.Command{
			Use: "new NAME", Short: "Make a private network with this node as its first member", Args: argCount(1, 1),
			Long: "Make a private network. Its key stays in this data directory (" + networkKeyName + "), and with it the right to\n" +
				"invite and to remove members: keep a copy in a safe place, and run one node with it.",
			RunE: func(_ *cobra.Command, args []string) error { return a.networkNew(args[0]) },
		},
		&cobra.Command{
			Use: "join INVITE", Short: "Make this node a member by an invite, before it starts", Args: argCount(1, 1),
			RunE: func(_ *cobra.Command, args []string) error { return a.networkJoin(args[0]) },
		},
		&cobra.Command{
			Use: "show", Short: "Show this node's membership", Args: argCount(0, 0),
			RunE: func(*cobra.Command, []string) error { return a.networkShow() },
		},
		&cobra.Command{
			Use: "ls", Short: "List the memberships and invites that this node has issued", Args: argCount(0, 0),
			RunE: func(*cobra.Command, []string) error { return a.networkLs() },
		},
		&cobra.Command{
			Use: "remove NODE", Short: "Take back a membership, and all invites that are out", Args: argCount(1, 1),
			RunE: func(cmd *cobra.Command, args []string) error { return a.networkRemove(cmd.Context(), args[0]) },
		},
		&cobra.Command{
			Use: "leave", Short: "Forget this node's membership", Args: argCount(0, 0),
			RunE: func(*cobra.Command, []string) error { return a.networkLeave() },
		},
	)
	return cmd
}

// whileStopped calls f with the data directory, made if need be, that no node runs on.
func (a *app) whileStopped(f func(dir string, node workunits.NodeID) error) (err error) {
	dir, err := a.dir()
	if err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	lock, err := lockDir(dir)
	if err != nil {
		return fmt.Errorf("stop the node first: %w", err)
	}
	defer func() { err = errors.Join(err, lock.release()) }()
	node, _, err := initDir(dir, "")
	if err != nil {
		return err
	}
	return f(dir, node)
}

// memberInfo is a membership as it is shown.
type memberInfo struct {
	Network string           `json:"network"`
	Key     string           `json:"key"` // a name of the network key
	State   string           `json:"state"`
	Until   time.Time        `json:"until"`
	By      workunits.NodeID `json:"issued_by"`
	Issues  bool             `json:"issues"`
	Removed int              `json:"removed"` // nodes
}

func infoOf(p *p2p.Private) memberInfo {
	s := p.State
	i := memberInfo{
		Network: s.Network, Key: s.Key.String(), State: "member", Until: s.Own.Cert.Ends(), By: s.Own.Cert.By,
		Issues: p.Issuer != nil, Removed: len(s.Removals.Nodes),
	}
	switch err := s.Stands(s.Own, time.Now()); {
	case errors.Is(err, membership.ErrExpired):
		i.State = "expired"
	case err != nil:
		i.State = "removed"
	case s.Own.Cert.Invite:
		i.State = "invited"
	}
	return i
}

func (i memberInfo) write(w io.Writer) {
	by := i.By.String()
	if i.Issues {
		by = "this node, which issues"
	}
	fields(w, "network", i.Network, "key", i.Key, "state", i.State, "until", i.Until.Format(time.RFC3339), "issued by", by, "removed", plural(i.Removed, "node"))
	switch i.State {
	case "expired", "removed":
		fmt.Fprintln(w, "Ask who issued it for an invite, and run: talka network join INVITE")
	case "invited":
		fmt.Fprintln(w, "It gets a membership of its own as soon as it meets who invited it.")
	}
}

func (a *app) networkNew(name string) error {
	if name == configs.OpenNetwork {
		return usage("%s is the network of all; take another name", name)
	}
	if err := workunits.ValidName(name); err != nil {
		return usage("%w", err)
	}
	return a.whileStopped(func(dir string, node workunits.NodeID) error {
		s, err := a.found(dir, name, node, memberValid)
		if err != nil {
			return err
		}
		info := infoOf(&p2p.Private{State: s})
		info.Issues = true
		return a.show(info, func(w io.Writer) {
			info.write(w)
			fmt.Fprintf(w, "The network key is %s: keep a copy in a safe place.\n", filepath.Join(dir, networkKeyName))
			fmt.Fprintln(w, "Start this node with `talka up`; invite others with `talka invite`.")
		})
	})
}

// memberValid is how long memberships are; they are renewed after half of it.
const memberValid = 90 * 24 * time.Hour

func (a *app) networkJoin(text string) error {
	i, err := p2p.ParseInvite(text)
	if err != nil {
		return usage("%w", err)
	}
	if i.Pass == nil {
		return usage("the invite is for the open network %q: talka up --network %s --join INVITE", i.Network, i.Network)
	}
	return a.whileStopped(func(dir string, node workunits.NodeID) error {
		entered, err := a.admit(dir, node, []string{text})
		if err != nil {
			return err
		}
		p, err := loadPrivate(dir)
		if err != nil {
			return err
		}
		info := infoOf(p)
		return a.show(info, func(w io.Writer) {
			info.write(w)
			if !entered {
				fmt.Fprintln(w, "It was a member already; nothing has changed.")
			}
			fmt.Fprintln(w, "Start it: talka up")
		})
	})
}

// private is the membership of the data directory, whether its node runs or not.
func (a *app) private() (*p2p.Private, error) {
	dir, err := a.dir()
	if err != nil {
		return nil, err
	}
	p, err := loadPrivate(dir)
	if err == nil && p == nil {
		err = &exitErr{exitNotFound, fmt.Errorf("%s is in an open network; make a private one with: talka network new NAME", dir)}
	}
	return p, err
}

func (a *app) networkShow() error {
	p, err := a.private()
	if err != nil {
		return err
	}
	info := infoOf(p)
	return a.show(info, info.write)
}

func (a *app) networkLs() error {
	p, err := a.private()
	if err != nil {
		return err
	}
	type out struct {
		Kind  string            `json:"kind"` // node or invite
		ID    workunits.NodeID  `json:"id"`
		Via   *workunits.NodeID `json:"via,omitempty"` // the invite by which it came
		At    time.Time         `json:"issued"`
		Until time.Time         `json:"until"`
	}
	list := []out{}
	for _, i := range p.State.Issued {
		ms := func(t uint64) time.Time { return time.UnixMilli(int64(min(t, 1<<62))).UTC() }
		o := out{"node", i.Subject, nil, ms(i.At), ms(i.Until)}
		if i.Invite {
			o.Kind = "invite"
		}
		if !i.Via.IsZero() {
			o.Via = &i.Via
		}
		if o.Until.After(time.Now()) {
			list = append(list, o)
		}
	}
	return a.show(list, func(w io.Writer) {
		var rows [][]string
		for _, o := range list {
			via := ""
			if o.Via != nil {
				via = o.Via.String()
			}
			rows = append(rows, []string{o.Kind, o.ID.String(), o.Until.Format(time.RFC3339), via})
		}
		table(w, []string{"KIND", "ID", "UNTIL", "BY INVITE"}, rows)
	})
}

// networkRemove has the node do it if it runs, and does it itself otherwise.
func (a *app) networkRemove(ctx context.Context, text string) error {
	id, err := workunits.ParseNodeID(text)
	if err != nil {
		return usage("%w", err)
	}
	p, err := a.private()
	if err != nil {
		return err
	}
	if p.Issuer == nil {
		return &exitErr{exitDenied, fmt.Errorf("%w: %s does", p2p.ErrIssuer, p.State.Own.Cert.By)}
	}
	c, err := a.client()
	if err != nil {
		return err
	}
	err = c.RemoveMember(ctx, id)
	running := true
	if e := new(api.Error); errors.As(err, &e) && e.Kind == api.KindNotRunning {
		running = false
		err = a.whileStopped(func(dir string, _ workunits.NodeID) error {
			p, err := loadPrivate(dir)
			if err == nil {
				err = p.State.Remove(p.Issuer, id, time.Now())
			}
			if err == nil {
				err = p.Save(p.State)
			}
			return err
		})
	}
	if err != nil {
		return err
	}
	return a.show(map[string]any{"peer_id": id, "removed": true, "running": running}, func(w io.Writer) {
		fmt.Fprintf(w, "%s is no member any longer, and all invites that were out are void.\n", id)
		if !running {
			fmt.Fprintln(w, "The others hear of it when this node runs: talka up")
		}
	})
}

func (a *app) networkLeave() error {
	return a.whileStopped(func(dir string, _ workunits.NodeID) error {
		p, err := a.private()
		if err != nil {
			return err
		}
		if p.Issuer != nil {
			return fmt.Errorf("this node has the network key, without which nobody can be invited: put %s in a safe place first", filepath.Join(dir, networkKeyName))
		}
		if err := os.Remove(filepath.Join(dir, memberName)); err != nil {
			return err
		}
		if err := (&settings{app: a, dir: dir}).Unset("network"); err != nil {
			return err
		}
		return a.show(map[string]any{"left": p.State.Network}, func(w io.Writer) {
			fmt.Fprintf(w, "left the private network %s\n", strconv.Quote(p.State.Network))
		})
	})
}
