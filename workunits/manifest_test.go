package workunits

import (
	"errors"
	"math"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

func TestManifestCheck(t *testing.T) {
	t.Parallel()
	if err := sampleManifest().Check(); err != nil {
		t.Fatal(err)
	}
	repeat := func(n int, s string) []string {
		list := make([]string, n)
		for i := range list {
			list[i] = s
		}
		return list
	}
	for name, change := range map[string]func(*Manifest){
		"no network":          func(m *Manifest) { m.Network = "" },
		"no project":          func(m *Manifest) { m.Project = "" },
		"no name":             func(m *Manifest) { m.Name = "" },
		"name":                func(m *Manifest) { m.Name = "../x" },
		"no units":            func(m *Manifest) { m.Units = 0 },
		"units":               func(m *Manifest) { m.Units = MaxUnits + 1 },
		"most units":          func(m *Manifest) { m.Units = math.MaxUint32 },
		"arguments":           func(m *Manifest) { m.Args = repeat(MaxArgs+1, "x") },
		"long argument":       func(m *Manifest) { m.Args = []string{strings.Repeat("x", MaxArgLen+1)} },
		"zero in argument":    func(m *Manifest) { m.Args = []string{"a\x00b"} },
		"not UTF-8":           func(m *Manifest) { m.Args = []string{"\xff"} },
		"no program":          func(m *Manifest) { m.Program = Link{} },
		"no input":            func(m *Manifest) { m.Inputs[0].Cid = Link{} },
		"variable":            func(m *Manifest) { m.Env = []string{"A"} },
		"nameless variable":   func(m *Manifest) { m.Env = []string{"=b"} },
		"variable twice":      func(m *Manifest) { m.Env = []string{"A=1", "B=", "A=2"} },
		"environment":         func(m *Manifest) { m.Env = repeat(MaxArgs+1, "A=b") },
		"zero in environment": func(m *Manifest) { m.Env = []string{"A=\x00"} },
		"long variable":       func(m *Manifest) { m.Env = []string{"A=" + strings.Repeat("x", MaxArgLen)} },
		"inputs":              func(m *Manifest) { m.Inputs = make([]Input, MaxInputs+1) },
		"input's path":        func(m *Manifest) { m.Inputs[0].Path = "../x" },
		"input twice":         func(m *Manifest) { m.Inputs[1].Path = m.Inputs[0].Path },
		"input in an input":   func(m *Manifest) { m.Inputs[0].Path, m.Inputs[1].Path = "a/b/c", "a" },
		"input in out":        func(m *Manifest) { m.Inputs[0].Path = "out/a" },
		"input as scratch":    func(m *Manifest) { m.Inputs[0].Path = "scratch" },
		"input on two lines":  func(m *Manifest) { m.Inputs[0].Path = "a\nb" },
		"standard input":      func(m *Manifest) { m.Stdin = "elsewhere" },
		"unclean input":       func(m *Manifest) { m.Stdin = "slice/../sky" },
		"second stage":        func(m *Manifest) { m.Units, m.Reduce = 10, &Stage{} },
		"its arguments":       func(m *Manifest) { m.Units, m.Reduce = 10, &Stage{rawLink("best"), []string{"\xff"}} },
		"its many arguments":  func(m *Manifest) { m.Units, m.Reduce = 10, &Stage{rawLink("best"), repeat(MaxArgs+1, "x")} },
		"its many units":      func(m *Manifest) { m.Units, m.Reduce = MaxStageInputs+1, &Stage{rawLink("best"), nil} },
		"trusted":             func(m *Manifest) { m.Policy.Trusted = make([]NodeID, MaxTrusted+1) },
		"no active stewards":  func(m *Manifest) { m.Active = 0 },
		"active stewards":     func(m *Manifest) { m.Active = MaxStewards + 1 },
		"no shard":            func(m *Manifest) { m.Shard = 0 },
		"shard":               func(m *Manifest) { m.Shard = MaxUnits + 1 },
		"no memory":           func(m *Manifest) { m.Limits.Memory = 0 },
		"memory":              func(m *Manifest) { m.Limits.Memory = MaxMemory + 1 },
		"no output":           func(m *Manifest) { m.Limits.Output = 0 },
		"output":              func(m *Manifest) { m.Limits.Output = MaxOutput + 1 },
		"files":               func(m *Manifest) { m.Limits.Files = MaxFiles + 1 },
		"log":                 func(m *Manifest) { m.Limits.Log = MaxLog + 1 },
		"wall time":           func(m *Manifest) { m.Limits.Wall = MaxTime + 1 },
		"processor time":      func(m *Manifest) { m.Limits.CPU = MaxTime + 1 },
		"file":                func(m *Manifest) { m.Limits.File = MaxOutput + 1 },
		"calls":               func(m *Manifest) { m.Limits.Calls = MaxCalls + 1 },
		"checkpoint":          func(m *Manifest) { m.Limits.Checkpoint = MaxOutput + 1 },
		"checkpoint, calls":   func(m *Manifest) { m.Limits.Checkpoint, m.Limits.Calls = 1, 1 },
		"tries":               func(m *Manifest) { m.Limits.Tries = MaxTries + 1 },
		"no wall time":        func(m *Manifest) { m.Limits.Wall = 0 },
		"no tries":            func(m *Manifest) { m.Limits.Tries = 0 },
		"mode":                func(m *Manifest) { m.Policy.Mode = "guess" },
		"no mode":             func(m *Manifest) { m.Policy.Mode = "" },
		"error 0":             func(m *Manifest) { m.Policy.Error = 0 },
		"error 1":             func(m *Manifest) { m.Policy.Error = 1 },
		"error NaN":           func(m *Manifest) { m.Policy.Error = math.NaN() },
		"share 0":             func(m *Manifest) { m.Policy.Share = 0 },
		"share one half":      func(m *Manifest) { m.Policy.Share = 0.5 },
		"share NaN":           func(m *Manifest) { m.Policy.Share = math.NaN() },
		"price below 0":       func(m *Manifest) { m.Policy.Price = -1e-9 },
		"price":               func(m *Manifest) { m.Policy.Price = math.Inf(1) },
		"price NaN":           func(m *Manifest) { m.Policy.Price = math.NaN() },
		"fewer listed":        func(m *Manifest) { m.Listed = m.Active - 1 },
		"no days":             func(m *Manifest) { m.Days = 0 },
		"comparator":          func(m *Manifest) { m.Policy.Compare.Kind = "likeness" },
	} {
		m := sampleManifest()
		change(&m)
		if err := m.Check(); !errors.Is(err, ErrManifest) {
			t.Errorf("%s: got error %v, want %v", name, err, ErrManifest)
		}
		if _, _, err := m.Sign(testKey(1)); !errors.Is(err, ErrManifest) {
			t.Errorf("%s signed: got error %v, want %v", name, err, ErrManifest)
		}
	}
}

// TestStages checks what a manifest says of its units where there are two stages.
func TestStages(t *testing.T) {
	t.Parallel()
	m := sampleManifest()
	m.Units, m.Stdin = 7, "slice/part"
	if err := m.Check(); err != nil || m.Total() != 7 || m.Reduces(7) {
		t.Errorf("one stage: %v, %d units, reduces %t", err, m.Total(), m.Reduces(7))
	}
	m.Reduce = &Stage{rawLink("best"), []string{"--unit", "{unit}"}}
	if err := m.Check(); err != nil || m.Total() != 8 || !m.Reduces(7) || m.Reduces(6) {
		t.Errorf("two stages: %v, %d units", err, m.Total())
	}
	if diff := cmp.Diff(m.Reduce.Args, m.UnitArgs(7, map[string]string{"unit": "x"})); diff != "" {
		t.Errorf("arguments of the second stage (-want +got):\n%s", diff)
	}
	if n := (Manifest{Units: 5}).Shards(); n != 5 {
		t.Errorf("%d shards without a size, want one a unit", n)
	}
	if n := (Manifest{Units: math.MaxUint32, Shard: 2}).Shards(); n != 1<<31 {
		t.Errorf("%d shards, want 2^31", n)
	}
}

func TestStageInputs(t *testing.T) {
	t.Parallel()
	in := StageInputs{Results: []Digest{testDigest("0"), testDigest("1")}}
	b, d := in.Encode()
	if got, err := ParseStageInputs(b, 2); err != nil || d != Sum(b) || !cmp.Equal(got, in) {
		t.Errorf("got %v, %v", got, err)
	}
	if _, err := ParseStageInputs(b, 3); err == nil {
		t.Error("results of 2 units stand for 3")
	}
	if b, _ := (StageInputs{Results: make([]Digest, MaxStageInputs)}).Encode(); len(b) > maxStageRecord {
		t.Errorf("the largest record has %d bytes, limit %d", len(b), maxStageRecord)
	}
	for want, o := range map[string]Outcome{
		"exit 3\n": {How: Exited, Code: 3}, "trap unreachable\n": {How: Trapped, Trap: "unreachable"}, "output limit\n": {How: OutputLimit},
	} {
		if o.Status() != want {
			t.Errorf("status %q, want %q", o.Status(), want)
		}
	}
}

// TestManifestFromPeer signs what Sign would refuse, as a peer could.
func TestManifestFromPeer(t *testing.T) {
	t.Parallel()
	m := sampleManifest()
	m.Publisher, m.Units = testNode(1), 0
	b := Encode(m)
	if _, _, err := ParseManifest(Encode(SignedManifest{b, sign(testKey(1), domainManifest, b)})); !errors.Is(err, ErrManifest) {
		t.Errorf("no units: got error %v, want %v", err, ErrManifest)
	}
	m.Units = 1
	b = Encode(m)
	if _, _, err := ParseManifest(Encode(SignedManifest{b, sign(testKey(2), domainManifest, b)})); !errors.Is(err, ErrSignature) {
		t.Errorf("signed by another: got error %v, want %v", err, ErrSignature)
	}
	long := sampleManifest()
	long.Args = nil
	for range 100 {
		long.Args = append(long.Args, strings.Repeat("x", MaxArgLen))
	}
	if _, _, err := long.Sign(testKey(1)); !errors.Is(err, ErrTooLarge) {
		t.Errorf("manifest of 400 kB: got error %v, want %v", err, ErrTooLarge)
	}
}

func TestValidPath(t *testing.T) {
	t.Parallel()
	for _, p := range []string{"a", "a/b", "a.b", "..a", "a..", ".hidden", "a/..b", "...", "a b", "ä",
		strings.Repeat("x", MaxPathName), strings.Repeat("x/", MaxPath/2-1) + "xx"} {
		if !ValidPath(p) {
			t.Errorf("path %q is refused", p)
		}
	}
	for _, p := range []string{
		"", ".", "..", "/", "/a", "../a", "a/", "a//b", "a/./b", "./a", "a/../b", "a/..", "a/../../b", "a\x00", "\x00", "\xff", "a/\xc3",
		"//a", "a\nb", "a\x7f", "\u0085", strings.Repeat("x", MaxPathName+1), strings.Repeat("x/", MaxPath/2) + "x", "../" + strings.Repeat("../", 10) + "etc/passwd",
	} {
		if ValidPath(p) {
			t.Errorf("path %q is accepted", p)
		}
	}
}

func TestUnitArgs(t *testing.T) {
	t.Parallel()
	m := sampleManifest()
	m.Units = 12
	for _, c := range []struct {
		args []string
		unit uint32
		row  map[string]string
		want []string
	}{
		{nil, 0, nil, []string{}},
		{[]string{"x", "{unit}", "of {units}"}, 7, nil, []string{"x", "7", "of 12"}},
		{[]string{"{unit}{unit}", "{{unit}}", "{unit", "unit}"}, 3, nil, []string{"33", "{3}", "{unit", "unit}"}},
		{[]string{"{a}-{b}", "{c}"}, 0, map[string]string{"a": "1", "b": "2"}, []string{"1-2", "{c}"}},
		// A value is never read as a template.
		{[]string{"{a}"}, 5, map[string]string{"a": "{b} {unit}", "b": "2"}, []string{"{b} {unit}"}},
		{[]string{"{a}{b}"}, 5, map[string]string{"a": "{un", "b": "it}"}, []string{"{unit}"}},
		// The unit's number wins over a column of its name.
		{[]string{"{unit}", "{units}"}, 5, map[string]string{"unit": "x", "units": "y"}, []string{"5", "12"}},
		{[]string{"{a}"}, 5, map[string]string{"a": ""}, []string{""}},
		{[]string{"{UNIT}", "{ unit }"}, 5, nil, []string{"{UNIT}", "{ unit }"}},
		{[]string{"{unit}"}, math.MaxUint32, nil, []string{"4294967295"}},
	} {
		m.Args = c.args
		if diff := cmp.Diff(c.want, m.UnitArgs(c.unit, c.row)); diff != "" {
			t.Errorf("unit %d of %q with %v (-want +got):\n%s", c.unit, c.args, c.row, diff)
		}
	}
}

// TestUnitArgsRepeat wants the same arguments on every node, in whatever order
// a map gives the columns.
func TestUnitArgsRepeat(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		m := sampleManifest()
		column := rapid.StringMatching(`[a-c_]{1,3}`)
		m.Args = rapid.SliceOfN(rapid.StringMatching(`(\{[a-c_]{1,3}\}|[{}a-c]){0,6}`), 0, 4).Draw(t, "args")
		row := rapid.MapOfN(column, rapid.StringMatching(`[{}a-c_]{0,5}`), 0, 8).Draw(t, "row")
		want := m.UnitArgs(1, row)
		for range 5 {
			if diff := cmp.Diff(want, m.UnitArgs(1, row)); diff != "" {
				t.Fatalf("the same unit has two lists of arguments:\n%s", diff)
			}
		}
	})
}

func TestShards(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		m := Manifest{Units: rapid.Uint32Range(1, MaxUnits).Draw(t, "units"), Shard: rapid.Uint32Range(1, MaxUnits).Draw(t, "shard")}
		n := uint64(m.Shards())
		if units, shard := uint64(m.Units), uint64(m.Shard); n*shard < units || (n-1)*shard >= units {
			t.Errorf("%d units in shards of %d make %d shards", units, shard, n)
		}
	})
}

func TestTrusts(t *testing.T) {
	t.Parallel()
	m := sampleManifest()
	for node, want := range map[NodeID]bool{testNode(1): true, testNode(2): true, testNode(3): false, {}: false} {
		if m.Trusts(node) != want {
			t.Errorf("trusts %s: %t, want %t", node, !want, want)
		}
	}
	if m.ProjectID() != (ProjectID{testNode(1), "stars"}) {
		t.Errorf("project is %s", m.ProjectID())
	}
}

func TestInputsDigest(t *testing.T) {
	t.Parallel()
	m, other := sampleManifest(), sampleManifest()
	if m.InputsDigest() != other.InputsDigest() {
		t.Error("equal inputs differ")
	}
	other.Inputs[1].PerUnit = false
	if m.InputsDigest() == other.InputsDigest() {
		t.Error("different inputs are equal")
	}
	if (Manifest{}).InputsDigest() != (Manifest{Inputs: []Input{}}).InputsDigest() {
		t.Error("no inputs and an empty list of inputs differ")
	}
}
