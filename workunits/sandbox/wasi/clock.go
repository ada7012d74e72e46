package wasi

import "encoding/binary"

// The virtual clock, in nanoseconds.
const (
	// Epoch is the time of every file: the start of 2026, since 1970.
	Epoch uint64 = 1767225600e9
	// ClockStep is how far each look advances the clocks. A look costs about as
	// much real time, so that a program that waits by looking takes as long as
	// it means to.
	ClockStep uint64 = 1000

	monotonicStart uint64 = 1e9 // programs take 0 for a broken clock
	startSpread    uint64 = 366 * 24 * 3600
)

const (
	clockReal, clockMono, clockProcess, clockThread = 0, 1, 2, 3
)

// startOffset spreads the starts of the real-time clock over a year after
// Epoch, in whole seconds: programs seed their generators with the time.
func startOffset(seed [32]byte) uint64 {
	return (1 + binary.LittleEndian.Uint64(seed[:])%startSpread) * 1e9
}

func (p *Process) clockResGet(a []uint64) Errno {
	if uint32(a[0]) > clockThread {
		return eInval
	}
	return p.put64(a[1], ClockStep)
}

func (p *Process) clockTimeGet(a []uint64) Errno {
	if uint32(a[0]) > clockThread {
		return eInval
	}
	p.now += ClockStep
	return p.put64(a[2], p.clock(uint32(a[0])))
}

func (p *Process) clock(id uint32) uint64 {
	if id == clockReal {
		return p.born + p.now
	}
	return p.now
}

func (p *Process) schedYield([]uint64) Errno { return ok }

func (p *Process) randomGet(a []uint64) Errno {
	b, e := p.bytes(a[0], a[1])
	if e == ok {
		// ChaCha8's Read never fails.
		_, _ = p.rand.Read(b)
	}
	return e
}

func (p *Process) procExit(a []uint64) Errno {
	p.end(Stop{Kind: StopExit, Code: uint32(a[0])})
	return ok
}

// Layout of a subscription and of an event.
const (
	subSize, eventSize     = 48, 32
	pollClock              = 0
	pollAbstime            = 1
	maxClock               = 1 << 62
	maxSubs            int = 1 << 16
)

// pollOneoff answers at once: descriptors are always ready, and where only
// clocks are waited for, the clocks jump to the earliest.
func (p *Process) pollOneoff(a []uint64) Errno {
	n := uint64(uint32(a[2]))
	if n == 0 || n > uint64(maxSubs) {
		return eInval
	}
	in, e := p.bytes(a[0], n*subSize)
	if e != ok {
		return e
	}
	events, e := p.bytes(a[1], n*eventSize)
	if e != ok {
		return e
	}
	// The lists may overlap in a hostile program's memory.
	subs := append([]byte(nil), in...)
	asked := p.now
	if wake, waits := p.earliest(subs); waits {
		p.now = wake
	}
	count := uint32(0)
	for ; len(subs) > 0; subs = subs[subSize:] {
		due, e := p.due(subs, asked)
		if e == ok && due > p.now {
			continue
		}
		ev := events[count*eventSize : (count+1)*eventSize]
		clear(ev)
		copy(ev, subs[:8])
		binary.LittleEndian.PutUint16(ev[8:], uint16(e))
		if ev[10] = subs[8]; e == ok && subs[8] != pollClock {
			binary.LittleEndian.PutUint64(ev[16:], p.ready(subs))
		}
		count++
	}
	return p.put32(a[3], count)
}

// due is when a subscription that was asked at the given time is answered, on
// the monotonic clock.
func (p *Process) due(sub []byte, asked uint64) (uint64, Errno) {
	if sub[8] != pollClock {
		if sub[8] > 2 {
			return 0, eInval
		}
		f, e := p.fd(uint64(binary.LittleEndian.Uint32(sub[16:])))
		if e == ok && f.node.kind != typeFile {
			e = eBadf
		}
		return 0, e
	}
	id, timeout := binary.LittleEndian.Uint32(sub[16:]), min(binary.LittleEndian.Uint64(sub[24:]), maxClock)
	if id > clockMono {
		return 0, eInval
	}
	if binary.LittleEndian.Uint16(sub[40:])&pollAbstime == 0 {
		return min(asked+timeout, maxClock), ok
	}
	if id == clockReal {
		return timeout - min(timeout, p.born), ok
	}
	return timeout, ok
}

// earliest is when the first subscription is answered; not waits if one is
// already.
func (p *Process) earliest(subs []byte) (at uint64, waits bool) {
	at = 1 << 63
	for ; len(subs) > 0; subs = subs[subSize:] {
		due, e := p.due(subs, p.now)
		if e != ok || due <= p.now {
			return 0, false
		}
		at = min(at, due)
	}
	return at, true
}

// ready is how many bytes a read or write is said to move.
func (p *Process) ready(sub []byte) uint64 {
	f, e := p.fd(uint64(binary.LittleEndian.Uint32(sub[16:])))
	if e != ok || sub[8] != 1 || f.node.stat() != nil {
		return 1
	}
	return f.node.size - min(f.node.size, f.off)
}
