package p2ptest

import (
	"context"
	"crypto/ed25519"
	"sync"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/transport"
	libp2pswarm "github.com/libp2p/go-libp2p/p2p/net/swarm"

	"github.com/talka-grid/talka/p2p"
	"github.com/talka-grid/talka/p2p/membership"
	"github.com/talka-grid/talka/workunits"
)

// lab is a private network whose certificates last labValid.
type lab struct {
	*testing.T
	*Network
	key ed25519.PrivateKey

	mu     sync.Mutex
	states map[int]membership.State // as the nodes saved them
}

const labValid = 20 * time.Minute

func newLab(t *testing.T, nw *Network) *lab {
	l := &lab{T: t, Network: nw, key: Key(1000), states: map[int]membership.State{}}
	state, err := membership.New("lab", l.key, workunits.NodeIDOf(Key(0)), time.Now(), labValid)
	if err != nil {
		t.Fatal(err)
	}
	l.states[0] = state
	return l
}

// up runs the i-th node with what it saved; the first one issues.
func (l *lab) up(i int, peers ...p2p.Peer) *p2p.Host {
	l.mu.Lock()
	private := &p2p.Private{State: l.states[i], Valid: labValid, Save: func(s membership.State) error {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.states[i] = s
		return nil
	}}
	l.mu.Unlock()
	if i == 0 {
		private.Issuer = l.key
	}
	return l.Host(i, p2p.Config{Network: "lab", Private: private, Peers: peers}, nil)
}

// ends is when the i-th node's membership ends, unless it is renewed.
func (l *lab) ends(i int) time.Time {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.states[i].Own.Cert.Ends()
}

func (l *lab) invite(by *p2p.Host) (string, p2p.Invite) {
	l.Helper()
	text, err := by.Invite(labValid/2, workunits.NodeID{})
	if err != nil {
		l.Fatal(err)
	}
	i, err := p2p.ParseInvite(text)
	if err != nil {
		l.Fatal(err)
	}
	return text, i
}

// join runs the i-th node for the first time, by an invite.
func (l *lab) join(i int, by *p2p.Host) *p2p.Host {
	l.Helper()
	_, in := l.invite(by)
	state, err := in.Pass.Admit(workunits.NodeIDOf(Key(i)), time.Now())
	if err != nil {
		l.Fatal(err)
	}
	l.mu.Lock()
	l.states[i] = state
	l.mu.Unlock()
	return l.up(i, in.Peers...)
}

// members starts so many nodes, the first of which issues the others' memberships,
// and waits until all are connected.
func (l *lab) members(n int) []*p2p.Host {
	all := []*p2p.Host{l.up(0)}
	for i := 1; i < n; i++ {
		all = append(all, l.join(i, all[0]))
	}
	l.Until(time.Minute, "all are connected", eachHas(all, n-1))
	return all
}

// While their issuer is there members stay for ever; without it, until their
// certificates end; and then it takes an invite to get back in.
func TestMembershipsEnd(t *testing.T) {
	t.Parallel()
	Run(t, oneWay, func(t *testing.T, nw *Network) {
		l := newLab(t, nw)
		all := l.members(4)
		opened := all[1].Peers()
		time.Sleep(3 * labValid) // virtual
		if !eachHas(all, 3)() {
			t.Error("members lost each other although they were renewed")
		}
		if now := all[1].Peers(); len(now) != len(opened) {
			t.Errorf("%d peers were %d", len(now), len(opened))
		}
		for i := range all {
			if left := time.Until(l.ends(i)); left <= 0 || left > labValid {
				t.Errorf("the certificate of node %d is valid for %s", i, left)
			}
		}
		nw.Stop(all[0])
		rest := all[1:]
		if time.Sleep(labValid / 3); !eachHas(rest, 2)() {
			t.Error("members cannot do without their issuer for a while")
		}
		took := nw.Until(labValid*2/3+time.Minute, "all are alone", func() bool {
			for _, h := range rest {
				if len(h.Peers()) > 0 {
					return false
				}
			}
			return true
		})
		t.Logf("all alone %s after the issuer had gone", took+labValid/3)
		for i := 1; i < 4; i++ { // the last one was alone before its own ended
			time.Sleep(time.Until(l.ends(i))) // virtual
		}
		all[0] = l.up(0)
		time.Sleep(10 * time.Minute) // virtual
		if n := len(all[0].Peers()); n > 0 {
			t.Errorf("%d nodes are back whose membership has ended", n)
		}
		text, _ := l.invite(all[0])
		for _, h := range rest {
			if err := h.Join(t.Context(), text); err != nil {
				t.Fatal(err)
			}
		}
		nw.Until(time.Minute, "all are connected", eachHas(all, 3))
	})
}

// A removal that a member slept through reaches it from whoever it meets first.
func TestRemovalIsCaughtUp(t *testing.T) {
	t.Parallel()
	Run(t, oneWay, func(t *testing.T, nw *Network) {
		l := newLab(t, nw)
		all := l.members(4)
		time.Sleep(time.Minute) // virtual; certificates are renewed
		asleep, bad := all[2], all[3]
		nw.Stop(asleep)
		if err := all[0].Remove(bad.ID()); err != nil {
			t.Fatal(err)
		}
		nw.Until(time.Minute, "it is cut off", func() bool { return len(bad.Peers()) == 0 })
		nw.Stop(all[0]) // who removed it
		asleep = l.up(2, Peer(bad))
		nw.Until(time.Minute, "they meet, since neither knows", eachHas([]*p2p.Host{asleep}, 1))
		if err := asleep.Connect(t.Context(), Peer(all[1])); err != nil {
			t.Fatal(err)
		}
		nw.Until(time.Minute, "it is cut off again", func() bool { return len(bad.Peers()) == 0 && len(asleep.Peers()) == 1 })
	})
}

// Strangers that connect and say nothing, half of something or nothing that makes
// sense are cut off in time, however many there are, and members come in beside.
func TestStrangersDoNotBlockTheDoor(t *testing.T) {
	t.Parallel()
	Run(t, oneWay, func(t *testing.T, nw *Network) {
		l := newLab(t, nw)
		door := l.up(0)
		to, err := peer.AddrInfoFromString(door.Addrs()[0])
		if err != nil {
			t.Fatal(err)
		}
		var strangers []host.Host
		defer func() {
			for _, s := range strangers {
				_ = s.Close()
			}
		}()
		var conns []transport.CapableConn
		var group sync.WaitGroup
		var mu sync.Mutex
		for i := range 40 {
			s := nw.Stranger(10 + i)
			strangers = append(strangers, s)
			group.Go(func() {
				ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
				defer cancel()
				c, err := s.Network().(*libp2pswarm.Swarm).TransportForDialing(to.Addrs[0]).Dial(ctx, to.Addrs[0], to.ID)
				if err != nil {
					t.Errorf("stranger %d: %v", i, err)
					return
				}
				if i%2 == 0 {
					st, err := c.OpenStream(ctx)
					if err == nil {
						_, err = st.Write([]byte{0, 0, 1}) // a frame begins
					}
					if err != nil {
						t.Errorf("stranger %d: %v", i, err)
					}
				}
				mu.Lock()
				defer mu.Unlock()
				conns = append(conns, c)
			})
		}
		group.Wait()
		member := l.join(1, door)
		took := nw.Until(5*time.Second, "a member comes in", eachHas([]*p2p.Host{member}, 1))
		t.Logf("in %s, beside %d strangers at the door", took, len(conns))
		begun := time.Now()
		for _, c := range conns {
			_, _ = c.AcceptStream() // fails when it is cut off
		}
		if took := time.Since(begun); took > 11*time.Second {
			t.Errorf("strangers stayed for %s", took)
		}
		if n := len(door.Peers()); n != 1 {
			t.Errorf("%d peers, want the member", n)
		}
	})
}
