package chunkstore

import (
	"bytes"
	"encoding/binary"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	blocks "github.com/ipfs/go-block-format"
	"github.com/ipfs/go-cid"
	mh "github.com/multiformats/go-multihash"
)

// The archives go-car-*.car were written by go-car v2.17.0: a file of two leaves.
const carRoot = "bafybeibuqbsuo6wezkov5p3zqcrvceej6j2wz7oiozwsuanxwaht3cla5a"

func readFile(t testing.TB, path string) []byte {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// archive is a CAR of version 1.
func archive(t testing.TB, roots []cid.Cid, list ...blocks.Block) []byte {
	t.Helper()
	var text []byte
	for _, c := range roots {
		text = append(text, 0xd8, 42, 0x58, byte(c.ByteLen()+1), 0)
		text = append(text, c.Bytes()...)
	}
	header := append([]byte("\xa2eroots"), byte(0x80+len(roots)))
	parts := [][]byte{append(append(header, text...), []byte("gversion\x01")...)}
	for _, b := range list {
		parts = append(parts, append(b.Cid().Bytes(), b.RawData()...))
	}
	var out []byte
	for _, p := range parts {
		out = append(binary.AppendUvarint(out, uint64(len(p))), p...)
	}
	return out
}

func TestCarVectors(t *testing.T) {
	t.Parallel()
	want := readFile(t, "testdata/go-car-v1.car")
	for _, name := range []string{"testdata/go-car-v1.car", "testdata/go-car-v2.car"} {
		s := open(t, t.TempDir(), 0)
		in, err := s.Import(t.Context(), bytes.NewReader(readFile(t, name)), nil)
		if err != nil || len(in.Roots) != 1 || in.Roots[0].String() != carRoot || in.Chunks != 3 {
			t.Fatalf("%s: %+v, %v", name, in, err)
		}
		dest := filepath.Join(t.TempDir(), "file")
		if err := s.Materialise(t.Context(), in.Roots[0], dest); err != nil || string(readFile(t, dest)) != "firstsecond" {
			t.Errorf("%s: materialised %v", name, err)
		}
		var out bytes.Buffer
		if err := s.Export(t.Context(), in.Roots[0], Selection{}, &out); err != nil || !bytes.Equal(out.Bytes(), want) {
			t.Errorf("%s: exported %x, %v; want what go-car writes: %x", name, out.Bytes(), err, want)
		}
		closed(t, s)
	}
}

func TestCarRoundTrip(t *testing.T) {
	t.Parallel()
	from, to := open(t, t.TempDir(), 0), open(t, t.TempDir(), 0)
	defer closed(t, from)
	defer closed(t, to)
	for name, files := range cases() {
		added, err := from.Add(t.Context(), input(t, files), nil)
		if err != nil {
			t.Fatal(err)
		}
		var car bytes.Buffer
		if err := from.Export(t.Context(), added.Cid, Selection{}, &car); err != nil {
			t.Fatal(err)
		}
		var last int64
		in, err := to.Import(t.Context(), &car, func(done, _ int64) { last = done })
		if err != nil || in.Chunks != added.Chunks || !slices.Equal(in.Roots, []cid.Cid{added.Cid}) || last != in.Bytes {
			t.Errorf("%s: %+v of %+v, %v", name, in, added, err)
		}
	}
}

func TestCarRefuses(t *testing.T) {
	t.Parallel()
	p := cid.Prefix{Version: 1, Codec: cid.Raw, MhType: mh.BLAKE3, MhLength: 32}
	good := block(t, p, []byte("good"))
	lies, err := blocks.NewBlockWithCid([]byte("lies"), good.Cid())
	if err != nil {
		t.Fatal(err)
	}
	other := block(t, cid.Prefix{Version: 1, Codec: cid.Raw, MhType: mh.SHA2_512, MhLength: 64}, []byte("x"))
	large := block(t, p, make([]byte, MaxBlock+1))
	file := node(t, fileData(2, 1), pbLink(good.Cid(), "", 4), pbLink(chunkOf(t, 1).Cid(), "", 4))
	roots := []cid.Cid{good.Cid()}
	whole, v2 := readFile(t, "testdata/go-car-v1.car"), readFile(t, "testdata/go-car-v2.car")
	far := slices.Clone(v2)
	binary.LittleEndian.PutUint64(far[27:], 1<<60)
	before := slices.Clone(v2)
	binary.LittleEndian.PutUint64(before[27:], 3)
	endless := slices.Clone(v2)
	binary.LittleEndian.PutUint64(endless[35:], 1<<40)
	for name, c := range map[string]struct {
		car  []byte
		want error
	}{
		"empty":             {nil, ErrForeign},
		"text":              {[]byte("<html>404 not found</html>"), ErrForeign},
		"zeros":             {make([]byte, 100), ErrForeign},
		"endless number":    {bytes.Repeat([]byte{0xff}, 100), ErrForeign},
		"huge header":       {binary.AppendUvarint(nil, 1<<60), ErrForeign},
		"no root":           {archive(t, nil, good), ErrForeign},
		"many roots":        {archive(t, slices.Repeat(roots, 20), good)[:200], ErrForeign},
		"lack of the root":  {archive(t, roots), ErrNotFound},
		"lack of a leaf":    {archive(t, []cid.Cid{file.Cid()}, file, good), ErrNotFound},
		"wrong hash":        {archive(t, roots, lies), ErrDamaged},
		"other hash":        {archive(t, []cid.Cid{other.Cid()}, other), ErrForeign},
		"over 2 MiB":        {archive(t, []cid.Cid{large.Cid()}, large), ErrForeign},
		"part without CID":  {append(archive(t, roots), 3, 1, 2, 3), ErrForeign},
		"empty part":        {append(archive(t, roots, good), 0), ErrForeign},
		"far data":          {far, ErrForeign},
		"data in header":    {before, ErrForeign},
		"data beyond end":   {endless, ErrForeign},
		"cut in a leaf":     {whole[:len(whole)-3], ErrForeign},
		"cut after a leaf":  {whole[:len(whole)-43], ErrNotFound},
		"cut in header":     {v2[:30], ErrForeign},
		"version 2 in two":  {append(slices.Clone(v2[:v2[27]]), v2...), ErrForeign},
		"huge part":         {binary.AppendUvarint(archive(t, roots), 1<<40), ErrForeign},
		"part over 2 MiB":   {binary.AppendUvarint(archive(t, roots), MaxBlock+maxCidBytes+1), ErrForeign},
		"malformed as root": {archive(t, []cid.Cid{node(t).Cid()}, block(t, node(t).Cid().Prefix(), []byte{0xff})), ErrNotFound},
	} {
		s := open(t, t.TempDir(), 0)
		in, err := s.Import(t.Context(), bytes.NewReader(c.car), nil)
		if !errors.Is(err, c.want) || len(in.Roots) != 0 {
			t.Errorf("%s: %+v, %v; want %v", name, in, err, c.want)
		}
		// What stayed is true, and goes when room is needed.
		if kept, _, err := s.covered(); err != nil || len(kept) != 0 || len(s.held) != 0 {
			t.Errorf("%s: %d chunks are covered, %v", name, len(kept), err)
		}
		closed(t, s)
	}
}

// A small archive that unfolds to 2^40 folders costs as many steps as it has chunks.
func TestCarBomb(t *testing.T) {
	t.Parallel()
	s := open(t, t.TempDir(), 1<<20)
	defer closed(t, s)
	list := []blocks.Block{node(t, folderData())}
	for range 40 {
		last := list[len(list)-1].Cid()
		list = append(list, node(t, pbLink(last, "a", 1<<40), pbLink(last, "b", 1<<40), folderData()))
	}
	root := list[len(list)-1].Cid()
	in, err := s.Import(t.Context(), bytes.NewReader(archive(t, []cid.Cid{root}, list...)), nil)
	if err != nil || in.Chunks != 41 {
		t.Fatalf("%+v, %v", in, err)
	}
	var out bytes.Buffer
	if err := s.Export(t.Context(), root, Selection{}, &out); err != nil || out.Len() > 1<<16 {
		t.Errorf("%d bytes, %v", out.Len(), err)
	}
}

func TestCarQuota(t *testing.T) {
	t.Parallel()
	s := open(t, t.TempDir(), 8<<10)
	defer closed(t, s)
	kept := raw(t, noise(9, 5000))
	put(t, s, kept)
	if err := s.Keep(Lease{Root: kept.Cid(), Reason: "own data"}); err != nil {
		t.Fatal(err)
	}
	big := raw(t, noise(1, 6000))
	_, err := s.Import(t.Context(), bytes.NewReader(archive(t, []cid.Cid{big.Cid()}, big)), nil)
	if !errors.Is(err, ErrFull) || !strings.Contains(err.Error(), "raise the disk limit") || !has(t, s, kept.Cid()) {
		t.Errorf("import over the quota: %v", err)
	}
}

// TestExportOrder has a chunk linked from a folder, and before that from one in it: it
// comes where a walk in the order of links first meets it, and once.
func TestExportOrder(t *testing.T) {
	t.Parallel()
	s := open(t, t.TempDir(), 0)
	defer closed(t, s)
	one, two := chunkOf(t, 1), chunkOf(t, 2)
	inner := parent(t, one, two)
	top := parent(t, inner, one)
	put(t, s, one, two, inner, top)
	var car bytes.Buffer
	if err := s.Export(t.Context(), top.Cid(), Selection{}, &car); err != nil {
		t.Fatal(err)
	}
	if want := archive(t, []cid.Cid{top.Cid()}, top, inner, one, two); !bytes.Equal(car.Bytes(), want) {
		t.Errorf("%d bytes in another order, want %d", car.Len(), len(want))
	}
}

func TestExportLacks(t *testing.T) {
	t.Parallel()
	s := open(t, t.TempDir(), 0)
	defer closed(t, s)
	lost := chunkOf(t, 3)
	top := parent(t, lost)
	put(t, s, top)
	if err := s.Export(t.Context(), top.Cid(), Selection{}, &bytes.Buffer{}); !errors.Is(err, ErrNotFound) {
		t.Errorf("exported without a leaf: %v", err)
	}
}

func FuzzImport(f *testing.F) {
	f.Add(readFile(f, "testdata/go-car-v1.car"))
	f.Add(readFile(f, "testdata/go-car-v2.car"))
	s, err := Open(f.TempDir(), Config{Quota: 16 << 20})
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, car []byte) {
		in, err := s.Import(t.Context(), bytes.NewReader(car), nil)
		if err != nil {
			return
		}
		for _, root := range in.Roots {
			if err := s.Export(t.Context(), root, Selection{}, &bytes.Buffer{}); err != nil {
				t.Errorf("imported %s and could not export it: %v", root, err)
			}
		}
	})
}
