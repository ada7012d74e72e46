package chunkstore

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"runtime/metrics"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/ipfs/go-cid"
	mh "github.com/multiformats/go-multihash"
)

// tree writes files by path; names that end in / are folders.
func tree(t testing.TB, files map[string][]byte) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "tree")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	for name, data := range files {
		path := filepath.Join(dir, filepath.FromSlash(name))
		folder := filepath.Dir(path)
		if strings.HasSuffix(name, "/") {
			folder = path
		}
		if err := os.MkdirAll(folder, 0o700); err != nil {
			t.Fatal(err)
		}
		if folder == path {
			continue
		}
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// hashes lists what is below a path with the sums of files.
func hashes(t testing.TB, root string) map[string]string {
	t.Helper()
	list := map[string]string{}
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(root, path)
		if err != nil || d.IsDir() {
			list[rel] = "folder"
			return err
		}
		data, err := os.ReadFile(path)
		sum, _ := mh.Sum(data, mh.SHA2_256, -1)
		list[rel] = fmt.Sprintf("%d %s", len(data), sum)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return list
}

// cases are the inputs of testdata/cids.txt.
func cases() map[string]map[string][]byte {
	many, sharded := map[string][]byte{}, map[string][]byte{}
	for i := range 300 {
		many[fmt.Sprintf("file%03d", i)] = fmt.Append(nil, "content of ", i)
	}
	for i := range 1000 { // long names, for making files takes most of the time
		sharded[fmt.Sprintf("%s %04d", strings.Repeat("long name ", 24), i)] = []byte("x")
	}
	return map[string]map[string][]byte{
		"file-empty":     {"": {}},
		"file-1":         {"": []byte("x")},
		"file-1MiB":      {"": noise(1, leafSize)},
		"file-1MiB+1":    {"": noise(2, leafSize+1)},
		"file-3MiB+5":    {"": noise(3, 3*leafSize+5)},
		"folder-empty":   {},
		"folder-many":    many,
		"folder-sharded": sharded,
		"folder-nested": {
			"a/b/c/d/deep.txt": []byte("deep"), "a/empty/": nil, "a/none": {}, "same": []byte("deep"),
			".hidden": []byte("h"), "ünïcödé 名前": []byte("name"), "big": noise(4, leafSize+1000),
		},
	}
}

// input writes a case to disk.
func input(t testing.TB, files map[string][]byte) string {
	t.Helper()
	data, single := files[""]
	if !single {
		return tree(t, files)
	}
	path := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// vectors reads testdata/cids.txt: a name, the CID, bytes of files, chunks.
func vectors(t testing.TB) map[string]Added {
	t.Helper()
	f, err := os.Open("testdata/cids.txt")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	list := map[string]Added{}
	for lines := bufio.NewScanner(f); lines.Scan(); {
		if lines.Text() == "" || strings.HasPrefix(lines.Text(), "#") {
			continue
		}
		var name, text string
		var a Added
		if _, err := fmt.Sscan(lines.Text(), &name, &text, &a.Bytes, &a.Chunks); err != nil {
			t.Fatalf("%q: %v", lines.Text(), err)
		}
		if a.Cid, err = cid.Decode(text); err != nil {
			t.Fatal(err)
		}
		list[name] = a
	}
	return list
}

func TestAddAndMaterialise(t *testing.T) {
	t.Parallel()
	want := vectors(t)
	for name, files := range cases() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := open(t, t.TempDir(), 0)
			path := input(t, files)
			var done, total int64
			a, err := s.Add(t.Context(), path, func(d, all int64) {
				if d < done {
					t.Errorf("progress went from %d to %d", done, d)
				}
				done, total = d, all
			})
			if err != nil {
				t.Fatal(err)
			}
			if a != want[name] {
				t.Errorf("%s %s %d %d, testdata says %+v", name, a.Cid, a.Bytes, a.Chunks, want[name])
			}
			if done != a.Bytes || total != a.Bytes {
				t.Errorf("progress ended with %d of %d, %d were added", done, total, a.Bytes)
			}
			dest := filepath.Join(t.TempDir(), "back")
			if err := s.Materialise(t.Context(), a.Cid, dest); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(hashes(t, path), hashes(t, dest)); diff != "" {
				t.Error(diff)
			}
			again, err := s.Add(t.Context(), dest, nil)
			if err != nil || again != a {
				t.Errorf("added again: %+v, %v", again, err)
			}
		})
	}
}

// TestTwoLevels adds a file that is large enough for nodes below the root; its
// leaves are small, for a GiB would take long.
func TestTwoLevels(t *testing.T) {
	t.Parallel()
	const leaf = 16
	data := noise(1, maxLinks*leaf+1)
	s := open(t, t.TempDir(), 0)
	a := newAdder(s, Adding{})
	a.leaf = leaf
	root, err := a.reader(t.Context(), bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	a.writes.Wait()
	// Kubo 0.41.0's, as in testdata/cids.txt but for --chunker size-16.
	if want := "bafyb4ichhwinepzojf4lgv3o7eo3vavzomydss76le6hcssvoxdcer2vey"; root.Cid().String() != want {
		t.Errorf("%s, want %s", root.Cid(), want)
	}
	var widths []int
	for _, l := range root.Links() {
		b, err := s.Get(t.Context(), l.Cid)
		if err != nil {
			t.Fatal(err)
		}
		below, err := Links(b)
		if err != nil {
			t.Fatal(err)
		}
		widths = append(widths, len(below))
	}
	if !slices.Equal(widths, []int{maxLinks, 1}) {
		t.Errorf("nodes of %v links", widths)
	}
	dest := filepath.Join(t.TempDir(), "back")
	if err := s.Materialise(t.Context(), root.Cid(), dest); err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile(dest); err != nil || !bytes.Equal(got, data) {
		t.Errorf("%d bytes came back, %v", len(got), err)
	}
}

// pb is the protobuf encoding of one field.
func pb(field int, data []byte) []byte {
	out := binary.AppendUvarint(nil, uint64(field)<<3|2)
	return append(binary.AppendUvarint(out, uint64(len(data))), data...)
}

func pbInt(field int, n uint64) []byte {
	return binary.AppendUvarint(binary.AppendUvarint(nil, uint64(field)<<3), n)
}

func pbLink(c cid.Cid, name string, size uint64) []byte {
	return pb(2, append(append(pb(1, c.Bytes()), pb(2, []byte(name))...), pbInt(3, size)...))
}

// TestFormat builds a file and a folder byte by byte from the specifications of
// dag-pb and UnixFS, and compares CIDs.
func TestFormat(t *testing.T) {
	t.Parallel()
	hash := func(codec uint64, data []byte) cid.Cid {
		return block(t, cid.Prefix{Version: 1, Codec: codec, MhType: mh.BLAKE3, MhLength: 32}, data).Cid()
	}
	data := noise(2, leafSize+1)
	leaf0, leaf1 := hash(cid.Raw, data[:leafSize]), hash(cid.Raw, data[leafSize:])
	info := append(append(append(pbInt(1, 2), pbInt(3, leafSize+1)...), pbInt(4, leafSize)...), pbInt(4, 1)...)
	file := append(append(pbLink(leaf0, "", leafSize), pbLink(leaf1, "", 1)...), pb(1, info)...)
	fileCid := hash(cid.DagProtobuf, file)
	if want := vectors(t)["file-1MiB+1"].Cid; fileCid != want {
		t.Errorf("file: %s, testdata says %s", fileCid, want)
	}
	small := []byte("x")
	folder := append(pbLink(fileCid, "big", uint64(len(file))+leafSize+1), pbLink(hash(cid.Raw, small), "small", 1)...)
	folder = append(folder, pb(1, pbInt(1, 1))...)
	a, err := open(t, t.TempDir(), 0).Add(t.Context(), tree(t, map[string][]byte{"big": data, "small": small}), nil)
	if want := hash(cid.DagProtobuf, folder); err != nil || a.Cid != want {
		t.Errorf("folder: %s, %v, want %s", a.Cid, err, want)
	}
	if empty, want := hash(cid.Raw, nil), vectors(t)["file-empty"].Cid; empty != want {
		t.Errorf("empty file: %s, testdata says %s", empty, want)
	}
}

func TestAddRefuses(t *testing.T) {
	t.Parallel()
	// Sockets have short paths only.
	short, err := os.MkdirTemp("", "talka") //nolint:usetesting // the path of TempDir is too long for a socket
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(short) })
	for word, special := range map[string]func(path string) error{
		"link":   func(path string) error { return os.Symlink("/etc/hosts", path) },
		"pipe":   func(path string) error { return syscall.Mkfifo(path, 0o600) },
		"socket": func(path string) error { return listen(t, path) },
	} {
		dir := filepath.Join(short, word)
		if err := os.Mkdir(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(dir, "entry")
		if err := os.WriteFile(filepath.Join(dir, "a file"), []byte("before it"), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := special(path); err != nil {
			t.Fatal(err)
		}
		s := open(t, t.TempDir(), 0)
		for _, root := range []string{path, dir} {
			_, err := s.Add(t.Context(), root, nil)
			want := path + " is a " + word + ": only files and folders can be added"
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("%v, want %q", err, want)
			}
		}
		if n := s.Stat().Chunks; n > 0 {
			t.Errorf("%s: %d chunks were stored before it was refused", word, n)
		}
	}
	s := open(t, t.TempDir(), 0)
	if _, err := s.Add(t.Context(), filepath.Join(short, "absent"), nil); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("absent: %v", err)
	}
	if _, err := s.Add(t.Context(), os.DevNull, nil); err == nil || !strings.Contains(err.Error(), "is a device") {
		t.Errorf("device: %v", err)
	}
}

func listen(t *testing.T, path string) error {
	l, err := new(net.ListenConfig).Listen(t.Context(), "unix", path)
	if err == nil {
		t.Cleanup(func() { _ = l.Close() })
	}
	return err
}

func TestAddCancelled(t *testing.T) {
	t.Parallel()
	s := open(t, t.TempDir(), 0)
	cause := errors.New("the caller has enough")
	ctx, cancel := context.WithCancelCause(t.Context())
	path := input(t, map[string][]byte{"": noise(1, 4*leafSize)})
	_, err := s.Add(ctx, path, func(done, _ int64) {
		if done >= 2*leafSize {
			cancel(cause)
		}
	})
	if !errors.Is(err, cause) {
		t.Errorf("%v", err)
	}
	if len(s.held) > 0 {
		t.Error("chunks are covered for ever")
	}
}

// TestAddResumed has a process die in the middle of an add: the next one writes only
// what is missing.
func TestAddResumed(t *testing.T) {
	t.Parallel()
	dir, path := t.TempDir(), input(t, map[string][]byte{"": noise(1, 8*leafSize)})
	s := open(t, dir, 0)
	died := make(chan struct{})
	go func() {
		defer close(died)
		_, err := s.Add(t.Context(), path, func(done, _ int64) {
			if done >= 6*leafSize {
				runtime.Goexit()
			}
		})
		t.Errorf("it went on: %v", err)
	}()
	<-died
	_ = s.lock.Close() // as the system does for the dead
	before := chunkFiles(t, dir)
	s = open(t, dir, 0)
	defer closed(t, s)
	a, err := s.Add(t.Context(), path, nil)
	if err != nil {
		t.Fatal(err)
	}
	kept := 0
	for name, info := range chunkFiles(t, dir) {
		if old := before[name]; old != nil && os.SameFile(old, info) {
			kept++
		}
	}
	if len(before) < 4 || kept != len(before) {
		t.Errorf("%d chunks were there, %d of them still are", len(before), kept)
	}
	dest := filepath.Join(t.TempDir(), "back")
	if err := s.Materialise(t.Context(), a.Cid, dest); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(hashes(t, path), hashes(t, dest)); diff != "" {
		t.Error(diff)
	}
}

// chunkFiles are the files of chunks by name.
func chunkFiles(t *testing.T, dir string) map[string]os.FileInfo {
	t.Helper()
	list, err := filepath.Glob(filepath.Join(dir, "chunks", "*", "*"))
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]os.FileInfo{}
	for _, path := range list {
		if all[path], err = os.Stat(path); err != nil {
			t.Fatal(err)
		}
	}
	return all
}

// large writes a file of that many bytes that no chunk of repeats.
func large(t testing.TB, size int64) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "large")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.CopyN(f, rand.NewChaCha8([32]byte{1}), size); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	return path
}

// heap is the bytes of objects, garbage included.
func heap() int64 {
	sample := []metrics.Sample{{Name: "/memory/classes/heap/objects:bytes"}}
	metrics.Read(sample)
	return int64(sample[0].Value.Uint64())
}

// TestConstantMemory is not parallel: it measures the heap of the process.
func TestConstantMemory(t *testing.T) { //nolint:paralleltest // see above
	const size, bound = 256 << 20, 64 << 20
	path := large(t, size)
	s := open(t, t.TempDir(), 0)
	runtime.GC()
	base := heap()
	var peak int64
	a, err := s.Add(t.Context(), path, func(_, _ int64) { peak = max(peak, heap()-base) })
	if err != nil || a.Bytes != size {
		t.Fatalf("%+v, %v", a, err)
	}
	t.Logf("add: %d MiB over base", peak>>20)
	if peak > bound {
		t.Errorf("adding took %d MiB", peak>>20)
	}
	stop, stopped := make(chan struct{}), make(chan int64)
	go func() {
		var peak int64
		for {
			select {
			case <-stop:
				stopped <- peak
				return
			default:
				peak = max(peak, heap()-base)
				runtime.Gosched()
			}
		}
	}()
	err = s.Materialise(t.Context(), a.Cid, filepath.Join(t.TempDir(), "back"))
	close(stop)
	if peak := <-stopped; err != nil || peak > bound {
		t.Errorf("writing out took %d MiB, %v", peak>>20, err)
	} else {
		t.Logf("materialise: %d MiB over base", peak>>20)
	}
}

// BenchmarkAdd256MiB adds a file, by either hash and without copying it, beside copying
// it.
func BenchmarkAdd256MiB(b *testing.B) {
	const size = 256 << 20
	path := large(b, size)
	for name, as := range map[string]Adding{"blake3": {}, "sha2-256": {Hash: SHA256}, "no-copy": {Link: true}} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				s := open(b, b.TempDir(), 0)
				begun := time.Now()
				if _, err := s.AddAs(b.Context(), path, as, nil); err != nil {
					b.Fatal(err)
				}
				added := time.Since(begun).Seconds()
				begun = time.Now()
				if err := copyFile(path, filepath.Join(b.TempDir(), "copy")); err != nil {
					b.Fatal(err)
				}
				copied := time.Since(begun).Seconds()
				b.ReportMetric(size/1e6/added, "add-MB/s")
				b.ReportMetric(size/1e6/copied, "cp-MB/s")
				b.ReportMetric(copied/added, "ratio")
				if err := os.RemoveAll(s.dir); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func copyFile(from, to string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.Create(to)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	return errors.Join(err, out.Close())
}
