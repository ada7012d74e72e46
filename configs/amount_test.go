package configs

import (
	"math"
	"testing"

	"pgregory.net/rapid"
)

func TestParseBytes(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]Bytes{
		"0": 0, "1": 1, "7B": 7, "1KiB": 1024, "3 MiB": 3 << 20, "20GiB": 20 << 30, "2TiB": 2 << 40,
		"1kB": 1000, "1KB": 1000, "5MB": 5e6, "6GB": 6e9, "7TB": 7e12, "9223372036854775807": math.MaxInt64,
	} {
		if got, err := ParseBytes(text); err != nil || got != want {
			t.Errorf("ParseBytes(%q) = %d, %v, want %d", text, got, err, want)
		}
	}
	for _, text := range []string{"", "B", "GiB", "-1", "+1", "1.5GiB", "1gib", "1 GiB/s", "1GiBB", "9223372036854775808", "8388608TiB", "1e9"} {
		if got, err := ParseBytes(text); err == nil {
			t.Errorf("ParseBytes(%q) = %d, want an error", text, got)
		}
	}
}

func TestAmountsRoundTrip(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.Int64Range(0, math.MaxInt64).Draw(t, "n") >> rapid.IntRange(0, 62).Draw(t, "shift") << rapid.IntRange(0, 40).Draw(t, "left")
		if n < 0 {
			n = 0
		}
		if got, err := ParseBytes(Bytes(n).String()); err != nil || got != Bytes(n) {
			t.Fatalf("ParseBytes(%q) = %d, %v, want %d", Bytes(n), got, err, n)
		}
		if got, err := ParseRate(Rate(n).String()); err != nil || got != Rate(n) {
			t.Fatalf("ParseRate(%q) = %d, %v, want %d", Rate(n), got, err, n)
		}
	})
}

func TestPortion(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		p     Portion
		total int64
		want  int64
	}{
		{Portion{Fixed: 5}, 10, 5},
		{Portion{Fixed: 50}, 10, 10},
		{Portion{Percent: 25}, 8, 2},
		{Portion{Percent: 25}, 2, 1},
		{Portion{Percent: 100}, math.MaxInt64, math.MaxInt64},
		{Portion{Percent: 99}, 199, 197},
	} {
		if got := tc.p.Of(tc.total); got != tc.want {
			t.Errorf("%+v.Of(%d) = %d, want %d", tc.p, tc.total, got, tc.want)
		}
	}
}

func TestNoTraffic(t *testing.T) {
	t.Parallel()
	if r, err := ParseRate("none"); err != nil || r != NoTraffic || r.String() != "none" {
		t.Errorf("%v, %v", r, err)
	}
	if r, err := ParseRate("0"); err == nil {
		t.Errorf("0 is taken for %v: it could be meant either way", r)
	}
}

// TestCompute wants the promised share of the whole machine, never more.
func TestCompute(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		p                     Portion
		cpuPercent, machine   int
		wantUse, wantPercents int
	}{
		{Portion{Percent: 25}, 100, 8, 2, 100},
		{Portion{Percent: 25}, 100, 2, 1, 50},
		{Portion{Percent: 50}, 100, 3, 2, 75},
		{Portion{Percent: 50}, 80, 3, 2, 60},
		{Portion{Percent: 1}, 1, 1, 1, 1},
		{Portion{Percent: 100}, 100, 2, 2, 100},
		{Portion{Fixed: 3}, 70, 2, 2, 70},
		{Portion{Fixed: 1}, 70, 16, 1, 70},
		{Portion{Percent: 25}, 100, 0, 1, 25},
	} {
		c := Config{Processors: tc.p, CPUPercent: tc.cpuPercent}
		use, percent := c.Compute(tc.machine)
		if use != tc.wantUse || percent != tc.wantPercents {
			t.Errorf("%+v at %d %% of %d processors: %d at %d %%, want %d at %d %%", tc.p, tc.cpuPercent, tc.machine, use, percent, tc.wantUse, tc.wantPercents)
		}
	}
}
