package chunkstore

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/ipfs/go-cid"
)

func free(context.Context, int) error { return nil }

// addLinked adds and keeps a path whose leaves stay where they are.
func addLinked(t *testing.T, s *Store, path string) Added {
	t.Helper()
	a, err := s.AddAs(t.Context(), path, Adding{Link: true}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Keep(Lease{Root: a.Cid, Reason: "own data"}); err != nil {
		t.Fatal(err)
	}
	return a
}

// TestLinked adds files and folders without copying: it comes to the same CID,
// takes next to nothing, and is there after a restart and a crash.
func TestLinked(t *testing.T) {
	t.Parallel()
	want := vectors(t)
	all := cases()
	for _, name := range []string{"file-empty", "file-1", "file-3MiB+5", "folder-empty", "folder-nested"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir, path := t.TempDir(), input(t, all[name])
			s := open(t, dir, 1<<20)
			if a := addLinked(t, s, path); a != want[name] {
				t.Errorf("%+v, testdata says %+v", a, want[name])
			}
			for _, crash := range []bool{false, true} {
				if st := s.Stat(); st.Bytes != onDisk(t, s) || st.Bytes > 256<<10 || st.Linked > want[name].Bytes {
					t.Errorf("%+v", st)
				}
				dest := filepath.Join(t.TempDir(), "back")
				if err := s.View(t.Context(), want[name].Cid, dest); err != nil {
					t.Fatal(err)
				}
				if diff := cmp.Diff(hashes(t, path), hashes(t, dest)); diff != "" {
					t.Error(diff)
				}
				closed(t, s)
				if crash {
					_ = os.Remove(s.indexPath())
				}
				s = open(t, dir, 1<<20)
			}
			if err := s.Release(Lease{Root: want[name].Cid, Reason: "own data"}); err != nil {
				t.Fatal(err)
			}
			left, err := os.ReadDir(s.folder("linked"))
			if st := s.Stat(); st.Linked > 0 || err != nil || len(left) > 0 {
				t.Errorf("after the release: %+v, %v, %v", st, left, err)
			}
		})
	}
}

// TestLinkedChanges changes a linked file in the ways that its owner may: what changed
// is missing, never served, and reported; the rest stays.
func TestLinkedChanges(t *testing.T) {
	t.Parallel()
	data := noise(1, 3*leafSize+5)
	changed := slices.Clone(data)
	changed[leafSize+7] ^= 1
	for name, c := range map[string]struct {
		change func(path string) error
		lost   int // leaves of 4
	}{
		"touched":  {func(path string) error { return os.Chtimes(path, time.Time{}, time.Unix(5, 0)) }, 0},
		"a byte":   {func(path string) error { return os.WriteFile(path, changed, 0o600) }, 1},
		"longer":   {func(path string) error { return os.WriteFile(path, append(slices.Clone(data), 1), 0o600) }, 0},
		"shorter":  {func(path string) error { return os.Truncate(path, leafSize) }, 3},
		"gone":     {os.Remove, 4},
		"a folder": {func(path string) error { return errors.Join(os.Remove(path), os.Mkdir(path, 0o700)) }, 4},
		"secretly": {func(path string) error { // with the time of before
			info, err := os.Stat(path)
			return errors.Join(err, os.WriteFile(path, changed, 0o600), os.Chtimes(path, time.Time{}, info.ModTime()))
		}, 1},
	} {
		for _, looked := range []bool{true, false} {
			path := filepath.Join(t.TempDir(), "file")
			if err := os.WriteFile(path, data, 0o600); err != nil {
				t.Fatal(err)
			}
			s := open(t, t.TempDir(), 0)
			a := addLinked(t, s, path)
			if list, err := s.CheckLinks(t.Context(), free); err != nil || len(list) > 0 {
				t.Errorf("unchanged: %v, %v", list, err)
			}
			if err := c.change(path); err != nil {
				t.Fatal(err)
			}
			if looked && name != "secretly" { // else reading finds out
				list, err := s.CheckLinks(t.Context(), free)
				if want := []Changed{{path, a.Cid, c.lost}}; err != nil || c.lost > 0 && !slices.Equal(list, want) || c.lost == 0 && len(list) > 0 {
					t.Errorf("%s: %v, %v", name, list, err)
				}
				if again, err := s.CheckLinks(t.Context(), free); err != nil || len(again) > 0 {
					t.Errorf("%s: reported again: %v, %v", name, again, err)
				}
			}
			root, err := s.Get(t.Context(), a.Cid)
			if err != nil {
				t.Fatal(err)
			}
			leaves, err := Links(root)
			if err != nil {
				t.Fatal(err)
			}
			lost := 0
			for _, l := range leaves {
				if raw, err := s.Serve(l, nil); errors.Is(err, ErrNotFound) {
					lost++
				} else if err != nil || Verify(l, raw) != nil {
					t.Errorf("%s: %v", name, err)
				}
			}
			if lost != c.lost {
				t.Errorf("%s: %d leaves are lost, want %d", name, lost, c.lost)
			}
			if torn, err := s.Torn(t.Context()); err != nil || (len(torn) > 0) != (lost > 0) {
				t.Errorf("%s: torn %v, %v", name, torn, err)
			}
			closed(t, s)
		}
	}
}

// TestLinkedAndCopied has the same content in two files and in the store: it is there
// as long as one of them is.
func TestLinkedAndCopied(t *testing.T) {
	t.Parallel()
	data := noise(2, leafSize+9)
	one, two := filepath.Join(t.TempDir(), "one"), filepath.Join(t.TempDir(), "two")
	s := open(t, t.TempDir(), 0)
	for _, path := range []string{one, two} {
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	folder := tree(t, map[string][]byte{"three": data})
	a := addLinked(t, s, one)
	addLinked(t, s, folder)
	there := func(when string, want bool) {
		t.Helper()
		err := s.Materialise(t.Context(), a.Cid, filepath.Join(t.TempDir(), "back"))
		if want && err != nil || !want && !errors.Is(err, ErrNotFound) {
			t.Errorf("%s: %v", when, err)
		}
	}
	there("linked twice", true)
	if err := errors.Join(os.Remove(one), s.Release(Lease{Root: a.Cid, Reason: "own data"})); err != nil {
		t.Fatal(err)
	}
	there("linked once", true)
	if b, err := s.Add(t.Context(), two, nil); err != nil || b != a {
		t.Fatalf("%+v, %v", b, err)
	}
	there("linked, and added again", true)
	if err := os.RemoveAll(folder); err != nil {
		t.Fatal(err)
	}
	there("removed", false)
	if _, err := s.Add(t.Context(), two, nil); err != nil {
		t.Fatal(err)
	}
	there("copied", true)
	if st := s.Stat(); st.Bytes != onDisk(t, s) {
		t.Errorf("%+v, %d bytes on disk", st, onDisk(t, s))
	}
}

// TestLinkedWhileWritten refuses a file that is written to while it is added.
func TestLinkedWhileWritten(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(path, noise(3, 3*leafSize), 0o600); err != nil {
		t.Fatal(err)
	}
	s := open(t, t.TempDir(), 0)
	_, err := s.AddAs(t.Context(), path, Adding{Link: true}, func(done, _ int64) {
		if done == 3*leafSize {
			if err := os.WriteFile(path, []byte("something else"), 0o600); err != nil {
				t.Error(err)
			}
		}
	})
	if err == nil || !strings.Contains(err.Error(), "was changed while it was added") {
		t.Errorf("%v", err)
	}
	if st := s.Stat(); st.Linked != 0 {
		t.Errorf("%+v", st)
	}
}

// TestLinkedRecords drops records that are cut or changed anywhere, and those of roots
// that nobody kept.
func TestLinkedRecords(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(path, noise(4, leafSize+1), 0o600); err != nil {
		t.Fatal(err)
	}
	s := open(t, dir, 0)
	a := addLinked(t, s, path)
	record := filepath.Join(s.folder("linked"), a.Cid.String())
	raw := readFile(t, record)
	if files, ok := parseLinks(a.Cid, raw); !ok || len(files) != 1 || len(files[0].leaves) != 2 {
		t.Fatalf("%v, %t", files, ok)
	}
	for at := range raw {
		spoilt := slices.Clone(raw)
		spoilt[at] ^= 1
		if _, ok := parseLinks(a.Cid, spoilt); ok {
			t.Fatalf("byte %d was changed and the record believed", at)
		}
		if _, ok := parseLinks(a.Cid, raw[:at]); ok {
			t.Fatalf("the record was cut at %d and believed", at)
		}
	}
	closed(t, s)
	if err := os.WriteFile(record, raw[:len(raw)-1], 0o600); err != nil {
		t.Fatal(err)
	}
	s = open(t, dir, 0)
	if st := s.Stat(); st.Linked != 0 {
		t.Errorf("%+v", st)
	}
	if _, err := s.AddAs(t.Context(), path, Adding{Link: true}, nil); err != nil {
		t.Fatal(err)
	}
	if err := s.Release(Lease{Root: a.Cid, Reason: "own data"}); err != nil {
		t.Fatal(err)
	}
	if _, err := s.AddAs(t.Context(), path, Adding{Link: true}, nil); err != nil { // and nobody keeps it
		t.Fatal(err)
	}
	closed(t, s)
	s = open(t, dir, 0)
	if st := s.Stat(); st.Linked != 0 {
		t.Errorf("nobody kept it: %+v", st)
	}
	closed(t, s)
}

// TestSHA256 adds with the other hash, as Kubo does by default.
func TestSHA256(t *testing.T) {
	t.Parallel()
	f, err := os.ReadFile("testdata/cids-sha256.txt")
	if err != nil {
		t.Fatal(err)
	}
	all := cases()
	seen := 0
	for line := range strings.Lines(string(f)) {
		name, text, ok := strings.Cut(strings.TrimSpace(line), " ")
		if !ok || strings.HasPrefix(line, "#") {
			continue
		}
		seen++
		want, err := cid.Decode(text)
		if err != nil {
			t.Fatal(err)
		}
		a, err := open(t, t.TempDir(), 0).AddAs(t.Context(), input(t, all[name]), Adding{Hash: SHA256}, nil)
		if err != nil || a.Cid != want {
			t.Errorf("%s: %s, %v; Kubo's is %s", name, a.Cid, err, want)
		}
	}
	if seen != len(all) {
		t.Errorf("%d vectors for %d cases", seen, len(all))
	}
	if _, err := open(t, t.TempDir(), 0).AddAs(t.Context(), "x", Adding{Hash: 0x11}, nil); !errors.Is(err, ErrForeign) {
		t.Errorf("sha1: %v", err)
	}
}
