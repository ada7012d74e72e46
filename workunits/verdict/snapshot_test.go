package verdict_test

import (
	"bytes"
	"runtime"
	"testing"

	"github.com/talka-grid/talka/workunits"
	"github.com/talka-grid/talka/workunits/ledger"
	"github.com/talka-grid/talka/workunits/verdict"
)

// restore is what a restart makes of a snapshot.
func (j job) restore(tb testing.TB, raw []byte) *verdict.Book {
	tb.Helper()
	b, err := verdict.Restore(j.JobID, j.manifest, workunits.StakeTable{}, raw)
	if err != nil {
		tb.Fatal(err)
	}
	return b
}

// settled is the book of a job whose ledger was written.
func (j job) settled(tb testing.TB) *verdict.Book {
	tb.Helper()
	l := ledger.New(j.manifest.Network, j.JobID)
	for _, s := range j.segments {
		if _, err := l.Load(s); err != nil {
			tb.Fatal(err)
		}
	}
	return verdict.Read(j.JobID, j.manifest, l, l.Heads())
}

// TestSnapshotOfSettled: what a book says is the same whether its pages are packed or
// not, from the summaries and from the units.
func TestSnapshotOfSettled(t *testing.T) {
	t.Parallel()
	j := writeJob(20)
	b := j.settled(t)
	digest, bound := b.Digest(), b.Bound()
	raw := b.Snapshot()
	for range 2 { // at the third one all are packed
		if again := b.Snapshot(); !bytes.Equal(again, raw) {
			t.Error("a snapshot of the same is another")
		}
	}
	for name, b := range map[string]*verdict.Book{"packed": b, "restored": j.restore(t, raw)} {
		if b.Bound() != bound || !b.Done() || len(b.Unsettled()) > 0 {
			t.Errorf("%s: bound %v, want %v; done %t, unsettled %v", name, b.Bound(), bound, b.Done(), b.Unsettled())
		}
		for u := range j.manifest.Units {
			if s := b.State(u); s != verdict.Accepted || !b.KeepsResult(u, idOf("s3")) || b.KeepsResult(u, idOf("v1")) {
				t.Errorf("%s: unit %d is %s", name, u, s)
			}
		}
		if b.Digest() != digest {
			t.Errorf("%s: another verdict", name)
		}
	}
}

// TestDamagedSnapshot: what ends early or is of another version is refused.
func TestDamagedSnapshot(t *testing.T) {
	t.Parallel()
	w := newWorld(nil)
	c := w.commit(w.grant("s1", "v1", 0), "a")
	w.drawn(c, "s1", "s2")
	w.keep(c)
	j := job{w.job, w.manifest, nil}
	raw := w.book().Snapshot()
	j.restore(t, raw)
	for i := range raw {
		if _, err := verdict.Restore(w.job, w.manifest, workunits.StakeTable{}, raw[:i]); err == nil {
			t.Errorf("cut at %d of %d bytes, it is whole", i, len(raw))
		}
	}
	for _, bad := range [][]byte{append(bytes.Clone(raw), 0), append([]byte{raw[0] + 1}, raw[1:]...)} {
		if _, err := verdict.Restore(w.job, w.manifest, workunits.StakeTable{}, bad); err == nil {
			t.Error("longer, or of another version, and nobody minds")
		}
	}
}

// TestSnapshotVersion: whoever changes what snapshots say changes their version, and
// then this digest.
func TestSnapshotVersion(t *testing.T) {
	t.Parallel()
	const want = "xdpisoozfdxpyz4gtbdn2nxd24z5ep4sbv6ley35yvsubtnvrw2q"
	if got := workunits.Sum(writeJob(3).settled(t).Snapshot()).String(); got != want {
		t.Errorf("snapshots are others than those of this version: digest %s, want %s", got, want)
	}
}

// BenchmarkRestore restores the book of a million copies.
func BenchmarkRestore(b *testing.B) {
	j := million()
	raw := j.settled(b).Snapshot()
	before := heap()
	var used uint64
	for b.Loop() {
		book := j.restore(b, raw)
		b.StopTimer()
		used = heap() - before
		runtime.KeepAlive(book)
		b.StartTimer()
	}
	copies := float64(2 * j.manifest.Units)
	b.ReportMetric(float64(used+uint64(len(raw)))/(1<<20), "MiB")
	b.ReportMetric(float64(len(raw))/copies, "B/copy")
	b.ReportMetric(copies*float64(b.N)/b.Elapsed().Seconds(), "copies/s")
}
