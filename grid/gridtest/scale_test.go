package gridtest

import (
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
// many there are; make sim-crowds goes on to 4,000.
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

// BenchmarkCrowd runs 1,000 volunteers with 20,000 copies.
func BenchmarkCrowd(b *testing.B) {
	for b.Loop() {
		w := crowd(b, 1, 1000, 10_000)
		copies := w.Kinds()[workunits.KindCommit]
		b.ReportMetric(float64(copies), "copies")
		b.ReportMetric(float64(w.obs.bytes)/float64(copies), "B/copy")
	}
}
