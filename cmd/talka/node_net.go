package main

import (
	"cmp"
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"slices"
	"syscall"
	"time"

	"github.com/ipfs/go-cid"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/talka-grid/talka/configs"
	"github.com/talka-grid/talka/grid"
	"github.com/talka-grid/talka/grid/api"
	"github.com/talka-grid/talka/p2p"
	"github.com/talka-grid/talka/workunits"
)

// peersName is the file that remembers peers between runs.
const peersName = "peers.json"

// discoveryVar is no setting: a node with it hears less. Tests leave a node
// "gossip" or "catalogue" as its only way to hear of jobs, or "none", to show
// that each of them suffices.
const discoveryVar = "TALKA_TEST_DISCOVERY"

// openHost opens the network. Without addresses in the settings it tries the
// default port, and any free one if that is taken. Discovery is the value of
// discoveryVar, empty for all ways.
func openHost(dir string, key ed25519.PrivateKey, cfg configs.Config, discovery string, metrics prometheus.Registerer, log *slog.Logger) (*p2p.Host, error) {
	peers, err := invited(dir, cfg, log)
	if err != nil {
		return nil, err
	}
	private, err := openPrivate(dir, cfg)
	if err != nil {
		return nil, err
	}
	allow, err := nodeIDs("allow", cfg.Allow)
	if err != nil {
		return nil, err
	}
	block, err := nodeIDs("block", cfg.Block)
	if err != nil {
		return nil, err
	}
	if !slices.Contains([]string{"", "gossip", "catalogue", "none"}, discovery) {
		return nil, usage("%s=%s: want gossip, catalogue or none", discoveryVar, discovery)
	}
	c := p2p.Config{
		Network: cfg.Network, Key: key, Listen: cfg.Listen, Peers: peers,
		CachePath: filepath.Join(dir, peersName), Guests: true, Private: private, Seed: cfg.Seed, Logger: log, Metrics: metrics, Allow: allow, Block: block,
		NoGossip:    discovery == "catalogue" || discovery == "none",
		NoCatalogue: discovery == "gossip" || discovery == "none",
	}
	if len(cfg.Listen) > 0 {
		return p2p.New(c)
	}
	c.Listen = configs.DefaultListen(configs.DefaultPort)
	h, err := p2p.New(c)
	if errors.Is(err, syscall.EADDRINUSE) {
		log.Info("the default port is taken; listening on free ones", "port", configs.DefaultPort)
		c.Listen = configs.DefaultListen(0)
		h, err = p2p.New(c)
	}
	return h, err
}

// invited are the peers of the invites in the settings.
func invited(dir string, cfg configs.Config, log *slog.Logger) (peers []p2p.Peer, err error) {
	for _, text := range cfg.Join {
		i, err := p2p.ParseInvite(text)
		switch {
		case err != nil:
			return nil, usage("join: %w", err)
		case i.Network != cfg.Network:
			return nil, usage("join: the invite is for network %q, this node is in %q; start it with --network %s", i.Network, cfg.Network, i.Network)
		}
		if err := expired(i, dir, log); err != nil {
			return nil, err
		}
		peers = append(peers, i.Peers...)
	}
	return peers, nil
}

// nodeIDs reads a setting that is a list of nodes.
func nodeIDs(key string, list []string) (ids []workunits.NodeID, err error) {
	for _, s := range list {
		id, err := workunits.ParseNodeID(s)
		if err != nil {
			return nil, usage("%s: %w", key, err)
		}
		ids = append(ids, id)
	}
	return ids, nil
}

// network is what the driver needs of p2p.
type network struct{ host *p2p.Host }

var _ grid.Network = network{}

func (n network) Send(ctx context.Context, to workunits.NodeID, frame []byte) error {
	return n.host.Send(ctx, to, frame)
}

func (n network) Announce(ctx context.Context, data []byte) error { return n.host.Announce(ctx, data) }

func (n network) Provide(ctx context.Context, c cid.Cid) error { return n.host.Provide(ctx, c) }

func (n network) PutPointer(ctx context.Context, raw []byte) error {
	return n.host.PutPointer(ctx, raw)
}

func (n network) FindPointer(ctx context.Context, p workunits.ProjectID) []byte {
	return n.host.FindPointer(ctx, p)
}

func (n network) FindProviders(ctx context.Context, c cid.Cid, most int) ([]workunits.NodeID, error) {
	peers, err := n.host.FindProviders(ctx, c, most)
	ids := make([]workunits.NodeID, len(peers))
	for i, p := range peers {
		ids[i] = p.ID
	}
	return ids, err
}

func (n network) Addrs() []string { return n.host.Addrs() }

func (n network) Peers() []grid.PeerInfo {
	peers := n.host.Peers()
	list := make([]grid.PeerInfo, len(peers))
	for i, p := range peers {
		list[i] = grid.PeerInfo{
			PeerID: p.ID, Addrs: p.Addrs, Relayed: p.Relayed, LAN: p.LAN,
			Inbound: p.Direction == p2p.Inbound, Protected: p.Protected, Score: p.Score,
			LatencyMS: float64(p.Latency) / float64(time.Millisecond),
		}
	}
	return list
}

func (n network) Reach() grid.ReachInfo {
	r := n.host.Reach()
	kind := func(r p2p.Router) string { return cmp.Or(string(r), "unknown") }
	var own *grid.Membership
	if state, private := n.host.Membership(); private {
		i := infoOf(&p2p.Private{State: state})
		own = &grid.Membership{State: i.State, Until: i.Until, By: i.By, Issues: i.By == n.host.ID()}
	}
	return grid.ReachInfo{
		Membership: own,
		Loopback:   r.Loopback, Public: r.Public, Private: r.Private, UDP: kind(r.UDP), TCP: kind(r.TCP),
		Router: r.Router, Forwards: r.Forwards, Relays: r.Relays, Punched: r.Punched, PunchFailed: r.Failed,
		PeersQUIC: r.QUIC, PeersOther: r.Other, PeersLAN: r.LAN, PeersRelayed: r.Relayed, Listen: r.Listen,
	}
}

func (n network) Block(id workunits.NodeID, block bool) error { return n.host.Block(id, block) }

func (n network) Invite(valid time.Duration, to workunits.NodeID) (string, error) {
	text, err := n.host.Invite(valid, to)
	return text, denied(err)
}

func (n network) RemoveMember(id workunits.NodeID) error { return denied(n.host.Remove(id)) }

// denied gives what an issuer alone can do the kind of the driver.
func denied(err error) error {
	if errors.Is(err, p2p.ErrIssuer) {
		return fmt.Errorf("%w: %w", grid.ErrDenied, err)
	}
	return err
}

// Join gives errors the kinds of the local interface.
func (n network) Join(ctx context.Context, invite string) error {
	err := n.host.Join(ctx, invite)
	switch {
	case errors.Is(err, p2p.ErrNetwork):
		return &api.Error{Kind: api.KindRequest, Detail: err.Error() + "; stop the node, or take another --dir, and run: talka network join INVITE (private) or talka up --network NAME --join INVITE (open)"}
	case errors.Is(err, p2p.ErrInvite):
		return &api.Error{Kind: api.KindRequest, Detail: err.Error()}
	case errors.Is(err, p2p.ErrUnreachable):
		return fmt.Errorf("%w: %w", err, grid.ErrTimeout)
	}
	return err
}

// Visit gives errors the kinds of the local interface.
func (n network) Visit(ctx context.Context, addr string) error {
	err := n.host.Visit(ctx, addr)
	switch {
	case errors.Is(err, p2p.ErrAddr):
		return &api.Error{Kind: api.KindRequest, Detail: err.Error()}
	case errors.Is(err, p2p.ErrUnreachable):
		return fmt.Errorf("%w: %w", err, grid.ErrTimeout)
	}
	return err
}

// judge tells gossip what an announcement is worth.
func judge(n *grid.Node) p2p.Validator {
	return func(_ workunits.NodeID, data []byte) p2p.Verdict {
		switch err := n.RelayAnnouncement(data); {
		case err == nil:
			return p2p.Accept
		case errors.Is(err, grid.ErrStale), errors.Is(err, grid.ErrUnproven), errors.Is(err, grid.ErrPace):
			return p2p.Ignore
		default:
			return p2p.Reject
		}
	}
}
