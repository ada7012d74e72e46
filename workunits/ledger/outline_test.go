package ledger_test

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/talka-grid/talka/workunits"
	"github.com/talka-grid/talka/workunits/ledger"
)

// history is a log of statements of several kinds, from which segments are cut
// that may overlap.
type history struct {
	author int
	said   []workunits.Statement
	hashes []workunits.Digest
}

// cut is a segment of the history from one statement to another, which it says
// first if need be.
func (h *history) cut(from, to int, word string) []byte {
	for len(h.said) < to {
		st := workunits.State(said(fmt.Sprint(word, " ", len(h.said))))
		if n := len(h.said) % 4; n > 0 {
			st = workunits.Statement{Kind: workunits.Kind(50 + 10*n), Body: []byte(word)}
		}
		h.said = append(h.said, st)
	}
	s := workunits.Segment{Network: network, Job: job, Law: workunits.LawVersion, Seq: uint64(from), Statements: h.said[from:to]}
	if from > 0 {
		s.Prev = h.hashes[from-1]
	}
	s.Sign(key(h.author))
	h.hashes = append(h.hashes[:from:from], s.Hashes()...)
	return s.Encode()
}

// branch is another history with the same beginning.
func (h *history) branch(at int) *history {
	return &history{h.author, slices.Clone(h.said[:at]), slices.Clone(h.hashes[:at])}
}

// drawRows are segments of several authors as a node may hear of them: logs mixed,
// some segments overlapping, some twice, some of branches, some after a gap.
func drawRows(t *rapid.T) (rows [][]byte) {
	var histories []*history
	for author := range rapid.IntRange(1, 4).Draw(t, "authors") {
		histories = append(histories, &history{author: author})
	}
	for i := range rapid.IntRange(1, 24).Draw(t, "rows") {
		h := histories[rapid.IntRange(0, len(histories)-1).Draw(t, "history")]
		n := len(h.said)
		switch what := rapid.IntRange(0, 19).Draw(t, "what"); {
		case what == 0 && n > 0:
			h = h.branch(rapid.IntRange(0, n-1).Draw(t, "parting"))
			histories = append(histories, h)
			n = len(h.said)
		case what == 1:
			h.cut(n, n+1, "lost")
			n++
		case what < 6:
			n = rapid.IntRange(0, n).Draw(t, "from")
		}
		to := max(n+1, len(h.said)+rapid.IntRange(0, 2).Draw(t, "more"))
		rows = append(rows, h.cut(n, to, fmt.Sprint("row ", i)))
	}
	return rows
}

// view is all that a ledger tells.
func view(l *ledger.Ledger) map[string]any {
	v := map[string]any{"heads": l.Heads(), "segments": l.Segments(), "forks": l.Forks(), "outline": l.Outline()}
	var walked []string
	if !l.Walk(l.Heads(), func(e ledger.Entry) { walked = append(walked, told(e)) }) {
		panic("a ledger holds its heads")
	}
	v["walk"] = walked
	for _, a := range l.Authors() {
		for _, k := range []workunits.Kind{workunits.KindCancel, 60, 70, 80} {
			v[fmt.Sprint("holding ", a.Short(), k)] = l.Holding(a, k)
		}
		for n := range l.Len(a) {
			v[fmt.Sprint("segment ", a.Short(), n)] = l.Segment(workunits.Ref{Author: a, Seq: n})
			v[fmt.Sprint("missing ", a.Short(), n)] = l.MissingOf([]workunits.LogHead{{Author: a, Len: n, Hash: l.At(a, n)}}, 1<<20)
		}
	}
	return v
}

func told(e ledger.Entry) string {
	return fmt.Sprint(e.Author.Short(), e.Seq, e.Hash, e.Kind, string(e.Statement.Body), e.Body)
}

// addAll says what came of adding each.
func addAll(l *ledger.Ledger, rows [][]byte) (results []string) {
	for _, raw := range rows {
		entries, err := l.Add(raw)
		r := fmt.Sprint(err)
		for _, e := range entries {
			r += " " + told(e)
		}
		results = append(results, r)
	}
	return results
}

// stored are the rows that a node writes down: of what is new, and of forks.
func stored(l *ledger.Ledger, heard [][]byte) (rows [][]byte) {
	for _, raw := range heard {
		var fork *ledger.ForkError
		if entries, err := l.Add(raw); len(entries) > 0 || errors.As(err, &fork) {
			rows = append(rows, raw)
		}
	}
	return rows
}

// restart makes a ledger of rows with an outline.
func restart(t interface{ Fatal(...any) }, outline []byte, rows [][]byte) (l *ledger.Ledger, recalled int, complete bool) {
	o, err := ledger.ParseOutline(outline)
	if err != nil {
		t.Fatal(err)
	}
	l = ledger.New(network, job)
	for _, raw := range rows {
		if l.Recall(o, raw) {
			recalled++
		} else {
			_, _ = l.Load(raw)
		}
	}
	return l, recalled, o.Complete()
}

// TestRecallProperty takes an outline at some time and lets a node start again with
// it later: its ledger is as if all had been loaded, and stays so.
func TestRecallProperty(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		heard := drawRows(t)
		at := rapid.IntRange(0, len(heard)).Draw(t, "outline after")
		end := rapid.IntRange(at, len(heard)).Draw(t, "restart after")
		l := ledger.New(network, job)
		rows := stored(l, heard[:at])
		outline, known := l.Outline(), 0
		for _, a := range l.Authors() {
			if !l.Forked(a) {
				known += len(l.Log(a))
			}
		}
		before := len(rows)
		rows = append(rows, stored(l, heard[at:end])...)

		m, recalled, complete := restart(t, outline, rows)
		if recalled != known || !complete {
			t.Fatalf("recalled %d of %d segments, complete: %v", recalled, known, complete)
		}
		if diff := cmp.Diff(view(l), view(m)); diff != "" {
			t.Fatalf("ledger (-want +got):\n%s", diff)
		}
		if diff := cmp.Diff(addAll(l, heard), addAll(m, heard)); diff != "" {
			t.Fatalf("all added again (-want +got):\n%s", diff)
		}
		if diff := cmp.Diff(view(l), view(m)); diff != "" {
			t.Fatalf("ledger after that (-want +got):\n%s", diff)
		}

		if before == 0 {
			return
		}
		i := rapid.IntRange(0, before-1).Draw(t, "damaged row")
		s, err := workunits.ReadChecked(rows[i])
		if err != nil {
			t.Fatal(err)
		}
		o, _ := ledger.ParseOutline(outline)
		if o.Complete() {
			return // of cut logs alone
		}
		spared := !bytes.Contains(outline, s.Author[:]) // its log was cut by then
		if _, _, complete := restart(t, outline, slices.Delete(slices.Clone(rows), i, i+1)); complete != spared {
			t.Fatalf("without row %d: complete is %v, want %v", i, complete, spared)
		}
		changed := slices.Clone(rows)
		changed[i] = slices.Clone(rows[i])
		changed[i][rapid.IntRange(0, len(rows[i])-1).Draw(t, "byte")] ^= 1
		if _, _, complete := restart(t, outline, changed); complete != spared {
			t.Fatalf("with row %d changed: complete is %v, want %v", i, complete, spared)
		}
	})
}

// someLedger has two logs in five segments, two of which overlap.
func someLedger() (l *ledger.Ledger, rows [][]byte) {
	x, y := &history{author: 1}, &history{author: 2}
	l = ledger.New(network, job)
	rows = stored(l, [][]byte{x.cut(0, 3, "a"), y.cut(0, 1, "b"), x.cut(2, 5, "c"), y.cut(1, 4, "d"), x.cut(5, 6, "e")})
	return l, rows
}

func TestRecallElsewhere(t *testing.T) {
	t.Parallel()
	l, rows := someLedger()
	for name, m := range map[string]*ledger.Ledger{
		"another job":     ledger.New(network, workunits.JobID(workunits.Sum([]byte("x")))),
		"another network": ledger.New("elsewhere", job),
	} {
		o, err := ledger.ParseOutline(l.Outline())
		if err != nil {
			t.Fatal(err)
		}
		if m.Recall(o, rows[0]) || o.Complete() || m.Count() > 0 {
			t.Errorf("%s: recalled", name)
		}
	}
}

// TestRecallOfAnotherLog recalls where a log has gone on, or was cut, otherwise than
// the outline says.
func TestRecallOfAnotherLog(t *testing.T) {
	t.Parallel()
	l, rows := someLedger()
	for name, first := range map[string][]byte{
		"the same statements": (&history{author: 1}).cut(0, 1, "a"), "others": (&history{author: 1}).cut(0, 1, "x"), "the segment itself": rows[0],
	} {
		o, err := ledger.ParseOutline(l.Outline())
		if err != nil {
			t.Fatal(err)
		}
		m := ledger.New(network, job)
		if _, err := m.Load(first); err != nil || m.Recall(o, rows[0]) {
			t.Errorf("%s: recalled", name)
		}
		for _, raw := range rows {
			_, _ = m.Load(raw)
		}
		if m.Recall(o, rows[0]) || m.Recall(o, rows[1]) || o.Complete() {
			t.Errorf("%s: recalled where all was loaded", name)
		}
	}
}

// TestDamagedOutlines changes and cuts outlines: what is still taken apart harms
// nobody who recalls with it.
func TestDamagedOutlines(t *testing.T) {
	t.Parallel()
	l, rows := someLedger()
	whole := l.Outline()
	try := func(b []byte) {
		o, err := ledger.ParseOutline(b)
		if err != nil {
			if !errors.Is(err, ledger.ErrOutline) || o != nil {
				t.Errorf("error %v", err)
			}
			return
		}
		m := ledger.New(network, job)
		for range 2 {
			for _, raw := range rows {
				m.Recall(o, raw)
			}
		}
		m.Heads()
		m.Segments()
		if m.Count() > 0 && o.Complete() && !bytes.Equal(m.Outline(), b) {
			t.Errorf("%x is another form of an outline", b)
		}
	}
	refused := 0
	for i := range whole {
		if _, err := ledger.ParseOutline(whole[:i]); err != nil {
			refused++
		}
		try(whole[:i])
		for bit := range 8 {
			b := slices.Clone(whole)
			b[i] ^= 1 << bit
			try(b)
			try(slices.Insert(b, i, b[i]))
			try(slices.Delete(b, i, i+1))
		}
		try(slices.Concat(whole[:i], []byte{whole[i] | 0x80, 0}, whole[i+1:]))
		for _, n := range [][]byte{bytes.Repeat([]byte{0xff}, 9), {0x80, 0}, {0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1}} {
			try(append(slices.Clone(whole[:i]), n...))
			try(slices.Concat(whole[:i], n, whole[i:]))
		}
	}
	// It is whole without any log, and with the first one alone.
	if refused != len(whole)-2 {
		t.Errorf("%d of %d beginnings were refused", refused, len(whole))
	}
	if _, err := ledger.ParseOutline(slices.Concat(whole, whole[len(whole)-100:])); err == nil {
		t.Error("an outline with something behind it")
	}
}
