package sandbox

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/talka-grid/talka/workunits"
	"github.com/talka-grid/talka/workunits/sandbox/wasi"
)

// variant is a way to run a program. All that a build has give the same.
type variant struct {
	engine    string
	canonical bool
}

func variants() (list []variant) {
	for _, engine := range Engines() {
		list = append(list, variant{engine, false})
		if engine == Wasmtime {
			list = append(list, variant{engine, true})
		}
	}
	return list
}

// same runs a module in all variants, and holds the others against the first.
// A module that can exhaust the stack does not belong here.
func same(t *testing.T, code []byte, c wasi.Config, memory uint64) {
	t.Helper()
	if err := Check(code); err != nil {
		t.Fatalf("not a program: %v", err)
	}
	file := filepath.Join(t.TempDir(), "program.wasm")
	write(t, file, string(code))
	var first ran
	for i, v := range variants() {
		order := loadOrder{Version: protocolVersion, Engine: v.engine, Canonical: v.canonical, Program: file, Memory: memory}
		p, _, err := load(order)
		if err != nil {
			t.Fatalf("%v: %v", v, err)
		}
		r := runLoaded(t, p, c, nil)
		if r.Void != "" {
			t.Fatalf("%v: void, %s: %s", v, r.Void, r.Detail)
		}
		if i == 0 {
			first = r
		}
		if r.digest() == first.digest() {
			continue
		}
		at := 0
		for at < min(len(r.stdout), len(first.stdout)) && r.stdout[at] == first.stdout[at] {
			at++
		}
		if kept := os.Getenv("TALKA_TEST_KEEP"); kept != "" {
			write(t, kept, string(code))
		}
		t.Errorf("%v: %s\n%v: %s\noutputs of %d and %d bytes differ from byte %d on", variants()[0], first.digest(), v, r.digest(), len(first.stdout), len(r.stdout), at)
	}
}

// randomBytes is a string of bytes that a seed stands for.
func randomBytes(seed uint64, count int) []byte {
	r := rand.NewChaCha8([32]byte(binary.LittleEndian.AppendUint64(make([]byte, 24), seed)))
	b := make([]byte, count)
	// It never fails.
	_, _ = r.Read(b)
	return b
}

// FuzzPrograms runs random programs on all engines.
func FuzzPrograms(f *testing.F) {
	for seed := range uint64(30) {
		f.Add(randomBytes(seed, 500+int(seed)*50))
	}
	f.Fuzz(func(t *testing.T, choices []byte) {
		same(t, generate(choices), wasi.Config{}, 4<<20)
	})
}

// FuzzCalls lets programs call the host, any function with any arguments, on
// all engines. They must not break the host, leave the tree, or see a difference.
func FuzzCalls(f *testing.F) {
	for seed := range uint64(25) {
		f.Add(randomBytes(seed, 400))
		f.Add(likelyCalls(seed))
	}
	secret := []byte("what no program may see")
	f.Fuzz(func(t *testing.T, script []byte) {
		if len(script) > 4096 {
			return
		}
		dir := t.TempDir()
		outside := write(t, filepath.Join(dir, "secret"), string(secret))
		tree := filepath.Join(dir, "tree")
		write(t, filepath.Join(tree, "a"), "aaaa")
		write(t, filepath.Join(tree, "b", "c"), "cc")
		if err := os.Symlink(outside, filepath.Join(tree, "link")); err != nil {
			t.Fatal(err)
		}
		inputs := []wasi.Input{{Path: "in/put", Host: write(t, filepath.Join(dir, "input"), "input")}}
		same(t, caller(script), wasi.Config{Args: []string{"x"}, Env: []string{"A=b"}, Inputs: inputs, Seed: [32]byte{1}, OutputLimit: 1 << 20}, 4<<20)
		before := map[string]string{filepath.Join(dir, "secret"): string(secret), filepath.Join(dir, "input"): "input", filepath.Join(tree, "a"): "aaaa", filepath.Join(tree, "b", "c"): "cc"}
		for name, want := range before {
			if got := read(t, name); got != want {
				t.Errorf("%s now holds %q", name, got)
			}
		}
		err := filepath.WalkDir(dir, func(name string, d fs.DirEntry, err error) error {
			if _, known := before[name]; err == nil && !known && d.Type().IsRegular() {
				return fmt.Errorf("%s is new", name)
			}
			return err
		})
		if err != nil {
			t.Error(err)
		}
	})
}

// callerData is in the memory of a caller: paths, and at 100 what fd_write and
// fd_read take: the address and length of some bytes.
var callerData = func() string {
	b := make([]byte, 108)
	copy(b, "out/aout/bin/put../scratch/x/..checkpoint/yscratch/z\x00\xff/../secret")
	binary.LittleEndian.PutUint32(b[104:], 60)
	return string(b)
}()

// likelyCalls is a script whose calls mostly make sense: D is a folder or a
// file opened before, p a path, b a place in memory, v a list of buffers, r all
// rights, n a small number.
func likelyCalls(seed uint64) (script []byte) {
	r := rand.New(rand.NewPCG(seed, 0))
	paths := []string{"out", "out/a", "out/b", "in/put", "in", "..", "/scratch/x", "/scratch/x/..", "checkpoint/y", "scratch/z", "../secret", "/../secret", "z", "out/b/in"}
	shapes := map[string]string{
		"path_open": "Dnpnrrnb", "path_create_directory": "Dp", "path_filestat_get": "Dnpb", "path_filestat_set_times": "Dnpnnn",
		"path_link": "DnpDp", "path_readlink": "Dpbnb", "path_remove_directory": "Dp", "path_rename": "DpDp", "path_symlink": "pDp",
		"path_unlink_file": "Dp", "fd_write": "Dvb", "fd_read": "Dvb", "fd_pwrite": "Dvnb", "fd_pread": "Dvnb", "fd_seek": "Dnnb",
		"fd_readdir": "Dbnnb", "fd_filestat_get": "Db", "fd_filestat_set_size": "Dn", "fd_allocate": "Dnn", "fd_close": "D", "fd_renumber": "DD",
		"fd_fdstat_set_flags": "Dn", "fd_fdstat_get": "Db", "fd_tell": "Db", "clock_time_get": "nnb", "random_get": "bn",
	}
	functions := wasi.Functions()
	for range 40 {
		f := r.IntN(len(functions))
		if r.IntN(3) == 0 {
			f = slices.IndexFunc(functions, func(f wasi.Function) bool { return f.Name == "path_open" })
		}
		shape, likely := shapes[functions[f].Name]
		if !likely {
			continue
		}
		script = append(script, byte(f))
		for _, c := range shape {
			switch c {
			case 'D':
				script = append(script, 3+byte(max(0, r.IntN(8)-4)))
			case 'p':
				path := paths[r.IntN(len(paths))]
				script = append(script, byte(max(0, strings.Index(callerData, path))), byte(len(path)))
			case 'b':
				script = append(script, byte(120+8*r.IntN(16)))
			case 'v':
				script = append(script, 100, 1)
			case 'r':
				script = append(script, 255)
			case 'n':
				script = append(script, byte(r.IntN(10)))
			}
		}
	}
	return script
}

// caller is a program that makes the calls of a script: a byte for the
// function, one for each argument. It adds up what they return, writes its
// memory to a file as long as it can, and ends with the sum.
func caller(script []byte) []byte {
	w := wasm{pages: 2, locals: 1, data: "out/aout/bin/put../scratch/x/..checkpoint/yscratch/zout\x00\xff/../secret"}
	for _, f := range wasi.Functions() {
		w.imports = append(w.imports, f.Name)
	}
	number := func(name string) int {
		for i, f := range wasi.Functions() {
			if f.Name == name {
				return i
			}
		}
		panic(name)
	}
	for n := 0; len(script) > 0 && n < 400; n++ {
		f := int(script[0]) % len(w.imports)
		script = script[1:]
		function := wasi.Functions()[f]
		if function.Name == "proc_exit" && n%8 != 7 {
			continue // most scripts would end soon
		}
		for i := range function.Params {
			v := int64(0)
			if len(script) > 0 {
				// Small numbers, and some at the other end.
				if v = int64(script[0]); v > 250 {
					v -= 256
				}
				script = script[1:]
			}
			if function.Params[i] == 'I' {
				w.code = ops(w.code, opI64Const, sleb(v))
			} else {
				w.code = ops(w.code, i32(int32(v)))
			}
		}
		w.code = ops(w.code, call(f))
		if function.Results() > 0 { // sum = sum*31 + errno
			w.code = ops(w.code, opLocalGet, 0, i32(31), 0x6c, 0x6a, opLocalSet, 0)
		}
	}
	// The first 2 KiB of memory to standard output, unless that was closed.
	w.code = ops(w.code, i32(4096), i32(0), opI32Store, 2, 0, i32(4096), i32(2048), opI32Store, 2, 4,
		i32(1), i32(4096), i32(1), i32(4104), call(number("fd_write")), opDrop, opLocalGet, 0, call(number("proc_exit")))
	return w.bytes()
}

func FuzzCheck(f *testing.F) {
	f.Add(grower.bytes())
	f.Add(wasm{imports: []string{"fd_write", "path_open"}, pages: 3, most: 9, data: "d"}.bytes())
	f.Fuzz(func(t *testing.T, code []byte) { agree(t, code) })
}

// agree holds what the engines accept against each other. A module that one
// refuses would be a result here and void there, and what wazero accepts against
// the specification is compiled to anything.
func agree(t *testing.T, code []byte) (good bool) {
	info, err := parseModule(code)
	if err != nil {
		return false
	}
	one, other := validate(code), validateWazero(code)
	if one == nil && info.minPages > 65536 {
		t.Errorf("a memory of %d pages", info.minPages)
	}
	if (one == nil) != (other == nil) {
		t.Errorf("engines disagree: %v, %v\n%x", one, other, code)
	}
	return one == nil && other == nil
}

// FuzzDamage changes bytes of valid programs: most are not valid any more, and
// some mean something else, the same on all engines. Damage may lay bare a NaN,
// whose bits are the processor's: that is no finding.
func FuzzDamage(f *testing.F) {
	for seed := range uint64(15) {
		f.Add(randomBytes(seed, 500), randomBytes(seed+1, 600))
	}
	var pools []*Pool
	for _, engine := range Engines() {
		p, err := New(Config{Engine: engine, CacheDir: f.TempDir(), Slots: 1, Cache: 1})
		if err != nil {
			f.Fatal(err)
		}
		f.Cleanup(func() {
			if err := p.Close(); err != nil {
				f.Error(err)
			}
		})
		pools = append(pools, p)
	}
	f.Fuzz(func(t *testing.T, choices, damage []byte) {
		whole, ran := generate(choices), false
		for len(damage) >= 9 {
			code := bytes.Clone(whole)
			for range 1 + damage[0]%2 {
				at := 8 + (int(damage[1])<<16|int(damage[2])<<8|int(damage[3]))%(len(code)-8)
				code[at], damage = damage[4], damage[4:]
			}
			if agree(t, code) && !ran && !bytes.Equal(code, whole) {
				ran = true
				sameInChildren(t, pools, code)
			}
		}
	})
}

// sameInChildren runs a program that may never end on each engine.
func sameInChildren(t *testing.T, pools []*Pool, code []byte) {
	t.Helper()
	file := write(t, filepath.Join(t.TempDir(), "program.wasm"), string(code))
	first := ""
	for i, p := range pools {
		task := task(t, file)
		task.Limits.Memory, task.Limits.CPU, task.Limits.Wall = 4<<20, 2*time.Second, 10*time.Second
		r, err := p.Run(t.Context(), task, nil)
		var void *Void
		if errors.As(err, &void) && void.Reason != workunits.VoidEngine {
			return // its time or its stack ended, which says nothing
		}
		if err != nil {
			t.Fatalf("%s: %v", p.Engine(), err)
		}
		got := fmt.Sprintf("%s %d %q, %d bytes of memory, output %x", r.Kind, r.Code, r.Trap, r.PeakMemory, sha256.Sum256([]byte(read(t, r.Stdout))))
		if i == 0 {
			first = got
		}
		if got != first {
			t.Errorf("%s: %s\n%s: %s\n%x", pools[0].Engine(), first, p.Engine(), got, code)
		}
	}
}

// FuzzChild is a child that says anything at all, however it is asked. The
// parent answers with a report that makes sense or a void copy, and goes on.
func FuzzChild(f *testing.F) {
	cat := "/bin/cat"
	if _, err := os.Stat(cat); err != nil {
		f.Skip(err)
	}
	frames := func(list ...any) []byte {
		var b bytes.Buffer
		for _, v := range list {
			if err := writeFrame(&b, v); err != nil {
				f.Fatal(err)
			}
		}
		return b.Bytes()
	}
	good := runAnswer{Kind: workunits.Exited, Code: 7}
	f.Add(frames(loadAnswer{}, good))
	f.Add(frames(loadAnswer{MinPages: 1 << 31, Note: "n", Walls: "w"}, good, good))
	f.Add(frames(loadAnswer{}, good, good, good, good))
	f.Add(frames(loadAnswer{Refused: true, Error: "no"}))
	f.Add(frames(loadAnswer{}, runAnswer{Void: workunits.VoidStack}))
	f.Add(frames(loadAnswer{}, runAnswer{Kind: workunits.Trapped, Trap: trapMemory, CPU: 1 << 63, Memory: 1 << 63}))
	f.Add(frames(good, loadAnswer{}))
	f.Add([]byte("\xff\xff\xff\xff"))
	f.Add([]byte("\x00\x00\x00\x00\x00\x00\x00\x01\xff"))
	f.Add([]byte{})
	program := filepath.Join(f.TempDir(), "program.wasm")
	if err := os.WriteFile(program, endless.bytes(), 0o600); err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, said []byte) {
		words := write(t, filepath.Join(t.TempDir(), "words"), string(said))
		p, err := New(Config{CacheDir: t.TempDir(), Command: []string{cat, words}, Slots: 1})
		if err != nil {
			t.Fatal(err)
		}
		for range 2 {
			r, err := p.Run(t.Context(), task(t, program), nil)
			if err == nil {
				err = (runAnswer{Kind: r.Kind, Code: r.Code, Trap: r.Trap}).check()
				if err != nil {
					t.Error(err)
				}
				continue
			}
			var void *Void
			if !errors.As(err, &void) {
				t.Errorf("not void, but %v", err)
			}
		}
		if err := p.Close(); err != nil {
			t.Error(err)
		}
	})
}
