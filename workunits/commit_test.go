package workunits

import (
	"bytes"
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/crypto/nacl/box"
	"pgregory.net/rapid"
)

// sealRaw boxes bytes that need not be an opening.
func sealRaw(tb testing.TB, plain []byte, to [32]byte) []byte {
	tb.Helper()
	b, err := box.SealAnonymous(nil, plain, &to, bytes.NewReader(bytes.Repeat([]byte{6}, 32)))
	if err != nil {
		tb.Fatal(err)
	}
	return b
}

func TestChain(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.Uint32Range(1, 300).Draw(t, "length")
		c := NewChain([32]byte(genBytes(32).Draw(t, "seed")), n)
		anchor := c.Value(0)
		i := rapid.Uint32Range(0, n).Draw(t, "i")
		j := rapid.Uint32Range(0, n).Draw(t, "j")
		if i > j {
			i, j = j, i
		}
		if !ChainLink(anchor, c.Value(j), j) {
			t.Errorf("value %d does not lead to the anchor", j)
		}
		if !ChainLink(c.Value(i), c.Value(j), j-i) {
			t.Errorf("value %d does not lead to value %d", j, i)
		}
		if i < j {
			v := c.Value(i)
			if v == c.Value(j) {
				t.Errorf("values %d and %d are equal", i, j)
			}
			w := c.Value(i + 1)
			if Sum(w[:]) != v {
				t.Errorf("value %d is not the hash of the next", i)
			}
			if ChainLink(c.Value(j), v, j-i) {
				t.Errorf("value %d leads to value %d", i, j)
			}
		}
		if ChainLink(anchor, c.Value(j), j+1) || j > 0 && ChainLink(anchor, c.Value(j), j-1) {
			t.Errorf("value %d leads to the anchor in another number of steps", j)
		}
		wrong := c.Value(j)
		wrong[0] ^= 1
		if ChainLink(anchor, wrong, j) {
			t.Error("a changed value leads to the anchor")
		}
	})
}

func TestChainEnds(t *testing.T) {
	t.Parallel()
	seed := [32]byte{1}
	first := Sum(seed[:])
	for _, n := range []uint32{1, 63, 64, 65, 128, 4096} {
		c := NewChain(seed, n)
		if c.Value(n) != first {
			t.Errorf("the last of %d values is not the hash of the seed", n)
		}
		if !ChainLink(c.Value(0), first, n) {
			t.Errorf("the last of %d values does not lead to the anchor", n)
		}
	}
	long := NewChain(seed, MaxChain)
	if !ChainLink(long.Value(0), long.Value(MaxChain), MaxChain) {
		t.Error("the longest chain does not hold")
	}
	longer := first
	for range MaxChain + 1 {
		longer = Sum(longer[:])
	}
	if ChainLink(longer, first, MaxChain+1) {
		t.Error("a chain longer than the limit is followed")
	}
	if other := NewChain([32]byte{2}, 64); other.Value(0) == NewChain(seed, 64).Value(0) {
		t.Error("two seeds have one anchor")
	}
}

func TestSeal(t *testing.T) {
	t.Parallel()
	public, private := EncryptionKey(testKey(4))
	otherPublic, otherPrivate := EncryptionKey(testKey(5))
	if public == otherPublic || private == otherPrivate || bytes.Equal(private[:], testKey(4).Seed()) {
		t.Fatal("keys are not the node's own")
	}
	rapid.Check(t, func(t *rapid.T) {
		want := genSealedOpening().Draw(t, "opening")
		b := want.Seal(public, bytes.NewReader(genBytes(32).Draw(t, "randomness")))
		got, err := Unseal(b, public, private)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got, sameRecord()); diff != "" {
			t.Errorf("unsealing differs (-want +got):\n%s", diff)
		}
		if _, err := Unseal(b, otherPublic, otherPrivate); !errors.Is(err, ErrSealed) {
			t.Errorf("opened by another custodian: %v", err)
		}
		i := rapid.IntRange(0, len(b)-1).Draw(t, "byte")
		b[i] ^= 1 << rapid.IntRange(0, 7).Draw(t, "bit")
		if _, err := Unseal(b, public, private); !errors.Is(err, ErrSealed) {
			t.Errorf("opened with byte %d changed: %v", i, err)
		}
	})
}

func TestUnsealGarbage(t *testing.T) {
	t.Parallel()
	public, private := EncryptionKey(testKey(4))
	opening := Encode(sampleOpening())
	for name, b := range map[string][]byte{
		"nothing":          nil,
		"short":            make([]byte, 47),
		"zeros":            make([]byte, 100),
		"plain":            opening,
		"cut":              sealRaw(t, opening, public)[:100],
		"longer":           append(sealRaw(t, opening, public), 0),
		"empty box":        sealRaw(t, nil, public),
		"null":             sealRaw(t, []byte{codeNull}, public),
		"trailing byte":    sealRaw(t, append(bytes.Clone(opening), 0), public),
		"another record":   sealRaw(t, Encode(sampleOutcome()), public),
		"long encryption":  sealRaw(t, Encode(SealedOpening{Results: []Result{{Encryption: string(make([]byte, MaxWordLen+1))}}}), public),
		"oversize opening": sealRaw(t, make([]byte, MaxSealed+1), public),
	} {
		if got, err := Unseal(b, public, private); !errors.Is(err, ErrSealed) {
			t.Errorf("%s: got %v, error %v, want %v", name, got, err, ErrSealed)
		}
	}
}

// TestCommitHashBinds changes each part of what a commit hash is of.
func TestCommitHashBinds(t *testing.T) {
	t.Parallel()
	base := Copy{Network: "talka", Job: JobID(testDigest("job")), Volunteer: testNode(3), Unit: 7}
	digest, nonce := testDigest("result"), [16]byte{1}
	seen := map[Digest]string{base.CommitHash(digest, nonce): "nothing"}
	other := func(change func(*Copy)) Digest { return set(base, change).CommitHash(digest, nonce) }
	for name, h := range map[string]Digest{
		"network":   other(func(c *Copy) { c.Network = "other" }),
		"job":       other(func(c *Copy) { c.Job[0] ^= 1 }),
		"volunteer": other(func(c *Copy) { c.Volunteer = testNode(4) }),
		"unit":      other(func(c *Copy) { c.Unit = 8 }),
		"digest":    base.CommitHash(testDigest("another"), nonce),
		"nonce":     base.CommitHash(digest, [16]byte{2}),
	} {
		if was, ok := seen[h]; ok {
			t.Errorf("changing %s is like changing %s", name, was)
		}
		seen[h] = name
	}
}

func TestNonces(t *testing.T) {
	t.Parallel()
	o := sampleOpening()
	was := o.Seed
	seen := map[[16]byte]uint32{}
	for unit := range uint32(1000) {
		n := o.Nonce(unit)
		if u, ok := seen[n]; ok {
			t.Errorf("units %d and %d share a nonce", u, unit)
		}
		seen[n] = unit
	}
	if o.Seed != was {
		t.Error("taking a nonce changed the seed")
	}
	o.Seed[31] ^= 1
	if _, ok := seen[o.Nonce(0)]; ok {
		t.Error("two seeds share a nonce")
	}
}

func TestResultCid(t *testing.T) {
	t.Parallel()
	d, stored := testDigest("result"), rawLink("stored")
	if got := (Result{Digest: d}).Cid(); !got.Cid.Equals(RecordCid(d)) {
		t.Errorf("a plain result is stored as %s", got.Cid)
	}
	if got := (Result{Digest: d, Storage: &stored}).Cid(); !got.Cid.Equals(stored.Cid) {
		t.Errorf("a stored result is stored as %s", got.Cid)
	}
}
