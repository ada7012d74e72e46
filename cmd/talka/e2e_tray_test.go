//go:build e2e && linux

package main

import (
	"context"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/godbus/dbus/v5"
	"github.com/jezek/xgb"
	"github.com/jezek/xgb/xproto"
	"github.com/jezek/xgb/xtest"

	"github.com/talka-grid/talka/grid"
	"github.com/talka-grid/talka/grid/api"
	"github.com/talka-grid/talka/grid/desktop/bustest"
)

// testDesktop is what a desktop has at its D-Bus: a tray, an idle monitor, a screen
// saver and notifications.
type testDesktop struct {
	conn  *dbus.Conn
	items chan dbus.Sender
	shown chan string

	mu     sync.Mutex
	idle   uint64 // milliseconds
	locked bool
}

func newTestDesktop(t *testing.T, address string) *testDesktop {
	d := &testDesktop{items: make(chan dbus.Sender, 8), shown: make(chan string, 8), idle: 3600_000}
	d.conn = bustest.Dial(t, address)
	for path, iface := range map[dbus.ObjectPath]string{
		"/StatusNotifierWatcher": "org.kde.StatusNotifierWatcher", "/org/gnome/Mutter/IdleMonitor/Core": "org.gnome.Mutter.IdleMonitor",
		"/org/freedesktop/Notifications": "org.freedesktop.Notifications", "/org/freedesktop/ScreenSaver": "org.freedesktop.ScreenSaver",
	} {
		if err := d.conn.Export(d, path, iface); err != nil {
			t.Fatal(err)
		}
		if _, err := d.conn.RequestName(iface, 0); err != nil {
			t.Fatal(err)
		}
	}
	return d
}

func (d *testDesktop) RegisterStatusNotifierItem(_ string, from dbus.Sender) *dbus.Error {
	d.items <- from
	return nil
}

func (d *testDesktop) GetIdletime() (uint64, *dbus.Error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.idle, nil
}

func (d *testDesktop) GetActive() (bool, *dbus.Error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.locked, nil
}

func (d *testDesktop) Notify(_ string, _ uint32, _, _, text string, _ []string, _ map[string]dbus.Variant, _ int32) (uint32, *dbus.Error) {
	d.shown <- text
	return 1, nil
}

func (d *testDesktop) set(idle uint64, locked bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.idle, d.locked = idle, locked
}

// layout is com.canonical.dbusmenu's: (ia{sv}av).
type layout struct {
	ID       int32
	Props    map[string]dbus.Variant
	Children []dbus.Variant
}

// menuOf is what an item's menu shows: ids by label.
func (d *testDesktop) menuOf(t *testing.T, item string) map[string]int32 {
	t.Helper()
	var revision uint32
	var root layout
	err := d.conn.Object(item, "/StatusNotifierItem/menu").Call("com.canonical.dbusmenu.GetLayout", 0, int32(0), int32(-1), []string{}).Store(&revision, &root)
	if err != nil {
		t.Fatal(err)
	}
	shown := map[string]int32{}
	var walk func(l layout)
	walk = func(l layout) {
		if v, ok := l.Props["visible"].Value().(bool); ok && !v {
			return
		}
		if label, ok := l.Props["label"].Value().(string); ok && label != "" {
			shown[label] = l.ID
		}
		for _, c := range l.Children {
			var child layout
			if err := dbus.Store([]any{c.Value()}, &child); err != nil {
				t.Fatal(err)
			}
			walk(child)
		}
	}
	walk(root)
	return shown
}

func (d *testDesktop) click(t *testing.T, item, label string) {
	t.Helper()
	var id int32
	eventually(t, "the menu has "+label, func() (ok bool) { id, ok = d.menuOf(t, item)[label]; return ok })
	if err := d.conn.Object(item, "/StatusNotifierItem/menu").Call("com.canonical.dbusmenu.Event", 0, id, "clicked", dbus.MakeVariant(0), uint32(0)).Err; err != nil {
		t.Fatal(err)
	}
}

// told waits for the next notification.
func (d *testDesktop) told(t *testing.T) string {
	t.Helper()
	select {
	case text := <-d.shown:
		return text
	case <-time.After(2 * time.Minute):
		t.Fatal("nothing is shown within two minutes")
		return ""
	}
}

// item waits for the tray's icon and names who shows it.
func (d *testDesktop) item(t *testing.T) string {
	t.Helper()
	select {
	case name := <-d.items:
		return string(name)
	case <-time.After(time.Minute):
		t.Fatal("no tray icon within a minute")
		return ""
	}
}

func (d *testDesktop) property(t *testing.T, item, name string) dbus.Variant {
	t.Helper()
	v, err := d.conn.Object(item, "/StatusNotifierItem").GetProperty("org.kde.StatusNotifierItem." + name)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// startTray runs the tray of a directory with these variables until the test ends,
// and returns its first line.
func startTray(t *testing.T, dir string, env ...string) (cmd *exec.Cmd, hasTray bool) {
	t.Helper()
	cmd = exec.Command(testBinary(t), "--dir", dir, "--json", "tray")
	cmd.Env = testEnv(append(env,
		"TALKA_NETWORK=tray-"+filepath.Base(filepath.Dir(dir)), "TALKA_LISTEN=/ip4/127.0.0.1/udp/0/quic-v1", "TALKA_PRESET=balanced", "TALKA_IN_USE_PROCESSORS=0")...)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		_ = cmd.Wait()
	})
	var first struct{ Tray bool }
	if err := json.NewDecoder(out).Decode(&first); err != nil {
		t.Fatalf("the tray says nothing: %v", err)
	}
	return cmd, first.Tray
}

// eventually waits until cond holds, and returns how long that took.
func eventually(t *testing.T, what string, cond func() bool) time.Duration {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	began := time.Now()
	if err := poll(ctx, func() (bool, error) { return cond(), nil }); err != nil {
		t.Fatalf("not within a minute: %s", what)
	}
	return time.Since(began)
}

// TestTray is a user's session with a tray: it starts a node, pauses and resumes it
// from the menu, tells it when somebody is there, says when it has died, and ends it.
func TestTray(t *testing.T) {
	t.Parallel()
	address := bustest.Bus(t)
	d := newTestDesktop(t, address)
	dir := filepath.Join(t.TempDir(), "data")
	cmd, hasTray := startTray(t, dir, "DBUS_SESSION_BUS_ADDRESS="+address, "DISPLAY=", "WAYLAND_DISPLAY=", "LANG=C")
	if !hasTray {
		t.Error("the tray does not see the desktop's")
	}
	item := d.item(t)
	c := api.NewClient(dir)
	defer c.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	why := func() (w grid.Why) { w, _ = c.Why(ctx); return w }
	eventually(t, "the desktop tells the node", func() bool { return why().Source == "GNOME" })
	if why().InUse {
		t.Error("in use, with nobody there for an hour")
	}
	tip := func() string { s, _ := d.property(t, item, "ToolTip").Value().([]any); return s[2].(string) }
	eventually(t, "it waits", func() bool { return strings.HasPrefix(tip(), "Waiting: ") })
	waiting := d.property(t, item, "IconPixmap").String()

	d.click(t, item, "For 2 hours")
	eventually(t, "it pauses", func() bool { return strings.HasPrefix(tip(), "Paused: by you") })
	if d.property(t, item, "IconPixmap").String() == waiting {
		t.Error("the icon is the same while it is paused")
	}
	if st, err := c.Status(ctx); err != nil || st.State != grid.StatePaused {
		t.Errorf("%+v, %v", st, err)
	}
	d.click(t, item, "Resume")
	eventually(t, "it goes on", func() bool { st, err := c.Status(ctx); return err == nil && st.State == grid.StateIdle })

	d.click(t, item, "When running units have saved") // none runs
	eventually(t, "it pauses again", func() bool { return strings.HasPrefix(tip(), "Paused: by you") })
	d.click(t, item, "Resume")
	eventually(t, "it goes on again", func() bool { st, err := c.Status(ctx); return err == nil && st.State == grid.StateIdle })

	var took []time.Duration
	for len(took) < 5 && (len(took) == 0 || slices.Min(took) > 2*time.Second) { // a machine that does something else is asked again
		d.set(3600_000, false)
		eventually(t, "nobody is there", func() bool { w := why(); return w.Source == "GNOME" && !w.InUse })
		d.set(0, false)
		took = append(took, eventually(t, "somebody is there", func() bool { return why().InUse }))
	}
	t.Logf("the node knew of a user who came back after %v", took)
	if slices.Min(took) > 2*time.Second { // a second on a machine that has one to spare
		t.Errorf("a user who came back waited %v", took)
	}
	d.set(0, true)
	eventually(t, "the session is locked", func() bool { w := why(); return !w.InUse && strings.HasSuffix(w.Source, "locked") })

	// The node dies; its user is told, and starts it again.
	killNode(t, dir)
	if text := d.told(t); !strings.Contains(text, "has stopped") {
		t.Errorf("shown: %q", text)
	}
	d.click(t, item, "Start")
	eventually(t, "it is there again", func() bool { _, err := c.Status(ctx); return err == nil })
	eventually(t, "the menu offers Pause", func() bool { _, ok := d.menuOf(t, item)["Until tomorrow"]; return ok })
	d.click(t, item, "Quit")
	if err := cmd.Wait(); err != nil {
		t.Errorf("the tray ends with %v", err)
	}
	if _, err := c.Status(ctx); err == nil {
		t.Error("the node that the tray started lives on")
	}
	if len(d.shown) != 0 {
		t.Errorf("more than what must be known was shown: %q", <-d.shown)
	}
}

// TestTrayTellsOfNoStart: a node that cannot start is told of, with where its reason
// stands, and can be tried again.
func TestTrayTellsOfNoStart(t *testing.T) {
	t.Parallel()
	address := bustest.Bus(t)
	d := newTestDesktop(t, address)
	dir := filepath.Join(t.TempDir(), "data")
	startTray(t, dir, "DBUS_SESSION_BUS_ADDRESS="+address, "DISPLAY=", "WAYLAND_DISPLAY=", "LANG=C", "TALKA_LOG_LEVEL=loud")
	item := d.item(t)
	log := filepath.Join(dir, trayLog)
	told := func() {
		t.Helper()
		if text := d.told(t); text != "Talka could not start. Why stands in "+log {
			t.Errorf("shown: %q", text)
		}
	}
	told()
	if raw, err := os.ReadFile(log); err != nil || !strings.Contains(string(raw), "log.level") {
		t.Errorf("the log says %q, %v", raw, err)
	}
	d.click(t, item, "Start")
	told()
}

// TestTrayTellsOfWrongResults: who runs a machine whose results are wrong is told so,
// once, by its own tray, though the node is nobody's steward.
func TestTrayTellsOfWrongResults(t *testing.T) {
	const units = 30
	g := newTestGrid(t, 3*time.Minute)
	address := bustest.Bus(t)
	d := newTestDesktop(t, address)
	p := g.up("p", "--seed")
	project := g.project(p, "atoms")
	flags := []string{"--join", g.invite(p), "--trust", project, "--steward=false"}
	l := g.spoiled("l", append(flags, "--test-lie=1")...)
	g.meet(p, l)
	startTray(t, l.dir, "DBUS_SESSION_BUS_ADDRESS="+address, "DISPLAY=", "WAYLAND_DISPLAY=", "LANG=C")
	item := d.item(t)
	d.set(3600_000, false)
	eventually(t, "the tray sees the node", func() bool { _, ok := d.menuOf(t, item)["Until tomorrow"]; return ok })
	id := g.submit(p, "atoms", g.ljJob(units, 4, "audit")) // the publisher's copies decide
	if text := d.told(t); text != trayTextOf("C").wrong {
		t.Errorf("shown: %q", text)
	}
	g.until("the job is done", func() bool { return g.job(p, id).Settled })
	if lies, err := os.ReadFile(filepath.Join(l.dir, "lies")); err != nil || strings.Count(string(lies), "\n") < 2 {
		t.Errorf("it lied about one unit at most: once shows nothing; %q, %v", lies, err)
	}
	// What comes next is about something else: it was told once.
	l.kill()
	if text := d.told(t); !strings.Contains(text, "has stopped") {
		t.Errorf("shown next: %q", text)
	}
}

// killNode kills the node of a directory, whose lock names it.
func killNode(t *testing.T, dir string) {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join(dir, lockName))
	if err != nil {
		t.Fatal(err)
	}
	var pid int
	if err := json.Unmarshal(raw, &pid); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
}

// TestTrayWithoutTray has neither D-Bus nor tray: the rest goes on, with what the X
// server knows of a real key.
func TestTrayWithoutTray(t *testing.T) {
	t.Parallel()
	display := bustest.Display(t)
	x, err := xgb.NewConnDisplay(display)
	if err != nil {
		t.Fatal(err)
	}
	defer x.Close()
	if err := xtest.Init(x); err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(t.TempDir(), "data")
	_, hasTray := startTray(t, dir, "DBUS_SESSION_BUS_ADDRESS=unix:path=/nowhere", "DISPLAY="+display, "PATH=/nowhere", "TALKA_RULES_IDLE_AFTER=4s")
	if hasTray {
		t.Error("a tray without a bus")
	}
	c := api.NewClient(dir)
	defer c.Close()
	why := func() (w grid.Why) { w, _ = c.Why(t.Context()); return w }
	eventually(t, "nobody is there", func() bool { w := why(); return w.Source == "X11" && !w.InUse })
	eventually(t, "a key was pressed", func() bool { // again and again: what was seconds ago counts no more
		for _, kind := range []byte{xproto.KeyPress, xproto.KeyRelease} {
			if err := xtest.FakeInputChecked(x, kind, 38, 0, 0, 0, 0, 0).Check(); err != nil {
				t.Fatal(err)
			}
		}
		return why().InUse
	})
}
