package ledger_test

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/talka-grid/talka/workunits"
	"github.com/talka-grid/talka/workunits/ledger"
)

// exported is a job with two logs of which one forks, and its export.
func exported(t *testing.T) (*ledger.Ledger, []byte) {
	t.Helper()
	table, digest := workunits.StakeTable{Stakes: []workunits.Stake{{Node: workunits.NodeIDOf(key(1)), Millis: 7}}}.Encode()
	m := workunits.Manifest{
		Standing: &workunits.Link{Cid: workunits.RecordCid(digest)},
		Network:  network, Project: "p", Name: "j", Program: workunits.Link{Cid: workunits.RawCid(workunits.Sum(nil))},
		Units: 1, Days: 1, Active: 1, Listed: 1, Shard: 1,
		Limits: workunits.Limits{Memory: 1, Output: 1, Wall: 1, Tries: 1},
		Policy: workunits.Policy{Mode: workunits.VerifyNone, Error: 0.1, Share: 0.1, Compare: workunits.Comparator{Kind: workunits.CompareBytes}},
	}
	id, block, err := m.Sign(key(0))
	if err != nil {
		t.Fatal(err)
	}
	l := ledger.New(network, id)
	one, two := &log{key: key(1), job: id}, &log{key: key(2), job: id}
	add(t, l, one.say("a", "b"), 2, nil)
	add(t, l, two.say("c"), 1, nil)
	add(t, l, two.say("d"), 1, nil)
	other := &log{key: key(1), job: id}
	other.say("a", "b")
	add(t, l, one.say("x"), 1, nil)
	add(t, l, other.say("y"), 0, ledger.ErrForked)
	var b bytes.Buffer
	if err := ledger.WriteExport(&b, workunits.Export{Manifest: block, Standing: table, Segments: l.Segments()}); err != nil {
		t.Fatal(err)
	}
	return l, b.Bytes()
}

func TestExport(t *testing.T) {
	t.Parallel()
	want, file := exported(t)
	x, err := ledger.ReadExport(bytes.NewReader(file))
	if err != nil {
		t.Fatal(err)
	}
	if x.Manifest.Name != "j" || len(x.Standing.Stakes) != 1 || !slices.Equal(x.Ledger.Heads(), want.Heads()) {
		t.Errorf("job %q with %d stakes and heads %v, want %v", x.Manifest.Name, len(x.Standing.Stakes), x.Ledger.Heads(), want.Heads())
	}
	if diff := cmp.Diff(reasons(want), reasons(x.Ledger)); diff != "" {
		t.Errorf("statements (-want +got):\n%s", diff)
	}
}

// Whatever byte of an export is changed, and wherever it is cut but between two
// segments, it is refused.
// What follows the end of an export is left to who reads on.
func TestExportWithMore(t *testing.T) {
	t.Parallel()
	want, file := exported(t)
	b := bytes.NewBuffer(file)
	if err := ledger.WriteEnd(b); err != nil {
		t.Fatal(err)
	}
	b.WriteString("more")
	in := bufio.NewReader(b)
	x, err := ledger.ReadExport(in)
	if err != nil || !slices.Equal(x.Ledger.Heads(), want.Heads()) {
		t.Fatalf("heads %v, %v, want %v", x.Ledger.Heads(), err, want.Heads())
	}
	if more, err := io.ReadAll(in); err != nil || string(more) != "more" {
		t.Errorf("%q follows, %v", more, err)
	}
	if id, _, err := workunits.ParseManifest(x.Block); err != nil || id != x.Job {
		t.Errorf("manifest of %s, %v, want %s", id, err, x.Job)
	}
}

func TestDamagedExport(t *testing.T) {
	t.Parallel()
	want, file := exported(t)
	for i := range file {
		bad := slices.Clone(file)
		bad[i] ^= 0x41
		if x, err := ledger.ReadExport(bytes.NewReader(bad)); err == nil {
			t.Fatalf("byte %d is changed, and nobody minds: %v", i, reasons(x.Ledger))
		}
		if x, err := ledger.ReadExport(bytes.NewReader(file[:i])); err == nil && len(reasons(x.Ledger)) >= len(reasons(want)) && len(x.Ledger.Forks()) == len(want.Forks()) {
			t.Fatalf("cut at byte %d, it is whole", i)
		}
	}
	if _, err := ledger.ReadExport(bytes.NewReader([]byte("PK\x03\x04 something else"))); !errors.Is(err, ledger.ErrExport) {
		t.Errorf("another file: %v", err)
	}
}
