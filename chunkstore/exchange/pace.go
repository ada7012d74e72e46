package exchange

import (
	"sync"
	"time"
)

// Windows: what may be asked of a source before it has answered, in bytes.
const (
	maxWindow = 32 << 20
	// slack is the time that a source and its disk need beside the network's.
	slack = 20 * time.Millisecond
	// measure is the least time over which a rate is taken.
	measure = 50 * time.Millisecond
)

// pace is what was measured of a source: its window is twice what is on the way
// in one round trip, so that it doubles with each until the line is full. Slow
// sources hold few chunks, and keep nobody waiting at the end.
type pace struct {
	mu    sync.Mutex
	trip  time.Duration // the shortest
	rate  float64       // bytes a second
	size  float64       // of a chunk
	since time.Time     // of what is measured now
	bytes int
}

// began starts a measurement after a time with nothing asked.
func (p *pace) began(now time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if now.Sub(p.since) > time.Second {
		p.since, p.bytes = now, 0
	}
}

// answered tells how long a source took to begin its answer to a line that had
// asked for nothing else.
func (p *pace) answered(d time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.trip == 0 || d < p.trip {
		p.trip = d
	}
}

// came counts a chunk.
func (p *pace) came(n int, now time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.size == 0 {
		p.size = float64(n)
	}
	p.size += (float64(n) - p.size) / 8
	p.bytes += n
	if spent := now.Sub(p.since); spent >= max(measure, p.trip) {
		rate := float64(p.bytes) / spent.Seconds()
		if p.rate == 0 {
			p.rate = rate
		}
		p.rate += (rate - p.rate) / 2
		p.since, p.bytes = now, 0
	}
}

// batch is how many chunks one of a source's streams may ask for, and whether a
// second batch may follow before the first has come.
func (p *pace) batch() (n int, ahead bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	window := min(2*p.rate*(p.trip+slack).Seconds(), maxWindow)
	each := int(window / max(p.size, 1) / (2 * perSource))
	return min(max(each, 1), MaxBatch), each > 0
}

// chunks is the rate in chunks a second; 0 before it is known.
func (p *pace) chunks() float64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.rate / max(p.size, 1)
}
