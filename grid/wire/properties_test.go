package wire

import (
	"bytes"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/talka-grid/talka/workunits"
)

func genRaw(limit int) *rapid.Generator[[]byte] { return rapid.SliceOfN(rapid.Byte(), 0, limit) }

// genNode makes one of 256 ids, which are nobody's keys.
func genNode() *rapid.Generator[workunits.NodeID] {
	return rapid.Map(rapid.Byte(), func(b byte) workunits.NodeID { return workunits.NodeID(testDigest(string(rune(b)))) })
}

func genLink() *rapid.Generator[workunits.Link] {
	return rapid.Map(rapid.StringN(0, 3, -1), testLink)
}

func genObject() *rapid.Generator[Object] {
	return rapid.Custom(func(t *rapid.T) Object {
		return Object{
			Root: genLink().Draw(t, "root"), Run: rapid.Uint32Range(0, workunits.MaxUnits).Draw(t, "run"),
			Bytes: rapid.Uint64Range(0, 1<<50).Draw(t, "bytes"), Leaves: rapid.Uint32().Draw(t, "leaves"),
		}
	})
}

func genMessage() *rapid.Generator[Message] {
	return rapid.Custom(func(t *rapid.T) Message {
		job := workunits.JobID(testDigest(rapid.StringN(0, 3, -1).Draw(t, "job")))
		raw := rapid.SliceOfN(genRaw(200), 0, 5)
		reason := rapid.StringN(0, -1, MaxReason)
		switch Type(rapid.Uint8Range(1, 13).Draw(t, "type")) {
		case TypeWorkRequest:
			return WorkRequest{
				Job: job, Units: rapid.Uint32Range(0, workunits.MaxBatch).Draw(t, "units"), Canon: rapid.Bool().Draw(t, "canon"),
				Arch: rapid.StringN(0, -1, workunits.MaxWordLen).Draw(t, "arch"), Memory: rapid.Uint64().Draw(t, "memory"),
				Held: rapid.SliceOfN(genLink(), 0, 5).Draw(t, "held"), Proof: genRaw(workunits.MaxProof).Draw(t, "proof"),
				Busy: rapid.SliceOfN(rapid.Uint64(), 0, 5).Draw(t, "busy"),
			}
		case TypeWorkReply:
			return WorkReply{
				Job: job, Grant: genRaw(500).Draw(t, "grant"), Hints: rapid.SliceOfN(genNode(), 0, 5).Draw(t, "hints"),
				Reason: reason.Draw(t, "reason"), Retry: rapid.Uint64().Draw(t, "retry"), Credit: rapid.Uint32().Draw(t, "credit"),
				Ended: rapid.Bool().Draw(t, "ended"), Again: rapid.Bool().Draw(t, "again"),
				Shuns: rapid.SliceOfN(genNode(), 0, 5).Draw(t, "shuns"), Wrong: rapid.Bool().Draw(t, "wrong"),
			}
		case TypePush:
			return Push{Job: job, Segments: raw.Draw(t, "segments"), Blocks: raw.Draw(t, "blocks")}
		case TypePull:
			authors := rapid.SliceOfNDistinct(genNode(), 0, 10, rapid.ID[workunits.NodeID]).Draw(t, "authors")
			slices.SortFunc(authors, workunits.NodeID.Compare)
			m := Pull{Job: job}
			for _, a := range authors {
				m.Have = append(m.Have, workunits.LogHead{Author: a, Len: rapid.Uint64().Draw(t, "len"), Hash: testDigest(a.String())})
			}
			return m
		case TypeJobRequest:
			return JobRequest{Job: job}
		case TypeJobReply:
			return JobReply{Job: job, Manifest: genRaw(300).Draw(t, "manifest"), Segments: raw.Draw(t, "segments")}
		case TypeAsk:
			return Ask{Job: job, Manifest: genRaw(300).Draw(t, "manifest")}
		case TypePointerAsk:
			return PointerAsk{Job: job, Owner: genNode().Draw(t, "owner"), Project: rapid.StringN(0, -1, workunits.MaxNameLen).Draw(t, "project"), Number: rapid.Uint64().Draw(t, "number")}
		case TypePointer:
			return Pointer{Job: job, Pointer: genRaw(300).Draw(t, "pointer")}
		case TypeKeep:
			return Keep{
				Job: job, Objects: rapid.SliceOfN(genObject(), 0, 5).Draw(t, "objects"), Until: rapid.Uint64().Draw(t, "until"),
				Sources: rapid.SliceOfN(genNode(), 0, 5).Draw(t, "sources"),
			}
		case TypeKept:
			m := Kept{Job: job, Refused: rapid.SliceOfN(genLink(), 0, 5).Draw(t, "refused"), Reason: reason.Draw(t, "reason")}
			for _, o := range rapid.SliceOfN(genObject(), 0, 5).Draw(t, "objects") {
				m.Objects = append(m.Objects, KeptObject{o, rapid.SliceOfN(genNode(), 0, 5).Draw(t, "holders")})
			}
			return m
		case TypeFree:
			return Free{Job: job, Proof: genRaw(300).Draw(t, "proof")}
		case TypeLogAsk:
			return LogAsk{Job: job, Unit: rapid.Uint32Max(workunits.MaxUnits).Draw(t, "unit")}
		case TypeLogReply:
			return LogReply{Job: job, Unit: rapid.Uint32Max(workunits.MaxUnits).Draw(t, "unit"), How: reason.Draw(t, "how"), Time: rapid.Uint64().Draw(t, "time"), Text: genRaw(300).Draw(t, "text")}
		}
		return Answer{Job: job, Yes: rapid.Bool().Draw(t, "yes"), Enc: [32]byte(testDigest("enc")), Reason: reason.Draw(t, "reason")}
	})
}

func TestRoundTrip(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		want := genMessage().Draw(t, "message")
		frame := Encode(want)
		got, err := Decode(frame)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got, sameMessage()); diff != "" {
			t.Errorf("message differs (-want +got):\n%s", diff)
		}
		if !bytes.Equal(Encode(got), frame) {
			t.Errorf("%x becomes %x", frame, Encode(got))
		}
	})
}
