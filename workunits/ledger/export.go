package ledger

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"

	"github.com/talka-grid/talka/workunits"
)

// exportMagic begins an export; the number is its version.
const exportMagic = "talka ledger 1\n"

// ErrExport is wrapped by what ReadExport finds wrong with a file.
var ErrExport = errors.New("not a whole export of a ledger")

// Read is an export of which everything is checked.
type Read struct {
	Job      workunits.JobID
	Block    []byte // the signed manifest
	Manifest workunits.Manifest
	Standing workunits.StakeTable
	Ledger   *Ledger
}

// WriteEnd says that an export ends where other content follows in its file.
func WriteEnd(w io.Writer) error {
	_, err := w.Write([]byte{0}) // the length of no segment
	return err
}

// WriteExport writes a job for whoever wants to check it without the network: a
// line with the format, then manifest, table and segments, each after its length
// as an unsigned varint.
func WriteExport(w io.Writer, x workunits.Export) error {
	b := bufio.NewWriter(w)
	_, err := b.WriteString(exportMagic)
	for _, item := range append([][]byte{x.Manifest, x.Standing}, x.Segments...) {
		if err == nil {
			_, err = b.Write(binary.AppendUvarint(nil, uint64(len(item))))
		}
		if err == nil {
			_, err = b.Write(item)
		}
	}
	return errors.Join(err, b.Flush())
}

// ReadExport reads an export and checks every signature, that the table is the
// one that the manifest names, and that each log is whole from its beginning.
// Nothing in it is trusted: what it says of the job follows from what publisher,
// stewards and volunteers signed. What follows the end that WriteEnd wrote is left to
// the caller if r is a *bufio.Reader of the usual size.
func ReadExport(r io.Reader) (x Read, err error) {
	err = readExport(r, func(part int, b []byte) (err error) {
		var fork *ForkError
		switch part {
		case partManifest:
			x.Block = b
			x.Job, x.Manifest, err = workunits.ParseManifest(b)
			x.Ledger = New(x.Manifest.Network, x.Job)
		case partStanding:
			x.Standing, err = x.Manifest.ParseStanding(b)
		default:
			if _, err = x.Ledger.Add(b); err != nil && !errors.As(err, &fork) {
				return fmt.Errorf("segment %d: %w", part-partStanding, err)
			}
			return nil
		}
		return err
	})
	return x, err
}

// ParseExport takes an export apart that this node wrote, and checks nothing of
// what it says.
func ParseExport(r io.Reader) (x workunits.Export, err error) {
	err = readExport(r, func(part int, b []byte) error {
		switch part {
		case partManifest:
			x.Manifest = b
		case partStanding:
			x.Standing = b
		default:
			x.Segments = append(x.Segments, b)
		}
		return nil
	})
	return x, err
}

// The parts of an export in order; segments follow.
const (
	partManifest = iota
	partStanding
)

// readExport calls f for each part of an export.
func readExport(r io.Reader, f func(part int, b []byte) error) error {
	in := bufio.NewReader(r)
	magic := make([]byte, len(exportMagic))
	if _, err := io.ReadFull(in, magic); err != nil || string(magic) != exportMagic {
		return fmt.Errorf("%w: it does not begin with %q", ErrExport, exportMagic)
	}
	names, limits := []string{"manifest", "table of stakes"}, []int{workunits.MaxManifest, workunits.MaxStakeTable}
	for part := 0; ; part++ {
		limit := workunits.MaxSegment
		if part < len(limits) {
			limit = limits[part]
		}
		b, err := readItem(in, limit)
		switch {
		case err != nil && part < len(names):
			return fmt.Errorf("%s: %w", names[part], noEOF(err))
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return fmt.Errorf("segment %d: %w", part-partStanding, err)
		case part > partStanding && len(b) == 0:
			return nil
		}
		if err := f(part, b); err != nil {
			return err
		}
	}
}

// readItem returns io.EOF only where an item could begin.
func readItem(in *bufio.Reader, limit int) ([]byte, error) {
	n, err := binary.ReadUvarint(in)
	switch {
	case errors.Is(err, io.EOF):
		return nil, io.EOF
	case err != nil:
		return nil, fmt.Errorf("%w: %w", ErrExport, noEOF(err))
	case n > uint64(limit):
		return nil, fmt.Errorf("%w: %d bytes, limit %d", ErrExport, n, limit)
	}
	b := make([]byte, n)
	if _, err := io.ReadFull(in, b); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrExport, noEOF(err))
	}
	return b, nil
}

// noEOF makes an error of an end that came too early.
func noEOF(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

// Segments lists everything that is here, each log in order, authors ascending,
// with the proofs of equivocations.
func (l *Ledger) Segments() [][]byte { return l.Missing(nil, math.MaxInt) }
