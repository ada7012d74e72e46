package wire

import (
	"bytes"
	"crypto/ed25519"
	"encoding/hex"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/fxamacker/cbor/v2"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/talka-grid/talka/workunits"
)

var update = flag.Bool("update", false, "write the test vectors in testdata anew")

func testNode(b byte) workunits.NodeID { return workunits.NodeIDOf(testKey(b)) }

func testKey(b byte) ed25519.PrivateKey {
	return ed25519.NewKeyFromSeed(bytes.Repeat([]byte{b}, ed25519.SeedSize))
}

func testDigest(s string) workunits.Digest { return workunits.Sum([]byte(s)) }

func testLink(s string) workunits.Link {
	return workunits.Link{Cid: workunits.RawCid(testDigest(s))}
}

// sampleMessages has one message of each type, in the order of their numbers.
// Byte strings that the frame does not look into hold words.
func sampleMessages() []Message {
	job, code := workunits.JobID(testDigest("job")), testLink("manifest of pieces")
	return []Message{
		WorkRequest{Job: job, Units: 64, Arch: "amd64", Canon: true, Memory: 4 << 30, Held: []workunits.Link{testLink("program")}, Proof: []byte("proofof8")},
		WorkReply{Job: job, Grant: []byte("segment"), Hints: []workunits.NodeID{testNode(1)}, Reason: "", Retry: 30_000, Credit: 12},
		Push{Job: job, Segments: [][]byte{[]byte("segment"), []byte("another")}, Blocks: [][]byte{[]byte("outcome")}},
		Pull{Job: job, Have: []workunits.LogHead{ // 8139... before 8a88...
			{Author: testNode(2), Len: 3, Hash: testDigest("log 2")},
			{Author: testNode(1), Len: 300, Hash: testDigest("log 1")},
		}},
		JobRequest{Job: job},
		JobReply{Job: job, Manifest: []byte("block"), Segments: [][]byte{[]byte("segment")}},
		Ask{Job: job, Manifest: []byte("block")},
		Answer{Job: job, Yes: false, Enc: [32]byte{1, 2, 3}, Reason: "no room"},
		PointerAsk{Job: job, Owner: testNode(1), Project: "clusters", Number: 7},
		Pointer{Job: job, Pointer: []byte("pointer")},
		Keep{Job: job, Objects: []Object{{Root: testLink("results"), Run: 1, Bytes: 300_000, Leaves: 1}, {Root: testLink("piece"), Bytes: 8 << 20, Leaves: 8, Code: &code}}, Until: 1_800_000_000_000, Sources: []workunits.NodeID{testNode(1)}},
		Kept{Job: job, Objects: []KeptObject{{Object{Root: testLink("results"), Run: 1, Bytes: 300_000, Leaves: 1}, []workunits.NodeID{testNode(2)}}},
			Refused: []workunits.Link{testLink("input")}, Reason: "no room"},
		Free{Job: job, Proof: []byte("segment")},
		LogAsk{Job: job, Unit: 7},
		LogReply{Job: job, Unit: 7, How: "exit 3", Time: 1_800_000_000_000, Text: []byte("no such file")},
	}
}

func sameMessage() cmp.Options {
	return cmp.Options{
		cmpopts.EquateEmpty(),
		cmp.Comparer(func(a, b workunits.Link) bool { return a.Cid.Equals(b.Cid) }),
	}
}

func vectorName(m Message) string {
	return strings.ToLower(fmt.Sprintf("%02d-%s", m.Type(), strings.TrimPrefix(fmt.Sprintf("%T", m), "wire.")))
}

// TestVectors checks testdata/vectors both ways: each file has a frame's parts
// in CBOR diagnostic notation (RFC 8949, section 8), and the frame in hex.
func TestVectors(t *testing.T) {
	t.Parallel()
	seen := map[string]bool{}
	for i, m := range sampleMessages() {
		if int(m.Type()) != i+1 {
			t.Errorf("message %T has type %d, want %d", m, m.Type(), i+1)
		}
		file := filepath.Join("testdata", "vectors", vectorName(m)+".txt")
		seen[file] = true
		frame := Encode(m)
		if *update {
			if err := os.WriteFile(file, render(t, m, frame), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(string(text), string(render(t, m, frame))); diff != "" {
			t.Errorf("encoding differs from %s (-file +code):\n%s", file, diff)
		}
		stored, err := hex.DecodeString(strings.Join(strings.Fields(string(text[bytes.LastIndex(text, []byte("\n\n")):])), ""))
		if err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		got, err := Decode(stored)
		if err != nil {
			t.Fatalf("decode %s: %v", file, err)
		}
		if diff := cmp.Diff(m, got, sameMessage()); diff != "" {
			t.Errorf("decoding %s differs (-want +got):\n%s", file, diff)
		}
		if got.JobID() != workunits.JobID(testDigest("job")) {
			t.Errorf("%s is about job %s", file, got.JobID())
		}
	}
	files, err := filepath.Glob("testdata/vectors/*.txt")
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		if !seen[f] {
			t.Errorf("%s belongs to no message", f)
		}
	}
}

func render(t *testing.T, m Message, frame []byte) []byte {
	t.Helper()
	body, err := cbor.Diagnose(workunits.Encode(m))
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	fmt.Fprintf(&b, "about: frame [version, type, body] of a %s\nversion: %d\ntype: %d\n\n%s\n", vectorName(m)[3:], Version, m.Type(), body)
	for h := hex.EncodeToString(frame); h != ""; {
		n := min(len(h), 96)
		fmt.Fprintf(&b, "\n%s", h[:n])
		h = h[n:]
	}
	b.WriteByte('\n')
	return b.Bytes()
}

// TestNearFrames changes every byte of every vector in several ways, inserts
// one and cuts there. What is still accepted must be another frame's only
// encoding.
func TestNearFrames(t *testing.T) {
	t.Parallel()
	for _, m := range sampleMessages() {
		t.Run(vectorName(m), func(t *testing.T) {
			t.Parallel()
			frame := Encode(m)
			try := func(what string, b []byte) bool {
				got, err := Decode(b)
				if err != nil && !errors.Is(err, ErrFrame) {
					t.Errorf("%s: error %v does not wrap %v", what, err, ErrFrame)
				}
				if err == nil && !bytes.Equal(Encode(got), b) {
					t.Errorf("%s: %x becomes %x", what, b, Encode(got))
				}
				return err == nil
			}
			for i := range frame {
				for _, x := range []byte{1, 2, 0x10, 0x20, 0x40, 0x80, 0xff} {
					b := bytes.Clone(frame)
					b[i] ^= x
					try(fmt.Sprintf("byte %d xor %02x", i, x), b)
				}
				if try("cut", frame[:i]) {
					t.Errorf("accepted the first %d of %d bytes", i, len(frame))
				}
				try("insert", append(append(bytes.Clone(frame[:i]), 0), frame[i:]...))
			}
			for _, b := range [][]byte{append(bytes.Clone(frame), 0), append([]byte{0xd9, 0xd9, 0xf7}, frame...), append(bytes.Clone(frame), frame...)} {
				if try("longer", b) {
					t.Errorf("accepted %x", b)
				}
			}
		})
	}
}

func TestMalformedFrames(t *testing.T) {
	t.Parallel()
	body := workunits.Encode(JobRequest{})
	raw := func(parts ...any) []byte { return workunits.Encode(parts) }
	if _, err := Decode(raw(1, 5, body)); err != nil {
		t.Fatalf("a good frame: %v", err)
	}
	for name, b := range map[string][]byte{
		"nothing":          nil,
		"empty array":      {0x80},
		"null":             {0xf6},
		"text":             []byte("GET / HTTP/1.1\r\n\r\n"),
		"version 0":        raw(0, 5, body),
		"version 2":        raw(2, 5, body),
		"version 257":      raw(257, 5, body),
		"type 0":           raw(1, 0, body),
		"type 9":           raw(1, 9, body),
		"type 261":         raw(1, 261, body),
		"no body":          raw(1, 5),
		"null body":        raw(1, 5, nil),
		"empty body":       raw(1, 5, []byte{}),
		"another body":     raw(1, 6, body),
		"trailing":         raw(1, 5, append(bytes.Clone(body), 0)),
		"four parts":       raw(1, 5, body, 0),
		"body as text":     raw(1, 5, string(body)),
		"body not wrapped": append([]byte{0x83, 1, 5}, body...),
		"map":              workunits.Encode(map[string]any{"v": 1}),
		"wide version":     append([]byte{0x83, 0x18, 1, 5, 0x58, byte(len(body))}, body...),
		"indefinite":       append(append([]byte{0x9f, 1, 5, 0x58, byte(len(body))}, body...), 0xff),
		"endless array":    {0x9b, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff},
		"endless body":     {0x83, 1, 5, 0x5b, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff},
		"deep":             bytes.Repeat([]byte{0x81}, 1<<16),
	} {
		if m, err := Decode(b); !errors.Is(err, ErrFrame) {
			t.Errorf("%s: got %v, error %v, want %v", name, m, err, ErrFrame)
		}
	}
}

func TestLimits(t *testing.T) {
	t.Parallel()
	heads := func(n int) []workunits.LogHead {
		list := make([]workunits.LogHead, n)
		for i := range list {
			list[i].Author[0], list[i].Author[1] = byte(i>>8), byte(i)
		}
		return list
	}
	held := func(n int) []workunits.Link {
		list := make([]workunits.Link, n)
		for i := range list {
			list[i] = testLink("x")
		}
		return list
	}
	reason := func(n int) string { return strings.Repeat("x", n) }
	list := func(n, size int) [][]byte {
		list := make([][]byte, n)
		for i := range list {
			list[i] = make([]byte, size)
		}
		return list
	}
	objects := func(n int, bytes uint64) []Object {
		list := make([]Object, n)
		for i := range list {
			list[i] = Object{Root: testLink("x"), Bytes: bytes}
		}
		return list
	}
	kept := func(n int) []KeptObject {
		return []KeptObject{{Object{Root: testLink("x")}, make([]workunits.NodeID, n)}}
	}
	two := heads(2)
	for name, c := range map[string]struct{ good, bad Message }{
		"units":            {WorkRequest{Units: workunits.MaxBatch}, WorkRequest{Units: workunits.MaxBatch + 1}},
		"most units":       {WorkRequest{}, WorkRequest{Units: 1<<32 - 1}},
		"architecture":     {WorkRequest{Arch: reason(workunits.MaxWordLen)}, WorkRequest{Arch: reason(workunits.MaxWordLen + 1)}},
		"proof":            {WorkRequest{Proof: make([]byte, workunits.MaxProof)}, WorkRequest{Proof: make([]byte, workunits.MaxProof+1)}},
		"busy":             {WorkRequest{Busy: make([]uint64, MaxBusy)}, WorkRequest{Busy: make([]uint64, MaxBusy+1)}},
		"held":             {WorkRequest{Held: held(MaxHeld)}, WorkRequest{Held: held(MaxHeld + 1)}},
		"grant":            {WorkReply{Grant: make([]byte, workunits.MaxSegment)}, WorkReply{Grant: make([]byte, workunits.MaxSegment+1)}},
		"hints":            {WorkReply{Hints: make([]workunits.NodeID, workunits.MaxStewards)}, WorkReply{Hints: make([]workunits.NodeID, workunits.MaxStewards+1)}},
		"shunned stewards": {WorkReply{Shuns: make([]workunits.NodeID, workunits.MaxStewards)}, WorkReply{Shuns: make([]workunits.NodeID, workunits.MaxStewards+1)}},
		"reply's reason":   {WorkReply{Reason: reason(MaxReason)}, WorkReply{Reason: reason(MaxReason + 1)}},
		"segments":         {Push{Segments: list(MaxSegments, 1)}, Push{Segments: list(MaxSegments+1, 1)}},
		"blocks":           {Push{Blocks: list(MaxBlocks, 1)}, Push{Blocks: list(MaxBlocks+1, 1)}},
		"block":            {Push{Blocks: list(1, workunits.MaxInline)}, Push{Blocks: list(1, workunits.MaxInline+1)}},
		"vector":           {Pull{Have: heads(MaxVector)}, Pull{Have: heads(MaxVector + 1)}},
		"vector twice":     {Pull{Have: two}, Pull{Have: []workunits.LogHead{two[0], two[0]}}},
		"vector backwards": {Pull{Have: two}, Pull{Have: []workunits.LogHead{two[1], two[0]}}},
		"manifest":         {JobReply{Manifest: make([]byte, workunits.MaxManifest)}, JobReply{Manifest: make([]byte, workunits.MaxManifest+1)}},
		"job's segments":   {JobReply{Segments: list(MaxSegments, 1)}, JobReply{Segments: list(MaxSegments+1, 1)}},
		"asked manifest":   {Ask{Manifest: make([]byte, workunits.MaxManifest)}, Ask{Manifest: make([]byte, workunits.MaxManifest+1)}},
		"answer's reason":  {Answer{Reason: reason(MaxReason)}, Answer{Reason: reason(MaxReason + 1)}},
		"project":          {PointerAsk{Project: reason(workunits.MaxNameLen)}, PointerAsk{Project: reason(workunits.MaxNameLen + 1)}},
		"pointer":          {Pointer{Pointer: make([]byte, workunits.MaxPointer)}, Pointer{Pointer: make([]byte, workunits.MaxPointer+1)}},
		"objects":          {Keep{Objects: objects(MaxKept, 1)}, Keep{Objects: objects(MaxKept+1, 1)}},
		"object's bytes":   {Keep{Objects: objects(1, 1<<50)}, Keep{Objects: objects(1, 1<<50+1)}},
		"sources":          {Keep{Sources: make([]workunits.NodeID, MaxHolders)}, Keep{Sources: make([]workunits.NodeID, MaxHolders+1)}},
		"refused":          {Kept{Refused: held(MaxKept)}, Kept{Refused: held(MaxKept + 1)}},
		"kept reason":      {Kept{Reason: reason(MaxReason)}, Kept{Reason: reason(MaxReason + 1)}},
		"holders":          {Kept{Objects: kept(MaxHolders)}, Kept{Objects: kept(MaxHolders + 1)}},
		"proof of freeing": {Free{Proof: make([]byte, workunits.MaxSegment)}, Free{Proof: make([]byte, workunits.MaxSegment+1)}},
		"log of a unit":    {LogAsk{Unit: workunits.MaxUnits}, LogAsk{Unit: workunits.MaxUnits + 1}},
		"unit of a log":    {LogReply{Unit: workunits.MaxUnits}, LogReply{Unit: workunits.MaxUnits + 1}},
		"how":              {LogReply{How: reason(MaxReason)}, LogReply{How: reason(MaxReason + 1)}},
		"text":             {LogReply{Text: make([]byte, MaxLogText)}, LogReply{Text: make([]byte, MaxLogText+1)}},
		"frame":            {Push{Segments: list(1, MaxFrame-200)}, Push{Segments: list(1, MaxFrame)}},
		"many blocks":      {Push{}, Push{Blocks: list(MaxBlocks, workunits.MaxInline+1)}},
	} {
		frame := Encode(c.good)
		if got, err := Decode(frame); err != nil {
			t.Errorf("%s at the limit: %v", name, err)
		} else if !bytes.Equal(Encode(got), frame) {
			t.Errorf("%s: decoding changed it", name)
		}
		_, err := Decode(Encode(c.bad))
		if !errors.Is(err, ErrFrame) {
			t.Errorf("%s beyond the limit: got error %v, want %v", name, err, ErrFrame)
		} else if n := len(err.Error()); n > 64<<10 {
			t.Errorf("%s beyond the limit: error of %d bytes", name, n)
		}
	}
	if _, err := Decode(make([]byte, MaxFrame+1)); !errors.Is(err, ErrFrame) || !errors.Is(err, workunits.ErrTooLarge) {
		t.Errorf("frame of %d bytes: got error %v, want %v", MaxFrame+1, err, workunits.ErrTooLarge)
	}
}
