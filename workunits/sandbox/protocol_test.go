package sandbox

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/talka-grid/talka/workunits"
	"github.com/talka-grid/talka/workunits/sandbox/wasi"
)

func TestFrames(t *testing.T) {
	t.Parallel()
	var b bytes.Buffer
	order := runOrder{Args: []string{"a"}, Inputs: []inputOrder{{Path: "x", Host: "/y"}}, Dir: "/d", Output: 1 << 40, Seed: [32]byte{7}}
	answer := runAnswer{Kind: workunits.Exited, Code: 3, Memory: 1 << 33}
	if err := errors.Join(writeFrame(&b, order), writeFrame(&b, answer)); err != nil {
		t.Fatal(err)
	}
	whole := b.String()
	r := bufio.NewReader(&b)
	gotOrder, err1 := readFrame[runOrder](r, maxOrder)
	gotAnswer, err2 := readFrame[runAnswer](r, maxAnswer)
	_, err3 := readFrame[runAnswer](r, maxAnswer)
	if err1 != nil || err2 != nil || !errors.Is(err3, io.EOF) || cmp.Diff(gotAnswer, answer, cmpopts.EquateEmpty()) != "" || cmp.Diff(gotOrder.Args, order.Args) != "" || gotOrder.Seed != order.Seed {
		t.Errorf("%v %v %v: %+v, %+v", err1, err2, err3, gotOrder, gotAnswer)
	}
	for cut := 1; cut < 60; cut++ {
		if _, err := readFrame[runOrder](bufio.NewReader(strings.NewReader(whole[:cut])), maxOrder); err == nil || errors.Is(err, io.EOF) {
			t.Errorf("cut at %d: %v", cut, err)
		}
	}
	if _, err := readFrame[runOrder](bufio.NewReader(strings.NewReader("\xff\xff\xff\xff")), maxOrder); err == nil {
		t.Error("4 GiB are read")
	}
}

func FuzzAnswer(f *testing.F) {
	for _, v := range []any{
		loadAnswer{MinPages: 3, Note: "n"},
		runAnswer{Kind: workunits.Trapped, Trap: trapMemory},
		runAnswer{Void: workunits.VoidStack},
	} {
		var b bytes.Buffer
		if err := writeFrame(&b, v); err != nil {
			f.Fatal(err)
		}
		f.Add(b.Bytes())
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if _, err := readFrame[loadAnswer](bufio.NewReader(bytes.NewReader(b)), maxAnswer); err == nil && len(b) < 4 {
			t.Error("an answer from nothing")
		}
		a, err := readFrame[runAnswer](bufio.NewReader(bytes.NewReader(b)), maxAnswer)
		if err != nil || a.check() != nil {
			return
		}
		// What is accepted is either an outcome or void, and says it again.
		if (a.Kind == "") == (a.Void == "") && a.Void == "" {
			t.Errorf("neither outcome nor void: %+v", a)
		}
		var again bytes.Buffer
		if err := writeFrame(&again, a); err != nil || !bytes.HasPrefix(b, again.Bytes()) {
			t.Errorf("%x reads as %x", b, again.Bytes())
		}
	})
}

func TestAnswersAreChecked(t *testing.T) {
	t.Parallel()
	for _, a := range []runAnswer{
		{},
		{Kind: "won"},
		{Void: workunits.VoidCancelled},
		{Void: "because"},
		{Kind: workunits.Trapped},
		{Kind: workunits.Exited, Trap: trapMemory},
		{Kind: workunits.OutputLimit, Code: 1},
		{Kind: workunits.Trapped, Trap: strings.Repeat("x", maxTrap+1)},
	} {
		if a.check() == nil {
			t.Errorf("accepted: %+v", a)
		}
	}
}

func TestCheck(t *testing.T) {
	t.Parallel()
	code, err := os.ReadFile(guest(t))
	if err != nil {
		t.Fatal(err)
	}
	if err := Check(code); err != nil {
		t.Errorf("the guest: %v", err)
	}
	rename := func(w wasm, from, to string) string { return strings.Replace(string(w.bytes()), from, to, 1) }
	yield := wasm{imports: []string{"sched_yield"}, pages: 1, code: ops(call(0), opDrop)}
	if err := Check(yield.bytes()); err != nil {
		t.Errorf("a small command: %v", err)
	}
	for want, code := range map[string]string{
		"not WebAssembly":                 "hello",
		"a WebAssembly component":         "\x00asm\x0d\x00\x01\x00",
		"unknown version":                 "\x00asm\x02\x00\x00\x00",
		"damaged":                         string(yield.bytes()[:30]),
		"no function \"_start\"":          rename(yield, "_start", "_stars"),
		"no memory named \"memory\"":      rename(yield, "memory", "remedy"),
		"has no such function":            rename(yield, "sched_yield", "sched_wield"),
		"only \"wasi_snapshot_preview1\"": rename(yield, "wasi_snapshot_preview1", "wasi_snapshot_preview2"),
		"wrong type":                      rename(wasm{imports: []string{"fd_close"}, pages: 1}, "fd_close", "fd_write"),
		"something other than a function": strings.Replace(string(yield.bytes()), "sched_yield\x00", "sched_yield\x03", 1),
		"shared memory":                   strings.Replace(string(wasm{pages: 1, most: 5}.bytes()), "\x05\x04\x01\x01\x01\x05", "\x05\x04\x01\x03\x01\x05", 1),
		"64-bit memory":                   strings.Replace(string(wasm{pages: 1, most: 5}.bytes()), "\x05\x04\x01\x01\x01\x05", "\x05\x04\x01\x05\x01\x05", 1),
		"multiple memories":               strings.Replace(string(wasm{pages: 1, most: 5}.bytes()), "\x05\x04\x01\x01\x01\x05", "\x05\x05\x02\x00\x01\x00\x01", 1),
		"garbage collection":              strings.Replace(string(yield.bytes()), "\x60\x00\x00", "\x5f\x00\x00", 1),
	} {
		err := Check([]byte(code))
		if !errors.Is(err, ErrProgram) || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: error %v", want, err)
		}
	}
}

// What one engine refuses the other has to refuse as well, or the same program
// would be a result here and void there.
func TestFeaturesAreTheSame(t *testing.T) {
	t.Parallel()
	simd := ops(i32(0), 0xfd, 0x0f, opDrop) // i8x16.splat
	// Two instructions to wazero, one of which traps.
	long := ops(i32(0), 0xfd, 0x0f, 0xfd, 0xe1, 0, opDrop)
	growTable := ops(0xd0, 0x70, i32(1), 0xfc, 15, 0, opDrop)
	relaxed := ops(i32(0), 0xfd, 0x0f, i32(0), 0xfd, 0x0f, 0xfd, 0x80, 0x02, opDrop)
	for name, c := range map[string]struct {
		program wasm
		feature string // that the error names; empty: it is supported
	}{
		"simd":               {wasm{code: simd}, ""},
		"sign extension":     {wasm{code: ops(i32(0), 0xc0, opDrop)}, ""},
		"saturating":         {wasm{code: ops(opF64Const, make([]byte, 8), 0xfc, 2, opDrop)}, ""},
		"bulk memory":        {wasm{pages: 1, code: ops(i32(0), i32(0), i32(0), 0xfc, 11, 0)}, ""},
		"reference types":    {wasm{code: ops(0xd0, 0x70, 0xd1, opDrop)}, ""},
		"foreign references": {wasm{code: ops(0xd0, 0x6f, 0xd1, opDrop)}, ""},
		"extended constants": {wasm{pages: 1, extra: []section{{11, vec(ops(0, i32(0), i32(1), 0x6a, opEnd, sized([]byte("x"))))}}}, ""},
		"relaxed simd":       {wasm{code: relaxed}, featureRelaxed},
		"threads":            {wasm{pages: 1, code: ops(i32(0), 0xfe, 0x10, 2, 0, opDrop)}, featureThreads},
		"tail calls":         {wasm{code: ops(0x12, 0)}, featureTailCalls},
		"exceptions":         {wasm{code: ops(0x1f, void, 0, opEnd)}, featureExceptions},
		"wide arithmetic":    {wasm{code: ops(opI64Const, 0, opI64Const, 0, opI64Const, 0, opI64Const, 0, 0xfc, 19, opDrop, opDrop)}, featureWide},
		"typed references":   {wasm{code: ops(0xd0, 0x00, opDrop)}, "reference"},
		"garbage collection": {wasm{code: ops(i32(0), 0xfb, 0x1c, opDrop)}, featureGC},
		"old exceptions":     {wasm{code: ops(0x06, void, 0x19, opEnd)}, featureExceptions},
		"tags":               {wasm{extra: []section{{13, vec(ops(0, 0))}}}, featureExceptions},
		"null checks":        {wasm{code: ops(0xd0, 0x70, 0xd4, opDrop)}, featureReferences},
		"stack switching":    {wasm{code: ops(0xe0, 0)}, featureStacks},
		"elements":           {wasm{extra: []section{{4, vec([]byte{0x70, 0, 2})}, {9, vec(ops(0, i32(1), opEnd, vec(leb(0))))}}}, ""},
		"too many elements":  {wasm{extra: []section{{4, vec([]byte{0x70, 0, 2})}, {9, vec(ops(0, i32(1), i32(1), 0x6a, opEnd, vec(leb(0))))}}}, "end of their table"},
		"negative place":     {wasm{extra: []section{{4, vec([]byte{0x70, 0, 2})}, {9, vec(ops(0, i32(-1), opEnd, vec(leb(0))))}}}, "end of their table"},
		"values of globals":  {wasm{extra: []section{{6, vec(ops(0x7f, 0, i32(1), opEnd), ops(0x7f, 0, 0x23, 0, opEnd))}}}, "constant"},
		"growing a table":    {wasm{code: growTable, extra: []section{{4, vec([]byte{0x70, 1, 2, 9})}}}, ""},
		"growing for ever":   {wasm{code: growTable, extra: []section{{4, vec([]byte{0x70, 0, 2})}}}, "grows a table"},
		"a large table":      {wasm{extra: []section{{4, vec(ops(0x70, 0, leb(1<<20+1)))}}}, "a table of 1048577 elements"},
		"typed select":       {wasm{code: ops(i32(0), i32(0), i32(0), 0x1c, 1, 0x7f, opDrop)}, "select with a type"},
		"overlong":           {wasm{code: long}, "engines read differently"},
		"unknown":            {wasm{code: ops(0xff)}, "0xff"},
	} {
		code := c.program.bytes()
		err := Check(code)
		if (err == nil) != (c.feature == "") || err != nil && !strings.Contains(err.Error(), c.feature) {
			t.Errorf("%s: %v", name, err)
		}
		// In a build without wasmtime it is the same.
		_, err = parseModule(code)
		if err == nil {
			err = validateWazero(code)
		}
		if (err == nil) != (c.feature == "") || err != nil && !strings.Contains(err.Error(), c.feature) {
			t.Errorf("%s on wazero: %v", name, err)
		}
	}
}

func TestFunctionsAreComplete(t *testing.T) {
	t.Parallel()
	seen := map[string]bool{}
	for _, f := range wasi.Functions() {
		if seen[f.Name] || strings.Trim(f.Params, "iI") != "" || len(f.Params) > 9 {
			t.Errorf("%+v", f)
		}
		seen[f.Name] = true
	}
	if len(seen) != 46 {
		t.Errorf("%d functions, preview 1 has 46", len(seen))
	}
}
