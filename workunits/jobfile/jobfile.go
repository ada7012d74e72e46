// Package jobfile reads the file in which a researcher describes a job.
//
// A job file is TOML. Parse accepts a file only if every field is known and
// every value allowed; what it returns needs no further checks, except of what
// stands outside the file (the program, inputs, the table's columns). Its errors
// name file, line, column and field, what was found and what is allowed.
//
// # Fields and defaults
//
//	name      required; 1 to 64 letters, digits, and after the first . - _
//	program   required; path or CID of a WebAssembly module (WASI preview 1), or
//	          "python" for the interpreter that Talka names
//	script    path or CID of the Python script that "python" runs; it stands in the
//	          unit's tree under its name and goes before args
//	numeric   "" or "canonical": NaNs get one bit pattern on every architecture
//
//	[units]   required, with exactly one of count, table and split
//	count     units; 1 to 10 million
//	table     path or CID of a CSV file: a header, then one unit a row
//	split     path or CID of a file that is cut into one piece a unit, which
//	          stands in the unit's tree under the file's name; needs by and size
//	by        where to cut: "lines", "records" or "bytes"
//	size      of a piece: a number of lines or records, or bytes as "64MiB"
//	args      at most 256 of 4 KiB; {unit} is the unit's number from 0, {units} the
//	          number of units, {column} the value in the unit's row of the table
//	stdin     path of a file in the unit's tree: an input, a file in one, or the
//	          piece of split; the program reads it as its standard input
//	time      a tenth of limits.time; what one copy takes. What volunteers earn in
//	          this job, and what earlier jobs of the project count for, goes by it
//
//	[inputs]  path in the unit's tree = path or CID; at most 1,024
//	[env]     NAME = value; at most 256
//
//	[limits]  of one copy
//	memory    "256MiB"; 64KiB to 4GiB
//	time      "10m"; 1ms to 720h; scaled by a volunteer's measured speed
//	cpu       as time
//	output    "1MiB"; 1B to 64GiB of /out and standard output together
//	files     1000; 1 to 1 million files in /out
//	file      as output; bytes of each file in /out, and of standard output
//	calls     any number; 1 to 2^48 calls of the functions of WASI; one more is a trap
//	log       "64KiB"; up to 16MiB of standard error kept
//	checkpoint  nothing; 1B to 64GiB of what the program saves in /checkpoint, kept for
//	          a later run of the copy, where one was cut short. It must come to the same
//	          with and without; not beside calls
//	tries     5; void copies after which a unit fails; 1 to 100
//
//	[verify]
//	mode        "audit", or "none" for volunteers who are trusted
//	error       1e-4; accepted wrong rate, more than 0 and less than 1
//	share       0.2; assumed share of colluding volunteers, less than 0.5
//	compare     "bytes", or "numbers" for text whose numbers agree within a tolerance,
//	            or "program"
//	comparator  the program that compares: path or CID. It finds two results of a unit
//	            as reduce does, in /a and /b, and exits with 0 where they agree
//	rtol        0; relative tolerance of numbers: a and b agree if |a-b| <= atol + rtol*|b|
//	atol        0; absolute tolerance of numbers
//	min_copies  1; agreeing copies that every unit needs; at most 16
//	max_agree   2; agreeing copies that are always enough, 0 for no cap; at most 16
//	history_cap 0; largest stake from earlier jobs that counts, 0 for no cap
//	audit       0; share of the accepted units, chosen at random, that this node executes
//	            itself while it is online, so that the error bound rests on no
//	            stranger's word; less than 1
//	trusted     node ids of volunteers whose copies decide alone; at most 1,024
//
//	[keep]
//	replicas  3; complete copies kept of inputs and results; 1 to 100
//	days      30; for how long; 1 to 3,650
//
//	[reduce]  second stage: one more unit, over the accepted results of at most
//	          50,000 units; none unless the table is there. It opens when all of
//	          them are accepted and fails if one has failed; env, limits and verify
//	          hold for it too. It finds /units/000017/status ("exit 0"), stdout and
//	          out/... of unit 17, and nothing of inputs
//	program   required
//	args      as of units, without placeholders
//
//	[stewards]
//	active    3; stewards that act at a time
//	listed    8; stewards of the succession list; active to 32
//
// Sizes are whole numbers of bytes, or strings with the unit B, kB, MB, GB, TB
// (powers of 1000), KiB, MiB, GiB or TiB. Durations are strings as "90s", "10m"
// or "1h30m".
//
// The package is pure.
package jobfile

import (
	"cmp"
	"errors"
	"fmt"
	"slices"

	"github.com/talka-grid/talka/workunits"
)

// MaxFile is the size of the largest job file, in bytes.
const MaxFile = 256 << 10

// File is a job as its researcher describes it. A Source is a path, relative to
// the job file, or a CID.
type File struct {
	Name       string
	Program    string // source, or Python
	Script     string // path in the tree of the input that is the interpreter's first argument; empty for none
	Canonical  bool   // numeric = "canonical"
	Units      Units
	Inputs     []Input  // ascending by path
	Env        []string // NAME=value, ascending
	Limits     workunits.Limits
	Policy     workunits.Policy // Price is left 0: what an identity costs is the network's matter
	Comparator string           // source of the program that compares results, empty for none; not in Policy
	Keep       Keep
	Reduce     *Reduce // nil without a second stage
	Stewards   Stewards
}

// Python stands for Talka's Python interpreter where a program is named.
const Python = "python"

// Args are the arguments of every unit, with placeholders: the script, if there
// is one, and then those of the file.
func (f File) Args() []string {
	if f.Script == "" {
		return f.Units.Args
	}
	return append([]string{f.Script}, f.Units.Args...)
}

// Units says what the units are: exactly one of Count, Table and Split is set.
type Units struct {
	Count uint32
	Table string // source of a CSV file
	Split *Split
	Args  []string // with placeholders, see File.UnitArgs
	Time  uint64   // milliseconds that one copy takes
	Stdin string   // path in the unit's tree, empty for none
}

// Split cuts a file into one piece a unit.
type Split struct {
	Source string
	Path   string // of the piece in the unit's tree
	By     Cut
	Size   uint64 // of a piece, in what By says
}

// Cut is where a file may be cut.
type Cut string

// The cuts. A record is what the file's format calls one (FASTA, FASTQ, CSV).
const (
	ByLines   Cut = "lines"
	ByRecords Cut = "records"
	ByBytes   Cut = "bytes"
)

// Input is a file or folder of every unit's tree.
type Input struct {
	Path   string // in the tree
	Source string
}

// Keep says how a job's inputs and results are kept.
type Keep struct {
	Replicas uint32
	Days     uint32
}

// Reduce is a second stage over the results of all units.
type Reduce struct {
	Program string // source, or Python
	Args    []string
}

// Stewards says how many look after the job.
type Stewards struct {
	Active uint32 // that act at a time
	Listed uint32 // of the succession list
}

// Error is one problem of a job file.
type Error struct {
	File         string // as given to Parse
	Line, Column int    // from 1; the column counts bytes
	Field        string // as "units.count"; empty where the file is not TOML
	Problem      string // what was found and what is allowed
}

func (e *Error) Error() string {
	if e.Field == "" {
		return fmt.Sprintf("%s:%d:%d: %s", e.File, e.Line, e.Column, e.Problem)
	}
	return fmt.Sprintf("%s:%d:%d: %s: %s", e.File, e.Line, e.Column, e.Field, e.Problem)
}

// maxErrors is how many problems of a file are told.
const maxErrors = 20

// Parse reads a job file; name stands in errors. All problems are joined in the
// order of their place, each an *Error.
func Parse(name string, data []byte) (File, error) {
	d, err := read(name, data)
	if err != nil {
		return File{}, err
	}
	f := d.file()
	if len(d.problems) == 0 {
		return f, nil
	}
	slices.SortStableFunc(d.problems, func(a, b problem) int { return cmp.Compare(a.offset, b.offset) })
	var errs []error
	for _, p := range d.problems[:min(len(d.problems), maxErrors)] {
		errs = append(errs, d.errorAt(p))
	}
	if more := len(d.problems) - maxErrors; more > 0 {
		p := d.problems[maxErrors]
		errs = append(errs, d.errorAt(problem{p.offset, "", fmt.Sprintf("%d more problems from here", more)}))
	}
	return File{}, errors.Join(errs...)
}

// At returns a problem that was found outside a job file that Parse accepts,
// such as a program that is not there, with the place of the field that it is
// about. Field is written as in other errors, see [Field].
func At(name string, data []byte, field, problem string) *Error {
	d, err := read(name, data)
	if err != nil {
		return &Error{File: name, Line: 1, Column: 1, Field: field, Problem: problem}
	}
	d.fail(field, problem)
	return d.errorAt(d.problems[0])
}

// Field is the field of a key in a table, as errors write it: "inputs.a" or
// `inputs."a.txt"`.
func Field(table, key string) string { return join(table, key) }
