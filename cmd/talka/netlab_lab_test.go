//go:build netlab && linux

package main

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// A lab is a small internet: network namespaces of this machine, with this
// test between them as the one router. Each place on the internet is a TUN
// device in a namespace; the router delays, loses and cuts what passes, so it
// needs no netem of the kernel. Behind a place there may be a home: a bridge
// with private addresses, and a NAT of nftables towards the device.
type lab struct {
	t     *testing.T
	delay time.Duration // one way
	loss  float64       // share of packets

	mu    sync.Mutex
	ports map[netip.Addr]*labPort
	count int
}

// labPort is a place on the internet.
type labPort struct {
	*labSpace
	tun   *os.File
	out   chan labPacket
	addr  netip.Addr // guarded by lab.mu
	group int        // packets pass within a group only; guarded by lab.mu
}

type labPacket struct {
	data []byte
	due  time.Time
}

// labSpace is a network namespace.
type labSpace struct {
	lab  *lab
	name string
	net  string // of its LAN: the first three numbers of addresses
	lan  int    // number of hosts that were ever on it
}

// What the kernel asks for by number.
const (
	labMTU   = 1500
	labQueue = 4096 // packets on the way to a place
)

// newLab makes an internet without places. The test is skipped where it may
// not be made.
func newLab(t *testing.T, delay time.Duration, loss float64) *lab {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("network namespaces need root: run make netlab as root")
	}
	for _, tool := range []string{"ip", "nft"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skipf("%v: install iproute2 and nftables", err)
		}
	}
	if _, err := os.Stat("/dev/net/tun"); err != nil {
		t.Skipf("%v: the kernel has no TUN devices", err)
	}
	return &lab{t: t, delay: delay, loss: loss, ports: map[netip.Addr]*labPort{}}
}

// space makes a namespace, which goes with the test.
func (l *lab) space() *labSpace {
	l.t.Helper()
	l.count++
	s := &labSpace{lab: l, name: fmt.Sprintf("talka%d-%d-%d", os.Getpid(), l.count, rand.N(1<<16)), net: "192.168.1"}
	if out, err := exec.CommandContext(l.t.Context(), "ip", "netns", "add", s.name).CombinedOutput(); err != nil {
		l.t.Skipf("no network namespace can be made here: %v: %s", err, out)
	}
	l.t.Cleanup(func() {
		// The test's own context has ended by now.
		if out, err := exec.Command("ip", "netns", "del", s.name).CombinedOutput(); err != nil {
			l.t.Errorf("remove namespace: %v: %s", err, out)
		}
	})
	s.sh("ip link set lo up")
	return s
}

// sh runs a script in the namespace.
func (s *labSpace) sh(script string) {
	s.lab.t.Helper()
	if out, err := exec.CommandContext(s.lab.t.Context(), "ip", "netns", "exec", s.name, "sh", "-ec", script).CombinedOutput(); err != nil {
		s.lab.t.Fatalf("in %s: %v: %s\n%s", s.name, err, out, script)
	}
}

// within calls f on a thread in the namespace; what f starts stays there.
func (s *labSpace) within(f func() error) error {
	done := make(chan error, 1)
	go func() {
		// The thread is never unlocked: it ends with the goroutine.
		runtime.LockOSThread()
		fd, err := unix.Open("/run/netns/"+s.name, unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err == nil {
			defer unix.Close(fd)
			err = unix.Setns(fd, unix.CLONE_NEWNET)
		}
		if err == nil {
			err = f()
		}
		done <- err
	}()
	return <-done
}

// port makes a place on the internet with a public address.
func (l *lab) port(addr string) *labPort {
	l.t.Helper()
	p := &labPort{labSpace: l.space(), out: make(chan labPacket, labQueue), addr: netip.MustParseAddr(addr)}
	err := p.within(func() error {
		fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
		if err != nil {
			return err
		}
		req, err := unix.NewIfreq("net0")
		if err != nil {
			return err
		}
		req.SetUint16(unix.IFF_TUN | unix.IFF_NO_PI)
		if err := unix.IoctlIfreq(fd, unix.TUNSETIFF, req); err != nil {
			return err
		}
		p.tun = os.NewFile(uintptr(fd), "net0")
		return nil
	})
	if err != nil {
		l.t.Fatalf("TUN device: %v", err)
	}
	p.sh(fmt.Sprintf("ip link set net0 mtu %d up; ip addr add %s/32 dev net0; ip route add default dev net0 src %s", labMTU, addr, addr))
	l.mu.Lock()
	l.ports[p.addr] = p
	l.mu.Unlock()
	var group sync.WaitGroup
	group.Go(func() { l.route(p) })
	group.Go(func() { deliver(p) })
	l.t.Cleanup(func() {
		_ = p.tun.Close() // ends route
		l.mu.Lock()
		delete(l.ports, p.addr)
		l.mu.Unlock()
		close(p.out) // ends deliver
		group.Wait()
	})
	return p
}

// route takes what leaves a place to where it goes.
func (l *lab) route(p *labPort) {
	buf := make([]byte, 1<<16)
	for {
		n, err := p.tun.Read(buf)
		if err != nil {
			return
		}
		if n < 20 || buf[0]>>4 != 4 || rand.Float64() < l.loss {
			continue
		}
		to := netip.AddrFrom4([4]byte(buf[16:20]))
		l.mu.Lock()
		q := l.ports[to]
		if q != nil && q.group == p.group {
			select {
			case q.out <- labPacket{append([]byte(nil), buf[:n]...), time.Now().Add(l.delay)}:
			default: // the queue of the line is full
			}
		}
		l.mu.Unlock()
	}
}

// deliver hands over what arrives at a place, when it is due.
func deliver(p *labPort) {
	for packet := range p.out {
		time.Sleep(time.Until(packet.due))
		_, _ = p.tun.Write(packet.data) // the place is gone if this fails
	}
}

// move gives a place another address, as a provider does overnight.
func (p *labPort) move(addr string) {
	p.lab.t.Helper()
	old := p.addr
	p.sh(fmt.Sprintf("ip addr add %s/32 dev net0; ip route replace default dev net0 src %s; ip addr del %s/32 dev net0", addr, addr, old))
	p.lab.mu.Lock()
	defer p.lab.mu.Unlock()
	delete(p.lab.ports, old)
	p.addr = netip.MustParseAddr(addr)
	p.lab.ports[p.addr] = p
}

// part puts places into a part of the internet of their own; part 0 is where
// all begin.
func (l *lab) part(group int, places ...*labPort) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, p := range places {
		p.group = group
	}
}

// The kinds of NAT, as nft knows them. Masquerade keeps a port where it can,
// which makes it as good as a cone; fully-random gives every flow another one.
const (
	natCone      = "masquerade"
	natSymmetric = "masquerade fully-random"
)

// home makes a place a home router: what is inside may begin to talk to what is
// outside, never the other way round. Without UDP it is an office's.
func (p *labPort) home(nat string, udp bool) {
	p.lab.t.Helper()
	rule := ""
	if !udp {
		rule = "meta l4proto udp drop"
	}
	p.bridge()
	p.sh("sysctl -qw net.ipv4.ip_forward=1")
	p.sh(strings.NewReplacer("NAT", nat, "UDP", rule).Replace(`nft -f - <<'X'
table ip home {
	chain pre { type nat hook prerouting priority -100; }
	chain post { type nat hook postrouting priority 100; oifname "net0" NAT; }
	chain pass {
		type filter hook forward priority 0; policy drop;
		UDP
		ct state established,related accept
		ct status dnat accept
		iifname "br0" accept
	}
	chain in {
		type filter hook input priority 0; policy drop;
		ct state established,related accept
		iifname { "br0", "lo" } accept
	}
}
X`))
}

// firewall lets nobody outside begin to talk to this place.
func (p *labPort) firewall() {
	p.lab.t.Helper()
	p.sh(`nft -f - <<'X'
table ip wall {
	chain in {
		type filter hook input priority 0; policy drop;
		ct state established,related accept
		iifname "lo" accept
	}
}
X`)
}

// bridge makes a LAN.
func (s *labSpace) bridge() {
	s.lab.t.Helper()
	s.sh(fmt.Sprintf("ip link add br0 type bridge; ip addr add %s.1/24 dev br0; ip link set br0 up", s.net))
}

// host adds a machine to the LAN of a home or bridge.
func (s *labSpace) host() *labSpace {
	s.lab.t.Helper()
	h := s.lab.space()
	s.plug(h)
	return h
}

// plug connects a machine, which may have been on another LAN before.
func (s *labSpace) plug(h *labSpace) {
	s.lab.t.Helper()
	h.sh("ip link del eth0 2>/dev/null || true")
	s.lan++
	s.sh(fmt.Sprintf("ip link add v%d type veth peer name eth0 netns %s; ip link set v%d master br0 up", s.lan, h.name, s.lan))
	h.sh(fmt.Sprintf("ip addr add %s.%d/24 dev eth0; ip link set eth0 up; ip route add default via %s.1", s.net, 1+s.lan, s.net))
}
