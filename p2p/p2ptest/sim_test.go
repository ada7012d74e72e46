//go:build linux

// The post-quantum key exchange takes most of the processor and says nothing here.
//go:debug tlsmlkem=0

package p2ptest

import (
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"runtime"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/talka-grid/talka/p2p"
	"github.com/talka-grid/talka/workunits"
)

// simSize is how large the runs of TestSimNet are.
type simSize struct {
	gossip int           // nodes that announce, without DHT
	few    int           // the same in a smaller network, for comparison; 0 for none
	dht    int           // nodes that provide and find
	churn  int           // nodes of which one is replaced a minute
	during time.Duration // the virtual time that this goes on
}

// simSizes are the runs by name: TALKA_TEST_SIZE, small in make test. A run of no
// nodes is left out.
func simSizes() map[string]simSize {
	return map[string]simSize{
		"small":   {gossip: 100, dht: 20, churn: 12, during: 10 * time.Minute},
		"full":    {gossip: 1000, few: 100, dht: 300, churn: 60, during: time.Hour},
		"day":     {churn: 20, during: 24 * time.Hour},
		"nightly": {gossip: 3000, few: 100, dht: 500, churn: 60, during: 24 * time.Hour},
	}
}

const (
	simLoss     = 0.05 // share of packets
	simHostile  = 0.10 // share of nodes that pass nothing on; half of them flood
	simNews     = 20   // announcements of a run
	simLookups  = 20   // keys of a run
	simInterval = time.Minute
)

// simReport is what a run of TestSimNet measured; times are virtual.
type simReport struct {
	Seed             uint64  `json:"seed"`
	Nodes            int     `json:"nodes"`                           // of the run with gossip
	Delivered        float64 `json:"delivered"`                       // share of announcements at honest nodes within 2 s
	DeliveredPull    float64 `json:"delivered_pull"`                  // and within one pull interval
	P50              float64 `json:"p50_ms"`                          // from announcing to delivery
	P99              float64 `json:"p99_ms"`                          //
	Hops             float64 `json:"p50_hops"`                        // the median in links of 50 ms
	Bytes            float64 `json:"bytes_per_node_per_announcement"` // sent, beyond what is sent anyway
	FewBytes         float64 `json:"bytes_per_node_few,omitempty"`    // the same among a hundred nodes
	IdleBytes        float64 `json:"idle_bytes_per_node_per_s"`       // what is sent anyway, floods included
	DHTNodes         int     `json:"dht_nodes"`                       //
	FoundShare       float64 `json:"found"`                           // lookups that found the provider
	ProvideP50       float64 `json:"provide_p50_ms"`                  //
	FindP50          float64 `json:"find_p50_ms"`                     //
	ChurnNodes       int     `json:"churn_nodes"`                     //
	Replaced         int     `json:"replaced"`                        // half of them without a word
	ChurnDelivered   float64 `json:"churn_delivered"`                 // within 2 s, to all that were there
	ChurnFound       float64 `json:"churn_found"`                     //
	GoroutinesGrowth int     `json:"goroutines_growth"`               // over the churn, without simnet's two a replaced node
	HeapGrowthMB     float64 `json:"heap_growth_mb"`                  // over the churn
	CPU              float64 `json:"cpu_ms_per_node"`                 // of the run with gossip, in real time, making all nodes included
	RSS              float64 `json:"rss_mb"`                          // most of the process, over all runs
}

// TestSimNet runs real hosts over links of 50 ms: announcements in a large
// network that loses packets and holds hostile peers, lookups in the DHT, and
// nodes that come and go. TALKA_TEST_SIZE chooses how large, TALKA_TEST_SEED
// what happens by chance (but for the scheduling of goroutines); the report goes
// to the file that TALKA_TEST_REPORT names.
func TestSimNet(t *testing.T) {
	name := os.Getenv("TALKA_TEST_SIZE")
	if name == "" {
		name = "small"
	}
	size, ok := simSizes()[name]
	if !ok {
		t.Fatalf("TALKA_TEST_SIZE is %q, want small, full or nightly", name)
	}
	report := simReport{Seed: 1, Nodes: size.gossip, DHTNodes: size.dht, ChurnNodes: size.churn}
	if text := os.Getenv("TALKA_TEST_SEED"); text != "" {
		seed, err := strconv.ParseUint(text, 10, 64)
		if err != nil {
			t.Fatalf("TALKA_TEST_SEED: %v", err)
		}
		report.Seed = seed
	}
	t.Logf("seed %d", report.Seed)
	if size.few > 0 {
		t.Run("gossip among few", func(t *testing.T) {
			few := report
			few.gossip(t, size.few)
			report.FewBytes = few.Bytes
		})
	}
	if size.gossip > 0 {
		t.Run("gossip", func(t *testing.T) {
			report.gossip(t, size.gossip)
			if ratio := report.Bytes / report.FewBytes; size.few > 0 && (ratio < 0.9 || ratio > 1.1) {
				t.Errorf("a node sends %.2f times the bytes for an announcement that it sends among %d", ratio, size.few)
			}
		})
	}
	if size.dht > 0 {
		t.Run("dht", func(t *testing.T) { report.dht(t, size.dht) })
	}
	t.Run("churn", func(t *testing.T) { report.churn(t, size.churn, size.during) })
	report.RSS = float64(usage(t).Maxrss) / 1024
	b, err := json.Marshal(report)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%s", b)
	if path := os.Getenv("TALKA_TEST_REPORT"); path != "" {
		if err := os.WriteFile(path, append(b, '\n'), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

func usage(t *testing.T) (u unix.Rusage) {
	t.Helper()
	if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
		t.Fatal(err)
	}
	return u
}

func cpu(t *testing.T) time.Duration {
	t.Helper()
	u := usage(t)
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// world is a network with what is needed to choose at random and to follow
// announcements.
type world struct {
	*testing.T
	*Network
	random *rand.Rand

	mu    sync.Mutex
	begun map[string]time.Time                   // announcements, when they were made
	heard map[string]map[*p2p.Host]time.Duration // who heard them, after how long
}

func newWorld(t *testing.T, nw *Network, seed uint64) *world {
	return &world{
		T: t, Network: nw, random: rand.New(rand.NewPCG(seed, 0)),
		begun: map[string]time.Time{}, heard: map[string]map[*p2p.Host]time.Duration{},
	}
}

// some are up to n of the hosts, at random.
func (w *world) some(all []*p2p.Host, n int) (some []*p2p.Host) {
	for _, i := range w.random.Perm(len(all))[:min(n, len(all))] {
		some = append(some, all[i])
	}
	return some
}

func (w *world) one(all []*p2p.Host) *p2p.Host { return all[w.random.IntN(len(all))] }

// add makes the i-th node, with invites of some of the hosts.
func (w *world) add(i int, cfg p2p.Config, all []*p2p.Host, invites int, hostile bool) *p2p.Host {
	cfg.Network = "sim"
	for _, h := range w.some(all, invites) {
		cfg.Peers = append(cfg.Peers, Peer(h))
	}
	ear := &ear{w: w, live: map[string]bool{}}
	return w.Host(i, cfg, func(h *p2p.Host) {
		ear.host = h
		h.SetCatalogue(ear)
		h.Announcements(func(_ workunits.NodeID, data []byte) p2p.Verdict {
			switch _, known := w.when(string(data)); {
			case hostile:
				return p2p.Ignore // and so pass nothing on
			case !known:
				return p2p.Reject
			}
			return p2p.Accept
		}, func(data []byte) { _ = ear.Learn(data) })
	})
}

func (w *world) when(news string) (at time.Time, known bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	at, known = w.begun[news]
	return at, known
}

// announce lets a host tell something new.
func (w *world) announce(h *p2p.Host) (news string) {
	w.Helper()
	body := make([]byte, 400)
	for i := range body {
		body[i] = byte(w.random.IntN(256))
	}
	news = string(body)
	w.mu.Lock()
	w.begun[news] = time.Now()
	w.heard[news] = map[*p2p.Host]time.Duration{}
	w.mu.Unlock()
	if err := h.Announce(w.Context(), body); err != nil {
		w.Error(err)
	}
	return news
}

// forget drops all that was announced.
func (w *world) forget() {
	w.mu.Lock()
	defer w.mu.Unlock()
	clear(w.begun)
	clear(w.heard)
}

// delays are how long the news took to reach each of the hosts but one, and how
// many did not hear it within the time.
func (w *world) delays(news string, by *p2p.Host, to []*p2p.Host, within time.Duration) (took []time.Duration, missed int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, h := range to {
		switch d, ok := w.heard[news][h]; {
		case h == by:
		case ok && d <= within:
			took = append(took, d)
		default:
			missed++
		}
	}
	return took, missed
}

// ear is a node's catalogue: it notes what it hears first.
type ear struct {
	w    *world
	host *p2p.Host
	mu   sync.Mutex
	live map[string]bool
}

func (e *ear) Live() (all [][]byte) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for news := range e.live {
		all = append(all, []byte(news))
	}
	return all
}

func (e *ear) Learn(data []byte) error {
	at, known := e.w.when(string(data))
	if !known {
		return errors.New("not signed by anybody")
	}
	e.mu.Lock()
	e.live[string(data)] = true
	e.mu.Unlock()
	e.w.mu.Lock()
	defer e.w.mu.Unlock()
	if _, again := e.w.heard[string(data)][e.host]; !again {
		e.w.heard[string(data)][e.host] = time.Since(at)
	}
	return nil
}

func median(all []time.Duration) float64 { return quantile(all, 0.5) }

func quantile(all []time.Duration, q float64) float64 {
	if len(all) == 0 {
		return 0
	}
	slices.Sort(all)
	return float64(all[int(q*float64(len(all)-1))]) / float64(time.Millisecond)
}

// gossip measures announcements.
func (r *simReport) gossip(t *testing.T, n int) {
	begun := cpu(t)
	Run(t, oneWay, func(t *testing.T, nw *Network) {
		w := newWorld(t, nw, r.Seed)
		var all, honest, flooders []*p2p.Host
		for i := range n {
			hostile := w.random.Float64() < simHostile && i > 0
			h := w.add(i, p2p.Config{NoDHT: true}, all, 5, hostile)
			all = append(all, h)
			switch {
			case !hostile:
				honest = append(honest, h)
			case i%2 == 0:
				flooders = append(flooders, h)
			}
		}
		nw.Until(5*time.Minute, "every node has 6 peers", eachHas(all, 6))
		loss := rand.New(rand.NewPCG(r.Seed, 1))
		nw.Lose(func() bool { return loss.Float64() < simLoss })
		time.Sleep(20 * time.Second) // some heartbeats of gossip, in virtual time
		// What is sent with nothing to announce, but with floods; then the same
		// with announcements.
		phase := func(news bool) (made []string, by []*p2p.Host, bytes float64) {
			before := nw.Sent()
			for i := range simNews {
				for _, h := range flooders {
					if err := h.Announce(t.Context(), fmt.Appendf(nil, "flood %d of %s %t", i, h.ID(), news)); err != nil {
						t.Error(err)
					}
				}
				if news {
					h := w.one(honest)
					made, by = append(made, w.announce(h)), append(by, h)
				}
				time.Sleep(3 * time.Second) // virtual
			}
			return made, by, float64(nw.Sent()-before) / float64(n)
		}
		_, _, idle := phase(false)
		made, by, busy := phase(true)
		time.Sleep(simInterval * 6 / 5) // virtual; a pull is due in each interval, give or take a fifth
		var took []time.Duration
		missed, missedPull := 0, 0
		for i, news := range made {
			d, m := w.delays(news, by[i], honest, 2*time.Second)
			took, missed = append(took, d...), missed+m
			_, m = w.delays(news, by[i], honest, simInterval*6/5)
			missedPull += m
		}
		total := float64(len(made) * (len(honest) - 1))
		r.Delivered, r.DeliveredPull = 1-float64(missed)/total, 1-float64(missedPull)/total
		r.P50, r.P99 = median(took), quantile(took, 0.99)
		r.Hops = r.P50 / (float64(oneWay) / float64(time.Millisecond))
		r.IdleBytes = idle / (simNews * 3)
		r.Bytes = (busy - idle) / simNews
	})
	r.CPU = float64((cpu(t) - begun).Milliseconds()) / float64(n)
	t.Logf("%d nodes: %.4f delivered within 2 s, %.4f within a pull; %.0f ms, %.0f ms at worst of 99 %%; %.0f bytes", n, r.Delivered, r.DeliveredPull, r.P50, r.P99, r.Bytes)
	if r.Delivered < 0.999 || r.DeliveredPull < 1 {
		t.Errorf("%.4f were delivered within 2 s and %.4f within a pull, want 0.999 and all", r.Delivered, r.DeliveredPull)
	}
}

// lookups lets hosts provide keys and others find them.
func (w *world) lookups(all []*p2p.Host, n int) (provided, found []time.Duration, missed int) {
	w.Helper()
	for i := range n {
		by, to := w.one(all), w.one(all)
		if by == to {
			continue
		}
		c := workunits.RawCid(workunits.Sum(fmt.Appendf(nil, "%s %d %s", by.ID(), i, time.Now())))
		begun := time.Now()
		if err := by.Provide(w.Context(), c); err != nil {
			w.Logf("provide: %v", err)
			missed++
			continue
		}
		provided = append(provided, time.Since(begun))
		begun = time.Now()
		peers, err := to.FindProviders(w.Context(), c, 1)
		if err != nil || len(peers) != 1 || peers[0].ID != by.ID() {
			w.Logf("found %v, %v", peers, err)
			missed++
			continue
		}
		found = append(found, time.Since(begun))
	}
	return provided, found, missed
}

// dht measures lookups.
func (r *simReport) dht(t *testing.T, n int) {
	Run(t, oneWay, func(t *testing.T, nw *Network) {
		w := newWorld(t, nw, r.Seed)
		var all []*p2p.Host
		for i := range n {
			all = append(all, w.add(i, p2p.Config{NoGossip: true}, all, 3, false))
		}
		nw.Until(5*time.Minute, "every node has 6 peers", eachHas(all, min(6, n-1)))
		time.Sleep(time.Minute) // virtual; the last ones get into routing tables
		provided, found, missed := w.lookups(all, simLookups)
		r.ProvideP50, r.FindP50 = median(provided), median(found)
		r.FoundShare = float64(len(found)) / float64(len(found)+missed)
	})
	t.Logf("%d nodes: %.2f found; provided in %.0f ms, found in %.0f ms", n, r.FoundShare, r.ProvideP50, r.FindP50)
	if r.FoundShare < 1 || r.ProvideP50 > 1500 || r.FindP50 > 1500 {
		t.Errorf("%.2f were found, provided in %.0f ms and found in %.0f ms; want all, below 1500 ms", r.FoundShare, r.ProvideP50, r.FindP50)
	}
}

// churn replaces a node a minute, every other one without a word, and looks
// whether the rest notices.
func (r *simReport) churn(t *testing.T, n int, during time.Duration) {
	var missed int // lookups
	Run(t, oneWay, func(t *testing.T, nw *Network) {
		w := newWorld(t, nw, r.Seed)
		var all []*p2p.Host
		for i := range n {
			all = append(all, w.add(i, p2p.Config{}, all, 3, false))
		}
		nw.Until(5*time.Minute, "every node has 6 peers", eachHas(all, min(6, n-1)))
		minutes := int(during / time.Minute)
		warm := min(n, minutes/2) // by then every kind of record has lapsed once
		var goroutines, heard, unheard, found int
		var heap uint64
		for minute := range minutes {
			if minute == warm {
				goroutines, heap = runtime.NumGoroutine(), heapNow()
			}
			gone := w.random.IntN(len(all))
			if minute%2 == 0 {
				nw.Cut(all[gone])
			}
			nw.Stop(all[gone])
			rest := slices.Delete(slices.Clone(all), gone, gone+1)
			all[gone] = w.add(n+minute, p2p.Config{}, rest, 2, false)
			time.Sleep(time.Minute) // virtual
			if minute%5 != 4 {
				continue
			}
			by := w.one(all)
			news := w.announce(by)
			time.Sleep(2 * time.Second) // virtual
			d, m := w.delays(news, by, all, 2*time.Second)
			heard, unheard = heard+len(d), unheard+m
			w.forget() // else hosts that are gone would stay in memory
			_, f, m := w.lookups(all, 2)
			found, missed = found+len(f), missed+m
			if minute%60 == 59 {
				t.Logf("after %d minutes: %s of processor time, %d goroutines, %d MB", minute+1, cpu(t).Round(time.Second), runtime.NumGoroutine(), heapNow()>>20)
			}
		}
		r.Replaced = minutes
		r.GoroutinesGrowth = runtime.NumGoroutine() - goroutines - 2*(minutes-warm)
		r.HeapGrowthMB = (float64(heapNow()) - float64(heap)) / (1 << 20)
		r.ChurnDelivered = float64(heard) / float64(heard+unheard)
		r.ChurnFound = float64(found) / float64(found+missed)
	})
	t.Logf("%d of %d replaced: %.4f delivered, %.2f found, %d goroutines and %.1f MB more", r.Replaced, n, r.ChurnDelivered, r.ChurnFound, r.GoroutinesGrowth, r.HeapGrowthMB)
	if r.ChurnDelivered < 0.999 || r.ChurnFound < 0.9 && missed > 1 { // of the few lookups of a short run one may meet a node that has just gone
		t.Errorf("%.4f delivered and %.2f found under churn, want 0.999 and 0.9", r.ChurnDelivered, r.ChurnFound)
	}
	if most := 10 * n; r.GoroutinesGrowth > most {
		t.Errorf("%d goroutines more, at most %d (connections come and go)", r.GoroutinesGrowth, most)
	}
}

func heapNow() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}
