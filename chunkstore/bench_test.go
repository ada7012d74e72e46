package chunkstore

import (
	"encoding/binary"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"time"

	blocks "github.com/ipfs/go-block-format"
	"github.com/ipfs/go-cid"
	mh "github.com/multiformats/go-multihash"
)

// small makes the i-th small chunk.
func small(tb testing.TB, i uint64) blocks.Block {
	tb.Helper()
	data := make([]byte, 4096)
	binary.LittleEndian.PutUint64(data, i)
	c, err := cid.V1Builder{Codec: cid.Raw, MhType: mh.BLAKE3, MhLength: -1}.Sum(data)
	if err != nil {
		tb.Fatal(err)
	}
	b, err := blocks.NewBlockWithCid(data, c)
	if err != nil {
		tb.Fatal(err)
	}
	return b
}

// BenchmarkMillion puts one million chunks of 4 KiB, opens the store anew, by its
// index and as after a crash, and looks chunks up and reads them at random. Beside
// it the same chunks are verified and appended to one file, which is the most that
// packs could come to.
func BenchmarkMillion(b *testing.B) {
	const n = 1_000_000
	for b.Loop() {
		dir := b.TempDir()
		each(b, n, "append-us", appender(b))
		s := open(b, dir, 0)
		each(b, n, "put-us", func(k blocks.Block) error { return s.Put(b.Context(), k) })
		for _, kind := range []string{"open-s", "open-crashed-s"} {
			begun := time.Now()
			closed(b, s)
			b.ReportMetric(time.Since(begun).Seconds(), "close-s")
			if kind == "open-crashed-s" {
				if err := os.Remove(filepath.Join(dir, "index")); err != nil {
					b.Fatal(err)
				}
			}
			begun = time.Now()
			s = open(b, dir, 0)
			b.ReportMetric(time.Since(begun).Seconds(), kind)
			b.ReportMetric(float64(heap())/1e6, "heap-MB")
			lookups(b, s, n)
		}
		closed(b, s)
	}
}

// each does something with n chunks and reports its time for one.
func each(b *testing.B, n uint64, unit string, do func(blocks.Block) error) {
	b.Helper()
	var spent time.Duration
	for i := range n {
		k := small(b, i)
		begun := time.Now()
		if err := do(k); err != nil {
			b.Fatal(err)
		}
		spent += time.Since(begun)
	}
	b.ReportMetric(spent.Seconds()*1e6/float64(n), unit)
}

func appender(b *testing.B) func(blocks.Block) error {
	b.Helper()
	f, err := os.Create(filepath.Join(b.TempDir(), "pack"))
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = f.Close() })
	return func(k blocks.Block) error {
		if err := Verify(k.Cid(), k.RawData()); err != nil {
			return err
		}
		_, err := f.Write(k.RawData())
		return err
	}
}

func lookups(b *testing.B, s *Store, n int) {
	b.Helper()
	const tries = 20_000
	rng := rand.New(rand.NewPCG(1, 1))
	list := make([]cid.Cid, tries)
	for i := range list {
		list[i] = small(b, rng.Uint64N(uint64(n))).Cid()
	}
	begun := time.Now()
	for _, c := range list {
		if _, err := s.GetSize(b.Context(), c); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(time.Since(begun).Seconds()*1e6/tries, "lookup-us")
	begun = time.Now()
	for _, c := range list {
		if _, err := s.Get(b.Context(), c); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(time.Since(begun).Seconds()*1e6/tries, "read-us")
}
