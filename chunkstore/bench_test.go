package chunkstore

import (
	"encoding/binary"
	"math/rand/v2"
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

// BenchmarkMillion puts one million chunks of 4 KiB, opens the store anew, and
// looks chunks up and reads them at random.
func BenchmarkMillion(b *testing.B) {
	const n = 1_000_000
	for b.Loop() {
		dir := b.TempDir()
		s, err := Open(dir, Config{})
		if err != nil {
			b.Fatal(err)
		}
		begun := time.Now()
		for i := range uint64(n) {
			if err := s.Put(b.Context(), small(b, i)); err != nil {
				b.Fatal(err)
			}
		}
		b.ReportMetric(time.Since(begun).Seconds()*1e6/n, "put-us")
		if err := s.Close(); err != nil {
			b.Fatal(err)
		}
		s = nil
		before := heap()
		begun = time.Now()
		s, err = Open(dir, Config{})
		if err != nil {
			b.Fatal(err)
		}
		b.ReportMetric(time.Since(begun).Seconds(), "open-s")
		b.ReportMetric(float64(heap()-before)/1e6, "heap-MB")
		lookups(b, s, n)
		if err := s.Close(); err != nil {
			b.Fatal(err)
		}
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
