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
	"testing"
	"time"

	"github.com/ipfs/go-cid"

	"github.com/talka-grid/talka/chunkstore"
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
func rate(b *testing.B, unit string, f func() error) {
	b.Helper()
	begun := time.Now()
	if err := f(); err != nil {
		b.Fatalf("%s: %v", unit, err)
	}
	b.ReportMetric(benchSize/1e6/time.Since(begun).Seconds(), unit)
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
		beside(b, path)
	}
}

// benchNode is the network and the store of a node, without its driver.
type benchNode struct {
	host *p2p.Host
	data data
}

func newBenchNode(b *testing.B, listen string, seeds ...*p2p.Host) benchNode {
	b.Helper()
	_, key, err := ed25519.GenerateKey(nil)
	if err != nil {
		b.Fatal(err)
	}
	cfg := configs.Default()
	cfg.Network, cfg.Listen, cfg.Disk = "bench", []string{listen}, 4<<30
	for _, s := range seeds {
		invite, err := s.Invite(time.Time{})
		if err != nil {
			b.Fatal(err)
		}
		cfg.Join = append(cfg.Join, invite)
	}
	dir, log := b.TempDir(), slog.New(slog.DiscardHandler)
	host, err := openHost(dir, key, cfg, "", nil, log)
	if err != nil {
		b.Fatal(err)
	}
	d, closeData, err := openData(b.Context(), dir, cfg, host, log)
	if err != nil {
		b.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- host.Run(ctx) }()
	b.Cleanup(func() {
		cancel()
		if err := errors.Join(closeData(), <-ended); err != nil {
			b.Error(err)
		}
	})
	return benchNode{host, d.(data)}
}

// BenchmarkFetch256MiB fetches a file between the stores of two nodes of this
// process, over each transport by the exchange, and by bitswap.
func BenchmarkFetch256MiB(b *testing.B) {
	path := benchFile(b)
	for name, transport := range map[string]string{"tcp": "/ip4/127.0.0.1/tcp/0", "quic": "/ip4/127.0.0.1/udp/0/quic-v1", "bitswap": "/ip4/127.0.0.1/tcp/0"} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				benchFetch(b, path, transport, name == "bitswap")
			}
			beside(b, path)
		})
	}
}

func benchFetch(b *testing.B, path, transport string, bitswap bool) {
	b.Helper()
	from := newBenchNode(b, transport)
	var root cid.Cid
	rate(b, "add-MB/s", func() (err error) {
		root, _, _, err = from.data.Add(b.Context(), path, nil)
		return errors.Join(err, from.data.Keep(chunkstore.Lease{Root: root, Reason: "own data"}), from.data.Sync())
	})
	to := newBenchNode(b, transport, from.host)
	if err := poll(b.Context(), func() (bool, error) { return len(to.host.Peers()) == 1, nil }); err != nil {
		b.Fatal(err)
	}
	hints := []workunits.NodeID{from.host.ID()}
	if bitswap {
		hints = nil
	}
	rate(b, "fetch-MB/s", func() error { return to.data.Fetch(b.Context(), root, hints, nil) })
	if got, want := to.data.Stat().Bytes, from.data.Stat().Bytes; got != want {
		b.Fatal(fmt.Errorf("%d bytes came of %d: %w", got, want, grid.ErrNotFound))
	}
}
