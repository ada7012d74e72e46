package p2p

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p"
	pubsub "github.com/libp2p/go-libp2p-pubsub"
	pb "github.com/libp2p/go-libp2p-pubsub/pb"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"
	"github.com/libp2p/go-libp2p/core/transport"
	"github.com/libp2p/go-libp2p/p2p/net/swarm"
	"github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/relay"
	ma "github.com/multiformats/go-multiaddr"

	"github.com/talka-grid/talka/workunits"
)

// TestBounds has a test for each line of the table of limits, but for most of those
// in time, and no other.
func TestBounds(t *testing.T) {
	t.Parallel()
	tests := boundTests()
	for _, b := range Bounds(Limits{}) {
		f := tests[b.Name]
		if f == nil && b.Time > 0 {
			continue // in p2ptest
		}
		if f == nil {
			t.Errorf("%s: no test", b.Name)
			continue
		}
		delete(tests, b.Name)
		t.Run(b.Name, func(t *testing.T) {
			t.Parallel()
			f(t, b.Most)
		})
	}
	for name := range tests {
		t.Errorf("%s: no such limit", name)
	}
}

func boundTests() map[string]func(t *testing.T, most int) {
	return map[string]func(t *testing.T, most int){
		"connections":                                func(t *testing.T, _ int) { connections(t) },
		"connections of one address":                 func(t *testing.T, most int) { opensConns(t, most, false) },
		"connections of one peer":                    connsOfAPeer,
		"connections that are half open":             func(t *testing.T, _ int) { halfOpen(t) },
		"new connections of one address in a minute": func(t *testing.T, most int) { opensConns(t, most, true) },
		"bytes that one peer reserves":               func(t *testing.T, _ int) { memoryOfAPeer(t) },

		"streams of one peer":                    streamsOf(""),
		"frame streams of one peer":              streamsOf("grid"),
		"catalogue streams of one peer":          streamsOf("catalogue"),
		"peers streams of one peer":              streamsOf("peers"),
		"member streams of one peer":             streamsOf("member"),
		"streams of one peer to another package": streamsOf("anything"),

		"bytes of a frame":                   oversize("grid"),
		"bytes of a catalogue message":       oversize("catalogue"),
		"bytes of news of a membership":      oversize("member"),
		"bytes of a gossip message":          gossipSize,
		"bytes of an answer with peers":      answerSize,
		"bytes of a hello":                   helloSize,
		"bytes of an announcement":           announcementSize,
		"topics that a gossip message names": topics,
		"names in a catalogue message": func(t *testing.T, most int) {
			refuses(t, catalogueHave{make([]short, most)}, catalogueHave{make([]short, most+1)})
		},
		"announcements in a catalogue message":      func(t *testing.T, most int) { refuses(t, catalogueRest{many(most)}, catalogueRest{many(most + 1)}) },
		"peers in an answer":                        func(t *testing.T, most int) { refuses(t, introductions{many(most)}, introductions{many(most + 1)}) },
		"bytes of a peer's record in an answer":     func(t *testing.T, most int) { refuses(t, oneOf(most), oneOf(most+1)) },
		"addresses of a peer":                       addresses,
		"bytes of an invite":                        inviteSize,
		"pointers for others in the DHT":            keepsPointers,
		"records for others in the DHT":             func(t *testing.T, most int) { keepsRecords(t, most, maxPerPeer, 40) },
		"records of one provider in the DHT":        func(t *testing.T, most int) { keepsRecords(t, most, most+10, 1) },
		"keys that this node provides":              providedKeys,
		"peers of one place in a bucket of the DHT": func(t *testing.T, most int) { bucket(t, most) },

		"peers heard of in one way":              heardOf,
		"peers that could not be reached":        failures,
		"peers that are remembered between runs": remembered,
		"peers that are shunned":                 shunned,
		"nodes on a list":                        listed,
		"frames that wait for one peer":          waiting,
		"protected peers":                        func(t *testing.T, most int) { protects(t, most, ties(60, true, anywhere)) },
		"protected peers of one place":           func(t *testing.T, most int) { protects(t, most, ties(60, true, campus)) },
		"protected peers that dialled this node": func(t *testing.T, most int) { protects(t, most, ties(60, false, anywhere)) },
		"dials at a time":                        dials,
		"connections that have not said hello":   greeted,
		"memberships by one invite":              perInvite,
		"a visit of whom a member speaks for":    func(t *testing.T, _ int) { visit(t) },
		"relayed nodes": func(t *testing.T, most int) {
			relayed(t, most, func(r *relay.Resources) { r.MaxReservationsPerIP = 1000 })
		},
		"relayed nodes of one address":    func(t *testing.T, most int) { relayed(t, most, func(*relay.Resources) {}) },
		"bytes over a relay, each way":    overRelay,
		"a relayed connection":            func(t *testing.T, _ int) { relayTime(t) },
		"until a node's next certificate": func(t *testing.T, _ int) { certificates(t) },
	}
}

func oneOf(n int) introductions { return introductions{[][]byte{make([]byte, n)}} }

func addresses(t *testing.T, most int) {
	for n, want := range map[int]bool{most: true, most + 1: false} {
		if _, err := samplePeer("x", slices.Repeat([]string{"/ip4/9.9.9.9/tcp/1"}, n)...).info(); (err == nil) != want {
			t.Errorf("%d addresses: %v", n, err)
		}
	}
}

func many(n int) (all [][]byte) {
	for range n {
		all = append(all, []byte("x"))
	}
	return all
}

func refuses(t *testing.T, good, bad interface{ check() error }) {
	t.Helper()
	if err := good.check(); err != nil {
		t.Errorf("as many as may be: %v", err)
	}
	if bad.check() == nil {
		t.Error("one more is taken")
	}
}

// another is a libp2p host of no network, for a crowd of them. It listens nowhere.
func another(t *testing.T, option ...libp2p.Option) host.Host {
	t.Helper()
	e, err := libp2p.New(append(option, libp2p.NoListenAddrs, libp2p.DisableMetrics(), libp2p.ResourceManager(&network.NullResourceManager{}))...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = e.Close() })
	return e
}

func dialRaw(t *testing.T, e host.Host, h *Host) (transport.CapableConn, error) {
	t.Helper()
	to, err := peer.AddrInfoFromString(h.Addrs()[0])
	if err != nil {
		t.Fatal(err)
	}
	return e.Network().(*swarm.Swarm).TransportForDialing(to.Addrs[0]).Dial(within(t), to.Addrs[0], to.ID)
}

// A crowd takes no more than all connections; one of those whom the node dials is
// reached all the same.
func connections(t *testing.T) {
	h := start(t, "h", Config{Limits: Limits{Connections: 16}, Guests: true}, nil)
	var group sync.WaitGroup
	for range 30 {
		e := another(t)
		group.Go(func() { _, _ = dialRaw(t, e, h) }) // some are refused
	}
	group.Wait()
	if n := len(h.base.Network().Conns()); n > 16 {
		t.Errorf("%d connections", n)
	}
	member := start(t, "member", Config{}, nil)
	if err := h.Connect(within(t), member.peer()); err != nil {
		t.Errorf("nobody can be dialled: %v", err)
	}
}

func opensConns(t *testing.T, most int, again bool) {
	h := newHost(t, "h", Config{}, nil)
	rm, from := h.base.Network().ResourceManager(), ma.StringCast("/ip4/8.8.8.8/udp/1/quic-v1")
	opened := 0
	for range most + 5 {
		c, err := rm.OpenConnection(network.DirInbound, false, from)
		if err != nil {
			continue
		}
		opened++
		if again {
			c.Done()
		}
	}
	if opened != most {
		t.Errorf("%d were opened, want %d", opened, most)
	}
	if c, err := rm.OpenConnection(network.DirInbound, false, ma.StringCast("/ip4/9.9.9.9/udp/1/quic-v1")); err != nil {
		t.Errorf("nor can others: %v", err)
	} else {
		c.Done()
	}
}

func connsOfAPeer(t *testing.T, most int) {
	h := start(t, "h", Config{Guests: true}, nil)
	e := another(t)
	for range most + 8 {
		if _, err := dialRaw(t, e, h); err != nil {
			break
		}
	}
	if n := len(h.base.Network().ConnsToPeer(e.ID())); n > most || n == 0 {
		t.Errorf("%d connections of one peer", n)
	}
}

// Who opens connections and says nothing on them takes no more of them than all may
// have; when it goes, others come in.
func halfOpen(t *testing.T) {
	h := start(t, "h", Config{Limits: Limits{Connections: 16}, Listen: []string{onTCP}}, nil)
	addr := strings.Split(h.Addrs()[0], "/")
	var open []net.Conn
	for range 60 {
		c, err := (&net.Dialer{}).DialContext(within(t), "tcp", net.JoinHostPort(addr[2], addr[4]))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = c.Close() })
		open = append(open, c)
	}
	held := 0
	for _, c := range open[16:] {
		_ = c.SetReadDeadline(time.Now().Add(100 * time.Millisecond))
		if _, err := io.ReadAll(c); isTimeout(err) {
			held++ // not closed
		}
	}
	if held > 16 {
		t.Errorf("%d silent connections are held", held)
	}
	for _, c := range open {
		_ = c.Close()
	}
	honest := start(t, "honest", Config{}, nil)
	eventually(t, func(ctx context.Context) error {
		honest.base.Network().(*swarm.Swarm).Backoff().Clear(h.base.ID())
		return honest.Connect(ctx, h.peer())
	})
}

func memoryOfAPeer(t *testing.T) {
	h := start(t, "h", Config{Limits: Limits{Memory: 64 << 20}, Listen: []string{onTCP}}, func(h *Host) {
		h.HandleFrames(func(context.Context, workunits.NodeID, []byte) {})
	})
	e := enemy(t, h)
	scope := func() (used int64) {
		_ = h.base.Network().ResourceManager().ViewPeer(e.ID(), func(s network.PeerScope) error {
			used = s.Stat().Memory
			return nil
		})
		return used
	}
	if err := h.base.Network().ResourceManager().ViewPeer(e.ID(), func(s network.PeerScope) error {
		if err := s.ReserveMemory(32<<20-int(scope())-(1<<20), network.ReservationPriorityAlways); err != nil {
			return err
		}
		return s.ReserveMemory(MaxFrame, network.ReservationPriorityHigh)
	}); err == nil {
		t.Errorf("a peer reserves %d bytes, more than half of all", scope())
	}
}

// streamsOf opens streams of a protocol, or of several if none is named, in the name
// of one peer.
func streamsOf(name string) func(t *testing.T, most int) {
	return func(t *testing.T, most int) {
		h := newHost(t, "h", Config{}, nil)
		rm, p := h.base.Network().ResourceManager(), idOf(t, "somebody")
		opened := 0
		for i := range most + 20 {
			s, err := rm.OpenStream(p, network.DirInbound)
			if err != nil {
				continue
			}
			proto := h.protocol(name)
			if name == "" {
				proto = protocol.ID(fmt.Sprint("p", i%16))
			}
			if err := s.SetProtocol(proto); err != nil {
				s.Done()
				continue
			}
			opened++
		}
		if opened != most {
			t.Errorf("%d streams were opened, want %d", opened, most)
		}
	}
}

// oversize claims more than a message of the protocol may have.
func oversize(name string) func(t *testing.T, most int) {
	return func(t *testing.T, most int) {
		h := newHost(t, "h", Config{Listen: []string{onQUIC}}, func(h *Host) {
			h.SetCatalogue(newCatalogue())
			h.HandleFrames(func(context.Context, workunits.NodeID, []byte) { t.Error("a frame was delivered") })
		})
		// A member's stream is the same outside of its network.
		h.base.SetStreamHandler(h.protocol("member"), h.streamHandler(h.hear))
		run(t, h)
		s := opened(t, enemy(t, h), h, h.protocol(name))
		if _, err := s.Write(append(lengthOf(uint32(most+1)), garbage(1000)...)); err != nil {
			t.Fatal(err)
		}
		reset(t, s)
	}
}

// reset wants the other end to have reset the stream.
func reset(t *testing.T, s network.Stream) {
	t.Helper()
	_ = s.SetReadDeadline(time.Now().Add(patience))
	if _, err := io.Copy(io.Discard, s); err == nil || isTimeout(err) {
		t.Errorf("%v, want a reset", err)
	}
}

func gossipSize(t *testing.T, most int) {
	h := start(t, "h", Config{}, nil)
	protocols, _ := h.gossipProtocols()
	s := opened(t, enemy(t, h), h, protocols[0])
	if _, err := s.Write(append(binary.AppendUvarint(nil, uint64(most+1)), garbage(1000)...)); err != nil {
		t.Fatal(err)
	}
	reset(t, s)
}

func answerSize(t *testing.T, most int) {
	h := start(t, "h", Config{}, nil)
	e := enemy(t, h)
	e.SetStreamHandler(h.protocol("peers"), func(s network.Stream) { _, _ = s.Write(lengthOf(uint32(most + 1))) })
	if err := h.ask(within(t), e.ID()); err == nil {
		t.Error("it is read")
	}
}

func helloSize(t *testing.T, most int) {
	h := founder(t, onQUIC)
	c, err := dialRaw(t, another(t), h)
	if err != nil {
		t.Fatal(err)
	}
	s, err := c.OpenStream(within(t))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Write(lengthOf(uint32(most + 1))); err != nil {
		t.Fatal(err)
	}
	_ = s.SetReadDeadline(time.Now().Add(patience))
	if _, err := s.Read(make([]byte, 1)); err == nil || isTimeout(err) {
		t.Errorf("%v, want the connection to be closed", err)
	}
}

func announcementSize(t *testing.T, most int) {
	h := newHost(t, "h", Config{}, func(h *Host) {
		h.Announcements(func(workunits.NodeID, []byte) Verdict { return Accept }, func([]byte) {})
	})
	run(t, h)
	<-h.started
	for n, want := range map[int]pubsub.ValidationResult{most: pubsub.ValidationAccept, most + 1: pubsub.ValidationReject, 0: pubsub.ValidationReject} {
		if got := h.judge(within(t), idOf(t, "somebody"), &pubsub.Message{Message: &pb.Message{Data: make([]byte, n)}}); got != want {
			t.Errorf("%d bytes: %v, want %v", n, got, want)
		}
	}
	if err := h.Announce(within(t), make([]byte, most+1)); !errors.Is(err, ErrTooLarge) {
		t.Errorf("its own: %v", err)
	}
}

func topics(t *testing.T, most int) {
	f, yes := subscriptions("ours"), true
	var subs []*pb.RPC_SubOpts
	for i := range most + 1 {
		topic := fmt.Sprint("topic ", i)
		if i == 0 {
			topic = "ours"
		}
		subs = append(subs, &pb.RPC_SubOpts{Subscribe: &yes, Topicid: &topic})
	}
	if got, err := f.FilterIncomingSubscriptions("x", subs[:most]); err != nil || len(got) != 1 {
		t.Errorf("%d subscriptions, %v: want our topic alone", len(got), err)
	}
	if got, err := f.FilterIncomingSubscriptions("x", subs); err == nil {
		t.Errorf("%d subscriptions of a message with too many", len(got))
	}
}

func inviteSize(t *testing.T, most int) {
	if _, err := ParseInvite(invitePrefix + inviteText().EncodeToString(make([]byte, most+1))); !errors.Is(err, ErrInvite) || !strings.Contains(err.Error(), "too many") {
		t.Errorf("%v", err)
	}
}

// keepsRecords puts records of providers, so many of each, and wants most to be there.
func keepsRecords(t *testing.T, most, each, providers int) {
	r := newRecords()
	for p := range providers {
		for i := range each {
			if err := r.Put(within(t), recordKey(p, i), []byte("x")); err != nil {
				t.Fatal(err)
			}
		}
	}
	if r.total != most {
		t.Errorf("%d records are kept, want %d", r.total, most)
	}
}

func providedKeys(t *testing.T, most int) {
	p := newProvided()
	for i := range most + 1 {
		if ok := p.add(workunits.RawCid(workunits.Sum(fmt.Append(nil, i))), time.Now()); ok != (i < most) {
			t.Fatalf("key %d: taken %t", i, ok)
		}
	}
}

func bucket(t *testing.T, most int) {
	in := map[peer.ID][]ma.Multiaddr{}
	for i := 0; i < 400; i++ {
		id := peer.ID(fmt.Sprint(i))
		if addrs := []ma.Multiaddr{ma.StringCast(fmt.Sprintf("/ip4/8.8.%d.1/tcp/1", i%256))}; commonBits("self", id) == 3 && room("self", id, addrs, in) {
			in[id] = addrs
		}
	}
	if len(in) != most {
		t.Errorf("%d peers of one place are in a bucket, want %d", len(in), most)
	}
}

func heardOf(t *testing.T, most int) {
	var h heard
	for i := range 3 * most {
		h.add(peer.AddrInfo{ID: peer.ID(fmt.Sprint(i))})
	}
	if n := len(h.peers()); n != most {
		t.Errorf("%d are remembered, want %d", n, most)
	}
}

func failures(t *testing.T, most int) {
	h := newHost(t, "h", Config{}, nil)
	for i := range 2*most + 1 {
		h.fail(peer.ID(fmt.Sprint(i)))
	}
	if n := len(h.manager.failed); n > most || n == 0 {
		t.Errorf("%d are remembered, at most %d may be", n, most)
	}
}

func remembered(t *testing.T, most int) {
	c := &peerCache{network: "test"}
	for i := range 2 * most {
		c.saw(time.Unix(int64(i), 0), []Peer{samplePeer(fmt.Sprint(i), "/ip4/9.9.9.9/tcp/1")})
	}
	if n := len(c.peers()); n != most || c.peers()[0].ID != samplePeer(fmt.Sprint(2*most-1)).ID {
		t.Errorf("%d are remembered, want the latest %d", n, most)
	}
}

func shunned(t *testing.T, most int) {
	var g gate
	now := time.Now()
	for i := range 2 * most {
		g.shun(peer.ID(fmt.Sprint(i)), now)
	}
	if n := len(g.shuns); n != most {
		t.Errorf("%d are shunned, want %d", n, most)
	}
	if g.shun("late", now); g.lets("late") || !g.lets("somebody") {
		t.Error("the latest is let in, or another is not")
	}
	if g.shun("later still", now.Add(shunTime)); len(g.shuns) != 1 {
		t.Errorf("%d are shunned after the time, want one", len(g.shuns))
	}
}

func listed(t *testing.T, most int) {
	ids := make([]workunits.NodeID, most+1)
	for i := range ids {
		binary.BigEndian.PutUint64(ids[i][:], uint64(i+1))
	}
	if new(gate).set(nil, ids) == nil || new(gate).set(ids, nil) == nil {
		t.Error("the list of the config may be longer")
	}
	h := newHost(t, "h", Config{Block: ids[:most]}, nil)
	if err := h.Block(workunits.NodeIDOf(keyOf("x")), true); !errors.Is(err, ErrTooLarge) {
		t.Errorf("one more is blocked: %v", err)
	}
}

func waiting(t *testing.T, most int) {
	l := newLinks()
	for i := range most + 1 {
		if _, err := l.acquire("p"); (err == nil) != (i < most) {
			t.Fatalf("%d wait: %v", i, err)
		}
	}
}

func protects(t *testing.T, most int, have []tie) {
	if n := len(protectable(have, nil)); n != most {
		t.Errorf("%d are protected, want %d", n, most)
	}
}
