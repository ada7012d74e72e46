// Search writes an index of the lines of a tree of text files that hold given
// words. It is a guest program: GOOS=wasip1 GOARCH=wasm go build.
//
//	search --tree DIR --words A,B,... [--whole] [--unit I --units N] [--out DIR]
//
// The tree's regular files, in the order of their slash-separated paths, are
// dealt out to the units like cards: file k belongs to unit k mod N. The index
// of one unit is OUT/index.tsv (OUT is /out unless told), with lines
//
//	WORD <tab> PATH <tab> LINE NUMBER
//
// sorted by word, path and number. Paths are relative to the tree; one that
// holds control characters or a quote stands as a Go string literal. All units'
// indexes together say what these print, word by word:
//
//	cd DIR && LC_ALL=C grep -rnIF -e WORD        (with --whole: grep -rnIFw)
//
// that is: bytes are compared as they are, words match inside longer words
// unless --whole is given, symbolic links are not followed, and a file with a
// zero byte is binary and holds nothing. (Grep prints what it found in such a
// file before it meets the first zero byte, if that stands behind its first
// buffer of 96 KiB.)
package main

import (
	"bufio"
	"bytes"
	"cmp"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// Limits of a run.
const (
	maxWords = 4096
	maxLine  = 64 << 20 // bytes; a longer line ends the run with an error
)

// options are what a run depends on, beside the tree.
type options struct {
	tree, out   string
	words       []string // sorted, distinct, not empty
	whole       bool     // match whole words only
	unit, units int
}

// hit is a line that holds a word.
type hit struct {
	word, path string
	line       int
}

// totals are what the summary tells.
type totals struct {
	files, binary int
	hits          []hit
}

func main() {
	o, err := parse(os.Args[1:])
	if errors.Is(err, flag.ErrHelp) {
		return
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "search:", err)
		os.Exit(2)
	}
	t, err := search(o)
	if err == nil {
		err = write(filepath.Join(o.out, "index.tsv"), t.hits)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "search:", err)
		os.Exit(1)
	}
	fmt.Printf("files %d binary %d found %d of %d words on %d lines\n",
		t.files, t.binary, t.found(), len(o.words), len(t.hits))
}

func parse(args []string) (options, error) {
	var o options
	var words string
	f := flag.NewFlagSet("search", flag.ContinueOnError)
	f.StringVar(&o.tree, "tree", "", "the `folder` to search")
	f.StringVar(&words, "words", "", "what to look for, separated by commas")
	f.BoolVar(&o.whole, "whole", false, "match whole words only")
	f.IntVar(&o.unit, "unit", 0, "the number of this unit, from 0")
	f.IntVar(&o.units, "units", 1, "the number of units")
	f.StringVar(&o.out, "out", "/out", "the `folder` to write index.tsv to")
	if err := f.Parse(args); err != nil {
		return o, err
	}
	o.words = strings.Split(words, ",")
	slices.Sort(o.words)
	o.words = slices.Compact(o.words)
	switch {
	case f.NArg() > 0:
		return o, fmt.Errorf("unexpected argument %q", f.Arg(0))
	case o.tree == "":
		return o, errors.New("--tree is missing")
	case words == "":
		return o, errors.New("--words is missing")
	case o.words[0] == "" || strings.ContainsAny(words, "\n\t\x00"):
		return o, fmt.Errorf("--words %q: no word may be empty or hold a tab, a line end or a zero byte", words)
	case len(o.words) > maxWords:
		return o, fmt.Errorf("--words has %d words, at most %d are allowed", len(o.words), maxWords)
	case o.units < 1 || o.unit < 0 || o.unit >= o.units:
		return o, fmt.Errorf("--unit %d of --units %d: want 0 to units-1", o.unit, o.units)
	}
	return o, nil
}

// search scans the unit's files and returns the hits in the index's order.
func search(o options) (totals, error) {
	paths, err := list(o.tree)
	if err != nil {
		return totals{}, err
	}
	var t totals
	for i := o.unit; i < len(paths); i += o.units {
		hits, err := o.scanFile(paths[i])
		if errors.Is(err, errBinary) {
			t.binary++
			err = nil
		}
		if err != nil {
			return t, err
		}
		t.files++
		t.hits = append(t.hits, hits...)
	}
	slices.SortFunc(t.hits, func(a, b hit) int {
		return cmp.Or(cmp.Compare(a.word, b.word), cmp.Compare(a.path, b.path), cmp.Compare(a.line, b.line))
	})
	return t, nil
}

// list returns the slash-separated paths of the tree's regular files, sorted.
func list(tree string) ([]string, error) {
	var paths []string
	err := fs.WalkDir(os.DirFS(tree), ".", func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() {
			paths = append(paths, path)
		}
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("--tree %s: %w", tree, err)
	}
	slices.Sort(paths)
	return paths, nil
}

func (o options) scanFile(path string) ([]hit, error) {
	f, err := os.Open(filepath.Join(o.tree, filepath.FromSlash(path)))
	if err != nil {
		return nil, err
	}
	defer f.Close() // only read
	hits, err := o.scan(f, path)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return hits, nil
}

// errBinary says that a file holds a zero byte.
var errBinary = errors.New("binary file")

func (o options) scan(r io.Reader, path string) ([]hit, error) {
	lines := bufio.NewScanner(r)
	lines.Buffer(make([]byte, 0, 256<<10), maxLine)
	lines.Split(splitLine)
	var hits []hit
	for n := 1; lines.Scan(); n++ {
		if bytes.IndexByte(lines.Bytes(), 0) >= 0 {
			return nil, errBinary
		}
		for _, w := range o.words {
			if o.holds(lines.Bytes(), w) {
				hits = append(hits, hit{w, path, n})
			}
		}
	}
	return hits, lines.Err()
}

// splitLine is bufio.ScanLines that keeps a carriage return, as grep does.
func splitLine(data []byte, atEOF bool) (advance int, token []byte, err error) {
	if i := bytes.IndexByte(data, '\n'); i >= 0 {
		return i + 1, data[:i], nil
	}
	if atEOF && len(data) > 0 {
		return len(data), data, nil
	}
	return 0, nil, nil
}

func (o options) holds(line []byte, word string) bool {
	for from := 0; ; {
		i := bytes.Index(line[from:], []byte(word))
		if i < 0 {
			return false
		}
		start, end := from+i, from+i+len(word)
		if !o.whole || (start == 0 || !inWord(line[start-1])) && (end == len(line) || !inWord(line[end])) {
			return true
		}
		from = start + 1
	}
}

// inWord reports whether c belongs to a word, as grep has it in the C locale.
func inWord(c byte) bool {
	return c == '_' || '0' <= c && c <= '9' || 'A' <= c && c <= 'Z' || 'a' <= c && c <= 'z'
}

// found is the number of words with a hit.
func (t totals) found() int {
	n := 0
	for i, h := range t.hits {
		if i == 0 || h.word != t.hits[i-1].word {
			n++
		}
	}
	return n
}

func write(path string, hits []hit) (err error) {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	w := bufio.NewWriter(f)
	for _, h := range hits {
		if _, err := fmt.Fprintf(w, "%s\t%s\t%d\n", h.word, plain(h.path), h.line); err != nil {
			return err
		}
	}
	return w.Flush()
}

// plain quotes a path that would break a line's columns.
func plain(path string) string {
	if strings.ContainsFunc(path, func(r rune) bool { return r < ' ' || r == 0x7f || r == '"' }) {
		return strconv.Quote(path)
	}
	return path
}
