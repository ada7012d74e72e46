package sandbox

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/talka-grid/talka/workunits/sandbox/wasi"
)

// MaxProgram is the largest program in bytes.
const MaxProgram = 256 << 20

// ErrProgram is wrapped by every error about a program that Talka cannot run.
var ErrProgram = errors.New("program cannot run on Talka")

// Check says what is wrong with a program before it is published: it has to be
// a WebAssembly module that is a WASI preview 1 command, imports nothing else
// and uses no feature that this package leaves off. The error names the import
// or the feature and wraps ErrProgram.
func Check(program []byte) error {
	if _, err := parseModule(program); err != nil {
		return fmt.Errorf("%w: %w", err, ErrProgram)
	}
	if err := validate(program); err != nil {
		return fmt.Errorf("%w: %w", err, ErrProgram)
	}
	return nil
}

// moduleInfo is what the sandbox needs to know of a module beside its code.
type moduleInfo struct {
	minPages uint32 // of 64 KiB, of the memory at the start
}

// parser walks the sections of a module. Only what concerns imports, exports,
// the memory and which instructions there are is looked at; the engine validates
// the rest.
type parser struct {
	info    moduleInfo
	types   []string // "params:results", one letter a value
	funcs   []uint32 // types of all functions, imported first
	imports int      // of functions
	tables  []table
	memory  bool // there is one
	shows   bool // it is exported as "memory"
	starts  bool // "_start" is a function without parameters and results
}

var errModule = errors.New("damaged WebAssembly module")

func parseModule(program []byte) (moduleInfo, error) {
	var p parser
	switch {
	case len(program) > MaxProgram:
		return p.info, fmt.Errorf("program of %d bytes, the limit is %d", len(program), MaxProgram)
	case !bytes.HasPrefix(program, []byte("\x00asm")) || len(program) < 8:
		return p.info, errors.New("not WebAssembly: compile the program for WASI preview 1 (wasm32-wasip1)")
	case program[6] == 1:
		return p.info, errors.New("a WebAssembly component: compile for WASI preview 1 (wasm32-wasip1), not preview 2")
	case !bytes.HasPrefix(program[4:], []byte{1, 0, 0, 0}):
		return p.info, errors.New("unknown version of WebAssembly")
	}
	r := &reader{b: program[8:]}
	for len(r.b) > 0 && !r.bad {
		id := r.byte()
		body := &reader{b: r.take(r.u32())}
		if r.bad {
			break
		}
		if err := p.section(id, body); err != nil {
			return p.info, err
		}
		r.bad = body.bad
	}
	switch {
	case r.bad:
		return p.info, errModule
	case !p.starts:
		return p.info, errors.New(`not a command: it exports no function "_start" (a library or a reactor?)`)
	case p.imports > 0 && !p.shows:
		return p.info, errors.New(`exports no memory named "memory"`)
	}
	return p.info, nil
}

func (p *parser) section(id byte, r *reader) error {
	switch id {
	case 1:
		return p.typeSection(r)
	case 2:
		return p.importSection(r)
	case 3:
		for range r.count() {
			p.funcs = append(p.funcs, r.u32())
		}
	case 5:
		return p.memorySection(r)
	case 4:
		return p.tableSection(r)
	case 6:
		return p.globalSection(r)
	case 7:
		p.exportSection(r)
	case 9:
		return p.elementSection(r)
	case 11:
		return p.dataSection(r)
	case 10:
		return p.codeSection(r)
	case 13:
		return unsupported(featureExceptions)
	}
	return nil
}

func (p *parser) typeSection(r *reader) error {
	for range r.count() {
		if form := r.byte(); form != 0x60 && !r.bad {
			return unsupported(featureGC)
		}
		params := r.valueTypes()
		p.types = append(p.types, params+":"+r.valueTypes())
	}
	return nil
}

// valueTypes reads a list and gives each type a letter: i for i32, I for i64, x
// for others.
func (r *reader) valueTypes() string {
	letters := make([]byte, r.count())
	for i := range letters {
		switch r.valueType() {
		case 0x7f:
			letters[i] = 'i'
		case 0x7e:
			letters[i] = 'I'
		default:
			letters[i] = 'x'
		}
	}
	return string(letters)
}

func (p *parser) importSection(r *reader) error {
	for range r.count() {
		module, name := r.name(), r.name()
		kind := r.byte()
		if r.bad {
			return nil
		}
		if module != wasi.ModuleName {
			return fmt.Errorf("imports %.80q from %.80q: only %q is there%s", name, module, wasi.ModuleName, importHint(module))
		}
		if kind != 0 {
			return fmt.Errorf("imports %.80q from %q as something other than a function", name, module)
		}
		i := slices.IndexFunc(wasi.Functions(), func(f wasi.Function) bool { return f.Name == name })
		if i < 0 {
			return fmt.Errorf("imports %.80q from %q, which has no such function", name, module)
		}
		f, typ := wasi.Functions()[i], r.u32()
		if want := f.Params + ":" + "i"[:f.Results()]; typ >= uint32(len(p.types)) || p.types[typ] != want {
			return fmt.Errorf("imports %q from %q with the wrong type", name, module)
		}
		p.funcs = append(p.funcs, typ)
		p.imports++
	}
	return nil
}

func importHint(module string) string {
	switch {
	case module == "wasi_unstable":
		return "; compile with a newer compiler"
	case strings.HasPrefix(module, "wasi:"):
		return "; compile for preview 1, not preview 2"
	case module == "env":
		return "; a library was not linked in, or the program is made for another host"
	case module == "wasi":
		return "; threads are not supported"
	case module == "gojs":
		return "; compile with GOOS=wasip1"
	}
	return ""
}

func (p *parser) memorySection(r *reader) error {
	for range r.count() {
		if p.memory {
			return unsupported("multiple memories")
		}
		flags := r.byte()
		if flags&2 != 0 {
			return unsupported("threads (shared memory)")
		}
		if flags&4 != 0 {
			return unsupported("a 64-bit memory")
		}
		p.info.minPages = r.u32()
		if flags&1 != 0 {
			r.u32()
		}
		p.memory = true
	}
	return nil
}

func (p *parser) exportSection(r *reader) {
	for range r.count() {
		name, kind, index := r.name(), r.byte(), r.u32()
		switch {
		case name == "memory" && kind == 2:
			p.shows = true
		case name == "_start" && kind == 0 && index < uint32(len(p.funcs)):
			typ := p.funcs[index]
			p.starts = typ < uint32(len(p.types)) && p.types[typ] == ":"
		}
	}
}

// reader reads the primitive values of the binary format. After a value that
// is not there it is bad and gives zeros.
type reader struct {
	b   []byte
	bad bool
}

func (r *reader) take(n uint32) []byte {
	if uint64(n) > uint64(len(r.b)) {
		r.b, r.bad = nil, true
		return nil
	}
	b := r.b[:n]
	r.b = r.b[n:]
	return b
}

func (r *reader) byte() byte {
	if b := r.take(1); len(b) == 1 {
		return b[0]
	}
	return 0
}

// u32 reads an LEB128 number.
func (r *reader) u32() uint32 {
	var v uint64
	for shift := 0; shift < 35; shift += 7 {
		c := r.byte()
		v |= uint64(c&0x7f) << shift
		if c < 0x80 {
			if v>>32 != 0 {
				break
			}
			return uint32(v)
		}
	}
	r.b, r.bad = nil, true
	return 0
}

// count reads the length of a list, each of whose elements takes a byte.
func (r *reader) count() uint32 {
	n := r.u32()
	if uint64(n) > uint64(len(r.b)) {
		r.b, r.bad = nil, true
		return 0
	}
	return n
}

func (r *reader) name() string { return string(r.take(r.u32())) }
