package policy

import (
	"slices"
	"time"
)

// Session is somebody's use of the machine: at a desktop, a terminal, or from
// afar. The system knows of all of them, but of a desktop's keyboard and mouse
// often nothing: the desktop's own word, Facts.Desktops, outweighs what the
// system says of the session of that ID, or of all local desktops if it has none.
type Session struct {
	ID      string // the system's name of it
	Source  string // what tells of it, for people
	Idle    time.Duration
	Locked  bool // nobody can use it before it is unlocked
	Desktop bool
	Remote  bool
}

// away is the idle time of a session that nobody can be using.
const away = 365 * 24 * time.Hour

// user is the session that was used last, and whether any is known of. Locked
// sessions are those of people who went away.
func (f Facts) user() (last Session, known bool) {
	locked := map[string]bool{}
	all := slices.Clone(f.Desktops)
	for _, s := range f.Sessions {
		locked[s.ID] = s.Locked
		if !s.Desktop || !slices.ContainsFunc(f.Desktops, func(d Session) bool { return d.speaksFor(s) }) {
			all = append(all, s)
		}
	}
	for _, s := range all {
		if s.Locked || s.ID != "" && locked[s.ID] {
			s.Idle, s.Source = max(s.Idle, away), s.Source+", locked"
		}
		if !known || s.Idle < last.Idle {
			last, known = s, true
		}
	}
	return last, known
}

// speaksFor reports whether a desktop's own word is about a session of the system.
func (s Session) speaksFor(of Session) bool {
	return s.ID == of.ID || s.ID == "" && !of.Remote
}
