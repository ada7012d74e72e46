package verdict_test

import (
	"math/rand/v2"
	"testing"

	"github.com/talka-grid/talka/workunits"
	"github.com/talka-grid/talka/workunits/verdict"
)

// TestWithheldDraw: a value that another one was shown for is waited for; should
// it not come the unit wants another copy, even if the draws there are ask none.
func TestWithheldDraw(t *testing.T) {
	t.Parallel()
	w := newWorld(nil)
	w.node("v1")
	h := w.stakeHead(veteran)
	for _, s := range []string{"s1", "s2", "s3"} {
		w.say(s, h)
	}
	c := w.commit(w.grant("s1", "v1", 0), "x")
	for _, s := range []string{"s1", "s2", "s3"} {
		w.receipt(s, c)
	}
	draw := func(by string, with workunits.NodeID) {
		i := w.node(by).receipts[c.commit]
		w.say(by, workunits.Draw{Commit: c.commit, Index: i, Value: w.node(by).chain.Value(i), Head: h.ID(), With: with})
	}
	r := rand.New(rand.NewPCG(1, 1))
	want := func(what string, state verdict.State) {
		t.Helper()
		if u := w.book().Unit(0); u.State != state || w.live.Unit(0).State != state {
			t.Fatalf("%s: the unit is %v, and %v statement by statement, want %v", what, u.State, w.live.Unit(0).State, state)
		}
		for range 20 {
			if got, all := w.fingerprint(w.shuffled(r)), w.fingerprint(w.live); got != all {
				t.Fatalf("%s: another order gives\n%s\nwant\n%s", what, got, all)
			}
		}
	}
	draw("s1", idOf("s2"))
	draw("s3", workunits.NodeID{})
	want("s2 has received it alone", verdict.Pending)
	w.keep(c)
	want("s2 still has to draw", verdict.Pending)
	w.say("s2", workunits.Fault{Name: workunits.FaultAbsent, Against: idOf("s2")})
	w.say("s1", workunits.Fault{Name: workunits.FaultWithheld, Against: idOf("s2")})
	want("by one other's word s2 withholds", verdict.Pending)
	w.say("s3", workunits.Fault{Name: workunits.FaultAbsent, Against: idOf("s2")})
	want("nobody waits for s2", verdict.Open)
	draw("s2", workunits.NodeID{})
	want("s2 drew after all", verdict.Accepted)
}

// TestChains: values go on counting from chain to chain. One counts if the end of
// its chain was announced before its receipt, and is a fault if it never was.
func TestChains(t *testing.T) {
	t.Parallel()
	next := workunits.NewChain([32]byte{1}, 4)
	for _, c := range []struct {
		name     string
		announce uint32 // with which receipt
		late     bool   // after the receipt of the new chain's value
		drawn    bool
		badDraw  bool
		skip     bool // the last value of the first chain is not shown
	}{
		{name: "in time", announce: 4, drawn: true},
		{name: "in time, values skipped", announce: 4, skip: true, drawn: true},
		{name: "too late", announce: 4, late: true},
		{name: "in another receipt", announce: 3, badDraw: true},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(nil)
			w.chainLen = 4
			w.node("s1")
			w.chainLen = chainLen
			var last copied
			say := func(i uint32, k copied) {
				r := workunits.Receipt{Commit: k.commit, Hash: w.ledger.At(k.commit.Author, k.commit.Seq+1), Index: i}
				if i == c.announce {
					r.Next = next.Value(0)
				}
				w.say("s1", r)
			}
			for i := uint32(1); i <= 5; i++ {
				last = w.commit(w.grant("s2", "v1", i-1), "x")
				w.receipt("s2", last)
				if c.late && i == 4 {
					continue
				}
				say(i, last)
				if i < 4 || i == 4 && !c.skip {
					w.say("s1", workunits.Draw{Commit: last.commit, Index: i, Value: w.node("s1").chain.Value(i)})
				}
			}
			if c.late {
				say(4, w.commit(w.grant("s2", "v2", 0), "x"))
			}
			w.say("s1", workunits.Draw{Commit: last.commit, Index: 5, Value: next.Value(1)})
			w.draw("s2", last)
			b := w.book()
			if bad := b.Proven(idOf("s1")); bad != c.badDraw {
				t.Errorf("s1 is proven at fault: %t", bad)
			}
			if drawn := b.Unit(4).State == verdict.Open; drawn != c.drawn { // the law asks newcomers for a second copy
				t.Errorf("the unit is %v", b.Unit(4).State)
			}
		})
	}
}

// TestSpareCopy: of two copies that do not follow one another the one that was
// received first says whether the unit wants more. The draws on the other one are
// no second chance, and do not reopen what is accepted.
func TestSpareCopy(t *testing.T) {
	t.Parallel()
	for _, newcomer := range []string{"v2", "v3", "v4", "v5", "v6"} { // before and after the veteran, in order of ids
		for _, first := range []string{"v1", newcomer} {
			w := newWorld(nil)
			w.node("v1")
			h := w.stakeHead(veteran)
			heads := map[string]workunits.Digest{}
			for _, s := range []string{"s1", "s2"} {
				w.say(s, h)
				heads[s] = h.ID()
			}
			veteran, other := w.commit(w.grant("s1", "v1", 0), "x"), w.commit(w.grant("s3", newcomer, 0), "x")
			want, spare := verdict.Accepted, other
			x := veteran
			if first == newcomer {
				want, x, spare = verdict.Open, other, veteran
			}
			w.headed(x, heads, "s1", "s2")
			w.keep(x)
			if got := w.live.Unit(0).State; first == "v1" && got != want {
				t.Fatalf("the veteran's copy alone is %v", got)
			}
			w.headed(spare, heads, "s1", "s2")
			w.keep(spare)
			if got := w.book().Unit(0).State; got != want || w.live.Unit(0).State != want {
				t.Errorf("with a spare copy, the first by %s, the unit is %v, want %v", first, got, want)
			}
		}
	}
}
