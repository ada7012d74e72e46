package grid

import (
	"maps"
	"slices"
	"time"

	"github.com/talka-grid/talka/grid/volunteer/policy"
)

const (
	desktopKept = 30 * time.Second // that a desktop's word counts, see DesktopEvery
	maxDesktops = 16
)

// DesktopEvery is how often a desktop repeats itself while nothing changes.
const DesktopEvery = 10 * time.Second

// desktop is what a user's session said, and when.
type desktop struct {
	policy.Session
	at time.Time
}

// Desktop takes what a user's session tells of its keyboard and mouse: at once when
// somebody comes back, and every DesktopEvery. Who names the process that tells. An
// end takes it back, as does silence.
func (n *Node) Desktop(who string, s policy.Session, end bool) {
	_ = n.do(n.ctx, func() {
		r := &n.rules
		if r.desktops == nil {
			r.desktops = map[string]desktop{}
		}
		switch _, known := r.desktops[who]; {
		case end:
			delete(r.desktops, who)
		case known || len(r.desktops) < maxDesktops:
			s.Desktop = true
			r.desktops[who] = desktop{s, time.Now()}
		}
		n.decide()
	})
}

// told is what desktops say now, in the order of who tells. Time without a word is
// time without input.
func (r *rules) told(now time.Time) (list []policy.Session) {
	for _, who := range slices.Sorted(maps.Keys(r.desktops)) {
		d := r.desktops[who]
		passed := max(now.Sub(d.at), 0)
		if passed > desktopKept {
			delete(r.desktops, who)
			continue
		}
		d.Idle += passed
		list = append(list, d.Session)
	}
	return list
}

// Sleep freezes what runs before the machine sleeps; it returns when that is done.
// Wake ends it.
func (n *Node) Sleep() { n.setAsleep(true) }

// Wake lets units go on after Sleep.
func (n *Node) Wake() { n.setAsleep(false) }

func (n *Node) setAsleep(asleep bool) {
	_ = n.do(n.ctx, func() {
		n.rules.asleep = asleep
		n.decide()
	})
}
