package p2p

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/ipfs/go-cid"
	ds "github.com/ipfs/go-datastore"
	dssync "github.com/ipfs/go-datastore/sync"
	dht "github.com/libp2p/go-libp2p-kad-dht"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"

	"github.com/talka-grid/talka/workunits"
)

// Limits of the DHT.
const (
	maxProvided   = 1 << 14 // keys that this node provides
	maxRecords    = 1 << 15 // provider records that this node keeps for others
	maxPerPeer    = 1 << 11 // of which one provider may have
	maxFound      = 64      // providers that a search returns
	provideTime   = time.Minute
	provideFirst  = 5 * time.Second // until a new key is provided again; then twice that, and so on
	provideEvery  = 8 * time.Hour   // at last; records live for two days
	providesAtOne = 2               // at a time
)

// newDHT makes the node's DHT. It gets its first peers from the peer manager: by
// itself it would dial before the host listens. It holds providers, which are hints, and
// pointers, which their publishers sign.
func (h *Host) newDHT() (*dht.IpfsDHT, error) {
	// A node is a server until AutoNAT finds that it cannot be dialled. On
	// loopback, and on a LAN without anybody outside to ask, it stays one; in a
	// private network always, since those are small and their nodes connected.
	mode := dht.ModeAutoServer
	if h.lan || h.cfg.NoNAT || h.cfg.Seed || h.club != nil {
		mode = dht.ModeServer
	}
	if h.cfg.NoDHT {
		mode = dht.ModeClient // where all are clients nobody is asked
	}
	options := append(pointerOptions(h.cfg.Network),
		dht.ProtocolPrefix(protocol.ID("/talka/"+h.cfg.Network)),
		dht.Mode(mode),
		dht.BucketSize(bucketSize),
		dht.Concurrency(alpha),
		dht.RoutingTableFilter(h.diverse),
		dht.ProviderDatastore(newRecords()),
	)
	d, err := dht.New(h.base, options...)
	if err != nil {
		return nil, err
	}
	// The host does not listen yet, so nobody is being added.
	table := d.RoutingTable()
	added, known := table.PeerAdded, sync.OnceFunc(func() { close(h.known) })
	table.PeerAdded = func(p peer.ID) {
		added(p)
		known()
	}
	return d, nil
}

// rendezvous is the key under which the nodes of a network find one another.
func (h *Host) rendezvous() cid.Cid {
	return workunits.RawCid(workunits.Sum(append([]byte("talka rendezvous "), h.secret()...)))
}

// Provide tells the DHT that this node has what c names, or takes part in it,
// and goes on telling until Unprovide. An error means that nobody could be told
// yet; the host tries again by itself, unless there are too many keys.
func (h *Host) Provide(ctx context.Context, c cid.Cid) error {
	if !c.Defined() {
		return fmt.Errorf("provide: undefined CID")
	}
	if !h.keys.add(c, time.Now()) {
		return fmt.Errorf("provide %s: %d keys are provided already: %w", c, maxProvided, ErrTooLarge)
	}
	return h.provide(ctx, c)
}

// Unprovide stops telling the DHT about c. What it was told lapses in two days.
func (h *Host) Unprovide(c cid.Cid) { h.keys.remove(c) }

func (h *Host) provide(ctx context.Context, c cid.Cid) error {
	ctx, cancel := context.WithTimeout(ctx, provideTime)
	defer cancel()
	if err := h.dht.Provide(ctx, c, true); err != nil {
		return fmt.Errorf("provide %s: %w", c, err)
	}
	h.keys.told(c, time.Now())
	return nil
}

// FindProviders asks the DHT who has what c names: up to n others, at most 64,
// in no order. It returns what it found when ctx ends; finding nobody is no
// error, and proves nothing.
func (h *Host) FindProviders(ctx context.Context, c cid.Cid, n int) ([]Peer, error) {
	if !c.Defined() {
		return nil, fmt.Errorf("find providers: undefined CID")
	}
	if h.ctx.Err() != nil {
		return nil, fmt.Errorf("find providers: %w", ErrClosed)
	}
	found := []Peer{}
	for _, info := range h.findProviders(ctx, c, n) {
		id, ok := nodeID(info.ID)
		if ok {
			found = append(found, peerOf(id, info.Addrs))
		}
	}
	return found, nil
}

func (h *Host) findProviders(ctx context.Context, c cid.Cid, n int) (found []peer.AddrInfo) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(h.ctx, cancel)()
	n = min(max(n, 1), maxFound)
	// One more, since this node may be among them.
	for info := range h.dht.FindProvidersAsync(ctx, c, n+1) {
		if info.ID != h.base.ID() && len(found) < n {
			found = append(found, info)
		}
	}
	return found
}

// provided are the keys that this node provides, and when next. A young key is
// told often, since the network around it may be young as well.
type provided struct {
	mu   sync.Mutex
	keys map[cid.Cid]*schedule
	more chan struct{} // has a token when a key is new
}

type schedule struct {
	next  time.Time
	after time.Duration // from next to the one after it
}

func newProvided() provided {
	return provided{keys: map[cid.Cid]*schedule{}, more: make(chan struct{}, 1)}
}

func (p *provided) add(c cid.Cid, now time.Time) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.keys[c] == nil {
		if len(p.keys) == maxProvided {
			return false
		}
		p.keys[c] = &schedule{next: now.Add(provideFirst), after: provideFirst}
		wake(p.more)
	}
	return true
}

func (p *provided) remove(c cid.Cid) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.keys, c)
}

// told moves the key's next time on; without it the key stays due.
func (p *provided) told(c cid.Cid, now time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if s := p.keys[c]; s != nil {
		s.after = min(2*s.after, provideEvery)
		s.next = now.Add(jitter(s.after))
	}
}

// due returns the keys whose time has come, and when the next one's comes.
func (p *provided) due(now time.Time) (keys []cid.Cid, next time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	next = provideEvery
	for c, s := range p.keys {
		if wait := s.next.Sub(now); wait > 0 {
			next = min(next, wait)
			continue
		}
		keys = append(keys, c)
		// If telling fails the key comes again soon.
		s.next = now.Add(provideFirst)
		next = min(next, provideFirst)
	}
	return keys, next
}

// provideAll provides keys again and again.
func (h *Host) provideAll() {
	for {
		keys, next := h.keys.due(time.Now())
		queue := make(chan cid.Cid, len(keys))
		for _, c := range keys {
			queue <- c
		}
		close(queue)
		var workers sync.WaitGroup
		for range providesAtOne {
			workers.Go(func() {
				for c := range queue {
					if h.ctx.Err() != nil || h.dht.RoutingTable().Size() == 0 {
						continue
					}
					if err := h.provide(h.ctx, c); err != nil && h.ctx.Err() == nil {
						h.log.Debug("cannot provide", "error", err)
					}
				}
			})
		}
		workers.Wait()
		select {
		case <-time.After(next):
		case <-h.keys.more:
		case <-h.ctx.Done():
			return
		}
	}
}

// wake puts a token into a channel of capacity one.
func wake(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// records keeps provider records in memory: at most maxRecords, at most
// maxPerPeer of one provider. More are dropped; kad-dht itself sets no bound.
type records struct {
	ds.Batching
	mu      sync.Mutex
	total   int
	perPeer map[string]int
}

func newRecords() *records {
	return &records{Batching: dssync.MutexWrap(ds.NewMapDatastore()), perPeer: map[string]int{}}
}

// providerOf is the provider in a key "/providers/<key>/<provider>".
func providerOf(k ds.Key) string {
	s := k.String()
	return s[strings.LastIndexByte(s, '/')+1:]
}

// Put stores a record, or drops it if there are too many.
func (r *records) Put(ctx context.Context, k ds.Key, value []byte) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	known, err := r.Has(ctx, k)
	if err != nil {
		return err
	}
	who := providerOf(k)
	if !known && (r.total >= maxRecords || r.perPeer[who] >= maxPerPeer) {
		return nil
	}
	if err := r.Batching.Put(ctx, k, value); err != nil {
		return err
	}
	if !known {
		r.total++
		r.perPeer[who]++
	}
	return nil
}

// Delete removes a record.
func (r *records) Delete(ctx context.Context, k ds.Key) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	known, err := r.Has(ctx, k)
	if err != nil || !known {
		return err
	}
	if err := r.Batching.Delete(ctx, k); err != nil {
		return err
	}
	who := providerOf(k)
	r.total--
	if r.perPeer[who]--; r.perPeer[who] == 0 {
		delete(r.perPeer, who)
	}
	return nil
}

// Batch returns a batch that goes through Put and Delete.
func (r *records) Batch(context.Context) (ds.Batch, error) { return ds.NewBasicBatch(r), nil }
