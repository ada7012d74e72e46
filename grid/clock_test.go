package grid

import (
	"slices"
	"testing"
)

// TestClock: the machines' time goes on where the clock is set back.
func TestClock(t *testing.T) {
	t.Parallel()
	var c clock
	var got []uint64
	for _, wall := range []uint64{100_000, 100_250, 40_000, 40_250, 39_000, 39_250, 900_000} {
		got = append(got, c.at(wall))
	}
	if want := []uint64{100_000, 100_250, 100_250, 100_500, 100_500, 100_750, 961_500}; !slices.Equal(got, want) {
		t.Errorf("times are %v, want %v", got, want)
	}
}
