package gridtest

import (
	"fmt"
	"testing"

	"github.com/talka-grid/talka/workunits"
)

func crowd(tb testing.TB, seed uint64, volunteers, units int) *World {
	tb.Helper()
	w, err := Crowd(seed, volunteers, units)
	if err != nil {
		tb.Fatal(err)
	}
	return w
}

// TestFlat: what a volunteer sends and gets for a copy does not depend on how
// many there are; make sim-crowds goes on to 10,000.
func TestFlat(t *testing.T) {
	t.Parallel()
	few, many := crowd(t, 1, 40, 160).BytesPerCopy(), crowd(t, 1, 160, 640).BytesPerCopy()
	t.Logf("%.0f bytes a copy with 40 volunteers, %.0f with 160", few, many)
	if many > 1.2*few || few > 1.2*many {
		t.Errorf("%.0f bytes a copy with 40 volunteers, %.0f with 160", few, many)
	}
}

// TestScale holds that a crowd's job ends, and what the copies may cost: bytes
// must not grow with the crowd.
func TestScale(t *testing.T) {
	t.Parallel()
	w := crowd(t, 1, 100, 500)
	copies := w.Kinds()[workunits.KindCommit]
	each := w.obs.bytes / copies
	t.Logf("%d copies in %s, %d frames, %d bytes a copy: %v", copies, w.clock(), w.Frames(), each, w.obs.types)
	if each > 30_000 {
		t.Errorf("%d bytes a copy", each)
	}
}

// TestChurn: where nine of ten volunteers vanish within an hour, each with what it
// executes and knows, and newcomers come in their place, every unit is done.
func TestChurn(t *testing.T) {
	t.Parallel()
	w := New(1, nil)
	w.Fast, w.Gather = true, 20
	var stewards, volunteers []*Node
	for _, name := range []string{"p", "s1", "s2", "s3"} {
		stewards = append(stewards, w.Add(name))
	}
	for i := range 12 {
		volunteers = append(volunteers, w.Add(fmt.Sprint("v", i)))
	}
	const units, each = 120, 120_000
	j := &Job{Manifest: manifest(units, 40), Publisher: stewards[0], Time: each}
	j.Manifest.Limits.Wall = 4 * each
	if err := w.Publish(j, stewards, volunteers); err != nil {
		t.Fatal(err)
	}
	w.Churn(0.9)
	if !w.Run(w.Sealed, 6*hour) {
		t.Fatalf("%d of %d units are accepted after %s; %v", w.Accepted(), units, w.clock(), w.Err())
	}
	b := stewards[0].steward.Book()
	busy := float64(b.Copies()) * each / 12 // milliseconds, if nobody ever waits
	t.Logf("%d vanished in %s, %d copies, %d leases that were given up; %.2f times as long as the copies take", w.gone, w.clock(), b.Copies(), b.Expired(), float64(w.Elapsed())/busy)
	if w.gone < 10 || float64(w.Elapsed()) > 1.5*busy {
		t.Errorf("%d vanished, and it took %s", w.gone, w.clock())
	}
	if err := w.Check(); err != nil {
		t.Error(err)
	}
}

// BenchmarkCrowd runs 1,000 volunteers with 20,000 copies.
func BenchmarkCrowd(b *testing.B) {
	for b.Loop() {
		w := crowd(b, 1, 1000, 10_000)
		copies := w.Kinds()[workunits.KindCommit]
		b.ReportMetric(float64(copies), "copies")
		b.ReportMetric(float64(w.obs.bytes)/float64(copies), "B/copy")
	}
}
