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
	idle  bool // what is measured now is less than the source could give
}

// began starts a measurement after a time with nothing asked.
func (p *pace) began(now time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if now.Sub(p.since) > time.Second {
		p.since, p.bytes, p.idle = now, 0, false
	}
}

// starve tells that a source could be asked for more than there is.
func (p *pace) starve() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.idle = true
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

// came counts n bytes of a chunk of a size.
func (p *pace) came(n, of int, now time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	part := float64(n) / float64(of)
	p.size = max(p.size+(float64(of)-p.size)*part/8, float64(of)) // small ones may come before large ones
	p.bytes += n
	spent := now.Sub(p.since)
	if spent < max(measure, p.trip) {
		return
	}
	rate := float64(p.bytes) / spent.Seconds()
	switch {
	case rate > p.rate:
		p.rate = rate // at once, so that the window doubles with each trip
	case !p.idle:
		p.rate += (rate - p.rate) / 2
	}
	p.since, p.bytes, p.idle = now, 0, false
}

// room is how many chunks one of so many streams may have asked for.
func (p *pace) room(streams int) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	window := min(2*p.rate*(p.trip+slack).Seconds(), maxWindow)
	each := window / max(p.size, 1) / float64(streams)
	switch {
	case p.rate > 0 && streams > perSource:
		return min(int(each)+3, maxAhead) // nobody else could bring them sooner
	case each < 1:
		return 1
	}
	return min(int(each)+1, maxAhead)
}

// far reports whether the network takes longer than the source.
func (p *pace) far() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.trip > slack
}

// chunks is the rate in chunks a second; 0 before it is known.
func (p *pace) chunks() float64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.rate / max(p.size, 1)
}
