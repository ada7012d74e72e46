package gridtest

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// TestSimulation runs jobs on grids that lose frames, crash, part and lie, each
// from a seed. TALKA_TEST_SEED replays one at more length.
func TestSimulation(t *testing.T) {
	t.Parallel()
	if text := os.Getenv("TALKA_TEST_SEED"); text != "" {
		seed, err := strconv.ParseUint(text, 10, 64)
		if err != nil {
			t.Fatalf("TALKA_TEST_SEED: %v", err)
		}
		simulate(t, seed, 60)
		return
	}
	for seed := uint64(1); seed <= 20; seed++ {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			simulate(t, seed, 8)
		})
	}
}

func simulate(t *testing.T, seed uint64, units int) {
	var log bytes.Buffer
	w := New(seed, &log)
	defer func() {
		if t.Failed() || testing.Verbose() {
			t.Logf("seed %d (replay it with TALKA_TEST_SEED=%d):\n%s", seed, seed, log.Bytes())
		}
	}()
	r := rand.New(rand.NewPCG(seed, 2))
	w.Gather = []uint64{0, 20, 200}[seed%3]
	s := &Script{World: w}
	for _, c := range plan(r, units) {
		fmt.Fprintln(&log, c)
		if err := s.Do(c); err != nil {
			t.Fatal(err)
		}
	}
	chaos(w, r)
	for _, n := range w.nodes {
		n.trap = ""
		n.Restart()
	}
	w.Partition()
	w.Net.Loss = 0
	if !w.Run(w.Sealed, hour) && w.Err() == nil {
		w.Table(&log)
		w.Explain(&log)
		t.Fatal("the job does not end")
	}
	if err := s.Do("check"); err != nil {
		w.Table(&log)
		t.Fatal(err)
	}
	if testing.Verbose() {
		w.Table(&log)
	}
}

// plan draws a grid and a job: a third of the volunteers at most lies, and one of
// five stewards.
func plan(r *rand.Rand, units int) (commands []string) {
	stewards, volunteers := "p", ""
	var ways []string
	others := 1 + r.IntN(4)
	for i := range others {
		stewards += fmt.Sprintf(",s%d", i)
		if r.IntN(2) == 0 {
			volunteers += fmt.Sprintf(",s%d", i)
		}
	}
	n := 3 + r.IntN(5)
	if all := []string{crookOmits, crookWithholds, crookDraws, crookFavours, crookHeads, crookForks, crookLazy}; others == 4 && r.IntN(2) == 0 {
		ways = append(ways, fmt.Sprintf("ways s%d crook=%s", r.IntN(others), all[r.IntN(len(all))]))
	}
	for i := range n {
		volunteers += fmt.Sprintf(",v%d", i)
		switch {
		case i < n/3 && r.IntN(2) == 0:
			ways = append(ways, fmt.Sprintf("ways v%d %s", i, []string{fmt.Sprintf("lies=%.2f", r.Float64()), fmt.Sprintf("lies=%.2f late", r.Float64()), "copycat"}[r.IntN(3)]))
		case r.IntN(6) == 0:
			ways = append(ways, fmt.Sprintf("ways v%d slow=%d", i, 1+r.IntN(12)))
		case r.IntN(10) == 0:
			ways = append(ways, fmt.Sprintf("ways v%d %s", i, []string{"hang", "void", "garbage"}[r.IntN(3)]))
		}
	}
	nodes := fmt.Sprintf("nodes publisher=p stewards=%s volunteers=p%s slots=%d", stewards, volunteers, 1+r.IntN(3))
	job := fmt.Sprintf("job units=%d shard=%d time=%dms", units/2+r.IntN(units), 1+r.IntN(6), 50+r.IntN(3000))
	if r.IntN(4) == 0 {
		job += " large"
	}
	if r.IntN(3) == 0 {
		job += " reduce"
	}
	if r.IntN(4) == 0 {
		nodes += fmt.Sprintf(" arm64=v%d", n-1)
		job += " split"
	}
	lies := slices.ContainsFunc(ways, func(w string) bool { return strings.Contains(w, "lies") || strings.Contains(w, "copycat") })
	if !lies && r.IntN(2) == 0 {
		job += " error=0.02" // so many may be wrong that stakes of a few copies matter
	}
	for i := range n {
		ways = append(ways, fmt.Sprintf("clock v%d by=%ds", i, r.IntN(20_000)-10_000))
	}
	for i := range others {
		ways = append(ways, fmt.Sprintf("clock s%d by=%ds", i, r.IntN(20_000)-10_000))
	}
	return append(append([]string{nodes}, ways...), job)
}

// chaos lets things go wrong for a while.
func chaos(w *World, r *rand.Rand) {
	w.Net.Loss = []float64{0, 0.01, 0.05}[r.IntN(3)]
	kinds := []string{"grant", "commit", "receipt", "draw", "opening", "storage receipt"}
	for range 2 + r.IntN(12) {
		w.Run(w.Sealed, uint64(200+r.IntN(6000)))
		n := w.nodes[r.IntN(len(w.nodes))]
		switch r.IntN(7) {
		case 6:
			n.SetClock(r.Int64N(300_000)) // it slept, or was set
		case 0:
			n.Crash()
		case 1, 2:
			n.CrashOn(kinds[r.IntN(len(kinds))], r.IntN(2) == 0)
		case 3:
			if !n.up && r.IntN(4) == 0 && n.steward == nil && !n.disk.steward {
				n.Forget(1 + r.IntN(3)) // an old backup
			}
			n.Restart()
		case 4:
			var sides [2][]*Node
			for _, n := range w.nodes {
				i := r.IntN(2)
				sides[i] = append(sides[i], n)
			}
			w.printf("partition")
			w.Partition(sides[0], sides[1])
		case 5:
			w.printf("the partition heals")
			w.Partition()
		}
	}
}
