package lawsim

import (
	"github.com/talka-grid/talka/workunits"
)

// Batch is how many units a grant has where nothing asks for fewer.
const Batch = 64

// BytesPerCopy is the size of a copy's statements in the ledger when it is one
// of a batch and all goes well, the signatures of their segments included:
// grant, commit with two sealed openings, two receipts, two draws, the opening
// and two storage receipts, each in a segment of its own.
func BytesPerCopy(batch int) float64 {
	var units []uint32
	var hashes []workunits.Digest
	var open []workunits.OpenUnit
	var results []workunits.Result
	d := workunits.Sum(nil)
	for u := range batch {
		units, hashes = append(units, uint32(1000+u)), append(hashes, d)
		open = append(open, workunits.OpenUnit{Unit: uint32(1000 + u), Result: workunits.Result{Digest: d}})
		results = append(results, workunits.Result{Digest: d})
	}
	author := workunits.NodeID(d)
	ref := workunits.Ref{Author: author, Seq: 1000}
	plain := workunits.Encode(workunits.SealedOpening{Results: results})
	box := make([]byte, len(plain)+48) // an ephemeral key and a tag
	receipt := workunits.Receipt{Commit: ref, Hash: d, Index: 1000}
	draw := workunits.Draw{Commit: ref, Index: 1000, Value: d, Head: d}
	stored := workunits.StorageReceipt{Results: []workunits.StoredUnits{{Opening: ref, Units: units}}}
	size := 0
	for _, b := range []workunits.Body{
		workunits.Grant{To: author, Units: units, Inputs: d, Lease: 60_000, Custodians: []workunits.NodeID{author, author}, Arch: "amd64"},
		workunits.Commit{Grant: ref, Bound: d, Units: units, Hashes: hashes, Sealed: []workunits.Sealed{{To: author, Data: box}, {To: author, Data: box}}, Millis: 60_000},
		receipt, receipt, draw, draw, workunits.Opening{Commit: ref, Units: open}, stored, stored,
	} {
		s := workunits.Segment{Network: "talka", Law: workunits.LawVersion, Author: author, Seq: 1000, Prev: d, Statements: []workunits.Statement{workunits.State(b)}, Sig: make([]byte, 64)}
		size += len(s.Encode())
	}
	return float64(size) / float64(batch)
}
