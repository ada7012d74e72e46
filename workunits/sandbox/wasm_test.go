package sandbox

import (
	"encoding/binary"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/talka-grid/talka/workunits/sandbox/wasi"
)

// wasm assembles small modules for the tests: one function "_start" and what
// it needs.
type wasm struct {
	imports []string // functions of preview 1
	pages   uint32   // initial memory
	most    uint32   // 0: no maximum
	locals  int      // i32
	code    []byte   // of _start, without the final end
	extra   []section
	data    string // at address 0
}

type section struct {
	id   byte
	body []byte
}

// Opcodes.
const (
	opUnreachable = 0x00
	opBlock       = 0x02
	opLoop        = 0x03
	opIf          = 0x04
	opEnd         = 0x0b
	opBr          = 0x0c
	opCall        = 0x10
	opDrop        = 0x1a
	opLocalGet    = 0x20
	opLocalSet    = 0x21
	opI32Load     = 0x28
	opI32Store    = 0x36
	opMemorySize  = 0x3f
	opMemoryGrow  = 0x40
	opI32Const    = 0x41
	opI64Const    = 0x42
	opF64Const    = 0x44
	opI32Div      = 0x6d
	opI32Trunc    = 0xaa // i32.trunc_f64_s
	void          = 0x40
)

func leb(v uint32) []byte { return binary.AppendUvarint(nil, uint64(v)) }

// sleb is a signed LEB128 number.
func sleb(v int64) (b []byte) {
	for {
		c := byte(v & 0x7f)
		v >>= 7
		if v == 0 && c&0x40 == 0 || v == -1 && c&0x40 != 0 {
			return append(b, c)
		}
		b = append(b, c|0x80)
	}
}

func i32(v int32) []byte { return append([]byte{opI32Const}, sleb(int64(v))...) }

func ops(parts ...any) (b []byte) {
	for _, p := range parts {
		switch p := p.(type) {
		case int:
			b = append(b, byte(p))
		case []byte:
			b = append(b, p...)
		}
	}
	return b
}

func sized(b []byte) []byte { return append(leb(uint32(len(b))), b...) }

func vec(items ...[]byte) []byte {
	b := leb(uint32(len(items)))
	for _, item := range items {
		b = append(b, item...)
	}
	return b
}

// exit ends the program with the code on the stack; proc_exit is import n.
func call(n int) []byte { return append([]byte{opCall}, leb(uint32(n))...) }

func (w wasm) bytes() []byte {
	types := [][]byte{{0x60, 0, 0}}
	var imports [][]byte
	for i, name := range w.imports {
		for _, f := range wasi.Functions() {
			if f.Name == name {
				params := []byte{}
				for _, c := range f.Params {
					params = append(params, map[rune]byte{'i': 0x7f, 'I': 0x7e}[c])
				}
				types = append(types, ops(0x60, sized(params), sized([]byte{0x7f}[:f.Results()])))
			}
		}
		imports = append(imports, ops(sized([]byte(wasi.ModuleName)), sized([]byte(name)), 0, leb(uint32(i+1))))
	}
	memory := ops(0, leb(w.pages))
	if w.most > 0 {
		memory = ops(1, leb(w.pages), leb(w.most))
	}
	body := ops(0, w.code, opEnd)
	if w.locals > 0 {
		body = ops(1, leb(uint32(w.locals)), 0x7f, w.code, opEnd)
	}
	sections := []section{
		{1, vec(types...)},
		{2, vec(imports...)},
		{3, vec(leb(0))},
		{5, vec(memory)},
		{7, vec(ops(sized([]byte("memory")), 2, 0), ops(sized([]byte("_start")), 0, leb(uint32(len(w.imports)))))},
		{10, vec(sized(body))},
	}
	if w.data != "" {
		sections = append(sections, section{11, vec(ops(0, i32(0), opEnd, sized([]byte(w.data))))})
	}
	b := []byte("\x00asm\x01\x00\x00\x00")
	sections = append(sections, w.extra...)
	slices.SortStableFunc(sections, func(a, b section) int { return int(a.id) - int(b.id) })
	for _, s := range sections {
		b = append(append(b, s.id), sized(s.body)...)
	}
	return b
}

// exitWith is a program that leaves what code puts on the stack as its exit code.
func exitWith(w wasm, code []byte) wasm {
	w.imports = []string{"proc_exit"}
	w.code = ops(code, call(0))
	return w
}

func (w wasm) file(t testing.TB) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "program.wasm")
	if err := os.WriteFile(name, w.bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

// endless is a program that never ends.
var endless = wasm{pages: 1, code: ops(opLoop, void, opBr, 0, opEnd)}

// grower grows its memory page by page until that is refused and exits with
// the number of pages.
var grower = exitWith(wasm{pages: 1}, ops(
	opLoop, void,
	i32(1), opMemoryGrow, 0, i32(-1), 0x47, // i32.ne
	0x0d, 0, // br_if
	opEnd,
	opMemorySize, 0))
