package sandbox

import (
	"context"
	"crypto/sha256"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/talka-grid/talka/workunits"
	"github.com/talka-grid/talka/workunits/sandbox/wasi"
)

// The test binary is its own child, as the node's binary is.
func TestMain(m *testing.M) {
	AddWazero()
	if len(os.Args) > 1 && os.Args[1] == "sandbox-child" {
		os.Exit(ChildMain(os.Stdin, os.Stdout))
	}
	if len(os.Args) > 1 && os.Args[1] == "sandbox-open" {
		os.Exit(childMain(os.Stdin, os.Stdout, func(uint64) error { return nil }))
	}
	if len(os.Args) > 1 && os.Args[1] == "sandbox-poor" {
		os.Exit(childMain(os.Stdin, os.Stdout, poor))
	}
	if len(os.Args) == 3 && os.Args[1] == "sandbox-glutton" {
		os.Exit(glutton(os.Args[2], os.Stdin, os.Stdout))
	}
	if len(os.Args) == 6 && os.Args[1] == "sandbox-planted" {
		os.Exit(planted(os.Args[2] == "true", os.Args[3] == "true", os.Args[4], os.Args[5]))
	}
	if len(os.Args) == 6 && os.Args[1] == "sandbox-parent" {
		fmt.Fprintln(os.Stderr, parentMain(os.Args[2], os.Args[3], os.Args[4], os.Args[5] == "paused"))
		os.Exit(1)
	}
	if len(os.Args) == 3 && os.Args[1] == "sandbox-grouped" {
		if err := groupedMain(os.Args[2]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	dir, err := os.MkdirTemp("", "sandbox-test-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	cache = filepath.Join(dir, "cache")
	code := m.Run()
	if err := os.RemoveAll(dir); err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

// cache is where all tests keep compiled modules.
var cache string

// guest is the compiled program of testdata/guest. It is built and compiled for
// the engines once, not by every test at the same time, nor when fuzzing.
func guest(t testing.TB) string {
	t.Helper()
	name, err := buildGuest()
	if err != nil {
		t.Fatal(err)
	}
	return name
}

var buildGuest = sync.OnceValues(func() (string, error) {
	name := filepath.Join(filepath.Dir(cache), "guest.wasm")
	build := exec.CommandContext(context.Background(), "go", "build", "-trimpath", "-buildvcs=false", "-o", name, "./testdata/guest")
	build.Env = append(os.Environ(), "GOOS=wasip1", "GOARCH=wasm", "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build the guest: %w\n%s", err, out)
	}
	for _, engine := range Engines() {
		if _, err := loadCached(loadOrder{Engine: engine, Program: name, Memory: 64 << 20}); err != nil {
			return "", err
		}
	}
	return name, nil
})

// eachEngine runs a test with a pool of every engine in this build.
func eachEngine(t *testing.T, test func(t *testing.T, p *Pool)) {
	t.Parallel()
	for _, engine := range Engines() {
		t.Run(engine, func(t *testing.T) {
			t.Parallel()
			test(t, newPool(t, Config{Engine: engine, CacheDir: cache}))
		})
	}
}

func newPool(t testing.TB, c Config) *Pool {
	t.Helper()
	if c.Slots == 0 {
		c.Slots = 1
	}
	if c.CacheDir == "" {
		c.CacheDir = t.TempDir()
	}
	c.Logger = slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelDebug}))
	p, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.Close(); err != nil {
			t.Error(err)
		}
	})
	return p
}

// mayLast is how long a run may take that ends by itself, or by a limit that is not
// about time, on a machine that has much else to do.
const mayLast = 5 * time.Minute

// task is a run of the guest(t), or of another program.
func task(t testing.TB, program string, args ...string) Task {
	t.Helper()
	code, err := os.ReadFile(program)
	if err != nil {
		t.Fatal(err)
	}
	return Task{
		Program: program, ProgramID: workunits.Sum(code), Args: args,
		Dir: filepath.Join(t.TempDir(), "run"),
		Limits: Limits{
			Memory: 64 << 20, Output: 64 << 20, Log: 1 << 10, Scratch: 1 << 20,
			Wall: mayLast, CPU: mayLast,
		},
		Seed: [32]byte{1, 2, 3},
	}
}

func run(t *testing.T, p *Pool, task Task) Report {
	t.Helper()
	r, err := p.Run(t.Context(), task, nil)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func wantVoid(t *testing.T, err error, reason workunits.VoidReason) {
	t.Helper()
	var void *Void
	if !errors.As(err, &void) || void.Reason != reason {
		t.Fatalf("error %v, want a void copy: %s", err, reason)
	}
}

func read(t *testing.T, name string) string {
	t.Helper()
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// write makes a file and its folders.
func write(t testing.TB, name, content string) string {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(name), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

var update = flag.Bool("update", false, "rewrite the reviewed answers in testdata")

// golden compares a text with a reviewed one.
func golden(t *testing.T, name, got string) {
	t.Helper()
	if *update {
		write(t, name, got)
	}
	wantEqual(t, name, got, read(t, name))
}

// wantEqual compares texts line by line.
func wantEqual(t *testing.T, what, got, want string) {
	t.Helper()
	if diff := cmp.Diff(strings.Split(want, "\n"), strings.Split(got, "\n")); diff != "" {
		t.Errorf("%s (-want +got):\n%s", what, diff)
	}
}

// listing is the content of a folder of the host, links shown as such.
func listing(t *testing.T, dir string) string {
	t.Helper()
	var b strings.Builder
	err := fs.WalkDir(os.DirFS(dir), ".", func(name string, d fs.DirEntry, err error) error {
		if err == nil && name != "." {
			switch {
			case d.Type().IsRegular():
				fmt.Fprintf(&b, "%s %q\n", name, read(t, filepath.Join(dir, name)))
			case d.IsDir():
				fmt.Fprintf(&b, "%s/\n", name)
			default:
				fmt.Fprintf(&b, "%s %v\n", name, d.Type())
			}
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func TestWhatAProgramIsGiven(t *testing.T) {
	eachEngine(t, func(t *testing.T, p *Pool) {
		task := task(t, guest(t), "look", "--atoms", "13", "ü", "")
		task.Env = []string{"A=1", "PATH=x y"}
		task.Inputs = []Input{{Path: "in", Host: write(t, filepath.Join(t.TempDir(), "in"), "from outside")}}
		task.Stdin = "in"
		r := run(t, p, task)
		wantEqual(t, "standard output", read(t, r.Stdout), `args ["--atoms" "13" "ü" ""]
name "program"
env ["A=1" "PATH=x y"]
wd "/" <nil>
stdin "from outside" <nil>
`)
		wantEqual(t, "log", read(t, r.Stderr), "a word on the log\n")
		if r.Kind != workunits.Exited || r.Code != 0 || r.Trap != "" || r.PeakMemory == 0 || r.Wall <= 0 || r.CPU <= 0 {
			t.Errorf("report %+v", r)
		}
	})
}

func TestTree(t *testing.T) {
	eachEngine(t, func(t *testing.T, p *Pool) {
		in := t.TempDir()
		for i := range 30 {
			write(t, filepath.Join(in, fmt.Sprint("n", i*7%30)), fmt.Sprint(i))
		}
		write(t, filepath.Join(in, "sub/ö"), "umlaut")
		single := write(t, filepath.Join(t.TempDir(), "whatever"), "single")
		for link, target := range map[string]string{
			"inside": "sub/ö", "absolute": "/data/set/sub/ö", "outside": "/etc/passwd", "up": "../../../../../etc/passwd", "round": "round",
		} {
			if err := os.Symlink(target, filepath.Join(in, "sub", link)); err != nil {
				t.Fatal(err)
			}
		}
		if err := os.Rename(filepath.Join(in, "sub/inside"), filepath.Join(in, "inside")); err != nil {
			t.Fatal(err)
		}
		task := task(t, guest(t), "tree", "/")
		task.Inputs = []Input{{Path: "data/set", Host: in}, {Path: "data/set/extra", Host: single}, {Path: "start.xyz", Host: single}}
		golden(t, "testdata/tree.txt", read(t, run(t, p, task).Stdout))

		task = taskAgain(t, task, "cat", "/data/set/inside", "data/set/sub/absolute", "/data/set/extra", "./start.xyz", "/data/../start.xyz")
		wantEqual(t, "cat", read(t, run(t, p, task).Stdout), "umlautumlautsinglesinglesingle")

		for name, want := range map[string]string{
			"outside": "No such file or directory", "up": "Operation not permitted", "round": "Too many symbolic links",
		} {
			task := taskAgain(t, task, "cat", "/data/set/sub/"+name)
			r := run(t, p, task)
			if r.Code != 3 || !strings.Contains(read(t, r.Stderr), want) {
				t.Errorf("%s: code %d, %s, want %s", name, r.Code, read(t, r.Stderr), want)
			}
		}
	})
}

// taskAgain is another run of the same task, in the same folder.
func taskAgain(t testing.TB, old Task, args ...string) Task {
	t.Helper()
	old.Args = args
	return old
}

func TestEditing(t *testing.T) {
	eachEngine(t, func(t *testing.T, p *Pool) {
		edit := task(t, guest(t), "edit")
		for range 2 { // the second time in the folder of the first
			r := run(t, p, edit)
			golden(t, "testdata/edit.txt", read(t, r.Stdout))
			wantEqual(t, "results", listing(t, r.Out), "c/\nc/b/\nz \"yy\"\n")
		}
		for _, name := range []string{"scratch", "checkpoint"} {
			wantEqual(t, name, listing(t, filepath.Join(edit.Dir, name)), "")
		}
		if err := Clear(edit.Dir); err != nil {
			t.Fatal(err)
		}
		wantEqual(t, "a cleared folder", listing(t, edit.Dir), "checkpoint/\nout/\nscratch/\nstderr \"\"\nstdout \"\"\n")
	})
}

func TestEscape(t *testing.T) {
	eachEngine(t, func(t *testing.T, p *Pool) {
		secret := write(t, filepath.Join(t.TempDir(), "secret"), "secret")
		input := write(t, filepath.Join(t.TempDir(), "input"), "input")
		up := strings.Repeat("../", 30)
		task := task(t, guest(t), "attack", "/etc/passwd", up+"etc/passwd", "/out/"+up+"etc/passwd", "/in/../../"+secret, secret, "/in/file", "/proc/self/environ", "/out")
		task.Inputs = []Input{{Path: "in/file", Host: input}}
		r := run(t, p, task)
		got := strings.ReplaceAll(read(t, r.Stdout), secret, "SECRET")
		golden(t, "testdata/attack.txt", got)
		if read(t, secret) != "secret" || read(t, input) != "input" || listing(t, r.Out) != "" {
			t.Error("something outside was changed, or something inside remains")
		}
	})
}

func TestClockAndChance(t *testing.T) {
	eachEngine(t, func(t *testing.T, p *Pool) {
		first := task(t, guest(t), "clock")
		said := func(task Task) string { return read(t, run(t, p, task).Stdout) }
		a := said(first)
		golden(t, "testdata/clock.txt", a)
		wantEqual(t, "the same seed", said(taskAgain(t, first, "clock")), a)
		other := taskAgain(t, first, "clock")
		other.Seed[31] = 9
		if said(other) == a {
			t.Error("another seed gives the same time and chance")
		}
	})
}

func TestLargeFiles(t *testing.T) {
	eachEngine(t, func(t *testing.T, p *Pool) {
		const size = 40 << 20 // over the memory limit of the task
		first := task(t, guest(t), "fill", "/out/big", fmt.Sprint(size))
		first.Limits.Memory = 24 << 20
		r := run(t, p, first)
		info, err := os.Stat(filepath.Join(r.Out, "big"))
		if err != nil || info.Size() != size {
			t.Fatalf("%v, %v", info, err)
		}
		second := taskAgain(t, first, "sum", "big")
		second.Dir = filepath.Join(t.TempDir(), "run") // that of the first holds its input
		second.Inputs = []Input{{Path: "big", Host: filepath.Join(r.Out, "big")}}
		r = run(t, p, second)
		want := sha256.Sum256([]byte(strings.Repeat("0123456789abcdef", size/16)))
		wantEqual(t, "sum", read(t, r.Stdout), fmt.Sprintf("%d %x\n", size, want))
		if r.PeakMemory > first.Limits.Memory {
			t.Errorf("memory of %d bytes", r.PeakMemory)
		}
	})
}

func TestNumbers(t *testing.T) {
	eachEngine(t, func(t *testing.T, p *Pool) {
		golden(t, "testdata/numbers.txt", read(t, run(t, p, task(t, guest(t), "numbers")).Stdout))
	})
}

func TestEnds(t *testing.T) {
	eachEngine(t, func(t *testing.T, p *Pool) {
		for _, c := range []struct {
			name string
			args []string
			kind workunits.OutcomeKind
			code uint32
		}{
			{"exit code", []string{"exit", "200"}, workunits.Exited, 200},
			{"panic", []string{"panic"}, workunits.Exited, 2},
			{"as much output as allowed", []string{"fill", "-", "1048576"}, workunits.Exited, 0},
			{"a byte too much", []string{"fill", "-", "1048577"}, workunits.OutputLimit, 0},
			{"a byte too much in a file", []string{"fill", "/out/x", "1048577"}, workunits.OutputLimit, 0},
			{"as many files as allowed", []string{"files", "/out", "5"}, workunits.Exited, 0},
			{"a file too many", []string{"files", "/out", "6"}, workunits.OutputLimit, 0},
			{"files in scratch", []string{"files", "/scratch", "6"}, workunits.Exited, 0},
		} {
			task := task(t, guest(t), c.args...)
			task.Limits.Output, task.Limits.Files = 1<<20, 5
			r := run(t, p, task)
			if r.Kind != c.kind || r.Code != c.code {
				t.Errorf("%s: %s %d, want %s %d", c.name, r.Kind, r.Code, c.kind, c.code)
			}
		}
	})
}

func TestLogAndScratch(t *testing.T) {
	eachEngine(t, func(t *testing.T, p *Pool) {
		first := task(t, guest(t), "log")
		r := run(t, p, first)
		if got := read(t, r.Stderr); r.Code != 0 || len(got) != 1<<10 || !strings.HasPrefix(got, "line 0\nline 1\n") {
			t.Errorf("code %d, log of %d bytes: %s", r.Code, len(got), got)
		}
		r = run(t, p, taskAgain(t, first, "scratch"))
		wantEqual(t, "scratch", read(t, r.Stdout), "1048576 write /scratch/big: No space left on device\n")
	})
}

func TestCheckpoint(t *testing.T) {
	eachEngine(t, func(t *testing.T, p *Pool) {
		first := task(t, guest(t), "resume")
		first.Checkpoint = t.TempDir()
		for i := range 3 {
			r := run(t, p, taskAgain(t, first, "resume"))
			wantEqual(t, "standard output", read(t, r.Stdout), fmt.Sprintln("resumed at", i))
		}
		without := taskAgain(t, first, "resume")
		without.Checkpoint = ""
		r := run(t, p, without)
		wantEqual(t, "without", read(t, r.Stdout), "resumed at 0\n")
		wantEqual(t, "left", listing(t, first.Checkpoint), "count \"3\"\n")
	})
}

func TestBadTasks(t *testing.T) {
	t.Parallel()
	p := newPool(t, Config{CacheDir: cache})
	good := task(t, guest(t), "nothing")
	for name, change := range map[string]func(*Task){
		"no program":  func(t *Task) { t.Program = "" },
		"no id":       func(t *Task) { t.ProgramID = workunits.Digest{} },
		"no folder":   func(t *Task) { t.Dir = "" },
		"no memory":   func(t *Task) { t.Limits.Memory = 0 },
		"much memory": func(t *Task) { t.Limits.Memory = 1 << 40 },
		"no time":     func(t *Task) { t.Limits.Wall = 0 },
	} {
		bad := good
		change(&bad)
		_, err := p.Run(t.Context(), bad, nil)
		var void *Void
		if err == nil || errors.As(err, &void) {
			t.Errorf("%s: error %v", name, err)
		}
	}
	for name, in := range map[string]Input{
		"missing":     {Path: "x", Host: filepath.Join(t.TempDir(), "no")},
		"taken":       {Path: "out/x", Host: guest(t)},
		"climbing":    {Path: "../x", Host: guest(t)},
		"no path":     {Path: "", Host: guest(t)},
		"not utf-8":   {Path: "a\xff", Host: guest(t)},
		"not a file":  {Path: "x", Host: os.DevNull},
		"not a place": {Path: "a/../b", Host: guest(t)},
	} {
		bad := taskAgain(t, good)
		bad.Inputs = []Input{in}
		_, err := p.Run(t.Context(), bad, nil)
		var void *Void
		if !errors.As(err, &void) {
			t.Errorf("%s: error %v", name, err)
		}
		if name == "missing" {
			wantVoid(t, err, workunits.VoidInput)
		}
	}
}

func TestCanonicalNeedsWasmtime(t *testing.T) {
	t.Parallel()
	task := task(t, guest(t), "numbers")
	task.Canonical = true
	p := newPool(t, Config{Engine: Wazero, CacheDir: cache})
	if _, err := p.Run(t.Context(), task, nil); !errors.Is(err, ErrCanonical) {
		t.Errorf("wazero: error %v", err)
	}
	if Engines()[0] == Wasmtime {
		p := newPool(t, Config{Engine: Wasmtime, CacheDir: cache})
		golden(t, "testdata/numbers.txt", read(t, run(t, p, task).Stdout))
	}
}

// TestPathLimits: what a program can name, an outcome can list.
func TestPathLimits(t *testing.T) {
	t.Parallel()
	if wasi.MaxName != workunits.MaxPathName || wasi.MaxPath != workunits.MaxPath {
		t.Errorf("names of %d and paths of %d bytes in the sandbox, %d and %d in outcomes",
			wasi.MaxName, wasi.MaxPath, workunits.MaxPathName, workunits.MaxPath)
	}
}
