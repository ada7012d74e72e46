package exchange

import (
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"runtime/metrics"
	"testing"

	"github.com/talka-grid/talka/chunkstore"
	"github.com/talka-grid/talka/workunits"
)

const largeSize = 256 * mib

// large writes a file of 256 MiB.
func large(t testing.TB) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "large")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	_, err = io.CopyN(f, rand.NewChaCha8([32]byte{1}), largeSize)
	if err := errors.Join(err, f.Close()); err != nil {
		t.Fatal(err)
	}
	return path
}

// heap is the bytes of objects, garbage included.
func heap() int64 {
	sample := []metrics.Sample{{Name: "/memory/classes/heap/objects:bytes"}}
	metrics.Read(sample)
	return int64(sample[0].Value.Uint64())
}

// TestConstantMemory is not parallel: it measures the heap of the process, which
// is that of both nodes.
func TestConstantMemory(t *testing.T) { //nolint:paralleltest // see above
	const bound = 64 << 20
	w := newWorld(t)
	w.dial = loopback(t)
	_, from := w.node(t, 1)
	x, to := w.node(t, 2)
	a := add(t, from, large(t))
	runtime.GC()
	base := heap()
	var peak int64
	err := x.Fetch(t.Context(), a.Cid, []workunits.NodeID{id(1)}, func(_, _ int64) { peak = max(peak, heap()-base) })
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%d MiB over base", peak>>20)
	if peak > bound {
		t.Errorf("fetching took %d MiB", peak>>20)
	}
	if to.Stat() != from.Stat() {
		t.Errorf("%+v, want %+v", to.Stat(), from.Stat())
	}
}

// BenchmarkFetch256MiB fetches a file over loopback TCP beside sending it as it is
// over TCP to a file, and beside copying it.
func BenchmarkFetch256MiB(b *testing.B) {
	w := newWorld(b)
	w.dial = loopback(b)
	_, from := w.node(b, 1)
	path := large(b)
	a := add(b, from, path)
	var fetched, sent, copied float64
	for b.Loop() {
		b.StopTimer()
		dir := b.TempDir()
		to, err := chunkstore.Open(filepath.Join(dir, "store"), chunkstore.Config{})
		if err != nil {
			b.Fatal(err)
		}
		x := New(Config{Self: id(2), Store: to, Streams: w})
		took := func(f func() error) float64 {
			started := b.Elapsed()
			b.StartTimer()
			err := f()
			b.StopTimer()
			if err != nil {
				b.Fatal(err)
			}
			return (b.Elapsed() - started).Seconds()
		}
		fetched += took(func() error { return x.Fetch(b.Context(), a.Cid, []workunits.NodeID{id(1)}, nil) })
		sent += took(func() error { return sendFile(b.Context(), w, path, filepath.Join(dir, "sent")) })
		copied += took(func() error { return copyFile(path, filepath.Join(dir, "copy")) })
		if err := os.RemoveAll(dir); err != nil {
			b.Fatal(err)
		}
		b.StartTimer()
	}
	mb := float64(b.N) * largeSize / 1e6
	b.ReportMetric(mb/fetched, "fetch-MB/s")
	b.ReportMetric(mb/sent, "tcp-MB/s")
	b.ReportMetric(mb/copied, "cp-MB/s")
	b.ReportMetric(sent/fetched, "of-tcp")
	b.ReportMetric(copied/fetched, "of-cp")
}

func sendFile(ctx context.Context, w *world, from, to string) error {
	near, far, err := w.dial(ctx)
	if err != nil {
		return err
	}
	defer far.Close()
	sent := make(chan error, 1)
	go func() {
		in, err := os.Open(from)
		if err == nil {
			_, err = io.Copy(near, struct{ io.Reader }{in}) // no sendfile: TLS has none either
			err = errors.Join(err, in.Close())
		}
		sent <- errors.Join(err, near.Close())
	}()
	out, err := os.Create(to)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, far)
	return errors.Join(err, out.Close(), <-sent)
}

func copyFile(from, to string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.Create(to)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	return errors.Join(err, out.Close())
}
