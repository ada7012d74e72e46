package workunits

import (
	"fmt"
	"slices"

	"pgregory.net/rapid"
)

// Generators of valid records.

func genBytes(n int) *rapid.Generator[[]byte] { return rapid.SliceOfN(rapid.Byte(), n, n) }

func genDigest() *rapid.Generator[Digest] {
	return rapid.Map(genBytes(32), func(b []byte) Digest { return Digest(b) })
}

// genNode makes one of 256 ids, which are nobody's keys.
func genNode() *rapid.Generator[NodeID] {
	return rapid.Map(rapid.Byte(), func(b byte) NodeID { return NodeID(Sum([]byte{b})) })
}

func genName() *rapid.Generator[string] {
	return rapid.StringMatching(`[A-Za-z0-9][A-Za-z0-9._-]{0,63}`)
}

func genLink() *rapid.Generator[Link] {
	return rapid.Map(rapid.IntRange(0, 1000), func(i int) Link {
		d := testDigest(string(rune(i)))
		if i%2 == 0 {
			return Link{RawCid(d)}
		}
		return Link{RecordCid(d)}
	})
}

func genWord() *rapid.Generator[string] { return rapid.StringN(0, -1, MaxWordLen) }

func genRef() *rapid.Generator[Ref] {
	return rapid.Custom(func(t *rapid.T) Ref {
		return Ref{Author: genNode().Draw(t, "author"), Seq: rapid.Uint64().Draw(t, "seq")}
	})
}

// genUnits makes low to 40 ascending unit numbers.
func genUnits(low int) *rapid.Generator[[]uint32] {
	return rapid.Map(rapid.SliceOfNDistinct(rapid.Uint32(), low, 40, rapid.ID[uint32]), func(u []uint32) []uint32 { slices.Sort(u); return u })
}

func genPath() *rapid.Generator[string] {
	return rapid.StringMatching(`[a-z.]{1,6}(/[a-zä ]{1,6}){0,3}`).Filter(func(p string) bool {
		return ValidPath(p) && !within(p, "out")
	})
}

// genPaths makes up to 6 paths that stand beside each other.
func genPaths() *rapid.Generator[[]string] {
	return rapid.SliceOfNDistinct(genPath(), 0, 6, rapid.ID[string]).Filter(func(paths []string) bool {
		_, _, found := overlap(paths)
		return !found
	})
}

func genResult() *rapid.Generator[Result] {
	return rapid.Custom(func(t *rapid.T) Result {
		return Result{
			Digest:     genDigest().Draw(t, "digest"),
			Storage:    rapid.Ptr(genLink(), true).Draw(t, "storage"),
			Encryption: genWord().Draw(t, "encryption"),
		}
	})
}

func genSealedOpening() *rapid.Generator[SealedOpening] {
	return rapid.Custom(func(t *rapid.T) SealedOpening {
		return SealedOpening{
			Seed:    [32]byte(genBytes(32).Draw(t, "seed")),
			Results: rapid.SliceOfN(genResult(), 0, 20).Draw(t, "results"),
		}
	})
}

func genOutFile(path string) *rapid.Generator[OutFile] {
	return rapid.Custom(func(t *rapid.T) OutFile {
		f := OutFile{Path: path}
		if rapid.Bool().Draw(t, "inline") {
			f.Data = rapid.SliceOfN(rapid.Byte(), 0, InlineFile).Draw(t, "data")
			f.Size = uint64(len(f.Data))
			return f
		}
		l := genLink().Draw(t, "cid")
		f.Cid, f.Size = &l, rapid.Uint64Min(InlineFile+1).Draw(t, "size")
		return f
	})
}

func genOutcome() *rapid.Generator[Outcome] {
	return rapid.Custom(func(t *rapid.T) Outcome {
		o := Outcome{
			How: rapid.SampledFrom([]OutcomeKind{Exited, Trapped, OutputLimit}).Draw(t, "how"),
		}
		switch o.How {
		case Exited:
			o.Code = rapid.Uint32().Draw(t, "code")
		case Trapped:
			o.Trap = rapid.StringN(0, -1, maxTrapLen).Draw(t, "trap")
		case OutputLimit:
			return o
		}
		o.Out = genOutFile("").Draw(t, "out")
		paths := genPaths().Draw(t, "paths")
		slices.Sort(paths)
		for _, p := range paths {
			o.Files = append(o.Files, genOutFile(p).Draw(t, "file"))
		}
		return o
	})
}

func genAnnouncement() *rapid.Generator[Announcement] {
	return rapid.Custom(func(t *rapid.T) Announcement {
		a := Announcement{
			Network: genName().Draw(t, "network"), Job: JobID(genDigest().Draw(t, "job")), Project: genName().Draw(t, "project"),
			Owner: genNode().Draw(t, "owner"), Open: rapid.Uint32().Draw(t, "open"), Ended: rapid.Bool().Draw(t, "ended"),
			Time:     rapid.Uint64Range(0, 1<<62).Draw(t, "time"),
			Stewards: rapid.SliceOfN(genNode(), 1, MaxStewards).Draw(t, "stewards"),
		}
		a.Expires = a.Time + rapid.Uint64Range(1, 24*3600*1000).Draw(t, "life")
		return a
	})
}

func genManifest() *rapid.Generator[Manifest] {
	return rapid.Custom(func(t *rapid.T) Manifest {
		m := sampleManifest()
		word := rapid.StringN(0, 20, 100).Filter(func(s string) bool { return !slices.Contains([]byte(s), 0) })
		m.Network, m.Project, m.Name = genName().Draw(t, "network"), genName().Draw(t, "project"), genName().Draw(t, "name")
		m.Created = rapid.Uint64().Draw(t, "created")
		m.Program = genLink().Draw(t, "program")
		m.Units = rapid.Uint32Range(1, MaxUnits).Draw(t, "units")
		m.Args = rapid.SliceOfN(word, 0, 5).Draw(t, "args")
		m.Env = nil
		for i := range rapid.IntRange(0, 5).Draw(t, "variables") {
			m.Env = append(m.Env, fmt.Sprintf("V%d=%s", i, word.Draw(t, "value")))
		}
		m.Table = rapid.Ptr(genLink(), true).Draw(t, "table")
		m.Inputs = nil
		for _, p := range genPaths().Draw(t, "paths") {
			m.Inputs = append(m.Inputs, Input{Path: p, Cid: genLink().Draw(t, "input"), PerUnit: rapid.Bool().Draw(t, "per unit")})
		}
		if len(m.Inputs) > 0 && rapid.Bool().Draw(t, "stdin") {
			m.Stdin = m.Inputs[0].Path + "/part"
		}
		if m.Units <= MaxStageInputs && rapid.Bool().Draw(t, "two stages") {
			m.Reduce = &Stage{Program: genLink().Draw(t, "second program"), Args: rapid.SliceOfN(word, 0, 3).Draw(t, "second arguments")}
		}
		m.Limits = Limits{
			Memory: rapid.Uint64Range(1, MaxMemory).Draw(t, "memory"), Output: rapid.Uint64Range(1, MaxOutput).Draw(t, "output"),
			Files: rapid.Uint32Max(MaxFiles).Draw(t, "files"), Log: rapid.Uint64Max(MaxLog).Draw(t, "log"), Wall: rapid.Uint64Range(1, MaxTime).Draw(t, "wall"),
			CPU: rapid.Uint64Max(MaxTime).Draw(t, "cpu"), Tries: rapid.Uint32Range(1, MaxTries).Draw(t, "tries"),
			File: rapid.Uint64Max(MaxOutput).Draw(t, "file"), Calls: rapid.Uint64Max(MaxCalls).Draw(t, "calls"),
		}
		if m.Limits.Calls == 0 || rapid.Bool().Draw(t, "checkpoints") {
			m.Limits.Calls, m.Limits.Checkpoint = 0, rapid.Uint64Max(MaxOutput).Draw(t, "checkpoint")
		}
		m.Policy.Mode = rapid.SampledFrom([]VerifyMode{VerifyAudit, VerifyNone}).Draw(t, "mode")
		m.Policy.Error = rapid.Float64Range(1e-12, 0.99).Draw(t, "error")
		m.Policy.Share = rapid.Float64Range(1e-12, 0.49).Draw(t, "share")
		m.Policy.Price = rapid.Float64Range(0, 10).Draw(t, "price")
		m.Policy.Trusted = rapid.SliceOfN(genNode(), 0, 3).Draw(t, "trusted")
		m.Active = rapid.Uint32Range(1, MaxStewards).Draw(t, "active")
		m.Listed = rapid.Uint32Range(m.Active, MaxStewards).Draw(t, "listed")
		m.Days = rapid.Uint32Range(1, MaxDays).Draw(t, "days")
		m.Nominal = rapid.Uint64Range(0, maxNominal).Draw(t, "nominal")
		m.Shard = rapid.Uint32Range(1, MaxUnits).Draw(t, "shard")
		if rapid.Bool().Draw(t, "stands") {
			m.Standing = &Link{Cid: RecordCid(genDigest().Draw(t, "standing"))}
		}
		return m
	})
}
