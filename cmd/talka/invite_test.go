package main

import (
	"strings"
	"testing"

	"rsc.io/qr"
)

// TestDrawQR reads the drawing back, module by module.
func TestDrawQR(t *testing.T) {
	t.Parallel()
	invite := "talka1" + strings.Repeat("abcdefg234567", 20)
	got, err := drawQR(invite)
	if err != nil {
		t.Fatal(err)
	}
	code, err := qr.Encode(strings.ToUpper(invite), qr.L)
	if err != nil {
		t.Fatal(err)
	}
	rows := strings.Split(strings.TrimSuffix(got, "\n"), "\n")
	if want := (code.Size + 9) / 2; len(rows) != want {
		t.Fatalf("%d rows, want %d", len(rows), want)
	}
	for r, row := range rows {
		row, begins := strings.CutPrefix(row, "\x1b[30;107m")
		row, ends := strings.CutSuffix(row, "\x1b[0m")
		cells := []rune(row)
		if !begins || !ends || len(cells) != code.Size+8 {
			t.Fatalf("row %d: %q", r, row)
		}
		for c, cell := range cells {
			x, y := c-4, 2*r-4
			upper, lower := cell == '▀' || cell == '█', cell == '▄' || cell == '█'
			if upper != code.Black(x, y) || lower != code.Black(x, y+1) {
				t.Fatalf("modules %d,%d and below are drawn %q", x, y, cell)
			}
		}
	}
	if _, err := drawQR(strings.Repeat("a", 5000)); err == nil {
		t.Error("a text beyond any QR code was drawn")
	}
}
