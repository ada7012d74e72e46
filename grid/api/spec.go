package api

import (
	"errors"
	"fmt"

	"github.com/ipfs/go-cid"

	"github.com/talka-grid/talka/grid"
	"github.com/talka-grid/talka/workunits"
)

// JobSpec is a job as a client submits it: a manifest without what the node
// adds (publisher, network, time). CIDs are in their text form.
type JobSpec struct {
	Project   string      `json:"project" doc:"Name of a project of this node"`
	Name      string      `json:"name"`
	Program   string      `json:"program" doc:"CID of a WebAssembly module"`
	Units     uint32      `json:"units"`
	Args      []string    `json:"args,omitempty" doc:"{unit} and {column} stand for the unit's values"`
	Env       []string    `json:"env,omitempty" doc:"KEY=value"`
	Stdin     string      `json:"stdin,omitempty" doc:"Path of a file in the unit's tree"`
	Table     string      `json:"table,omitempty" doc:"CID of a CSV file with one unit a row"`
	Inputs    []InputSpec `json:"inputs,omitempty"`
	Reduce    *StageSpec  `json:"reduce,omitempty" doc:"Second stage over the results of all units"`
	Limits    LimitsSpec  `json:"limits"`
	Policy    PolicySpec  `json:"policy"`
	Canonical bool        `json:"canonical,omitempty" doc:"Canonical NaN bit patterns"`
	Replicas  uint32      `json:"replicas,omitempty"`
	Days      uint32      `json:"days" doc:"That inputs and results are kept"`
	Active    uint32      `json:"active" doc:"Stewards that act at a time"`
	Listed    uint32      `json:"listed" doc:"Stewards of the succession list"`
	Shard     uint32      `json:"shard" doc:"Units of a shard"`
	Nominal   uint64      `json:"nominal,omitempty" doc:"Milliseconds that one copy takes"`
	Standing  string      `json:"standing,omitempty" doc:"CID of the project's standing"`
}

// InputSpec is a file or folder of every unit's tree.
type InputSpec struct {
	Path    string `json:"path"`
	Cid     string `json:"cid"`
	PerUnit bool   `json:"per_unit,omitempty" doc:"The CID is a folder; each unit sees the entry of its number"`
}

// StageSpec is a second stage; see workunits.Stage.
type StageSpec struct {
	Program string   `json:"program" doc:"CID of a WebAssembly module"`
	Args    []string `json:"args,omitempty"`
}

// LimitsSpec bounds one copy; see workunits.Limits.
type LimitsSpec struct {
	Memory uint64 `json:"memory" doc:"Bytes"`
	Output uint64 `json:"output" doc:"Bytes"`
	Files  uint32 `json:"files"`
	Log    uint64 `json:"log" doc:"Bytes"`
	Wall   uint64 `json:"wall" doc:"Milliseconds"`
	CPU    uint64 `json:"cpu" doc:"Milliseconds"`
	Tries  uint32 `json:"tries"`
	File   uint64 `json:"file,omitempty" doc:"Bytes of one file; 0: as output"`
	Calls  uint64 `json:"calls,omitempty" doc:"0: any number"`

	Checkpoint uint64 `json:"checkpoint,omitempty" doc:"Bytes of /checkpoint kept from run to run of a copy"`
}

// PolicySpec is the verification policy; see workunits.Policy.
type PolicySpec struct {
	Mode       string             `json:"mode" enum:"audit,none"`
	Error      float64            `json:"error" doc:"Accepted wrong rate"`
	Share      float64            `json:"share" doc:"Assumed share of colluding volunteers"`
	Price      float64            `json:"price" doc:"Price of an identity, in units; 0 for what it costs here"`
	MinCopies  uint32             `json:"min_copies,omitempty"`
	MaxAgree   uint32             `json:"max_agree,omitempty"`
	HistoryCap uint32             `json:"history_cap,omitempty"`
	Compare    string             `json:"compare" enum:"bytes,numbers,program"`
	Comparator string             `json:"comparator,omitempty" doc:"CID of the program that compares results"`
	Rel        float64            `json:"rtol,omitempty" doc:"Relative tolerance of numbers"`
	Abs        float64            `json:"atol,omitempty" doc:"Absolute tolerance of numbers"`
	Ringers    []byte             `json:"ringers,omitempty" doc:"Digest that binds the publisher to the units whose answers it knows"`
	Trusted    []workunits.NodeID `json:"trusted,omitempty"`
	Audit      float64            `json:"audit,omitempty" doc:"Share of the accepted units that this node executes itself"`
}

// SpecOf is the spec of a manifest; it leaves out what the node adds.
func SpecOf(m workunits.Manifest) JobSpec {
	s := JobSpec{
		Project: m.Project, Name: m.Name, Program: m.Program.Cid.String(), Units: m.Units,
		Args: m.Args, Env: m.Env, Stdin: m.Stdin, Nominal: m.Nominal, Limits: LimitsSpec(m.Limits),
		Policy: PolicySpec{
			Mode: string(m.Policy.Mode), Error: m.Policy.Error, Share: m.Policy.Share, Price: m.Policy.Price,
			MinCopies: m.Policy.MinCopies, MaxAgree: m.Policy.MaxAgree, HistoryCap: m.Policy.HistoryCap,
			Compare: string(m.Policy.Compare.Kind), Rel: m.Policy.Compare.Rel, Abs: m.Policy.Compare.Abs, Ringers: m.Policy.Ringers, Trusted: m.Policy.Trusted, Audit: m.Policy.Audit,
		},
		Canonical: m.Canonical, Replicas: m.Replicas, Days: m.Days, Active: m.Active, Listed: m.Listed, Shard: m.Shard,
	}
	if m.Reduce != nil {
		s.Reduce = &StageSpec{m.Reduce.Program.Cid.String(), m.Reduce.Args}
	}
	if c := m.Policy.Compare.Program; c != nil {
		s.Policy.Comparator = c.Cid.String()
	}
	if m.Table != nil {
		s.Table = m.Table.Cid.String()
	}
	if m.Standing != nil {
		s.Standing = m.Standing.Cid.String()
	}
	for _, in := range m.Inputs {
		s.Inputs = append(s.Inputs, InputSpec{in.Path, in.Cid.Cid.String(), in.PerUnit})
	}
	return s
}

// Manifest is the inverse of SpecOf. Values are checked when the node signs.
func (s JobSpec) Manifest() (workunits.Manifest, error) {
	program, err1 := parseLink("program", s.Program)
	table, err2 := optionalLink("table", s.Table)
	standing, err3 := optionalLink("standing", s.Standing)
	comparator, err4 := optionalLink("comparator", s.Policy.Comparator)
	m := workunits.Manifest{
		Project: s.Project, Name: s.Name, Program: program, Units: s.Units,
		Args: s.Args, Env: s.Env, Stdin: s.Stdin, Nominal: s.Nominal, Table: table, Limits: workunits.Limits(s.Limits),
		Policy: workunits.Policy{
			Mode: workunits.VerifyMode(s.Policy.Mode), Error: s.Policy.Error, Share: s.Policy.Share, Price: s.Policy.Price,
			MinCopies: s.Policy.MinCopies, MaxAgree: s.Policy.MaxAgree, HistoryCap: s.Policy.HistoryCap,
			Compare: workunits.Comparator{Kind: workunits.Compare(s.Policy.Compare), Rel: s.Policy.Rel, Abs: s.Policy.Abs, Program: comparator}, Ringers: s.Policy.Ringers, Trusted: s.Policy.Trusted, Audit: s.Policy.Audit,
		},
		Canonical: s.Canonical, Replicas: s.Replicas, Days: s.Days, Active: s.Active, Listed: s.Listed, Shard: s.Shard, Standing: standing,
	}
	err := errors.Join(err1, err2, err3, err4)
	if s.Reduce != nil {
		second, stageErr := parseLink("program of the second stage", s.Reduce.Program)
		err = errors.Join(err, stageErr)
		m.Reduce = &workunits.Stage{Program: second, Args: s.Reduce.Args}
	}
	for _, in := range s.Inputs {
		link, inErr := parseLink("input "+in.Path, in.Cid)
		err = errors.Join(err, inErr)
		m.Inputs = append(m.Inputs, workunits.Input{Path: in.Path, Cid: link, PerUnit: in.PerUnit})
	}
	return m, err
}

func optionalLink(field, s string) (*workunits.Link, error) {
	if s == "" {
		return nil, nil
	}
	l, err := parseLink(field, s)
	return &l, err
}

func parseLink(field, s string) (workunits.Link, error) {
	c, err := parseCid(s)
	if err != nil {
		return workunits.Link{}, fmt.Errorf("%s: %w", field, err)
	}
	return workunits.Link{Cid: c}, nil
}

func parseCid(s string) (cid.Cid, error) {
	if len(s) > 128 {
		return cid.Undef, fmt.Errorf("CID of %d characters: %w", len(s), workunits.ErrID)
	}
	c, err := cid.Decode(s)
	if err != nil {
		return cid.Undef, fmt.Errorf("CID %q: %w: %w", s, err, workunits.ErrID)
	}
	return c, nil
}

// Result is an accepted result, or a unit that failed.
type Result struct {
	Unit   uint32 `json:"unit"`
	Reduce bool   `json:"reduce,omitempty" doc:"The second stage, numbered after the units"`
	Failed bool   `json:"failed"`
	How    string `json:"how,omitempty" doc:"How the program ended: exit, trap or output limit"`
	Code   uint32 `json:"code" doc:"Exit code"`
	Trap   string `json:"trap,omitempty"`
	Stdout File   `json:"stdout"`
	Files  []File `json:"files"`
}

// File is what a unit wrote: inline, or by the CID under which the node's store
// has it.
type File struct {
	Path  string `json:"path,omitempty" doc:"In the unit's /out; empty for standard output"`
	Bytes uint64 `json:"bytes"`
	Data  []byte `json:"data,omitempty"`
	Cid   string `json:"cid,omitempty"`
}

func resultOf(u grid.UnitResult) Result {
	r := Result{
		Unit: u.Unit, Reduce: u.Reduce, Failed: u.Failed, How: string(u.Outcome.How), Code: u.Outcome.Code, Trap: u.Outcome.Trap,
		Stdout: fileOf(u.Outcome.Out), Files: make([]File, 0, len(u.Outcome.Files)),
	}
	for _, f := range u.Outcome.Files {
		r.Files = append(r.Files, fileOf(f))
	}
	return r
}

func fileOf(f workunits.OutFile) File {
	file := File{Path: f.Path, Bytes: f.Size, Data: f.Data}
	if f.Cid != nil {
		file.Cid = f.Cid.Cid.String()
	}
	return file
}
