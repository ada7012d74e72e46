package steward

import (
	"github.com/talka-grid/talka/workunits/verdict"
)

// promptly is up to how many volunteers each that comes is taken into account at once,
// rather than with the next tick.
const promptly = 4 * verdict.Crowd

// asker is a volunteer that asked for work.
type asker struct {
	at    uint64
	plain bool // its plain copies count
	canon bool // it can make NaNs canonical
}

// kinds tells which copies units may begin with: so that those who could check them
// are no small part of all, among whom colluders would weigh more than the law takes
// them to.
type kinds struct{ plain, canonical bool }

// usual goes by who asked for work lately, or those of them that have a stake if they
// are a crowd. Canonical copies may take much longer: units begin with plain ones
// unless fewer than all but the assumed colluders can check these, and more the
// others; and with canonical ones as well if half can check them.
func (m *Machine) usual() kinds {
	var all, staked [3]float64 // volunteers, of which plain, and canonical
	for n, a := range m.askers {
		if n == m.Manifest.Publisher || m.now >= a.at+asking {
			continue
		}
		a.count(&all)
		if m.book.Staked(n) {
			a.count(&staked)
		}
	}
	if staked[0] >= verdict.Crowd {
		all = staked
	}
	plain := all[1] >= (1-m.Manifest.Policy.Share)*all[0] || all[1] >= all[2]
	return kinds{plain: plain, canonical: !plain || 2*all[2] >= all[0]}
}

func (a asker) count(n *[3]float64) {
	n[0]++
	if a.plain {
		n[1]++
	}
	if a.canon {
		n[2]++
	}
}

// kind is whether a volunteer's copy of a unit is to be canonical, as those are that
// it has; ok is false if it cannot be. Where too few could check these, or nobody
// took such a one for long, the unit begins anew.
func (m *Machine) kind(u uint32, v verdict.Unit, a asker) (canonical, ok bool) {
	w := m.wanting[u]
	waited := w != nil && m.now >= w.since+unwanted
	plain := !m.Manifest.Canonical && (waited || m.kinds.plain)
	canon := m.Manifest.Canonical || waited || m.kinds.canonical
	switch {
	case v.Copies > 0 && v.Canonical && a.canon && canon:
		return true, true
	case v.Copies > 0 && v.Canonical && canon && !waited, v.Copies > 0 && !v.Canonical && plain && !waited && !a.plain:
		return false, false // others can
	case a.plain && plain:
		return false, true
	}
	return true, a.canon && canon
}
