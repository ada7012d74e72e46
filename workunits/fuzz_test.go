package workunits

import (
	"bytes"
	"errors"
	"testing"
)

// Each target wants no panic, and that what is accepted is encoded as the same
// bytes. The vectors and what the generators never make are the seeds.

// seed adds the bytes of the vectors whose names begin with the prefix.
func seed(f *testing.F, prefix string) {
	f.Helper()
	n := 0
	for _, v := range recordVectors() {
		if len(v.name) >= len(prefix) && v.name[:len(prefix)] == prefix {
			f.Add(v.bytes)
			n++
		}
	}
	if n == 0 {
		f.Fatalf("no vector %q", prefix)
	}
	f.Add([]byte{})
	f.Add([]byte{0xa0})
	f.Add([]byte{0xbf, 0xff})
	f.Add([]byte{0x9b, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff})
}

// FuzzParseSegment signs what is sound but for its signature, so that the
// fuzzer gets past it.
func FuzzParseSegment(f *testing.F) {
	seed(f, "segment")
	for _, b := range sampleBodies() {
		s := sampleSegment()
		s.Statements = []Statement{State(b)}
		s.Sign(testKey(2))
		f.Add(s.Encode())
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := ParseSegment(b)
		if errors.Is(err, ErrSignature) {
			s.Sign(testKey(2))
			b = s.Encode()
			s, err = ParseSegment(b)
			if err != nil && !errors.Is(err, ErrTooLarge) {
				t.Fatalf("signed anew: %v", err)
			}
		}
		if err != nil {
			return
		}
		if !bytes.Equal(s.Encode(), b) {
			t.Errorf("%x becomes %x", b, s.Encode())
		}
		if n := len(s.Hashes()); n != len(s.Statements) || n == 0 || n > MaxStatements {
			t.Errorf("%d hashes of %d statements", n, len(s.Statements))
		}
		for _, st := range s.Statements {
			body, err := st.Decode()
			if known := s.Law <= LawVersion && st.Kind.Known(); known && err != nil {
				t.Errorf("%s in an accepted segment: %v", st.Kind, err)
			} else if err == nil && !bytes.Equal(Encode(body), st.Body) {
				t.Errorf("body %x becomes %x", st.Body, Encode(body))
			}
		}
	})
}

func FuzzParseManifest(f *testing.F) {
	seed(f, "job")
	seed(f, "manifest")
	f.Fuzz(func(t *testing.T, b []byte) {
		job, _, err := ParseManifest(b)
		if err == nil {
			if job != JobID(Sum(b)) {
				t.Errorf("job id %s is not of the block", job)
			}
			return
		}
		// The bytes as a manifest, signed as they are.
		inner, err := Decode[Manifest](b, MaxManifest)
		if err != nil {
			return
		}
		inner.Publisher = testNode(1)
		block := Encode(SignedManifest{Encode(inner), sign(testKey(1), domainManifest, Encode(inner))})
		_, m, err := ParseManifest(block)
		if errors.Is(err, ErrEncoding) || errors.Is(err, ErrSignature) {
			t.Fatalf("signed anew: %v", err)
		}
		if err != nil {
			return
		}
		job, again, err := m.Sign(testKey(1))
		if err != nil || !bytes.Equal(again, block) || job != JobID(Sum(block)) {
			t.Errorf("%x becomes %x, %v", block, again, err)
		}
		m.UnitArgs(m.Units-1, map[string]string{"a": "b"})
		if m.Shards() == 0 {
			t.Error("no shards")
		}
	})
}

func FuzzParseAnnouncement(f *testing.F) {
	seed(f, "announcement")
	f.Fuzz(func(t *testing.T, b []byte) {
		a, err := ParseAnnouncement(b)
		if errors.Is(err, ErrSignature) {
			b = a.Sign(testKey(2))
			if a, err = ParseAnnouncement(b); err != nil && !errors.Is(err, ErrTooLarge) {
				t.Fatalf("signed anew: %v", err)
			}
		}
		if err == nil && !bytes.Equal(Encode(a), b) {
			t.Errorf("%x becomes %x", b, Encode(a))
		}
	})
}

func FuzzParseOutcome(f *testing.F) {
	seed(f, "outcome")
	f.Fuzz(func(t *testing.T, b []byte) {
		o, err := ParseOutcome(b)
		if err != nil {
			return
		}
		if again, _ := o.Encode(); !bytes.Equal(again, b) {
			t.Errorf("%x becomes %x", b, again)
		}
		for _, file := range o.Files {
			if !ValidPath(file.Path) {
				t.Errorf("path %q", file.Path)
			}
		}
		for _, l := range o.Links() {
			if !l.Cid.Defined() {
				t.Error("undefined link")
			}
		}
	})
}

func FuzzParseStageInputs(f *testing.F) {
	seed(f, "stage-inputs")
	f.Fuzz(func(t *testing.T, b []byte) {
		in, err := ParseStageInputs(b, 2)
		if err != nil {
			return
		}
		if again, _ := in.Encode(); !bytes.Equal(again, b) || len(in.Results) != 2 {
			t.Errorf("%x becomes %x", b, again)
		}
	})
}

func FuzzStatement(f *testing.F) {
	for _, b := range sampleBodies() {
		f.Add(uint16(b.Kind()), Encode(b))
	}
	f.Add(uint16(0), []byte{0xa0})
	f.Add(uint16(999), []byte{})
	f.Fuzz(func(t *testing.T, kind uint16, b []byte) {
		body, err := Statement{Kind: Kind(kind), Body: b}.Decode()
		if err != nil {
			return
		}
		if body.Kind() != Kind(kind) {
			t.Errorf("%s decodes as %s", Kind(kind), body.Kind())
		}
		if !bytes.Equal(Encode(body), b) {
			t.Errorf("%x becomes %x", b, Encode(body))
		}
	})
}

func FuzzUnseal(f *testing.F) {
	seed(f, "sealed")
	public, private := EncryptionKey(testKey(4))
	f.Fuzz(func(t *testing.T, b []byte) {
		if _, err := Unseal(b, public, private); !errors.Is(err, ErrSealed) {
			t.Errorf("bytes that nobody sealed: error %v", err)
		}
		o, err := Unseal(sealRaw(t, b, public), public, private)
		if err == nil && !bytes.Equal(Encode(o), b) {
			t.Errorf("%x becomes %x", b, Encode(o))
		}
		if err != nil && !errors.Is(err, ErrSealed) {
			t.Errorf("error %v does not wrap %v", err, ErrSealed)
		}
	})
}

func FuzzLink(f *testing.F) {
	f.Add(Encode(rawLink("x")))
	f.Add(Encode(testLink("x")))
	f.Fuzz(func(t *testing.T, b []byte) {
		l, err := Decode[Link](b, MaxBody)
		if err == nil && (!l.Cid.Defined() || !bytes.Equal(Encode(l), b)) {
			t.Errorf("%x becomes %s", b, l.Cid)
		}
	})
}

func FuzzIDs(f *testing.F) {
	for _, s := range []string{"", "@", testNode(1).String(), JobID(testDigest("job")).String(), "stars@" + testNode(1).String(), "QmYyQSo1c1Ym7orWxLYvCrM2EmxFTANf8wXmmE7DWjhx5N"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if id, err := ParseNodeID(s); err == nil && id.String() != s {
			t.Errorf("node %q becomes %q", s, id)
		} else if err != nil && !errors.Is(err, ErrID) {
			t.Errorf("node %q: error %v does not wrap %v", s, err, ErrID)
		}
		if id, err := ParseJobID(s); err == nil && id.String() != s {
			t.Errorf("job %q becomes %q", s, id)
		} else if err != nil && !errors.Is(err, ErrID) {
			t.Errorf("job %q: error %v does not wrap %v", s, err, ErrID)
		}
		if id, err := ParseProjectID(s); err == nil && id.String() != s {
			t.Errorf("project %q becomes %q", s, id)
		} else if err != nil && !errors.Is(err, ErrID) {
			t.Errorf("project %q: error %v does not wrap %v", s, err, ErrID)
		}
	})
}
