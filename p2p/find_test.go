package p2p

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/ipfs/go-cid"
	ds "github.com/ipfs/go-datastore"

	"github.com/talka-grid/talka/workunits"
)

// shelfCatalogue is a catalogue in memory that tells what it learns.
type shelfCatalogue struct {
	learned chan string

	mu   sync.Mutex
	live [][]byte
}

func (c *shelfCatalogue) Live() [][]byte {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.live)
}

func (c *shelfCatalogue) Learn(data []byte) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if string(data) == "bad" {
		return errors.New("bad")
	}
	if slices.ContainsFunc(c.live, func(b []byte) bool { return bytes.Equal(b, data) }) {
		return nil // two peers told of it at once
	}
	c.live = append(c.live, data)
	c.learned <- string(data)
	return nil
}

func newCatalogue(live ...string) *shelfCatalogue {
	c := &shelfCatalogue{learned: make(chan string, 4096)}
	for _, s := range live {
		c.live = append(c.live, []byte(s))
	}
	return c
}

// cluster starts n hosts that are told of the first one only.
func cluster(t *testing.T, n int, cfg Config, setup func(i int, h *Host)) []*Host {
	t.Helper()
	var all []*Host
	for i := range n {
		if i > 0 {
			cfg.Peers = []Peer{all[0].peer()}
		}
		all = append(all, start(t, fmt.Sprint(i), cfg, func(h *Host) {
			if setup != nil {
				setup(i, h)
			}
		}))
	}
	return all
}

func TestEachFindsAllThroughOneSeed(t *testing.T) {
	t.Parallel()
	const n = 5
	all := cluster(t, n, Config{}, nil)
	for _, h := range all {
		awaitPeers(t, h, n-1)
	}
}

func TestProvideAndFind(t *testing.T) {
	t.Parallel()
	all := cluster(t, 4, Config{}, nil)
	for _, h := range all {
		awaitPeers(t, h, len(all)-1)
	}
	c := workunits.RawCid(workunits.Sum([]byte("a job")))
	for _, h := range all {
		awaitTable(t, h)
	}
	if err := all[1].Provide(within(t), c); err != nil {
		t.Fatal(err)
	}
	var found []Peer
	eventually(t, func(ctx context.Context) (err error) { // a table may know one of them only
		if found, err = all[3].FindProviders(ctx, c, 10); err == nil && len(found) == 0 {
			err = errors.New("found nobody")
		}
		return err
	})
	if len(found) != 1 || found[0].ID != all[1].ID() || len(found[0].Addrs) == 0 {
		t.Errorf("found %+v, want %s and its addresses", found, all[1].ID())
	}
	if _, err := found[0].info(); err != nil {
		t.Error(err)
	}
	none, err := all[2].FindProviders(within(t), workunits.RawCid(workunits.Sum([]byte("nothing"))), 10)
	if err != nil || len(none) != 0 {
		t.Errorf("found %v, %v: want nobody", none, err)
	}
	if err := all[0].Provide(within(t), cid.Undef); err == nil {
		t.Error("undefined CID: no error")
	}
}

// awaitTable waits until the host's DHT knows somebody.
func awaitTable(t *testing.T, h *Host) {
	t.Helper()
	select {
	case <-h.known:
	case <-time.After(patience):
		t.Fatal("the DHT knows nobody")
	}
}

// What was provided while nobody was there is told to those who come.
func TestProvideBeforeAnybodyIsThere(t *testing.T) {
	t.Parallel()
	a := start(t, "a", Config{}, nil)
	c := workunits.RawCid(workunits.Sum([]byte("early")))
	if err := a.Provide(within(t), c); err == nil {
		t.Error("nobody was there to be told, and there is no error")
	}
	b := start(t, "b", Config{Peers: []Peer{a.peer()}}, nil)
	awaitTable(t, b)
	ctx := within(t)
	for { // until a has told b

		found, err := b.FindProviders(ctx, c, 1)
		if err != nil || ctx.Err() != nil {
			t.Fatalf("not found: %v", errors.Join(err, ctx.Err()))
		}
		if len(found) == 1 {
			break
		}
	}
}

func TestConnectFindsAddressesInTheDHT(t *testing.T) {
	t.Parallel()
	all := cluster(t, 3, Config{}, nil)
	awaitPeers(t, all[0], 2)
	awaitTable(t, all[1])
	eventually(t, func(ctx context.Context) error { return all[1].Connect(ctx, Peer{ID: all[2].ID()}) })
}

func TestJoinByInvite(t *testing.T) {
	t.Parallel()
	a := start(t, "a", Config{}, nil)
	b := start(t, "b", Config{}, nil)
	text, err := a.Invite(0, workunits.NodeID{})
	if err != nil {
		t.Fatal(err)
	}
	if err := b.Join(within(t), text); err != nil {
		t.Fatal(err)
	}
	if len(b.Peers()) != 1 {
		t.Errorf("peers %v after joining", b.Peers())
	}
	if err := a.Join(within(t), text); err != nil {
		t.Errorf("own invite: %v", err)
	}
	old, err := a.Invite(-time.Hour, workunits.NodeID{})
	if err != nil {
		t.Fatal(err)
	}
	if err := b.Join(within(t), old); !errors.Is(err, ErrInvite) {
		t.Errorf("expired: %v, want %v", err, ErrInvite)
	}
	gone := newHost(t, "gone", Config{}, nil)
	text, err = gone.Invite(0, workunits.NodeID{})
	if err = errors.Join(err, gone.Close()); err != nil {
		t.Fatal(err)
	}
	if err := b.Join(within(t), text); !errors.Is(err, ErrUnreachable) {
		t.Errorf("nobody there: %v, want %v", err, ErrUnreachable)
	}
}

func TestGossipAloneReachesAll(t *testing.T) {
	t.Parallel()
	const n = 5
	got := make([]chan string, n)
	all := cluster(t, n, Config{NoCatalogue: true, Listen: []string{onQUIC}}, func(i int, h *Host) {
		got[i] = make(chan string, 64)
		h.Announcements(func(_ workunits.NodeID, data []byte) Verdict {
			switch string(data[:3]) {
			case "job":
				return Accept
			case "old":
				return Ignore
			}
			return Reject
		}, func(data []byte) { got[i] <- string(data) })
	})
	for _, h := range all {
		awaitPeers(t, h, n-1)
	}
	for _, h := range all {
		awaitTopic(t, h, n-1)
	}
	for _, data := range []string{"old news", "bad news", "job 1", "job 1", "job 2"} {
		if err := all[2].Announce(within(t), []byte(data)); err != nil {
			t.Fatal(err)
		}
	}
	for i, c := range got {
		if i == 2 {
			continue
		}
		news := receive(t, c, 2)
		slices.Sort(news)
		if diff := cmp.Diff([]string{"job 1", "job 2"}, news); diff != "" {
			t.Errorf("node %d: %s", i, diff)
		}
	}
	if len(got[2]) != 0 {
		t.Errorf("the author was told its own news: %s", <-got[2])
	}
	if err := all[0].Announce(within(t), make([]byte, workunits.MaxAnnouncement+1)); !errors.Is(err, ErrTooLarge) {
		t.Errorf("too large: %v, want %v", err, ErrTooLarge)
	}
}

// awaitTopic waits until the host knows that n peers listen to announcements. It looks
// by itself now and then, since of a peer that left and came again before anybody has
// read that there is no event.
func awaitTopic(t *testing.T, h *Host, n int) {
	t.Helper()
	events, err := h.topic.EventHandler()
	if err != nil {
		t.Fatal(err)
	}
	defer events.Cancel()
	for all := within(t); len(h.topic.ListPeers()) < n; {
		ctx, cancel := context.WithTimeout(all, 100*time.Millisecond)
		_, _ = events.NextPeerEvent(ctx) // the peers tell
		cancel()
		if all.Err() != nil {
			t.Fatalf("%s hears of %v, connected to %v", h.base.ID(), h.topic.ListPeers(), h.base.Network().Conns())
		}
	}
}

func TestCatalogueAloneReachesAll(t *testing.T) {
	t.Parallel()
	const n = 5
	catalogues := make([]*shelfCatalogue, n)
	cluster(t, n, Config{NoGossip: true, CataloguePeriod: 100 * time.Millisecond}, func(i int, h *Host) {
		catalogues[i] = newCatalogue()
		if i == 1 {
			catalogues[i] = newCatalogue("job 1", "bad", "job 2")
		}
		h.SetCatalogue(catalogues[i])
	})
	for i, c := range catalogues {
		if i == 1 {
			continue
		}
		news := receive(t, c.learned, 2)
		slices.Sort(news)
		if diff := cmp.Diff([]string{"job 1", "job 2"}, news); diff != "" {
			t.Errorf("node %d: %s", i, diff)
		}
	}
}

// Connecting is enough to learn in both directions, however long the period.
func TestCatalogueOnConnecting(t *testing.T) {
	t.Parallel()
	ours, theirs := newCatalogue("ours", "both"), newCatalogue("theirs", "both")
	cfg := Config{NoGossip: true, CataloguePeriod: time.Hour}
	a := start(t, "a", cfg, func(h *Host) { h.SetCatalogue(ours) })
	cfg.Peers = []Peer{a.peer()}
	start(t, "b", cfg, func(h *Host) { h.SetCatalogue(theirs) })
	if got := receive(t, ours.learned, 1)[0]; got != "theirs" {
		t.Errorf("learned %q", got)
	}
	if got := receive(t, theirs.learned, 1)[0]; got != "ours" {
		t.Errorf("learned %q", got)
	}
}

// More than one exchange may carry gets across in several.
func TestCatalogueOfManyLargeEntries(t *testing.T) {
	t.Parallel()
	full, empty := newCatalogue(), newCatalogue()
	const n = 200
	for i := range n {
		data := make([]byte, workunits.MaxAnnouncement)
		copy(data, fmt.Sprint(i))
		full.live = append(full.live, data)
	}
	full.live = append(full.live, nil, make([]byte, workunits.MaxAnnouncement+1)) // never sent
	cfg := Config{NoGossip: true, CataloguePeriod: 20 * time.Millisecond}
	a := start(t, "a", cfg, func(h *Host) { h.SetCatalogue(full) })
	cfg.Peers = []Peer{a.peer()}
	start(t, "b", cfg, func(h *Host) { h.SetCatalogue(empty) })
	receive(t, empty.learned, n)
}

func recordKey(provider, i int) ds.Key {
	return ds.NewKey(fmt.Sprintf("/providers/k%d/p%d", i, provider))
}

func TestRecordsAreBounded(t *testing.T) {
	t.Parallel()
	r, ctx := newRecords(), context.Background()
	key := recordKey
	put := func(provider, n int) {
		b, err := r.Batch(ctx)
		if err != nil {
			t.Fatal(err)
		}
		for i := range n {
			if err := b.Put(ctx, key(provider, i), []byte("x")); err != nil {
				t.Fatal(err)
			}
		}
		if err := b.Commit(ctx); err != nil {
			t.Fatal(err)
		}
	}
	put(0, maxPerPeer+10)
	if r.total != maxPerPeer {
		t.Errorf("%d records of one provider, want %d", r.total, maxPerPeer)
	}
	put(1, 5)
	put(1, 5)
	if r.total != maxPerPeer+5 {
		t.Errorf("%d records, want %d", r.total, maxPerPeer+5)
	}
	for i := range 5 {
		if err := errors.Join(r.Delete(ctx, key(1, i)), r.Delete(ctx, key(1, i))); err != nil {
			t.Fatal(err)
		}
	}
	for p := 2; p < 40; p++ {
		put(p, maxPerPeer)
	}
	if r.total != maxRecords || r.perPeer["p1"] != 0 {
		t.Errorf("%d records, want %d; %d of p1, want none", r.total, maxRecords, r.perPeer["p1"])
	}
}

func TestProvidedSchedule(t *testing.T) {
	t.Parallel()
	p, now := newProvided(), time.Unix(0, 0)
	c := workunits.RawCid(workunits.Sum([]byte("x")))
	for range 2 {
		if !p.add(c, now) {
			t.Fatal("refused")
		}
	}
	tellings, end := 0, now.Add(48*time.Hour)
	for now.Before(end) {
		keys, next := p.due(now)
		if next <= 0 {
			t.Fatalf("next in %s", next)
		}
		for _, k := range keys {
			tellings++
			p.told(k, now)
			_, next = p.due(now)
		}
		now = now.Add(next)
	}
	// 5 s doubled to 8 h in 13 steps, then every 8 h.
	if tellings < 14 || tellings > 24 {
		t.Errorf("told %d times in two days", tellings)
	}
	p.remove(c)
	if keys, _ := p.due(end.Add(time.Hour * 100)); len(keys) != 0 {
		t.Errorf("due after removal: %v", keys)
	}
}
