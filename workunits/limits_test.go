package workunits

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"strings"
	"testing"
)

func run(from, n uint32) []uint32 {
	units := make([]uint32, n)
	for i := range units {
		units[i] = from + uint32(i)
	}
	return units
}

// TestBodyLimits holds every limit of a body from both sides.
func TestBodyLimits(t *testing.T) {
	t.Parallel()
	word, long := strings.Repeat("x", MaxWordLen), strings.Repeat("x", MaxWordLen+1)
	bodies := sampleBodies()
	identity, grant, commit := bodies[0].(Identity), bodies[2].(Grant), bodies[4].(Commit)
	receipt, draw, fault := bodies[5].(Receipt), bodies[6].(Draw), bodies[11].(Fault)
	for name, c := range map[string]struct {
		good, bad Body
	}{
		"chain length":     {set(identity, func(b *Identity) { b.Length = MaxChain }), set(identity, func(b *Identity) { b.Length = MaxChain + 1 })},
		"no chain":         {set(identity, func(b *Identity) { b.Length = 1 }), set(identity, func(b *Identity) { b.Length = 0 })},
		"proof":            {set(identity, func(b *Identity) { b.Proof = make([]byte, 64) }), set(identity, func(b *Identity) { b.Proof = make([]byte, 65) })},
		"identity's word":  {set(identity, func(b *Identity) { b.Arch = word }), set(identity, func(b *Identity) { b.Arch = long })},
		"stewards":         {Amendment{make([]Steward, MaxStewards)}, Amendment{make([]Steward, MaxStewards+1)}},
		"no steward":       {Amendment{make([]Steward, 1)}, Amendment{}},
		"grant's units":    {set(grant, func(b *Grant) { b.Units = run(0, MaxBatch) }), set(grant, func(b *Grant) { b.Units = run(0, MaxBatch+1) })},
		"grant of nothing": {set(grant, func(b *Grant) { b.Units = run(0, 1) }), set(grant, func(b *Grant) { b.Units = nil })},
		"grant twice":      {grant, set(grant, func(b *Grant) { b.Units = []uint32{7, 7} })},
		"grant backwards":  {grant, set(grant, func(b *Grant) { b.Units = []uint32{7, 6} })},
		"custodians": {
			set(grant, func(b *Grant) { b.Custodians = make([]NodeID, MaxCustodians) }),
			set(grant, func(b *Grant) { b.Custodians = make([]NodeID, MaxCustodians+1) }),
		},
		"grant's word": {set(grant, func(b *Grant) { b.Arch = word }), set(grant, func(b *Grant) { b.Arch = long })},
		"commit's units": {
			set(commit, func(b *Commit) { b.Units, b.Hashes, b.Void = run(0, MaxBatch), make([]Digest, MaxBatch), nil }),
			set(commit, func(b *Commit) { b.Units, b.Hashes, b.Void = run(0, MaxBatch+1), make([]Digest, MaxBatch+1), nil }),
		},
		"units and voids": {
			set(commit, func(b *Commit) { b.Units, b.Hashes = run(0, MaxBatch-1), make([]Digest, MaxBatch-1) }),
			set(commit, func(b *Commit) { b.Units, b.Hashes = run(0, MaxBatch), make([]Digest, MaxBatch) }),
		},
		"empty commit": {
			set(commit, func(b *Commit) { b.Units, b.Hashes = nil, nil }),
			set(commit, func(b *Commit) { b.Units, b.Hashes, b.Void = nil, nil, nil }),
		},
		"fewer hashes": {commit, set(commit, func(b *Commit) { b.Hashes = b.Hashes[:1] })},
		"more hashes":  {commit, set(commit, func(b *Commit) { b.Hashes = append(b.Hashes[:2:2], Digest{}) })},
		"commit order": {commit, set(commit, func(b *Commit) { b.Units = []uint32{9, 7} })},
		"void and not": {commit, set(commit, func(b *Commit) { b.Void = []VoidUnit{{Unit: 7}} })},
		"void twice":   {commit, set(commit, func(b *Commit) { b.Void = []VoidUnit{{Unit: 8}, {Unit: 8}} })},
		"void order":   {commit, set(commit, func(b *Commit) { b.Void = []VoidUnit{{Unit: 10}, {Unit: 8}} })},
		"void reason": {
			set(commit, func(b *Commit) { b.Void = []VoidUnit{{Unit: 8, Reason: VoidReason(word)}} }),
			set(commit, func(b *Commit) { b.Void = []VoidUnit{{Unit: 8, Reason: VoidReason(long)}} }),
		},
		"boxes": {
			set(commit, func(b *Commit) { b.Sealed = boxes(MaxCustodians, MaxSealed) }),
			set(commit, func(b *Commit) { b.Sealed = boxes(MaxCustodians+1, 1) }),
		},
		"box":           {commit, set(commit, func(b *Commit) { b.Sealed = boxes(1, MaxSealed+1) })},
		"empty box":     {commit, set(commit, func(b *Commit) { b.Sealed = boxes(1, 0) })},
		"trace":         {set(commit, func(b *Commit) { b.Trace = nil }), set(commit, func(b *Commit) { b.Trace = make([]byte, 31) })},
		"receipt index": {set(receipt, func(b *Receipt) { b.Index = MaxDraws }), set(receipt, func(b *Receipt) { b.Index = MaxDraws + 1 })},
		"receipt 0":     {set(receipt, func(b *Receipt) { b.Index = 1 }), set(receipt, func(b *Receipt) { b.Index = 0 })},
		"draw index":    {set(draw, func(b *Draw) { b.Index = MaxDraws }), set(draw, func(b *Draw) { b.Index = 1<<32 - 1 })},
		"draw 0":        {set(draw, func(b *Draw) { b.Index = 1 }), set(draw, func(b *Draw) { b.Index = 0 })},
		"lease":         {set(grant, func(b *Grant) { b.Lease = MaxLease }), set(grant, func(b *Grant) { b.Lease = MaxLease + 1 })},
		"evidence": {
			set(fault, func(b *Fault) { b.Evidence = make([][]byte, MaxEvidence) }),
			set(fault, func(b *Fault) { b.Evidence = make([][]byte, MaxEvidence+1) }),
		},
		"fault name":    {set(fault, func(b *Fault) { b.Name = FaultName(word) }), set(fault, func(b *Fault) { b.Name = FaultName(long) })},
		"cancel reason": {Cancel{Reason: word}, Cancel{Reason: long}},
	} {
		if got, err := State(c.good).Decode(); err != nil {
			t.Errorf("%s: %v", name, err)
		} else if !bytes.Equal(Encode(got), Encode(c.good)) {
			t.Errorf("%s: decoding changed it", name)
		}
		if _, err := State(c.bad).Decode(); err == nil || errors.Is(err, ErrEncoding) {
			t.Errorf("%s beyond the limit: got error %v", name, err)
		}
	}
}

func set[T any](v T, change func(*T)) T { change(&v); return v }

func boxes(n, size int) []Sealed {
	list := make([]Sealed, n)
	for i := range list {
		list[i].Data = make([]byte, size)
	}
	return list
}

func TestOpeningLimits(t *testing.T) {
	t.Parallel()
	open := func(n int, change func([]OpenUnit)) Opening {
		o := Opening{Units: make([]OpenUnit, n)}
		for i := range o.Units {
			o.Units[i].Unit = uint32(i)
		}
		change(o.Units)
		return o
	}
	stored := func(results int, units []uint32) StorageReceipt {
		s := StorageReceipt{Results: make([]StoredUnits, results)}
		for i := range s.Results {
			s.Results[i].Units = units
		}
		return s
	}
	same := func([]OpenUnit) {}
	logs := []LogHead{{Author: testNode(2)}, {Author: testNode(1)}}
	back := []LogHead{logs[1], logs[0]}
	for name, c := range map[string]struct {
		b  Body
		ok bool
	}{
		"most units":          {open(MaxBatch, same), true},
		"too many units":      {open(MaxBatch+1, same), false},
		"no units":            {open(0, same), false},
		"unit twice":          {open(2, func(u []OpenUnit) { u[1].Unit = 0 }), false},
		"units backwards":     {open(2, func(u []OpenUnit) { u[0].Unit = 5 }), false},
		"encryption":          {open(1, func(u []OpenUnit) { u[0].Result.Encryption = strings.Repeat("x", 129) }), false},
		"most stored":         {stored(MaxBatch, run(0, 1)), true},
		"too many stored":     {stored(MaxBatch+1, run(0, 1)), false},
		"stored of a batch":   {stored(1, run(0, MaxBatch)), true},
		"stored beyond":       {stored(1, run(0, MaxBatch+1)), false},
		"stored nothing":      {stored(1, nil), false},
		"stored backwards":    {stored(1, []uint32{2, 1}), false},
		"head":                {Head{Logs: logs, Set: Sum(Encode(logs)), Credit: []uint64{0, 7}}, true},
		"head backwards":      {Head{Logs: back, Set: Sum(Encode(back)), Credit: []uint64{0, 7}}, false},
		"head without credit": {Head{Logs: logs, Set: Sum(Encode(logs))}, false},
		"head of nothing":     {Head{Set: Sum(Encode([]LogHead{}))}, false},
		"head of other logs":  {Head{Logs: logs, Set: Sum(Encode(back)), Credit: []uint64{0, 7}}, false},
		"body":                {Fault{Evidence: [][]byte{make([]byte, MaxBody)}}, false},
	} {
		if _, err := State(c.b).Decode(); (err == nil) != c.ok || errors.Is(err, ErrEncoding) {
			t.Errorf("%s: got error %v, want ok %t", name, err, c.ok)
		}
	}
}

// TestOversize gives every decoder more bytes than its limit.
func TestOversize(t *testing.T) {
	t.Parallel()
	public, private := EncryptionKey(testKey(4))
	for name, c := range map[string]struct {
		limit int
		parse func([]byte) error
	}{
		"segment":      {MaxSegment, func(b []byte) error { _, err := ParseSegment(b); return err }},
		"manifest":     {MaxManifest, func(b []byte) error { _, _, err := ParseManifest(b); return err }},
		"announcement": {MaxAnnouncement, func(b []byte) error { _, err := ParseAnnouncement(b); return err }},
		"outcome":      {MaxOutcome, func(b []byte) error { _, err := ParseOutcome(b); return err }},
		"stage inputs": {maxStageRecord, func(b []byte) error { _, err := ParseStageInputs(b, 1); return err }},
		"body":         {MaxBody, func(b []byte) error { _, err := Statement{Kind: KindCancel, Body: b}.Decode(); return err }},
		"opening": {MaxSealed, func(b []byte) error {
			_, err := Unseal(sealRaw(t, b, public), public, private)
			return err
		}},
	} {
		for _, b := range [][]byte{make([]byte, c.limit+1), append([]byte{0x5a, 0, 0x7f, 0xff, 0xff}, make([]byte, c.limit)...)} {
			if err := c.parse(b); !errors.Is(err, ErrTooLarge) {
				t.Errorf("%s of %d bytes: got error %v, want %v", name, len(b), err, ErrTooLarge)
			}
		}
		if err := c.parse(make([]byte, c.limit)); err == nil || errors.Is(err, ErrTooLarge) {
			t.Errorf("%s of %d zeros: got error %v, want another", name, c.limit, err)
		}
	}
}

// TestErrorsStaySmall sends the records that break a rule most often, and wants
// an error that fits on a screen: it is formatted and logged by who receives it.
func TestErrorsStaySmall(t *testing.T) {
	t.Parallel()
	const enough = 64 << 10
	void := Commit{Void: make([]VoidUnit, 100_000)}
	many := Commit{Units: run(0, 15_000), Hashes: make([]Digest, 15_000), Void: make([]VoidUnit, 15_000)}
	for i := range many.Void {
		many.Void[i].Unit = uint32(rand.N(1 << 30))
	}
	manifest := sampleManifest()
	manifest.Args = make([]string, 100_000)
	for i := range manifest.Args {
		manifest.Args[i] = "\x00"
	}
	manifest.Publisher = testNode(1)
	b := Encode(manifest)
	block := Encode(SignedManifest{b, sign(testKey(1), domainManifest, b)})
	for name, parse := range map[string]func() error{
		"void units": func() error { _, err := State(void).Decode(); return err },
		"units":      func() error { _, err := State(many).Decode(); return err },
		"arguments":  func() error { _, _, err := ParseManifest(block); return err },
	} {
		err := parse()
		if err == nil {
			t.Errorf("%s: no error", name)
			continue
		}
		if n := len(err.Error()); n > enough {
			t.Errorf("%s: error of %d bytes", name, n)
		}
	}
}
