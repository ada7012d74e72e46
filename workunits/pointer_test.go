package workunits

import (
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func samplePointer() Pointer {
	return Pointer{Network: "main", Project: "clusters", Number: 7, Job: JobID(testDigest("job")), Accepted: 3, Results: testDigest("results")}
}

// TestPointer reads one back, and nothing that its publisher did not sign.
func TestPointer(t *testing.T) {
	t.Parallel()
	key, thief := testKey(1), testKey(2)
	want := samplePointer()
	raw := want.Sign(key)
	got, err := ParsePointer(raw)
	want.Publisher, want.Sig = NodeIDOf(key), got.Sig
	if err != nil || !cmp.Equal(want, got) {
		t.Fatalf("%v\n%s", err, cmp.Diff(want, got))
	}
	forge := func(change func(p *Pointer)) []byte {
		p := got
		change(&p)
		return Encode(p)
	}
	for name, b := range map[string][]byte{
		"of another number":   forge(func(p *Pointer) { p.Number++ }),
		"of another network":  forge(func(p *Pointer) { p.Network = "other" }),
		"of another project":  forge(func(p *Pointer) { p.Project = "other" }),
		"of another job":      forge(func(p *Pointer) { p.Job[0]++ }),
		"of another's key":    forge(func(p *Pointer) { p.Publisher = NodeIDOf(thief) }),
		"of nobody":           forge(func(p *Pointer) { p.Publisher = NodeID{} }),
		"signed as another":   forge(func(p *Pointer) { p.Sig = sign(key, domainAnnounce, p.unsigned()) }),
		"without a signature": forge(func(p *Pointer) { p.Sig = nil }),
		"cut off":             raw[:len(raw)-1],
		"with more behind it": append(append([]byte{}, raw...), 0),
		"too large":           make([]byte, MaxPointer+1),
	} {
		if p, err := ParsePointer(b); err == nil {
			t.Errorf("%s: %+v", name, p)
		}
	}
	for name, change := range map[string]func(p *Pointer){
		"number 0": func(p *Pointer) { p.Number = 0 }, "no job": func(p *Pointer) { p.Job = JobID{} },
		"the last number": func(p *Pointer) { p.Number = ^uint64(0) }, "no name": func(p *Pointer) { p.Project = "a b" },
	} {
		p := samplePointer()
		change(&p)
		if _, err := ParsePointer(p.Sign(key)); err == nil || errors.Is(err, ErrSignature) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestPointerOrder: any two pointers have one order, the same for everybody.
func TestPointerOrder(t *testing.T) {
	t.Parallel()
	old, next := samplePointer(), samplePointer()
	next.Number++
	twin := old
	twin.Job[0] ^= 0xff
	if !next.Newer(old) || old.Newer(next) || old.Newer(old) || twin.Newer(old) == old.Newer(twin) {
		t.Error("the order of pointers")
	}
	p := old.ProjectID()
	other := p
	other.Name += "x"
	keys := map[Digest]bool{PointerKey("main", p): true, PointerKey("main", other): true, PointerKey("other", p): true}
	if len(keys) != 3 {
		t.Error("pointers of different projects share a key")
	}
}
