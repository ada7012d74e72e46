package exchange

import (
	turnheap "container/heap"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"sync"
	"time"
)

// piece is what is metered at a time, in bytes, so that streams take turns.
const piece = 64 << 10

// saveEvery is how much traffic may be forgotten by a crash, in bytes.
const saveEvery = 16 << 20

// maxTurns is how many users of a line are remembered that do not wait for it.
const maxTurns = 1024

// lateness is how late timers may be.
const lateness = 10 * time.Millisecond

// ErrMonth says that a month's traffic is used up.
var ErrMonth = errors.New("the limit on a month's traffic is reached")

// ErrNone says that nothing may be sent, or received, now.
var ErrNone = errors.New("no content may go over the internet now: a limit is none, or the network is metered")

// Limits bound the traffic with all peers together, each way: bytes a second and
// bytes in a calendar month (UTC). Zero is no limit; a rate below zero is no traffic.
type Limits struct {
	Up, Down           int64
	UpMonth, DownMonth int64
}

// Meter keeps limits, and counts the traffic of the month in a file so that a
// restart does not forget it. It is safe for concurrent use. Those who wait take
// turns by start-time fair queueing (Goyal, Vin, Cheng: SIGCOMM 1996), however many
// streams one of them has: peers have equal parts of the uplink, fetches of the
// downlink, and who wants little does not wait behind who wants much.
type Meter struct {
	path string
	mu   sync.Mutex
	up   flow
	down flow
	// unsaved are the bytes counted since the file was written.
	unsaved int64
	month   string
	err     error // of the last save
}

// flow is one way. Its virtual time is bytes that each user had a turn for.
type flow struct {
	rate, most int64
	spent      int64     // this month
	free       time.Time // when the next piece may go
	waiting    turns
	until      map[any]float64 // users' virtual time, at the end of what they asked for
	virtual    float64         // of who had a turn last
	asked      int64           // counts turns
	wake       *time.Timer     // looks again when it is free; nil: nobody does
}

// turn is who waits to send or receive so many bytes.
type turn struct {
	n     int64
	start float64 // virtual
	nr    int64   // in order of asking
	at    int     // in the heap; -1: it had its turn
	come  chan struct{}
	err   error // set before come is closed, if there are no turns any more
}

// turns is a heap, the next one first.
type turns []*turn

func (t turns) Len() int { return len(t) }
func (t turns) Less(i, j int) bool {
	return t[i].start < t[j].start || t[i].start == t[j].start && t[i].nr < t[j].nr
}

func (t turns) Swap(i, j int) {
	t[i], t[j] = t[j], t[i]
	t[i].at, t[j].at = i, j
}

func (t *turns) Push(x any) {
	next := x.(*turn) //nolint:forcetypeassert // of turnheap.Push below
	next.at = len(*t)
	*t = append(*t, next)
}

func (t *turns) Pop() any {
	last := len(*t) - 1
	x := (*t)[last]
	(*t)[last] = nil
	*t, x.at = (*t)[:last], -1
	return x
}

// spent is the content of the file.
type spent struct {
	Month string `json:"month"`
	Up    int64  `json:"up"`
	Down  int64  `json:"down"`
}

// NewMeter reads what was spent from a file, which is made if need be. A file that
// cannot be understood counts as nothing spent: it is the owner's to edit.
func NewMeter(path string, l Limits) (*Meter, error) {
	m := &Meter{
		path: path,
		up:   flow{rate: l.Up, most: l.UpMonth, until: map[any]float64{}},
		down: flow{rate: l.Down, most: l.DownMonth, until: map[any]float64{}},
	}
	raw, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return m, nil
	}
	if err != nil {
		return nil, fmt.Errorf("traffic of the month: %w", err)
	}
	var s spent
	if json.Unmarshal(raw, &s) == nil && s.Up >= 0 && s.Down >= 0 {
		m.month, m.up.spent, m.down.spent = s.Month, s.Up, s.Down
	}
	return m, nil
}

// Spent tells the month's traffic in bytes, each way.
func (m *Meter) Spent() (up, down int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.count(time.Now())
	return m.up.spent, m.down.spent
}

// Close writes down what was spent.
func (m *Meter) Close() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.unsaved > 0 {
		m.save()
	}
	return m.err
}

// Send and Receive wait until so many bytes may go, 64 KiB at most so that others
// have their turns. Who is whom turns are counted for, any comparable value. The
// error is ErrMonth, ErrNone or the cause of ctx. A nil meter has no limits.
func (m *Meter) Send(ctx context.Context, who any, n int) error {
	if m == nil {
		return nil
	}
	return m.pass(ctx, &m.up, who, int64(n))
}

// Receive is Send for the other way.
func (m *Meter) Receive(ctx context.Context, who any, n int) error {
	if m == nil {
		return nil
	}
	return m.pass(ctx, &m.down, who, int64(n))
}

func (m *Meter) pass(ctx context.Context, f *flow, who any, n int64) error {
	m.mu.Lock()
	t, err := m.ask(f, who, n, time.Now())
	m.mu.Unlock()
	if err != nil || t == nil {
		return err
	}
	select {
	case <-t.come:
		return t.err
	case <-ctx.Done():
		m.mu.Lock()
		defer m.mu.Unlock()
		if t.at >= 0 {
			turnheap.Remove(&f.waiting, t.at)
		}
		return context.Cause(ctx)
	}
}

// ask counts n bytes and returns whom to wait for, if anybody. The lock is held.
func (m *Meter) ask(f *flow, who any, n int64, now time.Time) (*turn, error) {
	m.count(now)
	if f.rate < 0 {
		return nil, ErrNone
	}
	if f.most > 0 && f.spent+n > f.most {
		return nil, ErrMonth
	}
	f.spent += n
	if m.unsaved += n; m.unsaved >= saveEvery {
		m.save()
	}
	if f.rate == 0 {
		return nil, nil
	}
	f.asked++
	t := &turn{n: n, start: max(f.virtual, f.until[who]), nr: f.asked, come: make(chan struct{})}
	if len(f.until) >= maxTurns {
		maps.DeleteFunc(f.until, func(_ any, until float64) bool { return until <= f.virtual })
	}
	f.until[who] = t.start + float64(n)
	turnheap.Push(&f.waiting, t)
	m.next(f, now)
	return t, nil
}

// next gives turns to those who may go now. The lock is held.
func (m *Meter) next(f *flow, now time.Time) {
	for len(f.waiting) > 0 && !f.free.After(now) {
		t := turnheap.Pop(&f.waiting).(*turn) //nolint:forcetypeassert // a heap of these
		f.virtual = t.start
		// A wake-up that was a little late is no time lost.
		if late := now.Add(-lateness); f.free.Before(late) {
			f.free = late
		}
		if f.rate > 0 {
			f.free = f.free.Add(time.Duration(float64(t.n) / float64(f.rate) * float64(time.Second)))
		}
		close(t.come)
	}
	if len(f.waiting) == 0 || f.wake != nil {
		return
	}
	f.wake = time.AfterFunc(f.free.Sub(now), func() {
		m.mu.Lock()
		defer m.mu.Unlock()
		f.wake = nil
		m.next(f, time.Now())
	})
}

// Limit changes the limits. They count at once, for those who wait, too.
func (m *Meter) Limit(l Limits) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.up.most, m.down.most = l.UpMonth, l.DownMonth
	m.limit(&m.up, l.Up, time.Now())
	m.limit(&m.down, l.Down, time.Now())
}

func (m *Meter) limit(f *flow, rate int64, now time.Time) {
	if rate == f.rate {
		return
	}
	if left := f.free.Sub(now); rate <= 0 || f.rate < 0 {
		f.free = now
	} else if left > 0 { // the piece under way has the new rate from now on
		f.free = now.Add(time.Duration(float64(left) * float64(f.rate) / float64(rate)))
	}
	for rate < 0 && len(f.waiting) > 0 {
		t := turnheap.Pop(&f.waiting).(*turn) //nolint:forcetypeassert // a heap of these
		t.err = ErrNone
		close(t.come)
	}
	f.rate = rate
	if f.wake != nil && f.wake.Stop() {
		f.wake = nil
	}
	m.next(f, now)
}

// count begins a month. The lock is held.
func (m *Meter) count(now time.Time) {
	if month := now.UTC().Format("2006-01"); month != m.month {
		m.month, m.up.spent, m.down.spent = month, 0, 0
	}
}

// save writes down what was spent. The lock is held.
func (m *Meter) save() {
	raw, err := json.Marshal(spent{m.month, m.up.spent, m.down.spent})
	if err == nil {
		err = os.WriteFile(m.path+".new", raw, 0o600)
	}
	if err == nil {
		err = os.Rename(m.path+".new", m.path)
	}
	m.unsaved, m.err = 0, err
}
