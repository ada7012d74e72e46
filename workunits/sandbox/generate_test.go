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

// leb is a number, sometimes longer than need be, as linkers write it.
func (g *generator) leb(v uint32) []byte {
	b := leb(v)
	if g.n(32) == 31 {
		for range 1 + g.n(5-len(b)) {
			b[len(b)-1] |= 0x80
			b = append(b, 0)
		}
	}
	return b
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
		g.emit(opLocalGet, g.leb(uint32(g.locals[t][g.n(len(g.locals[t]))])))
	case 3:
		g.emit(0x23, global(t))
	case 4:
		g.address(depth)
		list := loads[t]
		g.emit(list[g.n(len(list))], 0, g.leb(uint32(g.n(64))))
	case 5: // select
		g.expression(t, depth)
		g.expression(t, depth)
		g.expression('i', depth)
		g.emit(0x1b)
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
	local := g.leb(uint32(g.scratch[t]))
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
		g.emit(opCall, g.leb(uint32(f+1))) // behind the import
		return
	}
	// Mostly the place of the function in the table.
	if g.emit(i32(int32(f))); g.n(64) == 63 {
		g.expression('i', 1)
		g.emit(0x6a)
	}
	g.emit(0x11, g.leb(uint32(f+2)), 0) // types: of fd_write, of _start, of the functions
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
		g.emit(opLocalSet, g.leb(uint32(g.locals[t][g.n(len(g.locals[t]))])))
	case 2, 3:
		g.expression(t, depth)
		g.emit(0x24, global(t))
	case 4, 5:
		g.address(depth)
		g.expression(t, depth)
		list := stores[t]
		g.emit(list[g.n(len(list))], 0, g.leb(uint32(g.n(64))))
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
	g.emit(0x0e, g.leb(uint32(blocks)))
	for i := range blocks + 1 {
		g.emit(g.leb(uint32(i % blocks)))
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
