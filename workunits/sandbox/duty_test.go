//go:build linux

package sandbox

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/talka-grid/talka/workunits"
)

// TestDutyProperty is late for turns by chance, as a busy machine is: whenever a turn
// of work begins, all work so far was paid for by rest, and who is never late gives the
// children their share.
func TestDutyProperty(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		percent := rapid.IntRange(1, 99).Draw(t, "percent")
		late := rapid.SliceOfN(rapid.Int64Range(0, int64(50*time.Millisecond)), 1, 100).Draw(t, "late")
		punctual := rapid.Bool().Draw(t, "punctual")
		var d duty
		var worked, rested time.Duration
		for i := 0; i < len(late) || punctual && i < 200; i++ {
			was := d.work
			if d.work = d.works(percent); i > 0 && d.work == was {
				t.Fatalf("turn %d: nothing changes", i)
			}
			if owed := worked * time.Duration(100-percent) / time.Duration(percent); d.work && rested < owed-time.Microsecond {
				t.Fatalf("turn %d: worked %v, rested %v at %d percent", i, worked, rested, percent)
			}
			passed := d.left(percent)
			if !punctual {
				passed += time.Duration(late[i])
			}
			if d.work {
				worked += passed
			} else {
				rested += passed
			}
			d.pass(percent, d.at+passed)
		}
		if want := dutyPeriod * time.Duration(percent); punctual && (worked-want).Abs() > 10*time.Microsecond {
			t.Fatalf("worked %v, want %v of %v", worked, want, worked+rested)
		}
	})
}

// TestPercent holds an endless program to its share by the processor time that
// the system counts, and counts the time that it may work as its wall time.
func TestPercent(t *testing.T) {
	t.Parallel()
	const percent, may = 25, time.Second
	p := newPool(t, Config{CacheDir: cache, Percent: percent})
	var w *worker
	var began time.Time
	var before time.Duration
	endlessly := task(t, endless.file(t))
	endlessly.Limits.Wall = may
	_, err := p.Run(t.Context(), endlessly, func(pid int) {
		w, began = onlyWorker(t, p), time.Now()
		u, _ := usage(pid)
		before = u.cpu
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
		t.Errorf("a second of work took %v, want %v at least", passed, least)
	}
	if used == 0 {
		t.Error("it did not work")
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

// portion is what a child had of a processor, in percent.
type portion struct {
	took  float64 // of its time
	ready float64 // took it, or waited for it behind others: what it was allowed, however busy the machine is
}

// shares runs an endless program in a pool of one slot, and answers what it had in so
// many turns at each setting.
func shares(t testing.TB, p *Pool, turns int, settings ...int) (had []portion) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	endlessly := task(t, endless.file(t))
	started, ended := make(chan int, 1), make(chan struct{})
	go func() {
		defer close(ended)
		_, _ = p.Run(ctx, endlessly, func(pid int) { started <- pid })
	}()
	pid := <-started
	for _, percent := range settings {
		p.SetPercent(percent)
		<-time.After(dutyPeriod) // until the turn that goes on is over
		began := time.Now()
		ranBefore, waitedBefore := scheduled(t, pid)
		<-time.After(time.Duration(turns) * dutyPeriod)
		ran, waited := scheduled(t, pid)
		ran, waited = ran-ranBefore, waited-waitedBefore
		passed := float64(time.Since(began))
		had = append(had, portion{float64(ran) / passed * 100, float64(ran+waited) / passed * 100})
	}
	cancel()
	<-ended
	return had
}

// scheduled is how long a process's threads ran and waited for a processor, to the
// nanosecond: usage counts ticks.
func scheduled(t testing.TB, pid int) (ran, waited time.Duration) {
	t.Helper()
	threads, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/schedstat", pid))
	if err != nil || len(threads) == 0 {
		t.Skip("the system does not count: ", err)
	}
	for _, name := range threads {
		var r, w time.Duration
		b, err := os.ReadFile(name)
		if err == nil {
			_, err = fmt.Sscan(string(b), &r, &w)
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) { // of a thread that is gone
			t.Fatal(err)
		}
		ran, waited = ran+r, waited+w
	}
	return ran, waited
}

// TestSetPercent changes the share of a child at work. A busy machine gives less than
// was set; BenchmarkPercent says how much it is on one that is not.
func TestSetPercent(t *testing.T) {
	t.Parallel()
	settings := []int{20, 60, 35}
	for i, had := range shares(t, newPool(t, Config{CacheDir: cache}), 8, settings...) {
		t.Logf("set %d percent, took %.1f", settings[i], had.took)
		if had.took > float64(settings[i])*1.25+5 {
			t.Errorf("took %.1f percent of a processor, set %d", had.took, settings[i])
		}
	}
}

// BenchmarkPercent is the percentage of a processor that a child took against what was
// set, the middle of several rounds. It takes less than it is allowed where others want
// the processor as well, and is allowed more where its parent wakes late; it never takes
// more than was set, nor is it allowed less.
func BenchmarkPercent(b *testing.B) {
	settings := []int{10, 25, 50, 75, 100}
	const rounds, turns = 3, 5
	for b.Loop() {
		took, allowed := make([][]float64, len(settings)), make([][]float64, len(settings))
		for range rounds {
			for i, had := range shares(b, benchPool(b, Config{}), turns, settings...) {
				took[i], allowed[i] = append(took[i], had.took), append(allowed[i], had.ready)
			}
		}
		for i, set := range settings {
			slices.Sort(took[i])
			slices.Sort(allowed[i])
			most, least := took[i][rounds/2], allowed[i][rounds/2]
			b.ReportMetric(most, fmt.Sprintf("percent-of-%d", set))
			b.ReportMetric(least, fmt.Sprintf("allowed-of-%d", set))
			if most > float64(set)+2 || least < float64(set)*0.85 {
				b.Errorf("set %d percent, was allowed %.1f, took %.1f", set, least, most)
			}
		}
	}
}
