package exchange

import (
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/talka-grid/talka/workunits"
)

// TestPopular has fifty volunteers ask at once for the input of a job whose publisher
// is alone: the first two are sent to it, and each later one to six of those before,
// as stewards do it. The publisher sends the input no more than 2.5 times.
func TestPopular(t *testing.T) {
	t.Parallel()
	const volunteers, size = 50, 8 * mib
	path := file(t, 9, size)
	synctest.Test(t, func(t *testing.T) {
		nodes, all, sent := swarm(t, volunteers+1)
		root := add(t, nodes[0].cfg.Store, path).Cid
		rng := rand.New(rand.NewPCG(1, 1))
		begun := time.Now()
		var group sync.WaitGroup
		for i, x := range nodes[1:] {
			keep(t, x.cfg.Store, root)
			near := nearTo(rng, all, i)
			group.Go(func() {
				if err := x.FetchNear(t.Context(), root, near, all[:1], nil); err != nil {
					t.Errorf("volunteer %d: %v", i, err)
				}
			})
		}
		group.Wait()
		ratio := float64(sent.Load()) / size
		t.Logf("%d had it after %v; the publisher sent it %.2f times", volunteers, time.Since(begun).Round(100*time.Millisecond), ratio)
		if ratio > 2.5 {
			t.Error("the publisher sent too much")
		}
	})
}

// nearTo are the nodes that the i-th volunteer is sent to, as stewards do it: the
// publisher, which is the first of all, for the first two, and six of those before.
func nearTo(rng *rand.Rand, all []workunits.NodeID, i int) (near []workunits.NodeID) {
	if i < 2 {
		near = append(near, all[0])
	}
	for _, k := range rng.Perm(i)[:min(i, 6)] {
		near = append(near, all[1+k])
	}
	return near
}
