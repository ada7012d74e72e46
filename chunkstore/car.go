package chunkstore

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/fxamacker/cbor/v2"
	blocks "github.com/ipfs/go-block-format"
	"github.com/ipfs/go-cid"
)

// Limits on an archive that somebody made.
const (
	maxRoots     = 1024
	maxCarHeader = 64 << 10
	maxCidBytes  = 64
	maxPadding   = 1 << 20 // bytes before the data of version 2
)

// pragma begins an archive of version 2.
var pragma = []byte("\x0a\xa1gversion\x02")

// carHeader is the header of version 1, and what version 2 begins with.
type carHeader struct {
	Roots   []cbor.Tag `cbor:"roots,omitempty"`
	Version uint64     `cbor:"version"`
}

// Export writes what is selected of a root as a content archive (CAR, version 1): each
// chunk once, parents before children, in the order of links. The error wraps
// ErrNotFound if a chunk is not here, or ErrForeign; what was written until then is
// void.
func (s *Store) Export(ctx context.Context, root cid.Cid, sel Selection, w io.Writer) error {
	defer s.Hold(root)()
	header, err := carHeaderOf(root)
	if err != nil {
		return fmt.Errorf("export %s: %w", root, err)
	}
	out := bufio.NewWriterSize(w, leafSize)
	section(out, header)
	err = s.selected(ctx, root, sel, func(c cid.Cid) error {
		b, err := s.Get(ctx, c)
		if err == nil {
			section(out, c.Bytes(), b.RawData())
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("export %s: %w", root, err)
	}
	return out.Flush()
}

// section writes one part of an archive. The writer keeps its first error.
func section(w *bufio.Writer, parts ...[]byte) {
	n := 0
	for _, p := range parts {
		n += len(p)
	}
	w.Write(binary.AppendUvarint(nil, uint64(n)))
	for _, p := range parts {
		w.Write(p)
	}
}

// carHeaderOf encodes a header. Length-first order of keys makes it dag-cbor.
func carHeaderOf(root cid.Cid) ([]byte, error) {
	mode, err := cbor.EncOptions{Sort: cbor.SortLengthFirst}.EncMode()
	if err != nil {
		return nil, err
	}
	return mode.Marshal(carHeader{Version: 1, Roots: []cbor.Tag{{Number: 42, Content: append([]byte{0}, root.Bytes()...)}}})
}

// Imported tells what an archive held.
type Imported struct {
	Roots  []cid.Cid
	Bytes  int64 // of chunks
	Chunks int
}

// Import stores what a content archive (CAR, version 1 or 2) holds. Every chunk is
// verified, and every root must be whole in the end, with what was here before. An
// archive that is cut off, malformed or false is an error that wraps ErrForeign,
// ErrDamaged or ErrNotFound; what was stored until then is true content that no
// lease covers. Progress, which may be nil, gets the bytes of chunks so far, on the
// caller's goroutine. What is imported is covered until Import returns: Keep its
// roots at once.
func (s *Store) Import(ctx context.Context, r io.Reader, progress func(done, total int64)) (in Imported, err error) {
	var held []cid.Cid
	defer func() { s.unhold(s.held, held...) }()
	body, roots, err := openCar(bufio.NewReaderSize(r, leafSize))
	if err != nil {
		return in, fmt.Errorf("import: %w", err)
	}
	for seen := (map[cid.Cid]bool{}); ; {
		b, err := nextChunk(body)
		if errors.Is(err, io.EOF) {
			break
		}
		if err == nil && len(held) == maxVisits {
			err = fmt.Errorf("more than %d chunks: %w", maxVisits, ErrForeign)
		}
		if err != nil {
			return in, fmt.Errorf("import, chunk %d: %w", in.Chunks+1, err)
		}
		s.holdChunk(b.Cid())
		held = append(held, b.Cid())
		if err := s.Put(ctx, b); err != nil {
			return in, fmt.Errorf("import, chunk %d: %w", in.Chunks+1, err)
		}
		if ctx.Err() != nil {
			return in, context.Cause(ctx)
		}
		if seen[b.Cid()] {
			continue
		}
		seen[b.Cid()] = true
		in.Chunks++
		in.Bytes += int64(len(b.RawData()))
		if progress != nil {
			progress(in.Bytes, 0)
		}
	}
	for _, root := range roots {
		if err := s.whole(ctx, root); err != nil {
			return in, fmt.Errorf("import: the archive does not hold all of %s: %w", root, err)
		}
	}
	in.Roots = roots
	return in, nil
}

// whole reports as an error what is missing of a root, or malformed in it.
func (s *Store) whole(ctx context.Context, root cid.Cid) error {
	return s.walk(ctx, Selection{}.First(root), func(c cid.Cid) error {
		_, err := s.GetSize(ctx, c)
		return err
	})
}

// openCar reads the headers of an archive and returns what follows.
func openCar(r *bufio.Reader) (*bufio.Reader, []cid.Cid, error) {
	if start, err := r.Peek(len(pragma)); err == nil && bytes.Equal(start, pragma) {
		inner, err := openCar2(r)
		if err != nil {
			return nil, nil, err
		}
		r = inner
	}
	raw, err := nextSection(r, maxCarHeader)
	if errors.Is(err, io.EOF) {
		err = fmt.Errorf("it is empty: %w", ErrForeign)
	}
	if err != nil {
		return nil, nil, fmt.Errorf("header: %w", err)
	}
	mode, err := cbor.DecOptions{DupMapKey: cbor.DupMapKeyEnforcedAPF, IndefLength: cbor.IndefLengthForbidden, MaxArrayElements: maxRoots, MaxNestedLevels: 4}.DecMode()
	if err != nil {
		return nil, nil, err
	}
	var h carHeader
	if err := mode.Unmarshal(raw, &h); err != nil || h.Version != 1 || len(h.Roots) == 0 {
		return nil, nil, fmt.Errorf("no archive (CAR) of version 1 or 2 with a root: %w", ErrForeign)
	}
	var roots []cid.Cid
	for _, tag := range h.Roots {
		link, ok := tag.Content.([]byte)
		if !ok || tag.Number != 42 || len(link) == 0 || link[0] != 0 || len(link) > maxCidBytes {
			return nil, nil, fmt.Errorf("a root that is no CID: %w", ErrForeign)
		}
		c, err := cid.Cast(link[1:])
		if err != nil {
			return nil, nil, fmt.Errorf("a root that is no CID: %w: %w", ErrForeign, err)
		}
		roots = append(roots, c)
	}
	return r, roots, nil
}

// openCar2 reads the header of version 2: after the pragma 16 bytes of
// characteristics, then offset and size of the data, which is an archive of
// version 1, and the offset of an index that is of no use here.
func openCar2(r *bufio.Reader) (*bufio.Reader, error) {
	head := make([]byte, len(pragma)+40)
	if _, err := io.ReadFull(r, head); err != nil {
		return nil, fmt.Errorf("header of version 2: %w: %w", ErrForeign, noEOF(err))
	}
	offset, size := binary.LittleEndian.Uint64(head[27:]), binary.LittleEndian.Uint64(head[35:])
	skip := offset - uint64(len(head))
	if offset < uint64(len(head)) || skip > maxPadding || size == 0 || size > 1<<62 {
		return nil, fmt.Errorf("header of version 2: data of %d bytes at %d: %w", size, offset, ErrForeign)
	}
	if _, err := io.CopyN(io.Discard, r, int64(skip)); err != nil {
		return nil, fmt.Errorf("header of version 2: %w: %w", ErrForeign, noEOF(err))
	}
	return bufio.NewReaderSize(&exactly{r, int64(size)}, leafSize), nil
}

// exactly reads so many bytes; to have fewer is an error.
type exactly struct {
	r    io.Reader
	left int64
}

func (e *exactly) Read(p []byte) (int, error) {
	if e.left == 0 {
		return 0, io.EOF
	}
	n, err := e.r.Read(p[:min(int64(len(p)), e.left)])
	if e.left -= int64(n); e.left > 0 {
		err = noEOF(err)
	}
	return n, err
}

func noEOF(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

// nextSection reads one part of at most so many bytes; io.EOF is a clean end before
// it.
func nextSection(r *bufio.Reader, most uint64) ([]byte, error) {
	if _, err := r.Peek(1); err != nil {
		return nil, err
	}
	n, err := binary.ReadUvarint(r)
	if err != nil {
		return nil, fmt.Errorf("it is cut off or no archive: %w: %w", ErrForeign, noEOF(err))
	}
	if n == 0 || n > most {
		return nil, fmt.Errorf("a part of %d bytes, limit %d: %w", n, most, ErrForeign)
	}
	raw := make([]byte, n)
	if _, err := io.ReadFull(r, raw); err != nil {
		return nil, fmt.Errorf("it is cut off: %w: %w", ErrForeign, noEOF(err))
	}
	return raw, nil
}

// nextChunk reads one chunk, which is not verified yet.
func nextChunk(r *bufio.Reader) (blocks.Block, error) {
	raw, err := nextSection(r, maxCidBytes+MaxBlock)
	if err != nil {
		return nil, err
	}
	n, c, err := cid.CidFromBytes(raw)
	if err != nil {
		return nil, fmt.Errorf("a chunk without a CID: %w: %w", ErrForeign, err)
	}
	return blocks.NewBlockWithCid(raw[n:], c)
}
