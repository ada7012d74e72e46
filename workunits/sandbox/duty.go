package sandbox

import (
	"errors"
	"os"
	"time"
)

// dutyPeriod is how long one turn of work and rest takes.
const dutyPeriod = 200 * time.Millisecond

// duty says whether children that may work so many percent of the time work at a
// time after the beginning, and when that changes. It is exact over each period,
// however late anybody looks.
func duty(percent int, at time.Duration) (work bool, change time.Duration) {
	begin := at - at%dutyPeriod
	if rest := begin + dutyPeriod*time.Duration(percent)/100; at < rest {
		return true, rest
	}
	return false, begin + dutyPeriod
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
		work, change := duty(percent, time.Since(begin))
		alive, err := p.rest(!always && !work)
		if errors.Is(err, errors.ErrUnsupported) {
			p.log.Warn("children work all the time: they cannot be paused on this system")
			return
		}
		if alive == 0 || always {
			select {
			case <-p.launched:
			case <-p.ctx.Done():
				return
			}
			change = time.Since(begin)
		}
		timer.Reset(max(change-time.Since(begin), 0))
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

// pauseAll stops all children or lets them go on. The caller holds the lock.
func (p *Pool) pauseAll(stop bool) (err error) {
	for w := range p.workers {
		if werr := w.pause(stop); werr != nil && !errors.Is(werr, os.ErrProcessDone) {
			err = errors.Join(err, werr)
		}
	}
	return err
}
