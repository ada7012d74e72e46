package ledger_test

import (
	"crypto/ed25519"
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/talka-grid/talka/workunits"
	"github.com/talka-grid/talka/workunits/ledger"
)

const network = "test"

var job = workunits.JobID(workunits.Sum([]byte("job")))

func key(i int) ed25519.PrivateKey {
	seed := workunits.Sum(fmt.Append(nil, "ledger test ", i))
	return ed25519.NewKeyFromSeed(seed[:])
}

func id(i int) workunits.NodeID { return workunits.NodeIDOf(key(i)) }

func said(reason string) workunits.Body { return workunits.Cancel{Reason: reason} }

// log is a log that a test writes by hand.
type log struct {
	key  ed25519.PrivateKey
	job  workunits.JobID // zero for the job of all tests
	seq  uint64
	prev workunits.Digest
}

func (l *log) say(reasons ...string) []byte {
	if l.job.IsZero() {
		l.job = job
	}
	s := workunits.Segment{Network: network, Job: l.job, Law: workunits.LawVersion, Seq: l.seq, Prev: l.prev}
	for _, r := range reasons {
		s.Statements = append(s.Statements, workunits.State(said(r)))
	}
	s.Sign(l.key)
	l.seq += uint64(len(reasons))
	l.prev = s.Hashes()[len(reasons)-1]
	return s.Encode()
}

func add(t *testing.T, l *ledger.Ledger, raw []byte, entries int, want error) {
	t.Helper()
	got, err := l.Add(raw)
	if len(got) != entries || !errors.Is(err, want) {
		t.Fatalf("got %d entries and error %v, want %d and %v", len(got), err, entries, want)
	}
}

func reasons(l *ledger.Ledger) (list []string) {
	l.Walk(l.Heads(), func(e ledger.Entry) { list = append(list, e.Body.(workunits.Cancel).Reason) })
	return list
}

func TestGapDuplicateOverlap(t *testing.T) {
	t.Parallel()
	l, w := ledger.New(network, job), &log{key: key(1)}
	a, b := w.say("a"), w.say("b", "c")
	long := (&log{key: key(1)}).say("a", "b", "c", "d") // the same log in other segments
	add(t, l, b, 0, ledger.ErrGap)
	add(t, l, a, 1, nil)
	add(t, l, a, 0, nil)
	add(t, l, b, 2, nil)
	add(t, l, a, 0, nil)
	add(t, l, long, 1, nil)
	add(t, l, b, 0, nil)
	if diff := cmp.Diff([]string{"a", "b", "c", "d"}, reasons(l)); diff != "" {
		t.Errorf("log (-want +got):\n%s", diff)
	}
	if len(l.Forks()) > 0 {
		t.Error("one history in two cuts is no fork")
	}
}

func TestForksAreCut(t *testing.T) {
	t.Parallel()
	for name, other := range map[string]func(w log) []byte{
		"another statement":     func(w log) []byte { return w.say("x", "y", "z", "u") },
		"another previous hash": func(w log) []byte { w.say("x"); return w.say("y") },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l, w := ledger.New(network, job), &log{key: key(1)}
			add(t, l, w.say("a"), 1, nil)
			fork := *w
			add(t, l, w.say("b", "c"), 2, nil)
			raw := other(fork)
			_, err := l.Add(raw)
			var f *ledger.ForkError
			if !errors.As(err, &f) || f.Fork.At != 1 || f.Fork.Author != id(1) || !errors.Is(err, ledger.ErrForked) {
				t.Fatalf("error %v, want a fork at 1", err)
			}
			if !l.Forked(id(1)) || l.Forked(id(2)) || len(l.Forks()) != 1 {
				t.Error("the fork is not on record")
			}
			if diff := cmp.Diff([]string{"a"}, reasons(l)); diff != "" {
				t.Errorf("log (-want +got):\n%s", diff)
			}
			add(t, l, w.say("d"), 0, ledger.ErrForked)
			add(t, l, raw, 0, ledger.ErrForked)
			// The proof alone convinces whoever has the log.
			m := ledger.New(network, job)
			add(t, m, f.Fork.Proof[0], 0, ledger.ErrGap)
			add(t, m, (&log{key: key(1)}).say("a"), 1, nil)
			for _, p := range f.Fork.Proof {
				_, _ = m.Add(p)
			}
			if diff := cmp.Diff(l.Heads(), m.Heads()); diff != "" {
				t.Errorf("heads of who was shown the proof (-want +got):\n%s", diff)
			}
		})
	}
}

func TestForeignAndForged(t *testing.T) {
	t.Parallel()
	l := ledger.New(network, job)
	s := workunits.Segment{Network: "elsewhere", Job: job, Law: 1, Statements: []workunits.Statement{workunits.State(said("a"))}}
	s.Sign(key(1))
	add(t, l, s.Encode(), 0, ledger.ErrForeign)
	s.Network = network
	add(t, l, s.Encode(), 0, workunits.ErrSignature)
	add(t, l, []byte("nonsense"), 0, workunits.ErrEncoding)
	if len(l.Authors()) != 0 {
		t.Error("what was refused left an author behind")
	}
}

func TestUnknownKindsAreKept(t *testing.T) {
	t.Parallel()
	l := ledger.New(network, job)
	s := workunits.Segment{Network: network, Job: job, Law: 9, Statements: []workunits.Statement{{Kind: 99, Body: []byte("later")}}}
	s.Sign(key(1))
	entries, err := l.Add(s.Encode())
	if err != nil || len(entries) != 1 || entries[0].Body != nil || string(entries[0].Statement.Body) != "later" {
		t.Fatalf("got %v, %v", entries, err)
	}
	m := ledger.New(network, job)
	for _, raw := range l.Missing(m.Heads(), 1<<20) {
		add(t, m, raw, 1, nil)
	}
}

func TestAuthorAndLoad(t *testing.T) {
	t.Parallel()
	l := ledger.New(network, job)
	a := ledger.NewAuthor(key(1), l)
	if a.Begun() {
		t.Error("an empty log has begun")
	}
	var disk [][]byte
	for i := range 5 {
		raw, entries := a.Say(said("x"), said(fmt.Sprint(i)))
		if len(entries) != 2 || entries[1].Seq != uint64(2*i+1) {
			t.Fatalf("entries %v", entries)
		}
		disk = append(disk, raw)
	}
	m := ledger.New(network, job)
	for _, raw := range disk {
		if _, err := m.Load(raw); err != nil {
			t.Fatal(err)
		}
	}
	if diff := cmp.Diff(l.Heads(), m.Heads()); diff != "" {
		t.Errorf("heads after a restart (-want +got):\n%s", diff)
	}
	b := ledger.NewAuthor(key(1), m)
	raw, _ := b.Say(said("again"))
	add(t, l, raw, 1, nil)
	if !slices.EqualFunc(l.Log(id(1)), append(disk, raw), slices.Equal) {
		t.Error("Log gives other segments than were said")
	}
}

func TestWalkStopsAtHeads(t *testing.T) {
	t.Parallel()
	l, w := ledger.New(network, job), &log{key: key(1)}
	add(t, l, w.say("a", "b", "c"), 3, nil)
	heads := l.Heads()
	heads[0].Len, heads[0].Hash = 2, l.At(id(1), 2)
	var got []string
	if !l.Walk(heads, func(e ledger.Entry) { got = append(got, e.Body.(workunits.Cancel).Reason) }) {
		t.Fatal("the ledger holds these heads")
	}
	if diff := cmp.Diff([]string{"a", "b"}, got); diff != "" {
		t.Errorf("walk (-want +got):\n%s", diff)
	}
	for _, h := range []workunits.LogHead{
		{Author: id(1), Len: 4, Hash: l.Last(id(1))}, {Author: id(1), Len: 2, Hash: l.Last(id(1))}, {Author: id(2), Len: 1},
	} {
		if l.Walk([]workunits.LogHead{h}, func(ledger.Entry) { t.Error("walked a head that is not here") }) {
			t.Errorf("walked %v", h)
		}
	}
}

// TestWalkKinds: it gives what Walk gives of these kinds, whatever the segments, also
// of a log that was cut.
func TestWalkKinds(t *testing.T) {
	t.Parallel()
	l := ledger.New(network, job)
	draw, store := workunits.Draw{Index: 1}, workunits.StorageReceipt{Job: true}
	for i := range 3 {
		a := ledger.NewAuthor(key(i), l)
		a.Say(said("a"), draw, said("b"))
		a.Say(draw, draw)
		a.Say(store)
		long := ledger.NewAuthor(key(i), ledger.New(network, job))
		raw, _ := long.Say(said("a"), draw, said("b"), draw, draw, store, draw, said("c"))
		add(t, l, raw, 2, nil)
	}
	other := &log{key: key(1)}
	other.say("a")
	if _, err := l.Add(other.say("b")); !errors.Is(err, ledger.ErrForked) {
		t.Fatal(err)
	}
	for _, kinds := range [][]workunits.Kind{nil, {workunits.KindDraw}, {workunits.KindCancel}, {workunits.KindStorageReceipt, workunits.KindCancel}, {workunits.KindHead}} {
		var want, got []string
		l.Walk(l.Heads(), func(e ledger.Entry) {
			if slices.Contains(kinds, e.Kind) {
				want = append(want, fmt.Sprintf("%+v", e))
			}
		})
		l.WalkKinds(l.Heads(), func(e ledger.Entry) { got = append(got, fmt.Sprintf("%+v", e)) }, kinds...)
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%v (-want +got):\n%s", kinds, diff)
		}
		if len(kinds) == 2 && len(got) < 4 {
			t.Errorf("only %d statements", len(got))
		}
	}
}

func TestMissingKeepsItsLimit(t *testing.T) {
	t.Parallel()
	l, w := ledger.New(network, job), &log{key: key(1)}
	for range 20 {
		add(t, l, w.say("a"), 1, nil)
	}
	m := ledger.New(network, job)
	limit := 3*len(l.Log(id(1))[0]) + 10
	for rounds := 0; ; rounds++ {
		raw := l.Missing(m.Heads(), limit)
		if len(raw) == 0 {
			break
		}
		size := 0
		for _, b := range raw {
			size += len(b)
			add(t, m, b, 1, nil)
		}
		if size > limit || rounds > 20 {
			t.Fatalf("%d bytes, limit %d", size, limit)
		}
	}
	if diff := cmp.Diff(l.Heads(), m.Heads()); diff != "" {
		t.Errorf("heads (-want +got):\n%s", diff)
	}
}

// TestMergeProperty lets several ledgers hear of segments in any order, some of
// forked logs, and exchange what they lack until nothing is left: then all are
// equal, and forks are where the histories part.
func TestMergeProperty(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		var segments [][]byte
		parts := map[workunits.NodeID]uint64{}
		for author := range rapid.IntRange(1, 4).Draw(t, "authors") {
			w := &log{key: key(author)}
			histories := []*log{w}
			for i := range rapid.IntRange(1, 8).Draw(t, "segments") {
				h := histories[rapid.IntRange(0, len(histories)-1).Draw(t, "history")]
				if rapid.IntRange(0, 5).Draw(t, "fork") == 0 {
					branch := *h
					histories = append(histories, &branch)
					if at, ok := parts[id(author)]; !ok || h.seq < at {
						parts[id(author)] = h.seq
					}
					segments = append(segments, branch.say(fmt.Sprint("branch ", i)))
				}
				words := make([]string, rapid.IntRange(1, 3).Draw(t, "statements"))
				for k := range words {
					words[k] = fmt.Sprint(i, " ", k)
				}
				segments = append(segments, h.say(words...))
			}
		}
		ledgers := make([]*ledger.Ledger, rapid.IntRange(1, 3).Draw(t, "ledgers"))
		for i := range ledgers {
			ledgers[i] = ledger.New(network, job)
		}
		for _, raw := range rapid.Permutation(segments).Draw(t, "order") {
			_, _ = ledgers[rapid.IntRange(0, len(ledgers)-1).Draw(t, "at")].Add(raw)
		}
		for _, raw := range segments { // nothing is lost: somebody hears it all in order
			_, _ = ledgers[0].Add(raw)
		}
		for round := 0; exchange(ledgers); round++ {
			if round > 200 {
				t.Fatal("the exchange does not come to rest")
			}
		}
		for _, l := range ledgers {
			if diff := cmp.Diff(ledgers[0].Heads(), l.Heads()); diff != "" {
				t.Fatalf("heads (-want +got):\n%s", diff)
			}
			for _, f := range l.Forks() {
				if f.At != parts[f.Author] {
					t.Fatalf("log of %s is cut at %d, its histories part at %d", f.Author.Short(), f.At, parts[f.Author])
				}
			}
			if len(l.Forks()) != len(parts) {
				t.Fatalf("%d forks, want %d", len(l.Forks()), len(parts))
			}
		}
	})
}

// exchange lets each ledger push to each other what that lacks, and reports
// whether anything was sent.
func exchange(ledgers []*ledger.Ledger) (sent bool) {
	for _, from := range ledgers {
		for _, to := range ledgers {
			for _, raw := range from.Missing(to.Heads(), 1<<20) {
				_, _ = to.Add(raw)
				sent = true
			}
		}
	}
	return sent
}
