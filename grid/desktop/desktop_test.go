package desktop

import (
	"encoding/xml"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/godbus/dbus/v5"
	"github.com/jezek/xgb"
	"github.com/jezek/xgb/xproto"
	"github.com/jezek/xgb/xtest"

	"github.com/talka-grid/talka/grid/desktop/bustest"
)

// mutter is GNOME's idle monitor, as the test sets it.
type mutter struct {
	mu sync.Mutex
	ms uint64
}

func (m *mutter) GetIdletime() (uint64, *dbus.Error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.ms, nil
}

// saver is a screen saver.
type saver struct {
	n      uint32
	active bool
}

func (s saver) GetSessionIdleTime() (uint32, *dbus.Error) { return s.n, nil }
func (s saver) GetActive() (bool, *dbus.Error)            { return s.active, nil }

// notices is a desktop's notification service.
type notices chan string

func (n notices) Notify(app string, _ uint32, icon, title, text string, _ []string, _ map[string]dbus.Variant, _ int32) (uint32, *dbus.Error) {
	n <- strings.Join([]string{app, icon, title, text}, "|")
	return 1, nil
}

func export(t *testing.T, conn *dbus.Conn, v any, path dbus.ObjectPath, iface string) {
	t.Helper()
	if err := conn.Export(v, path, iface); err != nil {
		t.Fatal(err)
	}
}

// at makes a session at a bus.
func at(t *testing.T, address, display string) *Session {
	s := in(t, map[string]string{"DISPLAY": display})
	s.dial = func() (*dbus.Conn, error) { return dbus.Connect(address) }
	t.Cleanup(s.Close)
	return s
}

func TestSources(t *testing.T) {
	t.Parallel()
	address := bustest.Bus(t)
	s := at(t, address, "")
	if u, ok := s.Use(t.Context()); ok {
		t.Errorf("nobody there says %+v", u)
	}
	if s.HasTray(t.Context()) || s.Notify(t.Context(), "", "", "") {
		t.Error("a bus alone has a tray, or shows notifications")
	}
	kde := bustest.Dial(t, address, "org.freedesktop.ScreenSaver")
	export(t, kde, saver{n: 65_000}, "/org/freedesktop/ScreenSaver", "org.freedesktop.ScreenSaver")
	if u, ok := s.Use(t.Context()); !ok || u != (Use{Source: "the screen saver", Idle: 65 * time.Second}) {
		t.Errorf("a screen saver: %+v, %v", u, ok)
	}
	export(t, kde, saver{n: 65_000, active: true}, "/org/freedesktop/ScreenSaver", "org.freedesktop.ScreenSaver")
	if u, _ := s.Use(t.Context()); !u.Locked {
		t.Errorf("locked: %+v", u)
	}
	gnome := bustest.Dial(t, address, "org.gnome.Mutter.IdleMonitor", "org.kde.StatusNotifierWatcher", "org.freedesktop.Notifications")
	export(t, gnome, &mutter{ms: 1500}, "/org/gnome/Mutter/IdleMonitor/Core", "org.gnome.Mutter.IdleMonitor")
	if u, ok := s.Use(t.Context()); !ok || u.Source != "GNOME" || u.Idle != 1500*time.Millisecond {
		t.Errorf("GNOME: %+v, %v", u, ok)
	}
	shown := make(notices, 1)
	export(t, gnome, shown, "/org/freedesktop/Notifications", "org.freedesktop.Notifications")
	if !s.HasTray(t.Context()) || !s.Notify(t.Context(), "icon", "title", "text") || <-shown != "Talka|icon|title|text" {
		t.Error("no tray, or no notification")
	}
}

// TestSaverClock: what a screen saver counts in shows after five seconds without
// input, and until then its user is rather there.
func TestSaverClock(t *testing.T) {
	t.Parallel()
	began := time.Unix(1000, 0)
	for name, perSecond := range map[string]uint32{"seconds": 1, "milliseconds": 1000} {
		var c saverClock
		for _, step := range []struct {
			at, idle time.Duration // since the last input
			known    bool
		}{{2 * time.Second, 2 * time.Second, false}, {8 * time.Second, 8 * time.Second, true}, {9 * time.Second, 0, true}, {200 * time.Second, 191 * time.Second, true}} {
			got := c.idle(began.Add(step.at), uint32(step.idle.Seconds())*perSecond)
			want := step.idle
			if !step.known && perSecond == 1 {
				want = step.idle / 1000
			}
			if got != want {
				t.Errorf("%s after %v: %v, want %v", name, step.at, got, want)
			}
		}
	}
}

// TestX11 looks at a real X server while a real key is pressed.
func TestX11(t *testing.T) {
	t.Parallel()
	display := bustest.Display(t)
	s := in(t, map[string]string{"DISPLAY": display})
	s.dial = func() (*dbus.Conn, error) { return nil, errNoDisplay } // no bus
	defer s.Close()
	x, err := xgb.NewConnDisplay(display)
	if err != nil {
		t.Fatal(err)
	}
	defer x.Close()
	if err := xtest.Init(x); err != nil {
		t.Fatal(err)
	}
	key := func() {
		for _, kind := range []byte{xproto.KeyPress, xproto.KeyRelease} {
			if err := xtest.FakeInputChecked(x, kind, 38, 0, 0, 0, 0, 0).Check(); err != nil {
				t.Fatal(err)
			}
		}
	}
	key()
	var before Use
	for before.Idle < 50*time.Millisecond { // it passes by itself
		var ok bool
		if before, ok = s.Use(t.Context()); !ok || before.Source != "X11" {
			t.Fatalf("%+v, %v", before, ok)
		}
	}
	for began := time.Now(); ; { // whoever asks late is told a long time
		key()
		after, _ := s.Use(t.Context())
		if after.Idle < before.Idle {
			break
		}
		if time.Since(began) > 20*time.Second {
			t.Fatalf("after a key %v, before it %v", after.Idle, before.Idle)
		}
	}
}

func TestAutostart(t *testing.T) {
	t.Parallel()
	argv := []string{`/opt/my "apps"/100% $HOME\talka`, "--dir", "/home/me & you", "tray"}
	for goos, want := range map[string]struct{ path, text string }{
		"linux":  {"/config/autostart/talka.desktop", `Exec="/opt/my \\"apps\\"/100%% \\$HOME\\\\talka" "--dir" "/home/me & you" "tray"` + "\n"},
		"darwin": {"/home/Library/LaunchAgents/io.github.talka-grid.tray.plist", "<string>/home/me &amp; you</string>\n"},
	} {
		a, err := AutostartOf(goos, "/home", "/config", argv)
		if err != nil || filepath.ToSlash(a.Path) != want.path || !strings.Contains(a.Text, want.text) {
			t.Errorf("%s: %v\n%s\n%s", goos, err, a.Path, a.Text)
		}
		if goos == "darwin" && xml.Unmarshal([]byte(a.Text), new(struct{ XMLName xml.Name })) != nil {
			t.Errorf("no XML: %s", a.Text)
		}
	}
	a, err := AutostartOf("windows", "", "/appdata", []string{`C:\Program Files\talka.exe`, "tray"})
	if err != nil || a.Text != "@start \"Talka\" /min \"C:\\Program Files\\talka.exe\" \"tray\"\r\n" {
		t.Errorf("%v %q", err, a.Text)
	}
	for goos, arg := range map[string]string{"linux": "a\nExec=evil", "windows": `a" & evil`} {
		if a, err := AutostartOf(goos, "", "", []string{arg}); err == nil {
			t.Errorf("%s: %q became %q", goos, arg, a.Text)
		}
	}
}
