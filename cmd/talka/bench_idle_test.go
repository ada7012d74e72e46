//go:build linux

package main

import (
	"context"
	"crypto/ed25519"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/talka-grid/talka/p2p"
	"github.com/talka-grid/talka/workunits"
)

const (
	idlePeers  = 12
	idleSettle = 30 * time.Second // until what follows a start is over
	idleWindow = time.Minute
	idleCPU    = 0.3 // per cent of a processor
	idleMB     = 70  // resident
)

// BenchmarkIdle looks at what a node that does nothing takes of its machine while it
// is connected to twelve peers.
func BenchmarkIdle(b *testing.B) {
	for range b.N {
		cpu, mb := idle(b)
		b.ReportMetric(cpu, "cpu-%")
		b.ReportMetric(mb, "rss-MB")
		if cpu > idleCPU || mb > idleMB {
			b.Errorf("%.2f %% of a processor and %.0f MB, want at most %.1f %% and %d MB", cpu, mb, idleCPU, idleMB)
		}
	}
}

func idle(b *testing.B) (cpu, mb float64) {
	g := newBenchGrid(b, 0, 0)
	n := g.start("idle", "up", "--network", "idle", "--preset", "quiet", "--listen", "/ip4/0.0.0.0/udp/0/quic-v1", "--listen", "/ip4/0.0.0.0/tcp/0")
	ctx, cancel := context.WithCancel(b.Context())
	var group sync.WaitGroup
	defer group.Wait()
	defer cancel()
	for i := range idlePeers {
		seed := workunits.Sum(fmt.Append(nil, "idle ", i))
		h, err := p2p.New(p2p.Config{
			Network: "idle", Key: ed25519.NewKeyFromSeed(seed[:]), Listen: []string{"/ip4/127.0.0.1/udp/0/quic-v1"},
			Peers: []p2p.Peer{{ID: n.status.PeerID, Addrs: onThisMachine(n.status.Addrs)}},
		})
		if err != nil {
			b.Fatal(err)
		}
		group.Go(func() { _ = h.Run(ctx) })
	}
	if err := poll(b.Context(), func() (bool, error) {
		st, err := n.client.Status(b.Context())
		return st.Peers >= idlePeers, err
	}); err != nil {
		b.Fatal(err)
	}
	<-time.After(idleSettle)
	pid := strconv.Itoa(n.cmd.Process.Pid)
	before := processTime(pid)
	<-time.After(idleWindow)
	return 100 * (processTime(pid) - before).Seconds() / idleWindow.Seconds(), residentMB(b, pid)
}

// onThisMachine are the addresses on this machine.
func onThisMachine(addrs []string) (all []string) {
	for _, a := range addrs {
		if strings.HasPrefix(a, "/ip4/127.") {
			all = append(all, a)
		}
	}
	return all
}

// residentMB is the memory that a process has.
func residentMB(b *testing.B, pid string) float64 {
	b.Helper()
	status, err := os.ReadFile("/proc/" + pid + "/status")
	if err != nil {
		b.Fatal(err)
	}
	_, rss, _ := strings.Cut(string(status), "VmRSS:")
	kib, err := strconv.Atoi(strings.Fields(rss)[0])
	if err != nil {
		b.Fatal(err)
	}
	return float64(kib) * 1024 / 1e6
}
