// Package desktop speaks with the desktop of the user in whose session the process
// runs: whether somebody is there, notifications, and what is started at log-in.
//
// Whether somebody is there is asked of the first of these that answers:
//
//	GNOME        org.gnome.Mutter.IdleMonitor at the session's D-Bus, on X11 and Wayland
//	Wayland      ext-idle-notify-v1 of the compositor: KDE, Sway and most others
//	KDE, others  org.freedesktop.ScreenSaver at D-Bus, GetSessionIdleTime
//	X11          the screen saver extension of the display
//
// and whether the session is locked of the two screen savers' GetActive. Wayland goes
// before the screen saver, since KDE's knows no times there and says 0; and the X server within
// a Wayland session is never asked: it sees the input of X11's programs alone. Other
// desktops tell logind at best, which the node asks itself. A Session may be used by
// one goroutine at a time.
package desktop

import (
	"context"
	"errors"
	"time"

	"github.com/godbus/dbus/v5"
	"github.com/jezek/xgb"
	"github.com/jezek/xgb/screensaver"
	"github.com/jezek/xgb/xproto"
)

const (
	answerTime = 300 * time.Millisecond // a service that has not answered by then is not there
	retryTime  = 10 * time.Second       // between attempts to reach what could not be
)

var errNoDisplay = errors.New("no display")

// Use is what a desktop says of its user.
type Use struct {
	Source string // what says it, for people
	Idle   time.Duration
	Locked bool
}

// Session is the desktop of this process's user.
type Session struct {
	id      string
	display string // of X11, or empty
	socket  string // of Wayland, or empty
	dial    func() (*dbus.Conn, error)
	answer  time.Duration // answerTime, but for tests

	bus     *dbus.Conn
	busNext time.Time
	x       *xgb.Conn
	xNext   time.Time
	saver   saverClock

	wl      *wayland
	wlNext  time.Time
	wlThere bool // a compositor is there, whatever it can tell
}

// Open makes the Session of an environment, whose DISPLAY, WAYLAND_DISPLAY,
// XDG_RUNTIME_DIR and XDG_SESSION_ID count. Nothing need be there yet.
func Open(getenv func(name string) string) *Session {
	return &Session{
		id: getenv("XDG_SESSION_ID"), display: getenv("DISPLAY"), socket: waylandSocket(getenv),
		dial: func() (*dbus.Conn, error) { return dbus.ConnectSessionBus() }, answer: answerTime,
	}
}

// Close gives back what the session has opened.
func (s *Session) Close() {
	if s.bus != nil {
		_ = s.bus.Close() // nothing was under way
	}
	if s.x != nil {
		s.x.Close()
	}
	if s.wl != nil {
		s.wl.close()
	}
}

// ID is logind's name of the session, or empty.
func (s *Session) ID() string { return s.id }

// Bus is the session's D-Bus, or nil while it cannot be reached. It is the
// session's: who asks does not close it.
func (s *Session) Bus() *dbus.Conn {
	if s.bus != nil && s.bus.Connected() {
		return s.bus
	}
	now := time.Now()
	if now.Before(s.busNext) {
		return nil
	}
	s.busNext = now.Add(retryTime)
	bus, err := s.dial()
	if err != nil {
		return nil
	}
	s.bus = bus
	return bus
}

// Use asks the desktop; ok is false where nothing can tell.
func (s *Session) Use(ctx context.Context) (u Use, ok bool) {
	var ms uint64
	var n uint32
	now := time.Now()
	switch {
	case s.call(ctx, "org.gnome.Mutter.IdleMonitor", "/org/gnome/Mutter/IdleMonitor/Core", "org.gnome.Mutter.IdleMonitor.GetIdletime", &ms):
		u = Use{Source: "GNOME", Idle: time.Duration(min(ms, 1<<40)) * time.Millisecond}
	case s.wlIdle(ctx, now, &u.Idle):
		u.Source = "Wayland"
	case s.call(ctx, "org.freedesktop.ScreenSaver", "/org/freedesktop/ScreenSaver", "org.freedesktop.ScreenSaver.GetSessionIdleTime", &n):
		u = Use{Source: "the screen saver", Idle: s.saver.idle(now, n)}
	default:
		idle, err := s.xIdle(now)
		if err != nil {
			return u, false
		}
		u = Use{Source: "X11", Idle: idle}
	}
	u.Locked = s.locked(ctx)
	return u, true
}

func (s *Session) locked(ctx context.Context) (yes bool) {
	return s.call(ctx, "org.freedesktop.ScreenSaver", "/org/freedesktop/ScreenSaver", "org.freedesktop.ScreenSaver.GetActive", &yes) && yes ||
		s.call(ctx, "org.gnome.ScreenSaver", "/org/gnome/ScreenSaver", "org.gnome.ScreenSaver.GetActive", &yes) && yes
}

// call asks a service that runs already, and reports whether it answered.
func (s *Session) call(ctx context.Context, service string, path dbus.ObjectPath, method string, answer any) bool {
	bus := s.Bus()
	if bus == nil {
		return false
	}
	ctx, cancel := context.WithTimeout(ctx, s.answer)
	defer cancel()
	return bus.Object(service, path).CallWithContext(ctx, method, dbus.FlagNoAutoStart).Store(answer) == nil
}

// saverClock finds out what GetSessionIdleTime counts in: the specification says
// seconds, KDE gives milliseconds. Until two answers have shown that they pass with
// the seconds, they are taken for milliseconds: a user is rather thought to be there.
type saverClock struct {
	at      time.Time
	value   uint32
	seconds bool
}

func (c *saverClock) idle(now time.Time, n uint32) time.Duration {
	if passed := now.Sub(c.at); !c.at.IsZero() && n >= c.value && passed >= 5*time.Second {
		c.seconds = n > c.value && float64(n-c.value) < 100*passed.Seconds()
		c.at, c.value = now, n
	} else if c.at.IsZero() || n < c.value { // somebody came back
		c.at, c.value = now, n
	}
	if c.seconds {
		return time.Duration(n) * time.Second
	}
	return time.Duration(n) * time.Millisecond
}

// wlIdle asks the Wayland compositor, and reports whether it knows.
func (s *Session) wlIdle(ctx context.Context, now time.Time, idle *time.Duration) (known bool) {
	if s.wl == nil {
		if s.socket == "" || now.Before(s.wlNext) {
			return false
		}
		s.wlNext = now.Add(retryTime)
		wl, err := dialWayland(ctx, s.socket, s.answer)
		s.wlThere = err == nil || errors.Is(err, errNoNotifier)
		if err != nil {
			return false
		}
		s.wl = wl
	}
	var err error
	if *idle, known, err = s.wl.idle(now); err != nil {
		s.wl.close()
		s.wl, known = nil, false
	}
	return known
}

// xIdle asks the screen saver extension of the X server.
func (s *Session) xIdle(now time.Time) (time.Duration, error) {
	if s.wlThere {
		return 0, errNoDisplay
	}
	if s.x == nil {
		if s.display == "" || now.Before(s.xNext) {
			return 0, errNoDisplay
		}
		s.xNext = now.Add(retryTime)
		x, err := xgb.NewConnDisplay(s.display)
		if err != nil {
			return 0, err
		}
		if err := screensaver.Init(x); err != nil {
			x.Close()
			return 0, err
		}
		s.x = x
	}
	root := xproto.Setup(s.x).DefaultScreen(s.x).Root
	info, err := screensaver.QueryInfo(s.x, xproto.Drawable(root)).Reply()
	if err != nil {
		s.x.Close()
		s.x = nil
		return 0, err
	}
	return time.Duration(info.MsSinceUserInput) * time.Millisecond, nil
}

// Notify shows the user a message, and reports whether a desktop took it. Icon is
// a file or the name of a theme's icon.
func (s *Session) Notify(ctx context.Context, icon, title, text string) bool {
	bus := s.Bus()
	if bus == nil {
		return false
	}
	ctx, cancel := context.WithTimeout(ctx, 10*answerTime)
	defer cancel()
	const service = "org.freedesktop.Notifications"
	return bus.Object(service, "/org/freedesktop/Notifications").CallWithContext(ctx, service+".Notify", 0,
		"Talka", uint32(0), icon, title, text, []string{}, map[string]dbus.Variant{}, int32(-1)).Err == nil
}

// HasTray reports whether the desktop has a place for tray icons.
func (s *Session) HasTray(ctx context.Context) bool {
	var there bool
	bus := s.Bus()
	if bus == nil {
		return false
	}
	ctx, cancel := context.WithTimeout(ctx, 10*answerTime) // it is asked once
	defer cancel()
	err := bus.BusObject().CallWithContext(ctx, "org.freedesktop.DBus.NameHasOwner", 0, "org.kde.StatusNotifierWatcher").Store(&there)
	return err == nil && there
}
