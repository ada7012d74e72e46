package jobfile

import (
	"fmt"
	"strconv"
	"strings"
)

var sizeUnits = [...]struct {
	name  string
	bytes uint64
}{
	{"TiB", 1 << 40}, {"GiB", 1 << 30}, {"MiB", 1 << 20}, {"KiB", 1 << 10},
	{"TB", 1e12}, {"GB", 1e9}, {"MB", 1e6}, {"kB", 1e3}, {"B", 1},
}

// parseSize reads a TOML value as a number of bytes below 2^60: 1048576, "1MiB"
// or "1.5 GB".
func parseSize(v any) (uint64, bool) {
	const limit = 1 << 60
	switch v := v.(type) {
	case int64:
		return uint64(v), v >= 0 && v < limit
	case string:
		for _, u := range sizeUnits {
			digits, found := strings.CutSuffix(v, u.name)
			if !found {
				continue
			}
			digits = strings.TrimSuffix(digits, " ")
			if strings.Trim(digits, "0123456789.") != "" {
				return 0, false // no sign, exponent, underscore or second unit
			}
			x, err := strconv.ParseFloat(digits, 64)
			x *= float64(u.bytes)
			if err != nil || x >= limit || x != float64(uint64(x)) {
				return 0, false
			}
			return uint64(x), true
		}
	}
	return 0, false
}

// formatSize is the shortest exact form that parseSize reads.
func formatSize(n uint64) string {
	for _, u := range sizeUnits {
		if n >= u.bytes && n%u.bytes == 0 {
			return fmt.Sprintf("%d%s", n/u.bytes, u.name)
		}
	}
	return "0B"
}
