// Package erasure cuts a stream into pieces of which some give it back.
//
// The stream is read in rows of Need blocks of 64 KiB, the last one filled up with
// zeros; Reed-Solomon coding makes Total blocks of each row, and the i-th piece is the
// i-th blocks of all rows, so that memory does not grow with the stream. The first Need
// pieces are the stream itself. The same stream gives the same pieces.
//
// A [Manifest] names the pieces of an object, whose stream is its content archive
// (CAR). It is all that one needs beside Need of the pieces.
package erasure

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/klauspost/reedsolomon"

	"github.com/talka-grid/talka/workunits"
)

const (
	block    = 64 << 10
	maxTotal = 256
)

// MaxManifest bounds an encoded manifest, in bytes.
const MaxManifest = 8 << 20

// ErrFew says that fewer pieces are there than it takes.
var ErrFew = errors.New("too few pieces")

// Code is how many pieces give a stream back, of how many.
type Code struct{ Need, Total int }

// Manifest says what the pieces of an object are.
type Manifest struct {
	Version uint32         `cbor:"version"`
	Root    workunits.Link `cbor:"root"`
	Bytes   uint64         `cbor:"bytes"` // of its content archive
	Need    int            `cbor:"need"`
	Pieces  []Piece        `cbor:"pieces"`
}

// Piece is one of them: a file, and its leaves in order.
type Piece struct {
	Root   workunits.Link   `cbor:"root"`
	Leaves []workunits.Link `cbor:"leaves"`
}

const version = 1

// NewManifest returns a manifest of this version without pieces.
func NewManifest(root workunits.Link, bytes int64, need int) Manifest {
	return Manifest{Version: version, Root: root, Bytes: uint64(bytes), Need: need}
}

// ParseManifest reads a manifest and checks it.
func ParseManifest(b []byte) (Manifest, error) {
	m, err := workunits.Decode[Manifest](b, MaxManifest)
	if err != nil {
		return m, err
	}
	if m.Version != version {
		return m, fmt.Errorf("manifest of pieces: version %d, want %d", m.Version, version)
	}
	if m.Need < 1 || len(m.Pieces) < m.Need || len(m.Pieces) > maxTotal || m.Bytes > 1<<50 || !m.Root.Cid.Defined() {
		return m, fmt.Errorf("manifest of pieces: %d of %d pieces of %d bytes: %w", m.Need, len(m.Pieces), m.Bytes, workunits.ErrTooLarge)
	}
	for _, p := range m.Pieces {
		if !p.Root.Cid.Defined() || len(p.Leaves) == 0 {
			return m, errors.New("manifest of pieces: a piece without content")
		}
	}
	return m, nil
}

// Size is how many bytes each piece of a stream has.
func (c Code) Size(bytes int64) int64 {
	row := int64(c.Need) * block
	return (bytes + row - 1) / row * block
}

// Cut reads a stream to its end and writes its pieces, as many as Total. It returns
// the bytes of the stream.
func (c Code) Cut(ctx context.Context, src io.Reader, pieces []io.Writer) (bytes int64, err error) {
	enc, err := c.coder()
	if err != nil || len(pieces) != c.Total {
		return 0, errors.Join(err, c.count(len(pieces)))
	}
	rows := c.rows()
	for {
		if ctx.Err() != nil {
			return bytes, context.Cause(ctx)
		}
		n, last := 0, false
		for i := range c.Need {
			got, err := io.ReadFull(src, rows[i])
			clear(rows[i][got:])
			n += got
			if last = errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF); last {
				for _, rest := range rows[i+1 : c.Need] {
					clear(rest)
				}
				break
			}
			if err != nil {
				return bytes, err
			}
		}
		bytes += int64(n)
		if n > 0 {
			if err := enc.Encode(rows); err != nil {
				return bytes, err
			}
			for i, w := range pieces {
				if _, err := w.Write(rows[i]); err != nil {
					return bytes, err
				}
			}
		}
		if last {
			return bytes, nil
		}
	}
}

// Join writes a stream of so many bytes from its pieces, of which those that are nil
// are not there. The error wraps ErrFew if that are too many.
func (c Code) Join(ctx context.Context, pieces []io.Reader, bytes int64, dst io.Writer) error {
	enc, err := c.coder()
	if err != nil || len(pieces) != c.Total {
		return errors.Join(err, c.count(len(pieces)))
	}
	have := 0
	for i := range pieces {
		if pieces[i] != nil {
			if have++; have > c.Need {
				pieces[i] = nil // more than it takes
			}
		}
	}
	if have < c.Need {
		return fmt.Errorf("%d pieces of %d: %w", have, c.Need, ErrFew)
	}
	rows, blocks := c.rows(), make([][]byte, c.Total)
	for bytes > 0 {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		for i, r := range pieces {
			if blocks[i] = rows[i][:0]; r == nil {
				continue
			}
			blocks[i] = rows[i]
			if _, err := io.ReadFull(r, rows[i]); err != nil {
				return fmt.Errorf("piece %d: %w", i, err)
			}
		}
		if err := enc.ReconstructData(blocks); err != nil {
			return err
		}
		for _, b := range blocks[:c.Need] {
			n := min(bytes, int64(len(b)))
			if _, err := dst.Write(b[:n]); err != nil {
				return err
			}
			bytes -= n
		}
	}
	return nil
}

func (c Code) coder() (reedsolomon.Encoder, error) {
	if c.Need < 1 || c.Total < c.Need || c.Total > maxTotal {
		return nil, fmt.Errorf("a code of %d of %d: %w", c.Need, c.Total, workunits.ErrTooLarge)
	}
	return reedsolomon.New(c.Need, c.Total-c.Need)
}

func (c Code) count(n int) error {
	if n == c.Total {
		return nil
	}
	return fmt.Errorf("%d pieces of a code of %d", n, c.Total)
}

// rows are a block for each piece.
func (c Code) rows() [][]byte {
	rows := make([][]byte, c.Total)
	for i := range rows {
		rows[i] = make([]byte, block)
	}
	return rows
}
