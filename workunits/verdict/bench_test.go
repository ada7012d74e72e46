package verdict_test

import (
	"fmt"
	"runtime"
	"sync"
	"testing"

	"github.com/talka-grid/talka/workunits"
	"github.com/talka-grid/talka/workunits/ledger"
	"github.com/talka-grid/talka/workunits/verdict"
)

// A job of a million copies: half a million units, each executed by two of a
// hundred volunteers in batches of 64, with two draws, two custodians, of which
// one opens, and three stewards that keep the results. Every statement is a segment
// of its own, which is the most that they can cost.
const (
	benchBatch      = 64
	benchBatches    = 7_813
	benchVolunteers = 100
)

type job struct {
	workunits.JobID
	manifest workunits.Manifest
	segments [][]byte
}

var million = sync.OnceValue(func() job { return writeJob(benchBatches) })

// writeJob writes the ledger of a job of so many batches.
func writeJob(batches uint32) job {
	w := newWorld(func(m *workunits.Manifest) { m.Units, m.Shard = batches*benchBatch, 512 })
	w.chainLen, w.live = 2*batches+1, nil
	for k := range batches {
		units := make([]uint32, benchBatch)
		for i := range units {
			units[i] = k*benchBatch + uint32(i)
		}
		for i := range uint32(2) {
			w.batch([]string{"s1", "s2"}[(k+i)%2], fmt.Sprint("v", (k+i*37)%benchVolunteers), units)
		}
	}
	j := job{w.job, w.manifest, nil}
	for _, a := range w.ledger.Authors() {
		j.segments = append(j.segments, w.ledger.Log(a)...)
	}
	return j
}

// batch is a batch from its grant to the stewards' words that they keep it.
func (w *world) batch(by, to string, units []uint32) {
	g := grant{ref: w.say(by, workunits.Grant{To: idOf(to), Units: units, Inputs: w.manifest.InputsDigest(), Lease: 1000,
		Custodians: []workunits.NodeID{idOf("s3"), idOf("p")}, Arch: "amd64"}), bound: w.ledger.Last(idOf(by)), to: to}
	c := workunits.Commit{Grant: g.ref, Bound: g.bound, Units: units}
	var o workunits.Opening
	for _, u := range units {
		text := fmt.Sprint(u)
		name := workunits.Copy{Network: w.manifest.Network, Job: w.job, Volunteer: idOf(to), Unit: u}
		c.Hashes = append(c.Hashes, name.CommitHash(result(text).Digest, nonce(text)))
		o.Units = append(o.Units, workunits.OpenUnit{Unit: u, Nonce: nonce(text), Result: result(text)})
	}
	for _, s := range []string{"s3", "p"} {
		c.Sealed = append(c.Sealed, workunits.Sealed{To: idOf(s), Data: make([]byte, 2_500)})
	}
	o.Commit = w.say(to, c)
	w.drawn(copied{grant: g, commit: o.Commit}, "s1", "s2")
	at := w.say("s3", o)
	for _, s := range []string{"s1", "s2", "s3"} {
		w.say(s, workunits.StorageReceipt{Results: []workunits.StoredUnits{{Opening: at, Units: units}}})
	}
	w.entries = nil
}

func heap() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// BenchmarkLedger loads a million copies from segments that were checked before.
func BenchmarkLedger(b *testing.B) { benchmark(b, true, false) }

// stored is a ledger of the job that leaves its segments where they are.
func (j job) stored(b *testing.B) *ledger.Ledger {
	l := j.empty()
	for i, s := range j.segments {
		if err := l.Restore(s, uint64(i+1)); err != nil {
			b.Fatal(err)
		}
	}
	l.Forget(0)
	return l
}

func (j job) empty() *ledger.Ledger {
	l := ledger.New(j.manifest.Network, j.JobID)
	l.ReadWith(func(place uint64) ([]byte, error) { return j.segments[place-1], nil })
	return l
}

// BenchmarkRecall is BenchmarkLedger with the ledger's outline at hand.
func BenchmarkRecall(b *testing.B) {
	j := million()
	outline := j.stored(b).Outline()
	var used uint64
	before := heap()
	b.ResetTimer()
	for range b.N {
		m := j.empty()
		if places, err := m.Recall(outline); err != nil || len(places) != len(j.segments) {
			b.Fatal("not all was recalled", err)
		}
		b.StopTimer()
		used = max(heap(), before) - before
		runtime.KeepAlive(m)
		b.StartTimer()
	}
	copies := float64(2 * j.manifest.Units)
	b.ReportMetric(float64(used)/(1<<20), "MiB")
	b.ReportMetric(float64(len(outline))/(1<<20), "outline-MiB")
	b.ReportMetric(copies*float64(b.N)/b.Elapsed().Seconds(), "copies/s")
}

// BenchmarkOutline writes the outline of a million copies.
func BenchmarkOutline(b *testing.B) {
	l := million().stored(b)
	for b.Loop() {
		l.Outline()
	}
}

// BenchmarkBook works out all verdicts on a million copies of a loaded ledger.
func BenchmarkBook(b *testing.B) { benchmark(b, false, true) }

// BenchmarkLedgerAndBook is a restart: both together.
func BenchmarkLedgerAndBook(b *testing.B) { benchmark(b, true, true) }

func benchmark(b *testing.B, load, judge bool) {
	j := million()
	copies := float64(2 * j.manifest.Units)
	bytes := 0
	for _, s := range j.segments {
		bytes += len(s)
	}
	var used uint64
	before := heap()
	b.ResetTimer() // the job was written in it
	for range b.N {
		b.StopTimer()
		l := ledger.New(j.manifest.Network, j.JobID)
		if load {
			b.StartTimer()
		}
		for _, s := range j.segments {
			if _, err := l.Load(s); err != nil {
				b.Fatal(err)
			}
		}
		b.StopTimer()
		if !load {
			before = heap()
		}
		var book *verdict.Book
		if judge {
			b.StartTimer()
			book = verdict.Read(j.JobID, j.manifest, l, l.Heads())
			if !book.Done() {
				b.Fatalf("units are %v", book.Counts())
			}
			b.StopTimer()
		}
		used = max(heap(), before) - before
		runtime.KeepAlive(l)
		runtime.KeepAlive(book)
	}
	if load {
		used += uint64(bytes) // the segments themselves, which are part of the ledger
	}
	b.ReportMetric(float64(used)/(1<<20), "MiB")
	b.ReportMetric(float64(bytes)/copies, "wire-B/copy")
	b.ReportMetric(copies*float64(b.N)/b.Elapsed().Seconds(), "copies/s")
}
