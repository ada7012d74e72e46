package machines

import (
	"encoding/binary"
	"fmt"
	"io"
	"time"

	"github.com/talka-grid/talka/workunits"
)

// A frame is four bytes of length, big-endian, and a record of dag-cbor.

// serveTime bounds what is done for a peer on one stream.
const serveTime = 20 * time.Second

func writeFrame(w io.Writer, v any) error {
	b := workunits.Encode(v)
	_, err := w.Write(append(binary.BigEndian.AppendUint32(nil, uint32(len(b))), b...))
	return err
}

// readFrame reads a record of at most limit bytes.
func readFrame[T any](r io.Reader, limit int) (v T, err error) {
	var head [4]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return v, err
	}
	n := binary.BigEndian.Uint32(head[:])
	if uint64(n) > uint64(limit) {
		return v, fmt.Errorf("%w: a message of %d bytes, at most %d are read", ErrLimit, n, limit)
	}
	b := make([]byte, n)
	if _, err := io.ReadFull(r, b); err != nil {
		return v, err
	}
	return workunits.Decode[T](b, limit)
}
