package apps

import (
	"bufio"
	"bytes"
	"context"
	cryptosha256 "crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/imports/wasi_snapshot_preview1"
	"github.com/tetratelabs/wazero/sys"
)

// program is a compiled module that runs with wazero's own WASI.
type program struct {
	runtime  wazero.Runtime
	compiled wazero.CompiledModule
}

func compile(t *testing.T, wasm []byte) program {
	t.Helper()
	r := wazero.NewRuntime(t.Context())
	t.Cleanup(func() { _ = r.Close(context.Background()) })
	wasi_snapshot_preview1.MustInstantiate(t.Context(), r)
	c, err := r.CompileModule(t.Context(), wasm)
	if err != nil {
		t.Fatal(err)
	}
	return program{r, c}
}

// run executes the program with dirs (path in the tree: path here) and returns
// what it prints and its exit code.
func (p program) run(t *testing.T, dirs map[string]string, args ...string) (stdout, stderr string, code uint32) {
	t.Helper()
	var out, errs bytes.Buffer
	tree := wazero.NewFSConfig()
	for guest, host := range dirs {
		tree = tree.WithDirMount(host, guest)
	}
	m, err := p.runtime.InstantiateModule(t.Context(), p.compiled, wazero.NewModuleConfig().WithName("").
		WithArgs(append([]string{"program"}, args...)...).WithStdout(&out).WithStderr(&errs).WithFSConfig(tree))
	if err == nil {
		err = m.Close(t.Context())
	}
	if exit := (*sys.ExitError)(nil); errors.As(err, &exit) {
		return out.String(), errs.String(), exit.ExitCode()
	}
	if err != nil {
		t.Fatal(err)
	}
	return out.String(), errs.String(), 0
}

func TestDigests(t *testing.T) {
	t.Parallel()
	want, err := os.ReadFile("SHA256SUMS")
	if err != nil {
		t.Fatal(err)
	}
	got := fmt.Sprintf("%x  lj/lj.wasm\n", cryptosha256.Sum256(LJ()))
	got += fmt.Sprintf("%x  best/best.wasm\n", cryptosha256.Sum256(Best()))
	for _, k := range Kernels() {
		got += fmt.Sprintf("%x  kernels/%s.wasm\n", cryptosha256.Sum256(k.Wasm), k.Name)
	}
	for _, name := range []string{"probe/c.wasm", "probe/cpp.wasm", "probe/rust.wasm"} {
		code, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		got += fmt.Sprintf("%x  %s\n", cryptosha256.Sum256(code), name)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("embedded programs are not those of SHA256SUMS; run make apps (-want +got)\n%s", diff)
	}
}

// TestRebuild copies the source elsewhere and builds it there.
func TestRebuild(t *testing.T) {
	t.Parallel()
	version, err := exec.Command("clang-14", "--version").Output()
	if err != nil || !strings.HasPrefix(string(version), "Debian clang version 14.0.6") {
		t.Skip("the committed bytes are made by Debian's clang 14.0.6, which is not here")
	}
	for what, path := range map[string]string{"wasi-libc": "/usr/include/wasm32-wasi", "Debian's rustc": "/usr/bin/rustc", "libstd-rust-dev-wasm32": "/usr/lib/rustlib/wasm32-wasi", "libc++abi-14-dev-wasm32": "/usr/lib/wasm32-wasi/libc++abi.a"} {
		if _, err := os.Stat(path); err != nil {
			t.Skip(what, " is not here")
		}
	}
	dir := filepath.Join(t.TempDir(), "another place")
	if err := os.CopyFS(dir, os.DirFS(".")); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("bash", filepath.Join(dir, "build.sh")).CombinedOutput(); err != nil {
		t.Fatalf("build.sh: %v\n%s", err, out)
	}
	want, _ := os.ReadFile("SHA256SUMS")
	got, err := os.ReadFile(filepath.Join(dir, "SHA256SUMS"))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), string(got)); diff != "" {
		t.Errorf("the source gives other bytes (-committed +built)\n%s", diff)
	}
}

func TestLJ(t *testing.T) {
	t.Parallel()
	p := compile(t, LJ())
	tests := []struct {
		atoms, steps int
		seeds        int // tried until one finds the published minimum
	}{{13, 200, 5}, {19, 200, 5}, {26, 200, 5}, {38, 600, 8}}
	for _, tt := range tests {
		published, ok := LJMinimum(tt.atoms)
		if !ok {
			t.Fatalf("no published minimum for %d atoms", tt.atoms)
		}
		found := false
		for seed := 1; seed <= tt.seeds && !found; seed++ {
			e := runLJ(t, p, tt.atoms, tt.steps, seed)
			if e < published-1e-6 {
				t.Errorf("%d atoms, seed %d: %.9f is below the published minimum %.6f", tt.atoms, seed, e, published)
			}
			found = math.Abs(e-published) < 1e-6
		}
		if !found {
			t.Errorf("%d atoms: no seed of %d finds %.6f", tt.atoms, tt.seeds, published)
		}
	}
}

// runLJ runs one unit and returns the energy of the coordinates it wrote, as
// computed here, after comparing it with what the program says.
func runLJ(t *testing.T, p program, atoms, steps, seed int) float64 {
	t.Helper()
	dir := t.TempDir()
	stdout, stderr, code := p.run(t, map[string]string{"/out": dir},
		"--atoms", fmt.Sprint(atoms), "--seed", fmt.Sprint(seed), "--steps", fmt.Sprint(steps))
	if code != 0 || stderr != "" {
		t.Fatalf("exit code %d, %s", code, stderr)
	}
	xyz, err := os.ReadFile(filepath.Join(dir, "best.xyz"))
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSuffix(string(xyz), "\n"), "\n")
	if len(lines) != atoms+2 || lines[0] != fmt.Sprint(atoms) {
		t.Fatalf("best.xyz has %d lines, begins %q", len(lines), lines[0])
	}
	x := make([][3]float64, atoms)
	e := 0.0
	for i := range x {
		if n, err := fmt.Sscanf(lines[i+2], "LJ %f %f %f", &x[i][0], &x[i][1], &x[i][2]); n != 3 {
			t.Fatalf("line %q: %v", lines[i+2], err)
		}
		for _, y := range x[:i] {
			r := math.Hypot(math.Hypot(x[i][0]-y[0], x[i][1]-y[1]), x[i][2]-y[2])
			e += 4 * (math.Pow(r, -12) - math.Pow(r, -6))
		}
	}
	var said float64
	if _, err := fmt.Sscanf(lines[1], "energy %f", &said); err != nil || !(math.Abs(said-e) <= 1e-6) { // NaN fails too
		t.Errorf("%q, but the coordinates have energy %.9f", lines[1], e)
	}
	if want := fmt.Sprintf("energy %.6f\n", said); stdout != want {
		t.Errorf("printed %q, want %q", stdout, want)
	}
	return e
}

// TestLJDigits holds the bytes of one result, which every machine must give.
// TestBest lays out results as a second stage finds them.
func TestBest(t *testing.T) {
	t.Parallel()
	p := compile(t, Best())
	unit := func(status, stdout, xyz string) map[string]string {
		return map[string]string{"status": status, "stdout": stdout, "out/best.xyz": xyz}
	}
	for _, tt := range []struct {
		units map[string]map[string]string
		want  string
		xyz   string
	}{
		{map[string]map[string]string{
			"000000": unit("exit 0\n", "energy -1.500000\n", "a"),
			"000001": unit("trap unreachable\n", "energy -9.000000\n", "trapped"),
			"000002": unit("exit 0\n", "energy -44.326801\n", strings.Repeat("b\n", 40_000)),
			"000003": unit("exit 0\n", "energy -44.326801\n", "later"),
			"000004": unit("exit 1\n", "", "failed"),
			"000005": unit("exit 0\n", "energy -99 or so\n", "no number"),
		}, "energy -44.326801 unit 2\n", strings.Repeat("b\n", 40_000)},
		{map[string]map[string]string{"000000": unit("exit 0\n", "energy 3.000000\n", "a")}, "energy 3.000000 unit 0\n", "a"},
		{map[string]map[string]string{"000000": unit("exit 1\n", "energy 3.000000\n", "a")}, "", ""},
	} {
		tree, out := t.TempDir(), t.TempDir()
		for name, files := range tt.units {
			for file, text := range files {
				path := filepath.Join(tree, name, file)
				if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o700), os.WriteFile(path, []byte(text), 0o600)); err != nil {
					t.Fatal(err)
				}
			}
		}
		stdout, stderr, code := p.run(t, map[string]string{"/units": tree, "/out": out})
		if stdout != tt.want || (code == 0) != (tt.want != "") {
			t.Errorf("printed %q with code %d, want %q: %s", stdout, code, tt.want, stderr)
		}
		if b, _ := os.ReadFile(filepath.Join(out, "best.xyz")); string(b) != tt.xyz {
			t.Errorf("best.xyz has %d bytes, want %d", len(b), len(tt.xyz))
		}
	}
}

func TestLJDigits(t *testing.T) {
	t.Parallel()
	p := compile(t, LJ())
	dir := t.TempDir()
	_, stderr, code := p.run(t, map[string]string{"/out": dir}, "--atoms", "17", "--seed", "18446744073709551615", "--steps", "30")
	if code != 0 {
		t.Fatalf("exit code %d: %s", code, stderr)
	}
	got, err := os.ReadFile(filepath.Join(dir, "best.xyz"))
	if err != nil {
		t.Fatal(err)
	}
	want, err := os.ReadFile("testdata/lj17.xyz")
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), string(got)); diff != "" {
		t.Errorf("best.xyz (-want +got)\n%s", diff)
	}
}

func TestLJRefuses(t *testing.T) {
	t.Parallel()
	p := compile(t, LJ())
	const usage = "usage: lj --atoms N (2 to 250) --seed S [--steps M] [--out DIR]\n"
	tests := []struct {
		args, want string
		code       uint32
	}{
		{"", "lj: missing --atoms\n" + usage, 2},
		{"--atoms 13", "lj: missing --seed\n" + usage, 2},
		{"--atoms 1 --seed 1", "lj: bad value of --atoms\n" + usage, 2},
		{"--atoms 251 --seed 1", "lj: bad value of --atoms\n" + usage, 2},
		{"--atoms 13x --seed 1", "lj: bad value of --atoms\n" + usage, 2},
		{"--atoms 13 --seed -1", "lj: bad value of --seed\n" + usage, 2},
		{"--atoms 13 --seed", "lj: bad value of --seed\n" + usage, 2},
		{"--atom 13", "lj: unknown argument --atom\n" + usage, 2},
		{"--atoms 2 --seed 1 --steps 1 --out /out/nowhere", "lj: cannot write /out/nowhere/best.xyz: No such file or directory\n", 1},
	}
	for _, tt := range tests {
		stdout, stderr, code := p.run(t, map[string]string{"/out": t.TempDir()}, strings.Fields(tt.args)...)
		if stdout != "" || code != tt.code || stderr != tt.want {
			t.Errorf("lj %s: exit code %d, stdout %q, stderr %q; want %d, %q", tt.args, code, stdout, stderr, tt.code, tt.want)
		}
	}
}

// TestKernels compares the programs with the same source compiled natively.
func TestKernels(t *testing.T) {
	t.Parallel()
	stdout, _, _ := compile(t, kernel("sha256.wasm")).run(t, nil, "0")
	if want := fmt.Sprintf("sha256 %x\n", cryptosha256.Sum256([]byte("abc"))); stdout != want {
		t.Errorf("digest of abc: %q, want %q", stdout, want)
	}
	cc, err := exec.LookPath("cc")
	if err != nil {
		t.Skip("no C compiler here to compare with")
	}
	for _, k := range Kernels() {
		dir := t.TempDir()
		source, binary := filepath.Join(dir, k.Name+".c"), filepath.Join(dir, k.Name)
		if err := os.WriteFile(source, k.Source, 0o600); err != nil {
			t.Fatal(err)
		}
		if out, err := exec.Command(cc, "-O2", "-ffp-contract=off", "-o", binary, source, "-lm").CombinedOutput(); err != nil {
			t.Fatalf("%s: %v\n%s", k.Name, err, out)
		}
		want, err := exec.Command(binary, "3").Output()
		if err != nil {
			t.Fatal(err)
		}
		got, _, code := compile(t, k.Wasm).run(t, nil, "3")
		if code != 0 || got != string(want) {
			t.Errorf("%s: exit code %d, %q, natively %q", k.Name, code, got, want)
		}
	}
}

// TestSearch builds the program as make build does and compares all its units'
// indexes with a naive scan of a tree.
func TestSearch(t *testing.T) {
	t.Parallel()
	wasm := filepath.Join(t.TempDir(), "search.wasm")
	cmd := exec.Command("go", "build", "-trimpath", "-buildvcs=false", "-ldflags=-s -w -buildid=", "-o", wasm, "./search")
	cmd.Env = append(os.Environ(), "GOOS=wasip1", "GOARCH=wasm", "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	b, err := os.ReadFile(wasm)
	if err != nil {
		t.Fatal(err)
	}
	p := compile(t, b)
	tree := t.TempDir()
	for path, text := range map[string]string{
		"a.txt":       "one\ntwo one\nnone",
		"a/b.txt":     "one\r\n\nTwo two_2\n",
		"a-b/c/d.txt": "the two\nthree",
		"binary":      "one\n\x00",
		"empty":       "",
		"z\ttab":      "one one\n",
	} {
		name := filepath.Join(tree, filepath.FromSlash(path))
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	words := []string{"one", "two", "three", "four"}
	const units = 4
	var got []string
	for unit := range units {
		out := t.TempDir()
		stdout, stderr, code := p.run(t, map[string]string{"/data": tree, "/out": out}, "--tree", "/data", "--words",
			strings.Join(words, ","), "--unit", fmt.Sprint(unit), "--units", fmt.Sprint(units))
		if code != 0 || !strings.HasPrefix(stdout, "files ") {
			t.Fatalf("unit %d: exit code %d, %q, %q", unit, code, stdout, stderr)
		}
		index, err := os.ReadFile(filepath.Join(out, "index.tsv"))
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, strings.SplitAfter(string(index), "\n")...)
	}
	got = slices.DeleteFunc(got, func(s string) bool { return s == "" })
	slices.Sort(got)
	if diff := cmp.Diff(naiveIndex(t, tree, words), got); diff != "" {
		t.Errorf("index (-naive +search)\n%s", diff)
	}
	if _, stderr, code := p.run(t, nil, "--tree", "/nowhere", "--words", "one"); code != 1 || !strings.Contains(stderr, "/nowhere") {
		t.Errorf("missing tree: exit code %d, %q", code, stderr)
	}
}

func naiveIndex(t *testing.T, tree string, words []string) []string {
	t.Helper()
	var index []string
	err := filepath.WalkDir(tree, func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		b, err := os.ReadFile(name)
		if err != nil || bytes.ContainsRune(b, 0) {
			return err
		}
		rel, _ := filepath.Rel(tree, name)
		if strings.Contains(rel, "\t") {
			rel = `"` + strings.ReplaceAll(rel, "\t", `\t`) + `"`
		}
		lines := bufio.NewScanner(bytes.NewReader(b))
		for n := 1; lines.Scan(); n++ {
			for _, w := range words {
				if strings.Contains(lines.Text(), w) {
					index = append(index, fmt.Sprintf("%s\t%s\t%d\n", w, filepath.ToSlash(rel), n))
				}
			}
		}
		return lines.Err()
	})
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(index)
	return index
}
