package wire

import (
	"bytes"
	"fmt"
	"testing"

	"github.com/talka-grid/talka/workunits"
)

// talk is one author's log, cut into segments as it speaks.
type talk struct {
	author byte
	seq    uint64
	prev   workunits.Digest
}

// say signs the bodies as one segment.
func (l *talk) say(bodies ...workunits.Body) []byte {
	s := workunits.Segment{
		Network: "talka", Job: workunits.JobID(testDigest("job")), Law: workunits.LawVersion, Seq: l.seq, Prev: l.prev,
	}
	for _, b := range bodies {
		s.Statements = append(s.Statements, workunits.State(b))
	}
	s.Sign(testKey(l.author))
	l.seq += uint64(len(bodies))
	l.prev = s.Hashes()[len(bodies)-1]
	return s.Encode()
}

// part is one message of a batch's life.
type part struct {
	name    string
	segment []byte
	frame   []byte
}

// batchLife speaks the whole life of a batch of n copies, each statement in a
// segment and a frame of its own, which is the most that it can take: a grant,
// a commit sealed to two custodians, the receipts and the draws of two
// stewards, the opening by a custodian, and the storage receipts of three. The
// logs are long already, and the units are scattered over a large job.
func batchLife(n int) (parts []part) {
	job := workunits.JobID(testDigest("job"))
	logs := map[byte]*talk{}
	for _, author := range []byte{1, 2, 3, 9} {
		logs[author] = &talk{author: author, seq: 70_000, prev: testDigest("log")}
	}
	last := func(author byte) workunits.Ref {
		return workunits.Ref{Author: testNode(author), Seq: logs[author].seq - 1}
	}
	add := func(name string, author byte, message func(segment []byte) Message, b workunits.Body) {
		s := logs[author].say(b)
		parts = append(parts, part{name, s, Encode(message(s))})
	}
	push := func(s []byte) Message { return Push{Job: job, Segments: [][]byte{s}} }
	reply := func(s []byte) Message {
		return WorkReply{Job: job, Grant: s, Hints: []workunits.NodeID{testNode(1), testNode(2), testNode(3)}}
	}
	units := make([]uint32, n)
	sealed := workunits.SealedOpening{Seed: testDigest("seed")}
	hashes := make([]workunits.Digest, n)
	opened := make([]workunits.OpenUnit, n)
	for i := range units {
		units[i] = 1_000_000 + 37*uint32(i)
		r := workunits.Result{Digest: testDigest(fmt.Sprint("result", i))}
		sealed.Results = append(sealed.Results, r)
		nonce := sealed.Nonce(units[i])
		c := workunits.Copy{Network: "talka", Job: job, Volunteer: testNode(9), Unit: units[i]}
		hashes[i] = c.CommitHash(r.Digest, nonce)
		opened[i] = workunits.OpenUnit{Unit: units[i], Nonce: nonce, Result: r}
	}
	box := func(to byte) workunits.Sealed {
		public, _ := workunits.EncryptionKey(testKey(to))
		return workunits.Sealed{To: testNode(to), Data: sealed.Seal(public, bytes.NewReader(make([]byte, 32)))}
	}

	add("grant", 1, reply, workunits.Grant{
		To: testNode(9), Units: units, Inputs: testDigest("inputs"), Lease: 3_600_000,
		Custodians: []workunits.NodeID{testNode(2), testNode(3)}, Arch: "amd64",
	})
	add("commit", 9, push, workunits.Commit{
		Grant: last(1), Bound: logs[1].prev, Units: units, Hashes: hashes, Millis: 3_000_000,
		Sealed: []workunits.Sealed{box(2), box(3)},
	})
	commit, hash := last(9), logs[9].prev
	for _, s := range []byte{1, 2} {
		add("receipt", s, push, workunits.Receipt{Commit: commit, Hash: hash, Index: 70_000})
	}
	for _, s := range []byte{1, 2} {
		add("draw", s, push, workunits.Draw{Commit: commit, Index: 70_000, Value: testDigest("value"), Head: testDigest("head")})
	}
	add("opening", 2, push, workunits.Opening{Commit: commit, Units: opened})
	opening := last(2)
	for _, s := range []byte{1, 2, 3} {
		add("storage receipt", s, push, workunits.StorageReceipt{Results: []workunits.StoredUnits{{Opening: opening, Units: units}}})
	}
	return parts
}

// copyBudget is the most that a copy of a full batch may add to the ledger, in
// bytes of signed segments in frames.
const copyBudget = 400

func TestBytesPerCopy(t *testing.T) {
	t.Parallel()
	const n = 64
	segments, frames := 0, 0
	for _, p := range batchLife(n) {
		if _, err := workunits.ParseSegment(p.segment); err != nil {
			t.Errorf("%s: %v", p.name, err)
		}
		if _, err := Decode(p.frame); err != nil {
			t.Errorf("%s: %v", p.name, err)
		}
		segments += len(p.segment)
		frames += len(p.frame)
		t.Logf("%-16s segment %5d  frame %5d  a copy %6.1f", p.name, len(p.segment), len(p.frame), float64(len(p.frame))/n)
	}
	t.Logf("%-16s segment %5d  frame %5d  a copy %6.1f", "together", segments, frames, float64(frames)/n)
	if frames > n*copyBudget {
		t.Errorf("a copy takes %d bytes, want at most %d", frames/n, copyBudget)
	}
}

// BenchmarkBatch measures a batch's statements: made, signed and framed; and
// read and verified, as every steward does.
func BenchmarkBatch(b *testing.B) {
	for _, n := range []int{1, 8, 64, 1024} {
		parts := batchLife(n)
		size := 0
		for _, p := range parts {
			size += len(p.frame)
		}
		b.Run(fmt.Sprintf("speak/%d", n), func(b *testing.B) {
			for b.Loop() {
				batchLife(n)
			}
			b.ReportMetric(float64(size)/float64(n), "bytes/copy")
		})
		b.Run(fmt.Sprintf("verify/%d", n), func(b *testing.B) {
			for b.Loop() {
				for _, p := range parts {
					if _, err := workunits.ParseSegment(p.segment); err != nil {
						b.Fatal(err)
					}
				}
			}
			b.ReportMetric(float64(b.Elapsed().Microseconds())/float64(b.N*n), "us/copy")
		})
	}
}
