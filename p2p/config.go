package p2p

import (
	"cmp"
	"crypto/ed25519"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/libp2p/go-libp2p"
	ma "github.com/multiformats/go-multiaddr"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/talka-grid/talka/workunits"
)

// Config is what a host is made of. Network and Key are required.
type Config struct {
	// Network prefixes every protocol id, DHT and topic; see workunits.ValidName.
	Network string
	// Key is the node's identity.
	Key ed25519.PrivateKey
	// Private is the node's membership in a private network; nil in an open one.
	Private *Private
	// Listen holds multiaddrs. None means QUIC and TCP on all interfaces, on
	// ports that the system chooses.
	Listen []string
	// Peers are tried first, in no order: from invites and settings.
	Peers []Peer
	// Allow, if there are any, are the only nodes that may connect; Block are nodes
	// that may not. See Host.Block.
	Allow, Block []workunits.NodeID
	// CachePath is the file that remembers peers between runs; "" for none.
	CachePath string
	// Limits bound what peers can take; zero fields have defaults.
	Limits Limits
	// CataloguePeriod is the time between two pulls of a random peer's
	// announcements, one minute if zero. Every new connection pulls as well.
	CataloguePeriod time.Duration
	// NoNAT leaves out relays, hole punching and AutoNAT, for hosts that everyone
	// reaches directly. It is implied if all of Listen is loopback.
	NoNAT bool
	// Seed makes the node a DHT server and a relay whatever it finds out about its
	// own reachability. For machines that others can reach.
	Seed bool
	// Guests keeps, in an open network, connections to nodes that speak no protocol of the network,
	// such as IPFS implementations that fetch chunks. They are shown nowhere and
	// can use only what other packages register on Libp2p.
	Guests bool
	// NoGossip and NoCatalogue switch off one of the two ways that an
	// announcement takes, NoDHT the DHT's part in finding peers and keys, to show
	// that the rest works. For diagnosis.
	NoGossip, NoCatalogue, NoDHT bool
	// Libp2p are more options for the libp2p host; p2ptest puts a simulated
	// network there. Nil in production.
	Libp2p []libp2p.Option
	// Metrics is where counters are registered; nil counts nothing.
	Metrics prometheus.Registerer
	// Logger gets what an operator may want to know; nil for nothing.
	Logger *slog.Logger
}

// Limits bound the resources that peers can take. A zero field has its default.
type Limits struct {
	// Connections is the most connections at a time, 60 by default and 16 at
	// least. Beyond three quarters of it the least useful ones are closed.
	Connections int
	// PerIP is the most connections with one public address, an IPv4 address or
	// an IPv6 /56: half of Connections by default, since a campus or a home is
	// one address. Loopback and private ranges share Connections only.
	PerIP int
	// NewPerIP is how many connections one such address may open within a
	// minute, by default twice PerIP.
	NewPerIP int
	// Memory is the most bytes that connections and streams may reserve,
	// 256 MiB by default.
	Memory int64
}

func (l Limits) withDefaults() Limits {
	l.Connections = max(cmp.Or(l.Connections, 60), 16)
	l.PerIP = cmp.Or(l.PerIP, l.Connections/2)
	l.NewPerIP = cmp.Or(l.NewPerIP, 2*l.PerIP)
	l.Memory = cmp.Or(l.Memory, 256<<20)
	return l
}

// checked returns the config with its defaults, and the listen addresses.
func (c Config) checked() (Config, []ma.Multiaddr, error) {
	if err := workunits.ValidName(c.Network); err != nil {
		return c, nil, fmt.Errorf("network: %w", err)
	}
	if len(c.Key) != ed25519.PrivateKeySize {
		return c, nil, errors.New("key is no Ed25519 private key")
	}
	if len(c.Listen) == 0 {
		c.Listen = []string{"/ip4/0.0.0.0/udp/0/quic-v1", "/ip4/0.0.0.0/tcp/0", "/ip6/::/udp/0/quic-v1", "/ip6/::/tcp/0"}
	}
	var listen []ma.Multiaddr
	for _, s := range c.Listen {
		a, err := ma.NewMultiaddr(s)
		if err != nil {
			return c, nil, fmt.Errorf("listen address %q: %w", s, err)
		}
		listen = append(listen, a)
	}
	c.Peers = slices.Clone(c.Peers)
	for _, p := range c.Peers {
		if _, err := p.info(); err != nil {
			return c, nil, err
		}
	}
	c.Limits = c.Limits.withDefaults()
	c.CataloguePeriod = cmp.Or(c.CataloguePeriod, time.Minute)
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return c, listen, nil
}
