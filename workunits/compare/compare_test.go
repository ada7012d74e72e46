package compare

import (
	"strconv"
	"testing"

	"pgregory.net/rapid"

	"github.com/talka-grid/talka/workunits"
)

func TestNumbers(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		a, b     string
		rel, abs float64
		want     bool
	}{
		{"", "", 0, 1, true},
		{"1", "", 0, 1, false},
		{"energy -173.928427\n", "energy -173.928426\n", 1e-6, 0, true},
		{"energy -173.928427\n", "energy -173.9\n", 1e-6, 0, false},
		{"x,y\n1.0,2e3\n", "x,y\n1,2000.0000001\n", 1e-9, 0, true},
		{"x,y\n1.0,2e3\n", "x,z\n1,2000\n", 1, 1, false},
		{"1,2", "1;2", 1, 1, false},
		{"x2", "x3", 1, 10, false},
		{"v1.2.3", "v1.2.4", 1, 10, false},
		{"2 apples", "3 apples", 0, 1, true},
		{"2apples", "3apples", 0, 1, false},
		{"0", "-0", 1e-9, 0, true},
		{"1e999", "1e998", 1, 1, true},
		{"1e999", "5", 1, 1, false},
		{"nan", "NaN", 0, 1, true},
		{"nan", "1", 0, 1, false},
		{"inf", "-inf", 1, 1, false},
		{"banana", "banana", 0, 1, true},
		{"1.5.2", "1.5.3", 0, 1, false},
		{"-.5", "-0.5000001", 0, 1e-3, true},
		{"a-1", "a-2", 0, 1, true},
		{"1e", "1e", 0, 1, true},
		{"\xff1", "\xff2", 1, 1, false},
	} {
		if got := Numbers([]byte(c.a), []byte(c.b), c.rel, c.abs); got != c.want {
			t.Errorf("%q and %q within %g, %g: %t", c.a, c.b, c.rel, c.abs, got)
		}
	}
}

// TestNumbersProperty: any text agrees with itself, and numbers written in any
// form agree as far as they are near.
func TestNumbersProperty(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		s := rapid.SliceOf(rapid.SampledFrom([]byte("0123456789.eE+-,; nainfx\n\xff"))).Draw(t, "text")
		if !Numbers(s, s, 0, 0) {
			t.Fatalf("%q differs from itself", s)
		}
		x := rapid.Float64().Draw(t, "number")
		form := func(f byte) []byte { return []byte("a " + strconv.FormatFloat(x, f, -1, 64) + ",") }
		if f, e := form('g'), form('e'); !Numbers(f, e, 0, 0) {
			t.Fatalf("%s and %s differ", f, e)
		}
	})
}

func FuzzNumbers(f *testing.F) {
	f.Add([]byte("1.0e5 nan"), []byte("1e5 inf"))
	f.Fuzz(func(t *testing.T, a, b []byte) {
		if Numbers(a, b, 0, 0.5) != Numbers(b, a, 0, 0.5) {
			t.Errorf("%q and %q: order decides within an absolute tolerance", a, b)
		}
	})
}

func TestOutcomes(t *testing.T) {
	t.Parallel()
	encode := func(code uint32, text string) []byte {
		b, _ := workunits.Outcome{How: workunits.Exited, Code: code, Out: workunits.OutFile{Size: uint64(len(text)), Data: []byte(text)}}.Encode()
		return b
	}
	c := workunits.Comparator{Kind: workunits.CompareNumbers, Abs: 0.1}
	for _, x := range []struct {
		a, b []byte
		want bool
	}{
		{encode(0, "1.00"), encode(0, "1.05"), true},
		{encode(0, "1.00"), encode(0, "1.5"), false},
		{encode(0, "1"), encode(1, "1"), false},
	} {
		if got, err := Outcomes(x.a, x.b, c); got != x.want || err != nil {
			t.Errorf("%x and %x: %t, %v", x.a, x.b, got, err)
		}
	}
	if _, err := Outcomes([]byte("no outcome"), encode(0, ""), c); err == nil {
		t.Error("a record that is no outcome was compared")
	}
}
