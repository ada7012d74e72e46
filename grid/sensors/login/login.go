// Package login asks logind, over the system's D-Bus, who uses the machine, and
// hears from it before the machine sleeps or is switched off.
//
// Where there is no logind, nothing is known and nothing happens; a bus that went
// away is tried again. A Bus may be used from any goroutine.
package login

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/godbus/dbus/v5"

	"github.com/talka-grid/talka/grid/volunteer/policy"
)

const (
	answerTime  = 200 * time.Millisecond // a service that has not answered by then is unknown
	retryTime   = 30 * time.Second       // between attempts to reach the bus
	inhibitTime = 5 * time.Second        // logind's own limit on delays, by default
	maxSessions = 64                     // that are asked about

	service      = "org.freedesktop.login1"
	managerPath  = dbus.ObjectPath("/org/freedesktop/login1")
	managerIface = service + ".Manager"
	sessionIface = service + ".Session"
)

// Bus is the system's D-Bus. Make it with New.
type Bus struct {
	dial   func() (*dbus.Conn, error)
	answer time.Duration // answerTime, but for tests

	mu   sync.Mutex
	conn *dbus.Conn
	next time.Time // of an attempt
}

// New makes a Bus that connects when it is asked.
func New() *Bus {
	return &Bus{dial: func() (*dbus.Conn, error) { return dbus.ConnectSystemBus() }, answer: answerTime}
}

// Close gives back the connection.
func (b *Bus) Close() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.next = time.Now().Add(100 * 365 * 24 * time.Hour)
	if b.conn == nil {
		return nil
	}
	return b.conn.Close()
}

// connected reaches for the bus now and then; nil if it is not there.
func (b *Bus) connected() *dbus.Conn {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.conn != nil && b.conn.Connected() {
		return b.conn
	}
	b.conn = nil
	now := time.Now()
	if now.Before(b.next) {
		return nil
	}
	b.next = now.Add(retryTime)
	conn, err := b.dial()
	if err != nil {
		return nil
	}
	b.conn = conn
	return conn
}

// call calls a method of a service that runs already and stores its answer.
func (b *Bus) call(ctx context.Context, to string, path dbus.ObjectPath, method string, args []any, answer ...any) error {
	conn := b.connected()
	if conn == nil {
		return errNoBus
	}
	ctx, cancel := context.WithTimeout(ctx, b.answer)
	defer cancel()
	return conn.Object(to, path).CallWithContext(ctx, method, dbus.FlagNoAutoStart, args...).Store(answer...)
}

var errNoBus = errors.New("the system's bus cannot be reached")

// Property reads a property of a service of the system into to, and reports
// whether it was told.
func (b *Bus) Property(ctx context.Context, service, path, iface, name string, to any) bool {
	var v dbus.Variant
	err := b.call(ctx, service, dbus.ObjectPath(path), "org.freedesktop.DBus.Properties.Get", []any{iface, name}, &v)
	return err == nil && v.Store(to) == nil
}

// session is one of logind's list: sd_bus signature (susso).
type session struct {
	ID   string
	UID  uint32
	User string
	Seat string
	Path dbus.ObjectPath
}

// Sessions are people's sessions at desktops and terminals, from afar too. Without
// any, one stands for the machine that nobody uses; none are returned only if
// logind cannot be asked.
func (b *Bus) Sessions(ctx context.Context) (list []policy.Session) {
	var all []session
	if b.call(ctx, service, managerPath, managerIface+".ListSessions", nil, &all) != nil {
		return nil
	}
	now := time.Now()
	for _, s := range all[:min(len(all), maxSessions)] {
		var p map[string]dbus.Variant
		if b.call(ctx, service, s.Path, "org.freedesktop.DBus.Properties.GetAll", []any{sessionIface}, &p) != nil {
			continue // it has just ended
		}
		if u, ok := readSession(s.ID, p, now); ok {
			list = append(list, u)
		}
	}
	if len(list) == 0 {
		list = append(list, policy.Session{Source: "logind", Idle: 24 * time.Hour})
	}
	return list
}

// readSession reads a session's properties; ok is false for one that nobody can sit
// at: a log-in screen, a timer's job, one that ends.
func readSession(id string, p map[string]dbus.Variant, now time.Time) (u policy.Session, ok bool) {
	class, kind, state := value[string](p, "Class"), value[string](p, "Type"), value[string](p, "State")
	if class != "user" || state == "closing" {
		return u, false
	}
	u = policy.Session{ID: id, Locked: value[bool](p, "LockedHint"), Remote: value[bool](p, "Remote")}
	switch kind {
	case "x11", "wayland", "mir":
		u.Desktop = true
		u.Source = "logind, a desktop"
	case "tty":
		u.Source = "logind, a terminal"
	default:
		return u, false
	}
	if u.Remote {
		u.Source += " from afar"
	}
	if value[bool](p, "IdleHint") {
		// In microseconds since 1970.
		u.Idle = max(now.Sub(time.UnixMicro(int64(min(value[uint64](p, "IdleSinceHint"), 1<<62)))), 0)
	}
	return u, true
}

// value is a property of that type, or nothing.
func value[T any](p map[string]dbus.Variant, name string) (v T) {
	v, _ = p[name].Value().(T)
	return v
}

// Watcher is told what the machine is about to do, on one goroutine. The machine
// waits for a few seconds until Sleep, or Off, has returned.
type Watcher struct {
	Sleep func() // it goes to sleep
	Wake  func() // it has woken up
	Off   func() // it is switched off or restarts
}

// Watch tells w of the machine's sleep and end until ctx ends.
func (b *Bus) Watch(ctx context.Context, w Watcher, log *slog.Logger) {
	for ctx.Err() == nil {
		if conn := b.connected(); conn != nil {
			if err := watch(ctx, conn, w); err != nil && ctx.Err() == nil {
				log.Debug("logind does not say when the machine sleeps", "err", err)
			}
		}
		select {
		case <-time.After(retryTime):
		case <-ctx.Done():
		}
	}
}

// watch is Watch for one connection.
func watch(ctx context.Context, conn *dbus.Conn, w Watcher) error {
	match := []dbus.MatchOption{dbus.WithMatchSender(service), dbus.WithMatchInterface(managerIface), dbus.WithMatchObjectPath(managerPath)}
	if err := conn.AddMatchSignalContext(ctx, match...); err != nil {
		return err
	}
	signals := make(chan *dbus.Signal, 16)
	conn.Signal(signals)
	defer conn.RemoveSignal(signals)
	hold, err := inhibit(ctx, conn)
	if err != nil {
		return err
	}
	defer func() { hold.release() }()
	for {
		var s *dbus.Signal
		select {
		case s = <-signals:
		case <-ctx.Done():
			return nil
		}
		if s == nil {
			return errNoBus
		}
		if len(s.Body) != 1 || s.Path != managerPath {
			continue
		}
		begins, ok := s.Body[0].(bool)
		switch {
		case !ok:
		case s.Name == managerIface+".PrepareForSleep" && begins:
			w.Sleep()
			hold.release()
		case s.Name == managerIface+".PrepareForSleep":
			w.Wake()
			if hold, err = inhibit(ctx, conn); err != nil {
				return err
			}
		case s.Name == managerIface+".PrepareForShutdown" && begins:
			w.Off()
			hold.release()
		}
	}
}

// lock delays sleep and end of the machine as long as it is open.
type lock dbus.UnixFD

// inhibit takes a lock.
func inhibit(ctx context.Context, conn *dbus.Conn) (lock, error) {
	ctx, cancel := context.WithTimeout(ctx, inhibitTime)
	defer cancel()
	var fd dbus.UnixFD
	err := conn.Object(service, managerPath).CallWithContext(ctx, managerIface+".Inhibit", dbus.FlagNoAutoStart,
		"sleep:shutdown", "Talka", "Units are put to rest", "delay").Store(&fd)
	if err != nil {
		return noLock, err
	}
	return lock(fd), nil
}

const noLock lock = -1

// release may be called again.
func (l *lock) release() {
	if *l != noLock {
		closeFD(int(*l))
		*l = noLock
	}
}
