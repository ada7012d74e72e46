package workunits

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/fxamacker/cbor/v2"
	"github.com/ipfs/go-cid"
)

// ErrEncoding is wrapped by every error of Decode.
var ErrEncoding = errors.New("not canonical dag-cbor")

// ErrTooLarge is wrapped where a size exceeds its limit.
var ErrTooLarge = errors.New("too large")

var encMode, decMode = modes()

func modes() (cbor.EncMode, cbor.DecMode) {
	enc, err := cbor.EncOptions{
		Sort:          cbor.SortLengthFirst,
		ShortestFloat: cbor.ShortestFloatNone,
		NaNConvert:    cbor.NaNConvertReject,
		InfConvert:    cbor.InfConvertReject,
		IndefLength:   cbor.IndefLengthForbidden,
		NilContainers: cbor.NilContainerAsEmpty,
	}.EncMode()
	if err != nil {
		panic(err)
	}
	dec, err := cbor.DecOptions{
		DupMapKey:         cbor.DupMapKeyEnforcedAPF,
		IndefLength:       cbor.IndefLengthForbidden,
		ExtraReturnErrors: cbor.ExtraDecErrorUnknownField,
		MaxNestedLevels:   16,
		MaxArrayElements:  maxElements,
		MaxMapPairs:       1024,
	}.DecMode()
	if err != nil {
		panic(err)
	}
	return enc, dec
}

// maxElements bounds every array of a record; records bound theirs further.
const maxElements = 1 << 17

// Encode returns the canonical dag-cbor of v, a value of this project's types.
func Encode(v any) []byte {
	b, err := encMode.Marshal(v)
	if err != nil {
		panic(fmt.Sprintf("encode %T: %v", v, err)) // our own types always encode
	}
	return b
}

// Decode reads one record of at most limit bytes and refuses any encoding that
// Encode would not have written.
func Decode[T any](b []byte, limit int) (v T, err error) {
	if len(b) > limit {
		return v, fmt.Errorf("%T of %d bytes, limit %d: %w", v, len(b), limit, ErrTooLarge)
	}
	if v, err = decodeOwn[T](b); err != nil {
		return v, err
	}
	again, err := encMode.Marshal(v)
	if err != nil {
		return v, fmt.Errorf("%T: %w: %w", v, ErrEncoding, err)
	}
	if !bytes.Equal(again, b) {
		return v, fmt.Errorf("%T: %w", v, ErrEncoding)
	}
	return v, nil
}

// decodeOwn reads a record that this node has checked before.
func decodeOwn[T any](b []byte) (v T, err error) {
	if err := decMode.Unmarshal(b, &v); err != nil {
		return v, fmt.Errorf("%T: %w: %w", v, ErrEncoding, err)
	}
	return v, nil
}

// tuple is the encoding of an array as Encode would write it, for the hashes that
// are worked out for every copy.
type tuple []byte

// Major types of CBOR (RFC 8949, section 3.1).
const (
	cborUint  = 0 << 5
	cborBytes = 2 << 5
	cborText  = 3 << 5
	cborArray = 4 << 5
)

// newTuple begins an array of fewer than 24 items.
func newTuple(items int) tuple { return append(make(tuple, 0, 256), cborArray|byte(items)) }

func (t tuple) head(major byte, n uint64) tuple {
	switch {
	case n < 24:
		return append(t, major|byte(n))
	case n < 1<<8:
		return append(t, major|24, byte(n))
	case n < 1<<16:
		return binary.BigEndian.AppendUint16(append(t, major|25), uint16(n))
	case n < 1<<32:
		return binary.BigEndian.AppendUint32(append(t, major|26), uint32(n))
	}
	return binary.BigEndian.AppendUint64(append(t, major|27), n)
}

func (t tuple) uint(n uint64) tuple  { return t.head(cborUint, n) }
func (t tuple) bytes(b []byte) tuple { return append(t.head(cborBytes, uint64(len(b))), b...) }
func (t tuple) text(s string) tuple  { return append(t.head(cborText, uint64(len(s))), s...) }
func (t tuple) sum() Digest          { return Sum(t) }

// Link is a CID inside a record (dag-cbor tag 42).
type Link struct{ Cid cid.Cid }

const (
	linkTag    = 42
	maxLinkLen = 128
)

// MarshalCBOR writes tag 42 over the CID's bytes behind a zero.
func (l Link) MarshalCBOR() ([]byte, error) {
	if !l.Cid.Defined() {
		return nil, errors.New("undefined CID")
	}
	return encMode.Marshal(cbor.Tag{Number: linkTag, Content: append([]byte{0}, l.Cid.Bytes()...)})
}

// UnmarshalCBOR is the inverse of MarshalCBOR.
func (l *Link) UnmarshalCBOR(b []byte) error {
	var tag cbor.RawTag
	if err := decMode.Unmarshal(b, &tag); err != nil {
		return err
	}
	var raw []byte
	if err := decMode.Unmarshal(tag.Content, &raw); err != nil {
		return err
	}
	if tag.Number != linkTag || len(raw) < 2 || len(raw) > maxLinkLen || raw[0] != 0 {
		return errors.New("malformed link")
	}
	n, c, err := cid.CidFromBytes(raw[1:])
	if err != nil || n != len(raw)-1 {
		return errors.New("malformed CID")
	}
	l.Cid = c
	return nil
}
