package login

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/godbus/dbus/v5"
	"github.com/godbus/dbus/v5/prop"
	"github.com/google/go-cmp/cmp"

	"github.com/talka-grid/talka/grid/desktop/bustest"
	"github.com/talka-grid/talka/grid/volunteer/policy"
)

// logind is a small one at a real bus: it lists sessions and hands out locks.
type logind struct {
	conn *dbus.Conn

	mu       sync.Mutex
	sessions []session
	held     chan held // the locks that were taken
}

// held is a lock: it is open until all copies of theirs are closed, which ends ours.
type held struct{ ours, theirs *os.File }

func newLogind(t *testing.T, address string) *logind {
	l := &logind{conn: bustest.Dial(t, address, service), held: make(chan held, 8)}
	if err := l.conn.Export(l, managerPath, managerIface); err != nil {
		t.Fatal(err)
	}
	return l
}

func (l *logind) ListSessions() ([]session, *dbus.Error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.sessions, nil
}

func (l *logind) Inhibit(what, who, _, mode string) (dbus.UnixFD, *dbus.Error) {
	ours, theirs, err := os.Pipe()
	if err != nil || what != "sleep:shutdown" || who != "Talka" || mode != "delay" {
		return 0, dbus.MakeFailedError(err)
	}
	l.held <- held{ours, theirs}
	return dbus.UnixFD(theirs.Fd()), nil
}

// add makes a session of these properties.
func (l *logind) add(t *testing.T, id string, p map[string]any) {
	t.Helper()
	path := dbus.ObjectPath("/org/freedesktop/login1/session/_" + id)
	props := prop.Map{sessionIface: {}}
	for k, v := range p {
		props[sessionIface][k] = &prop.Prop{Value: v}
	}
	if _, err := prop.Export(l.conn, path, props); err != nil {
		t.Fatal(err)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.sessions = append(l.sessions, session{ID: id, User: "me", Path: path})
}

func (l *logind) signal(t *testing.T, name string, begins bool) {
	t.Helper()
	if err := l.conn.Emit(managerPath, managerIface+"."+name, begins); err != nil {
		t.Fatal(err)
	}
}

func at(t *testing.T, address string) *Bus {
	b := &Bus{dial: func() (*dbus.Conn, error) { return dbus.Connect(address) }, answer: 20 * time.Second}
	t.Cleanup(func() { _ = b.Close() })
	return b
}

func TestSessions(t *testing.T) {
	t.Parallel()
	address := bustest.Bus(t)
	b := at(t, address)
	if got := b.Sessions(t.Context()); got != nil {
		t.Fatalf("without logind: %+v", got)
	}
	l := newLogind(t, address)
	if got := b.Sessions(t.Context()); len(got) != 1 || got[0].Idle < time.Hour || got[0].Source != "logind" {
		t.Errorf("nobody logged in: %+v", got)
	}
	since := uint64(time.Now().Add(-time.Hour).UnixMicro())
	l.add(t, "1", map[string]any{"Class": "greeter", "Type": "wayland", "State": "active"})
	l.add(t, "2", map[string]any{"Class": "user", "Type": "wayland", "State": "active", "LockedHint": true, "IdleHint": true, "IdleSinceHint": since})
	l.add(t, "3", map[string]any{"Class": "user", "Type": "tty", "State": "online", "Remote": true, "IdleHint": false})
	l.add(t, "4", map[string]any{"Class": "user", "Type": "unspecified", "State": "active"})
	l.add(t, "5", map[string]any{"Class": "user", "Type": "tty", "State": "closing"})
	l.add(t, "6", map[string]any{"Class": "user", "Type": "x11", "State": "active", "IdleHint": "nonsense"})
	l.add(t, "7", map[string]any{"Class": "user", "Type": "tty", "State": "active", "IdleHint": true, "IdleSinceHint": ^uint64(0)})
	l.mu.Lock()
	l.sessions = append(l.sessions, session{ID: "8", Path: "/gone"})
	l.mu.Unlock()
	got := b.Sessions(t.Context())
	if len(got) > 0 && got[0].Idle > 59*time.Minute && got[0].Idle < 61*time.Minute {
		got[0].Idle = time.Hour
	}
	want := []policy.Session{
		{ID: "2", Source: "logind, a desktop", Idle: time.Hour, Locked: true, Desktop: true},
		{ID: "3", Source: "logind, a terminal from afar", Remote: true},
		{ID: "6", Source: "logind, a desktop", Desktop: true},
		{ID: "7", Source: "logind, a terminal"},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
}

// TestWatch puts the machine to sleep, wakes it and switches it off: it waits for
// each call to return, and no longer.
func TestWatch(t *testing.T) {
	t.Parallel()
	address := bustest.Bus(t)
	l := newLogind(t, address)
	told, go_ := make(chan string), make(chan struct{})
	say := func(what string) func() {
		return func() { told <- what; <-go_ }
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		at(t, address).Watch(ctx, Watcher{Sleep: say("sleep"), Wake: say("wake"), Off: say("off")}, slog.New(slog.DiscardHandler))
	}()
	step := func(signal string, begins bool, want string, lock *held) {
		l.signal(t, signal, begins)
		if got := <-told; got != want {
			t.Fatalf("told %q, want %q", got, want)
		}
		if lock != nil {
			_ = lock.theirs.Close() // our copy of it
			_ = lock.ours.SetReadDeadline(time.Now().Add(50 * time.Millisecond))
			if _, err := lock.ours.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
				t.Errorf("%s: the machine does not wait: %v", want, err)
			}
		}
		go_ <- struct{}{}
		if lock != nil {
			_ = lock.ours.SetReadDeadline(time.Now().Add(20 * time.Second))
			if _, err := lock.ours.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
				t.Errorf("%s: the machine waits on: %v", want, err)
			}
		}
	}
	lock := <-l.held
	step("PrepareForSleep", true, "sleep", &lock)
	step("PrepareForSleep", false, "wake", nil)
	lock = <-l.held // it is held again for the next time
	step("PrepareForShutdown", true, "off", &lock)
	cancel()
	<-ended
}
