package sandbox

import (
	"errors"
	"fmt"
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
// wazero and one to wasmtime. No compiler writes such.
func (p *parser) codeSection(r *reader) error {
	for range r.count() {
		body := &reader{b: r.take(r.u32())}
		for range body.count() { // groups of locals
			body.u32()
			body.byte()
		}
		for len(body.b) > 0 && !body.bad {
			if err := instruction(body); err != nil {
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

func unsupported(feature string) error {
	return fmt.Errorf("uses %s, which Talka does not support: compile without", feature)
}

// instruction reads one with what belongs to it.
func instruction(r *reader) error {
	switch op := r.byte(); {
	case op == 0x41 || op == 0x42 || op >= 0x02 && op <= 0x04: // constants, types of blocks
		r.signed()
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
	case op == 0x1c: // select with types
		r.take(r.u32())
	case op >= 0x28 && op <= 0x3e: // loads and stores
		r.memory()
	case op == 0x3f || op == 0x40 || op == 0xd0:
		r.byte()
	case op == 0x43:
		r.take(4)
	case op == 0x44:
		r.take(8)
	case op == 0xfc:
		return miscellaneous(r)
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

// miscellaneous reads an instruction behind the prefix 0xfc.
func miscellaneous(r *reader) error {
	switch op := r.u32(); {
	case op <= 7:
	case op == 8 || op == 10 || op == 12 || op == 14:
		r.u32()
		r.u32()
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
		return errors.New("writes a vector instruction longer than need be, which engines read differently")
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

// signed skips a signed LEB128 number of at most 64 bits.
func (r *reader) signed() {
	for range 10 {
		if r.byte() < 0x80 {
			return
		}
	}
	r.b, r.bad = nil, true
}
