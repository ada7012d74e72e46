package tray

import (
	"bytes"
	"encoding/binary"
	"image/png"
	"testing"
)

// TestIcons: every face is a picture of its own, by its shape alone too, for those
// who do not tell the colours apart.
func TestIcons(t *testing.T) {
	t.Parallel()
	shapes := map[string]Face{}
	for f := range faceColors {
		raw := Icon(f)
		img, err := png.Decode(bytes.NewReader(raw))
		if err != nil || img.Bounds().Dx() != iconSize || img.Bounds().Dy() != iconSize {
			t.Fatalf("face %d: %v", f, err)
		}
		var shape []byte
		for y := range iconSize {
			for x := range iconSize {
				r, g, b, a := img.At(x, y).RGBA()
				sign := byte(0)
				if a > 0x8000 && min(r, g, b) > 0xe000 {
					sign = 1
				}
				shape = append(shape, sign)
			}
		}
		if other, ok := shapes[string(shape)]; ok || bytes.Count(shape, []byte{1}) < 100 {
			t.Errorf("faces %d and %d look alike, or this one has no sign", f, other)
		}
		shapes[string(shape)] = f
		if _, _, _, a := img.At(0, 0).RGBA(); a != 0 {
			t.Errorf("face %d: the corner is not clear", f)
		}
		boxed := ico(raw)
		if at := binary.LittleEndian.Uint32(boxed[18:]); !bytes.Equal(boxed[at:], raw) || boxed[6] != iconSize {
			t.Errorf("face %d: %x", f, boxed[:22])
		}
	}
}
