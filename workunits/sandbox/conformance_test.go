package sandbox

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/talka-grid/talka/workunits"
	"github.com/talka-grid/talka/workunits/sandbox/wasi"
)

// conformanceDir names the folder of the built public test suite of WASI: its
// programs (NAME.wasm) are found anywhere below a folder "wasm32-wasip1", each
// with an optional NAME.json.
const conformanceDir = "TALKA_WASI_TESTSUITE"

// forbidden lists the programs of the suite that ask for what determinism or
// the sandbox forbids, with the reason.
var forbidden = map[string]string{
	"path_link": "hard links: the bytes of a result are counted by file",
}

// manifest is what the suite says of one program.
type manifest struct {
	Root   string            `json:"root"` // folder that the program sees as "/"
	Dirs   []string          `json:"dirs"` // or, in what the suite publishes ready built, under its own name
	Args   []string          `json:"args"`
	Env    map[string]string `json:"env"`
	Stdout *string           `json:"stdout"`
	Code   uint32            `json:"exit_code"`
}

// TestConformance runs the public test suite of WASI preview 1 on each engine.
func TestConformance(t *testing.T) {
	t.Parallel()
	dir := os.Getenv(conformanceDir)
	if dir == "" {
		t.Skipf("the built WASI test suite is not here: set %s to its folder", conformanceDir)
	}
	var programs []string
	err := filepath.WalkDir(dir, func(name string, _ fs.DirEntry, err error) error {
		if filepath.Ext(name) == ".wasm" && filepath.Base(filepath.Dir(name)) == "wasm32-wasip1" {
			programs = append(programs, name)
		}
		return err
	})
	if err != nil || len(programs) == 0 {
		t.Fatalf("%s: %d programs, %v", dir, len(programs), err)
	}
	for _, program := range programs {
		name := strings.TrimSuffix(filepath.Base(program), ".wasm")
		for _, engine := range Engines() {
			t.Run(engine+"/"+name, func(t *testing.T) {
				t.Parallel()
				problem := conform(t, engine, program)
				switch reason := forbidden[name]; {
				case reason == "" && problem != "":
					t.Error(problem)
				case reason != "" && problem == "":
					t.Errorf("passes, but is listed as forbidden: %s", reason)
				}
			})
		}
	}
}

// conformanceCalls ends a program that goes on for ever.
const conformanceCalls = 1 << 20

// conform runs one program and says what is wrong.
func conform(t *testing.T, engine, program string) string {
	t.Helper()
	var m manifest
	switch text, err := os.ReadFile(strings.TrimSuffix(program, ".wasm") + ".json"); {
	case err == nil:
		if err := json.Unmarshal(text, &m); err != nil {
			t.Fatal(err)
		}
	case !errors.Is(err, fs.ErrNotExist):
		t.Fatal(err)
	}
	root, name, from := t.TempDir(), "/", m.Root
	if len(m.Dirs) == 1 {
		name, from = m.Dirs[0], m.Dirs[0]
	}
	if from != "" {
		if err := os.CopyFS(root, os.DirFS(filepath.Join(filepath.Dir(program), from))); err != nil {
			t.Fatal(err)
		}
	}
	var env []string
	for name, value := range m.Env {
		env = append(env, name+"="+value)
	}
	slices.Sort(env)
	r := runHere(t, loadOrder{Engine: engine, Program: program}, wasi.Config{Args: m.Args, Env: env, Scratch: root, CallsLimit: conformanceCalls}, func(host *wasi.Process) {
		host.Confine(name)
		if from != "" {
			return
		}
		// A program without folders.
		fdClose := slices.IndexFunc(wasi.Functions(), func(f wasi.Function) bool { return f.Name == "fd_close" })
		if errno, _ := host.Call(fdClose, []uint64{3}, nil); errno != 0 {
			t.Error("fd_close:", errno)
		}
	})
	if m.Stdout != nil && r.stdout != *m.Stdout || r.Kind != workunits.Exited || r.Code != m.Code {
		return fmt.Sprintf("%+v", r)
	}
	return ""
}
