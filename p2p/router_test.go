package p2p

import (
	"testing"
	"testing/synctest"
	"time"

	basichost "github.com/libp2p/go-libp2p/p2p/host/basic"
	ma "github.com/multiformats/go-multiaddr"
)

// finder looks for a router, in vain if it has found none.
type finder struct {
	found bool
	ends  time.Duration // how long it takes back its mappings
}

func (f *finder) GetMapping(a ma.Multiaddr) ma.Multiaddr { return a }
func (f *finder) HasDiscoveredNAT() bool                 { return f.found }
func (f *finder) Close() error {
	time.Sleep(f.ends) // virtual
	return nil
}

// A router is looked for ever more rarely while there is none, and at once where the
// node may have moved; one that is gone holds up neither that nor the end.
func TestRouterIsLookedForAgain(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var all []*finder
		r := &router{make: func() basichost.NATManager {
			all = append(all, &finder{ends: 3 * time.Minute})
			return all[len(all)-1]
		}}
		r.begin(time.Now(), routerAgain)
		looks := func(during time.Duration) int {
			before := len(all)
			for begun := time.Now(); time.Since(begun) < during; time.Sleep(refreshLook) { // virtual
				r.seek(time.Now())
			}
			return len(all) - before
		}
		if n := looks(4 * time.Hour); n < 5 || n > 8 {
			t.Errorf("looked for %d times in four hours without one", n)
		}
		begun := time.Now()
		r.anew(begun)
		all[len(all)-1].found = true
		if n := looks(4 * time.Hour); n != 0 {
			t.Errorf("looked for %d times while there is one", n)
		}
		asked := len(all)
		if r.anew(begun); len(all) != asked+1 || r.HasDiscoveredNAT() {
			t.Error("the old router is asked where the node may have moved")
		}
		begun = time.Now()
		if err := r.Close(); err != nil || time.Since(begun) > routerEnd {
			t.Errorf("%v, closed after %s", err, time.Since(begun))
		}
		if r.anew(time.Now()); len(all) != asked+1 || r.GetMapping(ma.StringCast("/ip4/1.2.3.4/tcp/1")) != nil {
			t.Error("a router is asked after the end")
		}
		r.ends.Wait()
	})
}
