package verdict

import (
	"math"
	"slices"
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

// TestRiskProperty: who knows of each lie whether it was missed and chooses when to stop
// leaves no more than x, though a burn spares some of what came before the first
// contradicted copy; with some room where it does.
func TestRiskProperty(t *testing.T) {
	t.Parallel()
	l := LawOf(workunits.Policy{Error: 2e-4, Share: 0.2})
	for x := 1e-4; x < 1e3; x *= 1.01 {
		d := Delta(l.risk(x * l.p.Share / l.eps()))
		lies := int(4*math.E*x) + 10
		left := make([]float64, lies+1) // of so many lies after the burn: of each, if it and all before it are spared
		for j := 1; j <= lies; j++ {
			left[j] = left[j-1] + math.Pow(1-again, float64(j))
		}
		best := float64(lies)
		for j := lies - 1; j >= 0; j-- {
			best = max(float64(j), d*best+(1-d)*left[j])
		}
		most := x * (1 + 1e-9)
		if d > several {
			most *= 1.67 / margin
		}
		if best > most {
			t.Fatalf("%g of %g wrong copies are left with a chance of %g to be missed, want at most %g", best, x, d, most)
		}
	}
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

// TestExpected: what a unit takes among honest volunteers, as the table of schemes
// has it for a cold start; a record makes it cheaper, and a cap dearer never.
func TestExpected(t *testing.T) {
	t.Parallel()
	capped := Law{workunits.Policy{Error: 1e-4, Share: 0.2, MaxAgree: 2}}
	if got := capped.Expected(1); got != 2 {
		t.Errorf("newcomers: %g copies, want 2", got)
	}
	strict := Law{workunits.Policy{Error: 1e-4, Share: 0.2}}
	for _, stake := range []float64{1, 10, 1e3, 1e4, 1e6} {
		a, b := capped.Expected(stake), strict.Expected(stake)
		if a < 1 || a > b || a < capped.Expected(10*stake) {
			t.Errorf("stake %g: %g copies, without cap %g, with ten times the stake %g", stake, a, b, capped.Expected(10*stake))
		}
	}
	if got := (Law{workunits.Policy{Mode: workunits.VerifyNone, MinCopies: 3}}).Expected(0); got != 3 {
		t.Errorf("trusted: %g copies, want 3", got)
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
		{"three newcomers against one", newcomers(3), newcomers(1), false},
		{"four newcomers against one", newcomers(4), newcomers(1), true},
		{"three newcomers against a veteran", newcomers(3), support{1, 10_000}, false},
		{"seven newcomers against a veteran", newcomers(7), support{1, 10_000}, false},
		{"a veteran alone has no lead", support{1, 10_000}, newcomers(1), false},
		{"three veterans against a newcomer", support{3, 10_000}, newcomers(1), false},
		{"four veterans against a newcomer", support{4, 10_000}, newcomers(1), true},
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
		{workunits.Policy{Mode: workunits.VerifyAudit}, math.MaxInt},
	} {
		c.p.Error, c.p.Share, c.p.Price = 1e-4, 0.2, 10
		l := Law{c.p}
		if got := l.Copies(0, 0); got != c.want {
			t.Errorf("%+v: %d copies, want %d", c.p, got, c.want)
		}
		if l.Chance(c.want, 0, 0, 0) != 0 {
			t.Errorf("%+v: %d copies are not enough", c.p, c.want)
		}
	}
}

func TestChance(t *testing.T) {
	t.Parallel()
	at := func(maxAgree, least uint32) Law {
		return Law{workunits.Policy{Mode: workunits.VerifyAudit, Error: 2e-4, Share: 0.2, Price: 10, MaxAgree: maxAgree, MinCopies: least}}
	}
	for _, c := range []struct {
		name         string
		law          Law
		m            int
		first, group float64
		want         float64
	}{
		{"a newcomer", at(2, 0), 1, 0, 0, 1},
		{"two newcomers under cap-2", at(2, 0), 2, 0, 0, 0},
		{"two newcomers, strict", at(0, 0), 2, 0, 0, 1},
		{"three newcomers, strict", at(0, 0), 3, 0, 0, (1 - 0.005/0.04) / 0.8},
		{"four newcomers, strict", at(0, 0), 4, 0, 0, (1 - 0.005/0.008) / 0.8},
		{"five newcomers, strict", at(0, 0), 5, 0, 0, 0},
		{"a hundred units", at(2, 0), 1, 100, 100, 1},
		{"ten thousand units", at(2, 0), 1, 9_990, 9_990, (1 - Delta(2.5)) / 0.8},
		{"a newcomer checked by a veteran, strict", at(0, 0), 2, 0, 10_000, (1 - Delta(0.5e-4*10_020/0.2)) / 0.8},
		{"a veteran where two copies are asked for", at(0, 2), 1, 1e9, 1e9, 1},
		{"a veteran checked where two are asked for", at(0, 2), 2, 1e9, 1e9, 0},
	} {
		want := c.want
		if want >= 0.8 {
			want = 1
		}
		if got := c.law.Chance(c.m, c.first, c.group, 0); math.Abs(got-want) > 1e-9 {
			t.Errorf("%s: chance %g, want %g", c.name, got, want)
		}
	}
}

func TestBar(t *testing.T) {
	t.Parallel()
	l := Law{workunits.Policy{Mode: workunits.VerifyAudit, Error: 2e-4, Share: 0.2, Price: 10, MaxAgree: 2}}
	times := func(n int, stake uint64) []uint64 { return slices.Repeat([]uint64{stake}, n) }
	for _, c := range []struct {
		name   string
		stakes []uint64
		want   float64
	}{
		{"nobody", nil, 0},
		{"newcomers", times(1000, 0), 0},
		{"too few", append(times(7, 1000), times(1000, 0)...), 0},
		{"equals", times(100, 70), 70},
		{"a crowd beside them", append(times(100, 70), times(1000, 1)...), 70},
		{"a crowd that holds more than its share", append(times(100, 70), times(2000, 1)...), 1},
		{"one with more than all others", append(times(100, 70), 30_000), 30_000},
		{"one with as much as all others", append(times(100, 70), 7_000), 70},
	} {
		if got := l.Bar(c.stakes); got != c.want {
			t.Errorf("%s: %g, want %g", c.name, got, c.want)
		}
	}
	for _, c := range []struct {
		first, bar float64
		want       int
	}{{0, 0, 2}, {0, 20, 2}, {0, 21, 3}, {1000, 2020, 2}, {1000, 2021, 3}} {
		if got := l.Copies(c.first, c.bar); got != c.want {
			t.Errorf("a first committer with %g where the bar is %g: %d copies, want %d", c.first, c.bar, got, c.want)
		}
	}
}

// TestChanceProperty: stake never buys more audits, and neither does agreement.
func TestChanceProperty(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		l := Law{workunits.Policy{Mode: workunits.VerifyAudit, Error: math.Exp(rapid.Float64Range(-14, -1).Draw(t, "log error")),
			Share: rapid.Float64Range(0.01, 0.49).Draw(t, "share"), Price: rapid.Float64Range(0, 10).Draw(t, "price")}}
		m := rapid.IntRange(1, 8).Draw(t, "m")
		first := rapid.Float64Range(0, 1e6).Draw(t, "first")
		group := first + rapid.Float64Range(0, 1e6).Draw(t, "others")
		more := rapid.Float64Range(0, 1e6).Draw(t, "more")
		bar := rapid.Float64Range(0, 1e6).Draw(t, "bar")
		q := l.Chance(m, first, group, bar)
		if q < 0 || q > 1 || q >= 0.8 && q < 1 {
			t.Fatalf("chance %g", q)
		}
		if l.Chance(m, first+more, group+more, bar) > q || l.Chance(m+1, first, group+more, bar) > q {
			t.Fatalf("%d copies with stakes %g and %g: more raises chance %g", m, first, group, q)
		}
	})
}

func TestVouches(t *testing.T) {
	t.Parallel()
	p := workunits.Policy{Mode: workunits.VerifyAudit, Error: 2e-4, Share: 0.2, Price: 10, MaxAgree: 2}
	if got := LawOf(p).Vouches(2, 0, 0); math.Abs(got-0.2*0.2/10) > 1e-12 {
		t.Errorf("two newcomers: %g", got)
	}
	if got := LawOf(p).Vouches(2, 1e9, 0); got != 1e-4 {
		t.Errorf("a veteran checked: %g, want eps", got)
	}
	if got := LawOf(p).Vouches(1, 1e5, 0); got != 1e-4 {
		t.Errorf("as the law asks: %g, want eps", got)
	}
	if got := (Law{workunits.Policy{Mode: workunits.VerifyAudit, Error: 2e-4, Share: 0.2, Price: 10}}).Vouches(4, 100, 0); got != 1e-4 {
		t.Errorf("somebody to whom two lies are no gain: %g, want eps", got)
	}
	if l := LawOf(p); l.Checks(0, 0) || l.Checks(1, 18) || !l.Checks(1, 19) {
		t.Error("newcomers get more or less than their share")
	}
}
