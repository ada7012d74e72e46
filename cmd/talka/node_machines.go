package main

import (
	"context"
	"errors"
	"log/slog"
	"os"

	"github.com/talka-grid/talka/configs"
	"github.com/talka-grid/talka/grid"
	"github.com/talka-grid/talka/grid/machines"
	"github.com/talka-grid/talka/p2p"
	"github.com/talka-grid/talka/workunits"
)

// openMachines opens the list of the owner's other machines, and lets them come in.
// What they do is among the node's events.
func openMachines(dir string, cfg configs.Config, host *p2p.Host, driver *grid.Node, log *slog.Logger) (*machines.Set, error) {
	name, err := os.Hostname()
	if err != nil {
		log.Debug("this machine has no name", "err", err)
	}
	set, err := machines.New(machines.Config{
		Dir: dir, Self: host.ID(), Network: cfg.Network, Name: name, Net: owned{host}, Log: log,
		Tell: func(of workunits.NodeID, text string) { driver.Note("machine", of, text) },
	})
	if err != nil {
		return nil, err
	}
	host.Handle(machines.PairStream, func(from workunits.NodeID, s p2p.Stream) { set.ServePair(from, s) })
	host.Handle(machines.OwnerStream, func(from workunits.NodeID, s p2p.Stream) { set.ServeOwner(from, s) })
	return set, nil
}

// owned is what the owner's machines need of p2p.
type owned struct{ host *p2p.Host }

func (o owned) Addrs() []string { return o.host.Addrs() }

func (o owned) Open(ctx context.Context, to workunits.NodeID, addrs []string, name string) (machines.Stream, error) {
	err := o.host.Connect(ctx, p2p.Peer{ID: to, Addrs: addrs})
	if err != nil && !errors.Is(err, p2p.ErrUnreachable) && !errors.Is(err, p2p.ErrNetwork) {
		// What the machine said of where it is makes no sense: its id suffices.
		err = o.host.Connect(ctx, p2p.Peer{ID: to})
	}
	if err != nil {
		return nil, err
	}
	return o.host.Open(ctx, to, name)
}
