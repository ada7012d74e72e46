package p2p

import (
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/transport"
	"github.com/libp2p/go-libp2p/p2p/net/swarm"
	"github.com/libp2p/go-libp2p/p2p/security/noise"
	libp2ptls "github.com/libp2p/go-libp2p/p2p/security/tls"
	ma "github.com/multiformats/go-multiaddr"

	"github.com/talka-grid/talka/p2p/membership"
	"github.com/talka-grid/talka/workunits"
)

const (
	onQUIC = "/ip4/127.0.0.1/udp/0/quic-v1"
	onTCP  = "/ip4/127.0.0.1/tcp/0"
)

// founder starts the first node of a private network, which issues.
func founder(t *testing.T, listen string) *Host {
	t.Helper()
	network := keyOf(t.Name() + " network")
	state, err := membership.New("lab", network, workunits.NodeIDOf(keyOf(t.Name()+"founder")), time.Now(), 24*time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	return start(t, "founder", Config{Network: "lab", Listen: []string{listen}, Private: &Private{State: state, Issuer: network}}, nil)
}

// member is a node that tells when its membership has changed.
type member struct {
	*Host
	changed chan struct{}
}

// invited makes a node of whoever has an invite of the founder's, as the command
// does.
func invited(t *testing.T, by *Host, name, listen string, peers ...Peer) member {
	t.Helper()
	text, err := by.Invite(0, workunits.NodeID{})
	if err != nil {
		t.Fatal(err)
	}
	i, err := ParseInvite(text)
	if err != nil {
		t.Fatal(err)
	}
	state, err := i.Pass.Admit(workunits.NodeIDOf(keyOf(t.Name()+name)), time.Now())
	if err != nil {
		t.Fatal(err)
	}
	if peers == nil {
		peers = i.Peers
	}
	changed := make(chan struct{}, 64)
	save := func(membership.State) error {
		changed <- struct{}{}
		return nil
	}
	return member{newHost(t, name, Config{Network: "lab", Listen: []string{listen}, Peers: peers, Private: &Private{State: state, Save: save}}, nil), changed}
}

// awaitOwn waits until the issuer has made the node a certificate of its own.
func awaitOwn(t *testing.T, m member) {
	t.Helper()
	for {
		// What is saved counts once the lock is given back, for which Membership waits.
		if s, _ := m.Membership(); s.Own.Cert.Subject == m.ID() {
			return
		}
		receive(t, m.changed, 1)
	}
}

// Members by invite meet, over both transports, get certificates of their own, and
// let in whoever shows an invite while the issuer is away.
func TestPrivateNetwork(t *testing.T) {
	t.Parallel()
	for _, listen := range []string{onQUIC, onTCP} {
		t.Run(strings.Split(listen, "/")[3], func(t *testing.T) {
			t.Parallel()
			a := founder(t, listen)
			b := invited(t, a, "b", listen)
			c := invited(t, a, "c", listen, b.peer())
			run(t, b.Host)
			awaitPeers(t, b.Host, 1)
			awaitOwn(t, b)
			if err := a.Close(); err != nil {
				t.Fatal(err)
			}
			run(t, c.Host)
			awaitPeers(t, c.Host, 1)
			if p := c.Peers()[0]; p.ID != b.ID() {
				t.Errorf("c is connected to %s, want b", p.ID)
			}
			if _, err := c.Invite(0, workunits.NodeID{}); !errors.Is(err, ErrIssuer) {
				t.Errorf("an invite of who does not issue: %v", err)
			}
			if err := c.Remove(b.ID()); !errors.Is(err, ErrIssuer) {
				t.Errorf("a removal by who does not issue: %v", err)
			}
		})
	}
}

// A stranger that tries everything, over every transport and security protocol,
// hears nothing at all and is cut off.
func TestStrangerLearnsNothing(t *testing.T) {
	t.Parallel()
	for name, security := range map[string]libp2p.Option{
		"quic":      libp2p.DefaultSecurity,
		"tcp-noise": libp2p.Security(noise.ID, noise.New),
		"tcp-tls":   libp2p.Security(libp2ptls.ID, libp2ptls.New),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			listen := onTCP
			if name == "quic" {
				listen = onQUIC
			}
			h := founder(t, listen)
			s, err := libp2p.New(libp2p.NoListenAddrs, security, libp2p.DisableMetrics(), libp2p.ResourceManager(&network.NullResourceManager{}))
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			info, err := h.peer().info()
			if err != nil {
				t.Fatal(err)
			}
			dial := func() transport.CapableConn {
				to := ma.StringCast(h.Addrs()[0])
				c, err := s.Network().(*swarm.Swarm).TransportForDialing(to).Dial(within(t), ma.StringCast(strings.Split(h.Addrs()[0], "/p2p/")[0]), info.ID)
				if err != nil {
					t.Fatalf("something is to answer: %v", err)
				}
				return c
			}
			heard := func(what string, say func(w io.Writer)) {
				t.Helper()
				c := dial()
				defer c.Close()
				st, err := c.OpenStream(within(t))
				if err != nil {
					if isTimeout(err) {
						t.Errorf("%s: %v", what, err)
					}
					return // cut off already
				}
				say(st)
				_ = st.SetReadDeadline(time.Now().Add(patience))
				if b, err := io.ReadAll(io.LimitReader(st, 1)); len(b) > 0 || err == nil || isTimeout(err) {
					t.Errorf("%s: heard %d bytes, %v; want to be cut off", what, len(b), err)
				}
			}
			for _, p := range append(h.base.Mux().Protocols(), "/ipfs/id/1.0.0", "/libp2p/circuit/relay/0.2.0/hop", "/libp2p/autonat/1.0.0") {
				heard(string(p), func(w io.Writer) {
					_, _ = fmt.Fprintf(w, "\x13/multistream/1.0.0\n%c%s\n", len(p)+1, p) // what multistream-select begins with
				})
			}
			heard("noise", func(w io.Writer) { _, _ = w.Write(append(lengthOf(600), garbage(600)...)) })
			heard("too much", func(w io.Writer) { _, _ = w.Write(append(lengthOf(1<<30), garbage(4000)...)) })
			// As an honest libp2p host it may take itself for connected for a moment.
			_ = s.Connect(within(t), info)
			if _, err := s.NewStream(within(t), info.ID, "/ipfs/id/1.0.0", h.protocol("grid"), "/ipfs/ping/1.0.0"); err == nil {
				t.Error("a stream was opened")
			}
			if known, err := s.Peerstore().GetProtocols(info.ID); err != nil || len(known) > 0 {
				t.Errorf("the stranger knows of %v, %v", known, err)
			}
			if n := len(h.base.Network().Peers()); n > 0 {
				t.Errorf("%d strangers are connected", n)
			}
		})
	}
}

// impostor makes a host that shows what the function makes of its membership; it
// knows the network's key.
func impostor(t *testing.T, of *Host, name string, change func(s *membership.State)) *Host {
	t.Helper()
	m := invited(t, of, name, onQUIC, of.peer())
	change(&m.club.state)
	run(t, m.Host)
	return m.Host
}

func TestImpostorsAreTurnedAway(t *testing.T) {
	t.Parallel()
	a := founder(t, onQUIC)
	honest := invited(t, a, "honest", onQUIC)
	run(t, honest.Host)
	awaitPeers(t, honest.Host, 1)
	awaitOwn(t, honest)
	stolen, _ := honest.Membership()
	other := keyOf("another network")
	for name, change := range map[string]func(s *membership.State){
		"shows another's":        func(s *membership.State) { s.Own = stolen.Own },
		"says it is another":     func(s *membership.State) { s.Own = stolen.Own; s.Own.Node = workunits.NodeIDOf(keyOf("x")) },
		"speaks for itself":      func(s *membership.State) { s.Own = stolen.Own.Cert.For(keyOf("not honest's"), s.Own.Node) },
		"has nothing":            func(s *membership.State) { s.Own = membership.Proof{Node: s.Own.Node} },
		"extends its invite":     func(s *membership.State) { s.Own.Cert.Until++ },
		"signed by another":      func(s *membership.State) { s.Own.Cert, _ = membership.Issue(other, s.Own.Cert) },
		"does not know the key":  func(s *membership.State) { s.Key = membership.KeyOf(other) },
		"came by a lapsed paper": func(s *membership.State) { s.Own = lapsed(t, a, s.Own.Node) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := impostor(t, a, name, change)
			if err := h.Connect(within(t), a.peer()); err == nil {
				t.Error("it is connected")
			}
			for _, p := range a.Peers() {
				if p.ID == h.ID() {
					t.Error("it was let in")
				}
			}
		})
	}
}

// lapsed is a proof that was good an hour ago.
func lapsed(t *testing.T, of *Host, node workunits.NodeID) membership.Proof {
	t.Helper()
	ago := uint64(time.Now().Add(-time.Hour).UnixMilli())
	c, err := membership.Issue(of.club.Issuer, membership.Certificate{Network: "lab", Subject: node, By: of.ID(), Issued: ago, Until: ago + 1000})
	if err != nil {
		t.Fatal(err)
	}
	return membership.Proof{Cert: c, Node: node}
}

// Who is removed is cut off by all, and neither it nor an invite that is out gets
// back in; a new invite for it does.
func TestRemovedMember(t *testing.T) {
	t.Parallel()
	a := founder(t, onQUIC)
	b := invited(t, a, "b", onQUIC)
	bad := invited(t, a, "bad", onQUIC, b.peer())
	late := invited(t, a, "late", onQUIC)
	for _, h := range []member{b, bad} {
		run(t, h.Host)
		awaitPeers(t, h.Host, 1)
	}
	for _, h := range []member{b, bad} {
		awaitPeers(t, h.Host, 2)
		awaitOwn(t, h)
	}
	if err := a.Remove(bad.ID()); err != nil {
		t.Fatal(err)
	}
	await(t, bad.Host, "all cut it off", func() bool { return len(bad.Peers()) == 0 })
	for _, h := range []*Host{a, b.Host} {
		if err := bad.Connect(within(t), h.peer()); err == nil {
			// It was dialled, and let its own membership be seen; then it is cut off.
			await(t, bad.Host, "it is turned away", func() bool { return len(bad.Peers()) == 0 })
		}
		if slices.ContainsFunc(h.Peers(), func(p PeerInfo) bool { return p.ID == bad.ID() }) {
			t.Error("it gets back in")
		}
	}
	if s, _ := b.Membership(); s.Removals.Number != 1 {
		t.Errorf("b knows of list %d, want 1", s.Removals.Number)
	}
	run(t, late.Host)
	if err := late.Connect(within(t), a.peer()); err == nil {
		t.Error("an invite from before the removal lets in")
	}
	text, err := a.Invite(time.Hour, bad.ID())
	if err != nil {
		t.Fatal(err)
	}
	if err := late.Join(within(t), text); !errors.Is(err, ErrInvite) {
		t.Errorf("another's invite: %v, want %v", err, ErrInvite)
	}
	if err := bad.Join(within(t), text); err != nil {
		t.Fatal(err)
	}
	awaitPeers(t, a, 2)
	if err := a.Remove(a.ID()); err == nil {
		t.Error("the issuer removes itself")
	}
}

// A membership that cannot be kept is not given.
func TestMembershipIsKeptFirst(t *testing.T) {
	t.Parallel()
	a := founder(t, onQUIC)
	full := errors.New("disk full")
	a.club.mu.Lock()
	a.club.Save = func(membership.State) error { return full }
	a.club.mu.Unlock()
	if _, err := a.Invite(0, workunits.NodeID{}); !errors.Is(err, full) {
		t.Errorf("invite: %v, want %v", err, full)
	}
	if err := a.Remove(workunits.NodeIDOf(keyOf("x"))); !errors.Is(err, full) {
		t.Errorf("remove: %v, want %v", err, full)
	}
	if s, _ := a.Membership(); len(s.Issued) != 1 || s.Removals.Number != 0 {
		t.Errorf("state %+v has what was not kept", s)
	}
}

func TestPrivateConfig(t *testing.T) {
	t.Parallel()
	key, node := keyOf("network"), keyOf("node")
	state, err := membership.New("lab", key, workunits.NodeIDOf(node), time.Now(), time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]Config{
		"another name":        {Network: "other", Key: node, Private: &Private{State: state}},
		"another node":        {Network: "lab", Key: keyOf("x"), Private: &Private{State: state}},
		"another network key": {Network: "lab", Key: node, Private: &Private{State: state, Issuer: keyOf("x")}},
	} {
		c.Listen, c.CachePath = []string{onQUIC}, filepath.Join(t.TempDir(), "peers")
		if h, err := New(c); err == nil {
			t.Errorf("%s: accepted", name)
			_ = h.Close()
		}
	}
}

// Open and private networks of one name do not meet, from either side.
func TestOpenAndPrivateDoNotMix(t *testing.T) {
	t.Parallel()
	a := founder(t, onQUIC)
	open := start(t, "open", Config{Network: "lab", Listen: []string{onQUIC}}, nil)
	if err := open.Connect(within(t), a.peer()); err == nil {
		t.Error("an open node gets in")
	}
	if err := a.Connect(within(t), open.peer()); err == nil {
		t.Error("a private node takes an open one for a member")
	}
	text, err := a.Invite(0, workunits.NodeID{})
	if err != nil {
		t.Fatal(err)
	}
	if err := open.Join(within(t), text); !errors.Is(err, ErrNetwork) {
		t.Errorf("join: %v, want %v", err, ErrNetwork)
	}
	if len(a.Peers()) > 0 {
		t.Errorf("peers %v", a.Peers())
	}
}
