package workunits

import (
	"bytes"
	"encoding/binary"
	"errors"
	"math"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

// TestSignatureDomains signs each record in the domain of each other one.
func TestSignatureDomains(t *testing.T) {
	t.Parallel()
	key := testKey(2)
	segment, announcement, manifest := sampleSegment(), sampleAnnouncement(), sampleManifest()
	announcement.Author = NodeIDOf(key)
	manifest.Publisher = NodeIDOf(key)
	domains := []string{domainSegment, domainManifest, domainAnnounce, "", "talka/1 segment", "talka/2 segment\x00"}
	for name, c := range map[string]struct {
		domain string
		parse  func(domain string) error
	}{
		"segment": {domainSegment, func(domain string) error {
			segment := segment
			segment.Sig = sign(key, domain, segment.unsigned())
			_, err := ParseSegment(segment.Encode())
			return err
		}},
		"manifest": {domainManifest, func(domain string) error {
			b := Encode(manifest)
			_, _, err := ParseManifest(Encode(SignedManifest{b, sign(key, domain, b)}))
			return err
		}},
		"announcement": {domainAnnounce, func(domain string) error {
			announcement.Sig = sign(key, domain, announcement.unsigned())
			_, err := ParseAnnouncement(Encode(announcement))
			return err
		}},
	} {
		for _, d := range domains {
			if err := c.parse(d); d == c.domain && err != nil || d != c.domain && !errors.Is(err, ErrSignature) {
				t.Errorf("%s signed in domain %q: got error %v", name, d, err)
			}
		}
	}
}

func TestBadSignatures(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(*Segment){
		"none":           func(s *Segment) { s.Sig = nil },
		"short":          func(s *Segment) { s.Sig = s.Sig[:63] },
		"long":           func(s *Segment) { s.Sig = append(bytes.Clone(s.Sig), 0) },
		"zero":           func(s *Segment) { s.Sig = make([]byte, 64) },
		"another author": func(s *Segment) { s.Author = testNode(3) },
		"no author":      func(s *Segment) { s.Author = NodeID{} },
		"network":        func(s *Segment) { s.Network = "other" },
		"job":            func(s *Segment) { s.Job[31] ^= 1 },
		"law":            func(s *Segment) { s.Law = 2 },
		"seq":            func(s *Segment) { s.Seq++ },
		"prev":           func(s *Segment) { s.Prev[0] ^= 1 },
		"fewer":          func(s *Segment) { s.Statements = s.Statements[:2] },
		"kind":           func(s *Segment) { s.Statements[1].Kind = 998 },
		"body":           func(s *Segment) { s.Statements[1].Body = []byte("Opaque") },
		"order":          func(s *Segment) { s.Statements[0], s.Statements[1] = s.Statements[1], s.Statements[0] },
	} {
		s := sampleSegment()
		change(&s)
		if _, err := ParseSegment(s.Encode()); !errors.Is(err, ErrSignature) {
			t.Errorf("%s: got error %v, want %v", name, err, ErrSignature)
		}
	}
	// Every bit of the signature counts.
	s := sampleSegment()
	for i := range 64 * 8 {
		s.Sig[i/8] ^= 1 << (i % 8)
		if _, err := ParseSegment(s.Encode()); !errors.Is(err, ErrSignature) {
			t.Errorf("bit %d of the signature: got error %v, want %v", i, err, ErrSignature)
		}
		s.Sig[i/8] ^= 1 << (i % 8)
	}
	if _, err := ParseSegment(s.Encode()); err != nil {
		t.Errorf("signature put right again: %v", err)
	}
}

// TestNobodySigns forges a signature of the zero key, which is a point of order
// four: the neutral element with the scalar 0 serves for every fourth message.
func TestNobodySigns(t *testing.T) {
	t.Parallel()
	s := sampleSegment()
	s.Author = NodeID{}
	s.Sig = append([]byte{1}, make([]byte, 63)...)
	for s.Seq = 1; s.Seq < 100; s.Seq++ {
		if _, err := ParseSegment(s.Encode()); !errors.Is(err, ErrSignature) {
			t.Errorf("number %d: got error %v, want %v", s.Seq, err, ErrSignature)
		}
	}
}

func TestSegmentShape(t *testing.T) {
	t.Parallel()
	fault := State(Fault{Name: FaultWrong, Evidence: [][]byte{}})
	many := func(n, size int) []Statement {
		list := make([]Statement, n)
		for i := range list {
			list[i] = Statement{Kind: 999, Body: make([]byte, size)}
		}
		return list
	}
	for name, c := range map[string]struct {
		change func(*Segment)
		ok     bool
	}{
		"most statements":      {func(s *Segment) { s.Statements = many(MaxStatements, 1) }, true},
		"too many statements":  {func(s *Segment) { s.Statements = many(MaxStatements+1, 1) }, false},
		"no statements":        {func(s *Segment) { s.Statements = nil }, false},
		"no fault, full":       {func(s *Segment) { s.Statements = many(1, MaxPlain-400) }, true},
		"no fault, too large":  {func(s *Segment) { s.Statements = many(1, MaxPlain) }, false},
		"head, full":           {func(s *Segment) { s.Statements = []Statement{State(fullHead(MaxAuthors))} }, true},
		"head, too many logs":  {func(s *Segment) { s.Statements = []Statement{State(fullHead(MaxAuthors + 1))} }, false},
		"fault, largest body":  {func(s *Segment) { s.Statements = append(many(1, MaxBody), fault) }, true},
		"body too large":       {func(s *Segment) { s.Statements = append(many(1, MaxBody+1), fault) }, false},
		"segment too large":    {func(s *Segment) { s.Statements = many(2, MaxBody) }, false},
		"no law":               {func(s *Segment) { s.Law = 0 }, false},
		"later law":            {func(s *Segment) { s.Law = 65535 }, true},
		"last number":          {func(s *Segment) { s.Seq = 1 << 40 }, true},
		"number too large":     {func(s *Segment) { s.Seq = 1<<40 + 1 }, false},
		"first with previous":  {func(s *Segment) { s.Seq = 0 }, false},
		"first":                {func(s *Segment) { s.Seq, s.Prev = 0, Digest{} }, true},
		"later, no previous":   {func(s *Segment) { s.Prev = Digest{} }, false},
		"no network":           {func(s *Segment) { s.Network = "" }, false},
		"network is no name":   {func(s *Segment) { s.Network = "a b" }, false},
		"kind 0":               {func(s *Segment) { s.Statements[1].Kind = 0 }, true},
		"last kind":            {func(s *Segment) { s.Statements[1].Kind = 65535 }, true},
		"nonsense, known kind": {func(s *Segment) { s.Statements[1].Kind = KindCancel }, false},
		"nonsense, later law":  {func(s *Segment) { s.Statements[1].Kind, s.Law = KindCancel, 2 }, true},
	} {
		s := sampleSegment()
		c.change(&s)
		s.Sign(testKey(2))
		got, err := ParseSegment(s.Encode())
		if (err == nil) != c.ok || errors.Is(err, ErrSignature) {
			t.Errorf("%s: got error %v, want ok %t", name, err, c.ok)
		}
		if err == nil && !bytes.Equal(got.Encode(), s.Encode()) {
			t.Errorf("%s: parsing and encoding changed it", name)
		}
	}
}

// fullHead is as large as a head over so many logs can be.
func fullHead(logs int) (h Head) {
	for i := range logs {
		l := LogHead{Len: 1 << 40, Hash: Digest{1}}
		binary.BigEndian.PutUint32(l.Author[:], uint32(i+1))
		h.Logs, h.Credit = append(h.Logs, l), append(h.Credit, math.MaxUint64)
	}
	h.Set = Sum(Encode(h.Logs))
	return h
}

// TestUnknownKinds relays what this version does not understand: the bytes, and
// with them the chain hash, stay as they were.
func TestUnknownKinds(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		s := genSegment().Draw(t, "segment")
		i := rapid.IntRange(0, len(s.Statements)-1).Draw(t, "at")
		s.Statements[i] = Statement{
			Kind: Kind(rapid.Uint16Min(uint16(len(kindNames))).Draw(t, "kind")),
			Body: rapid.SliceOfN(rapid.Byte(), 0, 200).Draw(t, "body"),
		}
		s.Sign(testKey(9))
		got, err := ParseSegment(s.Encode())
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got.Encode(), s.Encode()) {
			t.Error("bytes changed")
		}
		if diff := cmp.Diff(s.Hashes(), got.Hashes()); diff != "" {
			t.Errorf("chain hashes changed:\n%s", diff)
		}
		if b, err := got.Statements[i].Decode(); err == nil {
			t.Errorf("decoded %s as %v", got.Statements[i].Kind, b)
		}
	})
}

// TestChainHashIsOfTheLog cuts a log into segments in two ways.
func TestChainHashIsOfTheLog(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		whole := genSegment().Draw(t, "segment")
		want := whole.Hashes()
		cut := rapid.IntRange(0, len(want)).Draw(t, "cut")
		first, second := whole, whole
		first.Statements = whole.Statements[:cut]
		second.Statements = whole.Statements[cut:]
		if cut > 0 {
			second.Seq, second.Prev = whole.Seq+uint64(cut), want[cut-1]
		}
		if diff := cmp.Diff(want, append(first.Hashes(), second.Hashes()...)); diff != "" {
			t.Errorf("cut at %d (-whole +cut):\n%s", cut, diff)
		}
		first.Sig = nil
		if cmp.Diff(want[:cut], first.Hashes()) != "" {
			t.Error("the signature counts")
		}
	})
}

// TestChainHashBinds changes one thing of a log, and wants every hash from
// there on changed and every hash before it kept.
func TestChainHashBinds(t *testing.T) {
	t.Parallel()
	headers := map[string]func(*Segment){
		"network": func(s *Segment) { s.Network += "x" },
		"job":     func(s *Segment) { s.Job[7] ^= 1 },
		"law":     func(s *Segment) { s.Law++ },
		"author":  func(s *Segment) { s.Author[0] ^= 1 },
		"seq":     func(s *Segment) { s.Seq++ },
		"prev":    func(s *Segment) { s.Prev[3] ^= 1 },
	}
	rapid.Check(t, func(t *rapid.T) {
		s := genSegment().Draw(t, "segment")
		want := s.Hashes()
		name := rapid.SampledFrom([]string{"network", "job", "law", "author", "seq", "prev", "kind", "body"}).Draw(t, "change")
		from := 0
		if change := headers[name]; change != nil {
			change(&s)
		} else {
			from = rapid.IntRange(0, len(want)-1).Draw(t, "at")
			if name == "kind" {
				s.Statements[from].Kind ^= 1
			} else {
				s.Statements[from].Body = append(bytes.Clone(s.Statements[from].Body), 0)
			}
		}
		for i, h := range s.Hashes() {
			if (h == want[i]) != (i < from) {
				t.Errorf("%s changed at %d: hash %d of %d kept: %t", name, from, i, len(want), h == want[i])
			}
		}
	})
}

func TestHashesDiffer(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		seen := map[Digest]bool{}
		s := genSegment().Draw(t, "segment")
		for _, h := range s.Hashes() {
			if seen[h] {
				t.Errorf("hash %s twice", h)
			}
			seen[h] = true
		}
	})
}

func TestKindNames(t *testing.T) {
	t.Parallel()
	bodies := sampleBodies()
	if len(bodies) != len(kindNames)-1 {
		t.Fatalf("%d sample bodies for %d kinds", len(bodies), len(kindNames)-1)
	}
	seen := map[string]bool{}
	for i, b := range bodies {
		if b.Kind() != Kind(i+1) || !b.Kind().Known() {
			t.Errorf("body %T has kind %d, want %d", b, b.Kind(), i+1)
		}
		if seen[b.Kind().String()] {
			t.Errorf("name %s twice", b.Kind())
		}
		seen[b.Kind().String()] = true
	}
	for _, k := range []Kind{0, 18, 65535} {
		if k.Known() {
			t.Errorf("%s is known", k)
		}
	}
	// A body under another kind's number does not decode.
	for _, b := range bodies {
		for k := Kind(1); int(k) <= len(bodies); k++ {
			if _, err := (Statement{Kind: k, Body: Encode(b)}).Decode(); (err == nil) != (k == b.Kind()) {
				t.Errorf("%T as %s: error %v", b, k, err)
			}
		}
	}
}
