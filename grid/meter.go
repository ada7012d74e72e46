package grid

import "time"

// meterTime is over how long the use of processors is averaged: long enough for
// units that are let work a part of their time, short enough to see a change.
const meterTime = 10 * time.Second

// Measured is what units and traffic really take, for comparison with what they may.
type Measured struct {
	Known      bool    `json:"known"`      // false where the system does not tell
	Processors float64 `json:"processors"` // processor seconds a second
	Seconds    float64 `json:"seconds"`    // over which that is averaged
	Memory     uint64  `json:"memory"`     // bytes, of all units together
	CPU        float64 `json:"cpu"`        // processor seconds since the node began
	Up         float64 `json:"up"`         // bytes of content a second to peers beyond the local network
	Down       float64 `json:"down"`       // and from them
}

// usage is Used of Sensors.
type usage func(pid int) (cpu time.Duration, memory uint64, ok bool)

// meter adds up what the processes of units use. They outlive units, so a process
// counts from the first look at it until it is gone.
type meter struct {
	used   map[int]time.Duration
	total  time.Duration
	points []point // of the last meterTime, oldest first
	memory uint64
}

type point struct {
	at       time.Time
	total    time.Duration
	up, down int64 // bytes
}

// begin makes a process count. It returns what it had used before.
func (m *meter) begin(pid int, used usage) time.Duration {
	before, counts := m.used[pid]
	if cpu, _, ok := used(pid); !counts && ok {
		before = cpu
		m.used[pid] = cpu
	}
	return before
}

// look adds what the processes have used until now. One that is gone counts no more,
// nor does one that got the number of another. Up and down are bytes of traffic so far.
func (m *meter) look(now time.Time, used usage, up, down int64) {
	m.memory = 0
	for pid, before := range m.used {
		cpu, memory, ok := used(pid)
		if !ok || cpu < before {
			delete(m.used, pid)
			continue
		}
		m.total += cpu - before
		m.used[pid] = cpu
		m.memory += memory
	}
	m.points = append(m.points, point{now, m.total, up, down})
	for len(m.points) > 2 && now.Sub(m.points[1].at) >= meterTime {
		m.points = m.points[1:]
	}
}

// restart begins the average anew, since what units may take is another.
func (m *meter) restart() {
	if n := len(m.points); n > 0 {
		m.points = m.points[n-1:]
	}
}

func (m *meter) measured() Measured {
	d := Measured{Memory: m.memory, CPU: m.total.Seconds()}
	if n := len(m.points); n > 1 {
		first, last := m.points[0], m.points[n-1]
		d.Known, d.Seconds = true, last.at.Sub(first.at).Seconds()
		d.Processors = (last.total - first.total).Seconds() / d.Seconds
		d.Up = float64(max(last.up-first.up, 0)) / d.Seconds // less where a month has ended
		d.Down = float64(max(last.down-first.down, 0)) / d.Seconds
	}
	return d
}
