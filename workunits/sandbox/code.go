package sandbox

import (
	"errors"
	"fmt"
	"math"
)

// Features that this package leaves off, as an error names them.
const (
	featureRelaxed    = "relaxed SIMD"
	featureThreads    = "threads (atomic instructions)"
	featureGC         = "garbage collection"
	featureReferences = "typed function references"
	featureTailCalls  = "tail calls"
	featureExceptions = "exceptions"
	featureWide       = "wide arithmetic"
	featureStacks     = "stack switching"
)

// codeSection looks at every instruction: it names the features that are left off, and
// refuses what engines read differently. wazero takes the byte after a vector
// prefix for the whole instruction, where the specification has a number of one or
// more bytes, so that a number written longer than need be is two instructions to
// wazero and one to wasmtime. And it does not hold the operands of a select with a
// type against that type. No compiler of a language without references writes either.
func (p *parser) codeSection(r *reader) error {
	for range r.count() {
		body := &reader{b: r.take(r.u32())}
		for range body.count() { // groups of locals
			body.u32()
			body.valueType()
		}
		for len(body.b) > 0 && !body.bad {
			if err := p.instruction(body); err != nil {
				return err
			}
		}
		if body.bad {
			r.bad = true
			return nil
		}
	}
	return nil
}

var errLong = errors.New("writes an instruction longer than need be, which engines read differently")

func unsupported(feature string) error {
	return fmt.Errorf("uses %s, which Talka does not support: compile without", feature)
}

// instruction reads one with what belongs to it.
func (p *parser) instruction(r *reader) error {
	switch op := r.byte(); {
	case op >= 0x02 && op <= 0x04: // type of a block: none, one of a value, or a number
		if len(r.b) == 0 || r.b[0] >= 0x80 || r.b[0] < 0x40 {
			r.signed(33)
		} else if r.b[0] == 0x40 {
			r.byte()
		} else {
			r.valueType()
		}
	case op == 0x41:
		r.signed(32)
	case op == 0x42:
		r.signed(64)
	case op == 0x0c || op == 0x0d || op == 0x10 || op >= 0x20 && op <= 0x26 || op == 0xd2:
		r.u32()
	case op == 0x0e: // br_table
		for range r.count() {
			r.u32()
		}
		r.u32()
	case op == 0x11: // call_indirect
		r.u32()
		r.u32()
	case op == 0x1c:
		return errors.New("uses select with a type, which engines check differently")
	case op >= 0x28 && op <= 0x3e: // loads and stores
		r.memory()
	case op == 0x3f || op == 0x40 || op == 0xd0:
		r.byte()
	case op == 0x43:
		r.take(4)
	case op == 0x44:
		r.take(8)
	case op == 0xfc:
		return p.miscellaneous(r)
	case op == 0xfd:
		return vector(r)
	default:
		return unknown(op)
	}
	return nil
}

// unknown names the feature of an instruction that has nothing behind it, if it
// is left off.
func unknown(op byte) error {
	switch {
	case op >= 0x06 && op <= 0x0a, op == 0x18, op == 0x19, op == 0x1f:
		return unsupported(featureExceptions)
	case op == 0x12 || op == 0x13:
		return unsupported(featureTailCalls)
	case op == 0x14 || op == 0x15 || op >= 0xd4 && op <= 0xd6:
		return unsupported(featureReferences)
	case op == 0xfb || op == 0xd3:
		return unsupported(featureGC)
	case op == 0xfe:
		return unsupported(featureThreads)
	case op >= 0xe0 && op <= 0xe6:
		return unsupported(featureStacks)
	}
	return nil // the engine knows better
}

// The limit of memory does not count tables.
const (
	maxTable  = 1 << 20 // elements
	maxTables = 10
)

// table is how many elements one has at the start, and may ever have.
type table struct{ least, most uint32 }

func (p *parser) tableSection(r *reader) error {
	for range r.count() {
		if len(r.b) > 0 && r.b[0] == 0x40 {
			return unsupported(featureReferences) // a table with an initial value
		}
		r.valueType()
		flags := r.byte()
		t := table{r.u32(), math.MaxUint32}
		if flags&1 != 0 {
			t.most = r.u32()
		}
		if t.least > maxTable {
			return fmt.Errorf("has a table of %d elements, the limit is %d", t.least, maxTable)
		}
		if len(p.tables) == maxTables {
			return fmt.Errorf("has more than %d tables", maxTables)
		}
		p.tables = append(p.tables, t)
	}
	return nil
}

func (p *parser) globalSection(r *reader) (err error) {
	for n := r.count(); n > 0 && err == nil; n-- {
		r.valueType()
		r.byte()
		_, err = p.constant(r)
	}
	return err
}

// elementSection refuses elements beyond the end of their table: the program
// would trap at its start, but wazero goes on without them.
func (p *parser) elementSection(r *reader) (err error) {
	for n := r.count(); n > 0 && err == nil; n-- {
		flags, into, place := r.u32(), uint32(0), uint32(0)
		if flags&3 == 2 {
			into = r.u32()
		}
		if flags&1 == 0 {
			if place, err = p.constant(r); err != nil {
				return err
			}
		}
		if flags&3 != 0 {
			r.byte() // kind or type
		}
		items := r.count()
		if flags&1 == 0 && into < uint32(len(p.tables)) && uint64(place)+uint64(items) > uint64(p.tables[into].least) {
			return errors.New("has elements beyond the end of their table, which engines treat differently")
		}
		for ; items > 0 && err == nil; items-- {
			if flags&4 == 0 {
				r.u32()
			} else {
				_, err = p.constant(r)
			}
		}
	}
	return err
}

func (p *parser) dataSection(r *reader) (err error) {
	for n := r.count(); n > 0 && err == nil; n-- {
		flags := r.u32()
		if flags == 2 {
			r.u32() // memory
		}
		if flags != 1 {
			_, err = p.constant(r)
		}
		r.take(r.u32())
	}
	return err
}

// constant reads an expression, and answers its value if that is an i32. No
// globals are imported, and of others wazero alone takes values.
func (p *parser) constant(r *reader) (value uint32, err error) {
	var stack []uint32
	for len(r.b) > 0 && !r.bad {
		op := r.b[0]
		switch op {
		case 0x0b:
			r.byte()
			if len(stack) > 0 {
				value = stack[0]
			}
			return value, nil
		case 0x41:
			r.byte()
			stack = append(stack, r.i32())
			continue
		case 0x6a, 0x6b, 0x6c: // add, sub, mul
			if len(stack) < 2 {
				r.bad = true
				return 0, nil
			}
			a, b := stack[len(stack)-2], stack[len(stack)-1]
			stack = append(stack[:len(stack)-2], map[byte]uint32{0x6a: a + b, 0x6b: a - b, 0x6c: a * b}[op])
		case 0x42, 0x43, 0x44, 0xd0, 0xd2, 0xfd, 0x7c, 0x7d, 0x7e:
		default:
			return 0, fmt.Errorf("instruction %#x where a constant is needed", op)
		}
		if err := p.instruction(r); err != nil {
			return 0, err
		}
	}
	r.bad = true
	return 0, nil
}

// i32 reads a signed LEB128 number of 32 bits.
func (r *reader) i32() (value uint32) {
	number := r.b
	r.signed(32)
	number = number[:len(number)-len(r.b)]
	for i, c := range number {
		value |= uint32(c&0x7f) << (7 * i)
	}
	if bits := 7 * len(number); bits < 32 && bits > 0 && number[len(number)-1]&0x40 != 0 {
		value |= ^uint32(0) << bits
	}
	return value
}

// miscellaneous reads an instruction behind the prefix 0xfc.
func (p *parser) miscellaneous(r *reader) error {
	before := len(r.b)
	op := r.u32()
	if before-len(r.b) != 1 {
		return errLong
	}
	switch {
	case op <= 7:
	case op == 8 || op == 10 || op == 12 || op == 14:
		r.u32()
		r.u32()
	case op == 15: // table.grow
		if i := r.u32(); i < uint32(len(p.tables)) && p.tables[i].most > maxTable {
			return fmt.Errorf("grows a table without a maximum of at most %d elements: whether that succeeds depends on the machine", maxTable)
		}
	case op <= 17:
		r.u32()
	case op >= 19 && op <= 22:
		return unsupported(featureWide)
	default:
		return fmt.Errorf("unknown instruction 0xfc %d", op)
	}
	return nil
}

// vector reads an instruction behind the prefix 0xfd.
func vector(r *reader) error {
	before := len(r.b)
	op := r.u32()
	if length := before - len(r.b); length > 2 || length == 2 && op < 0x80 {
		return errLong
	}
	switch {
	case op >= 0x100:
		return unsupported(featureRelaxed)
	case op <= 11 || op == 0x5c || op == 0x5d:
		r.memory()
	case op == 12 || op == 13:
		r.take(16)
	case op >= 0x15 && op <= 0x22:
		r.byte()
	case op >= 0x54 && op <= 0x5b:
		r.memory()
		r.byte()
	}
	return nil
}

// memory reads the alignment and the offset of a load or store.
func (r *reader) memory() {
	r.u32()
	r.u32()
}

// valueType reads one of those that both engines have.
func (r *reader) valueType() byte {
	switch c := r.byte(); c {
	case 0x7f, 0x7e, 0x7d, 0x7c, 0x7b, 0x70, 0x6f:
		return c
	}
	r.b, r.bad = nil, true
	return 0
}

// signed skips a signed LEB128 number of so many bits, which its last byte
// must not exceed: not every engine looks.
func (r *reader) signed(bits int) {
	for ; bits > 0; bits -= 7 {
		c := r.byte()
		if c >= 0x80 {
			continue
		}
		// The bits beyond the number repeat its sign.
		if beyond := int8(c<<1) >> min(bits, 7); bits < 7 && beyond != 0 && beyond != -1 {
			break
		}
		return
	}
	r.b, r.bad = nil, true
}
