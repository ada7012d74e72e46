package sandbox

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/talka-grid/talka/workunits"
	"github.com/talka-grid/talka/workunits/sandbox/wasi"
)

// Numbers at the edge: NaNs with a payload, negative and signalling, infinity and
// zero.
var (
	edge32 = []uint32{0x7fc01234, 0xffc05678, 0x7f801111, 0x3f800000, 0xff800000, 0x80000000}
	edge64 = []uint64{0x7ff8<<48 | 0x1234, 0xfff8<<48 | 0x5678, 0x7ff0<<48 | 0x1111, 0x3ff << 52, 0xfff << 52, 1 << 63}
)

// edge is the bytes of one of these numbers, or of a vector of several.
func edge(letter, lanes byte, i int) (b []byte) {
	switch letter {
	case 'f':
		return binary.LittleEndian.AppendUint32(nil, edge32[i])
	case 'F':
		return binary.LittleEndian.AppendUint64(nil, edge64[i])
	}
	for lane := range 16 / len(edge(lanes, 0, 0)) {
		b = append(b, edge(lanes, 0, (i+3*lane)%len(edge32))...)
	}
	return b
}

// nanProgram prints the bits of all that operations make of pairs of numbers at the
// edge. The first, or second, bit of constants says which operand is one; the others
// come from memory.
func nanProgram(result byte, constants int) wasm {
	const table, vector, size = 48 << 10, 65520, 16
	var code, data []byte
	operand := func(o operation, which, i int) []byte {
		letter := o.in[which]
		bits := edge(letter, o.nan, i)
		if constants>>which&1 != 0 {
			return ops(map[byte][]byte{'f': {0x43}, 'F': {opF64Const}, 'v': {0xfd, 12}}[letter], bits)
		}
		at := bytes.Index(data, bits)
		if at < 0 {
			at, data = len(data), append(data, bits...)
		}
		return ops(i32(int32(table+at)), loads[letter][0], 0, 0)
	}
	at := int32(0)
	for _, o := range operations[result] {
		if o.nan == 0 || constants >= 1<<len(o.in) {
			continue
		}
		for pair := range len(edge32) * len(edge32) {
			a, b := pair/len(edge32), pair%len(edge32)
			if len(o.in) == 1 && b > 0 {
				continue
			}
			code = ops(code, i32(at), operand(o, 0, a))
			if len(o.in) > 1 {
				code = ops(code, operand(o, 1, b))
			}
			code = ops(code, o.code, stores[result][0], 0, 0)
			at += size
		}
	}
	code = ops(code, i32(vector), i32(0), opI32Store, 2, 0, i32(vector), i32(at), opI32Store, 2, 4,
		i32(1), i32(vector), i32(1), i32(vector+8), call(0), opDrop)
	return wasm{imports: []string{"fd_write"}, pages: 1, code: code, extra: []section{{11, vec(ops(0, i32(table), opEnd, sized(data)))}}}
}

// TestNaNs holds what each engine makes of NaNs on this processor against what was
// reviewed. Without canonical ones engines differ, too, where two NaNs meet: that is
// why Platform tells them apart. Canonical ones are the same on all processors.
func TestNaNs(t *testing.T) {
	t.Parallel()
	got := map[string]string{}
	for _, v := range variants() {
		sum := sha256.New()
		for _, result := range []byte("fFv") {
			for constants := range 4 {
				r := runHere(t, loadOrder{Engine: v.engine, Canonical: v.canonical, Program: nanProgram(result, constants).file(t)}, wasi.Config{}, nil)
				if r.Kind != workunits.Exited || len(r.stdout) < 1000 {
					t.Fatalf("%+v", r)
				}
				fmt.Fprintf(sum, "%x\n", r.stdout)
			}
		}
		name := Platform(v.engine)
		if v.canonical {
			name = "canonical"
		}
		got[name] = fmt.Sprintf("%x", sum.Sum(nil))
	}
	text, err := os.ReadFile(filepath.Join("testdata", "nan.txt"))
	if err != nil {
		t.Fatal(err)
	}
	known := strings.Split(strings.TrimSpace(string(text)), "\n")
	for name, digest := range got {
		if line := name + ": " + digest; !slices.Contains(known, line) {
			t.Errorf("on %s %s", runtime.GOARCH, line)
		}
	}
}
