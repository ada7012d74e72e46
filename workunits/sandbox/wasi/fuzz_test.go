package wasi

import (
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// FuzzCalls plays hostile programs: any calls with any arguments. They must not
// break the host, leave the tree, or take more than their quota, and they must
// get the same answers twice.
func FuzzCalls(f *testing.F) {
	names := byName()
	add := func(calls ...[]byte) { f.Add(slices.Concat(calls...)) }
	one := func(name string, args ...byte) []byte { return append([]byte{byte(names[name])}, args...) }
	add(one("path_open", 3, 1, 0, 5, 1, 255, 255, 0, 64), one("fd_write", 4, 16, 1, 64), one("path_rename", 3, 0, 5, 3, 6, 5))
	add(one("path_create_directory", 3, 0, 5), one("path_open", 3, 1, 0, 4, 2, 0, 0, 0, 64), one("fd_readdir", 4, 100, 200, 0, 64))
	add(one("path_symlink", 0, 3, 3, 19, 9), one("path_open", 3, 1, 19, 9, 1, 255, 255, 0, 64), one("path_rename", 3, 19, 9, 3, 20, 8))
	add(one("path_unlink_file", 3, 0, 5), one("fd_renumber", 3, 4), one("poll_oneoff", 0, 50, 2, 64), one("fd_close", 3))
	f.Fuzz(func(t *testing.T, script []byte) {
		if len(script) > 4096 {
			return
		}
		first, dir := play(t, script)
		second, _ := play(t, script)
		if diff := cmp.Diff(first, second); diff != "" {
			t.Errorf("other answers (-first +second):\n%s", diff)
		}
		sum := int64(0)
		err := filepath.WalkDir(dir, func(name string, d os.DirEntry, err error) error {
			if err != nil || d.IsDir() {
				return err
			}
			info, err := d.Info()
			if err != nil || !info.Mode().IsRegular() {
				return fmt.Errorf("%s is %v: %w", name, d.Type(), err)
			}
			sum += info.Size()
			return nil
		})
		if err != nil || sum > 1000+100+500+500+5 {
			t.Errorf("%d bytes on disk, %v", sum, err)
		}
	})
}

// play performs the calls of a script: a byte for the function, one for each
// argument. It answers what they returned and left in memory.
func play(t *testing.T, script []byte) (trace []string, dir string) {
	config := newConfig(t)
	dir = filepath.Dir(config.Out)
	input := filepath.Join(dir, "input")
	if err := os.WriteFile(input, []byte("input"), 0o600); err != nil {
		t.Fatal(err)
	}
	config.Inputs = []Input{{Path: "in/put", Host: input}}
	p, err := New(config)
	if err != nil {
		t.Fatal(err)
	}
	mem := make(memory, 512)
	copy(mem, "out/aout/bin/put../scratch/x/..checkpoint/y\x00\xff")
	binary.LittleEndian.PutUint32(mem[100:], 300)
	for len(script) > 0 {
		fn := int(script[0]) % len(Functions())
		script = script[1:]
		args := make([]uint64, len(Functions()[fn].Params))
		for i := range args {
			if len(script) > 0 {
				// Small numbers, and some at the other end.
				args[i], script = uint64(script[0]), script[1:]
				if args[i] > 250 {
					args[i] -= 256
				}
			}
		}
		e, unwind := p.Call(fn, args, mem)
		trace = append(trace, fmt.Sprintf("%s%d = %d", Functions()[fn].Name, args, e))
		if unwind {
			break
		}
	}
	if stop, stopped := p.Stopped(); stopped && stop.Kind != StopExit && stop.Kind != StopOutput {
		t.Errorf("the host failed: %+v after %v", stop, trace)
	}
	if err := p.Close(); err != nil {
		t.Error(err)
	}
	return append(trace, string(mem)), dir
}
