package exchange

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"sync"
	"time"
)

// piece is what is metered at a time, in bytes, so that streams take turns.
const piece = 64 << 10

// saveEvery is how much traffic may be forgotten by a crash, in bytes.
const saveEvery = 16 << 20

// ErrMonth says that a month's traffic is used up.
var ErrMonth = errors.New("the limit on a month's traffic is reached")

// Limits bound the traffic with all peers together, each way: bytes a second and
// bytes in a calendar month (UTC). Zero is no limit.
type Limits struct {
	Up, Down           int64
	UpMonth, DownMonth int64
}

// Meter keeps limits, and counts the traffic of the month in a file so that a
// restart does not forget it. It is safe for concurrent use. Whoever waits is
// served in order, a piece at a time, so that no stream keeps the others waiting.
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

type flow struct {
	rate, most int64
	spent      int64     // this month
	free       time.Time // when the next piece may go
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
	m := &Meter{path: path, up: flow{rate: l.Up, most: l.UpMonth}, down: flow{rate: l.Down, most: l.DownMonth}}
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
	m.turn(time.Now())
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

// sending and receiving wait until so many bytes may go, at most a piece. The
// error is ErrMonth or the cause of ctx. A nil meter has no limits.
func (m *Meter) sending(ctx context.Context, n int) error {
	if m == nil {
		return nil
	}
	return m.pass(ctx, &m.up, n)
}

func (m *Meter) receiving(ctx context.Context, n int) error {
	if m == nil {
		return nil
	}
	return m.pass(ctx, &m.down, n)
}

func (m *Meter) pass(ctx context.Context, f *flow, n int) error {
	wait, err := m.take(f, int64(n), time.Now())
	if err != nil || wait <= 0 {
		return err
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// take counts n bytes and says how long they have to wait.
func (m *Meter) take(f *flow, n int64, now time.Time) (wait time.Duration, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.turn(now)
	if f.most > 0 && f.spent+n > f.most {
		return 0, ErrMonth
	}
	f.spent += n
	if m.unsaved += n; m.unsaved >= saveEvery {
		m.save()
	}
	if f.rate <= 0 {
		return 0, nil
	}
	if f.free.Before(now) {
		f.free = now
	}
	wait = f.free.Sub(now)
	f.free = f.free.Add(time.Duration(float64(n) / float64(f.rate) * float64(time.Second)))
	return wait, nil
}

// turn begins a month. The lock is held.
func (m *Meter) turn(now time.Time) {
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
