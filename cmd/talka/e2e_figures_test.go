//go:build e2e && linux

package main

import (
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/talka-grid/talka/grid"
	"github.com/talka-grid/talka/grid/api"
)

// children calls f with the number of each child of a process and its fields of
// /proc/PID/stat behind the name.
func children(t *testing.T, pid int, f func(child int, fields []string)) {
	t.Helper()
	files, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range files {
		raw, _ := os.ReadFile(name) // it may be gone
		fields := strings.Fields(string(raw[strings.LastIndexByte(string(raw), ')')+1:]))
		child, err := strconv.Atoi(filepath.Base(filepath.Dir(name)))
		if err == nil && len(fields) > 12 && fields[1] == strconv.Itoa(pid) {
			f(child, fields)
		}
	}
}

// childTime is the processor time that a process's children have used until now.
func childTime(t *testing.T, pid int) (used time.Duration) {
	t.Helper()
	children(t, pid, func(_ int, fields []string) {
		for _, x := range fields[11:13] {
			n, err := strconv.Atoi(x)
			if err != nil {
				t.Fatal(err)
			}
			used += time.Duration(n) * time.Second / 100
		}
	})
	return used
}

// hurry takes from units the niceness that gives way to everything else, so that a
// busy machine can be measured, too. Only root may; others need an idle machine.
func hurry(t *testing.T, pid int) {
	t.Helper()
	children(t, pid, func(child int, _ []string) {
		threads, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*", child))
		for _, name := range threads {
			thread, err := strconv.Atoi(filepath.Base(name))
			if err != nil {
				t.Fatal(err)
			}
			_ = syscall.Setpriority(syscall.PRIO_PROCESS, thread, -15)
		}
	})
}

// idleTime is how long the machine's processors had nothing to do until now.
func idleTime(t *testing.T) time.Duration {
	t.Helper()
	raw, err := os.ReadFile("/proc/stat")
	if err != nil {
		t.Fatal(err)
	}
	var skip, idle int64
	if _, err := fmt.Sscanf(string(raw), "cpu %d %d %d %d", &skip, &skip, &skip, &idle); err != nil {
		t.Fatal(err)
	}
	return time.Duration(idle) * time.Second / 100
}

// TestUnitsGiveWay has units take a processor and measures them by the system's own
// count: a user who comes back and a rule that changes have it free within a second,
// and a percentage of its time is what units take.
func TestUnitsGiveWay(t *testing.T) {
	g := newTestGrid(t, 4*time.Minute)
	p := g.pausedPublisher("")
	n := g.node("n", "--join", g.invite(p), "--trust", g.project(p, "load"), "--steward=false")
	g.start(n, "TALKA_IN_USE_PROCESSORS=0", "TALKA_RULES_IDLE_AFTER=1m")
	g.submit(p, "load", g.ljJob(200, 250, "none"))
	c := api.NewClient(n.dir)
	defer c.Close()
	ctx := g.ctx
	pid := n.cmd.Process.Pid
	tell := func(idle time.Duration) {
		t.Helper()
		if err := c.Desktop(ctx, api.Desktop{Who: "test", Source: "the test", Idle: idle.Seconds()}); err != nil {
			t.Fatal(err)
		}
	}
	set := func(key, value string) {
		t.Helper()
		if _, err := c.Set(ctx, key, &value); err != nil {
			t.Fatal(err)
		}
	}
	busy := func() {
		t.Helper()
		before := childTime(t, pid)
		g.until("units take the processor", func() bool { return childTime(t, pid) > before+100*time.Millisecond })
	}
	// freed is after how long the processor was free for good.
	freed := func(stop func()) time.Duration {
		t.Helper()
		busy()
		began := time.Now()
		stop()
		used, last := childTime(t, pid), time.Now()
		g.until("the processor is free", func() bool {
			if now := childTime(t, pid); now != used {
				used, last = now, time.Now()
			}
			return time.Since(last) > 300*time.Millisecond || time.Since(began) > 10*time.Second
		})
		return last.Sub(began)
	}
	tell(time.Hour)
	for what, ways := range map[string][2]func(){
		"a user who comes back": {func() { tell(0) }, func() { tell(time.Hour) }},
		"a rule":                {func() { set("rules.hours", "mon 00:00-00:01,tue 00:00-00:01") }, func() { set("rules.hours", "") }},
	} {
		if weekday := time.Now().Weekday(); what == "a rule" && (weekday == time.Monday || weekday == time.Tuesday) {
			ways[0] = func() { set("rules.hours", "fri 00:00-00:01") }
		}
		var took []time.Duration
		for len(took) < 8 && (len(took) == 0 || slices.Min(took) > time.Second) { // a machine that does something else is asked again
			took = append(took, freed(ways[0]))
			ways[1]()
		}
		t.Logf("%s has the processor after %v", what, took)
		if slices.Min(took) > time.Second {
			t.Errorf("%s waits %v for the processor", what, took)
		}
	}
	for _, percent := range []float64{25, 60, 85} {
		set("cpu_percent", fmt.Sprint(percent))
		var said string
		for range 8 { // a machine that does something else is asked again
			taken, free := percentTaken(t, pid)
			w, err := c.Why(ctx)
			if err != nil {
				t.Fatal(err)
			}
			node := 100 * w.Measured.Processors
			said = fmt.Sprintf("units may take %v %%, take %.1f %%, with %.0f %% free; the node says %.1f %%", percent, taken, free, node)
			t.Log(said)
			if most, least := taken <= percent+5, taken >= percent-5 || free < 20; most && least && math.Abs(node-taken) <= 5 {
				said = ""
				break
			}
		}
		if said != "" {
			t.Error(said)
		}
	}
	g.until("units run at the end", func() bool { st, err := c.Status(ctx); return err == nil && st.State == grid.StateRunning })
}

// percentTaken measures for some seconds what units take, and what nobody took of the
// machine, in percent of one processor.
func percentTaken(t *testing.T, pid int) (taken, free float64) {
	t.Helper()
	const window = 6 * time.Second
	hurry(t, pid)
	idle, used, began := idleTime(t), childTime(t, pid), time.Now()
	<-time.After(window) // a share is one of a time that passes
	passed := float64(time.Since(began))
	return 100 * float64(childTime(t, pid)-used) / passed, 100 * float64(idleTime(t)-idle) / passed
}
