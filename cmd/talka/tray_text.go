package main

import (
	"strings"

	"github.com/talka-grid/talka/grid/tray"
)

// trayText is what the tray says, in one language.
type trayText struct {
	labels tray.Labels
	faces  map[tray.Face]string
	lost   string
	wrong  string
	failed string
}

// trayTextOf is the text for a locale such as de_AT.UTF-8: German, or English.
func trayTextOf(locale string) (t trayText) {
	pick := func(english, german string) string {
		if strings.HasPrefix(locale, "de") {
			return german
		}
		return english
	}
	t.faces = map[tray.Face]string{
		tray.Working: pick("Working", "Arbeitet"), tray.Waiting: pick("Waiting", "Wartet"),
		tray.Paused: pick("Paused", "Pausiert"), tray.Lost: pick("Talka is not running", "Talka läuft nicht"),
	}
	t.lost = pick("Talka has stopped. Start it again from its icon in the tray.", "Talka ist stehen geblieben. Über das Symbol in der Leiste startet es wieder.")
	t.wrong = pick("A result of this machine was proven wrong: its memory or processor may be faulty. Test them before it goes on.",
		"Ein Ergebnis dieses Rechners war nachweislich falsch: Speicher oder Prozessor könnten defekt sein. Bitte prüfen, bevor er weiterrechnet.")
	t.failed = pick("Talka could not start. Why stands in", "Talka konnte nicht starten. Warum, steht in")
	t.labels.Pause = pick("Pause", "Pause")
	of := &t.labels.Of
	of[tray.Open] = pick("Open Talka", "Talka öffnen")
	of[tray.Start] = pick("Start", "Starten")
	of[tray.Resume] = pick("Resume", "Weiter")
	of[tray.PauseHalfHour] = pick("For 30 minutes", "30 Minuten lang")
	of[tray.PauseTwoHours] = pick("For 2 hours", "2 Stunden lang")
	of[tray.PauseTomorrow] = pick("Until tomorrow", "Bis morgen")
	of[tray.PauseSave] = pick("When running units have saved", "Wenn laufende Einheiten gesichert sind")
	of[tray.PauseFinish] = pick("When running units are finished", "Wenn laufende Einheiten fertig sind")
	of[tray.PauseOpen] = pick("Until I resume", "Bis ich fortsetze")
	of[tray.Quit] = pick("Quit", "Beenden")
	return t
}

// maxTip is how many characters a tray shows.
const maxTip = 90

// shortReason is a node's reason for the tray: its first sentence, without the
// state, which the icon tells.
func shortReason(reason string) string {
	reason = strings.TrimPrefix(line(reason), "Paused: ")
	if i := strings.Index(reason, ". "); i > 0 {
		reason = reason[:i]
	}
	reason = strings.TrimSuffix(reason, ".")
	if r := []rune(reason); len(r) > maxTip {
		reason = string(r[:maxTip-1]) + "…"
	}
	return reason
}
