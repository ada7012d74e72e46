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
	Manifest workunits.Manifest
	Standing workunits.StakeTable
	Ledger   *Ledger
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
// stewards and volunteers signed.
func ReadExport(r io.Reader) (x Read, err error) {
	in := bufio.NewReader(r)
	magic := make([]byte, len(exportMagic))
	if _, err := io.ReadFull(in, magic); err != nil || string(magic) != exportMagic {
		return x, fmt.Errorf("%w: it does not begin with %q", ErrExport, exportMagic)
	}
	block, err := readItem(in, workunits.MaxManifest)
	if err != nil {
		return x, fmt.Errorf("manifest: %w", noEOF(err))
	}
	if x.Job, x.Manifest, err = workunits.ParseManifest(block); err != nil {
		return x, err
	}
	table, err := readItem(in, workunits.MaxStakeTable)
	if err != nil {
		return x, fmt.Errorf("table of stakes: %w", noEOF(err))
	}
	if x.Standing, err = x.Manifest.ParseStanding(table); err != nil {
		return x, err
	}
	x.Ledger = New(x.Manifest.Network, x.Job)
	for i := 1; ; i++ {
		raw, err := readItem(in, workunits.MaxSegment)
		if errors.Is(err, io.EOF) {
			return x, nil
		}
		var fork *ForkError
		if err == nil {
			_, err = x.Ledger.Add(raw)
		}
		if err != nil && !errors.As(err, &fork) {
			return x, fmt.Errorf("segment %d: %w", i, err)
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
