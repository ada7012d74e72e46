package grid

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/talka-grid/talka/grid/volunteer/policy"
)

// TestDesktopsTell: a user who comes back pauses units at once; the word of a
// desktop that went away counts no more.
func TestDesktopsTell(t *testing.T) {
	t.Parallel()
	n := newCluster(t).start(Config{Slots: 1, Rules: policy.Rules{IdleAfter: time.Minute}})
	used := func() string { w := n.Why(); return fmt.Sprint(w.State == StatePaused, " ", w.Source) }
	want := func(what, s string) {
		t.Helper()
		if got := used(); got != s {
			t.Errorf("%s: %s, want %s", what, got, s)
		}
	}
	n.Desktop("a", policy.Session{Source: "GNOME"}, false)
	want("somebody types", "true GNOME")
	n.Desktop("a", policy.Session{Source: "GNOME", Idle: time.Hour}, false)
	want("nobody there", "false GNOME")
	n.Desktop("b", policy.Session{Source: "X11"}, false)
	want("another desktop", "true X11")
	n.Desktop("b", policy.Session{Source: "X11", Locked: true}, false)
	want("it is locked", "false GNOME")
	n.Desktop("a", policy.Session{}, true)
	want("the first ends", "false X11, locked")
	for i := range 2 * maxDesktops { // somebody who makes up many
		n.Desktop(fmt.Sprint(i), policy.Session{Source: "X11", Idle: time.Hour}, false)
	}
	_ = n.do(t.Context(), func() {
		if got := len(n.rules.desktops); got != maxDesktops {
			t.Errorf("%d desktops are remembered", got)
		}
	})
	n.Sleep()
	if w := n.Why(); w.State != StatePaused || w.Reason != "Paused: the machine goes to sleep. Resumes when it wakes up." {
		t.Errorf("asleep: %+v", w)
	}
	n.Wake()
	want("awake", "false X11")
}

func TestDesktopsFallSilent(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := rules{desktops: map[string]desktop{"a": {policy.Session{Idle: time.Second}, time.Now()}}}
		time.Sleep(20 * time.Second)
		if got := r.told(time.Now()); len(got) != 1 || got[0].Idle != 21*time.Second {
			t.Errorf("after 20 s %+v", got)
		}
		if got := r.told(time.Now()); len(got) != 1 || got[0].Idle != 21*time.Second {
			t.Errorf("asked again %+v", got)
		}
		time.Sleep(11 * time.Second)
		if got := r.told(time.Now()); len(got) != 0 || len(r.desktops) != 0 {
			t.Errorf("after 31 s %+v", got)
		}
	})
}
