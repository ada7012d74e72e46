package verdict_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/talka-grid/talka/workunits"
	"github.com/talka-grid/talka/workunits/verdict"
)

// TestUnits checks unit 0's verdict after short histories.
func TestUnits(t *testing.T) {
	t.Parallel()
	audit := func(*workunits.Manifest) {}
	none := func(m *workunits.Manifest) { m.Policy.Mode = workunits.VerifyNone }
	trust := func(m *workunits.Manifest) { m.Policy.Trusted = []workunits.NodeID{idOf("v1")} }
	for _, c := range []struct {
		name    string
		change  func(*workunits.Manifest)
		history func(*world)
		state   verdict.State
		support int
	}{
		{"nothing", audit, func(*world) {}, verdict.Open, 0},
		{"a grant", audit, func(w *world) { w.grant("s1", "v1", 0) }, verdict.Open, 0},
		{"a commit without draws", audit, func(w *world) { w.commit(w.grant("s1", "v1", 0), "x") }, verdict.Pending, 1},
		{"a drawn commit wants another", audit, func(w *world) { w.execute("s1", "v1", 0, "x") }, verdict.Open, 1},
		{"one draw is no draw", audit, func(w *world) {
			w.drawn(w.commit(w.grant("s1", "v1", 0), "x"), "s1")
		}, verdict.Pending, 1},
		{"the publisher's draw is enough", audit, func(w *world) {
			w.drawn(w.commit(w.grant("s1", "v1", 0), "x"), "p")
		}, verdict.Open, 1},
		{"two that follow", audit, func(w *world) { w.keep(w.execute("s1", "v1", 0, "x"), w.execute("s2", "v2", 0, "x")) }, verdict.Accepted, 2},
		{"two that follow, kept by one", audit, func(w *world) {
			a, b := w.execute("s1", "v1", 0, "x"), w.execute("s2", "v2", 0, "x")
			w.store("s1", w.open("s2", a), 0)
			w.open("s2", b)
		}, verdict.Pending, 2},
		{"kept by who is no steward", audit, func(w *world) {
			a, b := w.execute("s1", "v1", 0, "x"), w.execute("s2", "v2", 0, "x")
			o := w.open("s2", a)
			w.open("s2", b)
			w.store("s1", o, 0)
			w.store("v7", o, 0)
		}, verdict.Pending, 2},
		{"two that follow, one not open", audit, func(w *world) { w.keep(w.execute("s1", "v1", 0, "x")); w.execute("s2", "v2", 0, "x") }, verdict.Pending, 2},
		{"two granted at once count as one", audit, func(w *world) {
			g, h := w.grant("s1", "v1", 0), w.grant("s1", "v2", 0)
			a, b := w.commit(g, "x"), w.commit(h, "x")
			w.drawn(a, "s1", "s2")
			w.drawn(b, "s1", "s2")
			w.keep(a, b)
		}, verdict.Open, 1},
		{"the publisher's copy decides once it is drawn", audit, func(w *world) {
			g, h := w.grant("s1", "v1", 0), w.grant("s2", "p", 0)
			a := w.commit(g, "x")
			w.drawn(a, "s1", "s2")
			w.keep(a)
			w.receipt("s1", w.commit(h, "y")) // later, and not drawn yet
		}, verdict.Pending, 1},
		{"another grantor that had not heard counts as one", audit, func(w *world) {
			a := w.execute("s1", "v1", 0, "x")
			b := w.execute("s3", "v2", 0, "x") // s3 has no receipt of a
			w.keep(a, b)
		}, verdict.Open, 1},
		{"a third that follows one of two", audit, func(w *world) {
			a := w.execute("s1", "v1", 0, "x")
			b := w.execute("s3", "v2", 0, "x")
			c := w.execute("s1", "v3", 0, "x")
			w.keep(a, b, c)
		}, verdict.Accepted, 2},
		{"the same volunteer twice", audit, func(w *world) { w.keep(w.execute("s1", "v1", 0, "x"), w.execute("s1", "v1", 0, "x")) }, verdict.Open, 1},
		{"a grant to somebody else", audit, func(w *world) {
			g := w.grant("s1", "v1", 0)
			g.to = "v2"
			w.drawn(w.commit(g, "x"), "s1", "s2")
		}, verdict.Open, 0},
		{"a grant by nobody", audit, func(w *world) { w.execute("v9", "v1", 0, "x") }, verdict.Open, 0},
		{"a commit to another grant than it names", audit, func(w *world) {
			g := w.grant("s1", "v1", 0)
			g.bound = workunits.Sum([]byte("another"))
			w.drawn(w.commit(g, "x"), "s1", "s2")
		}, verdict.Open, 0},
		{"an opening that does not fit", audit, func(w *world) {
			a, b := w.execute("s1", "v1", 0, "x"), w.execute("s2", "v2", 0, "x")
			a.text = "y"
			w.keep(a, b)
		}, verdict.Pending, 2},
		{"a steward that granted the unit does not execute it", audit, func(w *world) {
			w.keep(w.execute("s1", "v1", 0, "x"), w.execute("p", "s1", 0, "x"))
		}, verdict.Open, 1},
		{"a custodian does not execute", audit, func(w *world) {
			w.keep(w.execute("s1", "v1", 0, "x"), w.execute("s2", "s2", 0, "x"))
		}, verdict.Open, 1},
		{"results differ", audit, func(w *world) { w.keep(w.execute("s1", "v1", 0, "x"), w.execute("s2", "v2", 0, "y")) }, verdict.Open, 0},
		{"the publisher's copy decides", audit, func(w *world) {
			w.keep(w.execute("s1", "v1", 0, "x"), w.execute("s2", "v2", 0, "y"), w.execute("s2", "p", 0, "x"))
		}, verdict.Accepted, 2},
		{"a trusted copy is enough", trust, func(w *world) { w.keep(w.execute("s1", "v1", 0, "x")) }, verdict.Accepted, 1},
		{"others are checked beside it", trust, func(w *world) { w.keep(w.execute("s1", "v2", 0, "x")) }, verdict.Open, 1},
		{"an accepted unit stands while a late copy is closed", audit, func(w *world) {
			late := w.grant("s1", "v3", 0)
			w.keep(w.execute("s1", "v1", 0, "x"), w.execute("s2", "v2", 0, "x"))
			w.drawn(w.commit(late, "x"), "s1", "s2")
		}, verdict.Accepted, 2},
		{"and is reopened by one that differs", audit, func(w *world) {
			late := w.grant("s1", "v3", 0)
			w.keep(w.execute("s1", "v1", 0, "x"), w.execute("s2", "v2", 0, "x"))
			c := w.commit(late, "y")
			w.drawn(c, "s1", "s2")
			w.keep(c)
		}, verdict.Open, 0},
		{"one copy without verification", none, func(w *world) {
			c := w.commit(w.grant("p", "v1", 0), "x")
			w.drawn(c, "p")
			w.store("p", w.open("v1", c), 0)
		}, verdict.Accepted, 1},
		{"no draw, no acceptance", none, func(w *world) {
			c := w.commit(w.grant("p", "v1", 0), "x")
			w.store("p", w.open("v1", c), 0)
		}, verdict.Pending, 1},
		{"a void copy", audit, func(w *world) { w.void(w.grant("s1", "v1", 0)) }, verdict.Open, 0},
		{"as many void copies as tries", audit, func(w *world) {
			w.void(w.grant("s1", "v1", 0))
			w.void(w.grant("s2", "v2", 0))
		}, verdict.Failed, 0},
		{"void copies that one steward granted", audit, func(w *world) {
			for _, to := range []string{"v1", "v2", "v3"} {
				w.void(w.grant("s1", to, 0))
			}
		}, verdict.Open, 0},
		{"and the publisher", audit, func(w *world) {
			w.void(w.grant("p", "v1", 0))
			w.void(w.grant("p", "v2", 0))
		}, verdict.Failed, 0},
		{"one void copy stated twice", audit, func(w *world) {
			g := w.grant("s1", "v1", 0)
			w.void(g)
			w.void(g)
		}, verdict.Open, 0},
		{"a commit that is given up", audit, func(w *world) {
			c := w.execute("s1", "v1", 0, "x")
			w.say("s1", workunits.Expiry{Grant: c.ref})
			w.say("s2", workunits.Expiry{Grant: c.ref})
		}, verdict.Open, 0},
		{"a commit that one steward gives up", audit, func(w *world) {
			c := w.execute("s1", "v1", 0, "x")
			w.say("s1", workunits.Expiry{Grant: c.ref})
			w.say("s3", workunits.Expiry{Grant: c.ref}) // has no receipt of it
		}, verdict.Open, 1},
		{"a commit that came after the lease", audit, func(w *world) {
			g := w.grant("s1", "v1", 0)
			w.say("s1", workunits.Expiry{Grant: g.ref})
			w.drawn(w.commit(g, "x"), "s1", "s2")
		}, verdict.Open, 1},
		{"given up by a volunteer", audit, func(w *world) {
			c := w.execute("s1", "v1", 0, "x")
			w.say("v2", workunits.Expiry{Grant: c.ref})
		}, verdict.Open, 1},
		{"an agreed result that nobody serves", audit, func(w *world) {
			for _, c := range []copied{w.execute("s1", "v1", 0, "x"), w.execute("s2", "v2", 0, "x")} {
				w.open("s2", c)
				w.say("s1", workunits.Expiry{Grant: c.ref})
				w.say("s2", workunits.Expiry{Grant: c.ref})
			}
		}, verdict.Open, 2},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(c.change)
			c.history(w)
			b := w.book()
			if v := b.Unit(0); v.State != c.state || v.Support != c.support {
				t.Errorf("%s with support %d, want %s with %d: %+v", v.State, v.Support, c.state, c.support, v)
			}
			w.inAnyOrder(t, b)
		})
	}
}

// TestBurnReopens: of a liar nothing stands that came after its lie.
func TestBurnReopens(t *testing.T) {
	t.Parallel()
	w := newWorld(nil)
	lie := w.execute("s1", "v1", 3, "wrong")
	for u := range uint32(3) { // v1 and v2 agree on three units
		w.keep(w.execute("s1", "v1", u, "x"), w.execute("s2", "v2", u, "x"))
	}
	b := w.book()
	if b.Stake(idOf("v1")) != 3 || b.Counts()[verdict.Accepted] != 3 {
		t.Fatalf("stake %d, %v", b.Stake(idOf("v1")), b.Counts())
	}
	w.keep(lie, w.execute("s2", "p", 3, "right"))
	var changed []uint32
	for _, e := range w.entries {
		changed = append(changed, b.Apply(e)...) // what it had read it passes over
	}
	if !b.Burned(idOf("v1")) || b.Burned(idOf("v2")) || b.Stake(idOf("v1")) != 0 || b.Stake(idOf("v2")) != 0 {
		t.Errorf("faults %v, stakes %v", b.Faults(), b.Stakes())
	}
	for u := range uint32(3) {
		if b.Unit(u).State != verdict.Open || !slices.Contains(changed, u) {
			t.Errorf("unit %d is %s; told of: %t", u, b.Unit(u).State, slices.Contains(changed, u))
		}
	}
	if f := b.Faults(); len(f) != 1 || f[0].Name != workunits.FaultWrong || !slices.Equal(f[0].Units, []uint32{3}) {
		t.Errorf("faults %v", f)
	}
}

// TestBurnSpares: of what a liar did before the first copy that another one
// contradicts a share counts no more, and of what it did shortly before it and after
// it nothing counts, however often that copy turns out to be an earlier one.
func TestBurnSpares(t *testing.T) {
	t.Parallel()
	const units = 100
	w := newWorld(func(m *workunits.Manifest) { m.Units, m.Shard = units, units })
	w.chainLen = 4 * units
	copies := make([]copied, units)
	for u := range copies {
		copies[u] = w.execute("s1", "v1", uint32(u), "x")
		w.keep(copies[u], w.execute("s2", fmt.Sprint("other ", u), uint32(u), "x"))
	}
	if n := w.live.Counts()[verdict.Accepted]; n != units {
		t.Fatalf("%d units are accepted", n)
	}
	for _, first := range []int{80, 40} { // the publisher finds otherwise
		w.keep(w.execute("s2", "p", uint32(first), "y"))
		w.open("s2", copies[first])
		before := 0
		for u := range first {
			if w.live.State(uint32(u)) == verdict.Accepted {
				before++
			}
		}
		if !w.live.Burned(idOf("v1")) || before < first*65/100 || before > first*95/100 {
			t.Errorf("%d of the %d units before stand; faults %v", before, first, w.live.Faults())
		}
		for u := first - first/16; u < units; u++ {
			if s := w.live.State(uint32(u)); s != verdict.Open && u != 80 && u != first {
				t.Errorf("unit %d is %s, %d is wrong", u, s, first)
			}
		}
		if s := w.live.Stake(idOf("v1")); s != 0 {
			t.Errorf("the liar's stake is %d", s)
		}
	}
	if got, want := w.fingerprint(w.shuffled(rand.New(rand.NewPCG(1, 1)))), w.fingerprint(w.live); got != want {
		t.Errorf("another order gives\n%s\nwant\n%s", got, want)
	}
}

// TestBurnedVoids: void copies of who was burned do not fail a unit, whether the
// burn came before them or after.
func TestBurnedVoids(t *testing.T) {
	t.Parallel()
	w := newWorld(nil)
	w.void(w.grant("s1", "v1", 0))
	w.void(w.grant("s2", "v2", 0))
	if s := w.live.State(0); s != verdict.Failed {
		t.Fatalf("two void copies: %s", s)
	}
	w.keep(w.execute("s1", "v1", 1, "wrong"), w.execute("s2", "p", 1, "right"))
	if s := w.live.State(0); !w.live.Burned(idOf("v1")) || s != verdict.Open {
		t.Errorf("one of them by a liar: %s", s)
	}
}

// TestPlatforms: plain copies count on the publisher's architecture alone, and
// canonical ones wherever they were made; those of another platform than the
// unit's burn nobody.
func TestPlatforms(t *testing.T) {
	t.Parallel()
	w := newWorld(nil)
	run := func(to string, unit uint32, arch string, canonical bool, text string) {
		t.Helper()
		by := map[bool]string{true: "s1", false: "s2"}[to < "v3"] // so that copies of one unit follow one another
		c := w.commit(w.grantFor(by, to, unit, arch, canonical), text)
		w.drawn(c, "s1", "s2")
		w.keep(c)
	}
	is := func(unit uint32, state verdict.State, canonical bool, copies int, text string) {
		t.Helper()
		var want workunits.Result
		if text != "" {
			want = result(text)
		}
		b := w.book()
		v := b.Unit(unit)
		if state != verdict.Accepted {
			v.Result = workunits.Result{}
		}
		if v.State != state || v.Canonical != canonical || v.Copies != copies || v.Contested || v.Result != want {
			t.Errorf("%+v", v)
		}
	}
	run("v1", 0, "arm64", false, "elsewhere")
	is(0, verdict.Open, false, 0, "")
	run("v2", 0, "amd64", false, "x")
	run("v3", 0, "amd64", false, "x")
	is(0, verdict.Accepted, false, 2, "x")

	run("v1", 1, "arm64", true, "z")
	is(1, verdict.Open, true, 1, "")
	run("v3", 1, "amd64", false, "x") // no check of it, nor refuted by it
	is(1, verdict.Open, false, 1, "")
	run("v4", 1, "amd64", true, "z")
	is(1, verdict.Accepted, true, 2, "z")

	run("p", 0, "arm64", true, "z") // the publisher's word
	is(0, verdict.Accepted, true, 1, "z")
	if f := w.book().Faults(); len(f) > 0 {
		t.Errorf("a difference of platforms burned %v", f)
	}
	run("v5", 1, "arm64", true, "wrong")
	run("p", 1, "amd64", true, "z")
	is(1, verdict.Accepted, true, 3, "z")
	if b := w.book(); !b.Burned(idOf("v5")) || len(b.Faults()) != 1 {
		t.Errorf("a wrong canonical copy: %v", b.Faults())
	}
	for i := range 10 {
		if b := w.shuffled(rand.New(rand.NewPCG(uint64(i), 0))); b.Digest() != w.book().Digest() {
			t.Fatal("another order gives another verdict")
		}
	}
}

// TestLateReceipt: which of two copies that do not follow one another came sooner
// may change with any receipt, and with it what the unit waits for.
func TestLateReceipt(t *testing.T) {
	t.Parallel()
	for _, names := range [][2]string{{"v1", "v2"}, {"v2", "v1"}} {
		w := newWorld(nil)
		first := w.commit(w.grant("s1", names[0], 0), "x")
		second := w.commit(w.grant("s2", names[1], 0), "x")
		w.receipt("s3", second)
		w.drawn(first, "s1", "s2")
		if s := w.live.State(0); s != w.book().State(0) {
			t.Errorf("%s before", s)
		}
		w.receipt("s3", first)
		if live, read := w.live.Unit(0), w.book().Unit(0); live.State != read.State || read.State != verdict.Pending {
			t.Errorf("the copy that came sooner is not drawn: %s as statements came, %s read at once", live.State, read.State)
		}
	}
}

func TestBadDraw(t *testing.T) {
	t.Parallel()
	w := newWorld(nil)
	c := w.commit(w.grant("s1", "v1", 0), "x")
	w.receipt("s1", c)
	w.receipt("s2", c)
	w.say("s1", workunits.Draw{Commit: c.commit, Index: 1, Value: workunits.Sum([]byte("chosen"))})
	w.draw("s2", c)
	b := w.book()
	if b.Unit(0).State != verdict.Pending {
		t.Errorf("a value that is not of the chain drew: %+v", b.Unit(0))
	}
	if f := b.Faults(); len(f) != 1 || f[0].Name != workunits.FaultDraw || f[0].Node != idOf("s1") {
		t.Errorf("faults %v", f)
	}
}

// history draws statements of a job, most of them sensible.
func history(t *rapid.T, w *world) {
	stewards, volunteers := []string{"p", "s1", "s2", "s3"}, []string{"v1", "v2", "v3", "v4", "s3", "p"}
	one := func(list []string, what string) string { return rapid.SampledFrom(list).Draw(t, what) }
	var copies []copied
	heads := map[string]workunits.Digest{}
	last := min(w.manifest.Total()-1, 2)
	var inputs []workunits.Digest // that the second stage had
	for range rapid.IntRange(1, 40).Draw(t, "steps") {
		if w.manifest.Reduce != nil && rapid.Bool().Draw(t, "whole") { // else it hardly ever gets to the second stage
			unit, text := rapid.Uint32Max(last).Draw(t, "unit"), rapid.SampledFrom([]string{"x", "x", "y"}).Draw(t, "result")
			by := rapid.SampledFrom([]string{"s1", "s2", "p"}).Draw(t, "grantor")
			a, b := w.execute(by, one(volunteers, "volunteer"), unit, text), w.execute(by, one(volunteers, "volunteer"), unit, text)
			w.keep(a, b)
			copies = append(copies, a, b)
			inputs = append(inputs, w.live.Inputs(w.manifest.Units))
			continue
		}
		if len(copies) == 0 || rapid.Bool().Draw(t, "execute") {
			text := rapid.SampledFrom([]string{"x", "x", "x", "y"}).Draw(t, "result")
			arch := rapid.SampledFrom([]string{"amd64", "amd64", "arm64"}).Draw(t, "architecture")
			unit := rapid.Uint32Max(last).Draw(t, "unit")
			in := w.live.Inputs(unit)
			if w.manifest.Reduces(unit) {
				inputs = append(inputs, in)
				in = rapid.SampledFrom(inputs).Draw(t, "inputs")
			}
			g := w.grantOf(in, one(stewards, "grantor"), one(volunteers, "volunteer"), unit,
				arch, rapid.IntRange(0, 4).Draw(t, "canonical") == 0)
			if rapid.IntRange(0, 9).Draw(t, "void") == 0 {
				w.void(g)
				continue
			}
			c := w.commit(g, text)
			copies = append(copies, c)
			if rapid.IntRange(0, 5).Draw(t, "undrawn") > 0 {
				w.headed(c, heads, "s1", "s2")
			}
			continue
		}
		switch who := one(volunteers, "subject"); rapid.IntRange(0, 9).Draw(t, "aside") {
		case 0:
			h := w.stakeHead(rapid.SampledFrom([]uint64{1, 100_000, veteran}).Draw(t, "credit"))
			for _, s := range []string{"s1", "s2"} {
				if rapid.IntRange(0, 4).Draw(t, "states the head") > 0 {
					w.say(s, h)
				}
				heads[s] = h.ID()
			}
			continue
		case 1:
			w.say(one(stewards, "accuser"), workunits.Fault{Name: workunits.FaultWrong, Against: idOf(who)})
			continue
		}
		c := rapid.SampledFrom(copies).Draw(t, "copy")
		if rapid.IntRange(0, 9).Draw(t, "give up") == 0 {
			w.say(one(stewards, "who"), workunits.Expiry{Grant: c.ref})
		} else {
			w.keep(c)
		}
	}
}

// TestOrderProperty: any order and repetition of a history's statements gives
// the same bytes.
func TestOrderProperty(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) { checkOrder(t, nil) })
}

// TestStageOrderProperty is the same of jobs with a second stage over one unit or
// two, which comes and goes as its inputs do.
func TestStageOrderProperty(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) { checkOrder(t, reduced(rapid.Uint32Range(1, 2).Draw(t, "units"))) })
}

func checkOrder(t *rapid.T, change func(*workunits.Manifest)) {
	w := newWorld(change)
	history(t, w)
	want := w.fingerprint(w.book())
	r := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 0))
	for range 3 {
		if got := w.fingerprint(w.shuffled(r)); got != want {
			t.Fatalf("another order gives\n%s\nwant\n%s", got, want)
		}
	}
}

// TestWithholdingProperty: a volunteer never gains stake by withholding the end
// of its log, which is all that a hash chain lets it withhold. A steward that
// executes units could gain by withholding that it granted them.
func TestWithholdingProperty(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		w := newWorld(nil)
		history(t, w)
		whole := w.book()
		for i := range 4 {
			who := idOf(fmt.Sprint("v", i+1))
			for n := range w.ledger.Len(who) {
				heads := w.ledger.Heads()
				k := slices.IndexFunc(heads, func(h workunits.LogHead) bool { return h.Author == who })
				heads[k].Len, heads[k].Hash = n, w.ledger.At(who, n)
				part := w.read(heads)
				if got := part.Stake(who); got > whole.Stake(who) {
					t.Fatalf("%d of %d statements of v%d give it stake %d instead of %d", n, w.ledger.Len(who), i+1, got, whole.Stake(who))
				}
			}
		}
	})
}
