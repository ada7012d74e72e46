package workunits

import (
	"crypto/ed25519"
	"errors"
	"fmt"
	"maps"
	"math"
	"path"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Limits on manifests.
const (
	MaxManifest = 256 << 10 // bytes
	MaxUnits    = 10_000_000
	MaxArgs     = 256
	MaxArgLen   = 4096
	MaxInputs   = 1024
	MaxTrusted  = 1024
	MaxDays     = 3650 // that a job's data is kept
	MaxPath     = 1024 // bytes of a path in a unit's tree
	MaxPathName = 255  // bytes of one name in it

	MaxMemory = 4 << 30               // bytes that a 32-bit WebAssembly memory can have
	MaxOutput = 64 << 30              // bytes
	MaxFiles  = 1_000_000             // in /out
	MaxLog    = 16 << 20              // bytes
	MaxTime   = 30 * 24 * 3600 * 1000 // milliseconds of one copy
	MaxTries  = 100
	MaxCalls  = 1 << 48 // host calls
)

// VerifyMode tells how results are checked.
type VerifyMode string

// The modes of law version 1.
const (
	VerifyAudit VerifyMode = "audit" // redundant execution under the audit law
	VerifyNone  VerifyMode = "none"  // one copy; for volunteers who are trusted
)

// Limits bound one copy. They are part of the result's meaning where their
// excess is deterministic (Memory, Output, Files, File, Calls, Checkpoint), else of
// its voidness.
type Limits struct {
	Memory uint64 `cbor:"memory"` // bytes of linear memory
	Output uint64 `cbor:"output"` // bytes of /out and standard output together
	Files  uint32 `cbor:"files"`  // in /out
	Log    uint64 `cbor:"log"`    // bytes of standard error kept
	Wall   uint64 `cbor:"wall"`   // milliseconds
	CPU    uint64 `cbor:"cpu"`    // milliseconds
	Tries  uint32 `cbor:"tries"`  // void copies after which a unit fails; each Retry gives it as many more

	File  uint64 `cbor:"file,omitempty"`  // bytes of each file in /out, and of standard output; 0: as Output
	Calls uint64 `cbor:"calls,omitempty"` // of the functions of WASI; 0: as many as the processor time allows

	// Checkpoint is how many bytes of /checkpoint are kept from run to run of a copy;
	// 0: none, it goes with the run. Host calls cannot be limited then: how many there
	// are depends on where a program goes on.
	Checkpoint uint64 `cbor:"checkpoint,omitempty"`
}

// MaxPrice is the most units of a job that an identity may count for.
const MaxPrice = 10

// Policy is the verification policy of a job.
type Policy struct {
	Mode       VerifyMode `cbor:"mode"`
	Error      float64    `cbor:"error"`          // accepted wrong rate that the researcher asks for
	Share      float64    `cbor:"share"`          // assumed share of colluding volunteers (f0)
	Work       uint32     `cbor:"work,omitempty"` // bits of proof of work that a volunteer's identity shows
	Price      float64    `cbor:"price"`          // of an identity, in units of this job (J)
	MinCopies  uint32     `cbor:"mincopies"`      // at least so many agreeing copies
	MaxAgree   uint32     `cbor:"maxagree"`       // so many agreeing copies are always enough; 0 for no cap
	HistoryCap uint32     `cbor:"historycap"`     // largest stake of the standing that counts, in units of this job; 0 for no cap
	Compare    Comparator `cbor:"compare"`
	Ringers    []byte     `cbor:"ringers"`         // digest that binds the publisher to units whose answer it knows; empty for none
	Trusted    []NodeID   `cbor:"trusted"`         // whose copies decide, beside the publisher's
	Audit      float64    `cbor:"audit,omitempty"` // share of the accepted units that the publisher's node executes itself, chosen at random
}

// Compare is how results are compared.
type Compare string

// The comparators of law version 1.
const (
	CompareBytes   Compare = "bytes"   // equal digests
	CompareNumbers Compare = "numbers" // equal text but for numbers within tolerance
	CompareProgram Compare = "program" // as a program says that runs in the sandbox with both results, see CompareA
)

// Folders of a comparator program's tree, each with one result as StageFolder's are.
// Its exit code is 0 where they agree; however else it ends, they differ. It has
// the job's environment and limits, and their names as arguments.
const (
	CompareA = "a" // the result that was open first
	CompareB = "b"
)

// Comparator says when two results agree. The tolerances are of numbers a, b
// with |a-b| <= Abs + Rel*|b|.
type Comparator struct {
	Kind    Compare `cbor:"kind"`
	Rel     float64 `cbor:"rtol"`
	Abs     float64 `cbor:"atol"`
	Program *Link   `cbor:"program"`
}

// Stage is a second stage: one more unit, numbered after the others, whose
// inputs are the accepted results of them all, see StageInputs. It has the job's
// environment, limits and policy, and neither its inputs nor its standard input.
type Stage struct {
	Program Link     `cbor:"program"`
	Args    []string `cbor:"args"`
}

// Input is a file or folder of every unit's tree. With PerUnit the CID is a
// folder of which each unit sees only the entry named by its number.
type Input struct {
	_       struct{} `cbor:",toarray"`
	Path    string
	Cid     Link
	PerUnit bool
}

// Manifest describes a job. It never changes; the publisher's signature over it
// makes the job, see SignedManifest.
type Manifest struct {
	Network   string   `cbor:"net"`
	Publisher NodeID   `cbor:"publisher"`
	Project   string   `cbor:"project"` // the project's name
	Name      string   `cbor:"name"`
	Created   uint64   `cbor:"created"` // seconds since 1970
	Program   Link     `cbor:"program"`
	Units     uint32   `cbor:"units"`
	Args      []string `cbor:"args"`  // {unit} and {column} stand for the unit's values
	Env       []string `cbor:"env"`   // KEY=value, each KEY once
	Stdin     string   `cbor:"stdin"` // path in the unit's tree, empty for none
	Table     *Link    `cbor:"table"`
	Inputs    []Input  `cbor:"inputs"`
	Reduce    *Stage   `cbor:"reduce"`
	Limits    Limits   `cbor:"limits"`
	Policy    Policy   `cbor:"policy"`
	Canonical bool     `cbor:"canon"`
	Replicas  uint32   `cbor:"replicas"`
	Days      uint32   `cbor:"days"`    // that inputs and results are kept
	Active    uint32   `cbor:"active"`  // stewards that act at a time
	Listed    uint32   `cbor:"listed"`  // stewards of the succession list
	Shard     uint32   `cbor:"shard"`   // units of a shard
	Nominal   uint64   `cbor:"nominal"` // milliseconds that one copy takes; what stakes are counted in
	Standing  *Link    `cbor:"standing"`
}

// SignedManifest is the block that a job's id is the digest of.
type SignedManifest struct {
	Manifest []byte `cbor:"manifest"`
	Sig      []byte `cbor:"sig"`
}

// ProjectID is the project that the job belongs to.
func (m Manifest) ProjectID() ProjectID { return ProjectID{m.Publisher, m.Project} }

// Sign checks the manifest and makes the job's block and id.
func (m Manifest) Sign(key ed25519.PrivateKey) (JobID, []byte, error) {
	m.Publisher = NodeIDOf(key)
	if err := m.Check(); err != nil {
		return JobID{}, nil, err
	}
	b := Encode(m)
	block := Encode(SignedManifest{b, sign(key, domainManifest, b)})
	if len(block) > MaxManifest {
		return JobID{}, nil, fmt.Errorf("manifest of %d bytes, limit %d: %w", len(block), MaxManifest, ErrTooLarge)
	}
	return JobID(Sum(block)), block, nil
}

// ParseManifest reads a job's block and checks its signature and its limits.
func ParseManifest(block []byte) (JobID, Manifest, error) {
	s, err := Decode[SignedManifest](block, MaxManifest)
	if err != nil {
		return JobID{}, Manifest{}, err
	}
	m, err := Decode[Manifest](s.Manifest, MaxManifest)
	if err != nil {
		return JobID{}, m, err
	}
	if err := verify(m.Publisher, domainManifest, s.Manifest, s.Sig); err != nil {
		return JobID{}, m, err
	}
	return JobID(Sum(block)), m, m.Check()
}

// ErrManifest is wrapped by what Check finds.
var ErrManifest = errors.New("invalid manifest")

// Check says what is wrong with a manifest.
func (m Manifest) Check() error {
	err := errors.Join(
		ValidName(m.Network), ValidName(m.Project), ValidName(m.Name),
		checkCount("units", int(m.Units), 1, MaxUnits),
		checkCount("arguments", len(m.Args), 0, MaxArgs),
		checkCount("environment variables", len(m.Env), 0, MaxArgs),
		checkCount("inputs", len(m.Inputs), 0, MaxInputs),
		checkCount("trusted volunteers", len(m.Policy.Trusted), 0, MaxTrusted),
		checkCount("active stewards", int(m.Active), 1, MaxStewards),
		checkCount("listed stewards", int(m.Listed), int(m.Active), MaxStewards),
		checkCount("milliseconds of a copy", int(min(m.Nominal, maxNominal+1)), 0, maxNominal),
		checkCount("days", int(m.Days), 1, MaxDays),
		checkCount("units of a shard", int(m.Shard), 1, MaxUnits),
		m.Limits.check(), m.Policy.check())
	args := slices.Concat(m.Args, m.Env)
	if m.Reduce != nil {
		args = append(args, m.Reduce.Args...)
		err = errors.Join(err, checkCount("units below a second stage", int(m.Units), 1, MaxStageInputs),
			checkCount("arguments of the second stage", len(m.Reduce.Args), 0, MaxArgs))
		if !m.Reduce.Program.Cid.Defined() {
			err = errors.Join(err, errors.New("no program of the second stage"))
		}
	}
	for _, s := range args {
		if len(s) > MaxArgLen || strings.ContainsRune(s, 0) || !utf8.ValidString(s) {
			err = errors.Join(err, fmt.Errorf("argument %.20q is too long, holds a zero byte or is not UTF-8", s))
			break
		}
	}
	if !m.Program.Cid.Defined() {
		err = errors.Join(err, errors.New("no program"))
	}
	if m.Standing != nil {
		if _, ok := RecordDigest(m.Standing.Cid); !ok {
			err = errors.Join(err, errors.New("standing: want the CID of a table of stakes"))
		}
	}
	if err = errors.Join(err, checkEnv(m.Env), m.checkInputs()); err != nil {
		return fmt.Errorf("%w: %w", ErrManifest, err)
	}
	return nil
}

func checkEnv(env []string) error {
	seen := map[string]bool{}
	for _, e := range env {
		name, _, ok := strings.Cut(e, "=")
		if !ok || name == "" || seen[name] {
			return fmt.Errorf("environment variable %.40q: want NAME=value, each name once", e)
		}
		seen[name] = true
	}
	return nil
}

// checkInputs checks that inputs stand beside each other in the unit's tree and
// that the standard input is one of them or lies in one.
func (m Manifest) checkInputs() error {
	paths := make([]string, len(m.Inputs))
	for i, in := range m.Inputs {
		paths[i] = in.Path
		first, _, _ := strings.Cut(in.Path, "/")
		switch {
		case !ValidPath(in.Path) || !in.Cid.Cid.Defined():
			return fmt.Errorf("input %.40q: want a clean relative path and a CID", in.Path)
		case slices.Contains(ownFolders, first):
			return fmt.Errorf("input %.40q: want a path outside %s", in.Path, strings.Join(ownFolders, ", "))
		}
	}
	if a, b, found := overlap(paths); found {
		return fmt.Errorf("inputs %.40q and %.40q: want paths beside each other", a, b)
	}
	if m.Stdin != "" && (!ValidPath(m.Stdin) || !slices.ContainsFunc(paths, func(p string) bool { return within(m.Stdin, p) })) {
		return fmt.Errorf("standard input %.40q is neither an input nor in one", m.Stdin)
	}
	return nil
}

// ownFolders are the folders of a unit's tree in which it writes.
var ownFolders = []string{"checkpoint", "out", "scratch"}

// within reports whether path p is folder or stands in it.
func within(p, folder string) bool { return p == folder || strings.HasPrefix(p, folder+"/") }

// overlap finds two paths of which one is the other or a folder above it.
func overlap(paths []string) (a, b string, found bool) {
	seen := map[string]bool{}
	for _, p := range paths {
		if seen[p] {
			return p, p, true
		}
		seen[p] = true
	}
	for _, p := range paths {
		for up := path.Dir(p); up != "." && up != "/"; up = path.Dir(up) {
			if seen[up] {
				return up, p, true
			}
		}
	}
	return "", "", false
}

// ValidPath reports whether p is a clean relative path inside a unit's tree: in
// UTF-8, without control characters, of names that every disk can hold.
func ValidPath(p string) bool {
	if p == "" || len(p) > MaxPath || p == "." || path.Clean(p) != p || p[0] == '/' ||
		p == ".." || strings.HasPrefix(p, "../") || !utf8.ValidString(p) || strings.ContainsFunc(p, unicode.IsControl) {
		return false
	}
	for name := range strings.SplitSeq(p, "/") {
		if len(name) > MaxPathName {
			return false
		}
	}
	return true
}

func (l Limits) check() error {
	for _, x := range []struct {
		what       string
		n          uint64
		least, max uint64
	}{
		{"bytes of memory", l.Memory, 1, MaxMemory},
		{"bytes of output", l.Output, 1, MaxOutput},
		{"files", uint64(l.Files), 0, MaxFiles},
		{"bytes of log", l.Log, 0, MaxLog},
		{"milliseconds of wall time", l.Wall, 1, MaxTime},
		{"milliseconds of processor time", l.CPU, 0, MaxTime},
		{"tries", uint64(l.Tries), 1, MaxTries},
		{"bytes of a file", l.File, 0, MaxOutput},
		{"host calls", l.Calls, 0, MaxCalls},
		{"bytes of checkpoint", l.Checkpoint, 0, MaxOutput},
	} {
		if x.n < x.least || x.n > x.max {
			return fmt.Errorf("limit of %d %s, want %d to %d", x.n, x.what, x.least, x.max)
		}
	}
	if l.Calls > 0 && l.Checkpoint > 0 {
		return errors.New("a limit of host calls beside a checkpoint")
	}
	return nil
}

func (p Policy) check() error {
	switch {
	case p.Mode != VerifyAudit && p.Mode != VerifyNone:
		return fmt.Errorf("verification mode %q, want %q or %q", p.Mode, VerifyAudit, VerifyNone)
	case !(p.Error > 0 && p.Error < 1):
		return fmt.Errorf("error %g, want more than 0 and less than 1", p.Error)
	case !(p.Share > 0 && p.Share < 0.5):
		return fmt.Errorf("assumed colluding share %g, want more than 0 and less than 0.5", p.Share)
	case p.Work > MaxWork:
		return fmt.Errorf("%d bits of work for an identity, want at most %d", p.Work, MaxWork)
	case !(p.Price >= 0 && p.Price <= MaxPrice):
		return fmt.Errorf("identity price %g, want 0 to %d", p.Price, MaxPrice)
	}
	if !(p.Audit >= 0 && p.Audit <= 1) {
		return fmt.Errorf("share of audited units %g, want 0 to 1", p.Audit)
	}
	return errors.Join(checkDigest("ringers", p.Ringers), p.Compare.check())
}

func (c Comparator) check() error {
	tolerance := func(x float64) bool { return x >= 0 && x <= math.MaxFloat64 }
	switch {
	case c.Kind == CompareBytes && c.Rel == 0 && c.Abs == 0 && c.Program == nil:
		return nil
	case c.Kind == CompareNumbers && tolerance(c.Rel) && tolerance(c.Abs) && c.Rel+c.Abs > 0 && c.Program == nil:
		return nil
	case c.Kind == CompareProgram && c.Rel == 0 && c.Abs == 0 && c.Program != nil && c.Program.Cid.Defined():
		return nil
	}
	return fmt.Errorf("comparator %q with rtol %g, atol %g: want %q alone, %q with a tolerance, or %q with a program", c.Kind, c.Rel, c.Abs, CompareBytes, CompareNumbers, CompareProgram)
}

// ID names the comparator in comparisons; it is zero for bytes.
func (c Comparator) ID() Digest {
	if c.Kind == CompareBytes {
		return Digest{}
	}
	return Sum(Encode(c))
}

// Trusts reports whether the policy lets the node's copies decide alone.
func (m Manifest) Trusts(n NodeID) bool {
	if n == m.Publisher {
		return true
	}
	for _, t := range m.Policy.Trusted {
		if t == n {
			return true
		}
	}
	return false
}

// Shards is the number of shards.
func (m Manifest) Shards() uint32 {
	shard := max(m.Shard, 1)
	return m.Units/shard + min(m.Units%shard, 1)
}

// Total is the number of units with the second stage's.
func (m Manifest) Total() uint32 {
	if m.Reduce != nil {
		return m.Units + 1
	}
	return m.Units
}

// Reduces reports whether the unit is the second stage.
func (m Manifest) Reduces(unit uint32) bool { return m.Reduce != nil && unit == m.Units }

// InputsDigest stands in grants for the inputs of their units, so that a copy
// of other inputs is void and not wrong. Of the second stage see StageInputs.
func (m Manifest) InputsDigest() Digest { return Sum(Encode(m.Inputs)) }

// UnitArgs replaces {unit}, {units} and the {columns} of the unit's table row.
// The arguments of the second stage stand for themselves.
func (m Manifest) UnitArgs(unit uint32, row map[string]string) []string {
	if m.Reduces(unit) {
		return m.Reduce.Args
	}
	pairs := []string{"{unit}", strconv.FormatUint(uint64(unit), 10), "{units}", strconv.FormatUint(uint64(m.Units), 10)}
	for _, k := range slices.Sorted(maps.Keys(row)) { // where names overlap, the first one counts
		pairs = append(pairs, "{"+k+"}", row[k])
	}
	r := strings.NewReplacer(pairs...)
	args := make([]string, len(m.Args))
	for i, a := range m.Args {
		args[i] = r.Replace(a)
	}
	return args
}
