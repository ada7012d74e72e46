// Package bitswap speaks the IPFS-compatible exchange over a node's libp2p host:
// it serves what the node's store lets peers have, and fetches single chunks that
// the faster exchange did not find. Its protocol ids carry the network's prefix, so
// that peers of other networks have no word to ask with.
package bitswap

import (
	"context"
	"fmt"
	"time"

	"github.com/ipfs/boxo/bitswap"
	"github.com/ipfs/boxo/bitswap/client"
	"github.com/ipfs/boxo/bitswap/network/bsnet"
	blocks "github.com/ipfs/go-block-format"
	"github.com/ipfs/go-cid"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"

	"github.com/talka-grid/talka/chunkstore"
)

// Settings that reach full speed over long delays at the price of memory.
const (
	outstanding = 16 << 20 // bytes on the way to one peer
	workers     = 16
)

// Exchange is a running bitswap. It is safe for concurrent use.
type Exchange struct{ bs *bitswap.Bitswap }

// New starts bitswap on a host of a network, before the host dials. Close ends it.
func New(ctx context.Context, h host.Host, network string, store *chunkstore.Store) *Exchange {
	net := bsnet.NewFromIpfsHost(h, bsnet.Prefix(protocol.ID("/talka/"+network)))
	bs := bitswap.New(ctx, net, nil, chunkstore.Blockstore{Store: store},
		bitswap.WithPeerBlockRequestFilter(func(_ peer.ID, c cid.Cid) bool { return store.Served(c) }),
		bitswap.MaxOutstandingBytesPerPeer(outstanding),
		bitswap.TaskWorkerCount(workers),
		bitswap.EngineTaskWorkerCount(workers),
		bitswap.EngineBlockstoreWorkerCount(workers),
		bitswap.WithoutDuplicatedBlockStats(),
		bitswap.WithClientOption(client.BroadcastControlEnable(true)),
		bitswap.RebroadcastDelay(10*time.Second),
	)
	return &Exchange{bs}
}

// Block fetches one chunk from connected peers. It waits until ctx ends; the
// error wraps what ended it.
func (x *Exchange) Block(ctx context.Context, c cid.Cid) (blocks.Block, error) {
	if chunkstore.Verify(c, nil) == nil { // peers do not send chunks without bytes
		return blocks.NewBlockWithCid(nil, c)
	}
	b, err := x.bs.GetBlock(ctx, c)
	if err != nil {
		return nil, fmt.Errorf("bitswap: %w", err)
	}
	return b, nil
}

// Close stops serving and fetching.
func (x *Exchange) Close() error { return x.bs.Close() }
