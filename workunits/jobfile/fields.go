package jobfile

import (
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/talka-grid/talka/workunits"
)

// What sources, arguments and names must be, as errors say it.
const (
	wantSource = "a path or CID"
	wantArg    = "a string of at most 4096 bytes without a zero byte"
	wantEnv    = "a string of at most 4096 bytes with its name, without a zero byte"
	wantName   = "1 to 64 letters, digits and, after the first, . - _"
	wantStdin  = "the path of an input, or of the piece of split, in the unit's tree"
)

// file reads the whole document.
func (d *document) file() File {
	top := d.top()
	top.require("name", "the job's name, "+wantName)
	top.require("program", "the path or CID of a WebAssembly module")
	top.require("units", `a table [units] with count, table or split`)
	f := File{
		Name:       top.text("name", "", wantName, func(s string) bool { return workunits.ValidName(s) == nil }),
		Program:    top.text("program", "", wantSource, isSource),
		Canonical:  top.choice("numeric", "", "", "canonical") == "canonical",
		Inputs:     inputs(top.sub("inputs")),
		Env:        env(top.sub("env")),
		Limits:     limits(top.sub("limits")),
		Policy:     policy(top.sub("verify")),
		Comparator: top.sub("verify").text("comparator", "", wantSource, isSource),
		Keep:       keep(top.sub("keep")),
		Stewards:   stewards(top.sub("stewards")),
	}
	f.Script = top.text("script", "", wantSource, isSource)
	if top.has("script") {
		f.script(top)
	}
	if t := top.sub("units"); t.values != nil {
		f.Units = units(t, f.Inputs)
		f.Units.Time = t.millis("time", max(1, f.Limits.Wall/10))
	}
	if f.Script != "" && len(f.Units.Args) == workunits.MaxArgs {
		top.fail("script", fmt.Sprintf("is an argument itself; want at most %d others in units.args", workunits.MaxArgs-1))
	}
	if reduce := top.sub("reduce"); reduce.values != nil {
		reduce.require("program", "the path or CID of a WebAssembly module")
		f.Reduce = &Reduce{reduce.text("program", "", wantSource, isSource), reduce.args(nil)}
	}
	return f
}

// script makes the script an input, and turns its source into its path.
func (f *File) script(top table) {
	source := f.Script
	if f.Script = path.Base(source); path.Ext(f.Script) != ".py" {
		f.Script = "script.py" // a CID has no name
	}
	switch {
	case f.Program != Python:
		top.fail("script", fmt.Sprintf("found with program %q; want program = %q", f.Program, Python))
	case source == "":
	case !validInput(f.Script) || len(placeholders(f.Script)) > 0:
		top.fail("script", "its file cannot stand in the unit's tree; want a name without control characters and {placeholders}")
	case len(f.Inputs) >= workunits.MaxInputs:
		top.fail("script", fmt.Sprintf("is an input itself; want at most %d others", workunits.MaxInputs-1))
	case slices.ContainsFunc(f.Inputs, func(in Input) bool { return within(in.Path, f.Script) || within(f.Script, in.Path) }):
		top.fail("script", fmt.Sprintf("stands in the unit's tree as %q, where an input is; rename one of them", f.Script))
	default:
		f.Inputs = append(f.Inputs, Input{f.Script, source})
		slices.SortFunc(f.Inputs, func(a, b Input) int { return strings.Compare(a.Path, b.Path) })
	}
}

func isSource(s string) bool { return s != "" && isArg(s) }

func isArg(s string) bool { return len(s) <= workunits.MaxArgLen && !strings.ContainsRune(s, 0) }

func units(t table, inputs []Input) Units {
	u := Units{
		Count: t.integer32("count", 0, 1, workunits.MaxUnits),
		Table: t.text("table", "", wantSource, isSource),
		Split: split(t),
	}
	var ways []string
	for _, key := range []string{"count", "table", "split"} {
		if t.has(key) {
			ways = append(ways, key)
		}
	}
	switch {
	case len(ways) == 0 && !t.hasUnknown():
		t.doc.fail(t.name, "count, table and split are missing; want one of them")
	case len(ways) > 1:
		t.fail(ways[1], "found beside "+ways[0]+"; want only one of count, table and split")
	}
	known := []string{"unit", "units"}
	if t.has("table") {
		known = nil // the table's columns are not known here
	}
	u.Args = t.args(known)
	u.Stdin = t.text("stdin", "", wantStdin, func(s string) bool {
		return u.Split != nil && s == u.Split.Path || workunits.ValidPath(s) &&
			slices.ContainsFunc(inputs, func(in Input) bool { return within(s, in.Path) })
	})
	if s := u.Split; s != nil && s.Path != "" {
		for _, in := range inputs {
			if within(s.Path, in.Path) || within(in.Path, s.Path) {
				t.fail("split", fmt.Sprintf("its piece stands in the unit's tree as %q, where input %q is; rename one of them", s.Path, in.Path))
			}
		}
	}
	return u
}

// split reads split, by and size; nil if there is no split.
func split(t table) *Split {
	if !t.has("split") {
		for _, key := range []string{"by", "size"} {
			if t.has(key) {
				t.fail(key, "found without split, which it belongs to")
			}
		}
		return nil
	}
	t.require("by", `"lines", "records" or "bytes"`)
	t.require("size", "the size of a piece")
	s := &Split{
		Source: t.text("split", "", wantSource, isSource),
		By:     Cut(t.choice("by", "", string(ByLines), string(ByRecords), string(ByBytes))),
	}
	if s.Path = path.Base(s.Source); s.Source != "" && !validInput(s.Path) {
		t.reject("split", "a path or CID whose last part can be a file in the unit's tree: "+wantPath)
	}
	if s.By == ByBytes {
		s.Size = t.size("size", 0, 1, 1<<40)
	} else {
		s.Size = t.integer("size", 0, 1, 1<<40)
	}
	return s
}

// args reads arguments; known are the placeholders allowed in them, nil for any.
func (t table) args(known []string) []string {
	args := t.list("args", workunits.MaxArgs, wantArg, isArg)
	if known == nil && t.name == "units" {
		return args
	}
	for i, a := range args {
		for _, p := range placeholders(a) {
			if slices.Contains(known, p) {
				continue
			}
			field := join(t.name, "args")
			want := "no placeholder here"
			if known != nil {
				want = "{unit} or {units}; {column} needs table = \"FILE.csv\""
			}
			t.doc.fail(element(field, i), "found {"+p+"}; want "+want, field)
		}
	}
	return args
}

const wantPath = "a clean relative path without control characters, not in out, scratch or checkpoint"

// validInput reports whether a file can stand at p in a unit's tree.
func validInput(p string) bool {
	first, _, _ := strings.Cut(p, "/")
	return workunits.ValidPath(p) &&
		!slices.Contains([]string{"out", "scratch", "checkpoint"}, first)
}

// within reports whether path p is folder or stands in it.
func within(p, folder string) bool { return p == folder || strings.HasPrefix(p, folder+"/") }

func inputs(t table) []Input {
	if len(t.values) > workunits.MaxInputs {
		t.doc.fail(t.name, fmt.Sprintf("found %d inputs; want at most %d; a folder counts as one", len(t.values), workunits.MaxInputs))
		return nil
	}
	var list []Input
	for _, p := range t.keys() {
		if _, isTable := t.values[p].(map[string]any); isTable {
			t.reject(p, wantSource+`; a path with a dot stands in quotes: "start.xyz" = "start.xyz"`)
			continue
		}
		if !validInput(p) {
			t.fail(p, "not a path of the unit's tree; want "+wantPath)
		}
		list = append(list, Input{p, t.text(p, "", wantSource, isSource)})
	}
	// In the order of keys, "a" need not stand beside "a/b".
	seen := map[string]bool{}
	for _, in := range list {
		seen[in.Path] = true
	}
	for _, in := range list {
		for up := path.Dir(in.Path); up != "." && up != "/"; up = path.Dir(up) {
			if seen[up] {
				t.fail(in.Path, fmt.Sprintf("lies inside input %q; want inputs beside each other", up))
			}
		}
	}
	return list
}

func env(t table) []string {
	if len(t.values) > workunits.MaxArgs {
		t.doc.fail(t.name, fmt.Sprintf("found %d variables; want at most %d", len(t.values), workunits.MaxArgs))
		return nil
	}
	var list []string
	for _, name := range t.keys() {
		if strings.Trim(name, "0123456789_abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ") != "" || name == "" || name[0] <= '9' {
			t.fail(name, "not a variable's name; want letters, digits and _, no digit first")
			continue
		}
		value := t.text(name, "", wantEnv, func(s string) bool { return isArg(name + "=" + s) })
		list = append(list, name+"="+value)
	}
	return list
}

func limits(t table) workunits.Limits {
	if t.has("checkpoint") && t.has("calls") {
		t.fail("calls", "found beside checkpoint, which how many there are depends on; leave one of them out")
	}
	wall := t.millis("time", 10*60*1000)
	return workunits.Limits{
		Memory: t.size("memory", 256<<20, 64<<10, workunits.MaxMemory),
		Wall:   wall,
		CPU:    t.millis("cpu", wall),
		Output: t.size("output", 1<<20, 1, workunits.MaxOutput),
		Files:  t.integer32("files", 1000, 1, workunits.MaxFiles),
		Log:    t.size("log", 64<<10, 0, workunits.MaxLog),
		Tries:  t.integer32("tries", 5, 1, workunits.MaxTries),
		File:   t.size("file", 0, 1, workunits.MaxOutput),
		Calls:  t.integer("calls", 0, 1, workunits.MaxCalls),

		Checkpoint: t.size("checkpoint", 0, 1, workunits.MaxOutput),
	}
}

func policy(t table) workunits.Policy {
	p := workunits.Policy{
		Mode:       workunits.VerifyMode(t.choice("mode", string(workunits.VerifyAudit), string(workunits.VerifyAudit), string(workunits.VerifyNone))),
		Error:      t.rate("error", 1e-4, 1),
		Share:      t.rate("share", 0.2, 0.5),
		Compare:    comparator(t),
		MinCopies:  t.integer32("min_copies", 1, 1, 16),
		MaxAgree:   t.integer32("max_agree", 2, 0, 16),
		HistoryCap: t.integer32("history_cap", 0, 0, 1<<31),
	}
	if t.has("audit") {
		p.Audit = t.rate("audit", 0.01, 1)
	}
	if p.MaxAgree == 1 {
		t.reject("max_agree", `0 for no cap, or 2 to 16; for one copy a unit, mode = "none"`)
	}
	seen := map[workunits.NodeID]bool{}
	t.list("trusted", workunits.MaxTrusted, "a node id that is not in the list yet", func(s string) bool {
		id, err := workunits.ParseNodeID(s)
		if err != nil || seen[id] {
			return false
		}
		seen[id] = true
		p.Trusted = append(p.Trusted, id)
		return true
	})
	return p
}

func comparator(t table) workunits.Comparator {
	c := workunits.Comparator{
		Kind: workunits.Compare(t.choice("compare", string(workunits.CompareBytes), string(workunits.CompareBytes), string(workunits.CompareNumbers), string(workunits.CompareProgram))),
		Rel:  t.tolerance("rtol"), Abs: t.tolerance("atol"),
	}
	switch tolerant := c.Rel > 0 || c.Abs > 0; {
	case c.Kind == workunits.CompareNumbers && !tolerant:
		t.fail("compare", `numbers want a tolerance: set rtol, atol or both, as in "rtol = 1e-9"`)
	case c.Kind != workunits.CompareNumbers && tolerant:
		t.fail("compare", `a tolerance is for compare = "numbers"`)
	case c.Kind == workunits.CompareProgram && !t.has("comparator"):
		t.fail("compare", `set comparator to the program that compares, as in "comparator = \"same.wasm\""`)
	case c.Kind != workunits.CompareProgram && t.has("comparator"):
		t.fail("comparator", `a comparator is for compare = "program"`)
	}
	return c
}

func keep(t table) Keep {
	return Keep{Replicas: t.integer32("replicas", 3, 1, 100), Days: t.integer32("days", 30, 1, workunits.MaxDays)}
}

func stewards(t table) Stewards {
	s := Stewards{
		Active: t.integer32("active", 3, 1, workunits.MaxStewards),
		Listed: t.integer32("listed", 8, 1, workunits.MaxStewards),
	}
	switch {
	case s.Active <= s.Listed:
	case t.has("listed"):
		t.reject("listed", fmt.Sprintf("at least the %d that are active", s.Active))
	default:
		s.Listed = s.Active
	}
	return s
}
