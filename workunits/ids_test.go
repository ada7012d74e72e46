package workunits

import (
	"bytes"
	"encoding"
	"encoding/hex"
	"encoding/json"
	"errors"
	"os"
	"reflect"
	"strings"
	"testing"

	"github.com/ipfs/go-cid"
	"github.com/mr-tron/base58"
	"github.com/multiformats/go-multibase"
	mh "github.com/multiformats/go-multihash"
	"pgregory.net/rapid"
)

// TestPeerIDs reads testdata/peer-ids.txt, which go-libp2p wrote: on each line
// an Ed25519 seed (or "-"), its public key and the text form of its peer id.
func TestPeerIDs(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("testdata/peer-ids.txt")
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSpace(string(text)), "\n")
	if len(lines) < 5 {
		t.Fatalf("only %d lines", len(lines))
	}
	for _, line := range lines {
		seed, public, want := cut3(t, line)
		id := NodeID(unhex(t, public))
		if got := id.String(); got != want {
			t.Errorf("id of %s is %s, libp2p has %s", public, got, want)
		}
		if got, err := ParseNodeID(want); err != nil || got != id {
			t.Errorf("parse %s: got %x, %v, want %s", want, got, err, public)
		}
		if seed != "-" && NodeIDOf(testKey(unhex(t, seed)[0])) != id {
			t.Errorf("the public key of seed %s is not %s", seed, public)
		}
		if !strings.HasSuffix(want, id.Short()) || len(id.Short()) != 8 {
			t.Errorf("short form %q of %s", id.Short(), want)
		}
	}
}

func cut3(t *testing.T, line string) (a, b, c string) {
	t.Helper()
	f := strings.Fields(line)
	if len(f) != 3 {
		t.Fatalf("line %q has %d fields", line, len(f))
	}
	return f[0], f[1], f[2]
}

func unhex(t *testing.T, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestMalformedNodeIDs(t *testing.T) {
	t.Parallel()
	good := testNode(1)
	ed := append(bytes.Clone(peerIDPrefix[:]), good[:]...)
	changed := func(i int, b byte) string {
		c := bytes.Clone(ed)
		c[i] = b
		return base58.Encode(c)
	}
	refuseTexts(t, func(s string) error { _, err := ParseNodeID(s); return err }, map[string]string{
		"empty":             "",
		"space":             " " + good.String(),
		"newline":           good.String() + "\n",
		"zero in front":     "1" + good.String(),
		"cut":               good.String()[:51],
		"longer":            good.String() + "1",
		"not base58":        strings.Replace(good.String(), "1", "0", 1),
		"long":              strings.Repeat("1", 1<<20),
		"SHA2-256 of RSA":   "QmYyQSo1c1Ym7orWxLYvCrM2EmxFTANf8wXmmE7DWjhx5N",
		"another key type":  changed(3, 2),
		"another hash":      changed(0, 0x12),
		"another length":    changed(1, 0x25),
		"CID of the peer":   cid.NewCidV1(cid.Libp2pKey, ed).String(),
		"multibase":         "z" + base58.Encode(ed),
		"short key":         base58.Encode(ed[:len(ed)-1]),
		"trailing byte":     base58.Encode(append(bytes.Clone(ed), 0)),
		"the key alone":     base58.Encode(good[:]),
		"upper case":        strings.ToUpper(good.String()),
		"address":           "/p2p/" + good.String(),
		"letters beyond us": "é" + good.String()[2:],
	})
}

func refuseTexts(t *testing.T, parse func(string) error, texts map[string]string) {
	t.Helper()
	for name, s := range texts {
		if err := parse(s); !errors.Is(err, ErrID) {
			t.Errorf("%s (%.80q): got error %v, want %v", name, s, err, ErrID)
		}
	}
}

func TestMalformedJobIDs(t *testing.T) {
	t.Parallel()
	good := JobID(testDigest("job"))
	in := func(base multibase.Encoding) string {
		s, err := good.Cid().StringOfBase(base)
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	other := func(codec, hash uint64, b []byte) string {
		m, err := mh.Encode(b, hash)
		if err != nil {
			t.Fatal(err)
		}
		return cid.NewCidV1(codec, m).String()
	}
	d := testDigest("job")
	refuseTexts(t, func(s string) error { _, err := ParseJobID(s); return err }, map[string]string{
		"empty":          "",
		"cut":            good.String()[:50],
		"longer":         good.String() + "a",
		"space":          " " + good.String(),
		"path":           "/ipfs/" + good.String(),
		"raw leaf":       RawCid(d).String(),
		"SHA2-256":       other(cid.DagCBOR, mh.SHA2_256, d[:]),
		"identity":       other(cid.DagCBOR, mh.IDENTITY, d[:]),
		"short digest":   other(cid.DagCBOR, mh.BLAKE3, d[:20]),
		"long digest":    other(cid.DagCBOR, mh.BLAKE3, append(d[:], d[:]...)),
		"version 0":      "QmYyQSo1c1Ym7orWxLYvCrM2EmxFTANf8wXmmE7DWjhx5N",
		"node":           testNode(1).String(),
		"no multibase":   good.String()[1:],
		"long":           strings.Repeat("b", 1<<20),
		"upper case":     in(multibase.Base32Upper),
		"base58":         in(multibase.Base58BTC),
		"base64":         in(multibase.Base64),
		"hexadecimal":    in(multibase.Base16),
		"padded":         in(multibase.Base32pad),
		"other low bits": good.String()[:len(good.String())-1] + nextLetter(good.String()),
	})
}

// nextLetter follows the last letter of a base32 text in the alphabet, which
// changes only bits that the text has beyond its last byte.
func nextLetter(s string) string { return string(s[len(s)-1] + 1) }

func TestMalformedProjectIDs(t *testing.T) {
	t.Parallel()
	node := testNode(1).String()
	refuseTexts(t, func(s string) error { _, err := ParseProjectID(s); return err }, map[string]string{
		"empty": "", "no key": "stars", "no key behind @": "stars@", "no name": "@" + node, "two names": "a@b@" + node,
		"two keys": "stars@" + node + "@" + node, "space": "stars @" + node, "cut": "stars@" + node[:40],
		"long name": strings.Repeat("a", MaxNameLen+1) + "@" + node, "order": node + "@stars",
	})
}

func TestTextForms(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		node := NodeID(genBytes(32).Draw(t, "node"))
		job := JobID(genDigest().Draw(t, "job"))
		project := ProjectID{NodeID(genBytes(32).Draw(t, "publisher")), genName().Draw(t, "name")}
		if got, err := ParseNodeID(node.String()); err != nil || got != node {
			t.Errorf("node %s becomes %s, %v", node, got, err)
		}
		if got, err := ParseJobID(job.String()); err != nil || got != job {
			t.Errorf("job %s becomes %s, %v", job, got, err)
		}
		if got, err := ParseProjectID(project.String()); err != nil || got != project {
			t.Errorf("project %s becomes %s, %v", project, got, err)
		}
		if d, ok := RecordDigest(job.Cid()); !ok || JobID(d) != job {
			t.Errorf("digest of %s is %s, %t", job, d, ok)
		}
		if _, ok := RecordDigest(RawCid(Digest(job))); ok {
			t.Error("a raw leaf passes for a record")
		}
		type ids struct {
			Node    NodeID
			Job     JobID
			Project ProjectID
		}
		b, err := json.Marshal(ids{node, job, project})
		if err != nil {
			t.Fatal(err)
		}
		var got ids
		if err := json.Unmarshal(b, &got); err != nil || got != (ids{node, job, project}) {
			t.Errorf("%s becomes %v, %v", b, got, err)
		}
		other := NodeID(genBytes(32).Draw(t, "other"))
		if c := bytes.Compare(node[:], other[:]); node.Compare(other) != c || other.Compare(node) != -c {
			t.Errorf("%x compares to %x as %d", node, other, node.Compare(other))
		}
	})
}

// TestKnownText pins the text forms of a digest and of its ids.
func TestKnownText(t *testing.T) {
	t.Parallel()
	empty := Sum(nil) // the BLAKE3 test vectors begin with it
	for name, c := range map[string][2]string{
		"hex":    {hexOf(empty), "af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262"},
		"digest": {empty.String(), "v4jutopv7gq2nicajxvdnxgjjgn4wjojvxarfn6mtkj4vza7gjra"},
		"job":    {JobID(empty).String(), "bafyr4ifpcne3t5pzugtkaqcn5i3nzskjtpfslsnnyejlpte2spfoihzsmi"},
		"raw":    {RawCid(empty).String(), "bafkr4ifpcne3t5pzugtkaqcn5i3nzskjtpfslsnnyejlpte2spfoihzsmi"},
	} {
		if c[0] != c[1] {
			t.Errorf("%s is %s, want %s", name, c[0], c[1])
		}
	}
}

func TestValidName(t *testing.T) {
	t.Parallel()
	for _, s := range []string{"a", "Z", "0", "talka", "a.b-c_d", "9-", strings.Repeat("x", MaxNameLen)} {
		if err := ValidName(s); err != nil {
			t.Errorf("name %q: %v", s, err)
		}
	}
	refuseTexts(t, ValidName, map[string]string{
		"empty": "", "dot": ".", "dots": "..", "dash": "-a", "underscore": "_a", "slash": "a/b", "space": "a b", "at": "a@b", "zero": "a\x00",
		"umlaut": "süd", "not UTF-8": "a\xff", "long": strings.Repeat("x", MaxNameLen+1), "backslash": `a\b`, "newline": "a\n", "colon": "a:b",
	})
}

// TestFixedSize: what is of another size than its type is refused.
func TestFixedSize(t *testing.T) {
	t.Parallel()
	for _, v := range []encoding.BinaryUnmarshaler{new(Digest), new(NodeID), new(JobID), new(Nonce)} {
		size := reflect.TypeOf(v).Elem().Len()
		for _, n := range []int{0, size - 1, size + 1} {
			if err := v.UnmarshalBinary(make([]byte, n)); err == nil {
				t.Errorf("%T takes %d bytes", v, n)
			}
		}
		if err := v.UnmarshalBinary(bytes.Repeat([]byte{7}, size)); err != nil || reflect.ValueOf(v).Elem().Index(size-1).Uint() != 7 {
			t.Errorf("%T does not take its own size: %v", v, err)
		}
	}
}
