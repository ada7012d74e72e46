package main

import (
	"strings"
	"testing"

	tea "charm.land/bubbletea/v2"
	"github.com/charmbracelet/x/ansi"

	"github.com/talka-grid/talka/grid"
	"github.com/talka-grid/talka/grid/api"
)

func TestTopFitsEveryScreen(t *testing.T) {
	t.Parallel()
	look := topLook{
		status: grid.Status{Network: "test", Reason: "Executes 1 unit of 1 job.", Peers: 3, AcceptedUnits: 7},
		why: grid.Why{Processors: 2, Measured: grid.Measured{Known: true, Processors: 1.5, Memory: 1 << 20},
			Executions: []grid.Execution{{Name: "atoms", Unit: 5, CPU: 2.5}}},
	}
	for range 30 {
		look.jobs = append(look.jobs, grid.JobInfo{Name: "雪雪雪雪雪雪雪雪雪雪\x1b[2J", State: grid.JobRunning, Units: grid.UnitCounts{Total: 4, Accepted: 1}})
	}
	var m tea.Model = topModel{}
	m, _ = m.Update(look)
	for range 2 * topEvents {
		m, _ = m.Update(api.Event{Kind: "granted", Text: "hostile \x1b]0;title\a text"})
	}
	for width := 1; width < 120; width += 7 {
		for height := 1; height < 60; height += 3 {
			m, _ = m.Update(tea.WindowSizeMsg{Width: width, Height: height})
			lines := strings.Split(m.(topModel).screen(), "\n")
			if len(lines) > height {
				t.Fatalf("%d lines on a screen of %d", len(lines), height)
			}
			for _, s := range lines {
				if ansi.StringWidth(s) > width || strings.ContainsAny(s, "\x1b\a") {
					t.Fatalf("a screen %d wide has the line %q", width, s)
				}
			}
		}
	}
	m, _ = m.Update(tea.WindowSizeMsg{Width: 100, Height: 100})
	for _, want := range []string{"on test, 3 peers", "Executes 1 unit of 1 job.", "████████░░ 1.50 of 2", "unit 5", "███░░░░░░░ 1/4", "q quit"} {
		if s := m.(topModel).screen(); !strings.Contains(s, want) {
			t.Errorf("the screen lacks %q:\n%s", want, s)
		}
	}
}

func TestTopKeys(t *testing.T) {
	t.Parallel()
	for _, key := range []tea.KeyPressMsg{{Code: 'q', Text: "q"}, {Code: tea.KeyEscape}, {Code: 'c', Mod: tea.ModCtrl}} {
		if _, cmd := (topModel{}).Update(key); cmd == nil || cmd() != tea.Quit() {
			t.Errorf("%v does not end it", key)
		}
	}
	if m, cmd := (topModel{}).Update(topLook{err: grid.ErrClosed}); cmd == nil || m.(topModel).err == nil {
		t.Error("it goes on without its node")
	}
}
