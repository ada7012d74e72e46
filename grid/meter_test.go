package grid

import (
	"math"
	"testing"
	"time"
)

// TestMeter follows two processes, of which one ends and leaves its number to
// another: what was used counts once, and the average forgets.
func TestMeter(t *testing.T) {
	t.Parallel()
	used := map[int]time.Duration{1: time.Minute, 2: 0}
	look := func(pid int) (time.Duration, uint64, bool) {
		cpu, ok := used[pid]
		return cpu, 1 << 20, ok
	}
	m := meter{used: map[int]time.Duration{}}
	now, sent := time.Unix(1000, 0), int64(0)
	if before := m.begin(1, look); before != time.Minute {
		t.Errorf("it had used %v", before)
	}
	m.begin(2, look)
	m.begin(3, look) // there is none
	if d := m.measured(); d.Known {
		t.Errorf("known before a look: %+v", d)
	}
	tick := func(seconds int, each time.Duration) {
		for range seconds {
			m.look(now, look, sent, 2*sent)
			now = now.Add(time.Second)
			sent += 1000
			for pid := range used {
				used[pid] += each
			}
		}
		m.look(now, look, sent, 2*sent)
	}
	want := func(processors, cpu float64, memory uint64) {
		t.Helper()
		if d := m.measured(); math.Abs(d.Processors-processors) > 1e-9 || math.Abs(d.CPU-cpu) > 1e-9 || d.Memory != memory || !d.Known {
			t.Errorf("%+v, want %g processors, %g s, %d bytes", d, processors, cpu, memory)
		}
	}
	tick(4, time.Second/2)
	want(1, 4, 2<<20)
	if d := m.measured(); d.Up != 1000 || d.Down != 2000 {
		t.Errorf("%g bytes a second sent and %g received", d.Up, d.Down)
	}
	sent = 0 // a new month
	m.look(now, look, sent, sent)
	if d := m.measured(); d.Up != 0 || d.Down != 0 {
		t.Errorf("%g bytes a second sent and %g received as the month begins", d.Up, d.Down)
	}
	m.restart()
	tick(3, time.Second)
	want(2, 10, 2<<20)
	tick(60, 0)
	want(0, 10, 2<<20)
	delete(used, 1)
	used[2] = 0
	tick(20, time.Second) // nobody knows them any more
	want(0, 10, 0)
	if len(m.points) > 12 {
		t.Errorf("%d points for %v", len(m.points), meterTime)
	}
}
