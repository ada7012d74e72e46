package workunits

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestContribution makes one as a node does, and every forgery of it that comes to
// mind: what a publisher did not sign is never vouched for.
func TestContribution(t *testing.T) {
	t.Parallel()
	node, publisher, liar := testKey(1), testKey(2), testKey(3)
	evidence := func(change func(m *Manifest, table *StakeTable)) Evidence {
		m, table := sampleManifest(), stakes(Stake{Node: NodeIDOf(node), Millis: 3_600_000, Strikes: 1})
		change(&m, &table)
		raw, digest := table.Encode()
		m.Standing = &Link{Cid: RecordCid(digest)}
		_, block, err := m.Sign(publisher)
		if err != nil {
			t.Fatal(err)
		}
		return Evidence{block, raw}
	}
	same := func(*Manifest, *StakeTable) {}
	good := evidence(same)
	c := Contribution{Network: sampleManifest().Network, Made: 1000, Accepted: 7, Copies: 9, Millis: 4_000_000, Evidence: []Evidence{good}}
	got, vouched, err := ParseContribution(c.Sign(node))
	if err != nil || got.Accepted != 7 || got.Node != NodeIDOf(node) {
		t.Fatalf("%+v, %v", got, err)
	}
	id, m, err := ParseManifest(good.Manifest)
	if err != nil {
		t.Fatal(err)
	}
	want := []Vouched{{Project: ProjectID{NodeIDOf(publisher), m.Project}, Millis: 3_600_000, Strikes: 1, Job: id, Created: m.Created}}
	if diff := cmp.Diff(want, vouched); diff != "" {
		t.Error(diff)
	}

	with := func(e ...Evidence) []byte { c := c; c.Evidence = e; return c.Sign(node) }
	richer, _ := stakes(Stake{Node: NodeIDOf(node), Millis: 1 << 40}).Encode()
	forged := c
	forged.Node, forged.Sig = NodeIDOf(node), sign(liar, domainContribution, c.unsigned())
	changed := got
	changed.Millis++
	stranger := sign(liar, domainManifest, []byte("x"))
	for name, x := range map[string]struct {
		raw  []byte
		want string
	}{
		"of another":        {c.Sign(liar), "without this node"},
		"signed by another": {Encode(forged), ErrSignature.Error()},
		"changed":           {Encode(changed), ErrSignature.Error()},
		"a richer table":    {with(Evidence{good.Manifest, richer}), "not the one that the manifest names"},
		"no table":          {with(Evidence{good.Manifest, nil}), "not the one"},
		"twice":             {with(good, good), "a second one"},
		"another network":   {with(evidence(func(m *Manifest, _ *StakeTable) { m.Network = "other" })), "another network"},
		"unsigned manifest": {with(Evidence{Encode(SignedManifest{Encode(m), stranger}), good.Table}), ErrSignature.Error()},
		"an empty table":    {with(evidence(func(_ *Manifest, t *StakeTable) { t.Stakes = nil })), "without this node"},
		"too many":          {with(make([]Evidence, maxVouchers+1)...), ErrTooLarge.Error()},
		"boasting":          {Contribution{Network: "n", Millis: 1 << 60}.Sign(node), "nobody reaches"},
		"cut off":           {c.Sign(node)[:100], ""},
		"with a tail":       {append(c.Sign(node), 0), ""},
		"nothing":           {nil, ""},
	} {
		if _, v, err := ParseContribution(x.raw); err == nil || !strings.Contains(err.Error(), x.want) || v != nil {
			t.Errorf("%s: %v, %v; want an error with %q", name, v, err, x.want)
		}
	}
	if _, _, err := ParseContribution(make([]byte, MaxContribution+1)); !errors.Is(err, ErrTooLarge) {
		t.Errorf("too large: %v", err)
	}
}

func FuzzContribution(f *testing.F) {
	f.Add(Contribution{Network: "n", Made: 1}.Sign(testKey(1)))
	f.Fuzz(func(t *testing.T, raw []byte) {
		c, _, err := ParseContribution(raw)
		if err == nil && string(Encode(c)) != string(raw) {
			t.Errorf("%x is not canonical", raw)
		}
	})
}
