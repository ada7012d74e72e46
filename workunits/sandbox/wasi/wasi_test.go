package wasi

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// memory is a program's memory.
type memory []byte

func (m memory) Read(offset, count uint32) ([]byte, bool) {
	end := uint64(offset) + uint64(count)
	if end > uint64(len(m)) {
		return nil, false
	}
	return m[offset:end:end], true
}

// caller is a program that the test plays.
type caller struct {
	*testing.T
	p   *Process
	mem memory
	dir string // of the host
	fns map[string]int
}

// newConfig makes the folders of a run.
func newConfig(t testing.TB) Config {
	t.Helper()
	dir := t.TempDir()
	c := Config{
		Out: filepath.Join(dir, "out"), Scratch: filepath.Join(dir, "scratch"), Checkpoint: filepath.Join(dir, "checkpoint"),
		Stdout: filepath.Join(dir, "stdout"), Stderr: filepath.Join(dir, "stderr"),
		OutputLimit: 1000, FilesLimit: 10, LogLimit: 100, ScratchLimit: 500,
	}
	for _, d := range []string{c.Out, c.Scratch, c.Checkpoint} {
		if err := os.Mkdir(d, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	for _, f := range []string{c.Stdout, c.Stderr} {
		if err := os.WriteFile(f, nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return c
}

func start(t *testing.T, c Config) *caller {
	t.Helper()
	p, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.Close(); err != nil {
			t.Error(err)
		}
	})
	return &caller{T: t, p: p, mem: make(memory, 64<<10), dir: filepath.Dir(c.Out), fns: byName()}
}

func byName() map[string]int {
	fns := map[string]int{}
	for i, f := range Functions() {
		fns[f.Name] = i
	}
	return fns
}

// Where the test keeps things in the program's memory.
const (
	atText  = 1024
	atOther = 3072
	atIovs  = 8192
	atData  = 16384
	atDone  = 512
)

func (c *caller) call(name string, args ...uint64) Errno {
	c.Helper()
	if len(Functions()[c.fns[name]].Params) != len(args) {
		c.Fatalf("%s with %d parameters", name, len(args))
	}
	e, unwind := c.p.Call(c.fns[name], args, c.mem)
	if _, stopped := c.p.Stopped(); stopped != unwind {
		c.Errorf("%s: unwind %v, stopped %v", name, unwind, stopped)
	}
	return e
}

// must is a call that succeeds.
func (c *caller) must(name string, args ...uint64) {
	c.Helper()
	if e := c.call(name, args...); e != ok {
		c.Fatalf("%s: errno %d", name, e)
	}
}

func (c *caller) wants(want Errno, name string, args ...uint64) {
	c.Helper()
	if e := c.call(name, args...); e != want {
		c.Errorf("%s%v: errno %d, want %d", name, args, e, want)
	}
}

// text puts a path into memory and gives its address and length.
func (c *caller) text(at uint64, s string) (uint64, uint64) {
	return at, uint64(copy(c.mem[at:], s))
}

func (c *caller) u32(at uint64) uint64 { return uint64(binary.LittleEndian.Uint32(c.mem[at:])) }
func (c *caller) u64(at uint64) uint64 { return binary.LittleEndian.Uint64(c.mem[at:]) }

func (c *caller) open(name string, oflags, rights uint64) (uint64, Errno) {
	ptr, n := c.text(atText, name)
	e := c.call("path_open", 3, lookupFollow, ptr, n, oflags, rights, rightsAll, 0, atDone)
	return c.u32(atDone), e
}

func (c *caller) mustOpen(name string, oflags, rights uint64) uint64 {
	c.Helper()
	fd, e := c.open(name, oflags, rights)
	if e != ok {
		c.Fatalf("open %s: errno %d", name, e)
	}
	return fd
}

// write writes s in two pieces.
func (c *caller) write(fd uint64, s string) Errno {
	copy(c.mem[atData:], s)
	half := len(s) / 2
	for i, v := range []int{atData, half, atData + half, len(s) - half} {
		binary.LittleEndian.PutUint32(c.mem[atIovs+4*i:], uint32(v))
	}
	return c.call("fd_write", fd, atIovs, 2, atDone)
}

func (c *caller) read(fd uint64, n int) string {
	c.Helper()
	binary.LittleEndian.PutUint32(c.mem[atIovs:], atData)
	binary.LittleEndian.PutUint32(c.mem[atIovs+4:], uint32(n))
	c.must("fd_read", fd, atIovs, 1, atDone)
	return string(c.mem[atData : atData+c.u32(atDone)])
}

func (c *caller) path(name, path string) Errno {
	ptr, n := c.text(atText, path)
	return c.call(name, 3, ptr, n)
}

const rw = rightsReadFile | rightsWriteFile

func TestQuotaCountsWhatIsThere(t *testing.T) {
	t.Parallel()
	c := start(t, newConfig(t))
	big := strings.Repeat("x", 400)
	fd := c.mustOpen("scratch/a", oCreat, rw)
	if e := c.write(fd, big); e != ok {
		t.Fatal(e)
	}
	other := c.mustOpen("scratch/b", oCreat, rw)
	if e := c.write(other, big); e != eNospc {
		t.Errorf("800 of 500 bytes: errno %d", e)
	}
	// A file without a name takes room until its last descriptor is closed.
	if e := c.path("path_unlink_file", "scratch/a"); e != ok {
		t.Fatal(e)
	}
	if e := c.write(other, big); e != eNospc {
		t.Errorf("beside a nameless file: errno %d", e)
	}
	c.must("fd_filestat_get", fd, atData)
	if links, size := c.u64(atData+24), c.u64(atData+32); links != 0 || size != 400 {
		t.Errorf("a nameless file has %d links and %d bytes", links, size)
	}
	c.must("fd_close", fd)
	if e := c.write(other, big); e != ok {
		t.Errorf("after it is gone: errno %d", e)
	}
	// Holes count like bytes; cutting gives room back.
	c.wants(eNospc, "fd_filestat_set_size", other, 501)
	c.wants(eNospc, "fd_allocate", other, 400, 101)
	c.must("fd_allocate", other, 0, 500)
	c.must("fd_filestat_set_size", other, 10)
	full := c.mustOpen("scratch/c", oCreat, rw)
	if e := c.write(full, strings.Repeat("y", 490)); e != ok {
		t.Errorf("up to the limit: errno %d", e)
	}
	c.must("fd_close", full)
	// Being replaced frees room, too.
	from, n := c.text(atText, "scratch/b")
	to, m := c.text(atOther, "scratch/c")
	c.must("path_rename", 3, from, n, 3, to, m)
	if c.p.scratch.usedBytes != 10 || c.p.scratch.usedFiles != 1 {
		t.Errorf("quota %+v", c.p.scratch)
	}
}

func TestOutputOverItsLimitEndsTheProgram(t *testing.T) {
	t.Parallel()
	for name, spend := range map[string]func(*caller) Errno{
		"standard output": func(c *caller) Errno { return c.write(1, strings.Repeat("x", 1001)) },
		"a file":          func(c *caller) Errno { return c.write(c.mustOpen("out/a", oCreat, rw), strings.Repeat("x", 1001)) },
		"both": func(c *caller) Errno {
			fd := c.mustOpen("out/a", oCreat, rw)
			if e := c.write(fd, strings.Repeat("x", 600)); e != ok {
				return e
			}
			return c.write(1, strings.Repeat("x", 401))
		},
		"a hole": func(c *caller) Errno {
			return c.call("fd_filestat_set_size", c.mustOpen("out/a", oCreat, rw), 1001)
		},
		"files": func(c *caller) Errno {
			for i := range 10 {
				c.must("fd_close", c.mustOpen(fmt.Sprint("out/", i), oCreat, rw))
			}
			_, e := c.open("out/more", oCreat, rw)
			return e
		},
	} {
		c := start(t, newConfig(t))
		e := spend(c)
		if stop, stopped := c.p.Stopped(); !stopped || stop.Kind != StopOutput || e != eNospc {
			t.Errorf("%s: errno %d, %+v", name, e, stop)
		}
	}
}

func TestLogIsCut(t *testing.T) {
	t.Parallel()
	c := start(t, newConfig(t))
	for range 30 {
		if e := c.write(2, "0123456789"); e != ok || c.u32(atDone) != 10 {
			t.Fatalf("errno %d, %d bytes", e, c.u32(atDone))
		}
	}
	if b, err := os.ReadFile(filepath.Join(c.dir, "stderr")); err != nil || string(b) != strings.Repeat("0123456789", 10) {
		t.Errorf("%q, %v", b, err)
	}
}

func TestStop(t *testing.T) {
	t.Parallel()
	c := start(t, newConfig(t))
	c.call("proc_exit", 77)
	c.call("proc_exit", 78) // no engine would
	if stop, _ := c.p.Stopped(); stop != (Stop{Kind: StopExit, Code: 77}) {
		t.Errorf("%+v", stop)
	}
}

func TestHostFailureEndsTheProgram(t *testing.T) {
	t.Parallel()
	config := newConfig(t)
	input := filepath.Join(t.TempDir(), "input")
	if err := os.WriteFile(input, []byte("0123456789"), 0o600); err != nil {
		t.Fatal(err)
	}
	config.Inputs = []Input{{Path: "in", Host: input}}
	c := start(t, config)
	fd := c.mustOpen("in", 0, rightRead)
	if err := os.Truncate(input, 5); err != nil {
		t.Fatal(err)
	}
	binary.LittleEndian.PutUint32(c.mem[atIovs:], atData)
	binary.LittleEndian.PutUint32(c.mem[atIovs+4:], 10)
	c.wants(eIO, "fd_read", fd, atIovs, 1, atDone)
	if stop, _ := c.p.Stopped(); stop.Kind != StopHost || stop.Detail == "" {
		t.Errorf("%+v", stop)
	}
}

func TestDescriptors(t *testing.T) {
	t.Parallel()
	c := start(t, newConfig(t))
	a := c.mustOpen("out/a", oCreat, rw)
	b := c.mustOpen("out/b", oCreat, rw)
	if a != 4 || b != 5 {
		t.Errorf("descriptors %d and %d, want the lowest", a, b)
	}
	c.must("fd_close", a)
	if again := c.mustOpen("out/b", 0, rightRead); again != a {
		t.Errorf("descriptor %d, want %d", again, a)
	}
	c.wants(eBadf, "fd_close", 99)
	c.wants(eBadf, "fd_renumber", b, 99)
	c.must("fd_renumber", b, a)
	c.wants(eBadf, "fd_tell", b, atDone)
	if e := c.write(a, "through the other number"); e != ok {
		t.Errorf("errno %d", e)
	}
	c.must("fd_seek", a, 8, 0, atDone)
	if got := c.read(a, 100); got != "the other number" {
		t.Errorf("read %q", got)
	}
	c.wants(eInval, "fd_seek", a, 1<<64-1, 0, atDone)
	c.must("fd_seek", a, 1<<64-6, 2, atDone)
	if got := c.read(a, 100); got != "number" {
		t.Errorf("read %q", got)
	}
	readOnly := c.mustOpen("out/b", 0, rightRead)
	if e := c.write(readOnly, "x"); e != eBadf {
		t.Errorf("write without the right: errno %d", e)
	}
	c.wants(eBadf, "fd_filestat_set_size", readOnly, 0)
	c.wants(eNotcapable, "fd_fdstat_set_rights", readOnly, rw, 0)
	c.must("fd_fdstat_set_rights", readOnly, rightRead, 0)
	c.wants(eNotcapable, "fd_seek", readOnly, 0, 0, atDone)
	n := 0
	for {
		_, e := c.open("out/b", 0, rightRead)
		if e == eMfile {
			break
		}
		if n++; e != ok || n > maxFDs {
			t.Fatalf("errno %d after %d", e, n)
		}
	}
}

func TestPreopen(t *testing.T) {
	t.Parallel()
	c := start(t, newConfig(t))
	c.must("fd_prestat_get", 3, atData)
	if c.u64(atData) != 1<<32 {
		t.Errorf("prestat %x", c.u64(atData))
	}
	c.must("fd_prestat_dir_name", 3, atData, 1)
	if c.mem[atData] != '/' {
		t.Errorf("name %c", c.mem[atData])
	}
	c.wants(eBadf, "fd_prestat_get", 4, atData)
	c.wants(eBadf, "fd_prestat_get", 1, atData)
	c.must("fd_fdstat_get", 3, atData)
	if c.mem[atData] != byte(typeDir) || c.u64(atData+16)&rw != rw {
		t.Errorf("fdstat % x", c.mem[atData:atData+24])
	}
}

func TestListing(t *testing.T) {
	t.Parallel()
	c := start(t, newConfig(t))
	for _, name := range []string{"z", "a", "Ü", "B", "mm"} {
		c.must("fd_close", c.mustOpen("out/"+name, oCreat, rw))
	}
	dir := c.mustOpen("out", oDirectory, 0)
	want := []string{".", "..", "B", "a", "mm", "z", "Ü"}
	// With every size of buffer that holds an entry, cut ones are asked again.
	for size := uint64(direntSize + 8); size < 400; size += 13 {
		var got []string
		for cookie := uint64(0); ; {
			c.must("fd_readdir", dir, atData, size, cookie, atDone)
			b := c.mem[atData : atData+c.u32(atDone)]
			for len(b) >= direntSize && len(b) >= direntSize+int(binary.LittleEndian.Uint32(b[16:])) {
				end := direntSize + int(binary.LittleEndian.Uint32(b[16:]))
				got = append(got, string(b[direntSize:end]))
				cookie, b = binary.LittleEndian.Uint64(b), b[end:]
			}
			if c.u32(atDone) < size {
				break
			}
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Fatalf("buffer of %d (-want +got):\n%s", size, diff)
		}
	}
	c.wants(eInval, "fd_readdir", dir, atData, 100, 8, atDone)
	c.wants(eNotdir, "fd_readdir", 1, atData, 100, 0, atDone)
}

func TestPoll(t *testing.T) {
	t.Parallel()
	c := start(t, newConfig(t))
	sub := func(i int, user, tag, id, timeout, flags uint64) {
		b := c.mem[atData+subSize*i:]
		clear(b[:subSize])
		binary.LittleEndian.PutUint64(b, user)
		b[8] = byte(tag)
		binary.LittleEndian.PutUint32(b[16:], uint32(id))
		binary.LittleEndian.PutUint64(b[24:], timeout)
		binary.LittleEndian.PutUint16(b[40:], uint16(flags))
	}
	poll := func(n uint64) (users []uint64) {
		c.must("poll_oneoff", atData, atOther, n, atDone)
		for i := range c.u32(atDone) {
			ev := atOther + eventSize*i
			users = append(users, c.u64(ev)<<16|uint64(binary.LittleEndian.Uint16(c.mem[ev+8:])))
		}
		return users
	}
	want := func(what string, got []uint64, want ...uint64) {
		t.Helper()
		if !slices.Equal(got, want) {
			t.Errorf("%s: events %x, want %x", what, got, want)
		}
	}
	begin := c.p.now
	sub(0, 1, pollClock, clockMono, 5e9, 0)
	sub(1, 2, pollClock, clockReal, 3e9, 0)
	sub(2, 3, pollClock, clockMono, 3e9, 0)
	want("the earliest", poll(3), 2<<16, 3<<16)
	if c.p.now != begin+3e9 {
		t.Errorf("waited %d", c.p.now-begin)
	}
	sub(0, 1, pollClock, clockMono, begin+9e9, pollAbstime)
	want("until a time", poll(1), 1<<16)
	if c.p.now != begin+9e9 {
		t.Errorf("waited until %d", c.p.now-begin)
	}
	sub(0, 1, pollClock, clockReal, 1, pollAbstime)
	want("a time long ago", poll(1), 1<<16)
	sub(0, 1, pollClock, clockMono, 5e9, 0)
	sub(1, 2, 1, 0, 0, 0)
	sub(2, 3, 2, 44, 0, 0)
	sub(3, 4, pollClock, 9, 0, 0)
	want("descriptors first", poll(4), 2<<16, 3<<16|uint64(eBadf), 4<<16|uint64(eInval))
	if c.p.now != begin+9e9 {
		t.Errorf("descriptors made time pass: %d", c.p.now-begin)
	}
	for range 5 {
		sub(0, 1, pollClock, clockMono, 1<<64-1, 0)
		want("for ever", poll(1), 1<<16)
	}
	c.must("clock_time_get", clockReal, 0, atDone)
	if now := c.u64(atDone); int64(now) < int64(Epoch) {
		t.Errorf("the clock ran over: %d", now)
	}
	c.wants(eInval, "poll_oneoff", atData, atOther, 0, atDone)
	c.wants(eFault, "poll_oneoff", atData, atOther, 65536, atDone)
}

func TestPathsStayInside(t *testing.T) {
	t.Parallel()
	c := start(t, newConfig(t))
	if err := os.WriteFile(filepath.Join(c.dir, "secret"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]Errno{
		"":                                  eNoent,
		"/":                                 ePerm,
		"/out":                              ePerm,
		"..":                                ePerm,
		"out/../..":                         ePerm,
		"../secret":                         ePerm,
		"out/../../secret":                  ePerm,
		"out/./../out":                      ok,
		"out//":                             ok,
		".":                                 ok,
		"out/nothing/..":                    eNoent,
		"secret":                            eNoent,
		"out\x00":                           eIlseq,
		"\xff":                              eIlseq,
		strings.Repeat("n", 256):            eNameTooLong,
		strings.Repeat("x/", MaxPath):       eNameTooLong,
		strings.Repeat("./", MaxPath/2):     ok,
		strings.Repeat("out/../", 100):      ok,
		strings.Repeat("out/../", 9) + "..": ePerm,
	} {
		ptr, n := c.text(atText, path)
		c.wants(want, "path_filestat_get", 3, lookupFollow, ptr, n, atData)
		if t.Failed() {
			t.Fatalf("path %q", path)
		}
	}
	// Below a folder's descriptor nothing above it is in reach.
	dir := c.mustOpen("out", oDirectory, 0)
	for _, path := range []string{"..", "../scratch", "./../out"} {
		ptr, n := c.text(atText, path)
		c.wants(ePerm, "path_filestat_get", dir, lookupFollow, ptr, n, atData)
	}
}

func TestBadPointers(t *testing.T) {
	t.Parallel()
	c := start(t, newConfig(t))
	end := uint64(len(c.mem))
	c.wants(eFault, "random_get", end-1, 2)
	c.wants(eFault, "random_get", 1<<32-1, 2)
	c.wants(eFault, "clock_time_get", 0, 0, end-7)
	c.wants(eFault, "args_get", end, 0)
	c.wants(eFault, "fd_write", 1, end-4, 1, atDone)
	c.wants(eInval, "fd_write", 1, 0, maxIovecs+1, atDone)
	binary.LittleEndian.PutUint32(c.mem[atIovs:], uint32(end-1))
	binary.LittleEndian.PutUint32(c.mem[atIovs+4:], 2)
	c.wants(eFault, "fd_write", 1, atIovs, 1, atDone)
	if e, _ := c.p.Call(c.fns["random_get"], []uint64{0, 1}, nil); e != eFault {
		t.Errorf("without memory: errno %d", e)
	}
}

func TestMissingInput(t *testing.T) {
	t.Parallel()
	config := newConfig(t)
	// What is not there, what is no file, and what lies outside the tree.
	outside, folder := filepath.Join(t.TempDir(), "secret"), t.TempDir()
	if err := errors.Join(os.WriteFile(outside, []byte("x"), 0o600), os.Symlink(outside, filepath.Join(folder, "link")),
		os.Mkdir(filepath.Join(folder, "folder"), 0o700)); err != nil {
		t.Fatal(err)
	}
	config.Inputs = []Input{{Path: "in", Host: folder}}
	for _, path := range []string{"no", "in", "in/no", "in/folder", "in/link", "out/x", "../x", outside} {
		config.Stdin = path
		if _, err := New(config); !errors.Is(err, ErrInput) {
			t.Errorf("standard input %s: error %v, want %v", path, err, ErrInput)
		}
	}
	config.Stdin, config.Args = "", []string{"a\x00b"}
	if _, err := New(config); err == nil {
		t.Error("an argument with a NUL")
	}
	config.Args = []string{strings.Repeat("x", MaxArgs)}
	if _, err := New(config); err == nil {
		t.Error("too many arguments")
	}
}
