package replica

import (
	"time"

	"github.com/ipfs/go-cid"
)

// State is how an object fares.
type State string

// The states.
const (
	Healthy   State = "healthy"
	Repairing State = "repairing"
	AtRisk    State = "at risk" // the next loss may be the last
)

// Health tells how an object fares. Of one that is cut it counts pieces, each once,
// as long as nobody holds it whole.
type Health struct {
	State     State
	Replicas  int     // whose holders were heard within a day
	Online    int     // whose holders are there now
	Wanted    int     // replicas more that are wanted
	Available float64 // chance that it can be had at any moment
	Cut       bool
}

// live lists the replicas that count, those on the way too if coming is set.
func (k *Keeper) live(o *object, now time.Time, coming bool) []*copied {
	list := make([]*copied, 0, len(o.copies)+1)
	for _, c := range o.copies {
		if (c.stored || coming && !c.refused) && k.heardWithin(c, now, k.times.Silence) {
			list = append(list, c)
		}
	}
	return list
}

// online are those of a list that can be had now.
func (k *Keeper) online(list []*copied, now time.Time) (there []*copied) {
	for _, c := range list {
		if c.stored && k.here(c, now) {
			there = append(there, c)
		}
	}
	return there
}

// maxPieces bounds a code's Total.
const maxPieces = 256

// count counts those that are all of an object, and the pieces that the others are.
func count(list []*copied) (whole, pieces int) {
	var seen [maxPieces]bool
	for _, c := range list {
		if c.piece == Whole {
			whole++
		} else if !seen[c.piece] {
			seen[c.piece] = true
			pieces++
		}
	}
	return whole, pieces
}

// available is the chance that a holder of the whole is there, or enough pieces are.
func (k *Keeper) available(o *object, list []*copied, now time.Time) float64 {
	away := 1.0
	var pieces [maxPieces]float64 // one and the chance that all of its holders are away
	cut := false
	for _, c := range list {
		a := k.availability(now, c.peer)
		if c.piece == Whole {
			away *= 1 - a
			continue
		}
		cut = true
		if pieces[c.piece] == 0 {
			pieces[c.piece] = 2
		}
		pieces[c.piece] = 1 + (pieces[c.piece]-1)*(1-a)
	}
	if !cut || o.Code.Need == 0 {
		return 1 - away
	}
	// few[i] is the chance that i pieces are there, the last that as many as it takes.
	few := make([]float64, o.Code.Need+1)
	few[0] = 1
	for _, p := range pieces {
		if p == 0 {
			continue
		}
		off := p - 1
		few[o.Code.Need] += few[o.Code.Need-1] * (1 - off)
		for i := o.Code.Need - 1; i > 0; i-- {
			few[i] = few[i]*off + few[i-1]*(1-off)
		}
		few[0] *= off
	}
	return 1 - away*(1-few[o.Code.Need])
}

// Complete reports whether all pieces of an object that is cut are there.
func (k *Keeper) Complete(now time.Time, root cid.Cid) bool {
	o := k.objects[root]
	if o == nil || o.Code.Need == 0 {
		return false
	}
	_, pieces := count(k.live(o, now, false))
	return pieces >= o.Code.Total
}

// enough reports whether an object has as many replicas as it is to have.
func (k *Keeper) enough(o *object, list []*copied, now time.Time) bool {
	if o.Code.Need > 0 {
		_, pieces := count(list)
		return pieces >= o.Code.Total || !o.mending && pieces > o.Code.Repair
	}
	return len(list) >= o.Goal.Copies && (len(list) >= o.Goal.Most || k.available(o, list, now) >= o.Goal.Available)
}

// Health tells how an object fares; false if it is not kept.
func (k *Keeper) Health(now time.Time, root cid.Cid) (h Health, ok bool) {
	o := k.objects[root]
	if o == nil {
		return h, false
	}
	list := k.live(o, now, false)
	there := k.online(list, now)
	h = Health{State: Healthy, Replicas: len(list), Online: len(there), Available: k.available(o, list, now)}
	if !k.enough(o, list, now) {
		h.State, h.Wanted = Repairing, max(o.Goal.Copies-len(list), 1)
	}
	whole, pieces := count(list)
	if o.Code.Need > 0 && whole == 0 {
		_, online := count(there)
		h.Cut, h.Replicas, h.Online, h.Wanted = true, pieces, online, 0
		if h.State == Repairing {
			h.Wanted = o.Code.Total - pieces
		}
		if pieces < 2*o.Code.Need {
			h.State = AtRisk
		}
		return h, true
	}
	if o.Code.Need == 0 && (whole <= 1 && o.Goal.Copies > 1 || 2*whole < o.Goal.Copies) {
		h.State = AtRisk
	}
	return h, true
}
