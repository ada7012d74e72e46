//go:build !darwin || cgo

package tray

import (
	"context"
	"io"
	"log"
	"runtime"
	"slices"

	"fyne.io/systray"
)

// Run shows what comes from views until ctx ends, and calls clicked, on goroutines
// of its own, for what is chosen. It is called once, on the main goroutine, and on
// Linux only where the session has a D-Bus; the icon appears as soon as the desktop
// has a tray.
func Run(ctx context.Context, labels Labels, views <-chan View, clicked func(Action)) error {
	log.SetOutput(io.Discard) // the library says there that no tray is there yet
	icons := map[Face][]byte{}
	for f := range faceColors {
		if icons[f] = Icon(f); runtime.GOOS == "windows" {
			icons[f] = ico(icons[f])
		}
	}
	systray.SetTitle("Talka")
	systray.Run(func() {
		context.AfterFunc(ctx, systray.Quit)
		systray.SetIcon(icons[Lost])
		m := newMenu(ctx, labels, clicked)
		systray.SetOnTapped(func() { go clicked(Open) })
		go m.show(ctx, views, icons)
	}, nil)
	return nil
}

// menu is what the library made of the actions.
type menu struct {
	line  *systray.MenuItem
	pause *systray.MenuItem
	of    [actions]*systray.MenuItem
}

func newMenu(ctx context.Context, labels Labels, clicked func(Action)) *menu {
	m := &menu{line: systray.AddMenuItem("Talka", "")}
	m.line.Disable()
	m.of[Open] = systray.AddMenuItem(labels.Of[Open], "")
	systray.AddSeparator()
	m.pause = systray.AddMenuItem(labels.Pause, "")
	for a := PauseHalfHour; a <= PauseOpen; a++ {
		m.of[a] = m.pause.AddSubMenuItem(labels.Of[a], "")
	}
	m.of[Resume] = systray.AddMenuItem(labels.Of[Resume], "")
	m.of[Start] = systray.AddMenuItem(labels.Of[Start], "")
	systray.AddSeparator()
	m.of[Quit] = systray.AddMenuItem(labels.Of[Quit], "")
	for a := range actions {
		go func() {
			for {
				select {
				case <-m.of[a].ClickedCh:
					clicked(a)
				case <-ctx.Done():
					return
				}
			}
		}()
	}
	return m
}

func (m *menu) show(ctx context.Context, views <-chan View, icons map[Face][]byte) {
	shown := View{Face: Lost, Offer: []Action{Open, PauseOpen, Resume, Start}} // as it was made
	for {
		var v View
		select {
		case v = <-views:
		case <-ctx.Done():
			return
		}
		if v.Face != shown.Face {
			systray.SetIcon(icons[v.Face])
		}
		if v.Tip != shown.Tip {
			systray.SetTooltip(v.Tip)
			m.line.SetTitle(v.Tip)
		}
		for a, item := range map[Action]*systray.MenuItem{Open: m.of[Open], PauseOpen: m.pause, Resume: m.of[Resume], Start: m.of[Start]} {
			switch before, now := slices.Contains(shown.Offer, a), slices.Contains(v.Offer, a); {
			case now && !before:
				item.Show()
			case before && !now:
				item.Hide()
			}
		}
		shown = v
	}
}
