package sandbox

import (
	"encoding/binary"
	"math"
	"strings"

	"github.com/talka-grid/talka/workunits/sandbox/wasi"
)

// generator writes a random valid program, decided by a string of bytes: where
// it ends all decisions are 0, and the program ends soon. It computes with all
// types and instructions, jumps, calls, traps, and writes pieces of its memory,
// and all of it in the end, to standard output. Each loop and call takes fuel, so
// that it ends. Where an operation may give a NaN, whose bits are the processor's
// to choose, it replaces it by one of its own.
type generator struct {
	choices []byte
	out     []byte   // code under way
	funcs   []string // types of all functions, "params:result"
	locals  map[byte][]int
	scratch map[byte]int // a local for each type that may be a NaN
	calls   bool         // the function under way may call others
}

// Value types: i and I are integers of 32 and 64 bits, f and F floats, v a vector.
const valueLetters = "iIfFv"

var valueCodes = map[byte]byte{'i': 0x7f, 'I': 0x7e, 'f': 0x7d, 'F': 0x7c, 'v': 0x7b}

// operation is an instruction on the stack.
type operation struct {
	code []byte
	in   string
	lane int  // 0: it has no immediate, else how many
	nan  byte // lanes that may become NaN: f or F; 0: none
}

// operations gives all by their result.
var operations = func() map[byte][]operation {
	table := map[byte][]operation{}
	add := func(result byte, in string, nan byte, first, last int, skip ...int) {
		for op := first; op <= last; op++ {
			skipped := false
			for _, s := range skip {
				skipped = skipped || s == op
			}
			if !skipped {
				table[result] = append(table[result], operation{code: []byte{byte(op)}, in: in, nan: nan})
			}
		}
	}
	prefixed := func(prefix byte, lane int, result byte, in string, nan byte, codes ...uint32) {
		for _, op := range codes {
			table[result] = append(table[result], operation{code: append([]byte{prefix}, leb(op)...), in: in, lane: lane, nan: nan})
		}
	}
	span := func(first, last uint32) (list []uint32) {
		for op := first; op <= last; op++ {
			list = append(list, op)
		}
		return list
	}
	add('i', "i", 0, 0x45, 0x45)
	add('i', "ii", 0, 0x46, 0x4f)
	add('i', "I", 0, 0x50, 0x50)
	add('i', "II", 0, 0x51, 0x5a)
	add('i', "ff", 0, 0x5b, 0x60)
	add('i', "FF", 0, 0x61, 0x66)
	add('i', "i", 0, 0x67, 0x69)
	add('i', "ii", 0, 0x6a, 0x78)
	add('I', "I", 0, 0x79, 0x7b)
	add('I', "II", 0, 0x7c, 0x8a)
	add('f', "f", 0, 0x8b, 0x8c)
	add('f', "f", 'f', 0x8d, 0x91)
	add('f', "ff", 'f', 0x92, 0x97)
	add('f', "ff", 0, 0x98, 0x98)
	add('F', "F", 0, 0x99, 0x9a)
	add('F', "F", 'F', 0x9b, 0x9f)
	add('F', "FF", 'F', 0xa0, 0xa5)
	add('F', "FF", 0, 0xa6, 0xa6)
	add('i', "I", 0, 0xa7, 0xa7)
	add('i', "f", 0, 0xa8, 0xa9)
	add('i', "F", 0, 0xaa, 0xab)
	add('I', "i", 0, 0xac, 0xad)
	add('I', "f", 0, 0xae, 0xaf)
	add('I', "F", 0, 0xb0, 0xb1)
	add('f', "i", 0, 0xb2, 0xb3)
	add('f', "I", 0, 0xb4, 0xb5)
	add('f', "F", 'f', 0xb6, 0xb6)
	add('F', "i", 0, 0xb7, 0xb8)
	add('F', "I", 0, 0xb9, 0xba)
	add('F', "f", 'F', 0xbb, 0xbb)
	add('i', "f", 0, 0xbc, 0xbc)
	add('I', "F", 0, 0xbd, 0xbd)
	add('f', "i", 0, 0xbe, 0xbe)
	add('F', "I", 0, 0xbf, 0xbf)
	add('i', "i", 0, 0xc0, 0xc1)
	add('I', "I", 0, 0xc2, 0xc4)
	prefixed(0xfc, 0, 'i', "f", 0, 0, 1)
	prefixed(0xfc, 0, 'i', "F", 0, 2, 3)
	prefixed(0xfc, 0, 'I', "f", 0, 4, 5)
	prefixed(0xfc, 0, 'I', "F", 0, 6, 7)

	prefixed(0xfd, 0, 'v', "i", 0, 0x0f, 0x10, 0x11)
	prefixed(0xfd, 0, 'v', "I", 0, 0x12)
	prefixed(0xfd, 0, 'v', "f", 0, 0x13)
	prefixed(0xfd, 0, 'v', "F", 0, 0x14)
	prefixed(0xfd, 16, 'i', "v", 0, 0x15, 0x16)
	prefixed(0xfd, 8, 'i', "v", 0, 0x18, 0x19)
	prefixed(0xfd, 4, 'i', "v", 0, 0x1b)
	prefixed(0xfd, 2, 'I', "v", 0, 0x1d)
	prefixed(0xfd, 4, 'f', "v", 0, 0x1f)
	prefixed(0xfd, 2, 'F', "v", 0, 0x21)
	prefixed(0xfd, 16, 'v', "vi", 0, 0x17)
	prefixed(0xfd, 8, 'v', "vi", 0, 0x1a)
	prefixed(0xfd, 4, 'v', "vi", 0, 0x1c)
	prefixed(0xfd, 2, 'v', "vI", 0, 0x1e)
	prefixed(0xfd, 4, 'v', "vf", 0, 0x20)
	prefixed(0xfd, 2, 'v', "vF", 0, 0x22)
	prefixed(0xfd, 0, 'v', "vv", 0, 0x0e)
	prefixed(0xfd, 0, 'v', "vv", 0, span(0x23, 0x4c)...)
	prefixed(0xfd, 0, 'v', "vv", 0, span(0x4e, 0x51)...)
	prefixed(0xfd, 0, 'v', "vvv", 0, 0x52)
	prefixed(0xfd, 0, 'i', "v", 0, 0x53, 0x63, 0x64, 0x83, 0x84, 0xa3, 0xa4, 0xc3, 0xc4)
	prefixed(0xfd, 0, 'v', "v", 0, 0x4d, 0x60, 0x61, 0x62, 0x7c, 0x7d, 0x7e, 0x7f, 0x80, 0x81, 0x87, 0x88, 0x89, 0x8a, 0xa0, 0xa1,
		0xa7, 0xa8, 0xa9, 0xaa, 0xc0, 0xc1, 0xc7, 0xc8, 0xc9, 0xca, 0xe0, 0xe1, 0xec, 0xed, 0xf8, 0xf9, 0xfa, 0xfb, 0xfc, 0xfd, 0xfe, 0xff)
	prefixed(0xfd, 0, 'v', "vi", 0, 0x6b, 0x6c, 0x6d, 0x8b, 0x8c, 0x8d, 0xab, 0xac, 0xad, 0xcb, 0xcc, 0xcd)
	prefixed(0xfd, 0, 'v', "vv", 0, 0x65, 0x66, 0x6e, 0x6f, 0x70, 0x71, 0x72, 0x73, 0x76, 0x77, 0x78, 0x79, 0x7b, 0x82, 0x85, 0x86,
		0x8e, 0x8f, 0x90, 0x91, 0x92, 0x93, 0x95, 0x96, 0x97, 0x98, 0x99, 0x9b, 0x9c, 0x9d, 0x9e, 0x9f,
		0xae, 0xb1, 0xb5, 0xb6, 0xb7, 0xb8, 0xb9, 0xba, 0xbc, 0xbd, 0xbe, 0xbf, 0xce, 0xd1, 0xd5, 0xea, 0xeb, 0xf6, 0xf7)
	prefixed(0xfd, 0, 'v', "vv", 0, span(0xd6, 0xdf)...)
	prefixed(0xfd, 0, 'v', "v", 'f', 0x5e, 0x67, 0x68, 0x69, 0x6a, 0xe3)
	prefixed(0xfd, 0, 'v', "v", 'F', 0x5f, 0x74, 0x75, 0x7a, 0x94, 0xef)
	prefixed(0xfd, 0, 'v', "vv", 'f', 0xe4, 0xe5, 0xe6, 0xe7, 0xe8, 0xe9)
	prefixed(0xfd, 0, 'v', "vv", 'F', 0xf0, 0xf1, 0xf2, 0xf3, 0xf4, 0xf5)
	return table
}()

var (
	loads = map[byte][][]byte{
		'i': {{0x28}, {0x2c}, {0x2d}, {0x2e}, {0x2f}}, 'I': {{0x29}, {0x30}, {0x31}, {0x32}, {0x33}, {0x34}, {0x35}}, 'f': {{0x2a}}, 'F': {{0x2b}},
		'v': {{0xfd, 0}, {0xfd, 1}, {0xfd, 2}, {0xfd, 3}, {0xfd, 4}, {0xfd, 5}, {0xfd, 6}, {0xfd, 7}, {0xfd, 8}, {0xfd, 9}, {0xfd, 10}, {0xfd, 0x5c}, {0xfd, 0x5d}},
	}
	stores = map[byte][][]byte{'i': {{0x36}, {0x3a}, {0x3b}}, 'I': {{0x37}, {0x3c}, {0x3d}, {0x3e}}, 'f': {{0x38}}, 'F': {{0x39}}, 'v': {{0xfd, 11}}}
)

// What every generated program has.
const (
	fuelGlobal  = 0
	firstGlobal = 1 // one of each type, in the order of valueLetters
	tableSize   = 8
	outVector   = 65520 // where in memory the arguments of fd_write are
	maxCode     = 16 << 10
)

// n decides between so many ways.
func (g *generator) n(ways int) int {
	if len(g.choices) == 0 {
		return 0
	}
	c := g.choices[0]
	g.choices = g.choices[1:]
	return int(c) % ways
}

func (g *generator) letter() byte { return valueLetters[g.n(len(valueLetters))] }

func (g *generator) emit(parts ...any) { g.out = append(g.out, ops(parts...)...) }

// constant writes a number, often one at the edge of something.
func (g *generator) constant(t byte) {
	random := func(count int) (v uint64) {
		for range count {
			v = v<<8 | uint64(g.n(256))
		}
		return v
	}
	edges := []uint64{0, 1, math.MaxUint64, 1 << 63, 1<<63 - 1, 1 << 31, 1<<31 - 1, 1 << 52, 0x7f, 0x80, 31, 32, 63, 64}
	floats := []float64{0, math.Copysign(0, -1), 1, -1.5, math.Inf(1), math.Inf(-1), math.MaxFloat64, 5e-324, 1 << 31, -1 << 31, 1 << 63, 0.1, math.MaxFloat32, 1e-45}
	v := edges[g.n(len(edges))]
	f := floats[g.n(len(floats))]
	kind := g.n(4)
	if kind == 3 {
		v = random(8)
		f = math.Float64frombits(v) // a NaN with a payload, perhaps
	}
	single := math.Float32bits(float32(f))
	if kind == 3 {
		single = uint32(v)
	}
	switch t {
	case 'i':
		g.emit(i32(int32(v)))
	case 'I':
		g.emit(opI64Const, sleb(int64(v)))
	case 'f':
		g.emit(0x43, binary.LittleEndian.AppendUint32(nil, single))
	case 'F':
		g.emit(opF64Const, binary.LittleEndian.AppendUint64(nil, math.Float64bits(f)))
	case 'v':
		g.emit(0xfd, 12, binary.LittleEndian.AppendUint64(nil, v), binary.LittleEndian.AppendUint64(nil, math.Float64bits(f)))
	}
}

func (g *generator) zero(t byte) {
	saved := g.choices
	g.choices = nil
	g.constant(t)
	g.choices = saved
}

func global(t byte) []byte {
	for i := range valueLetters {
		if valueLetters[i] == t {
			return leb(uint32(firstGlobal + i))
		}
	}
	panic("no such type")
}

// expression writes what leaves a value of a type on the stack.
func (g *generator) expression(t byte, depth int) {
	kind := g.n(12)
	if depth == 0 || len(g.choices) == 0 || len(g.out) > maxCode {
		kind %= 4
	}
	depth--
	switch kind {
	case 0, 1:
		g.constant(t)
	case 2:
		g.emit(opLocalGet, leb(uint32(g.locals[t][g.n(len(g.locals[t]))])))
	case 3:
		g.emit(0x23, global(t))
	case 4:
		g.address(depth)
		list := loads[t]
		g.emit(list[g.n(len(list))], 0, leb(uint32(g.n(64))))
	case 5: // select
		g.expression(t, depth)
		g.expression(t, depth)
		g.expression('i', depth)
		g.emit(0x1c, 1, int(valueCodes[t]))
	case 6: // if
		g.expression('i', depth)
		g.emit(opIf, int(valueCodes[t]))
		g.expression(t, depth)
		g.emit(0x05)
		g.expression(t, depth)
		g.emit(opEnd)
	case 7:
		g.call(t, depth)
	default:
		list := operations[t]
		// Bytes are fewer than vector operations.
		o := list[(g.n(256)<<8|g.n(256))%len(list)]
		for i := range o.in {
			g.expression(o.in[i], depth)
		}
		g.operate(o)
		if o.lane > 0 {
			g.emit(g.n(o.lane))
		}
		g.canonical(t, o.nan)
	}
}

// operate writes an instruction, mostly so that it does not trap: the program
// would end too soon to say much.
func (g *generator) operate(o operation) {
	op := o.code[0]
	tame := g.n(64) != 63
	switch {
	case tame && op >= 0x6d && op <= 0x70: // divisions: the divisor is odd and not -1
		g.emit(i32(0x7fff), 0x71, i32(1), 0x72)
	case tame && op >= 0x7f && op <= 0x82:
		g.emit(opI64Const, sleb(0x7fff), 0x83, opI64Const, 1, 0x84)
	case tame && op >= 0xa8 && op <= 0xab: // truncations: the saturating ones
		g.emit(0xfc, int(op)-0xa8)
		return
	case tame && op >= 0xae && op <= 0xb1:
		g.emit(0xfc, int(op)-0xae+4)
		return
	}
	g.emit(o.code)
}

// canonical replaces NaNs in the value on the stack, whose lanes are such floats.
func (g *generator) canonical(t, lanes byte) {
	if lanes == 0 {
		return
	}
	local := leb(uint32(g.scratch[t]))
	nan64, nan32 := binary.LittleEndian.AppendUint64(nil, 0x7ff8<<48), binary.LittleEndian.AppendUint32(nil, 0x7fc0<<16)
	g.emit(0x22, local) // local.tee
	equal := map[byte]int{'f': 0x41, 'F': 0x47}[lanes]
	switch t {
	case 'f':
		g.emit(0x43, nan32, opLocalGet, local, opLocalGet, local, 0x5b, 0x1b)
	case 'F':
		g.emit(opF64Const, nan64, opLocalGet, local, opLocalGet, local, 0x61, 0x1b)
	case 'v':
		g.emit(0xfd, 12)
		for range 16 / map[byte]int{'f': 4, 'F': 8}[lanes] {
			g.emit(map[byte][]byte{'f': nan32, 'F': nan64}[lanes])
		}
		g.emit(opLocalGet, local, opLocalGet, local, 0xfd, equal, 0xfd, 0x52)
	}
}

// address leaves one on the stack that mostly lies in memory.
func (g *generator) address(depth int) {
	g.expression('i', depth)
	if g.n(256) != 255 {
		g.emit(i32(0x7fff), 0x71) // i32.and
	}
}

// call calls a function with that result, directly or through the table.
func (g *generator) call(t byte, depth int) {
	var fit []int
	for i, typ := range g.funcs {
		if typ[len(typ)-1] == t && typ[len(typ)-2] == ':' {
			fit = append(fit, i)
		}
	}
	if len(fit) == 0 || !g.calls {
		g.constant(t)
		return
	}
	f := fit[g.n(len(fit))]
	for i := range len(g.funcs[f]) - 2 {
		g.expression(g.funcs[f][i], depth)
	}
	if g.n(3) != 0 {
		g.emit(call(f + 1)) // behind the import
		return
	}
	// Mostly the place of the function in the table.
	if g.emit(i32(int32(f))); g.n(64) == 63 {
		g.expression('i', 1)
		g.emit(0x6a)
	}
	g.emit(0x11, leb(uint32(f+2)), 0) // types: of fd_write, of _start, of the functions
}

// statements writes what leaves the stack as it was.
func (g *generator) statements(depth int) {
	for range 1 + g.n(4) {
		g.statement(depth)
	}
}

func (g *generator) statement(depth int) {
	if depth == 0 || len(g.choices) == 0 || len(g.out) > maxCode {
		return
	}
	depth--
	t := g.letter()
	switch g.n(14) {
	case 0, 1:
		g.expression(t, depth)
		g.emit(opLocalSet, leb(uint32(g.locals[t][g.n(len(g.locals[t]))])))
	case 2, 3:
		g.expression(t, depth)
		g.emit(0x24, global(t))
	case 4, 5:
		g.address(depth)
		g.expression(t, depth)
		list := stores[t]
		g.emit(list[g.n(len(list))], 0, leb(uint32(g.n(64))))
	case 6:
		g.expression('i', depth)
		g.emit(opIf, void)
		g.statements(depth)
		g.emit(0x05)
		g.statements(depth)
		g.emit(opEnd)
	case 7, 8:
		g.loop(depth)
	case 9:
		g.jumps(depth)
	case 10:
		g.print()
	case 11:
		g.expression('i', depth)
		g.emit(opMemoryGrow, 0, 0x24, global('i'))
	case 12: // memory.copy, memory.fill
		g.address(depth)
		if g.n(2) == 0 {
			g.address(depth)
			g.emit(i32(int32(g.n(200))), 0xfc, 10, 0, 0)
		} else {
			g.expression('i', depth)
			g.emit(i32(int32(g.n(200))), 0xfc, 11, 0)
		}
	case 13:
		if g.n(64) == 63 {
			g.emit(opUnreachable)
		}
	}
}

// burn takes fuel and leaves on the stack whether there was none.
func (g *generator) burn(cost int32) {
	g.emit(0x23, fuelGlobal, i32(cost), 0x6b, 0x24, fuelGlobal, 0x23, fuelGlobal, i32(0), 0x48)
}

func (g *generator) loop(depth int) {
	g.emit(opBlock, void, opLoop, void)
	g.burn(1)
	g.emit(0x0d, 1)
	g.statements(depth)
	g.expression('i', depth)
	g.emit(0x0d, 0, opEnd, opEnd)
}

// jumps writes blocks and leaves them by br_table.
func (g *generator) jumps(depth int) {
	blocks := 1 + g.n(3)
	for range blocks {
		g.emit(opBlock, void)
	}
	g.expression('i', depth)
	g.emit(0x0e, leb(uint32(blocks)))
	for i := range blocks + 1 {
		g.emit(leb(uint32(i % blocks)))
	}
	for range blocks {
		g.emit(opEnd)
		g.statement(depth)
	}
}

// print writes a piece of memory to standard output.
func (g *generator) print() {
	g.emit(i32(outVector), i32(int32(g.n(256)*64)), opI32Store, 2, 0, i32(outVector), i32(int32(g.n(64))), opI32Store, 2, 4)
	g.emit(i32(1), i32(outVector), i32(1), i32(outVector+8), call(0), opDrop)
}

// function writes one, and answers its body.
func (g *generator) function(typ string, code func()) []byte {
	g.out, g.locals, g.scratch = nil, map[byte][]int{}, map[byte]int{}
	params := strings.IndexByte(typ, ':')
	for i := range params {
		g.locals[typ[i]] = append(g.locals[typ[i]], i)
	}
	var groups [][]byte
	for i := range len(valueLetters) {
		t := valueLetters[i]
		first := params + 3*i
		g.locals[t] = append(g.locals[t], first, first+1)
		g.scratch[t] = first + 2
		groups = append(groups, []byte{3, valueCodes[t]})
	}
	code()
	return sized(ops(vec(groups...), g.out, opEnd))
}

// generate answers a module.
func generate(choices []byte) []byte {
	g := &generator{choices: choices}
	types := [][]byte{ops(0x60, sized([]byte{0x7f, 0x7f, 0x7f, 0x7f}), sized([]byte{0x7f})), {0x60, 0, 0}}
	var indices, bodies [][]byte
	for range 1 + g.n(4) {
		typ := ""
		for range g.n(4) {
			typ += string(g.letter())
		}
		result := g.letter()
		params := []byte{}
		for i := range typ {
			params = append(params, valueCodes[typ[i]])
		}
		indices = append(indices, leb(uint32(len(types))))
		types = append(types, ops(0x60, sized(params), sized([]byte{valueCodes[result]})))
		g.funcs = append(g.funcs, typ+":"+string(result))
	}
	for _, typ := range g.funcs {
		result := typ[len(typ)-1]
		bodies = append(bodies, g.function(typ, func() {
			g.calls = true
			g.burn(20)
			g.emit(opIf, void)
			g.zero(result)
			g.emit(0x0f, opEnd) // return
			g.statements(3)
			g.expression(result, 4)
		}))
	}
	bodies = append(bodies, g.function(":", func() {
		for len(g.choices) > 0 && len(g.out) < maxCode {
			g.statements(5)
		}
		for i := range len(valueLetters) {
			t := valueLetters[i]
			g.emit(i32(int32(16*i)), 0x23, global(t), stores[t][0], 0, 0)
		}
		g.emit(i32(outVector), i32(0), opI32Store, 2, 0, i32(outVector), i32(1<<16), opI32Store, 2, 4)
		g.emit(i32(1), i32(outVector), i32(1), i32(outVector+8), call(0), opDrop)
	}))
	indices = append(indices, leb(1))
	return g.assemble(types, indices, bodies)
}

func (g *generator) assemble(types, indices, bodies [][]byte) []byte {
	globals := [][]byte{ops(0x7f, 1, i32(2000), opEnd)}
	for i := range len(valueLetters) {
		g.out = nil
		g.zero(valueLetters[i])
		globals = append(globals, ops(int(valueCodes[valueLetters[i]]), 1, g.out, opEnd))
	}
	places := [][]byte{}
	for i := range g.funcs {
		places = append(places, leb(uint32(i+1)))
	}
	start := uint32(len(g.funcs) + 1)
	b := []byte("\x00asm\x01\x00\x00\x00")
	for _, s := range []section{
		{1, vec(types...)},
		{2, vec(ops(sized([]byte(wasi.ModuleName)), sized([]byte("fd_write")), 0, 0))},
		{3, vec(indices...)},
		{4, vec([]byte{0x70, 0, tableSize})},
		{5, vec([]byte{0, 1})},
		{6, vec(globals...)},
		{7, vec(ops(sized([]byte("memory")), 2, 0), ops(sized([]byte("_start")), 0, leb(start)))},
		{9, vec(ops(0, i32(0), opEnd, vec(places...)))},
		{10, vec(bodies...)},
		{11, vec(ops(0, i32(1024), opEnd, sized([]byte("the quick brown fox\x00\xff\x80\x7f"))))},
	} {
		b = append(append(b, s.id), sized(s.body)...)
	}
	return b
}
