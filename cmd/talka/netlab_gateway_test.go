//go:build netlab && linux

package main

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/talka-grid/talka/grid"
)

// labGateway is a home's router that takes orders, as UPnP has it (the service
// WANIPConnection of an Internet Gateway Device, version 1).
type labGateway struct {
	home *labPort

	mu      sync.Mutex
	forward map[string]netip.AddrPort // whither, by protocol and port outside
}

// What it is, in the words of UPnP, and where it is asked.
const (
	upnpDevice  = "urn:schemas-upnp-org:device:WANConnectionDevice:1"
	upnpService = "urn:schemas-upnp-org:service:WANIPConnection:1"
	upnpPort    = "5000"
)

// gateway makes a home's router one.
func (p *labPort) gateway() *labGateway {
	p.lab.t.Helper()
	g := &labGateway{home: p, forward: map[string]netip.AddrPort{}}
	var found *net.UDPConn
	var asked net.Listener
	err := p.within(func() error {
		lan, err := net.InterfaceByName("br0")
		if err == nil {
			found, err = net.ListenMulticastUDP("udp4", lan, &net.UDPAddr{IP: net.IPv4(239, 255, 255, 250), Port: 1900})
		}
		if err == nil {
			asked, err = net.Listen("tcp4", net.JoinHostPort(p.net+".1", upnpPort))
		}
		return err
	})
	if err != nil {
		p.lab.t.Fatal(err)
	}
	server := &http.Server{Handler: g, ReadHeaderTimeout: time.Minute}
	var group sync.WaitGroup
	group.Go(func() { g.tell(found) })
	group.Go(func() { _ = server.Serve(asked) })
	p.lab.t.Cleanup(func() {
		_ = found.Close() // ends tell
		_ = server.Close()
		group.Wait()
	})
	return g
}

// tell answers machines of the home that look for a router (SSDP).
func (g *labGateway) tell(conn *net.UDPConn) {
	buf := make([]byte, 2048)
	for {
		n, from, err := conn.ReadFromUDPAddrPort(buf)
		if err != nil {
			return
		}
		if strings.HasPrefix(string(buf[:n]), "M-SEARCH") && strings.Contains(string(buf[:n]), upnpDevice) {
			answer := fmt.Sprintf("HTTP/1.1 200 OK\r\nST: %[1]s\r\nUSN: uuid:lab::%[1]s\r\nLOCATION: http://%[2]s.1:%[3]s/\r\n\r\n", upnpDevice, g.home.net, upnpPort)
			_, _ = conn.WriteToUDPAddrPort([]byte(answer), from) // it asks again
		}
	}
}

// ServeHTTP says what the router is, and does what it is told (SOAP).
func (g *labGateway) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "text/xml")
	if r.Method == http.MethodGet {
		fmt.Fprintf(w, `<root xmlns="urn:schemas-upnp-org:device-1-0"><device><deviceType>%s</deviceType><UDN>uuid:lab</UDN><serviceList><service>`+
			`<serviceType>%s</serviceType><serviceId>urn:upnp-org:serviceId:WANIPConn1</serviceId><controlURL>/ctl</controlURL></service></serviceList></device></root>`, upnpDevice, upnpService)
		return
	}
	body, _ := io.ReadAll(io.LimitReader(r.Body, 1<<16))
	field := func(name string) string {
		_, rest, _ := strings.Cut(string(body), "<"+name+">")
		text, _, _ := strings.Cut(rest, "<")
		return text
	}
	_, action, _ := strings.Cut(strings.Trim(r.Header.Get("SOAPAction"), `"`), "#")
	answer := ""
	switch action {
	case "GetNATRSIPStatus":
		answer = "<NewRSIPAvailable>0</NewRSIPAvailable><NewNATEnabled>1</NewNATEnabled>"
	case "GetExternalIPAddress":
		g.home.lab.mu.Lock()
		answer = "<NewExternalIPAddress>" + g.home.addr.String() + "</NewExternalIPAddress>"
		g.home.lab.mu.Unlock()
	case "AddPortMapping":
		to, err := netip.ParseAddrPort(field("NewInternalClient") + ":" + field("NewInternalPort"))
		if err == nil {
			err = g.open(strings.ToLower(field("NewProtocol")), field("NewExternalPort"), to)
		}
		if err != nil {
			g.home.lab.t.Error(err)
		}
	}
	fmt.Fprintf(w, `<s:Envelope xmlns:s="http://schemas.xmlsoap.org/soap/envelope/" s:encodingStyle="http://schemas.xmlsoap.org/soap/encoding/"><s:Body>`+
		`<u:%[1]sResponse xmlns:u="%[2]s">%[3]s</u:%[1]sResponse></s:Body></s:Envelope>`, action, upnpService, answer)
}

// open forwards a port.
func (g *labGateway) open(proto, out string, to netip.AddrPort) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	key := proto + " dport " + out
	if g.forward[key] == to {
		return nil // it is renewed
	}
	rule := fmt.Sprintf("add rule ip home pre iifname net0 %s dnat to %s", key, to)
	if b, err := exec.Command("ip", "netns", "exec", g.home.name, "nft", rule).CombinedOutput(); err != nil {
		return fmt.Errorf("%w: %s", err, b)
	}
	g.forward[key] = to
	return nil
}

// reaches reports whether a machine elsewhere gets through the router to a node.
func (g *labGateway) reaches(from *labPort) bool {
	g.mu.Lock()
	var ports []uint16
	for key := range g.forward {
		var port uint16
		if n, _ := fmt.Sscanf(key, "tcp dport %d", &port); n == 1 {
			ports = append(ports, port)
		}
	}
	g.mu.Unlock()
	for _, port := range ports {
		err := from.within(func() error {
			c, err := net.DialTimeout("tcp", netip.AddrPortFrom(g.home.addr, port).String(), time.Second)
			if err != nil {
				return err
			}
			defer c.Close()
			const hello = "\x13/multistream/1.0.0\n"
			b := make([]byte, len(hello))
			_ = c.SetDeadline(time.Now().Add(time.Second))
			if _, err := io.ReadFull(c, b); err != nil || string(b) != hello {
				return fmt.Errorf("%q, %w", b, err)
			}
			return nil
		})
		if err == nil {
			return true
		}
	}
	return false
}

// A router that takes orders forwards the node's ports; another one does so as well
// after the machine was carried to another home.
func TestNetlabPortMapping(t *testing.T) {
	g := newLabGrid(t)
	seed := g.port("5.9.1.1")
	s := g.upIn(seed.labSpace, "seed", "--seed", "--steward=false")
	first, second := g.port("20.1.1.1"), g.port("31.2.2.2")
	second.net = "10.9.8"
	var machine *labSpace
	var n *demoNode
	for _, home := range []*labPort{first, second} {
		home.home(natCone, true)
		gateway, begun := home.gateway(), time.Now()
		if home == first {
			machine = home.host()
			n = g.upIn(machine, "m", "--join", g.invite(s))
		} else {
			home.plug(machine)
		}
		g.until("somebody outside gets through the router", func() bool { return gateway.reaches(seed) })
		took := time.Since(begun).Round(time.Millisecond)
		t.Logf("the router of %s forwarded a port after %s", home.net, took)
		if took > 45*time.Second {
			t.Error("want that within 45 s, however long the last one takes to be given up")
		}
		g.reached(n, "the node knows", func(r grid.ReachInfo) bool { return r.Router && r.Forwards })
	}
}
