package wire

import (
	"bytes"
	"errors"
	"testing"

	"github.com/talka-grid/talka/workunits"
)

// FuzzDecode wants no panic, and that what is accepted is encoded as the same
// bytes.
func FuzzDecode(f *testing.F) {
	for _, m := range sampleMessages() {
		f.Add(Encode(m))
	}
	f.Add([]byte{})
	f.Add([]byte{0x9b, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff})
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := Decode(b)
		if err != nil {
			if !errors.Is(err, ErrFrame) {
				t.Errorf("error %v does not wrap %v", err, ErrFrame)
			}
			return
		}
		if !bytes.Equal(Encode(m), b) {
			t.Errorf("%x becomes %x", b, Encode(m))
		}
	})
}

// FuzzBody puts a body into a frame of each type, which spares the fuzzer the
// lengths around it.
func FuzzBody(f *testing.F) {
	for _, m := range sampleMessages() {
		f.Add(uint8(m.Type()), workunits.Encode(m))
	}
	f.Fuzz(func(t *testing.T, typ uint8, body []byte) {
		frame := workunits.Encode(frame{Version: Version, Type: Type(typ), Body: body})
		m, err := Decode(frame)
		if err == nil && (m.Type() != Type(typ) || !bytes.Equal(Encode(m), frame)) {
			t.Errorf("%x becomes %x", frame, Encode(m))
		}
	})
}
