package replica

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// model is what a Markov model of independent volunteers gives that are there 40 % of
// the time, where detection and repair take two days; erasure is repaired only while
// enough pieces are online. Loss is for an object and year, traffic in times the
// object a month. Of one copy the loss is that its holder's life ends.
type model struct{ loss90, loss30, traffic90 float64 }

const day = 24 * time.Hour

// schemes are ways to keep an object. The quick ones are run in every test.
var schemes = []struct {
	scenario
	model
	quick bool
}{
	{scenario{name: "1 copy", goal: Goal{Copies: 1, Most: 1}}, model{0.98, 1, 0.3}, true},
	{scenario{name: "2 copies", goal: Goal{Copies: 2, Most: 2}}, model{}, false},
	{scenario{name: "3 copies", goal: Goal{Copies: 3, Most: 3}}, model{3.6e-2, 0.49, 1.0}, false},
	{scenario{name: "5 copies", goal: Goal{Copies: 5, Most: 5}}, model{4.3e-4, 4.9e-2, 1.7}, false},
	{scenario{name: "8 copies (default)", goal: DefaultGoal(3)}, model{4.3e-6, 3.2e-3, 2.5}, true},
	{scenario{name: "8 of 40 pieces", goal: DefaultGoal(3), code: DefaultCode()}, model{3.1e-5, 0.12, 2.4}, true},
	{scenario{name: "default, then cut", goal: DefaultGoal(3), until: 2 * yearLong}, model{}, false},
	{scenario{name: "default, 2 anchors", goal: DefaultGoal(3), until: 2 * yearLong, anchors: 2}, model{}, false},
}

// TestSimDurability shows the loss for an object and year, and what repair costs,
// beside the model. TALKA_TEST_SEED is the first world's seed. With TALKA_TEST_SIZE
// full there are all schemes over years, otherwise some over three months.
func TestSimDurability(t *testing.T) {
	t.Parallel()
	seed, err := strconv.ParseUint(os.Getenv("TALKA_TEST_SEED"), 10, 64)
	if err != nil {
		seed = 1
	}
	worlds, objects, length, lives := 1, 8, 90*day, []time.Duration{30 * day}
	full := os.Getenv("TALKA_TEST_SIZE") == "full"
	if full {
		worlds, objects, length, lives = 4, 30, yearLong, []time.Duration{90 * day, 30 * day}
	}
	t.Logf("seed %d: %d objects of %d MiB for %v days, in %d worlds; 120 volunteers that are there 40 %% of the time,\n"+
		"those of each of 20 operators away together for 2 days every 90, one in 20 throws away what it keeps",
		seed, objects, objectSize>>20, length.Hours()/24, worlds)
	var rows []*string
	var group sync.WaitGroup
	for _, s := range schemes {
		for _, life := range lives {
			if !full && !s.quick {
				continue
			}
			row := new(string)
			rows = append(rows, row)
			run := s.scenario
			run.life, run.time, run.objects = life, length, objects
			group.Go(func() { *row = measure(t, run, s.model, seed, worlds) })
		}
	}
	group.Wait()
	var table strings.Builder
	fmt.Fprintf(&table, "\n%-20s %5s %14s %9s %14s %7s %11s %8s", "kept as", "life", "loss/object-y", "(model)", "moved/month", "(model)", "not online", "at risk")
	for _, r := range rows {
		table.WriteString("\n" + *r)
	}
	t.Log(table.String())
}

// measure runs worlds of one scenario and writes its row. No loss in all the worlds
// is told as a bound.
func measure(t *testing.T, s scenario, m model, seed uint64, worlds int) string {
	t.Helper()
	var lost, away, risky, steps int
	var moved int64
	for i := range worlds {
		w := s.year(seed + uint64(i))
		lost, away, risky, steps, moved = lost+w.lost, away+w.away, risky+w.risky, steps+w.steps, moved+w.moved
	}
	years := float64(worlds*s.objects) * s.time.Hours() / yearLong.Hours()
	traffic := float64(moved) / objectSize / (years * 12)
	loss, modelled, trafficModel := fmt.Sprintf("%.1e", float64(lost)/years), "-", "-"
	if lost == 0 {
		loss = fmt.Sprintf("< %.1e", 1/years)
	}
	switch {
	case m.loss30 > 0 && s.life == 30*day:
		modelled = fmt.Sprintf("%.1e", m.loss30)
	case m.loss90 > 0 && s.life == 90*day:
		modelled, trafficModel = fmt.Sprintf("%.1e", m.loss90), fmt.Sprintf("%.1f", m.traffic90)
	}
	switch {
	case s.goal.Most == 1 && 2*lost < worlds*s.objects && s.life < s.time:
		t.Errorf("of one replica each %d of %d are lost: the world is too easy", lost, worlds*s.objects)
	case s.goal == DefaultGoal(3) && (float64(lost) > years/100 || traffic > 20):
		t.Errorf("%s, lives of %v: %d lost in %.0f object-years, %.1f times the object moved a month", s.name, s.life, lost, years, traffic)
	}
	return fmt.Sprintf("%-20s %4.0fd %14s %9s %14.1f %7s %10.2f%% %7.2f%%", s.name, s.life.Hours()/24, loss, modelled, traffic, trafficModel,
		100*float64(away)/float64(steps), 100*float64(risky)/float64(steps))
}
