package main

import (
	"context"
	"crypto/ed25519"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"os"
	"regexp"
	"strings"
	"sync"
	"testing"

	"github.com/talka-grid/talka/p2p"
)

// scrape asks the page, naming a host.
func scrape(t *testing.T, url, host string) (int, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Host = host
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(body)
}

// Whatever the dashboard shows is there to be scraped from a node with a peer.
func TestDashboardShowsWhatIsCounted(t *testing.T) {
	t.Parallel()
	log := slog.New(slog.DiscardHandler)
	page, err := newMetricsPage(t.Context(), "127.0.0.1:0", log)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	run := func(f func(context.Context) error) {
		running.Go(func() {
			if err := f(ctx); err != nil {
				t.Error(err)
			}
		})
	}
	run(page.run)
	defer running.Wait()
	defer cancel()
	start := func(cfg p2p.Config) *p2p.Host {
		_, key, err := ed25519.GenerateKey(nil)
		if err != nil {
			t.Fatal(err)
		}
		cfg.Network, cfg.Key, cfg.Listen, cfg.Logger = "counted", key, []string{"/ip4/127.0.0.1/udp/0/quic-v1"}, log
		h, err := p2p.New(cfg)
		if err != nil {
			t.Fatal(err)
		}
		run(h.Run)
		return h
	}
	counted := start(p2p.Config{Metrics: page.registerer()})
	other := start(p2p.Config{})
	if err := counted.Connect(t.Context(), p2p.Peer{ID: other.ID(), Addrs: other.Addrs()}); err != nil {
		t.Fatal(err)
	}
	url := "http://" + page.listener.Addr().String() + "/metrics"
	if code, _ := scrape(t, url, "example.com"); code != http.StatusForbidden {
		t.Errorf("a page of another host got %d, want %d", code, http.StatusForbidden)
	}
	code, body := scrape(t, url, "localhost")
	if code != http.StatusOK {
		t.Fatalf("%d: %s", code, body)
	}
	if !strings.Contains(body, `talka_p2p_peers{way="lan"} 1`) {
		t.Error("the peer is not counted")
	}
	raw, err := os.ReadFile("../../configs/grafana/talka.json")
	if err != nil {
		t.Fatal(err)
	}
	var board struct {
		Panels []struct{ Targets []struct{ Expr string } }
	}
	if err := json.Unmarshal(raw, &board); err != nil {
		t.Fatal(err)
	}
	shown := 0
	for _, p := range board.Panels {
		for _, target := range p.Targets {
			for _, name := range regexp.MustCompile(`\b(talka|libp2p|process|go)_\w+`).FindAllString(target.Expr, -1) {
				shown++
				// Counters with labels are there once something has been counted.
				if !strings.Contains(body, "\n"+name) && name != "talka_p2p_gossip_total" {
					t.Errorf("the dashboard shows %s, which nobody counts", name)
				}
			}
		}
	}
	if shown < 12 {
		t.Errorf("the dashboard shows %d figures only", shown)
	}
}
