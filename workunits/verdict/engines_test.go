package verdict_test

import (
	"encoding/binary"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/talka-grid/talka/workunits"
	"github.com/talka-grid/talka/workunits/sandbox"
	"github.com/talka-grid/talka/workunits/verdict"
)

// The test binary is the child of a sandbox, as the node's binary is.
func TestMain(m *testing.M) {
	sandbox.AddWazero()
	if len(os.Args) > 1 && os.Args[1] == "sandbox-child" {
		os.Exit(sandbox.ChildMain(os.Stdin, os.Stdout))
	}
	os.Exit(m.Run())
}

// nanProgram exits with bits of the least of two NaNs: those of one of them, or none if
// NaNs are canonical.
func nanProgram() []byte {
	nan := func(payload uint64) []byte {
		return binary.LittleEndian.AppendUint64([]byte{0x44}, 0x7ff8<<48|payload) // f64.const
	}
	code := append([]byte{0}, nan(0x12)...) // no locals
	code = append(code, nan(0x34)...)
	code = append(code, 0xa4, 0xbd, 0xa7, 0x10, 0, 0x0b) // f64.min, i64.reinterpret_f64, i32.wrap_i64, call 0, end
	program := []byte("\x00asm\x01\x00\x00\x00" +
		"\x01\x08\x02\x60\x00\x00\x60\x01\x7f\x00" + // types () -> () and (i32) -> ()
		"\x02\x24\x01\x16wasi_snapshot_preview1\x09proc_exit\x00\x01" +
		"\x03\x02\x01\x00" + // function 1 of type 0
		"\x05\x03\x01\x00\x01" + // memory of one page
		"\x07\x13\x02\x06memory\x02\x00\x06_start\x00\x01")
	return append(append(program, 0x0a, byte(len(code)+2), 1, byte(len(code))), code...)
}

// engineRun executes the program of NaNs as a volunteer with that engine would, and gives
// what it would commit to.
func engineRun(t *testing.T, engine string, canonical bool) string {
	t.Helper()
	dir := t.TempDir()
	program := filepath.Join(dir, "nan.wasm")
	if err := os.WriteFile(program, nanProgram(), 0o600); err != nil {
		t.Fatal(err)
	}
	p, err := sandbox.New(sandbox.Config{CacheDir: filepath.Join(dir, "cache"), Slots: 1, Engine: engine})
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	r, err := p.Run(t.Context(), sandbox.Task{
		Program: program, ProgramID: workunits.Sum(nanProgram()), Dir: filepath.Join(dir, "run"), Canonical: canonical,
		Limits: sandbox.Limits{Memory: 1 << 20, Wall: time.Minute},
	}, nil)
	if err != nil {
		t.Fatal(err)
	}
	_, digest := workunits.Outcome{How: r.Kind, Code: r.Code, Trap: r.Trap}.Encode()
	return digest.String()
}

// TestEnginesSplit: two volunteers execute one unit, each with an engine of its own,
// and it comes to a NaN whose bits are the engine's. Neither burns. Copies that make
// NaNs canonical, by those who can, settle it.
func TestEnginesSplit(t *testing.T) {
	t.Parallel()
	if sandbox.Engines()[0] != sandbox.Wasmtime {
		t.Skip("this build has one engine")
	}
	results := map[string]string{
		sandbox.Wasmtime: engineRun(t, sandbox.Wasmtime, false), sandbox.Wazero: engineRun(t, sandbox.Wazero, false),
	}
	canonical := engineRun(t, sandbox.Wasmtime, true)
	if results[sandbox.Wasmtime] == results[sandbox.Wazero] {
		t.Skip("both engines choose the same NaN on this processor")
	}
	for home, abroad := range map[string]string{sandbox.Wasmtime: sandbox.Wazero, sandbox.Wazero: sandbox.Wasmtime} {
		t.Run("publisher with "+home, func(t *testing.T) {
			t.Parallel()
			w := newWorldOn(sandbox.Platform(home), nil)
			run := func(by, to, engine string, canon bool) {
				text := results[engine]
				if canon {
					text = canonical
				}
				c := w.commit(w.grantFor(by, to, 0, sandbox.Platform(engine), canon), text)
				w.drawn(c, "s1", "s2")
				w.keep(c)
			}
			run("s1", "v1", home, false)
			run("s2", "v2", abroad, false)
			if v := w.book().Unit(0); v.State != verdict.Open || v.Contested {
				t.Errorf("two engines: %+v", v)
			}
			run("s1", "v3", sandbox.Wasmtime, true)
			run("s2", "v4", sandbox.Wasmtime, true)
			b := w.book()
			if v := b.Unit(0); v.State != verdict.Accepted || !v.Canonical || v.Contested || v.Result != result(canonical) {
				t.Errorf("after canonical copies: %+v", v)
			}
			if f := b.Faults(); len(f) > 0 {
				t.Errorf("they burned %v", f)
			}
			for _, n := range []string{"v1", "v2", "v3", "v4"} {
				if b.Burned(idOf(n)) {
					t.Errorf("%s is burned", n)
				}
			}
		})
	}
}
