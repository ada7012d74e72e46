package workunits

import (
	"bytes"
	"encoding/hex"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/fxamacker/cbor/v2"
	"github.com/google/go-cmp/cmp"
	"github.com/ipld/go-ipld-prime/codec/dagcbor"
	"github.com/ipld/go-ipld-prime/node/basicnode"
)

var update = flag.Bool("update", false, "write the test vectors in testdata anew")

// vector is one file of testdata/vectors: what a value is, what follows from
// it, its CBOR diagnostic notation (RFC 8949, section 8) and its bytes in hex.
type vector struct {
	name   string
	about  string
	facts  [][2]string // name, value
	value  any
	bytes  []byte
	decode func([]byte) (any, error)
}

func anyOf[T any](f func([]byte) (T, error)) func([]byte) (any, error) {
	return func(b []byte) (any, error) { return f(b) }
}

func recordVectors() []vector {
	manifest := sampleManifest()
	job, block, err := manifest.Sign(testKey(1))
	if err != nil {
		panic(err)
	}
	outcome := sampleOutcome()
	outcomeBytes, outcomeDigest := outcome.Encode()
	segment := sampleSegment()
	announced := sampleAnnouncement()
	announcedBytes := announced.Sign(testKey(2))
	announced, _ = ParseAnnouncement(announcedBytes)
	var hashes [][2]string
	for i, h := range segment.Hashes() {
		hashes = append(hashes, [2]string{fmt.Sprintf("chain hash of statement %d", int(segment.Seq)+i), hex.EncodeToString(h[:])})
	}
	table := StakeTable{Stakes: []Stake{{Node: testNode(2), Millis: 1000}, {Node: testNode(1), Millis: 5, Strikes: 1}}}
	inputs := StageInputs{Results: []Digest{outcomeDigest, testDigest("result 7")}}
	inputsBytes, inputsDigest := inputs.Encode()
	return append(statementVectors(),
		vector{
			name: "stage-inputs", about: "what a second stage over two units works on; its grants name the digest",
			facts: [][2]string{{"digest", hexOf(inputsDigest)}}, value: inputs, bytes: inputsBytes,
			decode: anyOf(func(b []byte) (StageInputs, error) { return ParseStageInputs(b, 2) }),
		},
		vector{
			name: "manifest", about: "a job's manifest, the record inside of a job's block", value: manifest, bytes: Encode(manifest),
			facts:  [][2]string{{"inputs digest", hexOf(manifest.InputsDigest())}},
			decode: anyOf(func(b []byte) (Manifest, error) { return Decode[Manifest](b, MaxManifest) }),
		},
		vector{
			name: "job", about: "a job's block: the manifest's bytes and the publisher's signature over their digest",
			facts: [][2]string{{"job id", job.String()}, {"digest", hexOf(Digest(job))}}, value: manifest, bytes: block,
			decode: func(b []byte) (any, error) { _, m, err := ParseManifest(b); return m, err },
		},
		vector{
			name: "outcome", about: "the outcome of a copy", facts: [][2]string{{"digest", hexOf(outcomeDigest)}},
			value: outcome, bytes: outcomeBytes, decode: anyOf(ParseOutcome),
		},
		vector{
			name: "segment", about: "a signed segment of three statements, the second of a kind that law version 1 does not know",
			facts: hashes, value: segment, bytes: segment.Encode(), decode: anyOf(ParseSegment),
		},
		vector{
			name: "announcement", about: "a signed announcement", value: announced, bytes: announcedBytes, decode: anyOf(ParseAnnouncement),
		},
		vector{
			name: "stake-table", about: "a table of stakes", value: table, bytes: Encode(table),
			facts:  [][2]string{{"digest", hexOf(Sum(Encode(table)))}},
			decode: anyOf(func(b []byte) (StakeTable, error) { return Decode[StakeTable](b, MaxBody) }),
		},
		sealedVector(),
	)
}

func statementVectors() (vectors []vector) {
	for _, b := range sampleBodies() {
		s := State(b)
		vectors = append(vectors, vector{
			name:  fmt.Sprintf("statement-%02d-%s", s.Kind, strings.ReplaceAll(s.Kind.String(), " ", "-")),
			about: fmt.Sprintf("the body of a statement of kind %d (%s)", s.Kind, s.Kind),
			value: b, bytes: s.Body,
			decode: func(body []byte) (any, error) { return Statement{Kind: s.Kind, Body: body}.Decode() },
		})
	}
	return vectors
}

func sealedVector() vector {
	public, private := EncryptionKey(testKey(4))
	o := sampleOpening()
	c := Copy{Network: "talka", Job: JobID(testDigest("job")), Volunteer: testNode(3), Unit: 7}
	box := o.Seal(public, bytes.NewReader(bytes.Repeat([]byte{6}, 32)))
	return vector{
		name: "sealed-opening", about: "what a volunteer seals to a custodian: the plain record, and its box under a fixed ephemeral key",
		facts: [][2]string{
			{"custodian's identity seed", strings.Repeat("04", 32)},
			{"custodian's X25519 public key", hex.EncodeToString(public[:])},
			{"custodian's X25519 private key", hex.EncodeToString(private[:])},
			{"ephemeral private key", strings.Repeat("06", 32)},
			{"box", hex.EncodeToString(box)},
			{"nonce of unit 7", fmt.Sprintf("%x", o.Nonce(7))},
			{"commit hash of unit 7 by " + c.Volunteer.String(), hexOf(c.CommitHash(o.Results[0].Digest, o.Nonce(7)))},
		},
		value: o, bytes: Encode(o),
		decode: anyOf(func(b []byte) (SealedOpening, error) { return Decode[SealedOpening](b, MaxSealed) }),
	}
}

func hexOf(d Digest) string { return hex.EncodeToString(d[:]) }

func TestVectors(t *testing.T) {
	t.Parallel()
	seen := map[string]bool{}
	for _, v := range recordVectors() {
		seen[v.name+".txt"] = true
		t.Run(v.name, func(t *testing.T) {
			t.Parallel()
			checkVector(t, v)
		})
	}
	files, err := filepath.Glob("testdata/vectors/*.txt")
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		if !seen[filepath.Base(f)] {
			t.Errorf("%s belongs to no vector", f)
		}
	}
}

func checkVector(t *testing.T, v vector) {
	file := filepath.Join("testdata", "vectors", v.name+".txt")
	if *update {
		if err := os.WriteFile(file, v.render(t), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(text), string(v.render(t))); diff != "" {
		t.Errorf("encoding the value differs from %s (-file +code):\n%s", file, diff)
	}
	stored, err := vectorBytes(text)
	if err != nil {
		t.Fatalf("%s: %v", file, err)
	}
	got, err := v.decode(stored)
	if err != nil {
		t.Fatalf("decode %s: %v", file, err)
	}
	if diff := cmp.Diff(v.value, got, sameRecord()); diff != "" {
		t.Errorf("decoding %s differs from the value (-want +got):\n%s", file, diff)
	}
	if again := reencode(t, stored); !bytes.Equal(again, stored) {
		t.Errorf("another dag-cbor implementation writes %x for %x", again, stored)
	}
}

// reencode passes bytes through go-ipld-prime's dag-cbor, which shares no code
// with ours.
func reencode(t *testing.T, b []byte) []byte {
	t.Helper()
	node := basicnode.Prototype.Any.NewBuilder()
	if err := dagcbor.Decode(node, bytes.NewReader(b)); err != nil {
		t.Fatalf("dag-cbor of another implementation: %v", err)
	}
	var out bytes.Buffer
	if err := dagcbor.Encode(node.Build(), &out); err != nil {
		t.Fatalf("dag-cbor of another implementation: %v", err)
	}
	return out.Bytes()
}

func (v vector) render(t *testing.T) []byte {
	t.Helper()
	var b bytes.Buffer
	fmt.Fprintf(&b, "about: %s\n", v.about)
	for _, f := range v.facts {
		fmt.Fprintf(&b, "%s: %s\n", f[0], f[1])
	}
	diagnostic, err := cbor.Diagnose(v.bytes)
	if err != nil {
		t.Fatal(err)
	}
	fmt.Fprintf(&b, "\n%s\n", spread(diagnostic))
	for h := hex.EncodeToString(v.bytes); h != ""; {
		n := min(len(h), 96)
		fmt.Fprintf(&b, "\n%s", h[:n])
		h = h[n:]
	}
	b.WriteByte('\n')
	return b.Bytes()
}

// spread puts each field of the outermost map on its own line.
func spread(diagnostic string) string {
	var b strings.Builder
	depth, quoted := 0, false
	for i, r := range diagnostic {
		switch {
		case r == '"':
			quoted = !quoted
		case quoted:
		case r == '{' || r == '[':
			depth++
		case r == '}' || r == ']':
			depth--
		}
		if r == '}' && depth == 0 && !quoted {
			b.WriteByte('\n')
		}
		if r == ' ' && depth == 1 && !quoted && diagnostic[i-1] == ',' {
			b.WriteString("\n  ")
			continue
		}
		b.WriteRune(r)
		if i == 0 && r == '{' {
			b.WriteString("\n  ")
		}
	}
	return b.String()
}

// vectorBytes reads the hex that is the last part of a vector's file.
func vectorBytes(text []byte) ([]byte, error) {
	i := bytes.LastIndex(text, []byte("\n\n"))
	if i < 0 {
		return nil, fmt.Errorf("no empty line before the hex")
	}
	return hex.DecodeString(strings.Join(strings.Fields(string(text[i:])), ""))
}

func TestSealedVectorOpens(t *testing.T) {
	t.Parallel()
	v := sealedVector()
	fact := map[string][]byte{}
	for _, f := range v.facts {
		b, err := hex.DecodeString(f[1])
		if err != nil {
			t.Fatal(err)
		}
		fact[f[0]] = b
	}
	got, err := Unseal(fact["box"], [32]byte(fact["custodian's X25519 public key"]), [32]byte(fact["custodian's X25519 private key"]))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(v.value, any(got), sameRecord()); diff != "" {
		t.Errorf("unsealed opening differs (-want +got):\n%s", diff)
	}
}
