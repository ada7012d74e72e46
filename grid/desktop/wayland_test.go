package desktop

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"path/filepath"
	"testing"
	"time"

	"github.com/godbus/dbus/v5"
)

// compositor is the other end of a Wayland socket. It understands the few requests
// that a client for idle times needs, and holds it to the protocol.
type compositor struct {
	t       *testing.T
	globals []string // by number, from 1
	conns   chan net.Conn
	asked   chan uint32 // notifications that were asked for
	gone    chan uint32 // notifications that were given back
}

// newCompositor serves until the test ends, and returns the socket.
func newCompositor(t *testing.T, globals ...string) (*compositor, string) {
	t.Helper()
	socket := filepath.Join(t.TempDir(), "wayland-0")
	l, err := new(net.ListenConfig).Listen(t.Context(), "unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	c := &compositor{t: t, globals: globals, conns: make(chan net.Conn, 4), asked: make(chan uint32, 8), gone: make(chan uint32, 8)}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			c.conns <- conn
			c.serve(conn)
		}
	}()
	t.Cleanup(func() {
		_ = l.Close()
		for len(c.conns) > 0 {
			_ = (<-c.conns).Close()
		}
		<-done
	})
	return c, socket
}

// say sends an event.
func say(conn io.Writer, object, opcode uint32, args ...any) {
	var body []byte
	for _, a := range args {
		switch a := a.(type) {
		case uint32:
			body = appendWords(body, a)
		case string:
			body = appendWords(body, uint32(len(a)+1))
			body = append(append(body, a...), make([]byte, 4-len(a)%4)...)
		}
	}
	head := appendWords(nil, object, uint32(8+len(body))<<16|opcode)
	_, _ = conn.Write(append(head, body...))
}

// serve answers a client until it hangs up. Objects have the names of interfaces.
func (c *compositor) serve(conn net.Conn) {
	objects := map[uint32]string{1: "wl_display"}
	made := func(id uint32, of string) {
		if int(id) != len(objects)+1 {
			c.t.Errorf("object %d (%s) after %d others", id, of, len(objects))
		}
		objects[id] = of
	}
	for {
		object, opcode, e, err := request(conn)
		if err != nil {
			return
		}
		switch a, _ := e.number(); objects[object] {
		case "wl_display":
			if opcode == 0 {
				made(a, "wl_callback")
				say(conn, a, 0, uint32(7))
				say(conn, 1, 1, a) // the number is free again
				continue
			}
			made(a, "wl_registry")
			for i, name := range c.globals {
				say(conn, a, 0, uint32(i+1), name, uint32(9))
			}
		case "wl_registry":
			name, _ := e.text()
			version, _ := e.number()
			id, ok := e.number()
			if !ok || opcode != 0 || version != 1 || int(a) > len(c.globals) || c.globals[a-1] != name {
				c.t.Errorf("bind of global %d as %s, version %d", a, name, version)
			}
			made(id, name)
			if name == "wl_seat" {
				say(conn, id, 0, uint32(3)) // a pointer and keys
			}
		case "ext_idle_notifier_v1":
			timeout, _ := e.number()
			seat, _ := e.number()
			if opcode != 1 || timeout != 1000 || objects[seat] != "wl_seat" {
				c.t.Errorf("request %d: %d ms of object %d", opcode, timeout, seat)
			}
			made(a, "ext_idle_notification_v1")
			c.asked <- a
		case "ext_idle_notification_v1":
			c.gone <- object
		default:
			c.t.Errorf("request %d of object %d", opcode, object)
		}
	}
}

func request(r io.Reader) (object, opcode uint32, e event, err error) {
	var head [8]byte
	if _, err = io.ReadFull(r, head[:]); err != nil {
		return 0, 0, nil, err
	}
	word := binary.NativeEndian.Uint32(head[4:])
	e = make(event, word>>16-8)
	_, err = io.ReadFull(r, e)
	return binary.NativeEndian.Uint32(head[:4]), word & 0xffff, e, err
}

// in makes a session of an environment without D-Bus.
func in(t *testing.T, env map[string]string) *Session {
	s := Open(func(name string) string { return env[name] })
	s.dial = func() (*dbus.Conn, error) { return nil, errNoDisplay }
	s.answer = 20 * time.Second
	t.Cleanup(s.Close)
	return s
}

// until asks the session until it says what is wanted.
func until(t *testing.T, s *Session, what string, want func(Use, bool) bool) {
	t.Helper()
	for began := time.Now(); ; {
		u, ok := s.Use(t.Context())
		if want(u, ok) {
			return
		}
		if time.Since(began) > 20*time.Second {
			t.Fatalf("%s: %+v, %v", what, u, ok)
		}
	}
}

func TestWayland(t *testing.T) {
	t.Parallel()
	c, socket := newCompositor(t, "wl_compositor", "wl_seat", "ext_idle_notifier_v1", "wl_seat")
	s := in(t, map[string]string{"XDG_RUNTIME_DIR": filepath.Dir(socket), "WAYLAND_DISPLAY": "wayland-0", "DISPLAY": ":0"})
	if u, ok := s.Use(t.Context()); ok {
		t.Errorf("known before the compositor had the time to tell: %+v", u)
	}
	conn, first, second := <-c.conns, <-c.asked, <-c.asked
	here := func(u Use, ok bool) bool { return ok && u.Source == "Wayland" && u.Idle == 0 }
	away := func(u Use, ok bool) bool { return ok && u.Source == "Wayland" && u.Idle >= time.Second }
	say(conn, first, 0)
	until(t, s, "the other seat is used", here)
	say(conn, second, 0)
	until(t, s, "nobody uses either", away)
	say(conn, second, 1)
	until(t, s, "somebody came back", here)
	say(conn, 2, 1, uint32(4)) // the second seat is taken away
	until(t, s, "a seat that is gone is not used", away)
	if gone := <-c.gone; gone != second {
		t.Errorf("notification %d was given back, not %d", gone, second)
	}
	c.globals = append(c.globals, "wl_seat")
	say(conn, 2, 0, uint32(5), "wl_seat", uint32(9)) // and another put there
	third := <-c.asked
	until(t, s, "the new seat is used", here)
	say(conn, third, 0)
	until(t, s, "nor is that used now", away)
	_ = conn.Close()
	until(t, s, "the compositor is gone", func(_ Use, ok bool) bool { return !ok })
	s.wlNext = time.Time{} // time passes
	if s.Use(t.Context()); s.wl == nil {
		t.Error("not connected again")
	}
	say(<-c.conns, <-c.asked, 0)
	until(t, s, "a new connection", here)
}

// TestWaylandTells: who types all the time is there, though no event says so.
func TestWaylandTells(t *testing.T) {
	t.Parallel()
	_, socket := newCompositor(t, "ext_idle_notifier_v1", "wl_seat")
	s := in(t, map[string]string{"WAYLAND_DISPLAY": socket})
	var idle time.Duration
	now := time.Now()
	if s.wlIdle(t.Context(), now, &idle) || s.wl == nil {
		t.Fatal("no connection, or known at once")
	}
	if !s.wlIdle(t.Context(), now.Add(2*time.Second), &idle) || idle != 0 {
		t.Errorf("idle for %v, with no event in two seconds", idle)
	}
}

// TestWaylandWithoutNotifier: an X server within a Wayland session is not believed,
// and one is when no compositor is there.
func TestWaylandWithoutNotifier(t *testing.T) {
	t.Parallel()
	_, socket := newCompositor(t, "wl_seat")
	s := in(t, map[string]string{"WAYLAND_DISPLAY": socket, "DISPLAY": ":0"})
	if u, ok := s.Use(t.Context()); ok {
		t.Errorf("%+v", u)
	}
	if _, err := s.xIdle(time.Now()); !errors.Is(err, errNoDisplay) || !s.xNext.IsZero() {
		t.Errorf("the X server within was asked: %v", err)
	}
	for _, env := range []map[string]string{{}, {"WAYLAND_DISPLAY": "wayland-0"}, {"WAYLAND_DISPLAY": socket + "x"}} {
		if s := in(t, env); s.wlIdle(t.Context(), time.Now(), new(time.Duration)) || s.wlThere {
			t.Errorf("a compositor in %v", env)
		}
	}
}

// FuzzWayland reads whatever a socket says: it ends, and asks about no more than so many
// seats.
func FuzzWayland(f *testing.F) {
	var good bytes.Buffer
	say(&good, wlRegistry, registryGlobal, uint32(1), "wl_seat", uint32(9))
	say(&good, wlRegistry, registryGlobal, uint32(2), "ext_idle_notifier_v1", uint32(1))
	say(&good, wlFirstSync, 0, uint32(1))
	say(&good, wlOthers+2, notificationIdled)
	say(&good, wlRegistry, registryGlobalRemove, uint32(1))
	f.Add(good.Bytes())
	f.Add([]byte{1, 0, 0, 0, 0, 0, 4, 0})
	f.Fuzz(func(t *testing.T, b []byte) {
		near, far := net.Pipe()
		go func() { _, _ = io.Copy(io.Discard, far) }()
		defer near.Close()
		w := &wayland{conn: near, ready: make(chan struct{}), last: wlOthers - 1}
		if w.read(bytes.NewReader(b)) == nil || len(w.seats) > maxSeats {
			t.Errorf("%d seats", len(w.seats))
		}
	})
}
