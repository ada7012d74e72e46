package oracle_test

import (
	"cmp"
	"encoding/binary"
	"maps"
	"math"
	"math/rand/v2"
	"reflect"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/talka-grid/talka/workunits"
	"github.com/talka-grid/talka/workunits/ledger"
	"github.com/talka-grid/talka/workunits/verdict"
	"github.com/talka-grid/talka/workunits/verdict/oracle"
)

// book reads entries statement by statement.
func (s *scribe) book(entries []ledger.Entry) *verdict.Book {
	b := verdict.NewWith(s.ID, s.Manifest, s.Standing)
	for _, e := range entries {
		b.Apply(e)
	}
	for _, n := range s.forked {
		b.Forked(n)
	}
	return b
}

// TestBook holds verdict.Book against the oracle over ledgers that are as wild as
// the encoding allows.
func TestBook(t *testing.T) {
	t.Parallel()
	for range 10 { // a hundred ledgers each
		rapid.Check(t, func(t *rapid.T) {
			s := newScribe(t)
			s.write(60)
			if d := oracle.Judge(s.Job, s.entries, s.forked).Difference(s.book(s.entries)); d != "" {
				t.Fatalf("%s\n%s", d, s.tell())
			}
		})
	}
}

// TestLaw holds the two arithmetics of the law against each other.
func TestLaw(t *testing.T) {
	t.Parallel()
	for x := 1e-6; x < 1e4; x *= 1.7 {
		if a, b := oracle.Delta(x), verdict.Delta(x); math.Abs(a-b) > 1e-12 {
			t.Errorf("delta(%g): the nodes' %g, the text's %g", x, b, a)
		}
	}
}

// TestReach: the ledgers get to what a verdict can say.
func TestReach(t *testing.T) {
	t.Parallel()
	seen := map[string]int{}
	rapid.Check(t, func(t *rapid.T) {
		s := newScribe(t)
		s.write(60)
		s.exhaust(rapid.Uint32Max(s.Manifest.Total()-1).Draw(t, "last exhausted unit"))
		v := oracle.Judge(s.Job, s.entries, s.forked)
		once := oracle.Judge(s.Job, slices.DeleteFunc(slices.Clone(s.entries), func(e ledger.Entry) bool { return e.Body.Kind() == workunits.KindRetry }), s.forked)
		for i, u := range v.Units {
			seen[u.State.String()]++
			if once.Units[i].State == verdict.Failed && u.State == verdict.Open {
				seen["tried again"]++
			}
			for what, is := range map[string]bool{
				"canonical": u.Canonical, "contested": u.Contested, "compared": len(u.Compare) > 0, "three agree": u.Support >= 3, "sealed": len(u.Unsealed) > 0,
			} {
				if is {
					seen[what]++
				}
			}
		}
		if len(v.Wrong) > 0 {
			seen["burned"]++
		}
	})
	for _, what := range []string{"open", "pending", "accepted", "failed", "tried again", "canonical", "contested", "compared", "three agree", "sealed", "burned"} {
		if seen[what] == 0 {
			t.Errorf("no unit is %s: %v", what, seen)
		}
	}
}

// shuffled is the entries in another order, which keeps each log's own, and some
// of them again.
func (s *scribe) shuffled() (list []ledger.Entry) {
	logs := map[workunits.NodeID][]ledger.Entry{}
	for _, e := range s.entries {
		logs[e.Author] = append(logs[e.Author], e)
	}
	authors, next := slices.SortedFunc(maps.Keys(logs), workunits.NodeID.Compare), map[workunits.NodeID]int{}
	r := rand.New(rand.NewPCG(rapid.Uint64().Draw(s.t, "order"), 0))
	for len(authors) > 0 {
		i := r.IntN(len(authors))
		a := authors[i]
		if next[a] == len(logs[a]) {
			authors = slices.Delete(authors, i, i+1)
			continue
		}
		list = append(list, logs[a][next[a]])
		next[a]++
		list = append(list, logs[a][r.IntN(next[a])])
	}
	return list
}

// TestAnyOrder: any order, repetition or split of the same statements gives the
// same bytes of verdict.
func TestAnyOrder(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		s := newScribe(t)
		s.write(60)
		want := s.book(s.entries).Digest()
		list := s.shuffled()
		b := verdict.NewWith(s.ID, s.Manifest, s.Standing)
		forks := rapid.IntRange(0, len(list)).Draw(t, "forks are known")
		for i, e := range list {
			if i == forks {
				for _, n := range s.forked {
					b.Forked(n)
				}
			}
			if e.Seq%3 == 0 { // runs of statements between two looks
				b.Learn(e)
			} else {
				b.Apply(e)
			}
		}
		for _, n := range s.forked {
			b.Forked(n)
		}
		if b.Digest() != want {
			t.Fatalf("another order gives another verdict: %s\n%s", oracle.Judge(s.Job, s.entries, s.forked).Difference(b), s.tell())
		}
	})
}

// TestResume: what a steward takes from the book when it starts again leaves out
// nothing that units show.
func TestResume(t *testing.T) {
	t.Parallel()
	for range 5 {
		rapid.Check(t, resumes)
	}
}

func resumes(t *rapid.T) {
	s := newScribe(t)
	s.write(60)
	b := s.book(s.entries)
	runs, unopened := map[workunits.Ref]bool{}, b.Unopened()
	b.EachGrant(func(r workunits.Ref, _ workunits.Grant, may bool) { runs[r] = may })
	var sum []byte
	for u := range s.Manifest.Total() {
		v := b.Unit(u)
		for _, r := range b.Outstanding(u) {
			if !runs[r] {
				t.Fatalf("grant %v is outstanding for unit %d\n%s", r, u, s.tell())
			}
		}
		if _, ok := slices.BinarySearch(unopened, u); !ok && len(v.Unsealed) > 0 {
			t.Fatalf("unit %d has copies that are due to be opened\n%s", u, s.tell())
		}
		for _, n := range s.stewards {
			if kept := v.State == verdict.Accepted && slices.Contains(b.KeptBy(u), n); b.Listed(n) && b.KeepsResult(u, n) != kept {
				t.Fatalf("%.6s keeps the result of unit %d: %t\n%s", n, u, kept, s.tell())
			}
		}
		if v.State == verdict.Accepted {
			sum = append(binary.BigEndian.AppendUint32(sum, u), v.Result.Digest[:]...)
		}
	}
	if b.Results() != workunits.Sum(sum) {
		t.Fatalf("the digest of the results is not that of the units'\n%s", s.tell())
	}
	s.promised(b)
}

// promised holds what the book lists of commits and receipts against what it tells of
// each.
func (s *scribe) promised(b *verdict.Book) {
	var want, got []verdict.Delivery
	by := s.stewards[len(s.stewards)-1]
	b.EachCommit(by, func(d verdict.Delivery) { got = append(got, d) })
	promises := map[[2]workunits.Ref]bool{}
	b.EachPromise(func(p verdict.Promise) {
		promises[[2]workunits.Ref{{Author: p.By}, p.Commit}] = p.Received && p.Drawn == 0
	})
	seen := map[workunits.Ref]bool{}
	for _, e := range s.entries {
		c, _, ok := b.Commit(e.Ref)
		if !ok || seen[e.Ref] {
			continue
		}
		seen[e.Ref] = true
		d := verdict.Delivery{Ref: e.Ref, Commit: c}
		_, d.Granted = b.Grant(c.Grant)
		d.Received, _ = b.Received(e.Ref, by)
		want = append(want, d)
		for _, n := range s.volunteers {
			if got, drew := b.Received(e.Ref, n); promises[[2]workunits.Ref{{Author: n}, e.Ref}] != (got && !drew) {
				s.t.Fatalf("%.6s owes a draw on %v: %t\n%s", n, e.Ref, got && !drew, s.tell())
			}
		}
	}
	slices.SortFunc(want, func(x, y verdict.Delivery) int { return cmp.Or(x.Author.Compare(y.Author), cmp.Compare(x.Seq, y.Seq)) })
	if !reflect.DeepEqual(want, got) {
		s.t.Fatalf("commits %+v, want %+v\n%s", got, want, s.tell())
	}
}

// TestWithholding: a volunteer that keeps back the end of its log, from any place
// on, which is all that a hash chain lets it keep back, has no greater stake than
// if it does not. A steward could gain by keeping back that it granted a unit. What a
// volunteer opens its custodians have as well, who open a copy that comes late, too.
func TestWithholding(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		s := newScribe(t)
		s.write(60)
		for _, e := range slices.Clone(s.entries) {
			if o, ok := e.Body.(workunits.Opening); ok && o.Commit.Author == e.Author {
				s.say(s.Manifest.Publisher, o)
			}
		}
		all := s.book(s.entries)
		for _, n := range s.volunteers[:volunteers] {
			for from := range s.length[n] {
				b := s.book(slices.DeleteFunc(slices.Clone(s.entries), func(e ledger.Entry) bool { return e.Author == n && e.Seq >= from }))
				if b.Stake(n) > all.Stake(n) {
					t.Fatalf("%.6s has stake %d with its log up to %d, %d with all of it\n%s", n, b.Stake(n), from, all.Stake(n), s.tell())
				}
			}
		}
	})
}
