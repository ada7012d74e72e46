package verdict

import (
	"math"
	"testing"

	"pgregory.net/rapid"

	"github.com/talka-grid/talka/workunits"
)

// TestDeltaProperty: whatever number c of wrong copies somebody risks, at most x
// are expected to survive.
func TestDeltaProperty(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		x := math.Exp(rapid.Float64Range(-20, 9).Draw(t, "log x"))
		c := float64(rapid.IntRange(1, 100_000).Draw(t, "c"))
		if d := Delta(x); d < 0 || d > 1 || c*math.Pow(d, c) > x*(1+1e-9) {
			t.Fatalf("delta(%g) = %g leaves %g of %g wrong copies", x, d, c*math.Pow(d, c), c)
		}
	})
}

func TestDelta(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ x, want float64 }{
		{-1, 0}, {0, 0}, {1e-6, 1e-6}, {0.5, 0.5}, {2, math.Pow(2.0/5, 1.0/5)}, {1e3, math.Exp(-1 / (math.E * 1e3))},
	} {
		if got := Delta(c.x); math.Abs(got-c.want) > 1e-3*c.want {
			t.Errorf("Delta(%g) = %g, want %g", c.x, got, c.want)
		}
	}
}

func TestDecides(t *testing.T) {
	t.Parallel()
	l := Law{workunits.Policy{Error: 1e-2, Share: 0.2, Price: 10}}
	newcomers := func(n int) support { return support{copies: n} }
	for _, c := range []struct {
		name           string
		winner, second support
		want           bool
	}{
		{"one against one", newcomers(1), newcomers(1), false},
		{"two against one lack the lead", newcomers(2), newcomers(1), false},
		{"three newcomers against one", newcomers(3), newcomers(1), true},
		{"three newcomers against a veteran", newcomers(3), support{1, 10_000}, false},
		{"seven newcomers against a veteran", newcomers(7), support{1, 10_000}, false},
		{"a veteran alone has no lead", support{1, 10_000}, newcomers(1), false},
		{"three veterans against a newcomer", support{3, 10_000}, newcomers(1), true},
		{"three against three", newcomers(3), newcomers(3), false},
		{"the smaller side never wins", newcomers(1), newcomers(3), false},
	} {
		if got := l.Decides(c.winner, c.second); got != c.want {
			t.Errorf("%s: decides %t, want %t", c.name, got, c.want)
		}
	}
	if (Law{workunits.Policy{Error: 1e-2, Share: 0.2}}).Decides(newcomers(5), newcomers(1)) {
		t.Error("where identities are free, newcomers decide nothing")
	}
}

func TestCopies(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		p    workunits.Policy
		want int
	}{
		{workunits.Policy{Mode: workunits.VerifyNone}, 1},
		{workunits.Policy{Mode: workunits.VerifyNone, MinCopies: 2}, 2},
		{workunits.Policy{Mode: workunits.VerifyAudit, MaxAgree: 2}, 2},
		{workunits.Policy{Mode: workunits.VerifyAudit, MaxAgree: 1}, 2},
		{workunits.Policy{Mode: workunits.VerifyAudit, MaxAgree: 2, MinCopies: 4}, 4},
		{workunits.Policy{Mode: workunits.VerifyAudit}, 3},
	} {
		l := Law{c.p}
		if got := l.Copies(); got != c.want {
			t.Errorf("%+v: %d copies, want %d", c.p, got, c.want)
		}
		if l.Chance(c.want-1, 0, 0) != 1 && c.want > 1 || l.Chance(c.want, 0, 0) != 0 {
			t.Errorf("%+v: chance of a further copy is not certain before and nothing from %d copies on", c.p, c.want)
		}
	}
}
