// Package compare says whether two results of a unit agree within tolerance.
//
// It is pure, and gives the same answer on every machine: numbers are parsed and
// compared as 64-bit floats, with the operations in a fixed order.
package compare

import (
	"bytes"
	"math"
	"strconv"

	"github.com/talka-grid/talka/workunits"
)

// maxNumber is the longest text that is read as a number.
const maxNumber = 64

// Outcomes reports whether two encoded outcomes agree within the tolerances of a
// comparator of numbers: they end the same way and have the same files, and each
// file's text agrees as Numbers says. A file outside the outcome, which a result
// names by its CID alone, agrees only with itself.
func Outcomes(a, b []byte, c workunits.Comparator) (bool, error) {
	x, err := workunits.ParseOutcome(a)
	if err != nil {
		return false, err
	}
	y, err := workunits.ParseOutcome(b)
	if err != nil {
		return false, err
	}
	if x.How != y.How || x.Code != y.Code || x.Trap != y.Trap || len(x.Files) != len(y.Files) {
		return false, nil
	}
	if !files(x.Out, y.Out, c) {
		return false, nil
	}
	for i := range x.Files {
		if x.Files[i].Path != y.Files[i].Path || !files(x.Files[i], y.Files[i], c) {
			return false, nil
		}
	}
	return true, nil
}

func files(x, y workunits.OutFile, c workunits.Comparator) bool {
	if x.Cid != nil || y.Cid != nil {
		return x.Cid != nil && y.Cid != nil && *x.Cid == *y.Cid
	}
	return Numbers(x.Data, y.Data, c.Rel, c.Abs)
}

// Numbers reports whether two texts are equal but for decimal numbers a, b in the
// same places with |a-b| <= abs + rel*|b|. NaN equals NaN, and an infinity itself.
// A number inside a word, as in "x2", is part of the word.
func Numbers(a, b []byte, rel, abs float64) bool {
	word := false // the byte before is of a word
	for len(a) > 0 && len(b) > 0 {
		if !word {
			x, n := number(a)
			y, m := number(b)
			if n > 0 && m > 0 {
				if !bytes.Equal(a[:n], b[:m]) && !near(x, y, rel, abs) {
					return false
				}
				a, b, word = a[n:], b[m:], true
				continue
			}
		}
		if a[0] != b[0] {
			return false
		}
		word = letter(a[0])
		a, b = a[1:], b[1:]
	}
	return len(a) == len(b)
}

func near(a, b, rel, abs float64) bool {
	if a == b || math.IsNaN(a) && math.IsNaN(b) {
		return true
	}
	bound := float64(rel*math.Abs(b)) + abs // the conversion forbids a fused multiply and add
	return !math.IsInf(a, 0) && !math.IsInf(b, 0) && math.Abs(a-b) <= bound
}

// letter reports whether a number cannot begin right after c.
func letter(c byte) bool {
	return c == '_' || c == '.' || c >= 0x80 || '0' <= c && c <= '9' || 'a' <= c|0x20 && c|0x20 <= 'z'
}

// number reads the number that the text begins with, and its length, 0 for none.
func number(s []byte) (x float64, n int) {
	n = length(s)
	if n == 0 || n > maxNumber || n < len(s) && letter(s[n]) {
		return 0, 0
	}
	x, err := strconv.ParseFloat(string(s[:n]), 64)
	if err != nil && !math.IsInf(x, 0) {
		return 0, 0
	}
	return x, n
}

// length is how far a sign, digits with a point and an exponent go, or a word
// for no number or an infinity.
func length(s []byte) int {
	i := 0
	if i < len(s) && (s[i] == '+' || s[i] == '-') {
		i++
	}
	for _, w := range []string{"nan", "infinity", "inf"} {
		if len(s) >= i+len(w) && bytes.EqualFold(s[i:i+len(w)], []byte(w)) {
			if w == "nan" && i > 0 {
				return 0
			}
			return i + len(w)
		}
	}
	whole := digits(s[i:])
	i += whole
	fraction := 0
	if i < len(s) && s[i] == '.' {
		fraction = digits(s[i+1:])
		i += 1 + fraction
	}
	if whole+fraction == 0 {
		return 0
	}
	if i < len(s) && s[i]|0x20 == 'e' {
		j := i + 1
		if j < len(s) && (s[j] == '+' || s[j] == '-') {
			j++
		}
		if d := digits(s[j:]); d > 0 {
			i = j + d
		}
	}
	return i
}

func digits(s []byte) (n int) {
	for n < len(s) && '0' <= s[n] && s[n] <= '9' {
		n++
	}
	return n
}
