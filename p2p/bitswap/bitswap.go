// Package bitswap speaks the IPFS-compatible exchange over a node's libp2p host:
// it serves what the node's store lets peers have, and fetches chunks that the
// faster exchange did not find. Its protocol ids carry the network's prefix, so
// that peers of other networks have no word to ask with; a node that is open
// answers to the ids of IPFS, too, and asks with them, so that Kubo and others get
// content from it and it from them. What is served is the same either way.
package bitswap

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/ipfs/boxo/bitswap/client"
	"github.com/ipfs/boxo/bitswap/client/traceability"
	"github.com/ipfs/boxo/bitswap/network/bsnet"
	"github.com/ipfs/boxo/bitswap/server"
	blocks "github.com/ipfs/go-block-format"
	"github.com/ipfs/go-cid"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"

	"github.com/talka-grid/talka/chunkstore"
	"github.com/talka-grid/talka/chunkstore/exchange"
)

// Settings that reach full speed over long delays at the price of memory.
const (
	outstanding = 12 << 20 // bytes on the way to one peer
	workers     = 8
	// strangers are how many peers are asked for what none is known to have, beside
	// those of the local network and those that gave something before.
	strangers = 16
	// idleStreams to a peer are kept for its next messages: bitswap opens one for each,
	// and the other end reads one after the other.
	idleStreams = 16
)

// Config is what a bitswap works with.
type Config struct {
	Host    host.Host
	Network string
	Store   *chunkstore.Store
	// Open has it speak with IPFS implementations that know no network.
	Open bool
	// Meter limits traffic, but for that with peers that are near; nil for no limits.
	Meter *exchange.Meter
	Near  func(peer.ID) bool // nil: none is
}

// Exchange is a running bitswap. It is safe for concurrent use.
type Exchange struct {
	ask   *client.Client
	serve *asked
	end   func() error
}

// New starts bitswap on a host, before the host dials. Close ends it.
func New(ctx context.Context, cfg Config) *Exchange {
	ctx, stop := context.WithCancel(ctx)
	t := &tongues{Host: cfg.Host, ctx: ctx, prefix: protocol.ID("/talka/" + cfg.Network), cfg: cfg, idle: exchange.NewIdle[peer.ID, network.Stream](idleStreams)}
	net := bsnet.NewFromIpfsHost(t)
	serve := &asked{peers: cfg.Host.Network().Peers, begin: func() *server.Server {
		return server.New(ctx, net, chunkstore.Blockstore{Store: cfg.Store},
			server.WithPeerBlockRequestFilter(func(_ peer.ID, c cid.Cid) bool { return cfg.Store.Served(c) }),
			server.MaxOutstandingBytesPerPeer(outstanding),
			server.TaskWorkerCount(workers),
			server.EngineTaskWorkerCount(workers),
			server.EngineBlockstoreWorkerCount(workers),
		)
	}}
	ask := client.New(ctx, net, nil, chunkstore.Blockstore{Store: cfg.Store},
		client.WithBlockReceivedNotifier(serve),
		client.WithoutDuplicatedBlockStats(),
		client.BroadcastControlEnable(true),
		client.BroadcastControlMaxRandomPeers(strangers),
		client.WithTraceBlock(true),
		client.RebroadcastDelay(10*time.Second),
	)
	net.Start(ask, serve)
	return &Exchange{ask, serve, func() error {
		stop()
		t.idle.Close()
		net.Stop()
		err := ask.Close()
		serve.close()
		return err
	}}
}

// Session returns what fetches the chunks of one content from connected peers. It
// remembers who has some. Each call waits until ctx ends; the error wraps what
// ended it.
func (x *Exchange) Session(ctx context.Context) func(context.Context, cid.Cid) (exchange.Found, error) {
	session := sync.OnceValue(func() fetcher { return x.ask.NewSession(ctx) })
	return func(ctx context.Context, c cid.Cid) (exchange.Found, error) {
		if chunkstore.Verify(c, nil) == nil { // peers do not send chunks without bytes
			return exchange.Found{}, nil
		}
		b, err := session().GetBlock(ctx, c)
		if err != nil {
			return exchange.Found{}, fmt.Errorf("bitswap: %w", err)
		}
		found := exchange.Found{Data: b.RawData()}
		if traced, ok := b.(traceability.Block); ok {
			found.From = traced.From.String()
		}
		return found, nil
	}
}

type fetcher interface {
	GetBlock(ctx context.Context, c cid.Cid) (blocks.Block, error)
}

// Close stops serving and fetching.
func (x *Exchange) Close() error { return x.end() }
