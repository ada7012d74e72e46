package exchange

import (
	"context"
	"errors"
	"net"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/talka-grid/talka/chunkstore"
	"github.com/talka-grid/talka/workunits"
)

// far gives what it carries a delay each way.
func (w *world) far(delay time.Duration) func(context.Context) (net.Conn, net.Conn, error) {
	return func(context.Context) (near, distant net.Conn, err error) {
		near, a := net.Pipe()
		b, distant := net.Pipe()
		for _, way := range [][2]net.Conn{{a, b}, {b, a}} {
			line := make(chan parcel, 1024)
			w.group.Go(func() { collect(way[0], line, delay) })
			w.group.Go(func() { deliver(line, way[1]) })
		}
		return near, distant, nil
	}
}

type parcel struct {
	data []byte
	due  time.Time
}

func deliver(line <-chan parcel, to net.Conn) {
	defer to.Close()
	var err error
	for p := range line {
		if err == nil { // else what comes is lost
			time.Sleep(time.Until(p.due)) // in virtual time
			_, err = to.Write(p.data)
		}
	}
}

func collect(from net.Conn, line chan<- parcel, delay time.Duration) {
	defer close(line)
	for {
		buf := make([]byte, 64<<10)
		n, err := from.Read(buf)
		if n > 0 {
			line <- parcel{buf[:n], time.Now().Add(delay)}
		}
		if err != nil {
			return
		}
	}
}

// slow is a world of sources with an uplink each, in bytes a second.
func slow(t *testing.T, delay time.Duration, path string, rates ...int64) (x *Exchange, root chunkstore.Added, hints []workunits.NodeID) {
	t.Helper()
	w := newWorld(t)
	w.dial = w.far(delay)
	for i, rate := range rates {
		m, err := NewMeter(filepath.Join(t.TempDir(), "traffic"), Limits{Up: rate})
		if err != nil {
			t.Fatal(err)
		}
		s := store(t, 0)
		from := New(Config{Self: id(byte(i + 1)), Store: s, Streams: w, Meter: m})
		w.serve[id(byte(i+1))] = func(s Stream) { from.Serve(id(0), s) }
		root = add(t, s, path)
		hints = append(hints, id(byte(i+1)))
	}
	x, _ = w.node(t, 100)
	return x, root, hints
}

// TestFourSources fetches from four sources of 5 MB/s at 100 ms, all alike and
// unlike, in virtual time: together they give nearly what they have, and next to
// nothing comes twice.
func TestFourSources(t *testing.T) {
	t.Parallel()
	path := file(t, 7, 64*mib)
	for name, c := range map[string]struct {
		rates []int64
		least float64 // MB/s
	}{
		"alike":    {[]int64{5e6, 5e6, 5e6, 5e6}, 14},
		"unlike":   {[]int64{12e6, 4e6, 2e6, 1e6}, 7},
		"one slow": {[]int64{8e6, 8e6, 3e6, 3e5}, 10},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				x, root, hints := slow(t, 50*time.Millisecond, path, c.rates...)
				begun := time.Now()
				if err := x.Fetch(t.Context(), root.Cid, hints, nil); err != nil {
					t.Fatal(err)
				}
				rate := 64 * mib / 1e6 / time.Since(begun).Seconds()
				fetched, twice := x.Traffic()
				t.Logf("%.1f MB/s, %d of %d bytes came twice", rate, twice, fetched)
				if rate < c.least || twice > fetched/twicePart {
					t.Error("too slow, or too much twice")
				}
				whole(t, x.cfg.Store, root.Cid, path)
			})
		})
	}
}

// TestFastFar fetches over one line of 400 MB/s at 100 ms. The window has to grow
// first, or it would be faster.
func TestFastFar(t *testing.T) {
	t.Parallel()
	path := file(t, 8, 256*mib)
	synctest.Test(t, func(t *testing.T) {
		x, root, hints := slow(t, 50*time.Millisecond, path, 400e6)
		begun := time.Now()
		if err := x.Fetch(t.Context(), root.Cid, hints, nil); err != nil {
			t.Fatal(err)
		}
		rate := 256 * mib / 1e6 / time.Since(begun).Seconds()
		t.Logf("%.1f MB/s", rate)
		if streams := x.cfg.Streams.(*world).opens(hints[0]); rate < 140 || streams != ofFar {
			t.Errorf("too slow, over %d streams", streams)
		}
	})
}

// TestMeter looks that limits hold in virtual time, over a restart and a month's
// end.
func TestMeter(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "traffic")
	synctest.Test(t, func(t *testing.T) { // begins on 1 January 2000
		limits := Limits{Up: 1 << 20, UpMonth: 10 << 20}
		m, err := NewMeter(path, limits)
		if err != nil {
			t.Fatal(err)
		}
		begun := time.Now()
		for range 5 * 16 {
			if err := m.Send(t.Context(), 1, piece); err != nil {
				t.Fatal(err)
			}
			if err := m.Receive(t.Context(), 1, piece); err != nil { // not limited
				t.Fatal(err)
			}
		}
		if spent := time.Since(begun).Round(100 * time.Millisecond); spent < 4900*time.Millisecond || spent > 5*time.Second {
			t.Errorf("5 MiB at 1 MiB/s took %v", spent)
		}
		if err := m.Close(); err != nil {
			t.Fatal(err)
		}
		if m, err = NewMeter(path, limits); err != nil {
			t.Fatal(err)
		}
		if up, down := m.Spent(); up != 5<<20 || down != 5<<20 {
			t.Errorf("after a restart %d and %d bytes were spent", up, down)
		}
		for range 5 * 16 {
			if err := m.Send(t.Context(), 1, piece); err != nil {
				t.Fatal(err)
			}
		}
		if err := m.Send(t.Context(), 1, 1); !errors.Is(err, ErrMonth) {
			t.Errorf("over the month's limit: %v", err)
		}
		time.Sleep(31 * 24 * time.Hour)
		if err := m.Send(t.Context(), 1, piece); err != nil {
			t.Errorf("in the next month: %v", err)
		}
	})
}

// TestLimitChanges has a limit raised, lowered and lifted while many wait for it: what
// passes in each time is what the limit then was.
func TestLimitChanges(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "traffic")
	synctest.Test(t, func(t *testing.T) {
		m, err := NewMeter(path, Limits{Up: piece / 10}) // a piece in ten seconds
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		var group sync.WaitGroup
		var got atomic.Int64
		for who := range 3 {
			group.Go(func() {
				for got.Load() < 5000 && m.Send(ctx, who, piece) == nil {
					got.Add(1)
				}
			})
		}
		passed := func() int64 {
			before := got.Load()
			time.Sleep(10 * time.Second) // in virtual time
			return got.Load() - before
		}
		passed()
		m.Limit(Limits{Up: 20 * piece})
		if n := passed(); n < 195 || n > 205 {
			t.Errorf("raised: %d pieces in ten seconds, want 200", n)
		}
		m.Limit(Limits{Up: 2 * piece})
		if n := passed(); n < 19 || n > 21 {
			t.Errorf("lowered: %d pieces in ten seconds, want 20", n)
		}
		m.Limit(Limits{Down: piece})
		if n := passed(); got.Load() < 5000 {
			t.Errorf("lifted: %d pieces in ten seconds", n)
		}
		begun := time.Now()
		for range 3 {
			if err := m.Receive(ctx, 1, piece); err != nil {
				t.Error(err)
			}
		}
		if took := time.Since(begun).Round(time.Second); took != 2*time.Second {
			t.Errorf("the other way: three pieces at one a second took %v", took)
		}
		cancel()
		group.Wait()
	})
}

// TestNoTraffic: who waits when nothing may pass any more is told so at once, as is who
// comes then; what is allowed later passes. A limit of the month changes, too.
func TestNoTraffic(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "traffic")
	synctest.Test(t, func(t *testing.T) {
		m, err := NewMeter(path, Limits{Up: 1}) // a piece in 18 hours
		if err != nil {
			t.Fatal(err)
		}
		told := make(chan error, 3)
		for range cap(told) {
			go func() { told <- m.Send(t.Context(), 1, piece) }()
		}
		synctest.Wait()
		begun := time.Now()
		m.Limit(Limits{Up: -1, Down: -1})
		refused := 0
		for range cap(told) {
			if errors.Is(<-told, ErrNone) {
				refused++
			}
		}
		if refused != cap(told)-1 { // the first was sent before
			t.Errorf("%d of %d that waited were refused", refused, cap(told))
		}
		if err := m.Send(t.Context(), 1, 1); !errors.Is(err, ErrNone) {
			t.Errorf("sent: %v", err)
		}
		if err := m.Receive(t.Context(), 1, 1); !errors.Is(err, ErrNone) {
			t.Errorf("received: %v", err)
		}
		m.Limit(Limits{Up: 100 * piece})
		for range 10 {
			if err := m.Send(t.Context(), 1, piece); err != nil {
				t.Errorf("allowed again: %v", err)
			}
		}
		if took := time.Since(begun); took > time.Second {
			t.Errorf("it took %v", took)
		}
		m.Limit(Limits{UpMonth: 1})
		if err := m.Send(t.Context(), 1, 1); !errors.Is(err, ErrMonth) {
			t.Errorf("over the month's new limit: %v", err)
		}
	})
}

// TestTurns has one peer with many streams, one with one and a newcomer that wants
// little share a line: the first two get the same, the last does not wait for them.
func TestTurns(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "traffic")
	synctest.Test(t, func(t *testing.T) {
		m, err := NewMeter(path, Limits{Up: 16 * piece})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		var group sync.WaitGroup
		var got [2]atomic.Int64
		for who, streams := range []int{20, 2} {
			for range streams {
				group.Go(func() {
					for m.Send(ctx, who, piece) == nil {
						got[who].Add(piece)
					}
				})
			}
		}
		time.Sleep(10 * time.Second) // in virtual time
		begun := time.Now()
		for range 4 {
			if err := m.Send(ctx, "newcomer", piece); err != nil {
				t.Error(err)
			}
		}
		if took := time.Since(begun); took > 12*time.Second/16 { // with two others it has a third of the line
			t.Errorf("a newcomer waited %v for 4 of 16 pieces a second", took)
		}
		cancel()
		group.Wait()
		many, few := got[0].Load(), got[1].Load()
		t.Logf("20 streams got %d bytes, 2 streams of another peer %d", many, few)
		if many > few*11/10 || few > many*11/10 || many+few < 9*16*piece {
			t.Error("peers do not have equal parts of the line")
		}
		if len(m.up.waiting) > 0 {
			t.Errorf("%d wait for ever", len(m.up.waiting))
		}
	})
}
