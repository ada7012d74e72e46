package p2p

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	ds "github.com/ipfs/go-datastore"
	dssync "github.com/ipfs/go-datastore/sync"
	dht "github.com/libp2p/go-libp2p-kad-dht"
	record "github.com/libp2p/go-libp2p-record"

	"github.com/talka-grid/talka/workunits"
)

const (
	pointerSpace = "talka"
	maxPointers  = 1 << 12 // that this node keeps for others
	pointerTime  = time.Minute
)

func pointerKey(network string, p workunits.ProjectID) string {
	return "/" + pointerSpace + "/" + workunits.PointerKey(network, p).String()
}

// pointers judge values of the DHT: a network's pointers, each under its project's
// key, and nothing else. The newest wins.
type pointers struct{ network string }

var _ record.Validator = pointers{}

// Validate refuses what is not the pointer of its key.
func (v pointers) Validate(key string, value []byte) error {
	p, err := workunits.ParsePointer(value)
	switch {
	case err != nil:
		return err
	case p.Network != v.network || pointerKey(v.network, p.ProjectID()) != key:
		return errors.New("pointer under another key")
	}
	return nil
}

// Select picks the one that outweighs the others.
func (v pointers) Select(_ string, values [][]byte) (best int, err error) {
	best = -1
	var newest workunits.Pointer
	for i, b := range values {
		if p, err := workunits.ParsePointer(b); err == nil && (best < 0 || p.Newer(newest)) {
			best, newest = i, p
		}
	}
	if best < 0 {
		return 0, errors.New("no pointer among the values")
	}
	return best, nil
}

// pointerOptions let the DHT keep pointers, in memory.
func pointerOptions(network string) []dht.Option {
	return []dht.Option{
		dht.Validator(record.NamespacedValidator{pointerSpace: pointers{network}}),
		dht.Datastore(newValues()),
	}
}

// PutPointer tells the DHT a project's pointer. An error means that nobody could be
// told; what is told lapses in two days.
func (h *Host) PutPointer(ctx context.Context, raw []byte) error {
	p, err := workunits.ParsePointer(raw)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, pointerTime)
	defer cancel()
	defer context.AfterFunc(h.ctx, cancel)()
	if err := h.dht.PutValue(ctx, pointerKey(h.cfg.Network, p.ProjectID()), raw); err != nil {
		return fmt.Errorf("put the pointer of %s: %w", p.ProjectID(), err)
	}
	return nil
}

// FindPointer asks the DHT for a project's pointer until it is sure, or ctx ends,
// and returns the newest that it found; nil for none, which proves nothing.
func (h *Host) FindPointer(ctx context.Context, project workunits.ProjectID) (newest []byte) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(h.ctx, cancel)()
	found, err := h.dht.SearchValue(ctx, pointerKey(h.cfg.Network, project))
	if err != nil {
		return nil
	}
	for b := range found { // each is better than those before it
		newest = b
	}
	return newest
}

// values keeps the pointers of others in memory, at most maxPointers. One that is
// new then takes the place of any: those that live are told again.
type values struct {
	ds.Batching
	mu   sync.Mutex
	keys []ds.Key
	at   map[ds.Key]int // in keys
}

func newValues() *values {
	return &values{Batching: dssync.MutexWrap(ds.NewMapDatastore()), at: map[ds.Key]int{}}
}

// Put stores a value.
func (v *values) Put(ctx context.Context, k ds.Key, value []byte) error {
	v.mu.Lock()
	defer v.mu.Unlock()
	if _, known := v.at[k]; !known {
		if len(v.keys) >= maxPointers {
			i := rand.IntN(len(v.keys)) //nolint:gosec // who guesses it gains nothing
			if err := v.Batching.Delete(ctx, v.keys[i]); err != nil {
				return err
			}
			v.forget(v.keys[i])
		}
		v.at[k] = len(v.keys)
		v.keys = append(v.keys, k)
	}
	return v.Batching.Put(ctx, k, value)
}

// Delete removes a value.
func (v *values) Delete(ctx context.Context, k ds.Key) error {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.forget(k)
	return v.Batching.Delete(ctx, k)
}

func (v *values) forget(k ds.Key) {
	i, known := v.at[k]
	if !known {
		return
	}
	last := len(v.keys) - 1
	v.keys[i] = v.keys[last]
	v.at[v.keys[i]] = i
	v.keys = v.keys[:last]
	delete(v.at, k)
}

// Batch returns a batch that goes through Put and Delete.
func (v *values) Batch(context.Context) (ds.Batch, error) { return ds.NewBasicBatch(v), nil }
