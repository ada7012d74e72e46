package main

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestScan(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("x", 1<<20)
	tests := []struct {
		name, text string
		words      string
		whole      bool
		want       []hit
		err        error
	}{
		{"empty", "", "a", false, nil, nil},
		{"last line without end", "b\na", "a", false, []hit{{"a", "f", 2}}, nil},
		{"once a line", "a a\n", "a", false, []hit{{"a", "f", 1}}, nil},
		{"inside a word", "bab\n", "a", false, []hit{{"a", "f", 1}}, nil},
		{"whole", "bab a_ a1 \xc3a\xa9\n_a\na", "a", true, []hit{{"a", "f", 1}, {"a", "f", 3}}, nil},
		{"whole after a part", "foofoo foo\n", "foo", true, []hit{{"foo", "f", 1}}, nil},
		{"whole that overlaps itself", "x---\n", "--", true, []hit{{"--", "f", 1}}, nil},
		{"carriage return", "a\r\n", "a\r", false, []hit{{"a\r", "f", 1}}, nil},
		{"case", "A\n", "a", false, nil, nil},
		{"long line", long + "a\n", "a", false, []hit{{"a", "f", 1}}, nil},
		{"binary", "a\nb\x00\n", "a", false, nil, errBinary},
		{"not UTF-8", "\xffa\n", "a", false, []hit{{"a", "f", 1}}, nil},
	}
	for _, tt := range tests {
		o := options{words: strings.Split(tt.words, ","), whole: tt.whole}
		got, err := o.scan(strings.NewReader(tt.text), "f")
		if diff := cmp.Diff(tt.want, got, cmp.AllowUnexported(hit{})); diff != "" || !errors.Is(err, tt.err) {
			t.Errorf("%s: error %v, want %v (-want +got)\n%s", tt.name, err, tt.err, diff)
		}
	}
}

func TestParse(t *testing.T) {
	t.Parallel()
	o, err := parse(strings.Fields("--tree d --words b,a,b --unit 1 --units 2"))
	want := options{tree: "d", out: "/out", words: []string{"a", "b"}, unit: 1, units: 2}
	if diff := cmp.Diff(want, o, cmp.AllowUnexported(options{})); diff != "" || err != nil {
		t.Errorf("error %v (-want +got)\n%s", err, diff)
	}
	for args, want := range map[string]string{
		"--words a":                            "--tree is missing",
		"--tree d":                             "--words is missing",
		"--tree d --words a,,b":                "no word may be empty",
		"--tree d --words a --unit 2":          "--unit 2 of --units 1: want 0 to units-1",
		"--tree d --words a --unit -1":         "--unit -1 of --units 1",
		"--tree d --words a --units 0":         "--unit 0 of --units 0",
		"--tree d --words a b":                 `unexpected argument "b"`,
		"--tree d --words a" + manyWords(4096): "--words has 4097 words, at most 4096 are allowed",
	} {
		if _, err := parse(strings.Fields(args)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.60s: error %v, want %q", args, err, want)
		}
	}
}

func manyWords(n int) string {
	var b strings.Builder
	for i := range n {
		b.WriteString("," + strconv.Itoa(i))
	}
	return b.String()
}

// TestGrep compares the index of this repository's own folder of programs,
// which has text and binary files, with what grep prints.
func TestGrep(t *testing.T) {
	t.Parallel()
	if out, err := exec.Command("grep", "--version").Output(); err != nil || !strings.Contains(string(out), "GNU grep") {
		t.Skip("no GNU grep here to compare with")
	}
	tree, err := filepath.Abs("..")
	if err != nil {
		t.Fatal(err)
	}
	for flags, whole := range map[string]bool{"-rnIF": false, "-rnIFw": true} {
		o := options{tree: tree, words: []string{"for", "int", "static", "zebra crossing"}, whole: whole, units: 3}
		var got []string
		for ; o.unit < o.units; o.unit++ {
			part, err := search(o)
			if err != nil {
				t.Fatal(err)
			}
			for _, h := range part.hits {
				got = append(got, h.word+" "+h.path+":"+strconv.Itoa(h.line))
			}
		}
		var want []string
		for _, w := range o.words {
			cmd := exec.Command("grep", flags, "-e", w)
			cmd.Dir, cmd.Env = tree, append(os.Environ(), "LC_ALL=C")
			out, _ := cmd.Output() // exit code 1 where nothing matches
			for line := range strings.Lines(string(out)) {
				parts := strings.SplitN(line, ":", 3)
				want = append(want, w+" "+parts[0]+":"+parts[1])
			}
		}
		slices.Sort(got)
		slices.Sort(want)
		if diff := cmp.Diff(want, got); diff != "" || len(want) < 20 {
			t.Errorf("grep %s (-grep +search)\n%s", flags, diff)
		}
	}
}
