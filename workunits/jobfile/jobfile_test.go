package jobfile

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/txtar"

	"github.com/talka-grid/talka/workunits"
)

var update = flag.Bool("update", false, "write what Parse says to testdata, to be reviewed")

// eachCase calls parse for every NAME.toml of an archive and compares what it
// returns with the file behind it.
func eachCase(t *testing.T, archive string, parse func(t *testing.T, name string, data []byte) string) {
	t.Helper()
	a, err := txtar.ParseFile(archive)
	if err != nil {
		t.Fatal(err)
	}
	if len(a.Files) == 0 || len(a.Files)%2 != 0 {
		t.Fatalf("%s has %d files", archive, len(a.Files))
	}
	for i := 0; i < len(a.Files); i += 2 {
		in, want := a.Files[i], &a.Files[i+1]
		t.Run(strings.TrimSuffix(in.Name, ".toml"), func(t *testing.T) {
			got := parse(t, in.Name, in.Data)
			if *update {
				want.Data = []byte(got)
			}
			if diff := cmp.Diff(string(want.Data), got); diff != "" {
				t.Errorf("(-want +got)\n%s", diff)
			}
		})
	}
	if *update {
		if err := os.WriteFile(archive, txtar.Format(a), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

func TestBad(t *testing.T) {
	t.Parallel()
	eachCase(t, "testdata/bad.txtar", func(t *testing.T, name string, data []byte) string {
		f, err := Parse(name, data)
		if err == nil {
			t.Fatal("no error")
		}
		if diff := cmp.Diff(File{}, f); diff != "" {
			t.Errorf("a file beside an error:\n%s", diff)
		}
		return err.Error() + "\n"
	})
}

func TestGood(t *testing.T) {
	t.Parallel()
	eachCase(t, "testdata/good.txtar", func(t *testing.T, name string, data []byte) string {
		f, err := Parse(name, data)
		if err != nil {
			t.Fatal(err)
		}
		checkFile(t, f)
		b, err := json.MarshalIndent(f, "", "\t")
		if err != nil {
			t.Fatal(err)
		}
		return string(b) + "\n"
	})
}

// TestTooLarge holds what is too long to stand in testdata.
func TestTooLarge(t *testing.T) {
	t.Parallel()
	const head = "name = \"j\"\nprogram = \"p\"\nunits.count = 1\n"
	x := func(n int) string { return strings.Repeat("x", n) }
	var inputs strings.Builder
	for i := range 1025 {
		fmt.Fprintf(&inputs, "f%d = \"x\"\n", i)
	}
	tests := []struct{ text, want string }{
		{strings.Repeat("#", MaxFile-len(head)), ""},
		{strings.Repeat("#", MaxFile-len(head)+1), "f:1:1: found 262145 bytes; a job file has at most 262144"},
		{`units.args = [""` + strings.Repeat(`, ""`, 255) + "]", ""},
		{`units.args = [""` + strings.Repeat(`, ""`, 256) + "]", "f:4:7: units.args: found a list of 257; want a list of at most 256 strings"},
		{`units.args = ["` + x(4096) + `"]`, ""},
		{
			`units.args = ["` + x(4097) + `"]`,
			`f:4:15: units.args[0]: found a string of 4097 bytes, "` + x(64) + `"...; want a string of at most 4096 bytes without a zero byte`,
		},
		{`env.A = "` + x(4094) + `"`, ""},
		{
			`env.A = "` + x(4095) + `"`,
			`f:4:5: env.A: found a string of 4095 bytes, "` + x(64) + `"...; want a string of at most 4096 bytes with its name, without a zero byte`,
		},
		{"[inputs]\n" + strings.TrimPrefix(inputs.String(), "f0 = \"x\"\n"), ""},
		{"[inputs]\n" + inputs.String(), "f:4:2: inputs: found 1025 inputs; want at most 1024; a folder counts as one"},
	}
	for _, tt := range tests {
		got := ""
		if _, err := Parse("f", []byte(head+tt.text)); err != nil {
			got = err.Error()
		}
		if got != tt.want {
			t.Errorf("%.30s: %s\nwant %s", tt.text, got, tt.want)
		}
	}
}

// checkFile holds a parsed file against the manifest's own limits.
func checkFile(t *testing.T, f File) {
	t.Helper()
	link := workunits.Link{Cid: workunits.RawCid(workunits.Sum(nil))}
	m := workunits.Manifest{
		Network: "n", Project: "p", Name: f.Name, Program: link, Units: max(1, f.Units.Count), Args: f.Args(),
		Env: f.Env, Limits: f.Limits, Policy: f.Policy, Canonical: f.Canonical, Replicas: f.Keep.Replicas,
		Days: f.Keep.Days, Active: f.Stewards.Active, Listed: f.Stewards.Listed, Shard: 1,
	}
	for _, in := range f.Inputs {
		m.Inputs = append(m.Inputs, workunits.Input{Path: in.Path, Cid: link})
	}
	if f.Comparator != "" {
		m.Policy.Compare.Program = &link
	}
	if err := m.Check(); err != nil {
		t.Error(err)
	}
	ways := 0
	for _, way := range []bool{f.Units.Count > 0, f.Units.Table != "", f.Units.Split != nil} {
		if way {
			ways++
		}
	}
	if ways != 1 || f.Program == "" || f.Stewards.Listed < f.Stewards.Active {
		t.Errorf("%d ways to make units, program %q, stewards %v", ways, f.Program, f.Stewards)
	}
	if s := f.Units.Split; s != nil && (s.Size == 0 || s.By == "" || s.Path == "") {
		t.Errorf("split %+v", *s)
	}
}

func FuzzParse(f *testing.F) {
	for _, archive := range []string{"testdata/good.txtar", "testdata/bad.txtar"} {
		a, err := txtar.ParseFile(archive)
		if err != nil {
			f.Fatal(err)
		}
		for _, file := range a.Files {
			if strings.HasSuffix(file.Name, ".toml") && len(file.Data) < 4096 {
				f.Add(file.Data)
			}
		}
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		file, err := Parse("f.toml", data)
		if err == nil {
			checkFile(t, file)
			if file.Units.Count > 0 {
				if _, err := file.UnitArgs(int(file.Units.Count)-1, nil); err != nil && !strings.Contains(err.Error(), "4096") {
					t.Error(err)
				}
			}
			return
		}
		all := []error{err}
		if many, ok := err.(interface{ Unwrap() []error }); ok {
			all = many.Unwrap()
		}
		if len(all) > maxErrors+1 {
			t.Errorf("%d errors", len(all))
		}
		lines := strings.Split(string(data), "\n")
		for _, err := range all {
			var e *Error
			if !errors.As(err, &e) {
				t.Fatalf("%T: %v", err, err)
			}
			if e.Line < 1 || e.Line > len(lines) || e.Column < 1 || e.Column > len(lines[e.Line-1])+1 {
				t.Errorf("%v: the file has no such place", e)
			}
		}
	})
}

func TestUnitArgs(t *testing.T) {
	t.Parallel()
	f := File{Units: Units{Count: 60, Args: []string{"--seed", "{unit}", "of {units}", "{a-b}/{_x.1}{a-b}", "{ unit}", "{unit", "unit}", "{{unit}}", "{1}"}}}
	row := map[string]string{"a-b": "{unit}", "_x.1": "", "other": "z"}
	got, err := f.UnitArgs(59, row)
	want := []string{"--seed", "59", "of 60", "{unit}/{unit}", "{ unit}", "{unit", "unit}", "{59}", "{1}"}
	if diff := cmp.Diff(want, got); diff != "" || err != nil {
		t.Errorf("error %v (-want +got)\n%s", err, diff)
	}
	tests := []struct {
		unit int
		row  map[string]string
		args []string
		want string
	}{
		{60, nil, nil, "unit 60 of a job with 60 units"},
		{-1, nil, nil, "unit -1 of a job with 60 units"},
		{3, map[string]string{"b": ""}, []string{"x", "{B}"}, `units.args[1] "{B}": unit 3 has no column "B" (it has unit, units, b)`},
		{0, map[string]string{"a}": ""}, nil, `column "a}": want letters, digits and . - _, a letter first, and neither unit nor units`},
		{0, map[string]string{"": ""}, nil, `column "": want letters, digits and . - _, a letter first, and neither unit nor units`},
		{0, map[string]string{"unit": ""}, nil, `column "unit": want letters, digits and . - _, a letter first, and neither unit nor units`},
		{0, map[string]string{"a": "\x00"}, []string{"{a}"}, `units.args[0] of unit 0: found "\x00"; want a string of at most 4096 bytes without a zero byte`},
		{0, map[string]string{"a": strings.Repeat("y", 4097)}, []string{"{a}"}, `units.args[0] of unit 0: found a string of 4097 bytes, "` + strings.Repeat("y", 64) + `"...; want a string of at most 4096 bytes without a zero byte`},
	}
	for _, tt := range tests {
		f := File{Units: Units{Count: 60, Args: tt.args}}
		if _, err := f.UnitArgs(tt.unit, tt.row); err == nil || err.Error() != tt.want {
			t.Errorf("UnitArgs(%d, %q) of %q: error %v, want %s", tt.unit, tt.row, tt.args, err, tt.want)
		}
	}
}

func TestSizes(t *testing.T) {
	t.Parallel()
	for in, want := range map[any]uint64{
		"0B": 0, "1B": 1, "1kB": 1000, "1KiB": 1024, "256MiB": 256 << 20, "256 MiB": 256 << 20, "1MB": 1e6, "2GB": 2e9,
		"4GiB": 4 << 30, "1TB": 1e12, "1TiB": 1 << 40, "1.5KiB": 1536, "0.5kB": 500, int64(7): 7, int64(0): 0,
	} {
		if got, ok := parseSize(in); !ok || got != want {
			t.Errorf("%v: %d, %v, want %d", in, got, ok, want)
		}
	}
	for _, in := range []any{
		"", "1", "B", ".B", "1.2.3B", "-1B", "+1B", "1e3B", "0x1B", "1_000B", "1  B", " 1B", "1B ", "1K", "1mb", "1MIB", "0.1B",
		"1KiB1B", "9999999999TiB", "NaNB", "InfB", int64(-1), int64(1) << 60, 1.5, true, nil,
	} {
		if got, ok := parseSize(in); ok {
			t.Errorf("%v is taken for %d", in, got)
		}
	}
	for n, want := range map[uint64]string{0: "0B", 1: "1B", 1000: "1kB", 1024: "1KiB", 1025: "1025B", 1e6: "1MB", 4 << 30: "4GiB", 3 << 40: "3TiB"} {
		got := formatSize(n)
		if back, ok := parseSize(got); got != want || !ok || back != n {
			t.Errorf("%d is written %s, want %s; read as %d", n, got, want, back)
		}
	}
}

// TestDistance compares with the definition.
func TestDistance(t *testing.T) {
	t.Parallel()
	var naive func(a, b string) int
	naive = func(a, b string) int {
		switch {
		case a == "" || b == "":
			return len(a) + len(b)
		case a[0] == b[0]:
			return naive(a[1:], b[1:])
		}
		return 1 + min(naive(a[1:], b), naive(a, b[1:]), naive(a[1:], b[1:]))
	}
	words := []string{"", "a", "ab", "ba", "abc", "count", "cuont", "coutn", "table", "split", "args", "arg", "memory"}
	for _, a := range words {
		for _, b := range words {
			for limit := range 5 {
				if got, want := distance(a, b, limit), min(naive(a, b), limit); got != want {
					t.Errorf("distance(%q, %q, %d) = %d, want %d", a, b, limit, got, want)
				}
			}
		}
	}
}

// TestSchema holds the list of fields against the package's documentation.
func TestSchema(t *testing.T) {
	t.Parallel()
	source, err := os.ReadFile("jobfile.go")
	if err != nil {
		t.Fatal(err)
	}
	doc, _, _ := strings.Cut(string(source), "\npackage jobfile")
	for _, s := range schema {
		_, section, found := strings.Cut(doc, "\n//\t["+s.table+"]")
		if s.table == "" {
			section, found = doc, true
		} else {
			section, _, _ = strings.Cut(section, "\n//\n")
		}
		if !found {
			t.Errorf("[%s] is not documented", s.table)
		}
		for _, f := range s.fields {
			if !strings.Contains(section, "\n//\t"+f+" ") && !strings.Contains(doc, "\n//\t["+f+"]") {
				t.Errorf("%s in [%s] is not documented", f, s.table)
			}
		}
	}
}

func TestAt(t *testing.T) {
	t.Parallel()
	text := []byte("name = \"x\"\nprogram = \"p.wasm\"\n[units]\ncount = 1\n[inputs]\n\"a.txt\" = \"b\"\n")
	for field, want := range map[string]string{
		"program":                "job.toml:2:1: program: gone",
		Field("inputs", "a.txt"): `job.toml:6:1: inputs."a.txt": gone`,
		"units.stdin":            "job.toml:1:1: units.stdin: gone", // not in the file
	} {
		if got := At("job.toml", text, field, "gone").Error(); got != want {
			t.Errorf("%s: %s, want %s", field, got, want)
		}
	}
}
