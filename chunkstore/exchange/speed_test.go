package exchange

import (
	"context"
	"errors"
	"net"
	"path/filepath"
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

// TestFastFar fills one line of 150 MB/s at 100 ms.
func TestFastFar(t *testing.T) {
	t.Parallel()
	path := file(t, 8, 96*mib)
	synctest.Test(t, func(t *testing.T) {
		x, root, hints := slow(t, 50*time.Millisecond, path, 150e6)
		begun := time.Now()
		if err := x.Fetch(t.Context(), root.Cid, hints, nil); err != nil {
			t.Fatal(err)
		}
		rate := 96 * mib / 1e6 / time.Since(begun).Seconds()
		t.Logf("%.1f MB/s", rate)
		if rate < 50 { // the window has to grow first
			t.Error("too slow")
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
			if err := m.sending(t.Context(), piece); err != nil {
				t.Fatal(err)
			}
			if err := m.receiving(t.Context(), piece); err != nil { // not limited
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
			if err := m.sending(t.Context(), piece); err != nil {
				t.Fatal(err)
			}
		}
		if err := m.sending(t.Context(), 1); !errors.Is(err, ErrMonth) {
			t.Errorf("over the month's limit: %v", err)
		}
		time.Sleep(31 * 24 * time.Hour)
		if err := m.sending(t.Context(), piece); err != nil {
			t.Errorf("in the next month: %v", err)
		}
	})
}
