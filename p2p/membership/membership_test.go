package membership

import (
	"bytes"
	"crypto/ed25519"
	"encoding/hex"
	"encoding/json"
	"errors"
	"flag"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/talka-grid/talka/workunits"
)

var update = flag.Bool("update", false, "write the test vectors anew")

func keyOf(seed string) ed25519.PrivateKey {
	d := workunits.Sum([]byte(seed))
	return ed25519.NewKeyFromSeed(d[:])
}

func idOf(seed string) workunits.NodeID { return workunits.NodeIDOf(keyOf(seed)) }

// then is when the samples were made.
var then = time.UnixMilli(1_900_000_000_000)

const valid = 30 * 24 * time.Hour

// founded is the state of alice, who issues in network lab.
func founded(t testing.TB) State {
	t.Helper()
	s, err := New("lab", keyOf("lab"), idOf("alice"), then, valid)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func (s *State) must(t testing.TB, c Certificate) Certificate {
	t.Helper()
	c.By = idOf("alice")
	c, err := s.Issue(keyOf("lab"), c, workunits.NodeID{}, then, valid)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// TestVectors holds the encodings against reviewed samples: memberships live longer
// than releases.
func TestVectors(t *testing.T) {
	t.Parallel()
	s := founded(t)
	bob := s.must(t, Certificate{Subject: idOf("bob")})
	card := s.must(t, Certificate{Subject: idOf("card"), Invite: true})
	guest := card.For(keyOf("card"), idOf("carol"))
	if err := s.Remove(keyOf("lab"), idOf("mallory"), then.Add(time.Hour)); err != nil {
		t.Fatal(err)
	}
	pass := Pass{Key: s.Key, Cert: card, Secret: keyOf("card").Seed()}
	got := map[string]string{
		"state":             hex.EncodeToString(s.Encode()),
		"proof":             hex.EncodeToString(workunits.Encode(bob.For(nil, idOf("bob")))),
		"proof by invite":   hex.EncodeToString(workunits.Encode(guest)),
		"removals":          hex.EncodeToString(workunits.Encode(s.Removals)),
		"pass":              hex.EncodeToString(workunits.Encode(pass)),
		"hello, nonce of 7": hex.EncodeToString(Hello{1, guest, 3}.Seal(s.Key, [NonceSize]byte(bytes.Repeat([]byte{7}, NonceSize)))),
		"name of the key":   s.Key.String(),
	}
	path := filepath.Join("testdata", "vectors.json")
	if *update {
		b, err := json.MarshalIndent(got, "", "  ")
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, append(b, '\n'), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var want map[string]string
	if err := json.Unmarshal(b, &want); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	again, err := ParseState(s.Encode())
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(s.Encode(), again.Encode()); diff != "" {
		t.Error(diff)
	}
}

func TestCheck(t *testing.T) {
	t.Parallel()
	s := founded(t)
	bob, carol := idOf("bob"), idOf("carol")
	cert := s.must(t, Certificate{Subject: bob})
	own := cert.For(nil, bob)
	card := s.must(t, Certificate{Subject: idOf("card"), Invite: true})
	guest := card.For(keyOf("card"), carol)
	for _, c := range []struct {
		name   string
		change func(p *Proof)
		base   Proof
		node   workunits.NodeID
		after  time.Duration
		want   error
	}{
		{name: "own", base: own, node: bob},
		{name: "to the last moment", base: own, node: bob, after: valid - time.Millisecond},
		{name: "a moment later", base: own, node: bob, after: valid, want: ErrExpired},
		{name: "by invite", base: guest, node: carol},
		{name: "bob speaks for carol", base: cert.For(keyOf("bob"), carol), node: carol},
		{name: "another's", base: own, node: carol, want: ErrNoMember},
		{name: "another's invite", base: guest, node: bob, want: ErrNoMember},
		{name: "a word too many", base: own, node: bob, change: func(p *Proof) { p.Word = guest.Word }, want: ErrNoMember},
		{name: "a node by the name of an invite", base: card.For(nil, idOf("card")), node: idOf("card"), want: ErrNoMember},
		{name: "an invite without a word", base: guest, node: carol, change: func(p *Proof) { p.Word = nil }, want: ErrNoMember},
		{name: "spoken for by another", base: card.For(keyOf("mallory"), carol), node: carol, want: ErrNoMember},
		{name: "longer", base: own, node: bob, change: func(p *Proof) { p.Cert.Until++ }, want: ErrNoMember},
		{name: "younger", base: own, node: bob, change: func(p *Proof) { p.Cert.Issued++ }, want: ErrNoMember},
		{name: "another network", base: own, node: bob, change: func(p *Proof) { p.Cert.Network = "lab2" }, want: ErrNoMember},
		{name: "another issuer", base: own, node: bob, change: func(p *Proof) { p.Cert.By = bob }, want: ErrNoMember},
		{name: "no signature", base: own, node: bob, change: func(p *Proof) { p.Cert.Sig = nil }, want: ErrNoMember},
		{name: "signed by a member", base: own, node: bob, change: func(p *Proof) { p.Cert, _ = Issue(keyOf("bob"), p.Cert) }, want: ErrNoMember},
	} {
		p := c.base
		p.Cert.Sig, p.Word = slices.Clone(p.Cert.Sig), slices.Clone(p.Word)
		if c.change != nil {
			c.change(&p)
		}
		if err := s.Check(p, c.node, then.Add(c.after)); !errors.Is(err, c.want) || c.want == nil && err != nil {
			t.Errorf("%s: %v, want %v", c.name, err, c.want)
		}
	}
}

func TestIssueRefuses(t *testing.T) {
	t.Parallel()
	s := founded(t)
	for name, f := range map[string]func() error{
		"another key": func() error {
			_, err := s.Issue(keyOf("x"), Certificate{Subject: idOf("bob"), By: idOf("alice")}, workunits.NodeID{}, then, valid)
			return err
		},
		"nobody": func() error {
			_, err := s.Issue(keyOf("lab"), Certificate{By: idOf("alice")}, workunits.NodeID{}, then, valid)
			return err
		},
		"no time": func() error {
			_, err := s.Issue(keyOf("lab"), Certificate{Subject: idOf("bob"), By: idOf("alice")}, workunits.NodeID{}, then, 0)
			return err
		},
		"too long": func() error {
			_, err := s.Issue(keyOf("lab"), Certificate{Subject: idOf("bob"), By: idOf("alice")}, workunits.NodeID{}, then, MaxValid+time.Millisecond)
			return err
		},
		"bad name": func() error { _, err := New("a/b", keyOf("lab"), idOf("alice"), then, valid); return err },
	} {
		if err := f(); err == nil {
			t.Errorf("%s: issued", name)
		}
	}
	if len(s.Issued) != 1 {
		t.Errorf("%d certificates are remembered, want the first one", len(s.Issued))
	}
}

func TestRenew(t *testing.T) {
	t.Parallel()
	s := founded(t)
	bob := idOf("bob")
	own := s.must(t, Certificate{Subject: bob}).For(nil, bob)
	card := s.must(t, Certificate{Subject: idOf("card"), Invite: true})
	renew := func(p Proof, after time.Duration) bool {
		t.Helper()
		c, yes, err := s.Renew(keyOf("lab"), idOf("alice"), p, then.Add(after), valid)
		if err != nil {
			t.Fatal(err)
		}
		if yes && s.Check(c.For(nil, p.Node), p.Node, then.Add(after)) != nil {
			t.Errorf("the renewed certificate %+v is no good", c)
		}
		return yes
	}
	if renew(own, valid/2-time.Millisecond) {
		t.Error("renewed before half of its time")
	}
	if !renew(own, valid/2) {
		t.Error("not renewed after half of its time")
	}
	if renew(own, valid) {
		t.Error("renewed after its end")
	}
	if renew(own.Cert.For(keyOf("bob"), idOf("carol")), valid/2) {
		t.Error("renewed for whom a member speaks")
	}
	if !renew(card.For(keyOf("card"), idOf("carol")), 0) {
		t.Error("an invite gives no certificate")
	}
	if i := slices.IndexFunc(s.Issued, func(i Issued) bool { return i.Subject == idOf("carol") }); i < 0 || s.Issued[i].Via != idOf("card") {
		t.Errorf("issued %+v, want carol by the card", s.Issued)
	}
	theirs := s
	theirs.Own = own
	c, _, _ := s.Renew(keyOf("lab"), idOf("alice"), own, then.Add(valid/2), valid)
	if yes, err := theirs.Renewed(c, then.Add(valid/2)); !yes || err != nil {
		t.Errorf("a new certificate is not taken: %v", err)
	}
	if yes, err := theirs.Renewed(own.Cert, then.Add(valid/2)); yes || err != nil {
		t.Errorf("an old certificate is taken, %v", err)
	}
	if _, err := theirs.Renewed(card, then); err == nil {
		t.Error("another's certificate is taken")
	}
}

func TestRemove(t *testing.T) {
	t.Parallel()
	s := founded(t)
	bob, carol := idOf("bob"), idOf("carol")
	cert := s.must(t, Certificate{Subject: bob})
	own, friend := cert.For(nil, bob), cert.For(keyOf("bob"), carol)
	card := s.must(t, Certificate{Subject: idOf("card"), Invite: true})
	guest := card.For(keyOf("card"), carol)
	member := s // of the same network, who does not know yet
	if err := s.Remove(keyOf("lab"), bob, then); err != nil {
		t.Fatal(err)
	}
	for name, p := range map[string]Proof{"who was removed": own, "for whom it speaks": friend, "an invite that was out": guest} {
		if err := s.Stands(p, then); !errors.Is(err, ErrRemoved) {
			t.Errorf("%s: %v, want %v", name, err, ErrRemoved)
		}
		if err := member.Stands(p, then); err != nil {
			t.Errorf("%s: %v where it is not known", name, err)
		}
	}
	if len(s.Issued) != 1 || len(member.Issued) != 3 {
		t.Errorf("%d and %d certificates are remembered, want 1 and 3", len(s.Issued), len(member.Issued))
	}
	again := s.must(t, Certificate{Subject: bob}).For(nil, bob)
	if err := s.Check(again, bob, then.Add(time.Second)); err != nil {
		t.Errorf("who was let in again: %v", err)
	}
	if yes, err := member.Take(s.Removals); !yes || err != nil {
		t.Errorf("the list is not taken: %v", err)
	}
	if yes, err := member.Take(Removals{}); yes || err != nil {
		t.Errorf("the empty list: %t, %v", yes, err)
	}
	forged := s.Removals
	forged.Number++
	if _, err := member.Take(forged); err == nil {
		t.Error("a forged list is taken")
	}
	if err := s.Remove(keyOf("x"), carol, then); err == nil {
		t.Error("removed with another key")
	}
	// What all certificates of the time have outlived is forgotten.
	if err := s.Remove(keyOf("lab"), carol, then.Add(MaxValid+time.Hour)); err != nil || len(s.Removals.Nodes) != 1 {
		t.Errorf("%d removals, %v; want one", len(s.Removals.Nodes), err)
	}
	for i := range MaxRemoved {
		if err := s.Remove(keyOf("lab"), idOf(string(rune('0'+i))), then.Add(MaxValid+time.Hour)); err != nil && i < MaxRemoved-1 {
			t.Fatal(i, err)
		}
	}
	if n := len(s.Removals.Nodes); n != MaxRemoved || len(workunits.Encode(s.Removals)) > MaxRemovals {
		t.Errorf("%d removals in %d bytes, want at most %d in %d", n, len(workunits.Encode(s.Removals)), MaxRemoved, MaxRemovals)
	}
}

func TestPass(t *testing.T) {
	t.Parallel()
	s := founded(t)
	card := s.must(t, Certificate{Subject: idOf("card"), Invite: true})
	named := s.must(t, Certificate{Subject: idOf("bob")})
	bearer, toBob := Pass{s.Key, card, keyOf("card").Seed()}, Pass{Key: s.Key, Cert: named}
	for _, c := range []struct {
		name string
		pass Pass
		node string
		ok   bool
	}{
		{"whoever has it", bearer, "anyone", true},
		{"who is named", toBob, "bob", true},
		{"who is not named", toBob, "carol", false},
		{"without the key", Pass{Key: s.Key, Cert: card}, "bob", false},
		{"another key", Pass{s.Key, card, keyOf("x").Seed()}, "bob", false},
		{"a key too many", Pass{s.Key, named, keyOf("bob").Seed()}, "bob", false},
		{"another network", Pass{KeyOf(keyOf("x")), card, keyOf("card").Seed()}, "bob", false},
	} {
		got, err := c.pass.Admit(idOf(c.node), then)
		if (err == nil) != c.ok {
			t.Errorf("%s: %v", c.name, err)
		}
		if err != nil {
			continue
		}
		if err := s.Check(got.Own, idOf(c.node), then); err != nil {
			t.Errorf("%s: others do not take it: %v", c.name, err)
		}
		if _, err := ParseState(got.Encode()); err != nil {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}

// Nothing of a hello can be read, or told from noise, without the network's key.
func TestSeal(t *testing.T) {
	t.Parallel()
	s := founded(t)
	h := Hello{Version: 1, Proof: s.Own, Removals: 9}
	sealed := h.Seal(s.Key, [NonceSize]byte{1})
	got, err := OpenHello(s.Key, sealed)
	if err != nil || !cmp.Equal(workunits.Encode(got), workunits.Encode(h)) {
		t.Fatalf("%+v, %v", got, err)
	}
	if _, err := OpenHello(KeyOf(keyOf("x")), sealed); err == nil {
		t.Error("opened with another key")
	}
	id := idOf("alice")
	if bytes.Contains(sealed, []byte("lab")) || bytes.Contains(sealed, id[:]) {
		t.Error("the sealed hello gives away who says it")
	}
	if _, err := OpenHello(s.Key, (Hello{Version: 2, Proof: s.Own}).Seal(s.Key, [NonceSize]byte{1})); err == nil {
		t.Error("another version is taken")
	}
	sealed[len(sealed)-1] ^= 1
	if _, err := OpenHello(s.Key, sealed); err == nil {
		t.Error("a changed hello is taken")
	}
	if largest := len(Hello{1, Proof{Certificate{string(make([]byte, workunits.MaxNameLen)), id, true, id, 1 << 62, 1 << 62, make([]byte, 64)}, id, make([]byte, 64)}, 1 << 62}.Seal(s.Key, [NonceSize]byte{})); largest > MaxHello {
		t.Errorf("a hello may have %d bytes, more than %d", largest, MaxHello)
	}
}

func FuzzParseState(f *testing.F) {
	s := founded(f)
	f.Add(s.Encode())
	if err := s.Remove(keyOf("lab"), idOf("bob"), then); err != nil {
		f.Fatal(err)
	}
	f.Add(s.Encode())
	f.Fuzz(func(t *testing.T, b []byte) {
		got, err := ParseState(b)
		if err == nil && !bytes.Equal(got.Encode(), b) {
			t.Errorf("%x was read as %x", b, got.Encode())
		}
	})
}

// FuzzHello opens what anybody may send, and what somebody who knows the key seals.
func FuzzHello(f *testing.F) {
	s := founded(f)
	f.Add(Hello{1, s.Own, 0}.Seal(s.Key, [NonceSize]byte{}), workunits.Encode(Hello{1, s.Own, 0}))
	f.Fuzz(func(t *testing.T, sealed, plain []byte) {
		_, _ = OpenHello(s.Key, sealed)
		h, err := workunits.Decode[Hello](plain, MaxHello)
		if err != nil {
			return
		}
		if err := s.Check(h.Proof, h.Proof.Node, then); err == nil && h.Proof.Cert.Subject != idOf("alice") {
			t.Errorf("%+v is taken for a member", h.Proof)
		}
	})
}
