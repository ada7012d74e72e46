package sandbox

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/talka-grid/talka/workunits"
)

// files lists the files below a folder with what changes when one is written
// again: its content, and which file it is.
func files(t *testing.T, dir string) map[string]string {
	t.Helper()
	found := map[string]string{}
	err := filepath.WalkDir(dir, func(name string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			found[name] = read(t, name)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

// cachePool is a pool with a cache of its own.
func cachePool(t *testing.T, engine, dir string, size uint64) *Pool {
	t.Helper()
	return newPool(t, Config{Engine: engine, CacheDir: dir, Cache: size})
}

// moduleOf is the folder of a program's compiled module.
func moduleOf(p *Pool, task Task) string {
	return p.modules.path(moduleName(p.Engine(), key{id: task.ProgramID, canonical: task.Canonical}))
}

// made runs a task and tells whether its program was compiled for that.
func made(t *testing.T, p *Pool, task Task, code uint32) bool {
	t.Helper()
	dir := moduleOf(p, task)
	before, _ := os.Stat(dir) // nil if it is not there
	if r := run(t, p, task); r.Code != code {
		t.Errorf("code %d from %s, want %d", r.Code, dir, code)
	}
	after, err := os.Stat(dir)
	if err != nil {
		t.Fatal(err)
	}
	return before == nil || !before.ModTime().Equal(after.ModTime())
}

// fresh closes the warm children, so that the next run loads its program anew.
func fresh(p *Pool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for len(p.idle) > 0 {
		p.closeIdle(p.idle[0])
	}
}

// small is a program that ends with a code.
func small(t *testing.T, code int32) Task {
	return task(t, exitWith(wasm{pages: 1}, i32(code)).file(t))
}

func TestModulesAreKept(t *testing.T) {
	t.Parallel()
	for _, engine := range Engines() {
		t.Run(engine, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			p := cachePool(t, engine, dir, 0)
			task := small(t, 3)
			if !made(t, p, task, 3) {
				t.Error("an empty cache had it")
			}
			before := files(t, dir)
			if len(before) != 3 { // key, seal, module
				t.Errorf("the cache holds %d files", len(before))
			}
			fresh(p)
			if made(t, p, task, 3) {
				t.Error("compiled again for another child")
			}
			// Another limit of memory is another child, but the same module.
			task.Limits.Memory = 1 << 20
			if made(t, cachePool(t, engine, dir, 0), task, 3) {
				t.Error("compiled again for another pool")
			}
			if diff := cmp.Diff(before, files(t, dir)); diff != "" {
				t.Error(diff)
			}
			if len(p.Compiling()) != 0 {
				t.Errorf("still compiling: %v", p.Compiling())
			}
		})
	}
}

// TestDamagedModulesAreNoModules flips each of many bytes, in every file of a
// module, cuts and extends them, and takes them from elsewhere.
func TestDamagedModulesAreNoModules(t *testing.T) {
	t.Parallel()
	for _, engine := range Engines() {
		t.Run(engine, func(t *testing.T) {
			t.Parallel()
			p := cachePool(t, engine, t.TempDir(), 0)
			task, other := small(t, 3), small(t, 4)
			if !made(t, p, task, 3) || !made(t, p, other, 4) {
				t.Fatal("not compiled")
			}
			fresh(p)
			dir := moduleOf(p, task)
			name, good := filepath.Base(dir), files(t, dir)
			refused := func(what string) {
				t.Helper()
				if _, err := p.modules.get(name); err == nil || errors.Is(err, errNoModule) {
					t.Errorf("%s: %v", what, err)
				}
				if _, err := os.Lstat(dir); !errors.Is(err, fs.ErrNotExist) {
					t.Errorf("%s: still there", what)
				}
				for file, content := range good {
					write(t, file, content)
				}
			}
			for file, content := range good {
				step := max(len(content)/64, 1)
				for at := 0; at < len(content); at += step {
					b := []byte(content)
					b[at] ^= 1 << (at % 8)
					write(t, file, string(b))
					refused("flipped a bit of " + file)
				}
				for _, n := range []int{0, 1, len(content) / 2, len(content) - 1} {
					write(t, file, content[:n])
					refused("cut " + file)
				}
				write(t, file, content+"\x00")
				refused("extended " + file)
				if err := os.Remove(file); err != nil {
					t.Fatal(err)
				}
				refused("removed " + file)
			}
			write(t, filepath.Join(dir, "more"), "")
			refused("another file")
			if err := os.Symlink("/etc/passwd", filepath.Join(dir, "link")); err != nil {
				t.Fatal(err)
			}
			refused("a link")

			// Two modules change places.
			for file, content := range files(t, moduleOf(p, other)) {
				rel, err := filepath.Rel(moduleOf(p, other), file)
				if err != nil {
					t.Fatal(err)
				}
				write(t, filepath.Join(dir, rel), content)
			}
			refused("another program's module")

			// One that was made whole in another cache, which has another key.
			away := cachePool(t, engine, t.TempDir(), 0)
			run(t, away, task)
			for file, content := range files(t, moduleOf(away, task)) {
				rel, err := filepath.Rel(moduleOf(away, task), file)
				if err != nil {
					t.Fatal(err)
				}
				write(t, filepath.Join(dir, rel), content)
			}
			refused("another cache's module")

			if _, err := p.modules.get(name); err != nil {
				t.Errorf("the good module: %v", err)
			}
			// And the program runs, whatever was there.
			for file := range good {
				write(t, file, "rubbish")
			}
			if !made(t, p, task, 3) {
				t.Error("rubbish was run")
			}
		})
	}
}

// TestRefusedModulesAreCompiledAgain: an engine that was replaced under the
// same name, which no seal tells.
func TestRefusedModulesAreCompiledAgain(t *testing.T) {
	t.Parallel()
	for _, engine := range Engines() {
		p := cachePool(t, engine, t.TempDir(), 0)
		task := small(t, 3)
		stage := filepath.Join(p.modules.dir, stageName+"1")
		write(t, filepath.Join(stage, "module"), "of another engine")
		if err := p.modules.put(stage, filepath.Base(moduleOf(p, task)), 1); err != nil {
			t.Fatal(err)
		}
		if !made(t, p, task, 3) {
			t.Errorf("%s took it", engine)
		}
	}
}

// TestModulesHaveTheirVersion: a module of an older engine, or of another
// processor, has another name.
func TestModulesHaveTheirVersion(t *testing.T) {
	t.Parallel()
	versions := map[string]string{}
	for line := range strings.Lines(read(t, filepath.Join("..", "..", "go.mod"))) {
		if f := strings.Fields(line); len(f) >= 2 {
			versions[f[0]] = strings.TrimPrefix(f[1], "v")
		}
	}
	for engine, path := range map[string]string{Wasmtime: "github.com/bytecodealliance/wasmtime-go/v44", Wazero: "github.com/tetratelabs/wazero"} {
		if e, here := engines[engine]; here && e.version != engine+"-"+versions[path] {
			t.Errorf("modules are named %s, the engine is %s", e.version, versions[path])
		}
	}
	id := workunits.Sum([]byte("p"))
	if a, b := moduleName(Wazero, key{id: id}), moduleName(Wazero, key{id: id, canonical: true}); a == b || !strings.Contains(a, processor()) {
		t.Errorf("%s, %s", a, b)
	}
}

func TestModulesUsedLastStay(t *testing.T) {
	t.Parallel()
	for _, engine := range Engines() {
		t.Run(engine, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			p := cachePool(t, engine, dir, 0)
			a, b, c := small(t, 1), small(t, 2), small(t, 3)
			if !made(t, p, a, 1) || !made(t, p, b, 2) {
				t.Fatal("not compiled")
			}
			// b is older, but a was used last.
			ago := func(task Task, d time.Duration) {
				then := time.Now().Add(-d)
				if err := os.Chtimes(filepath.Join(moduleOf(p, task), sealName), then, then); err != nil {
					t.Fatal(err)
				}
			}
			ago(a, time.Hour)
			ago(b, time.Minute)
			fresh(p)
			if made(t, p, a, 1) { // which is a use
				t.Error("compiled again")
			}
			two := filesBelow(p.modules.modules(), 1<<20).bytes
			p = cachePool(t, engine, dir, two)
			if !made(t, p, c, 3) || made(t, p, a, 1) || !made(t, p, b, 2) {
				t.Error("not the module used longest ago went")
			}
			if n := filesBelow(p.modules.modules(), 1<<20).bytes; n > two {
				t.Errorf("%d bytes, the bound is %d", n, two)
			}
			// The one in use stays, however small the bound.
			p = cachePool(t, engine, dir, 1)
			made(t, p, small(t, 5), 5)
			if list, err := os.ReadDir(p.modules.modules()); err != nil || len(list) != 1 {
				t.Errorf("%d modules, %v", len(list), err)
			}
		})
	}
}

// TestModulesThatCannotBeKept: the program is compiled by the child that runs it.
func TestModulesThatCannotBeKept(t *testing.T) {
	t.Parallel()
	for _, engine := range Engines() {
		p := cachePool(t, engine, t.TempDir(), 0)
		if err := os.RemoveAll(p.modules.dir); err != nil {
			t.Fatal(err)
		}
		write(t, p.modules.dir, "in the way")
		if r := run(t, p, small(t, 3)); r.Code != 3 {
			t.Errorf("%s: %+v", engine, r)
		}
	}
}

func TestStagesOfTheDeadGo(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	old := time.Now().Add(-2 * staleStage)
	for _, name := range []string{stageName + "1", keyName + "-1"} {
		path := write(t, filepath.Join(dir, name), "half")
		if err := os.Chtimes(path, old, old); err != nil {
			t.Fatal(err)
		}
	}
	write(t, filepath.Join(dir, stageName+"2"), "half")
	write(t, filepath.Join(dir, keyName), "short")
	c, err := openModules(dir, 0)
	if err != nil {
		t.Fatal(err)
	}
	again, err := openModules(dir, 0)
	if err != nil || again.key != c.key || c.key == [32]byte{} {
		t.Errorf("other keys, %v", err)
	}
	left, err := os.ReadDir(dir)
	if err != nil || len(left) != 3 { // key, modules, the younger stage
		t.Errorf("%v, %v", left, err)
	}
}
