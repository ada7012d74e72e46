package workunits

import (
	"bytes"
	"crypto/ed25519"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

// The sample values stand in the test vectors: a change to one of them, or to
// how it is encoded, shows in testdata.

// testKey is the node key whose seed is 32 times the byte.
func testKey(b byte) ed25519.PrivateKey {
	return ed25519.NewKeyFromSeed(bytes.Repeat([]byte{b}, ed25519.SeedSize))
}

// testNode is the id of testKey(b).
func testNode(b byte) NodeID { return NodeIDOf(testKey(b)) }

// testDigest is the digest of the text.
func testDigest(s string) Digest { return Sum([]byte(s)) }

func testLink(s string) Link { return Link{RecordCid(testDigest(s))} }

func rawLink(s string) Link { return Link{RawCid(testDigest(s))} }

// sameRecord compares records where an absent list and an empty one are equal,
// as they are on the wire.
func sameRecord() cmp.Options {
	return cmp.Options{
		cmpopts.EquateEmpty(),
		cmpopts.IgnoreFields(Statement{}, "decoded"),
		cmp.Comparer(func(a, b Link) bool { return a.Cid.Equals(b.Cid) }),
	}
}

func sampleManifest() Manifest {
	table := rawLink("table")
	standing := testLink("standing")
	return Manifest{
		Network: "talka", Publisher: testNode(1), Project: "stars", Name: "survey-7", Created: 1_790_000_000,
		Program: rawLink("program"), Units: 100_000,
		Args: []string{"search", "--from", "{start}", "--unit={unit}"}, Env: []string{"LANG=C"},
		Table:  &table,
		Inputs: []Input{{Path: "sky/catalog.dat", Cid: rawLink("catalog")}, {Path: "slice", Cid: testLink("slices"), PerUnit: true}},
		Limits: Limits{Memory: 1 << 30, Output: 1 << 20, Files: 16, Log: 64 << 10, Wall: 3_600_000, CPU: 3_000_000, Tries: 5},
		Policy: Policy{
			Mode: VerifyAudit, Error: 1e-4, Share: 0.05, Price: 0.5, MinCopies: 1, MaxAgree: 6, HistoryCap: 1000,
			Compare: Comparator{Kind: CompareBytes}, Trusted: []NodeID{testNode(2)},
		},
		Canonical: true, Replicas: 3, Days: 30, Active: 3, Listed: 8, Shard: 1024, Standing: &standing,
	}
}

func sampleOutcome() Outcome {
	big := rawLink("big file")
	return Outcome{
		How: Exited, Code: 3,
		Out:   OutFile{Size: 6, Data: []byte("hello\n")},
		Files: []OutFile{{Path: "empty"}, {Path: "list/big.dat", Size: 5000, Cid: &big}, {Path: "list/small.txt", Size: 2, Data: []byte("ok")}},
	}
}

func sampleOpening() SealedOpening {
	stored := testLink("ciphertext")
	return SealedOpening{
		Seed: [32]byte(bytes.Repeat([]byte{5}, 32)),
		Results: []Result{
			{Digest: testDigest("result 7")},
			{Digest: testDigest("result 9"), Storage: &stored, Encryption: "age"},
		},
	}
}

func sampleAnnouncement() Announcement {
	return Announcement{
		Network: "talka", Job: JobID(testDigest("job")), Author: testNode(2), Project: "stars", Owner: testNode(1),
		Open: 4096, Time: 1_790_000_000_000, Expires: 1_790_000_600_000, Stewards: []NodeID{testNode(1), testNode(2)},
	}
}

// sampleBodies has one body for each kind, in the order of their numbers.
func sampleBodies() []Body {
	enc, _ := EncryptionKey(testKey(4))
	copyOf := Copy{Network: "talka", Job: JobID(testDigest("job")), Volunteer: testNode(3)}
	opening := sampleOpening()
	hash := func(unit uint32, r Result) Digest {
		c := copyOf
		c.Unit = unit
		return c.CommitHash(r.Digest, opening.Nonce(unit))
	}
	logs := []LogHead{ // 8139... before 8a88...
		{Author: testNode(2), Len: 3, Hash: testDigest("log 2")},
		{Author: testNode(1), Len: 300, Hash: testDigest("log 1")},
	}
	return []Body{
		Identity{Enc: enc, Anchor: testDigest("anchor"), Length: 4096, Arch: "amd64", Proof: []byte{0xde, 0xad}},
		Amendment{Stewards: []Steward{{Node: testNode(1), Enc: enc}}},
		Grant{
			To: testNode(3), Units: []uint32{7, 9, 70_000}, Inputs: testDigest("inputs"), Lease: 600_000,
			Custodians: []NodeID{testNode(2), testNode(4)}, Arch: "arm64", Canonical: true,
		},
		Expiry{Grant: Ref{Author: testNode(1), Seq: 24}},
		Commit{
			Grant: Ref{Author: testNode(1), Seq: 23}, Bound: testDigest("grant"), Units: []uint32{7, 9},
			Hashes: []Digest{hash(7, opening.Results[0]), hash(9, opening.Results[1])},
			Void:   []VoidUnit{{Unit: 70_000, Reason: VoidWall}},
			Sealed: []Sealed{{To: testNode(4), Data: opening.Seal(enc, bytes.NewReader(bytes.Repeat([]byte{6}, 32)))}},
			Millis: 65_536, Trace: bytes.Repeat([]byte{0x77}, 32),
		},
		Receipt{Commit: Ref{Author: testNode(3), Seq: 1}, Hash: testDigest("commit"), Index: 255},
		Draw{Commit: Ref{Author: testNode(3), Seq: 1}, Index: 255, Value: testDigest("value"), Head: testDigest("head")},
		Opening{Commit: Ref{Author: testNode(3), Seq: 1}, Units: []OpenUnit{
			{Unit: 7, Nonce: opening.Nonce(7), Result: opening.Results[0]},
			{Unit: 9, Nonce: opening.Nonce(9), Result: opening.Results[1]},
		}},
		Comparison{Unit: 7, A: testDigest("result 7"), B: testDigest("result 7, wrong"), Equal: false},
		Head{Logs: logs, Set: Sum(Encode(logs)), Credit: make([]uint64, len(logs))},
		StorageReceipt{Job: true, Results: []StoredUnits{{Opening: Ref{Author: testNode(4), Seq: 2}, Units: []uint32{7, 9}}}},
		Fault{Name: FaultWrong, Against: testNode(3), Unit: 9, Evidence: [][]byte{[]byte("proof")}},
		Standing{Number: 2, Table: testLink("stake table")},
		Seal{Accepted: 99_999, Failed: 1, Results: testDigest("results"), Head: testDigest("head")},
		Cancel{Reason: "the catalog was wrong"},
		Collected{Results: testDigest("results")},
		Retry{Units: []uint32{9, 70_000}},
	}
}

// sampleSegment is signed, and holds statements of two known kinds around one
// that this version does not know.
func sampleSegment() Segment {
	bodies := sampleBodies()
	s := Segment{
		Network: "talka", Job: JobID(testDigest("job")), Law: LawVersion, Seq: 41, Prev: testDigest("statement 40"),
		Statements: []Statement{State(bodies[KindReceipt-1]), {Kind: 999, Body: []byte("opaque")}, State(bodies[KindDraw-1])},
	}
	s.Sign(testKey(2))
	return s
}
