package p2p

import (
	"fmt"
	"io"
	"net"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/transport"
	"github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/client"
	"github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/relay"
	ma "github.com/multiformats/go-multiaddr"

	"github.com/talka-grid/talka/p2p/membership"
	"github.com/talka-grid/talka/workunits"
)

// dials counts attempts at nobody: each takes until the test lets it go. The host does
// not run, since its manager alone may dial.
func dials(t *testing.T, most int) {
	h := newHost(t, "h", Config{}, nil)
	var mu sync.Mutex
	now, peak, asked := 0, 0, make(chan struct{}, 64)
	let := make(chan struct{})
	var silent []peer.AddrInfo
	for i := range 12 { // listeners that accept and say nothing
		l, err := (&net.ListenConfig{}).Listen(within(t), "tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = l.Close() })
		go func() {
			c, err := l.Accept()
			if err != nil {
				return
			}
			mu.Lock()
			now++
			peak = max(peak, now)
			mu.Unlock()
			asked <- struct{}{}
			<-let
			mu.Lock()
			now--
			mu.Unlock()
			_ = c.Close()
		}()
		at := netip.MustParseAddrPort(l.Addr().String())
		silent = append(silent, peer.AddrInfo{ID: idOf(t, fmt.Sprint("silent", i)), Addrs: []ma.Multiaddr{ma.StringCast(fmt.Sprintf("/ip4/127.0.0.1/tcp/%d", at.Port()))}})
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		h.dialSome(silent, len(silent))
	}()
	receive(t, asked, most)
	close(let)
	receive(t, asked, len(silent)-most)
	<-done
	if peak > most {
		t.Errorf("%d dials at a time, want %d", peak, most)
	}
}

// crowd is a listener with as many connections as it is asked for, on which nothing
// is ever said.
type crowd struct {
	transport.Listener
	conns chan transport.CapableConn
}

func (c crowd) Accept() (transport.CapableConn, error) {
	conn, ok := <-c.conns
	if !ok {
		return nil, transport.ErrListenerClosed
	}
	return conn, nil
}

func (c crowd) Close() error {
	close(c.conns)
	return nil
}

type mute struct {
	transport.CapableConn
	closed chan network.ConnErrorCode
	once   *sync.Once
	gone   chan struct{}
}

func (m mute) AcceptStream() (network.MuxedStream, error) {
	<-m.gone
	return nil, io.EOF
}

func (m mute) CloseWithError(code network.ConnErrorCode) error {
	m.once.Do(func() {
		m.closed <- code
		close(m.gone)
	})
	return nil
}

func greeted(t *testing.T, most int) {
	in := crowd{conns: make(chan transport.CapableConn)}
	l := listenPrivate(in, privateQUIC{})
	closed := make(chan network.ConnErrorCode, 2*most)
	for range most + 10 {
		in.conns <- mute{closed: closed, once: new(sync.Once), gone: make(chan struct{})}
	}
	for range 9 { // the last one may still be on its way
		if code := receive(t, closed, 1)[0]; code != network.ConnResourceLimitExceeded {
			t.Errorf("closed with %v", code)
		}
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if n := len(closed); n != most+1 {
		t.Errorf("%d were held, want %d", n-1, most)
	}
}

func perInvite(t *testing.T, most int) {
	a := founder(t, onQUIC)
	pass, err := a.club.pass(workunits.NodeID{}, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	for i := range most + 1 {
		state, err := pass.Admit(workunits.NodeIDOf(keyOf(fmt.Sprint(i))), time.Now())
		if err != nil {
			t.Fatal(err)
		}
		if _, renewed, err := a.club.renewal(state.Own, time.Now()); renewed != (i < most) || (err == nil) != (i < most) {
			t.Fatalf("membership %d: %t, %v", i, renewed, err)
		}
	}
	if s, _ := a.Membership(); membership.KeyOf(a.club.Issuer) != s.Key {
		t.Error("another key")
	}
}

// certificates has a node ask for another one again and again.
func certificates(t *testing.T) {
	a := founder(t, onQUIC)
	pass, err := a.club.pass(workunits.NodeID{}, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	state, err := pass.Admit(workunits.NodeIDOf(keyOf("b")), now)
	if err != nil {
		t.Fatal(err)
	}
	for i, after := range []time.Duration{0, issueEvery - time.Second, issueEvery} {
		if _, renewed, err := a.club.renewal(state.Own, now.Add(after)); renewed != (i != 1) || err != nil {
			t.Errorf("after %s: %t, %v", after, renewed, err)
		}
	}
}

// relayOf runs libp2p's relay service by this package's limits.
func relayOf(t *testing.T, change func(r *relay.Resources)) peer.AddrInfo {
	t.Helper()
	at, err := libp2p.New(libp2p.ListenAddrStrings(onQUIC), libp2p.DisableMetrics(), libp2p.DisableRelay(), libp2p.ResourceManager(&network.NullResourceManager{}))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = at.Close() })
	resources := relayResources()
	change(&resources)
	r, err := relay.New(at, relay.WithResources(resources))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = r.Close() })
	return peer.AddrInfo{ID: at.ID(), Addrs: at.Addrs()}
}

func relayed(t *testing.T, most int, change func(r *relay.Resources)) {
	at := relayOf(t, change)
	reserved := 0
	for range most + 2 {
		if _, err := client.Reserve(within(t), another(t), at); err == nil {
			reserved++
		}
	}
	if reserved != most {
		t.Errorf("%d nodes have a place, want %d", reserved, most)
	}
}

// relayTime is what the relay tells who reserves a place.
func relayTime(t *testing.T) {
	r, err := client.Reserve(within(t), another(t), relayOf(t, func(*relay.Resources) {}))
	if err != nil || r.LimitDuration != relayDuration || r.LimitData != relayBytes {
		t.Errorf("%+v, %v", r, err)
	}
}

// overRelay sends until the relay has enough.
func overRelay(t *testing.T, most int) {
	at := relayOf(t, func(*relay.Resources) {})
	to, from := another(t, libp2p.EnableRelay()), another(t, libp2p.EnableRelay())
	to.SetStreamHandler("/sink", func(s network.Stream) { _, _ = io.Copy(io.Discard, s) })
	if _, err := client.Reserve(within(t), to, at); err != nil {
		t.Fatal(err)
	}
	circuit := at.Addrs[0].Encapsulate(ma.StringCast("/p2p/" + at.ID.String() + "/p2p-circuit"))
	if err := from.Connect(within(t), peer.AddrInfo{ID: to.ID(), Addrs: []ma.Multiaddr{circuit}}); err != nil {
		t.Fatal(err)
	}
	s, err := from.NewStream(network.WithAllowLimitedConn(within(t), "test"), to.ID(), "/sink")
	if err != nil {
		t.Fatal(err)
	}
	_ = s.SetDeadline(time.Now().Add(patience))
	sent, piece := 0, make([]byte, 64<<10)
	for err == nil && sent < 2*most {
		var n int
		n, err = s.Write(piece)
		sent += n
	}
	// Beside the data the connection carries what keeps it, and what is under way is lost.
	if isTimeout(err) || sent < most*9/10 || sent > most+16<<20 { // as much as may be under way
		t.Errorf("%d bytes went out, want about %d: %v", sent, most, err)
	}
}

// visit has an identity of AutoNAT's come in, for which a member speaks.
func visit(t *testing.T) {
	a := founder(t, onQUIC)
	b := invited(t, a, "b", onQUIC)
	run(t, b.Host)
	awaitOwn(t, b)
	guest, host := idOf(t, "a host of AutoNAT"), a.club
	if _, _, err := invited(t, a, "c", onQUIC).club.hello(guest); err == nil {
		t.Error("who came by an invite speaks for others")
	}
	hello, _, err := b.club.hello(guest)
	if err != nil {
		t.Fatal(err)
	}
	if err := host.admit(guest, hello); err != nil {
		t.Fatal(err)
	}
	for after, want := range map[time.Duration]int{visitTime - time.Second: 0, visitTime + time.Second: 1} {
		if gone, _ := host.outstay([]peer.ID{guest}, time.Now().Add(after)); len(gone) != want {
			t.Errorf("%d have to go after %s, want %d", len(gone), after, want)
		}
	}
	if host.admit(idOf(t, "another"), hello) == nil {
		t.Error("the visit may be another's")
	}
}
