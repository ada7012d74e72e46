package sandbox

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/talka-grid/talka/workunits"
	"github.com/talka-grid/talka/workunits/sandbox/wasi"
)

// loading is held while a test looks for a compiled module or makes it.
var loading sync.Mutex

// loadHere makes a program ready in the process of the test itself. Its module
// is kept in the cache of the tests.
func loadHere(t testing.TB, o loadOrder) program {
	t.Helper()
	loading.Lock()
	defer loading.Unlock()
	p, err := loadCached(o)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func loadCached(o loadOrder) (program, error) {
	o.Version = protocolVersion
	modules, err := openModules(cache, 0)
	if err != nil {
		return nil, err
	}
	code, err := os.ReadFile(o.Program)
	if err != nil {
		return nil, err
	}
	name := moduleName(o.Engine, key{id: workunits.Sum(code), canonical: o.Canonical})
	m, err := modules.get(name)
	if errors.Is(err, errNoModule) {
		compile := o
		compile.Memory = maxMemory
		var held *os.File
		if compile.Stage, held, err = modules.stage(); err != nil {
			return nil, err
		}
		defer held.Close()
		var answer loadAnswer
		if _, answer, err = load(compile); err == nil {
			m = module{modules.path(name), answer.MinPages}
			err = modules.put(compile.Stage, name, m.minPages)
		}
	}
	if err != nil {
		return nil, err
	}
	o.Module, o.MinPages = m.dir, m.minPages
	p, _, err := load(o)
	return p, err
}

// ran is what a program did in this process.
type ran struct {
	runAnswer
	stdout, stderr, out string // out: a listing with contents
}

// runHere runs a program in the process of the test itself, as a child would:
// an emulated processor cannot start children. What o and c leave open, it fills in.
func runHere(t *testing.T, o loadOrder, c wasi.Config, before func(*wasi.Process)) ran {
	t.Helper()
	if o.Memory == 0 {
		o.Memory = 64 << 20
	}
	return runLoaded(t, loadHere(t, o), c, before)
}

func runLoaded(t *testing.T, p program, c wasi.Config, before func(*wasi.Process)) ran {
	t.Helper()
	dir := t.TempDir()
	folder := func(name string) string {
		name = filepath.Join(dir, name)
		if err := os.Mkdir(name, 0o700); err != nil {
			t.Fatal(err)
		}
		return name
	}
	c.Out, c.Checkpoint = folder("out"), folder("checkpoint")
	if c.Scratch == "" {
		c.Scratch = folder("scratch")
	}
	c.Stdout, c.Stderr = write(t, filepath.Join(dir, "stdout"), ""), write(t, filepath.Join(dir, "stderr"), "")
	c.FilesLimit, c.LogLimit, c.ScratchLimit = 100, 1<<20, 1<<20
	if c.OutputLimit == 0 {
		c.OutputLimit = 1 << 20
	}
	host, err := wasi.New(c)
	if err != nil {
		t.Fatal(err)
	}
	if before != nil {
		before(host)
	}
	r := ran{runAnswer: answerOf(host, p.run(host))}
	if err := host.Close(); err != nil {
		t.Error(err)
	}
	r.stdout, r.stderr, r.out = read(t, c.Stdout), read(t, c.Stderr), listing(t, c.Out)
	return r
}

// digest is one line: the outcome, and the digest of all that was written.
func (r ran) digest() string {
	outcome := fmt.Sprint(r.Kind, " ", r.Code)
	switch {
	case r.Void != "":
		return "void: " + string(r.Void) // nothing that was written counts
	case r.Trap != "":
		outcome = "trap: " + r.Trap
	case r.Kind == workunits.OutputLimit:
		outcome = string(r.Kind)
	}
	all := fmt.Sprintf("%q %q %q %d", r.stdout, r.stderr, r.out, r.Memory)
	return fmt.Sprintf("%s, %d bytes of memory, %x", outcome, r.Memory, sha256.Sum256([]byte(all)))
}

// nanSign exits with the sign bit of 0/0, which is the processor's to choose.
var nanSign = exitWith(wasm{pages: 1}, ops(
	i32(0), 0x2b, 3, 0, i32(0), 0x2b, 3, 0, 0xa3, // f64.div of two zeros from memory
	0xbd, opI64Const, 63, 0x88, 0xa7)) // its bits, shifted right by 63

// recursion calls itself until the stack ends.
var recursion = wasm{pages: 1, code: call(0)}

// corpusCase is one run of the corpus.
type corpusCase struct {
	name    string
	program string // file
	memory  uint64
	config  wasi.Config
}

// corpus covers what could differ between machines.
func corpus(t *testing.T) (list []corpusCase) {
	t.Helper()
	add := func(name, program string, c wasi.Config) { list = append(list, corpusCase{name, program, 0, c}) }
	for name, code := range map[string][]byte{
		"unreachable": ops(opUnreachable),
		"divide":      ops(i32(1), i32(0), opI32Div, opDrop),
		"overflow":    ops(i32(-1<<31), i32(-1), opI32Div, opDrop),
		"conversion":  ops(i32(0), 0x2b, 3, 0, i32(0), 0x2b, 3, 0, 0xa3, opI32Trunc, opDrop),
		"memory":      ops(i32(-4), opI32Load, 2, 0, opDrop),
	} {
		add("trap/"+name, wasm{pages: 1, code: code}.file(t), wasi.Config{})
	}
	add("stack", recursion.file(t), wasi.Config{})
	starting := recursion // by a start function
	starting.extra = []section{{8, leb(0)}}
	add("stack/start", starting.file(t), wasi.Config{})
	// The host is called by the start function, and again by _start.
	add("start/calls", wasm{imports: []string{"fd_write"}, pages: 1, data: "\x08\x00\x00\x00\x05\x00\x00\x00hello", extra: []section{{8, leb(1)}},
		code: ops(i32(1), i32(0), i32(1), i32(64), call(0), opDrop)}.file(t), wasi.Config{})
	// The host writes where there was no memory when it was called before.
	add("memory/grown", wasm{imports: []string{"random_get", "fd_write"}, pages: 1, code: ops(
		i32(100), i32(8), call(0), opDrop, i32(20), opMemoryGrow, 0, opDrop, i32(20<<16), i32(64<<10), call(0), opDrop,
		i32(0), i32(20<<16), opI32Store, 2, 0, i32(0), i32(64<<10), opI32Store, 2, 4, i32(1), i32(0), i32(1), i32(8), call(1), opDrop)}.file(t), wasi.Config{})
	list = append(list, corpusCase{"memory/grow", grower.file(t), 5 << 20, wasi.Config{}})
	list = append(list, corpusCase{"memory/start", wasm{pages: 99}.file(t), 5 << 20, wasi.Config{}})
	big := write(t, filepath.Join(t.TempDir(), "big"), strings.Repeat("0123456789abcdef", 1<<18))
	tree := t.TempDir()
	for _, name := range []string{"b", "a", "B", "10", "9", "ä", "z/y", "z/x"} {
		write(t, filepath.Join(tree, name), name)
	}
	inputs := []wasi.Input{{Path: "big", Host: big}, {Path: "t", Host: tree}}
	for _, args := range [][]string{
		{"look", "", "ü", "\x01\x7f", "\xff\xfe", "a b\n", "{unit}", strings.Repeat("x", 4096)},
		{"tree", "/"}, {"sum", "/big"}, {"copy", "/big", "/out/big"}, {"clock"}, {"numbers"}, {"edit"}, {"scratch"}, {"log"},
		{"exit", "0"}, {"exit", "255"}, {"exit", "-1"}, {"exit", "65536"}, {"panic"}, {"fill", "-", "2000000"}, {"files", "/out", "100"}, {"files", "/out", "101"},
		{"cat", "/t/none"}, {"cat", "/t/z"},
	} {
		c := wasi.Config{Args: args, Inputs: inputs, Stdin: "t/ä", Env: []string{"A=ü"}, Seed: [32]byte{7}, OutputLimit: 10 << 20}
		if args[0] == "fill" {
			c.OutputLimit = 1 << 20
		}
		name := strings.Join(args, " ")
		add("go/"+name[:min(len(name), 12)], guest(t), c)
	}
	for name, args := range map[string][]string{
		"lj/lj": {"--atoms", "13", "--seed", "5", "--steps", "20"}, "kernels/matmul": {"1"}, "kernels/nbody": {"1"}, "kernels/sha256": {"1"},
	} {
		add("c/"+name, filepath.Join("..", "apps", filepath.FromSlash(name)+".wasm"), wasi.Config{Args: args})
	}
	probes := map[string][]string{
		"c":    {"floats", "arguments \xff\xfe ü  b", "folder", "clocks", "chance", "large /huge", "grow", "exit 0", "exit 77", "exit -1", "abort", "divide", "beyond", "deep"},
		"cpp":  {"words of an order of words"},
		"rust": {"floats", "arguments \xff\xfe ü  b", "folder", "clocks", "chance", "large /huge", "grow", "exit 0", "exit 77", "exit -1", "error", "panic", "thread", "deep"},
	}
	inputs = append(inputs, wasi.Input{Path: "huge", Host: huge(t)})
	for name, calls := range probes {
		program := filepath.Join("..", "apps", "probe", name+".wasm")
		for _, args := range calls {
			list = append(list, corpusCase{name + "/" + strings.ToValidUTF8(args, "?"), program, 8 << 20, wasi.Config{
				Args: strings.Split(args, " "), Inputs: inputs, Env: []string{"A=ü"}, Seed: [32]byte{7}, OutputLimit: 10 << 20,
			}})
		}
	}
	for seed := range uint64(20) {
		program := filepath.Join(t.TempDir(), "program.wasm")
		write(t, program, string(generate(randomBytes(seed, 4000))))
		list = append(list, corpusCase{fmt.Sprint("random/", seed), program, 4 << 20, wasi.Config{}})
	}
	return list
}

// huge is a file of more than 4 GiB, mostly holes.
func huge(t *testing.T) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "huge")
	f, err := os.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	_, err1 := f.WriteAt([]byte("here"), 1<<32)
	_, err2 := f.WriteAt([]byte("at the end"), 5<<30)
	if err := errors.Join(err1, err2, f.Close()); err != nil {
		t.Fatal(err)
	}
	return name
}

// goldenLines holds sorted lines "NAME: digest" of runs on one engine against
// the reviewed ones, which all engines and processors share.
func goldenLines(t *testing.T, name, engine string, list []corpusCase) {
	t.Helper()
	lines := map[string]string{}
	for _, c := range list {
		lines[c.name] = runHere(t, loadOrder{Engine: engine, Program: c.program, Memory: c.memory}, c.config, nil).digest()
	}
	var b strings.Builder
	for _, key := range slices.Sorted(maps.Keys(lines)) {
		fmt.Fprintf(&b, "%s: %s\n", key, lines[key])
	}
	golden(t, name, b.String())
}

func TestCorpus(t *testing.T) {
	t.Parallel()
	list := corpus(t)
	for _, engine := range Engines() {
		t.Run(engine, func(t *testing.T) {
			t.Parallel()
			goldenLines(t, "testdata/corpus.txt", engine, list)
		})
	}
}

// TestCorpusNaN: the sign of a NaN follows the processor, in every engine the
// same, unless the job asks for canonical ones.
func TestCorpusNaN(t *testing.T) {
	t.Parallel()
	sign := map[string]uint32{"amd64": 1, "arm64": 0}
	want, known := sign[runtime.GOARCH]
	if !known {
		t.Skipf("nothing is known of NaNs on %s", runtime.GOARCH)
	}
	program := nanSign.file(t)
	printed := func(engine string, canonical bool) string {
		c := filepath.Join("..", "apps", "probe", "c.wasm")
		return runHere(t, loadOrder{Engine: engine, Program: c, Canonical: canonical}, wasi.Config{Args: []string{"nan"}}, nil).stdout
	}
	for _, engine := range Engines() {
		if got, want := printed(engine, false), map[uint32]string{1: "nan\n-nan\n", 0: "nan\nnan\n"}[want]; got != want {
			t.Errorf("%s on %s prints %q, want %q", engine, runtime.GOARCH, got, want)
		}
		if r := runHere(t, loadOrder{Engine: engine, Program: program}, wasi.Config{}, nil); r.Kind != workunits.Exited || r.Code != want {
			t.Errorf("%s on %s: %+v, want sign %d", engine, runtime.GOARCH, r, want)
		}
	}
	if Engines()[0] == Wasmtime {
		r := runHere(t, loadOrder{Engine: Wasmtime, Program: program, Canonical: true}, wasi.Config{}, nil)
		if r.Kind != workunits.Exited || r.Code != 0 {
			t.Errorf("canonical on %s: %+v, want sign 0", runtime.GOARCH, r)
		}
		if got := printed(Wasmtime, true); got != "nan\nnan\n" {
			t.Errorf("canonical on %s prints %q", runtime.GOARCH, got)
		}
	}
}

// pythonScript touches what a scientific script does, and what could differ.
const pythonScript = `
import cmath, collections, csv, decimal, fractions, hashlib, io, json, math, os, pathlib, random, re, sqlite3, statistics, struct, sys, tempfile, time, zlib
print(sys.version_info[:3], sys.argv, sys.byteorder, sys.flags.hash_randomization)
print(sorted(os.listdir("/")), os.getcwd(), os.stat("/table.csv").st_mtime)
print(time.time(), time.monotonic(), random.random(), os.urandom(8).hex(), hash("a"), list({"x", "y", "z"}))
for f in (math.sin, math.exp, math.log, math.gamma, math.erf, cmath.sqrt):
    print(f.__name__, f(0.7), repr(f(1e-9 + 2)))
print(math.nan, -math.inf, 1e308 * 10, 5e-324, 0.1 + 0.2, decimal.Decimal(2).sqrt(), fractions.Fraction(1, 3))
with open("/table.csv") as t:
    rows = [float(r["y"]) for r in csv.DictReader(t)]
print(statistics.mean(rows), statistics.stdev(rows), struct.pack("<d", math.fsum(rows)).hex())
print(hashlib.sha256(b"talka").hexdigest(), zlib.crc32(b"talka"), re.findall(r"\w+", "a b ü"))
db = sqlite3.connect("/scratch/db")
db.execute("create table t (x)")
db.executemany("insert into t values (?)", [(i * i,) for i in range(100)])
db.commit()
print(db.execute("select sum(x) from t").fetchone())
time.sleep(3600)
pathlib.Path("/out/result.json").write_text(json.dumps({"t": time.monotonic()}))
try:
    open("/table.csv", "w")
except OSError as e:
    print(type(e).__name__, e.errno)
sys.exit(7)
`

func TestPython(t *testing.T) {
	t.Parallel()
	program := filepath.Join("..", "..", "bin", "apps", "python.wasm")
	if _, err := os.Stat(program); err != nil {
		t.Skip("the Python interpreter is not here: make python")
	}
	dir := t.TempDir()
	inputs := []wasi.Input{
		{Path: "fit.py", Host: write(t, filepath.Join(dir, "fit.py"), pythonScript)},
		{Path: "table.csv", Host: write(t, filepath.Join(dir, "table.csv"), "x,y\n1,2.5\n2,3.25\n3,1e-3\n")},
		{Path: "bad.py", Host: write(t, filepath.Join(dir, "bad.py"), "import numpy\n")},
	}
	list := []corpusCase{
		{"script", program, 256 << 20, wasi.Config{Args: []string{"fit.py", "--seed", "3"}, Inputs: inputs}},
		{"missing module", program, 256 << 20, wasi.Config{Args: []string{"bad.py"}, Inputs: inputs}},
	}
	for _, engine := range Engines() {
		t.Run(engine, func(t *testing.T) {
			t.Parallel()
			r := runHere(t, loadOrder{Engine: engine, Program: program, Memory: 256 << 20}, list[0].config, nil)
			if r.Kind != workunits.Exited || r.Code != 7 || !strings.HasSuffix(r.stdout, "OSError 69\n") {
				t.Errorf("%+v", r)
			}
			goldenLines(t, "testdata/corpus_python.txt", engine, list)
		})
	}
}
