package workunits

import (
	"bytes"
	"slices"

	"pgregory.net/rapid"
)

// genBody makes a valid body of the kind.
func genBody(kind Kind) *rapid.Generator[Body] {
	return rapid.Custom(func(t *rapid.T) Body {
		switch kind {
		case KindIdentity:
			return Identity{
				Enc: [32]byte(genBytes(32).Draw(t, "enc")), Anchor: genDigest().Draw(t, "anchor"),
				Length: rapid.Uint32Range(1, MaxChain).Draw(t, "length"), Arch: genWord().Draw(t, "arch"),
				Proof: rapid.SliceOfN(rapid.Byte(), 0, 64).Draw(t, "proof"),
			}
		case KindAmendment:
			return Amendment{Stewards: rapid.SliceOfN(rapid.Custom(func(t *rapid.T) Steward {
				return Steward{Node: genNode().Draw(t, "node"), Enc: [32]byte(genBytes(32).Draw(t, "enc"))}
			}), 1, MaxStewards).Draw(t, "stewards")}
		case KindGrant:
			return Grant{
				To: genNode().Draw(t, "to"), Units: genUnits(1).Draw(t, "units"), Inputs: genDigest().Draw(t, "inputs"),
				Lease: rapid.Uint64Max(MaxLease).Draw(t, "lease"), Custodians: rapid.SliceOfN(genNode(), 0, MaxCustodians).Draw(t, "custodians"),
				Arch: genWord().Draw(t, "arch"), Canonical: rapid.Bool().Draw(t, "canonical"),
			}
		case KindExpiry:
			return Expiry{Grant: genRef().Draw(t, "grant")}
		case KindCommit:
			return genCommit().Draw(t, "commit")
		case KindReceipt:
			return Receipt{Commit: genRef().Draw(t, "commit"), Hash: genDigest().Draw(t, "hash"), Index: rapid.Uint32Range(1, MaxDraws).Draw(t, "index"), Next: rapid.OneOf(rapid.Just(Digest{}), genDigest()).Draw(t, "next")}
		case KindDraw:
			return Draw{
				Commit: genRef().Draw(t, "commit"), Index: rapid.Uint32Range(1, MaxDraws).Draw(t, "index"), With: rapid.OneOf(rapid.Just(NodeID{}), genNode()).Draw(t, "with"),
				Value: genDigest().Draw(t, "value"), Head: genDigest().Draw(t, "head"),
			}
		case KindOpening:
			o := Opening{Commit: genRef().Draw(t, "commit")}
			for _, u := range genUnits(1).Draw(t, "units") {
				o.Units = append(o.Units, OpenUnit{Unit: u, Nonce: [16]byte(genBytes(16).Draw(t, "nonce")), Result: genResult().Draw(t, "result")})
			}
			return o
		}
		return genOtherBody(kind).Draw(t, "body")
	})
}

func genOtherBody(kind Kind) *rapid.Generator[Body] {
	return rapid.Custom(func(t *rapid.T) Body {
		switch kind {
		case KindComparison:
			return Comparison{
				Program: genDigest().Draw(t, "program"), Unit: rapid.Uint32().Draw(t, "unit"), A: genDigest().Draw(t, "a"),
				B: genDigest().Draw(t, "b"), Equal: rapid.Bool().Draw(t, "equal"),
			}
		case KindHead:
			return genHead().Draw(t, "head")
		case KindStorageReceipt:
			return StorageReceipt{Job: rapid.Bool().Draw(t, "job"), Results: rapid.SliceOfN(rapid.Custom(func(t *rapid.T) StoredUnits {
				return StoredUnits{Opening: genRef().Draw(t, "opening"), Units: genUnits(1).Draw(t, "units")}
			}), 0, 4).Draw(t, "results")}
		case KindFault:
			return Fault{
				Name:    rapid.SampledFrom([]FaultName{FaultEquivocation, FaultWrong, FaultOpening, FaultDraw}).Draw(t, "name"),
				Against: genNode().Draw(t, "against"), Unit: rapid.Uint32().Draw(t, "unit"),
				Evidence: rapid.SliceOfN(rapid.SliceOfN(rapid.Byte(), 0, 100), 0, MaxEvidence).Draw(t, "evidence"),
			}
		case KindStanding:
			return Standing{Number: rapid.Uint32().Draw(t, "number"), Table: genLink().Draw(t, "table")}
		case KindSeal:
			return Seal{
				Accepted: rapid.Uint32().Draw(t, "accepted"), Failed: rapid.Uint32().Draw(t, "failed"),
				Results: genDigest().Draw(t, "results"), Head: genDigest().Draw(t, "head"),
			}
		case KindCancel:
			return Cancel{Reason: genWord().Draw(t, "reason")}
		case KindCollected:
			return Collected{Results: genDigest().Draw(t, "results")}
		case KindRetry:
			return Retry{Units: genUnits(1).Draw(t, "units")}
		}
		panic("no generator for " + kind.String())
	})
}

func genCommit() *rapid.Generator[Commit] {
	return rapid.Custom(func(t *rapid.T) Commit {
		c := Commit{
			Grant: genRef().Draw(t, "grant"), Bound: genDigest().Draw(t, "bound"), Millis: rapid.Uint64().Draw(t, "millis"),
			Trace: genBytes(rapid.SampledFrom([]int{0, 32}).Draw(t, "trace length")).Draw(t, "trace"),
		}
		for _, u := range genUnits(1).Draw(t, "units") {
			if rapid.Bool().Draw(t, "void") {
				c.Void = append(c.Void, VoidUnit{Unit: u, Reason: VoidReason(genWord().Draw(t, "reason"))})
				continue
			}
			c.Units, c.Hashes = append(c.Units, u), append(c.Hashes, genDigest().Draw(t, "hash"))
		}
		c.Sealed = rapid.SliceOfN(rapid.Custom(func(t *rapid.T) Sealed {
			return Sealed{To: genNode().Draw(t, "to"), Data: rapid.SliceOfN(rapid.Byte(), 1, 100).Draw(t, "box")}
		}), 0, MaxCustodians).Draw(t, "sealed")
		return c
	})
}

func genHead() *rapid.Generator[Head] {
	return rapid.Custom(func(t *rapid.T) Head {
		authors := rapid.SliceOfNDistinct(genNode(), 1, 10, rapid.ID[NodeID]).Draw(t, "authors")
		slices.SortFunc(authors, func(a, b NodeID) int { return bytes.Compare(a[:], b[:]) })
		var h Head
		for _, a := range authors {
			h.Logs = append(h.Logs, LogHead{Author: a, Len: rapid.Uint64().Draw(t, "len"), Hash: genDigest().Draw(t, "hash")})
		}
		h.Set = Sum(Encode(h.Logs))
		for range h.Logs {
			h.Credit = append(h.Credit, rapid.Uint64().Draw(t, "credit"))
		}
		return h
	})
}

// genSegment makes a signed segment of 1 to 6 statements of any kind and law.
func genSegment() *rapid.Generator[Segment] {
	return rapid.Custom(func(t *rapid.T) Segment {
		s := Segment{
			Network: genName().Draw(t, "network"), Job: JobID(genDigest().Draw(t, "job")),
			Law: rapid.SampledFrom([]uint16{1, 1, 1, 2, 65535}).Draw(t, "law"),
			Seq: rapid.Uint64Range(0, 1<<40).Draw(t, "seq"),
		}
		if s.Seq > 0 {
			s.Prev = testDigest(genName().Draw(t, "previous"))
		}
		for range rapid.IntRange(1, 6).Draw(t, "statements") {
			kind := Kind(rapid.Uint16Range(0, 20).Draw(t, "kind"))
			if kind.Known() && s.Law <= LawVersion {
				s.Statements = append(s.Statements, State(genBody(kind).Draw(t, "body")))
				continue
			}
			s.Statements = append(s.Statements, Statement{Kind: kind, Body: rapid.SliceOfN(rapid.Byte(), 0, 50).Draw(t, "opaque")})
		}
		s.Sign(testKey(rapid.Byte().Draw(t, "key")))
		return s
	})
}
