package configs

import (
	"errors"
	"math"
	"strconv"
	"strings"
)

// Bytes is a number of bytes. Its text form is a whole number with a unit:
// "20GiB", "512MB", or plain bytes.
type Bytes int64

// Binary units.
const (
	KiB Bytes = 1 << (10 * (1 + iota))
	MiB
	GiB
	TiB
)

// units, longest suffix first so that "MiB" is not read as "B".
var units = []struct {
	name string
	size Bytes
}{
	{"TiB", TiB}, {"GiB", GiB}, {"MiB", MiB}, {"KiB", KiB},
	{"TB", 1e12}, {"GB", 1e9}, {"MB", 1e6}, {"kB", 1e3}, {"KB", 1e3},
	{"B", 1},
}

var errBytes = errors.New(`want a whole number and a unit, such as "512MiB" or "20GiB"`)

// ParseBytes reads the text form. A space may stand before the unit.
func ParseBytes(s string) (Bytes, error) {
	number, size := s, Bytes(1)
	for _, u := range units {
		if n, ok := strings.CutSuffix(s, u.name); ok {
			number, size = strings.TrimRight(n, " "), u.size
			break
		}
	}
	n, err := whole(number)
	if err != nil || n > math.MaxInt64/int64(size) {
		return 0, errBytes
	}
	return Bytes(n) * size, nil
}

// String is the shortest exact text form in binary units.
func (b Bytes) String() string {
	for _, u := range units[:4] {
		if b != 0 && b%u.size == 0 {
			return strconv.FormatInt(int64(b/u.size), 10) + u.name
		}
	}
	return strconv.FormatInt(int64(b), 10) + "B"
}

// Rate is a number of bytes a second; zero is no limit. Its text form is that
// of Bytes with "/s", or "unlimited", or "none".
type Rate int64

// NoTraffic is the Rate that lets nothing pass.
const NoTraffic Rate = -1

var errRate = errors.New(`want bytes a second, such as "2MiB/s", or "unlimited", or "none"`)

// ParseRate reads the text form.
func ParseRate(s string) (Rate, error) {
	switch s { // 0 could be meant either way
	case "unlimited":
		return 0, nil
	case "none":
		return NoTraffic, nil
	}
	n, ok := strings.CutSuffix(s, "/s")
	if !ok {
		return 0, errRate
	}
	b, err := ParseBytes(n)
	if err != nil || b == 0 {
		return 0, errRate
	}
	return Rate(b), nil
}

// String is the text form.
func (r Rate) String() string {
	switch {
	case r == 0:
		return "unlimited"
	case r < 0:
		return "none"
	}
	return Bytes(r).String() + "/s"
}

// Portion is a part of what a machine has: a fixed amount, or a percentage
// where Fixed is 0.
type Portion struct {
	Fixed   int64
	Percent int
}

// Of is the portion in units of total: at least 1 and at most total.
func (p Portion) Of(total int64) int64 {
	n := p.Fixed
	if n == 0 {
		n = total/100*int64(p.Percent) + total%100*int64(p.Percent)/100
	}
	return max(min(n, total), 1)
}

// percentage reads "25%"; ok is false for anything that does not end in "%".
func percentage(s string) (p Portion, ok bool, err error) {
	n, ok := strings.CutSuffix(s, "%")
	if !ok {
		return p, false, nil
	}
	v, err := whole(n)
	if err != nil || v < 1 || v > 100 {
		return p, true, errors.New("out of range")
	}
	return Portion{Percent: int(v)}, true, nil
}

// whole reads a number of digits only, without sign.
func whole(s string) (int64, error) {
	if s == "" || s[0] == '+' || s[0] == '-' {
		return 0, strconv.ErrSyntax
	}
	return strconv.ParseInt(s, 10, 64)
}
