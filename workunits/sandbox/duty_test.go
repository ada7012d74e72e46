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

// TestDutyProperty is late for turns by chance, and to stop children, as a busy machine
// is: whenever a turn of work begins, all work so far was paid for by rest, and who is never late gives the
// children their share.
func TestDutyProperty(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		percent := rapid.IntRange(1, 99).Draw(t, "percent")
		late := rapid.SliceOfN(rapid.Int64Range(0, int64(50*time.Millisecond)), 1, 100).Draw(t, "late")
		punctual := rapid.Bool().Draw(t, "punctual")
		var d duty
		var worked, rested, over time.Duration
		for i := 0; i < len(late) || punctual && i < 200; i++ {
			was := d.work
			if d.work = d.works(percent); i > 0 && d.work == was && over == 0 {
				t.Fatalf("turn %d: nothing changes", i)
			}
			if owed := worked * time.Duration(100-percent) / time.Duration(percent); d.work && rested < owed-time.Microsecond {
				t.Fatalf("turn %d: worked %v, rested %v at %d percent", i, worked, rested, percent)
			}
			passed := d.left(percent)
			if !punctual {
				passed += time.Duration(late[i])
			}
			d.pass(percent, d.at+passed)
			if over = 0; d.work {
				worked += passed
			} else {
				if !punctual {
					over = min(passed, time.Duration(late[i])/5)
				}
				worked, rested = worked+over, rested+passed-over
				d.over(percent, over)
			}
		}
		if want := dutyPeriod * time.Duration(percent); punctual && (worked-want).Abs() > 10*time.Microsecond {
			t.Fatalf("worked %v, want %v of %v", worked, want, worked+rested)
		}
	})
}

// TestPercentOfWall counts the time that a program may work as its wall time, whatever
// its share of the time is.
func TestPercentOfWall(t *testing.T) {
	t.Parallel()
	p := newPool(t, Config{CacheDir: cache, Percent: 25})
	endlessly := task(t, endless.file(t))
	endlessly.Limits.Wall = time.Second
	var w *worker
	began := time.Now()
	_, err := p.Run(t.Context(), endlessly, func(int) { w = onlyWorker(t, p) })
	passed := time.Since(began)
	wantVoid(t, err, workunits.VoidWall)
	<-w.dead
	used := w.cmd.ProcessState.UserTime() + w.cmd.ProcessState.SystemTime()
	t.Logf("%v of processor time in %v", used, passed)
	if used == 0 || passed < endlessly.Limits.Wall {
		t.Errorf("a second of work was %v of processor time in %v", used, passed)
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

// endlessly starts an endless program in a pool, and returns its process.
func endlessly(t testing.TB, p *Pool) (pid int) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	started, ended := make(chan int, 1), make(chan struct{})
	task := task(t, endless.file(t))
	go func() {
		defer close(ended)
		_, _ = p.Run(ctx, task, func(pid int) { started <- pid })
	}()
	t.Cleanup(func() {
		cancel()
		<-ended
	})
	return <-started
}

// meter measures what children have of the processors, from its start on.
type meter struct {
	pids        []int
	began       time.Time
	ran, waited time.Duration
}

func measure(t testing.TB, pids ...int) meter {
	m := meter{pids: pids, began: time.Now()}
	m.ran, m.waited = scheduled(t, pids...)
	return m
}

// percent is what the children took of one processor's time, and what they took or
// waited for behind others: what they were allowed, however busy the machine is.
func (m meter) percent(t testing.TB) (took, allowed float64) {
	ran, waited := scheduled(t, m.pids...)
	passed := float64(time.Since(m.began))
	return float64(ran-m.ran) / passed * 100, float64(ran-m.ran+waited-m.waited) / passed * 100
}

// settles looks once a turn until what children took and were allowed is as it is to be,
// from the eighth turn on. A busy machine wakes their parent late, and turns a little
// later make up for that; where they have not after 150 turns it measures anew, once.
func (m meter) settles(t *testing.T, as string, ok func(took, allowed float64) bool) {
	t.Helper()
	turn := time.NewTicker(dutyPeriod)
	defer turn.Stop()
	for turns := 1; ; turns++ {
		<-turn.C
		took, allowed := m.percent(t)
		if turns%150 >= 8 && ok(took, allowed) {
			t.Logf("took %.1f percent, was allowed %.1f, after %d turns", took, allowed, turns)
			return
		}
		if turns == 150 {
			m = measure(t, m.pids...)
		}
		if turns == 300 {
			t.Fatalf("took %.1f percent, was allowed %.1f, want %s", took, allowed, as)
		}
	}
}

// atMost is that children worked, and no more than so.
func atMost(percent float64) func(took, allowed float64) bool {
	return func(took, _ float64) bool { return took > 0 && took <= percent }
}

// scheduled is how long the threads of processes ran and waited for a processor, to the
// nanosecond: usage counts ticks.
func scheduled(t testing.TB, pids ...int) (ran, waited time.Duration) {
	t.Helper()
	for _, pid := range pids {
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
	}
	return ran, waited
}

// TestPercent holds an endless program to its share by the processor time that the
// system counts, and to another that is set while it works. BenchmarkPercent says how
// near it comes to what was set on a machine that has nothing else to do.
func TestPercent(t *testing.T) {
	t.Parallel()
	p := newPool(t, Config{CacheDir: cache, Percent: 20})
	pid := endlessly(t, p)
	measure(t, pid).settles(t, "20", atMost(25))
	p.SetPercent(70)
	measure(t, pid).settles(t, "70", func(_, allowed float64) bool { return allowed > 30 })
	p.SetPercent(35)
	measure(t, pid).settles(t, "35", atMost(40))
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
		p := benchPool(b, Config{})
		pid := endlessly(b, p)
		for range rounds {
			for i, percent := range settings {
				p.SetPercent(percent)
				<-time.After(dutyPeriod) // until the turn that goes on is over
				m := measure(b, pid)
				<-time.After(turns * dutyPeriod)
				most, least := m.percent(b)
				took[i], allowed[i] = append(took[i], most), append(allowed[i], least)
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
