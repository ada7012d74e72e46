//go:build e2e

package main

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/talka-grid/talka/grid"
	"github.com/talka-grid/talka/p2p"
	"github.com/talka-grid/talka/workunits"
)

const (
	hostileTime = 4 * time.Minute
	patience    = 10 * time.Second // with a node that does not close a bad stream
	tooMuch     = 16 << 20         // bytes for a stream; no protocol takes that much in one message
	maxResident = 700 << 20        // bytes of a node that is under attack
)

// hostilePeer is a member of the network, by its key and protocols, that sends
// what it likes.
type hostilePeer struct {
	*p2p.Host
	live [][]byte // its catalogue
}

func (h *hostilePeer) Live() [][]byte     { return h.live }
func (h *hostilePeer) Learn([]byte) error { return nil }

// hostile makes a peer and connects it to the node.
func (g *testGrid) hostile(n *demoNode) *hostilePeer {
	g.Helper()
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		g.Fatal(err)
	}
	host, err := p2p.New(p2p.Config{Network: g.network, Key: key, Listen: []string{"/ip4/127.0.0.1/tcp/0", "/ip4/127.0.0.1/udp/0/quic-v1"}})
	if err != nil {
		g.Fatal(err)
	}
	h := &hostilePeer{Host: host, live: [][]byte{[]byte("garbage"), make([]byte, workunits.MaxAnnouncement)}}
	host.SetCatalogue(h)
	ctx, cancel := context.WithCancel(g.ctx)
	ended := make(chan error, 1)
	go func() { ended <- host.Run(ctx) }()
	g.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			g.Errorf("the hostile peer: %v", err)
		}
	})
	if err := host.Connect(g.ctx, p2p.Peer{ID: n.status.PeerID, Addrs: n.status.Addrs}); err != nil {
		g.Fatal(err)
	}
	return h
}

// protocols are all that the node offers to the peer, libp2p's own included.
func (h *hostilePeer) protocols(t *testing.T) (names []string) {
	t.Helper()
	net := h.Libp2p().Network()
	for _, p := range net.Peers() {
		all, err := h.Libp2p().Peerstore().GetProtocols(p)
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range all {
			names = append(names, string(name))
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// stream is what the attacks need of a stream.
type stream interface {
	io.ReadWriteCloser
	CloseWrite() error
	Reset() error
	SetDeadline(time.Time) error
}

// open opens a stream for a protocol on the node, connecting again if the node
// has had enough of the peer.
func (h *hostilePeer) open(ctx context.Context, n *demoNode, index int) (stream, error) {
	if err := h.Connect(ctx, p2p.Peer{ID: n.status.PeerID, Addrs: n.status.Addrs}); err != nil {
		return nil, err
	}
	for _, p := range h.Libp2p().Network().Peers() {
		all, err := h.Libp2p().Peerstore().GetProtocols(p)
		if err != nil {
			return nil, err
		}
		slices.Sort(all)
		if index < len(all) {
			return h.Libp2p().NewStream(ctx, p, all[index])
		}
	}
	return nil, errors.New("no such protocol")
}

// attacks are what a peer may write to a stream, by name.
func attacks() map[string]func(s stream) error {
	noise := make([]byte, 64<<10)
	_, _ = rand.Read(noise) // never fails
	write := func(b []byte) func(stream) error {
		return func(s stream) error { _, err := s.Write(b); return err }
	}
	return map[string]func(s stream) error{
		"garbage":        write(noise),
		"zeros":          write(make([]byte, 64<<10)),
		"huge length":    write([]byte{0x7f, 0xff, 0xff, 0xff}),
		"huge varint":    write([]byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f}),
		"half a message": write([]byte{0, 1, 0, 0, 0xa2, 0x63}),
		"wrong message":  write([]byte{0, 0, 0, 1, 0xa0}),
		"too much": func(s stream) error {
			chunk := append([]byte{0, 0x3f, 0xff, 0xff}, noise...) // nearly 4 MiB is announced
			for sent := 0; sent < tooMuch; sent += len(chunk) {
				if _, err := s.Write(chunk); err != nil {
					return err
				}
			}
			return nil
		},
	}
}

// A peer of the network sends garbage, too much, and nothing, on every protocol;
// strangers do so on the bare sockets. The node stays up, small, and serves.
func TestHostilePeers(t *testing.T) {
	g := newTestGrid(t, hostileTime)
	n := g.up("n", "--seed")
	project := g.project(n, "atoms")
	h := g.hostile(n)
	names := h.protocols(t)
	t.Logf("protocols: %s", strings.Join(names, " "))
	for _, want := range []string{"grid", "catalogue", "chunks", "kad", "meshsub"} {
		if !slices.ContainsFunc(names, func(s string) bool { return strings.HasPrefix(s, "/talka/"+g.network+"/"+want+"/") }) {
			t.Errorf("the node does not offer %s: this test would miss it", want)
		}
	}

	g.silence(n, g.hostile(n), len(names)) // stays until the end
	g.strangers(n)
	for name, attack := range attacks() {
		g.assault(n, h, names, name, attack)
	}
	g.badWords(n, h)

	if rss := resident(t, n.cmd.Process.Pid); rss > maxResident {
		t.Errorf("the node holds %d MiB", rss>>20)
	}
	g.serves(n, project)
}

// silence opens streams of every protocol and says nothing.
func (g *testGrid) silence(n *demoNode, h *hostilePeer, protocols int) {
	g.Helper()
	for i := range protocols {
		for range 8 {
			ctx, cancel := context.WithTimeout(g.ctx, patience)
			s, err := h.open(ctx, n, i)
			cancel()
			if err != nil {
				g.Logf("silence on protocol %d: %v", i, err)
				break // the node does not take so many: its right
			}
			g.Cleanup(func() { _ = s.Reset() })
		}
	}
}

// assault makes one attack on every protocol, twice at a time. Each must get
// through to the protocol, or it would show nothing.
func (g *testGrid) assault(n *demoNode, h *hostilePeer, names []string, name string, attack func(stream) error) {
	g.Helper()
	var group sync.WaitGroup
	reached := make([]atomic.Bool, len(names))
	for i := range names {
		for range 2 {
			group.Go(func() {
				ctx, cancel := context.WithTimeout(g.ctx, patience)
				defer cancel()
				s, err := h.open(ctx, n, i)
				if err != nil {
					g.Logf("%s on %s: %v", name, names[i], err)
					return
				}
				reached[i].Store(true)
				defer func() { _ = s.Reset() }()
				_ = s.SetDeadline(time.Now().Add(patience / 4))
				if attack(s) == nil && s.CloseWrite() == nil {
					_, _ = io.Copy(io.Discard, io.LimitReader(s, tooMuch)) // whatever it answers
				}
			})
		}
	}
	group.Wait()
	for i := range reached {
		if !reached[i].Load() {
			g.Errorf("%s never reached %s", name, names[i])
		}
	}
	if _, err := n.client.Status(g.ctx); err != nil {
		g.Fatalf("after %s: %v", name, err)
	}
}

// badWords sends well-formed frames and announcements that say nonsense.
func (g *testGrid) badWords(n *demoNode, h *hostilePeer) {
	g.Helper()
	for _, frame := range [][]byte{{0}, {0xa0}, []byte("garbage"), make([]byte, 1<<20), workunits.Encode(map[string]any{"v": 1})} {
		if err := h.Send(g.ctx, n.status.PeerID, frame); err != nil {
			g.Logf("send: %v", err)
		}
		if err := h.Announce(g.ctx, frame[:min(len(frame), workunits.MaxAnnouncement)]); err != nil {
			g.Logf("announce: %v", err)
		}
	}
}

// strangers speak to the node's sockets without any libp2p: nothing, garbage, or
// too much.
func (g *testGrid) strangers(n *demoNode) {
	g.Helper()
	noise := make([]byte, 1<<20)
	_, _ = rand.Read(noise) // never fails
	sockets := 0
	for _, a := range n.status.Addrs {
		parts := strings.Split(a, "/") // /ip4/127.0.0.1/tcp/PORT/...
		if len(parts) < 5 {
			g.Fatalf("address %q", a)
		}
		sockets++
		for i := range 32 {
			c, err := net.Dial(parts[3], net.JoinHostPort(parts[2], parts[4]))
			if err != nil {
				continue // full: its right
			}
			g.Cleanup(func() { _ = c.Close() })
			_ = c.SetDeadline(time.Now().Add(patience / 4))
			switch {
			case i%3 == 1:
				_, _ = c.Write(noise[:1200]) // a QUIC datagram's size
			case i%3 == 2 && parts[3] == "tcp":
				_, _ = c.Write(noise)
			}
		}
	}
	if sockets < 2 {
		g.Errorf("the node listens on %v, want TCP and UDP", n.status.Addrs)
	}
}

// resident is how many bytes of memory a process holds.
func resident(t *testing.T, pid int) int {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "statm"))
	if err != nil {
		t.Logf("memory is not looked at: %v", err)
		return 0
	}
	var size, pages int
	if _, err := fmt.Sscan(string(b), &size, &pages); err != nil {
		t.Fatal(err)
	}
	return pages * os.Getpagesize()
}

// serves shows that the node takes a newcomer, gives it content and units, and
// has the results.
func (g *testGrid) serves(n *demoNode, project string) {
	g.Helper()
	v := g.up("v", "--join", g.invite(n), "--trust", project, "--steward=false")
	g.meet(n, v)
	content := g.random("content", 3<<20)
	var added struct{ Cid string }
	g.ok(n, &added, "data", "add", content)
	dest := filepath.Join(g.dir, "dest")
	g.ok(v, &struct{}{}, "data", "get", added.Cid, "-o", dest)
	sameFile(g.T, content, dest)
	g.ok(n, &struct{}{}, "pause") // so that the newcomer does the work
	var info grid.JobInfo
	g.ok(n, &info, "job", "submit", "--wait", g.ljJob(3, 13, "none"))
	if info.State != grid.JobDone || info.Units.Accepted != 3 || len(info.Faults) > 0 {
		g.Errorf("the job came to %+v", info)
	}
}
