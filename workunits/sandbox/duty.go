package sandbox

import (
	"errors"
	"os"
	"time"
)

// dutyPeriod is how long one turn of work and rest takes, if nobody is late.
const dutyPeriod = 200 * time.Millisecond

// mostOwed is the longest rest after which children work again in any case.
const mostOwed = 50 * dutyPeriod

// duty is the account of children that may work so many percent of the time, 1 to
// 99. Work owes rest, so that those who work for longer, as nobody stopped them in
// time, rest for longer, too.
type duty struct {
	at   time.Duration // up to which it is reckoned
	work bool          // since then
	owed time.Duration // rest; below zero, to one turn, after too much of it
}

// restOf is the rest of a turn.
func restOf(percent int) time.Duration { return dutyPeriod * time.Duration(100-percent) / 100 }

// pass reckons up to now.
func (d *duty) pass(percent int, now time.Duration) {
	passed := now - d.at
	if d.at = now; d.work {
		d.owed = min(d.owed+passed*time.Duration(100-percent)/time.Duration(percent), mostOwed)
	} else {
		d.owed = max(d.owed-passed, -restOf(percent))
	}
}

// over reckons processor time that each child took while it was to rest, as the system
// stopped it late: that was work.
func (d *duty) over(percent int, took time.Duration) {
	d.owed = min(d.owed+took*100/time.Duration(percent), mostOwed)
}

// works reports whether the children are to work now.
func (d *duty) works(percent int) bool {
	switch {
	case d.owed <= 0:
		return true
	case d.owed >= restOf(percent):
		return false
	}
	return d.work
}

// left is for how long that stays so, rounded up: something changes then.
func (d *duty) left(percent int) time.Duration {
	left := d.owed
	if d.work {
		left = (restOf(percent) - d.owed) * time.Duration(percent) / time.Duration(100-percent)
	}
	return left + time.Nanosecond
}

// SetPercent changes how much of its time each child may work: 1 to 100, 0: all.
// It takes effect within a turn.
func (p *Pool) SetPercent(percent int) {
	if p.percent.Swap(int32(min(max(percent, 0), 100))) != int32(percent) {
		p.look()
	}
}

// look has the turns of the children looked at.
func (p *Pool) look() {
	select {
	case p.launched <- struct{}{}:
	default:
	}
}

// keepDuty stops all children and lets them go on in turns, while there are any
// and they may not work all the time, until the pool is closed.
func (p *Pool) keepDuty() {
	var d duty
	begin := time.Now()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-timer.C:
		case <-p.ctx.Done():
			return
		}
		percent := int(p.percent.Load())
		always := percent == 0 || percent == 100
		if !always {
			d.pass(percent, time.Since(begin))
			if !d.work {
				d.over(percent, p.took())
			}
		}
		work := always || d.works(percent)
		alive, err := p.rest(!work)
		if errors.Is(err, errors.ErrUnsupported) {
			p.log.Warn("children work all the time: they cannot be paused on this system")
			return
		}
		if !always {
			d.pass(percent, time.Since(begin)) // until they were told
			p.took()
		}
		if d.work = work && alive > 0; alive > 0 && !always {
			timer.Reset(d.left(percent))
			continue
		}
		select {
		case <-p.launched:
		case <-p.ctx.Done():
			return
		}
		if always {
			d = duty{at: time.Since(begin)}
			p.took() // they were not to rest
		}
		timer.Reset(0)
	}
}

// rest stops all children or lets them go on, unless the pool is paused. It
// returns how many there are.
func (p *Pool) rest(resting bool) (alive int, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	was := p.resting
	if p.resting = resting; p.paused || was == resting { // children start as the others are
		return len(p.workers), nil
	}
	return len(p.workers), p.pauseAll(resting)
}

// took is the processor time that children took since it was last asked for, on average.
func (p *Pool) took() (took time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for w := range p.workers {
		u, known := usage(w.cmd.Process.Pid)
		if known && w.seen > 0 {
			took += max(u.cpu-w.seen, 0)
		}
		w.seen = u.cpu
	}
	return took / time.Duration(max(len(p.workers), 1))
}

// pauseAll stops all children or lets them go on. The caller holds the lock.
func (p *Pool) pauseAll(stop bool) (err error) {
	for w := range p.workers {
		if werr := w.pause(stop); werr != nil && !errors.Is(werr, os.ErrProcessDone) {
			err = errors.Join(err, werr)
		}
	}
	return err
}
