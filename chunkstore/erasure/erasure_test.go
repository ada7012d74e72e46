package erasure

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"testing"

	"github.com/talka-grid/talka/workunits"
)

func noise(n int) []byte {
	b := make([]byte, n)
	rand.NewChaCha8([32]byte{byte(n), byte(n >> 8)}).Read(b) //nolint:errcheck // it never fails
	return b
}

func cut(t testing.TB, c Code, text []byte) [][]byte {
	t.Helper()
	bufs := make([]bytes.Buffer, c.Total)
	writers := make([]io.Writer, c.Total)
	for i := range bufs {
		writers[i] = &bufs[i]
	}
	n, err := c.Cut(t.Context(), bytes.NewReader(text), writers)
	if err != nil || n != int64(len(text)) {
		t.Fatalf("cut %d bytes: %d, %v", len(text), n, err)
	}
	pieces := make([][]byte, c.Total)
	for i := range bufs {
		if pieces[i] = bufs[i].Bytes(); int64(len(pieces[i])) != c.Size(n) {
			t.Fatalf("piece %d of %d bytes has %d, want %d", i, n, len(pieces[i]), c.Size(n))
		}
	}
	return pieces
}

func join(t testing.TB, c Code, pieces [][]byte, size int, which []int) ([]byte, error) {
	readers := make([]io.Reader, c.Total)
	for _, i := range which {
		readers[i] = bytes.NewReader(pieces[i])
	}
	var out bytes.Buffer
	err := c.Join(t.Context(), readers, int64(size), &out)
	return out.Bytes(), err
}

// TestAnyPieces gives a stream back from any eight of forty.
func TestAnyPieces(t *testing.T) {
	t.Parallel()
	c := Code{8, 40}
	rng := rand.New(rand.NewPCG(1, 1))
	for _, size := range []int{0, 1, block, 8*block - 1, 8 * block, 8*block + 1, 3<<20 + 12345} {
		text := noise(size)
		pieces := cut(t, c, text)
		for range 20 {
			got, err := join(t, c, pieces, size, rng.Perm(40)[:8])
			if err != nil || !bytes.Equal(got, text) {
				t.Fatalf("%d bytes: %d came back, %v", size, len(got), err)
			}
		}
		if got, err := join(t, c, pieces, size, rng.Perm(40)[:25]); err != nil || !bytes.Equal(got, text) {
			t.Errorf("from 25 pieces: %v", err)
		}
		if _, err := join(t, c, pieces, size, rng.Perm(40)[:7]); !errors.Is(err, ErrFew) {
			t.Errorf("from 7 pieces: %v", err)
		}
	}
}

func TestShort(t *testing.T) {
	t.Parallel()
	c := Code{2, 4}
	pieces := cut(t, c, noise(3*block))
	pieces[1] = pieces[1][:block/2]
	if _, err := join(t, c, pieces, 3*block, []int{1, 2}); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("a short piece: %v", err)
	}
	for _, bad := range []Code{{0, 4}, {5, 4}, {8, 300}} {
		if _, err := bad.Cut(t.Context(), bytes.NewReader(nil), make([]io.Writer, bad.Total)); err == nil {
			t.Errorf("%+v cuts", bad)
		}
	}
}

func FuzzParseManifest(f *testing.F) {
	link := func(s string) workunits.Link {
		return workunits.Link{Cid: workunits.RawCid(workunits.Sum([]byte(s)))}
	}
	m := NewManifest(link("root"), 100, 1)
	for i := range 3 {
		m.Pieces = append(m.Pieces, Piece{link(fmt.Sprint(i)), []workunits.Link{link(fmt.Sprint("leaf", i))}})
	}
	f.Add(workunits.Encode(m))
	m.Pieces[1].Leaves = nil
	f.Add(workunits.Encode(m))
	f.Fuzz(func(t *testing.T, b []byte) {
		if m, err := ParseManifest(b); err == nil && !bytes.Equal(workunits.Encode(m), b) {
			t.Error("another encoding")
		}
	})
}

func BenchmarkCut(b *testing.B) {
	c, text := Code{8, 40}, noise(64<<20)
	b.SetBytes(int64(len(text)))
	writers := make([]io.Writer, c.Total)
	for i := range writers {
		writers[i] = io.Discard
	}
	for b.Loop() {
		if _, err := c.Cut(b.Context(), bytes.NewReader(text), writers); err != nil {
			b.Fatal(err)
		}
	}
}
