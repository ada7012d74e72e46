package main

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/talka-grid/talka/grid"
	"github.com/talka-grid/talka/grid/tray"
)

func TestTrayShows(t *testing.T) {
	t.Parallel()
	gone := errors.New("no node")
	for name, c := range map[string]struct {
		st    grid.Status
		err   error
		face  tray.Face
		tip   string
		offer []tray.Action
	}{
		"works":     {grid.Status{State: grid.StateRunning, Reason: "Executes 2 units of 1 job."}, nil, tray.Working, "Working: Executes 2 units of 1 job", []tray.Action{tray.Open, tray.PauseOpen, tray.Quit}},
		"waits":     {grid.Status{State: grid.StateIdle, Reason: "No work: no project is trusted. Trust one."}, nil, tray.Waiting, "Waiting: No work: no project is trusted", []tray.Action{tray.Open, tray.PauseOpen, tray.Quit}},
		"by a rule": {grid.Status{State: grid.StatePaused, Reason: "Paused: on battery. Resumes on mains."}, nil, tray.Paused, "Paused: on battery", []tray.Action{tray.Open, tray.PauseOpen, tray.Quit}},
		"by you":    {grid.Status{State: grid.StatePaused, PausedByOwner: true, Reason: "Paused: by you. Resumes at 13:00."}, nil, tray.Paused, "Paused: by you", []tray.Action{tray.Open, tray.Resume, tray.Quit}},
		"finishes":  {grid.Status{State: grid.StateRunning, PausedByOwner: true, Reason: "Finishes"}, nil, tray.Working, "Working: Finishes", []tray.Action{tray.Open, tray.Resume, tray.Quit}},
		"hostile":   {grid.Status{State: grid.StateIdle, Reason: "\x1b[2J\u202e" + strings.Repeat("x", 500)}, nil, tray.Waiting, "Waiting: ?[2J?" + strings.Repeat("x", maxTip-6) + "…", []tray.Action{tray.Open, tray.PauseOpen, tray.Quit}},
		"gone":      {grid.Status{}, gone, tray.Lost, "Talka is not running", []tray.Action{tray.Start, tray.Quit}},
	} {
		var m trayModel
		v, notice := m.look(c.st, c.err, trayTextOf("en_GB.UTF-8"))
		if v.Face != c.face || v.Tip != c.tip || !slices.Equal(v.Offer, c.offer) || notice != "" {
			t.Errorf("%s: %+v %q", name, v, notice)
		}
	}
}

// TestTrayLanguages: each entry of the menu and each state has words in both languages.
func TestTrayLanguages(t *testing.T) {
	t.Parallel()
	english, german := trayTextOf("en_GB.UTF-8"), trayTextOf("de_AT.UTF-8")
	for a, label := range english.labels.Of {
		if other := german.labels.Of[a]; label == "" || other == "" || other == label {
			t.Errorf("action %d: %q, in German %q", a, label, other)
		}
	}
	for f, face := range english.faces {
		if other := german.faces[f]; face == "" || other == "" || other == face {
			t.Errorf("face %d: %q, in German %q", f, face, other)
		}
	}
	for _, both := range [][2]string{{english.lost, german.lost}, {english.wrong, german.wrong}, {english.failed, german.failed}} {
		if both[0] == "" || both[1] == "" || both[0] == both[1] {
			t.Errorf("notice %q, in German %q", both[0], both[1])
		}
	}
}

// TestTrayTells wants one notice of a node that is gone for good, and none of one
// that restarts or never was.
func TestTrayTells(t *testing.T) {
	t.Parallel()
	text := trayTextOf("de_AT")
	var m trayModel
	told := 0
	look := func(up bool, times int) {
		var err error
		if !up {
			err = errors.New("gone")
		}
		for range times {
			if _, notice := m.look(grid.Status{}, err, text); notice != "" {
				told++
			}
		}
	}
	look(false, 20) // starts slowly
	look(true, 1)
	look(false, lostAfter-1) // restarts
	look(true, 1)
	if told != 0 {
		t.Fatalf("%d notices too many", told)
	}
	look(false, 20)
	look(true, 1)
	if told != 1 {
		t.Errorf("%d notices of one end", told)
	}
}
