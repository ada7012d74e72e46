package p2p

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/talka-grid/talka/chunkstore/whole"
	"github.com/talka-grid/talka/workunits"
)

// Limits of the peer cache.
const (
	maxCached  = 64                                                // peers
	maxCacheKB = maxCached * (maxAddrs*(maxAddrLen+16) + 256) >> 9 // generous, in KiB
	cacheEvery = time.Minute
	cacheSoon  = 100 * time.Millisecond
)

// peerCache remembers the peers that were connected last, in a file that is
// written as a whole. Age alone forgets nobody: a node that was off for long
// has nothing better. It is safe for concurrent use.
type peerCache struct {
	path    string // "" for memory only
	network string

	mu   sync.Mutex
	list []cachedPeer // latest first
}

type cachedPeer struct {
	Peer
	Seen time.Time `json:"seen"`
}

// cacheFile is the file's form.
type cacheFile struct {
	Version int          `json:"version"`
	Network string       `json:"network"`
	Peers   []cachedPeer `json:"peers"`
}

// readCache reads the file if there is one. It always returns a cache; the error
// tells why that is empty although there is a file. The cache of another network
// is ignored.
func readCache(path, network string) (*peerCache, error) {
	c := &peerCache{path: path, network: network}
	if path == "" {
		return c, nil
	}
	info, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return c, nil
	}
	if err != nil {
		return c, err
	}
	if info.Size() > maxCacheKB<<10 {
		return c, fmt.Errorf("%d bytes, at most %d are read: %w", info.Size(), maxCacheKB<<10, ErrTooLarge)
	}
	b, err := os.ReadFile(path)
	if err != nil {
		return c, err
	}
	f, err := parseCache(b)
	if err != nil {
		return c, err
	}
	if f.Network == network {
		c.list = f.Peers
	}
	return c, nil
}

// Remember puts peers into a node's cache before it runs for the first time.
func Remember(path, network string, peers []Peer) error {
	c, err := readCache(path, network)
	if err != nil {
		return fmt.Errorf("p2p: peer cache: %w", err)
	}
	if c.saw(time.Now(), peers) {
		err = c.write()
	}
	return err
}

// parseCache reads and checks a cache file.
func parseCache(b []byte) (cacheFile, error) {
	var f cacheFile
	if len(b) > maxCacheKB<<10 {
		return f, fmt.Errorf("%d bytes: %w", len(b), ErrTooLarge)
	}
	if err := json.Unmarshal(b, &f); err != nil {
		return f, err
	}
	if f.Version != 1 {
		return f, fmt.Errorf("version %d, want 1", f.Version)
	}
	if len(f.Peers) > maxCached {
		return f, fmt.Errorf("%d peers, at most %d are kept: %w", len(f.Peers), maxCached, ErrTooLarge)
	}
	for _, p := range f.Peers {
		if _, err := p.info(); err != nil {
			return f, err
		}
	}
	return f, nil
}

func (c *peerCache) peers() (all []Peer) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, p := range c.list {
		all = append(all, p.Peer)
	}
	return all
}

// saw puts peers at the front. It reports whether the file is out of date.
func (c *peerCache) saw(now time.Time, peers []Peer) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	changed := false
	var front []cachedPeer
	fresh := map[workunits.NodeID]bool{}
	for _, p := range peers {
		if len(p.Addrs) == 0 || fresh[p.ID] {
			continue
		}
		fresh[p.ID] = true
		i := slices.IndexFunc(c.list, func(o cachedPeer) bool { return o.ID == p.ID })
		changed = changed || i < 0 || !slices.Equal(c.list[i].Addrs, p.Addrs) || now.Sub(c.list[i].Seen) > time.Hour
		front = append(front, cachedPeer{p, now.UTC().Truncate(time.Second)})
	}
	for _, p := range c.list {
		if !fresh[p.ID] {
			front = append(front, p)
		}
	}
	c.list = front[:min(len(front), maxCached)]
	return changed && c.path != ""
}

// write replaces the file by the present list.
func (c *peerCache) write() error {
	c.mu.Lock()
	b, err := json.MarshalIndent(cacheFile{1, c.network, c.list}, "", "  ")
	c.mu.Unlock()
	if err != nil {
		return err
	}
	return whole.Write(c.path, b, []byte{'\n'})
}

// keepCache notes who is connected: at once after the first ones have come, as a
// crash may be near, ever later after the next ones, every minute, and at the end.
func (h *Host) keepCache() {
	wait, soon := cacheSoon, false
	due := time.NewTimer(cacheEvery)
	defer due.Stop()
	for {
		select {
		case <-h.newcomer:
			if !soon {
				soon = true
				due.Reset(wait)
				wait = min(2*wait, cacheEvery)
			}
		case <-due.C:
			soon = false
			due.Reset(cacheEvery)
			h.noteCache()
		case <-h.ctx.Done():
			h.noteCache()
			return
		}
	}
}

func (h *Host) noteCache() {
	var all []Peer
	for _, p := range h.members() {
		if id, ok := nodeID(p); ok {
			all = append(all, peerOf(id, h.base.Peerstore().Addrs(p)))
		}
	}
	if !h.cache.saw(time.Now(), all) {
		return
	}
	if err := h.cache.write(); err != nil {
		h.log.Warn("cannot write the peer cache", "path", h.cache.path, "error", err)
	}
}
