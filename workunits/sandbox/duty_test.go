//go:build linux

package sandbox

import (
	"context"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/talka-grid/talka/workunits"
)

// TestDutyProperty looks at random times, as a busy machine would: each look tells
// a change that lies ahead, and the looks at the changes alone give the share to
// the nanosecond.
func TestDutyProperty(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		percent := rapid.IntRange(1, 99).Draw(t, "percent")
		at := time.Duration(rapid.Int64Range(0, int64(time.Hour)).Draw(t, "at"))
		if work, change := duty(percent, at); change <= at || change > at+dutyPeriod {
			t.Fatalf("at %v: work %t until %v", at, work, change)
		} else if again, _ := duty(percent, change); again == work {
			t.Fatalf("nothing changes at %v", change)
		}
		var worked time.Duration
		for at = 0; at < 100*dutyPeriod; {
			work, change := duty(percent, at)
			if work {
				worked += change - at
			}
			at = change
		}
		if worked != time.Duration(percent)*dutyPeriod {
			t.Fatalf("worked %v of %v at %d percent", worked, at, percent)
		}
	})
}

// TestPercent holds an endless program to its share by the processor time that
// the system counts, and counts the time that it may work as its wall time.
func TestPercent(t *testing.T) {
	t.Parallel()
	const percent, may = 25, 500 * time.Millisecond
	p := newPool(t, Config{CacheDir: cache, Percent: percent})
	var w *worker
	var began time.Time
	var before time.Duration
	endlessly := task(t, endless.file(t))
	endlessly.Limits.Wall = may
	_, err := p.Run(t.Context(), endlessly, func(pid int) {
		w, began = onlyWorker(t, p), time.Now()
		before, _, _ = usage(pid)
	})
	passed := time.Since(began)
	wantVoid(t, err, workunits.VoidWall)
	<-w.dead
	used := w.cmd.ProcessState.UserTime() + w.cmd.ProcessState.SystemTime() - before
	share := float64(used) / float64(passed) * 100
	t.Logf("set %d percent, took %.1f percent: %v of processor time in %v", percent, share, used, passed)
	if share > percent*1.2 {
		t.Errorf("took %.1f percent of a processor, set %d", share, percent)
	}
	if least := may * 100 / percent * 8 / 10; passed < least {
		t.Errorf("half a second of work took %v, want %v at least", passed, least)
	}
	if used < may/20 {
		t.Errorf("it hardly worked: %v", used)
	}
}

// TestPauseOutlastsTurns: the owner's pause holds whatever the turn is.
func TestPauseOutlastsTurns(t *testing.T) {
	t.Parallel()
	p := newPool(t, Config{CacheDir: cache, Percent: 50})
	task := task(t, endless.file(t))
	task.Limits.Wall = 100 * time.Millisecond
	_, err := p.Run(t.Context(), task, func(pid int) {
		p.Pause()
		wantStopped(t, pid)
		for range 2 {
			if alive, err := p.rest(false); alive != 1 || err != nil {
				t.Errorf("%d children, %v", alive, err)
			}
			wantStopped(t, pid)
		}
		p.Resume()
	})
	wantVoid(t, err, workunits.VoidWall)
}

// TestSetPercent changes the share of a child at work, and holds what the system
// counts against what was set, within five points.
func TestSetPercent(t *testing.T) {
	t.Parallel()
	p := newPool(t, Config{CacheDir: cache, Slots: 1})
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	task := task(t, endless.file(t))
	task.Limits.Wall = time.Minute
	started := make(chan int, 1)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_, _ = p.Run(ctx, task, func(pid int) { started <- pid })
	}()
	pid := <-started
	used := func() time.Duration {
		cpu, _, known := usage(pid)
		if !known {
			t.Fatal("the system does not count")
		}
		return cpu
	}
	for _, percent := range []int{20, 60, 35} {
		p.SetPercent(percent)
		<-time.After(dutyPeriod) // until the turn that goes on is over
		began, before := time.Now(), used()
		<-time.After(10 * dutyPeriod)
		share := float64(used()-before) / float64(time.Since(began)) * 100
		t.Logf("set %d percent, measured %.1f", percent, share)
		if share > float64(percent)+5 || share < float64(percent)/4 { // a busy machine gives less
			t.Errorf("took %.1f percent of a processor, set %d", share, percent)
		}
	}
	cancel()
	<-ended
}
