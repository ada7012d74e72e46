package ledger_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
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
	v := map[string]any{"heads": l.Heads(), "segments": l.Segments(), "forks": l.Forks()}
	var walked []string
	if !l.Walk(l.Heads(), func(e ledger.Entry) { walked = append(walked, told(e)) }) {
		panic("a ledger holds its heads")
	}
	v["walk"] = walked
	for _, limit := range []int{0, 300, 1000} {
		v[fmt.Sprint("missing ", limit)] = l.Missing(nil, limit)
	}
	for _, a := range l.Authors() {
		v[fmt.Sprint("log ", a.Short())] = l.Log(a)
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

// disk is where ledgers leave segments, from place 1 on.
type disk struct {
	rows [][]byte
	err  error
}

func (d *disk) read(place uint64) ([]byte, error) {
	if d.err != nil || place == 0 || place > uint64(len(d.rows)) {
		return nil, errors.Join(d.err, errRow)
	}
	return slices.Clone(d.rows[place-1]), nil
}

var errRow = errors.New("no such row")

// ledger makes an empty one that leaves its segments to the disk.
func (d *disk) ledger() *ledger.Ledger {
	l := ledger.New(network, job)
	l.ReadWith(d.read)
	return l
}

// addAll says what came of adding each. What is new, or proves a fork, is written down
// as a node does it, and forgotten but for so many bytes.
func (d *disk) addAll(l *ledger.Ledger, heard [][]byte, keep int) (results []string) {
	for _, raw := range heard {
		entries, err := l.Add(raw)
		r := fmt.Sprint(err)
		for _, e := range entries {
			r += " " + told(e)
		}
		results = append(results, r)
		var fork *ledger.ForkError
		if len(entries) > 0 || errors.As(err, &fork) {
			d.rows = append(d.rows, raw)
			l.Stored(raw, uint64(len(d.rows)))
			l.Forget(keep)
		}
	}
	return results
}

// restart makes a ledger of what is on the disk with an outline.
func (d *disk) restart(t interface{ Fatal(...any) }, outline []byte) (l *ledger.Ledger, places []uint64) {
	l = d.ledger()
	places, err := l.Recall(outline)
	if err != nil {
		t.Fatal(err)
	}
	for i, raw := range d.rows {
		if _, known := slices.BinarySearch(places, uint64(i+1)); !known {
			_ = l.Restore(raw, uint64(i+1))
		}
	}
	return l, places
}

// TestStoredProperty compares a ledger that leaves its segments to the disk with one
// that has them in memory, and takes an outline at some time, with which a node starts
// again later: its ledger is as if nothing had happened, and stays so.
func TestStoredProperty(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		heard := drawRows(t)
		at := rapid.IntRange(0, len(heard)).Draw(t, "outline after")
		end := rapid.IntRange(at, len(heard)).Draw(t, "restart after")
		keep := rapid.SampledFrom([]int{0, 400, 1000, 1 << 20}).Draw(t, "bytes in memory")
		l, d := ledger.New(network, job), &disk{}
		m := d.ledger()
		same := func(what string, want, got any) {
			if diff := cmp.Diff(want, got); diff != "" {
				t.Fatalf("%s (-want +got):\n%s", what, diff)
			}
		}
		same("adding", (&disk{}).addAll(l, heard[:at], 0), d.addAll(m, heard[:at], keep))
		same("ledger", view(l), view(m))
		outline, known := m.Outline(), 0
		for _, a := range l.Authors() {
			if !l.Forked(a) {
				known += len(l.Log(a))
			}
		}
		same("adding more", (&disk{}).addAll(l, heard[at:end], 0), d.addAll(m, heard[at:end], keep))
		same("ledger with more", view(l), view(m))

		again, places := d.restart(t, outline)
		if len(places) != known {
			t.Fatalf("%d places, want those of %d segments", len(places), known)
		}
		same("ledger after a restart", view(l), view(again))
		same("its outline", m.Outline(), again.Outline())
		same("all added again", (&disk{}).addAll(l, heard, 0), d.addAll(again, heard, keep))
		same("ledger after that", view(l), view(again))
		if err := errors.Join(m.Err(), again.Err()); err != nil {
			t.Fatal(err)
		}

		if len(places) == 0 {
			return
		}
		again, _ = d.restart(t, outline)
		place := rapid.SampledFrom(places).Draw(t, "damaged row")
		row := slices.Clone(d.rows[place-1])
		author, _, err := workunits.ReadEnd(row)
		if err != nil || again.Forked(author) {
			return // it may be cut off
		}
		whole := again.Log(author)
		row[rapid.IntRange(0, len(row)-1).Draw(t, "byte")] ^= 1
		d.rows[place-1] = row
		part := again.Log(author)
		if slices.ContainsFunc(part, func(raw []byte) bool { return bytes.Equal(raw, row) }) || len(part) >= len(whole) {
			t.Fatalf("%d of %d segments with a damaged one", len(part), len(whole))
		}
		if !errors.Is(again.Err(), ledger.ErrChanged) {
			t.Fatalf("error %v", again.Err())
		}
	})
}

// someLedger has two logs in five segments, two of which overlap, all on the disk.
func someLedger() (l *ledger.Ledger, d *disk) {
	x, y := &history{author: 1}, &history{author: 2}
	d = &disk{}
	l = d.ledger()
	d.addAll(l, [][]byte{x.cut(0, 3, "a"), y.cut(0, 1, "b"), x.cut(2, 5, "c"), y.cut(1, 4, "d"), x.cut(5, 6, "e")}, 0)
	return l, d
}

// TestUnreadable asks a ledger for what cannot be read: it gives less, and says why.
func TestUnreadable(t *testing.T) {
	t.Parallel()
	fork := (&history{author: 1}).cut(0, 3, "other")
	for name, ask := range map[string]func(l *ledger.Ledger, heads []workunits.LogHead) bool{
		"segments": func(l *ledger.Ledger, _ []workunits.LogHead) bool { return len(l.Segments()) == 0 },
		"missing":  func(l *ledger.Ledger, h []workunits.LogHead) bool { return len(l.MissingOf(h[:1], 1<<20)) == 0 },
		"log":      func(l *ledger.Ledger, _ []workunits.LogHead) bool { return len(l.Log(id(1))) == 0 },
		"holding":  func(l *ledger.Ledger, _ []workunits.LogHead) bool { return len(l.Holding(id(2), 60)) == 0 },
		"segment": func(l *ledger.Ledger, _ []workunits.LogHead) bool {
			return l.Segment(workunits.Ref{Author: id(1)}) == nil
		},
		"walk": func(l *ledger.Ledger, _ []workunits.LogHead) bool {
			return !l.Walk(l.Heads(), func(ledger.Entry) {})
		},
		"fork": func(l *ledger.Ledger, _ []workunits.LogHead) bool {
			_, err := l.Add(fork)
			return errors.Is(err, errRow) && !errors.Is(err, ledger.ErrForked) && !l.Forked(id(1)) && len(l.Forks()) == 0
		},
	} {
		l, d := someLedger()
		d.err = errors.New("disk full of holes")
		behind := []workunits.LogHead{{Author: id(1)}, {Author: id(2)}}
		if !ask(l, behind) || !errors.Is(l.Err(), d.err) {
			t.Errorf("%s of what cannot be read; error %v", name, l.Err())
		}
		d.err = nil
		if !ask(l, behind) {
			t.Errorf("%s: it is read after an error", name)
		}
		if l.Len(id(1)) != 6 || len(l.Heads()) != 2 || l.Outline() == nil {
			t.Errorf("%s: what is in memory is gone", name)
		}
	}
}

// TestWalkToAHole walks until a segment that cannot be read.
func TestWalkToAHole(t *testing.T) {
	t.Parallel()
	l, d := someLedger()
	d.rows[2] = d.rows[0] // of the first author, from statement 3 on
	n := 0
	if l.Walk(l.Heads(), func(ledger.Entry) { n++ }) || n > 7 || !errors.Is(l.Err(), ledger.ErrChanged) {
		t.Errorf("walked %d statements, error %v", n, l.Err())
	}
	if got := len(l.Log(id(1))); got != 0 {
		t.Errorf("%d segments after an error", got)
	}
}

// TestStoredElsewhere tells ledgers of places of segments that they do not leave.
func TestStoredElsewhere(t *testing.T) {
	t.Parallel()
	_, d := someLedger()
	l := d.ledger()
	if l.Stored(d.rows[0], 1); l.Count() > 0 {
		t.Error("a segment came from nowhere")
	}
	for _, raw := range d.rows {
		if _, err := l.Add(raw); err != nil {
			t.Fatal(err)
		}
	}
	if l.Outline() != nil {
		t.Error("an outline of what is in memory alone")
	}
	l.Stored(d.rows[0], 1)
	l.Stored(d.rows[0], 2)
	l.Stored([]byte("nothing"), 3)
	l.Stored((&history{author: 1}).cut(0, 3, "other"), 4)
	if err := l.Restore(d.rows[1], 5); err != nil {
		t.Error(err)
	}
	l.Forget(0)
	if got := l.Segments(); len(got) != len(d.rows) || l.Err() != nil || l.Outline() != nil {
		t.Errorf("%d segments, %v", len(got), l.Err())
	}

	memory := ledger.New(network, job) // without a way to read
	for i, raw := range d.rows {
		if err := memory.Restore(raw, uint64(i+1)); err != nil {
			t.Fatal(err)
		}
	}
	memory.Forget(0)
	if len(memory.Segments()) != len(d.rows) {
		t.Error("a ledger forgot what it cannot read")
	}
}

func TestRecallElsewhere(t *testing.T) {
	t.Parallel()
	l, d := someLedger()
	full := d.ledger()
	if _, err := full.Load(d.rows[1]); err != nil {
		t.Fatal(err)
	}
	for name, m := range map[string]*ledger.Ledger{
		"another job":     ledger.New(network, workunits.JobID(workunits.Sum([]byte("x")))),
		"another network": ledger.New("elsewhere", job),
		"one with a log":  full,
	} {
		before := m.Count()
		if places, err := m.Recall(l.Outline()); !errors.Is(err, ledger.ErrOutline) || places != nil || m.Count() != before {
			t.Errorf("%s: recalled, %v", name, err)
		}
	}
}

// TestDamagedOutlines changes and cuts outlines: what is still taken harms nobody.
func TestDamagedOutlines(t *testing.T) {
	t.Parallel()
	l, d := someLedger()
	whole := l.Outline()
	try := func(b []byte) {
		m := d.ledger()
		if _, err := m.Recall(b); err != nil {
			if !errors.Is(err, ledger.ErrOutline) || m.Count() > 0 {
				t.Errorf("error %v", err)
			}
			return
		}
		m.Heads()
		m.Segments()
		if !bytes.Equal(m.Outline(), b) {
			t.Errorf("%x is another form of an outline", b)
		}
	}
	refused := 0
	for i := range whole {
		if _, err := d.ledger().Recall(whole[:i]); err != nil {
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
	if _, err := d.ledger().Recall(slices.Concat(whole, whole[len(whole)-100:])); err == nil {
		t.Error("an outline with something behind it")
	}
	twice := bytes.Replace(whole, append(binary.AppendUvarint(nil, 5), sha(d.rows[4])...), append(binary.AppendUvarint(nil, 1), sha(d.rows[4])...), 1)
	if _, err := d.ledger().Recall(twice); bytes.Equal(twice, whole) || !errors.Is(err, ledger.ErrOutline) {
		t.Errorf("two segments in one place: %v", err)
	}
}

func sha(b []byte) []byte {
	d := sha256.Sum256(b)
	return d[:]
}
