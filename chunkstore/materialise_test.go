package chunkstore

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	blocks "github.com/ipfs/go-block-format"
	"github.com/ipfs/go-cid"
	mh "github.com/multiformats/go-multihash"
)

// node is a dag-pb block of those bytes.
func node(t testing.TB, parts ...[]byte) blocks.Block {
	t.Helper()
	return block(t, cid.Prefix{Version: 1, Codec: cid.DagProtobuf, MhType: mh.BLAKE3, MhLength: 32}, bytes.Join(parts, nil))
}

// The data of UnixFS nodes.
func folderData() []byte            { return pb(1, pbInt(1, 1)) }
func linkData(target string) []byte { return pb(1, append(pbInt(1, 4), pb(2, []byte(target))...)) }

// fileData is a file of so many parts of a size.
func fileData(parts int, size uint64) []byte {
	return pb(1, append(append(pbInt(1, 2), pbInt(3, uint64(parts)*size)...), bytes.Repeat(pbInt(4, size), parts)...))
}

// clean fails if anything but the named entries is in a folder.
func clean(t *testing.T, dir string, want ...string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, e := range entries {
		got = append(got, e.Name())
	}
	if strings.Join(got, " ") != strings.Join(want, " ") {
		t.Errorf("%v is in the folder, want %v", got, want)
	}
}

func TestMaterialiseRefuses(t *testing.T) {
	t.Parallel()
	leaf := raw(t, []byte("leaf"))
	entry := func(name string) []byte { return pbLink(leaf.Cid(), name, 4) }
	inner := node(t, entry("ok"), folderData())
	for name, root := range map[string]blocks.Block{
		"parent":       node(t, entry(".."), folderData()),
		"own folder":   node(t, entry("."), folderData()),
		"climbs":       node(t, entry("../escaped"), folderData()),
		"absolute":     node(t, entry("/tmp/escaped"), folderData()),
		"slash":        node(t, entry("a/b"), folderData()),
		"slash at end": node(t, entry("a/"), folderData()),
		"empty name":   node(t, entry(""), folderData()),
		"zero byte":    node(t, entry("a\x00b"), folderData()),
		"long name":    node(t, entry(strings.Repeat("x", 256)), folderData()),
		"longer name":  node(t, entry(strings.Repeat("x", 10_000)), folderData()),
		"same twice":   node(t, entry("a"), entry("a"), folderData()),
		"folder in it": node(t, pbLink(inner.Cid(), "..", 1), folderData()),
		"link":         node(t, linkData("/etc/passwd")),
		"no protobuf":  node(t, []byte("\xff\xff\xff")),
		"no data":      node(t, entry("a")),
		"not unixfs":   node(t, pb(1, []byte("\xff\xff\xff"))),
		"unknown kind": node(t, pb(1, pbInt(1, 99))),
		"bad shard":    node(t, pbLink(leaf.Cid(), "00", 4), pb(1, append(pbInt(1, 5), pbInt(6, 7)...))),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := open(t, t.TempDir(), 0)
			put(t, s, leaf, inner, root)
			outer := t.TempDir()
			dir := filepath.Join(outer, "in", "side")
			if err := os.MkdirAll(dir, 0o700); err != nil {
				t.Fatal(err)
			}
			err := s.Materialise(t.Context(), root.Cid(), filepath.Join(dir, "dest"))
			if !errors.Is(err, ErrForeign) {
				t.Errorf("%v, want ErrForeign", err)
			}
			clean(t, dir)
			clean(t, outer, "in")
			clean(t, filepath.Join(outer, "in"), "side")
		})
	}
	t.Run("link in a folder", func(t *testing.T) {
		t.Parallel()
		s := open(t, t.TempDir(), 0)
		link := node(t, linkData("../../.."))
		root := node(t, entry("a"), pbLink(link.Cid(), "b", 1), folderData())
		put(t, s, leaf, link, root)
		err := s.Materialise(t.Context(), root.Cid(), filepath.Join(t.TempDir(), "dest"))
		if !errors.Is(err, ErrForeign) || !strings.Contains(err.Error(), `"b" is a link`) {
			t.Errorf("%v", err)
		}
	})
}

func TestMaterialiseDeep(t *testing.T) {
	t.Parallel()
	for depth, want := range map[int]error{maxDepth: nil, maxDepth + 1: ErrForeign, 300: ErrForeign} {
		s := open(t, t.TempDir(), 0)
		b := node(t, folderData())
		put(t, s, b)
		for range depth {
			b = node(t, pbLink(b.Cid(), "d", 1), folderData())
			put(t, s, b)
		}
		err := s.Materialise(t.Context(), b.Cid(), filepath.Join(t.TempDir(), "dest"))
		if !errors.Is(err, want) {
			t.Errorf("%d folders in folders: %v, want %v", depth, err, want)
		}
	}
}

// TestMaterialiseBomb unpacks a PiB from a few chunks.
func TestMaterialiseBomb(t *testing.T) {
	t.Parallel()
	const quota = 4 << 20
	s := open(t, t.TempDir(), quota)
	b, size := raw(t, noise(1, leafSize)), uint64(leafSize)
	put(t, s, b)
	for range 3 {
		b = node(t, bytes.Repeat(pbLink(b.Cid(), "", size), maxLinks), fileData(maxLinks, size))
		size *= maxLinks
		put(t, s, b)
	}
	dir := t.TempDir()
	err := s.Materialise(t.Context(), b.Cid(), filepath.Join(dir, "dest"))
	if !errors.Is(err, ErrForeign) || !strings.Contains(err.Error(), "more bytes than the disk limit") {
		t.Errorf("%v", err)
	}
	clean(t, dir)

	// In many small files as well.
	b = node(t, pbLink(raw(t, noise(1, leafSize)).Cid(), "f", leafSize), folderData())
	put(t, s, b)
	for range 10 {
		b = node(t, pbLink(b.Cid(), "a", 1), pbLink(b.Cid(), "b", 1), folderData())
		put(t, s, b)
	}
	if err := s.Materialise(t.Context(), b.Cid(), filepath.Join(dir, "dest")); !errors.Is(err, ErrForeign) {
		t.Errorf("%v", err)
	}
	clean(t, dir)
}

// TestMaterialiseLimits comes near the limits that are too far to count up to.
func TestMaterialiseLimits(t *testing.T) {
	t.Parallel()
	s := open(t, t.TempDir(), 0)
	a, b := raw(t, []byte("a")), raw(t, []byte("b"))
	put(t, s, a, b)
	l := &limited{DAGService: s.dag()}
	l.visits.Store(maxVisits - 2)
	for range 2 {
		if _, err := l.Get(t.Context(), a.Cid()); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := l.Get(t.Context(), a.Cid()); !errors.Is(err, ErrForeign) {
		t.Errorf("visit too many: %v", err)
	}
	l.visits.Store(maxVisits - 1)
	var refused []bool
	for n := range l.GetMany(t.Context(), []cid.Cid{a.Cid(), b.Cid()}) {
		refused = append(refused, errors.Is(n.Err, ErrForeign))
	}
	if !slices.Equal(refused, []bool{false, true}) {
		t.Errorf("of two visits, one too many: refused %v", refused)
	}
	l.visits.Store(0)
	w := &writer{store: s, ctx: t.Context(), dag: l, endless: true, entries: maxEntries - 1}
	dir := t.TempDir()
	if err := w.write(filepath.Join(dir, "last"), a.Cid(), 1); err != nil {
		t.Error(err)
	}
	if err := w.write(filepath.Join(dir, "more"), a.Cid(), 1); !errors.Is(err, ErrForeign) {
		t.Errorf("entry too many: %v", err)
	}
}

// TestMaterialiseAtomic leaves nothing when something fails in the middle, and
// touches nothing that exists.
func TestMaterialiseAtomic(t *testing.T) {
	t.Parallel()
	s := open(t, t.TempDir(), 0)
	a, err := s.Add(t.Context(), tree(t, map[string][]byte{"a": []byte("a"), "b": noise(1, 3*leafSize), "c/d": []byte("d")}), nil)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	dest := filepath.Join(dir, "dest")
	lost := raw(t, noise(1, 3*leafSize)[leafSize:2*leafSize])
	if err := s.DeleteBlock(t.Context(), lost.Cid()); err != nil {
		t.Fatal(err)
	}
	if err := s.Materialise(t.Context(), a.Cid, dest); !errors.Is(err, ErrNotFound) || !strings.Contains(err.Error(), lost.Cid().String()) {
		t.Errorf("%v does not name the chunk that is missing", err)
	}
	clean(t, dir)
	put(t, s, lost)

	cause := errors.New("the caller has enough")
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(cause)
	if err := s.Materialise(ctx, a.Cid, dest); !errors.Is(err, cause) {
		t.Errorf("%v", err)
	}
	clean(t, dir)

	if err := os.WriteFile(dest, []byte("mine"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := s.Materialise(t.Context(), a.Cid, dest); !errors.Is(err, fs.ErrExist) {
		t.Errorf("%v", err)
	}
	if data, err := os.ReadFile(dest); err != nil || string(data) != "mine" {
		t.Errorf("%q, %v", data, err)
	}
	if len(s.roots) > 0 {
		t.Error("content is covered for ever")
	}
}

// FuzzMaterialise unpacks what any bytes mean as a node, beside a file and a
// folder that are there.
func FuzzMaterialise(f *testing.F) {
	leaf := raw(f, []byte("leaf"))
	folder := node(f, pbLink(leaf.Cid(), "f", 4), folderData())
	f.Add(joined(pbLink(leaf.Cid(), "name", 4), folderData()))
	f.Add(joined(pbLink(folder.Cid(), "..", 4), folderData()))
	f.Add(joined(pbLink(leaf.Cid(), "", 4), pbLink(leaf.Cid(), "", 4), fileData(2, 4)))
	f.Add(joined(linkData("x")))
	f.Add(joined(pbLink(leaf.Cid(), "00x", 4), pb(1, append(append(pbInt(1, 5), pb(2, []byte{1})...), append(pbInt(5, 0x22), pbInt(6, 256)...)...))))
	s := open(f, f.TempDir(), 1<<20)
	put(f, s, leaf, folder)
	for _, b := range []blocks.Block{leaf, folder} {
		if err := s.Keep(Lease{Root: b.Cid(), Reason: "fuzz"}); err != nil {
			f.Fatal(err)
		}
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		if len(data) > 1<<16 {
			return
		}
		root := node(t, data)
		put(t, s, root)
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		outer := t.TempDir()
		dir := filepath.Join(outer, "in")
		if err := os.Mkdir(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		if err := s.Materialise(ctx, root.Cid(), filepath.Join(dir, "dest")); err != nil {
			if ctx.Err() != nil {
				t.Fatalf("endless: %v", err)
			}
			clean(t, dir)
		} else {
			clean(t, dir, "dest")
		}
		clean(t, outer, "in")
		_ = fmt.Sprint(Links(root))
	})
}

func joined(parts ...[]byte) []byte { return bytes.Join(parts, nil) }
