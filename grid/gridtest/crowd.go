package gridtest

import (
	"fmt"
	"math"

	"github.com/talka-grid/talka/workunits"
)

// hour bounds the virtual time of a simulation, in milliseconds.
const hour = 3_600_000

// Crowd runs a job of 20 s units with many volunteers, in a world with the fast
// signer, until the publisher has sealed it.
func Crowd(seed uint64, volunteers, units int) (*World, error) {
	w := New(seed, nil)
	w.Fast, w.Gather = true, 20
	var stewards, list []*Node
	for _, name := range []string{"p", "s1", "s2", "s3"} {
		stewards = append(stewards, w.Add(name))
	}
	for i := range volunteers {
		list = append(list, w.Add(fmt.Sprint("v", i)))
	}
	j := &Job{Manifest: manifest(uint32(units), uint32(max(1, units/32))), Publisher: stewards[0], Time: 20_000}
	j.Manifest.Limits.Wall = 300_000
	if err := w.Publish(j, stewards, list); err != nil {
		return w, err
	}
	if !w.Run(w.Sealed, hour) && w.Err() == nil {
		return w, fmt.Errorf("%d of %d units are accepted", w.Accepted(), units)
	}
	return w, w.Err()
}

// Churn has volunteers vanish for good, such a share of them in an hour, in the
// middle of whatever they do; a newcomer takes the place of each.
func (w *World) Churn(share float64) {
	for _, n := range w.nodes {
		if n.wants {
			w.vanish(n, share)
		}
	}
}

func (w *World) vanish(n *Node, share float64) {
	life := w.rng.ExpFloat64() / -math.Log1p(-share)
	w.after(nil, uint64(life*hour), func() {
		n.Crash()
		w.gone++
		o := w.Add(fmt.Sprint("newcomer ", w.gone))
		o.disk.job, o.disk.stewards, o.wants = true, n.disk.stewards, true
		o.hear()
		w.vanish(o, share)
	})
}

// BytesPerCopy is what volunteers sent and got for each copy, on average.
func (w *World) BytesPerCopy() float64 {
	return float64(w.obs.crowd) / float64(max(1, w.Kinds()[workunits.KindCommit]))
}
