package main

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/ipfs/go-cid"

	"github.com/talka-grid/talka/configs"
	"github.com/talka-grid/talka/grid"
	"github.com/talka-grid/talka/p2p"
	"github.com/talka-grid/talka/workunits"
)

const benchSize = 256 << 20

// benchFile writes a file of 256 MiB of noise.
func benchFile(b *testing.B) string {
	b.Helper()
	path := filepath.Join(b.TempDir(), "file")
	f, err := os.Create(path)
	if err != nil {
		b.Fatal(err)
	}
	_, err = io.CopyN(f, rand.NewChaCha8([32]byte{1}), benchSize)
	if err := errors.Join(err, f.Close()); err != nil {
		b.Fatal(err)
	}
	return path
}

// rate reports what a step of 256 MiB came to, in MB/s.
func rate(b *testing.B, unit string, f func() error) float64 {
	b.Helper()
	begun := time.Now()
	if err := f(); err != nil {
		b.Fatalf("%s: %v", unit, err)
	}
	came := benchSize / 1e6 / time.Since(begun).Seconds()
	b.ReportMetric(came, unit)
	return came
}

// beside reports what copying the file, and sending it over plain TCP to a file,
// come to.
func beside(b *testing.B, path string) {
	b.Helper()
	dir := b.TempDir()
	rate(b, "cp-MB/s", func() error { return copyReader(filepath.Join(dir, "copy"), path) })
	rate(b, "tcp-MB/s", func() error { return sendTCP(b.Context(), path, filepath.Join(dir, "sent")) })
}

func copyReader(to, from string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	return writeAll(to, in)
}

// writeAll copies through memory, as whoever checks content has to.
func writeAll(to string, r io.Reader) error {
	out, err := os.Create(to)
	if err != nil {
		return err
	}
	_, err = io.CopyBuffer(struct{ io.Writer }{out}, struct{ io.Reader }{r}, make([]byte, 1<<20))
	return errors.Join(err, out.Close())
}

func sendTCP(ctx context.Context, from, to string) error {
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	defer l.Close()
	sent := make(chan error, 1)
	go func() {
		conn, err := l.Accept()
		if err != nil {
			sent <- err
			return
		}
		in, err := os.Open(from)
		if err == nil {
			_, err = io.CopyBuffer(struct{ io.Writer }{conn}, struct{ io.Reader }{in}, make([]byte, 1<<20))
			err = errors.Join(err, in.Close())
		}
		sent <- errors.Join(err, conn.Close())
	}()
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", l.Addr().String())
	if err != nil {
		return err
	}
	defer conn.Close()
	return errors.Join(writeAll(to, conn), <-sent)
}

// BenchmarkData256MiB adds a file on a node and gets it on another, a process
// each, as `talka data` does: what is got is fetched, verified, stored and then
// written out.
func BenchmarkData256MiB(b *testing.B) {
	path := benchFile(b)
	g := newBenchGrid(b, 1, 0)
	ctx := b.Context()
	progress := func(_, _ int64) {}
	for b.Loop() {
		var root string
		rate(b, "add-MB/s", func() error {
			added, err := g.nodes[0].client.AddData(ctx, path, progress)
			root = added.Cid
			return err
		})
		rate(b, "get-MB/s", func() error {
			c, err := cid.Decode(root)
			if err != nil {
				return err
			}
			return g.nodes[1].client.GetData(ctx, c, filepath.Join(b.TempDir(), "got"), time.Minute, progress)
		})
		for i, name := range []string{"publisher", "volunteer"} {
			b.ReportMetric(peak(b, strconv.Itoa(g.nodes[i].cmd.Process.Pid)), name+"-peak-MiB")
		}
		beside(b, path)
	}
}

// benchNode is the network and the store of a node, without its driver.
type benchNode struct {
	host *p2p.Host
	data data
}

// openBenchNode opens a node in a directory. Its network ends with close.
func openBenchNode(ctx context.Context, dir, listen string) (n benchNode, closeNode func() error, err error) {
	_, key, err := ed25519.GenerateKey(nil)
	if err != nil {
		return n, nil, err
	}
	cfg := configs.Default()
	cfg.Network, cfg.Listen, cfg.Disk, cfg.Upload, cfg.Download = "bench", []string{listen}, 4<<30, 0, 0
	log := slog.New(slog.DiscardHandler)
	host, err := openHost(dir, key, cfg, "", nil, log)
	if err != nil {
		return n, nil, err
	}
	d, closeData, err := openData(ctx, dir, cfg, host, log)
	if err != nil {
		return n, nil, err
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	ended := make(chan error, 1)
	go func() { ended <- host.Run(ctx) }()
	return benchNode{host, d.(data)}, func() error {
		cancel()
		return errors.Join(closeData(), <-ended)
	}, nil
}

func newBenchNode(b *testing.B, listen string) benchNode {
	b.Helper()
	n, closeNode, err := openBenchNode(b.Context(), b.TempDir(), listen)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		if err := closeNode(); err != nil {
			b.Error(err)
		}
	})
	return n
}

// connect has a node know a source.
func (n benchNode) connect(b *testing.B, s benchSource) {
	b.Helper()
	if err := n.host.Connect(b.Context(), s.Peer); err != nil {
		b.Fatal(err)
	}
}

// BenchmarkFetch256MiB fetches a file from the store of a node in another process over
// each transport by the exchange, and by bitswap, next to each other and 100 ms apart;
// each beside a bare stream between the same nodes. The processor seconds are those of
// both nodes, and of the line between them if there is one. Of resident memory the peak
// is told of who fetches, and of the source where no line counts among it.
func BenchmarkFetch256MiB(b *testing.B) {
	const tcp, quic, far = "/ip4/127.0.0.1/tcp/0", "/ip4/127.0.0.1/udp/0/quic-v1", 50 * time.Millisecond
	path := benchFile(b)
	for _, c := range []struct {
		name, listen string
		delay        time.Duration
		bitswap      bool
	}{
		{"tcp", tcp, 0, false}, {"quic", quic, 0, false}, {"bitswap", tcp, 0, true},
		{"tcp-100ms", tcp, far, false}, {"bitswap-100ms", tcp, far, true},
	} {
		b.Run(c.name, func(b *testing.B) {
			for b.Loop() {
				from, stop := startSource(b, sourceOrder{Listen: c.listen, Path: path, Delay: c.delay})
				to := newBenchNode(b, c.listen)
				to.connect(b, from)
				hints := []workunits.NodeID{from.Peer.ID}
				if c.bitswap {
					hints = nil
				}
				resetPeak(b)
				busy := func() float64 { return (processTime("self") + processTime(from.pid)).Seconds() }
				before := busy()
				fetched := rate(b, "fetch-MB/s", func() error { return to.data.Fetch(b.Context(), from.Root, hints, nil) })
				b.ReportMetric(busy()-before, "cpu-s")
				b.ReportMetric(peak(b, "self"), "peak-MiB")
				if c.delay == 0 {
					b.ReportMetric(peak(b, from.pid), "source-peak-MiB")
				}
				if got, want := to.data.Stat().Bytes, from.Bytes; got != want {
					b.Fatal(fmt.Errorf("%d bytes came of %d: %w", got, want, grid.ErrNotFound))
				}
				before = busy()
				bare := rate(b, "stream-MB/s", func() error { return bareStream(b.Context(), to, from.Peer.ID) })
				b.ReportMetric(busy()-before, "stream-cpu-s")
				b.ReportMetric(fetched/bare, "of-stream")
				stop()
			}
			if c.name == "tcp" {
				beside(b, path)
			}
		})
	}
}

// bareStream sends as many bytes over one stream, which nobody checks or keeps.
func bareStream(ctx context.Context, to benchNode, from workunits.NodeID) error {
	s, err := to.host.Open(ctx, from, "bench")
	if err != nil {
		return err
	}
	defer s.Close()
	return drain(s, benchSize)
}

// BenchmarkFourSources fetches 64 MiB from four sources of 5 MB/s, 100 ms away.
func BenchmarkFourSources(b *testing.B) {
	path := filepath.Join(b.TempDir(), "part")
	whole, err := os.Open(benchFile(b))
	if err != nil {
		b.Fatal(err)
	}
	defer whole.Close()
	const size = 64 << 20
	if err := writeAll(path, io.LimitReader(whole, size)); err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		const listen = "/ip4/127.0.0.1/tcp/0"
		to := newBenchNode(b, listen)
		var root cid.Cid
		var hints []workunits.NodeID
		for range 4 {
			from, _ := startSource(b, sourceOrder{Listen: listen, Path: path, Delay: 50 * time.Millisecond, Rate: 5e6})
			to.connect(b, from)
			root, hints = from.Root, append(hints, from.Peer.ID)
		}
		begun := time.Now()
		if err := to.data.Fetch(b.Context(), root, hints, nil); err != nil {
			b.Fatal(err)
		}
		b.ReportMetric(size/1e6/time.Since(begun).Seconds(), "fetch-MB/s")
		fetched, twice := to.data.exchange.Traffic()
		b.ReportMetric(100*float64(twice)/float64(fetched), "%twice")
	}
}

// resetPeak has the kernel measure the peak of resident memory anew.
func resetPeak(b *testing.B) {
	b.Helper()
	runtime.GC()
	debug.FreeOSMemory()
	if err := os.WriteFile("/proc/self/clear_refs", []byte("5"), 0o200); err != nil {
		b.Fatal(err)
	}
}

// peak is the peak of a process's resident memory in MiB.
func peak(b *testing.B, pid string) float64 {
	b.Helper()
	status, err := os.ReadFile("/proc/" + pid + "/status")
	if err != nil {
		b.Fatal(err)
	}
	_, rss, _ := strings.Cut(string(status), "VmHWM:")
	kib, err := strconv.Atoi(strings.Fields(rss)[0])
	if err != nil {
		b.Fatal(err)
	}
	return float64(kib) / 1024
}
