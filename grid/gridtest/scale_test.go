package gridtest

import (
	"fmt"
	"testing"

	"github.com/talka-grid/talka/workunits"
)

// crowd runs a job with many volunteers, in a world with the fast signer, and
// returns it once the publisher has sealed the job.
func crowd(tb testing.TB, seed uint64, volunteers, units int) *World {
	tb.Helper()
	w := New(seed, nil)
	w.Fast, w.Gather = true, 20
	var stewards, list []*Node
	for _, name := range []string{"p", "s1", "s2", "s3"} {
		stewards = append(stewards, w.Add(name))
	}
	for i := range volunteers {
		list = append(list, w.Add(fmt.Sprint("v", i)))
	}
	j := &Job{Manifest: manifest(uint32(units), uint32(max(1, units/32))), Publisher: stewards[0], Time: 20_000}
	j.Manifest.Limits.Wall = 300_000
	if err := w.Publish(j, stewards, list); err != nil {
		tb.Fatal(err)
	}
	if !w.Run(w.Sealed, hour) && w.Err() == nil {
		tb.Fatalf("%d of %d units are accepted", w.Accepted(), units)
	}
	if w.Err() != nil {
		tb.Fatal(w.Err())
	}
	return w
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
