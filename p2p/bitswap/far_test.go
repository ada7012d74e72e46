package bitswap

import (
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/p2p/muxer/yamux"

	"github.com/talka-grid/talka/chunkstore"
	"github.com/talka-grid/talka/chunkstore/exchange"
	"github.com/talka-grid/talka/workunits"
)

// muxed opens streams on one connection, as those of a TCP host are.
type muxed struct{ conn network.MuxedConn }

func (m muxed) Open(ctx context.Context, _ workunits.NodeID, _ string) (exchange.Stream, error) {
	return m.conn.OpenStream(ctx)
}

// wire is a connection with a delay and a rate each way, in virtual time.
func wire(group *sync.WaitGroup, delay time.Duration, rate float64) (near, far net.Conn) {
	near, a := net.Pipe()
	b, far := net.Pipe()
	for _, way := range [][2]net.Conn{{a, b}, {b, a}} {
		type parcel struct {
			data []byte
			due  time.Time
		}
		line := make(chan parcel, 1<<12)
		group.Go(func() {
			defer close(line)
			for free := time.Now(); ; {
				buf := make([]byte, 64<<10)
				n, err := way[0].Read(buf)
				if now := time.Now(); free.Before(now) {
					free = now
				}
				free = free.Add(time.Duration(float64(n) / rate * float64(time.Second)))
				time.Sleep(time.Until(free))
				line <- parcel{buf[:n], free.Add(delay)}
				if err != nil {
					return
				}
			}
		})
		group.Go(func() {
			defer way[1].Close()
			for p := range line {
				time.Sleep(time.Until(p.due))
				if _, err := way[1].Write(p.data); err != nil {
					_ = way[0].Close()
				}
			}
		})
	}
	return near, far
}

// noise writes a file of noise.
func noise(t *testing.T, size int64) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "file")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	_, err = io.CopyN(f, rand.NewChaCha8([32]byte{1}), size)
	if err := errors.Join(err, f.Close()); err != nil {
		t.Fatal(err)
	}
	return path
}

// apart are a client and a server whose streams share one connection as those of TCP
// hosts do, over a line.
func apart(t *testing.T, group *sync.WaitGroup, delay time.Duration, rate float64) (client, server network.MuxedConn) {
	t.Helper()
	near, far := wire(group, delay, rate)
	client, err := yamux.DefaultTransport.NewConn(near, false, nil)
	if err != nil {
		t.Fatal(err)
	}
	if server, err = yamux.DefaultTransport.NewConn(far, true, nil); err != nil {
		t.Fatal(err)
	}
	return client, server
}

// TestFar has the faster exchange fetch 256 MiB over a line of 400 MB/s with a round
// trip of 100 ms. A stream's window is 256 KiB at first there, and lets 8 MiB through
// in a round trip once it has grown.
func TestFar(t *testing.T) {
	t.Parallel()
	const size = 256 << 20
	path := noise(t, size)
	synctest.Test(t, func(t *testing.T) {
		var group sync.WaitGroup
		defer group.Wait()
		client, server := apart(t, &group, 50*time.Millisecond, 400e6)
		var stores []*chunkstore.Store
		for range 2 {
			s, err := chunkstore.Open(t.TempDir(), chunkstore.Config{})
			if err != nil {
				t.Fatal(err)
			}
			stores = append(stores, s)
		}
		from := exchange.New(exchange.Config{Self: workunits.NodeID{1}, Store: stores[0]})
		group.Go(func() {
			for {
				s, err := server.AcceptStream()
				if err != nil {
					return
				}
				group.Go(func() { from.Serve(workunits.NodeID{2}, s) })
			}
		})
		added, err := stores[0].Add(t.Context(), path, nil)
		if err := errors.Join(err, stores[0].Keep(chunkstore.Lease{Root: added.Cid, Reason: "own"})); err != nil {
			t.Fatal(err)
		}
		to := exchange.New(exchange.Config{Self: workunits.NodeID{2}, Store: stores[1], Streams: muxed{client}})
		begun := time.Now()
		err = to.Fetch(t.Context(), added.Cid, []workunits.NodeID{{1}}, nil)
		rate := size / 1e6 / time.Since(begun).Seconds()
		t.Logf("%.1f MB/s", rate)
		if rate < 140 {
			t.Error("too slow")
		}
		if err := errors.Join(err, client.Close(), server.Close()); err != nil {
			t.Fatal(err)
		}
	})
}
