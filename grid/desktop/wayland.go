package desktop

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"path/filepath"
	"strings"
	"sync"
	"time"
)

// Opcodes of the requests sent and the events heard, by interface. Sources: Wayland's
// wayland.xml, and ext-idle-notify-v1.xml of wayland-protocols.
const (
	displaySync, displayGetRegistry        = 0, 1
	displayError                           = 0
	registryBind                           = 0
	registryGlobal, registryGlobalRemove   = 0, 1
	notifierGetNotification                = 1
	notificationDestroy                    = 0
	notificationIdled, notificationResumed = 0, 1
)

// Objects whose numbers are fixed; others follow.
const (
	wlDisplay = 1 + iota
	wlRegistry
	wlFirstSync
	wlOthers
)

const (
	notifyAfter = time.Second // without input, until the compositor tells
	notifyGrace = notifyAfter / 2
	maxSeats    = 16
)

var (
	errNoNotifier = errors.New("the compositor does not tell whether its user is there")
	errWayland    = errors.New("not what a Wayland compositor says")
)

// wayland hears from a Wayland compositor, by ext-idle-notify-v1, when the users of
// its seats go away and come back. One goroutine reads, until close.
type wayland struct {
	conn  net.Conn
	ready chan struct{} // closed once the compositor has said what it has
	done  chan struct{} // closed when the reader has ended

	mu       sync.Mutex // guards what follows
	out      []byte     // requests to be sent
	last     uint32     // object made
	notifier uint32     // object, or 0
	seats    []seat
	heard    bool // whether it has ever told of anybody
	err      error
}

type seat struct {
	global, notification uint32 // notification is 0 until it is asked for
	since, idled         time.Time
}

// waylandSocket is where the compositor of an environment listens, or empty.
func waylandSocket(getenv func(string) string) string {
	name, dir := getenv("WAYLAND_DISPLAY"), getenv("XDG_RUNTIME_DIR")
	if name == "" || filepath.IsAbs(name) {
		return name
	}
	if dir == "" {
		return ""
	}
	return filepath.Join(dir, name)
}

// dialWayland connects to a compositor and waits until it has said what it has. An
// error of errNoNotifier says that one is there.
func dialWayland(ctx context.Context, socket string, answer time.Duration) (*wayland, error) {
	ctx, cancel := context.WithTimeout(ctx, answer)
	defer cancel()
	conn, err := new(net.Dialer).DialContext(ctx, "unix", socket)
	if err != nil {
		return nil, err
	}
	w := &wayland{conn: conn, ready: make(chan struct{}), done: make(chan struct{}), last: wlOthers - 1}
	go func() {
		defer close(w.done)
		err := w.read(bufio.NewReader(conn))
		w.mu.Lock()
		defer w.mu.Unlock()
		w.err = err
	}()
	w.mu.Lock()
	w.request(wlDisplay, displayGetRegistry, wlRegistry)
	w.request(wlDisplay, displaySync, wlFirstSync)
	err = w.send()
	w.mu.Unlock()
	if err == nil {
		err = w.await(ctx)
	}
	if err != nil {
		w.close()
		return nil, err
	}
	return w, nil
}

// await waits for the compositor's first words.
func (w *wayland) await(ctx context.Context) error {
	select {
	case <-w.ready:
	case <-w.done:
		return w.err
	case <-ctx.Done():
		return errNoDisplay
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.notifier == 0 {
		return errNoNotifier
	}
	return nil
}

func (w *wayland) close() {
	_ = w.conn.Close() // nothing is lost
	<-w.done
}

// idle is how long no seat has been used. Known is false until the compositor has had
// the time to tell, and where there is no seat.
func (w *wayland) idle(now time.Time) (idle time.Duration, known bool, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, s := range w.seats {
		if s.notification == 0 || !w.heard && now.Sub(s.since) < notifyAfter+notifyGrace {
			continue
		}
		var of time.Duration
		if !s.idled.IsZero() {
			of = notifyAfter + max(now.Sub(s.idled), 0)
		}
		if !known || of < idle {
			idle, known = of, true
		}
	}
	return idle, known, w.err
}

// request adds a request of numbers to what is sent. The lock is held.
func (w *wayland) request(object uint32, opcode uint32, args ...uint32) {
	w.out = appendWords(w.out, object, uint32(8+4*len(args))<<16|opcode)
	w.out = appendWords(w.out, args...)
}

// bind adds the request for a global of the registry, and returns its new object.
func (w *wayland) bind(global uint32, of string) uint32 {
	w.last++
	text := of + "\x00"
	text += strings.Repeat("\x00", -len(text)&3)
	w.out = appendWords(w.out, wlRegistry, uint32(8+4+4+len(text)+4+4)<<16|registryBind, global, uint32(len(of)+1))
	w.out = append(w.out, text...)
	w.out = appendWords(w.out, 1, w.last) // version
	return w.last
}

func appendWords(b []byte, words ...uint32) []byte {
	for _, v := range words {
		b = binary.NativeEndian.AppendUint32(b, v)
	}
	return b
}

// send writes the requests. The lock is held.
func (w *wayland) send() error {
	if len(w.out) == 0 {
		return nil
	}
	b := w.out
	w.out = nil
	if err := w.conn.SetWriteDeadline(time.Now().Add(answerTime)); err != nil {
		return err
	}
	_, err := w.conn.Write(b)
	return err
}

// read takes the compositor's events until one is wrong or the connection ends.
func (w *wayland) read(r io.Reader) error {
	var head [8]byte
	var body [1 << 16]byte
	for {
		if _, err := io.ReadFull(r, head[:]); err != nil {
			return err
		}
		object, word := binary.NativeEndian.Uint32(head[:4]), binary.NativeEndian.Uint32(head[4:])
		size := int(word >> 16)
		if size < len(head) || size%4 != 0 {
			return fmt.Errorf("an event of %d bytes: %w", size, errWayland)
		}
		args := body[:size-len(head)]
		if _, err := io.ReadFull(r, args); err != nil {
			return err
		}
		if err := w.hear(object, word&0xffff, event(args), time.Now()); err != nil {
			return err
		}
	}
}

// hear takes an event; those of objects that nobody asked for are not.
func (w *wayland) hear(object, opcode uint32, e event, now time.Time) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	switch {
	case object == wlDisplay && opcode == displayError:
		return fmt.Errorf("the compositor refuses a request: %w", errWayland)
	case object == wlFirstSync:
		select {
		case <-w.ready:
		default:
			close(w.ready)
		}
	case object == wlRegistry && opcode == registryGlobal:
		global, ok1 := e.number()
		name, ok2 := e.text()
		if !ok1 || !ok2 {
			return errWayland
		}
		w.global(global, name)
	case object == wlRegistry && opcode == registryGlobalRemove:
		global, ok := e.number()
		if !ok {
			return errWayland
		}
		w.globalGone(global)
	default:
		w.notify(object, opcode, now)
	}
	w.ask(now)
	return w.send()
}

// global takes what the compositor has.
func (w *wayland) global(global uint32, name string) {
	switch name {
	case "ext_idle_notifier_v1":
		if w.notifier == 0 {
			w.notifier = w.bind(global, name)
		}
	case "wl_seat":
		if len(w.seats) < maxSeats {
			w.seats = append(w.seats, seat{global: global})
		}
	}
}

func (w *wayland) globalGone(global uint32) {
	for i, s := range w.seats {
		if s.global == global {
			if s.notification != 0 {
				w.request(s.notification, notificationDestroy)
			}
			w.seats = append(w.seats[:i], w.seats[i+1:]...)
			return
		}
	}
}

// ask asks about the seats that it has not asked about.
func (w *wayland) ask(now time.Time) {
	for i := range w.seats {
		s := &w.seats[i]
		if s.notification != 0 || w.notifier == 0 {
			continue
		}
		object := w.bind(s.global, "wl_seat")
		w.last++
		s.notification, s.since = w.last, now
		w.request(w.notifier, notifierGetNotification, s.notification, uint32(notifyAfter/time.Millisecond), object)
	}
}

// notify takes word of a seat's user.
func (w *wayland) notify(object, opcode uint32, now time.Time) {
	for i := range w.seats {
		s := &w.seats[i]
		switch {
		case s.notification != object:
		case opcode == notificationIdled:
			s.idled, w.heard = now, true
		case opcode == notificationResumed:
			s.idled, w.heard = time.Time{}, true
		}
	}
}

// event is what is left of an event's arguments.
type event []byte

func (e *event) number() (n uint32, ok bool) {
	if len(*e) < 4 {
		return 0, false
	}
	n = binary.NativeEndian.Uint32(*e)
	*e = (*e)[4:]
	return n, true
}

func (e *event) text() (s string, ok bool) {
	n, ok := e.number()
	if !ok || n == 0 || uint64(n) > uint64(len(*e)) {
		return "", false
	}
	s = string((*e)[:n-1]) // a zero ends it
	*e = (*e)[min(int(n+3)&^3, len(*e)):]
	return s, true
}
