package verdict_test

import (
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/talka-grid/talka/workunits"
	"github.com/talka-grid/talka/workunits/verdict"
)

// stakeHead is a head that tells v1's credit.
func (w *world) stakeHead(copies uint64) workunits.Head {
	h := workunits.Head{Logs: w.ledger.Heads()}
	h.Set = workunits.Sum(workunits.Encode(h.Logs))
	for _, l := range h.Logs {
		n := uint64(0)
		if l.Author == idOf("v1") {
			n = copies
		}
		h.Credit = append(h.Credit, n)
	}
	return h
}

// state has stewards state a head.
func (w *world) state(h workunits.Head, by ...string) {
	for _, s := range by {
		w.say(s, h)
	}
}

// headed draws a copy by stewards that name a head.
func (w *world) headed(c copied, heads map[string]workunits.Digest, by ...string) {
	for _, s := range by {
		w.receipt(s, c)
	}
	for _, s := range by {
		i := w.node(s).receipts[c.commit]
		w.say(s, workunits.Draw{Commit: c.commit, Index: i, Value: w.node(s).chain.Value(i), Head: heads[s]})
	}
}

const veteran = 1_000_000_000 // copies, of whom the law asks hardly ever for a second copy

func TestHeadsDecide(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name  string
		tell  func(w *world) map[string]workunits.Digest // the heads that s1 and s2 draw by
		state verdict.State
	}{
		{"co-signed", func(w *world) map[string]workunits.Digest {
			h := w.stakeHead(veteran)
			w.state(h, "s1", "s2")
			return map[string]workunits.Digest{"s1": h.ID(), "s2": h.ID()}
		}, verdict.Accepted},
		{"one steward's word", func(w *world) map[string]workunits.Digest {
			h := w.stakeHead(veteran)
			w.say("s1", h)
			return map[string]workunits.Digest{"s1": h.ID(), "s2": h.ID()}
		}, verdict.Open},
		{"co-signed by who is not listed", func(w *world) map[string]workunits.Digest {
			h := w.stakeHead(veteran)
			w.say("s1", h)
			w.say("v2", h)
			return map[string]workunits.Digest{"s1": h.ID(), "s2": h.ID()}
		}, verdict.Open},
		{"only one draw names it", func(w *world) map[string]workunits.Digest {
			h := w.stakeHead(veteran)
			w.state(h, "s1", "s2")
			return map[string]workunits.Digest{"s1": h.ID()}
		}, verdict.Open},
		{"the lower of two", func(w *world) map[string]workunits.Digest {
			h, low := w.stakeHead(veteran), w.stakeHead(1)
			w.state(h, "s1", "s2")
			w.state(low, "s1", "s2")
			return map[string]workunits.Digest{"s1": h.ID(), "s2": low.ID()}
		}, verdict.Open},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(nil)
			w.say("v1", workunits.Expiry{}) // so that it has a log
			heads := c.tell(w)
			k := w.commit(w.grant("s1", "v1", 0), "x")
			w.headed(k, heads, "s1", "s2")
			w.keep(k)
			b := w.book()
			if v := b.Unit(0); v.State != c.state {
				t.Errorf("%s: %+v", v.State, v)
			}
			w.inAnyOrder(t, b)
			// A head that is said later moves nothing that was accepted.
			w.state(w.stakeHead(0), "s1", "s2")
			if w.book().Unit(0).State != c.state {
				t.Error("a later head changed the verdict")
			}
		})
	}
}

// TestLaterHeads: a copy that is alone gets better by what the stewards that drew on it
// tell later.
func TestLaterHeads(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name   string
		before func(w *world, h workunits.Head)
		after  func(w *world, h workunits.Head)
		state  verdict.State
	}{
		{"by both", nil, func(w *world, h workunits.Head) { w.state(h, "s1", "s2") }, verdict.Accepted},
		{"by one of them", nil, func(w *world, h workunits.Head) { w.state(h, "s1", "s3") }, verdict.Open},
		{"each by itself", nil, func(w *world, h workunits.Head) {
			w.say("s1", h)
			w.say("s2", w.stakeHead(veteran+1))
		}, verdict.Open},
		{"before the draws", func(w *world, h workunits.Head) { w.state(h, "s1", "s2") }, nil, verdict.Open},
		{"less after more", nil, func(w *world, h workunits.Head) {
			w.state(h, "s1", "s2")
			w.state(w.stakeHead(0), "s1", "s2")
		}, verdict.Accepted},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(nil)
			w.say("v1", workunits.Expiry{}) // so that it has a log
			h := w.stakeHead(veteran)
			k := w.commit(w.grant("s1", "v1", 0), "x")
			if c.before != nil {
				c.before(w, h)
			}
			w.drawn(k, "s1", "s2")
			w.keep(k)
			if v := w.live.Unit(0); v.State != verdict.Open {
				t.Fatalf("before: %+v", v)
			}
			if c.after != nil {
				c.after(w, h)
			}
			if v := w.live.Unit(0); v.State != c.state {
				t.Errorf("%s: %+v", v.State, v)
			}
			w.inAnyOrder(t, w.live)
		})
	}
}

// TestWaits: of units that have one copy those wait which it may be enough for, until
// every unit was begun.
func TestWaits(t *testing.T) {
	t.Parallel()
	w := newWorld(func(m *workunits.Manifest) { m.Units, m.Policy.Error = 32, 0.04 })
	waits := func() (n int) {
		for u := range w.manifest.Units {
			if w.live.Waits(u) {
				n++
			}
		}
		return n
	}
	last := w.manifest.Units - 1
	for u := range last {
		w.execute("s1", "v1", u, "x")
	}
	if n := waits(); n == 0 || n == int(last) {
		t.Errorf("%d of %d units wait", n, last)
	}
	for u := range last {
		if w.live.Waits(u) {
			w.execute("s2", "v2", u, "x")
			if w.live.Waits(u) {
				t.Errorf("unit %d waits for its third copy", u)
			}
			break
		}
	}
	if waits() == 0 {
		t.Error("too few to tell the end by")
	}
	w.grant("s1", "v1", last)
	if n := waits(); n > 0 {
		t.Errorf("%d units wait though all were begun", n)
	}
}

func TestHead(t *testing.T) {
	t.Parallel()
	w := newWorld(nil)
	w.keep(w.execute("s1", "v1", 0, "x"), w.execute("s2", "v2", 0, "x"))
	h := w.book().Head(w.ledger.Heads())
	w.say("s1", h)
	if got := verdict.FalseHeads(w.job, w.manifest, workunits.StakeTable{}, w.ledger); len(got) > 0 {
		t.Errorf("a true head is called false of %v", got)
	}
	h.Credit[slices.IndexFunc(h.Logs, func(l workunits.LogHead) bool { return l.Author == idOf("v1") })]++
	w.say("s2", h)
	if got := verdict.FalseHeads(w.job, w.manifest, workunits.StakeTable{}, w.ledger); !slices.Equal(got, []workunits.NodeID{idOf("s2")}) {
		t.Errorf("false heads of %v", got)
	}
}

func TestStanding(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name       string
		millis     uint64
		strikes    uint32
		historyCap uint32
		state      verdict.State
	}{
		{"a veteran of the project", veteran * 1000, 0, 0, verdict.Accepted},
		{"cheap units", veteran / 1_000_000, 0, 0, verdict.Open},
		{"capped", veteran * 1000, 0, 10, verdict.Open},
		{"closed", veteran * 1000, 3, 0, verdict.Open},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(func(m *workunits.Manifest) { m.Nominal, m.Policy.HistoryCap = 1000, c.historyCap })
			w.keep(w.execute("s1", "v1", 0, "x"))
			table := workunits.StakeTable{Stakes: []workunits.Stake{{Node: idOf("v1"), Millis: c.millis, Strikes: c.strikes}}}
			b := verdict.ReadWith(w.job, w.manifest, table, w.ledger, w.ledger.Heads())
			if v := b.Unit(0); v.State != c.state {
				t.Errorf("%s: %+v", v.State, v)
			}
			if s := b.Stakes().Stakes; c.state == verdict.Accepted && (len(s) != 1 || s[0].Millis != c.millis+1000) {
				t.Errorf("the next standing is %v", s)
			}
			if b.Closed(idOf("v1")) != (c.strikes == 3) {
				t.Error("closed wrongly")
			}
		})
	}
}

func TestLives(t *testing.T) {
	t.Parallel()
	w := newWorld(func(m *workunits.Manifest) { m.Units = 9 })
	for life := range 3 {
		u := uint32(3 * life)
		w.keep(w.execute("s1", "v1", u, "wrong"), w.execute("s2", "p", u, "right"))
		if b := w.book(); !b.Burned(idOf("v1")) || b.Stale(idOf("v1"), idOf("s1")) != true || b.Closed(idOf("v1")) != (life == 2) {
			t.Fatalf("after %d wrong copies: %v", life+1, b.Faults())
		}
		// What is granted before the fault is stated counts for nothing.
		w.keep(w.execute("s1", "v1", u+1, "x"), w.execute("s2", "v2", u+1, "x"))
		if v := w.book().Unit(u + 1); v.State != verdict.Open || v.Copies != 1 {
			t.Fatalf("a stale copy counts: %+v", v)
		}
		w.say("s1", workunits.Fault{Name: workunits.FaultWrong, Against: idOf("v1")})
		w.keep(w.execute("s1", "v1", u+2, "x"))
		if v := w.book().Unit(u + 2); (v.Copies == 1) != (life < 2) {
			t.Fatalf("life %d: %+v", life+1, v)
		}
		if life == 2 {
			break
		}
	}
	if s := w.book().Stakes().Stakes; !slices.ContainsFunc(s, func(x workunits.Stake) bool { return x.Node == idOf("v1") && x.Strikes == 3 && x.Millis == 0 }) {
		t.Errorf("stakes %v", s)
	}
}

func TestComparator(t *testing.T) {
	t.Parallel()
	numbers := func(m *workunits.Manifest) {
		m.Policy.Compare = workunits.Comparator{Kind: workunits.CompareNumbers, Rel: 1e-6}
	}
	answer := func(w *world, by string, a, b string, equal bool) {
		w.say(by, workunits.Comparison{Program: w.manifest.Policy.Compare.ID(), A: result(a).Digest, B: result(b).Digest, Equal: equal})
	}
	for _, c := range []struct {
		name      string
		history   func(w *world)
		state     verdict.State
		contested bool
		pairs     int
	}{
		{"no answer", func(*world) {}, verdict.Pending, false, 1},
		{"one steward's", func(w *world) { answer(w, "s1", "1.0", "1.00", true) }, verdict.Pending, false, 1},
		{"two stewards'", func(w *world) { answer(w, "s1", "1.0", "1.00", true); answer(w, "s2", "1.0", "1.00", true) }, verdict.Accepted, false, 0},
		{"the publisher's", func(w *world) { answer(w, "p", "1.0", "1.00", true); answer(w, "s2", "1.0", "1.00", false) }, verdict.Accepted, false, 0},
		{"no", func(w *world) { answer(w, "p", "1.0", "1.00", false) }, verdict.Open, true, 0},
		{"a volunteer's", func(w *world) { answer(w, "s1", "1.0", "1.00", true); answer(w, "v2", "1.0", "1.00", true) }, verdict.Pending, false, 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(numbers)
			w.keep(w.execute("s1", "v1", 0, "1.0"), w.execute("s2", "v2", 0, "1.00"))
			c.history(w)
			b := w.book()
			v := b.Unit(0)
			if v.State != c.state || v.Contested != c.contested || len(v.Compare) != c.pairs || len(b.Faults()) > 0 {
				t.Errorf("%+v, faults %v", v, b.Faults())
			}
			if v.State == verdict.Accepted && v.Result != result("1.0") {
				t.Errorf("the result is %v, want the first", v.Result)
			}
			if r := rand.New(rand.NewPCG(1, 1)); w.shuffled(r).Digest() != b.Digest() {
				t.Error("another order gives another verdict")
			}
		})
	}
}

// TestCompareWithFirst: results are compared with the one that was opened first,
// wherever another opening of it stands.
func TestCompareWithFirst(t *testing.T) {
	t.Parallel()
	w := newWorld(func(m *workunits.Manifest) {
		m.Policy.Compare = workunits.Comparator{Kind: workunits.CompareNumbers, Rel: 1e-6}
	})
	by := []string{"v1", "v2", "v3"} // as their copies are looked at
	slices.SortFunc(by, func(x, y string) int { return idOf(x).Compare(idOf(y)) })
	var copies []copied
	for i, text := range []string{"1.0", "1.00", "1.000", "1.00"} {
		copies = append(copies, w.execute([]string{"s1", "s2"}[i%2], append([]string{"v4"}, by...)[i], 0, text))
	}
	for _, i := range []int{3, 2, 1, 0} {
		w.open("s3", copies[i])
	}
	d := func(i int) workunits.Digest { return result(copies[i].text).Digest }
	want := [][2]workunits.Digest{{d(0), d(1)}, {d(0), d(2)}, {d(1), d(2)}}
	if got := w.book().Unit(0).Compare; !slices.Equal(got, want) {
		t.Errorf("asks for %v, want %v", got, want)
	}
}

// TestWithheld: who withholds a commit that two stewards received has no stake.
func TestWithheld(t *testing.T) {
	t.Parallel()
	w := newWorld(nil)
	w.keep(w.execute("s1", "v1", 0, "x"), w.execute("s2", "v2", 0, "x"))
	heads := w.ledger.Heads()
	w.execute("s1", "v1", 1, "wrong")
	if w.book().Stake(idOf("v1")) != 1 {
		t.Fatal("no stake")
	}
	all := w.ledger.Heads()
	i := slices.IndexFunc(all, func(h workunits.LogHead) bool { return h.Author == idOf("v1") })
	all[i] = heads[slices.IndexFunc(heads, func(h workunits.LogHead) bool { return h.Author == idOf("v1") })]
	if got := w.read(all).Stake(idOf("v1")); got != 0 {
		t.Errorf("stake %d", got)
	}
}

// The copies of who did not work for its identity count for nothing, even if a
// steward grants them.
func TestCopiesOfCheapIdentities(t *testing.T) {
	t.Parallel()
	w := newWorld(func(m *workunits.Manifest) {
		m.Policy.Work = workunits.MaxWork
		m.Policy.Trusted = []workunits.NodeID{idOf("v1")}
	})
	for _, v := range []string{"v2", "v3"} {
		w.execute("s1", v, 0, "right")
	}
	if u := w.book().Unit(0); u.Copies != 0 || u.State != verdict.Open {
		t.Errorf("unit with copies of cheap identities: %+v", u)
	}
	w.execute("s1", "v1", 0, "right")
	if u := w.book().Unit(0); u.Copies != 1 {
		t.Errorf("unit with a copy of a trusted volunteer: %+v", u)
	}
}
