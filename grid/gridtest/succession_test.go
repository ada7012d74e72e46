package gridtest

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/talka-grid/talka/workunits"
)

// TestSuccession lets any two of the three active stewards die for good, at any
// time and at any statement, again and again, while the publisher is away. What
// anyone accepted must stay, and the job must end; the publisher comes back with
// its key and the job's id alone.
func TestSuccession(t *testing.T) {
	t.Parallel()
	for seed := uint64(1); seed <= 8; seed++ {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			succeed(t, seed)
		})
	}
}

func succeed(t *testing.T, seed uint64) {
	var log bytes.Buffer
	w := New(seed, &log)
	defer func() {
		if t.Failed() {
			t.Logf("seed %d:\n%s", seed, log.Bytes())
		}
	}()
	r := rand.New(rand.NewPCG(seed, 3))
	s := &Script{World: w}
	do := func(format string, args ...any) {
		t.Helper()
		c := fmt.Sprintf(format, args...)
		fmt.Fprintln(&log, c)
		if err := s.Do(c); err != nil {
			w.Explain(&log)
			t.Fatal(err)
		}
	}
	large := []string{"", " large"}[r.IntN(2)]
	do("nodes publisher=p stewards=p,s1,s2,s3,s4,s5,s6,s7 volunteers=v1,v2,v3,v4,v5 slots=%d", 1+r.IntN(3))
	do("job units=40 shard=%d time=%dms%s", 1+r.IntN(9), 500+r.IntN(3000), large)
	do("run for=%dms", 300+r.IntN(3000))
	do("wipe p")
	for range 2 {
		do("run for=%dms", r.IntN(20_000))
		if n := w.Accepted(); n < 36 && r.IntN(2) == 0 {
			do("run until=accepted:%d limit=600s", n+1)
			do("wipe %s", strings.Join(two(r, keepers(w)), " ")) // before another could keep it
			do("survives")
			do("run for=90s")
			continue
		}
		victims := two(r, active(w))
		kinds := []string{"grant", "receipt", "draw", "opening", "storage-receipt"}
		for _, v := range victims {
			if r.IntN(2) == 0 {
				do("crash %s on=%s %s", v, kinds[r.IntN(len(kinds))], []string{"", "sent"}[r.IntN(2)])
			}
		}
		do("run for=%dms", r.IntN(3000))
		do("wipe %s", strings.Join(victims, " "))
		do("survives")
		do("run for=90s") // those next keep anew what those that died kept
	}
	do("run until=done limit=600s")
	do("restart p moved")
	do("run until=sealed limit=600s")
	do("run for=60s")
	do("survives")
	do("check")
}

// two picks two at most.
func two(r *rand.Rand, names []string) []string {
	r.Shuffle(len(names), func(i, j int) { names[i], names[j] = names[j], names[i] })
	return names[:min(2, len(names))]
}

// keepers names the active stewards that have the result accepted last on their disks.
func keepers(w *World) (names []string) {
	for _, name := range active(w) {
		if _, here := w.Node(name).disk.blocks[w.obs.accepted[w.obs.last]]; here {
			names = append(names, name)
		}
	}
	return names
}

// active names the stewards that act, as the first that is up sees it.
func active(w *World) (names []string) {
	for _, n := range w.nodes {
		if n.up && n.steward != nil && len(names) < int(w.job.Manifest.Active) &&
			slices.ContainsFunc(n.steward.Book().Stewards(), func(s workunits.Steward) bool { return s.Node == n.ID }) {
			names = append(names, n.Name)
		}
	}
	return names
}

// TestHome: a grid whose stewards are its only volunteers gets its job done, though
// its publisher, which executes nothing, goes and comes at any time; while it is away
// units get their first copies.
func TestHome(t *testing.T) {
	t.Parallel()
	eachSeed(t, 8, 4, func(r *rand.Rand) []string {
		return []string{
			"nodes publisher=p stewards=p,s1,s2,s3 volunteers=s1,s2,s3", fmt.Sprintf("job units=30 shard=%d time=2s", 3+r.IntN(12)),
			fmt.Sprintf("run for=%dms", 300+r.IntN(15_000)), "crash p", fmt.Sprintf("run for=%dms", 5000+r.IntN(60_000)), "restart p",
			fmt.Sprintf("run for=%dms", r.IntN(15_000)), "crash p", fmt.Sprintf("run for=%dms", r.IntN(40_000)), "restart p",
			"run until=sealed limit=600s", "check", "right",
		}
	})
}

// TestHomeGrows: when volunteers that are no stewards come, the stewards grant and
// draw beside the publisher, and no unit waits for them that it granted before.
func TestHomeGrows(t *testing.T) {
	t.Parallel()
	eachSeed(t, 16, 5, func(r *rand.Rand) []string {
		return []string{
			"nodes publisher=p stewards=p,s1,s2 volunteers=s1,s2,v1,v2,v3,v4", "crash v1", "crash v2", "crash v3", "crash v4",
			fmt.Sprintf("job units=%d shard=%d", 4+r.IntN(30), 2+r.IntN(6)),
			fmt.Sprintf("run for=%dms", 300+r.IntN(2_000)), "restart v1", "restart v2", "restart v3", "restart v4",
			"run until=sealed limit=25s", "check", "right",
		}
	})
}

// TestHiddenGrants: a steward that shows no other what it says is granted nothing
// through for long, while the publisher is away; what the others executed for it does
// not keep them from granting.
func TestHiddenGrants(t *testing.T) {
	t.Parallel()
	eachSeed(t, 16, 6, func(r *rand.Rand) []string {
		return []string{
			"nodes publisher=p stewards=p,s1,s2,s3 volunteers=p,s1,s2,s3,v1,v2,v3,v4", "ways s3 crook=omits",
			fmt.Sprintf("job units=30 shard=%d time=%dms wall=20s", 4+r.IntN(30), 10+r.IntN(300)),
			fmt.Sprintf("run for=%dms", 300+r.IntN(1500)), "crash p",
			"run until=accepted:12 limit=120s", "restart p", "run until=sealed limit=600s", "check",
		}
	})
}

// eachSeed plays the scripts that are drawn for so many seeds, each from a stream of
// numbers of the test's own.
func eachSeed(t *testing.T, seeds, stream uint64, script func(r *rand.Rand) []string) {
	for seed := uint64(1); seed <= seeds; seed++ {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			var log bytes.Buffer
			w := New(seed, &log)
			s := &Script{World: w}
			for _, c := range script(rand.New(rand.NewPCG(seed, stream))) {
				if err := s.Do(c); err != nil {
					w.Explain(&log)
					t.Fatalf("seed %d: %v\n%s", seed, err, log.Bytes())
				}
			}
		})
	}
}
