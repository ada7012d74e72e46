package main

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/talka-grid/talka/workunits/jobfile"
)

// cut splits a text and returns the pieces.
func cut(t interface {
	Fatal(args ...any)
}, dir, name, text string, by jobfile.Cut, size uint64) ([]string, error) {
	path, folder := filepath.Join(dir, name), filepath.Join(dir, "pieces")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = os.RemoveAll(folder) }()
	n, err := split(path, folder, by, size, 100)
	if err != nil {
		return nil, err
	}
	var pieces []string
	for i := range n {
		b, err := os.ReadFile(filepath.Join(folder, strconv.Itoa(int(i))))
		if err != nil {
			t.Fatal(err)
		}
		pieces = append(pieces, string(b))
	}
	if all, err := os.ReadDir(folder); err != nil || len(all) != int(n) {
		t.Fatal("folder has", len(all), "entries, want", n, err)
	}
	return pieces, nil
}

func TestSplit(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("x", 200_000) // longer than any buffer
	for name, c := range map[string]struct {
		file, text string
		by         jobfile.Cut
		size       uint64
		want       []string
	}{
		"lines":            {"a", "1\n2\n3\n", jobfile.ByLines, 2, []string{"1\n2\n", "3\n"}},
		"no last line end": {"a", "1\n2\n3", jobfile.ByLines, 2, []string{"1\n2\n", "3"}},
		"long line":        {"a", long + "\n" + long, jobfile.ByLines, 1, []string{long + "\n", long}},
		"bytes":            {"a", "abcdefg", jobfile.ByBytes, 3, []string{"abc", "def", "g"}},
		"one piece":        {"a", "abc", jobfile.ByBytes, 1 << 40, []string{"abc"}},
		"fasta":            {"a.fa", ">1\nAC\nGT\n>2\n>3\nTT", jobfile.ByRecords, 2, []string{">1\nAC\nGT\n>2\n", ">3\nTT"}},
		"fastq":            {"a.fq", "@1\nAC\n+\n@I\n@2\nGT\n+\nII\n", jobfile.ByRecords, 1, []string{"@1\nAC\n+\n@I\n", "@2\nGT\n+\nII\n"}},
		"csv":              {"a.CSV", "h,i\n1,\"a\nb\"\n2,\"\"\"\n\"\n3,c\n", jobfile.ByRecords, 2, []string{"h,i\n1,\"a\nb\"\n2,\"\"\"\n\"\n", "h,i\n3,c\n"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := cut(t, t.TempDir(), c.file, c.text, c.by, c.size)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestSplitRefuses(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		file, text string
		by         jobfile.Cut
		want       string
	}{
		"empty":        {"a", "", jobfile.ByLines, "is empty"},
		"no format":    {"a.txt", "hello", jobfile.ByRecords, "cannot tell its records"},
		"header only":  {"a.csv", "h,i\n", jobfile.ByRecords, "no record below its header"},
		"open quote":   {"a.csv", "h\n\"1\n", jobfile.ByRecords, "open quote"},
		"short record": {"a.fq", "@1\nAC\n", jobfile.ByRecords, "has 2 lines, want 4"},
		"many pieces":  {"a", strings.Repeat("\n", 101), jobfile.ByLines, "make size larger"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := cut(t, t.TempDir(), c.file, c.text, c.by, 1)
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want %q", err, c.want)
			}
		})
	}
}

// Cutting loses nothing, adds nothing and keeps to the size.
func TestSplitKeepsEverything(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	rapid.Check(t, func(t *rapid.T) {
		text := rapid.StringMatching(`(?s)[a\n"]{1,60}`).Draw(t, "text")
		size := rapid.Uint64Range(1, 7).Draw(t, "size")
		by := rapid.SampledFrom([]jobfile.Cut{jobfile.ByLines, jobfile.ByBytes}).Draw(t, "by")
		got, err := cut(t, dir, "a", text, by, size)
		if err != nil {
			t.Fatal(err)
		}
		if all := strings.Join(got, ""); all != text {
			t.Fatalf("%q became %q", text, got)
		}
		for i, piece := range got {
			n := uint64(len(piece))
			if by == jobfile.ByLines {
				n = uint64(strings.Count(piece, "\n"))
			}
			if last := i == len(got)-1; n > size || !last && n != size {
				t.Fatalf("piece %d of %d is %q, want size %d", i, len(got), piece, size)
			}
		}
	})
}
