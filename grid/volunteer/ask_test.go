package volunteer

import (
	"math"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestRetryAfter: refusals in a row space requests out, and a steward's word on
// when to ask again counts within bounds.
func TestRetryAfter(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		retry uint64
		waits []uint64 // after none, one, two ... refusals
	}{
		{0, []uint64{100, 200, 400, 800, 1600, 3200, patience, patience}},
		{500, []uint64{500, 1000, 2000, 4000, patience}},
		{20_000, []uint64{20_000, 20_000}},
		{math.MaxUint64, []uint64{60_000, 60_000}},
		{1 << 63, []uint64{60_000, 60_000}},
	} {
		var got []uint64
		for refused := range c.waits {
			got = append(got, retryAfter(c.retry, refused))
		}
		if diff := cmp.Diff(c.waits, got); diff != "" {
			t.Errorf("retry %d (-want +got):\n%s", c.retry, diff)
		}
	}
	if w := retryAfter(100, math.MaxInt); w != patience {
		t.Errorf("after endless refusals it waits %d ms", w)
	}
}

// TestRoom: a slot that may work half the time holds half the units.
func TestRoom(t *testing.T) {
	t.Parallel()
	j := &job{unitTime: 100}
	for p, want := range map[Policy]int{
		{Slots: 2}: 40, {Slots: 2, Percent: 100}: 40, {Slots: 2, Percent: 50}: 20, {Slots: 1, Percent: 1}: 0, {Slots: 50}: maxAsk, {}: 0,
	} {
		if got := j.room(p, 2000); got != want {
			t.Errorf("%+v: room for %d units, want %d", p, got, want)
		}
	}
}
