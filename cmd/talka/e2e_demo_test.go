//go:build e2e

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// demoLimit bounds a whole demo: a minute on two idle processors.
const demoLimit = demoTime + 30*time.Second

// runDemo runs a demo of so many units in a temporary directory of its own, reads
// its one line and checks what holds for each demo.
func runDemo(t *testing.T, units int, out any, args ...string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), demoLimit)
	defer cancel()
	tmp := t.TempDir()
	var stdout, stderr bytes.Buffer
	cmd := exec.CommandContext(ctx, testBinary(t), append([]string{"demo", "--json"}, args...)...)
	cmd.Stdout, cmd.Stderr, cmd.Env = &stdout, &stderr, testEnv("TMPDIR="+tmp)
	if err := cmd.Run(); err != nil {
		t.Fatalf("talka demo: %v: %s%s", err, stderr.Bytes(), stdout.Bytes())
	}
	t.Logf("%s", stdout.Bytes())
	if n := bytes.Count(stdout.Bytes(), []byte("\n")); n != 1 {
		t.Errorf("the demo printed %d lines, want 1", n)
	}
	var all struct {
		Units, Accepted, Copies, Lies, Restarts int
		LiesAccepted                            *int `json:"lies_accepted"`
		Seconds                                 float64
	}
	if err := errors.Join(json.Unmarshal(stdout.Bytes(), &all), json.Unmarshal(stdout.Bytes(), out)); err != nil {
		t.Fatal(err)
	}
	switch {
	case all.Units != units || all.Accepted != units:
		t.Errorf("%d units of %d are accepted, want %d of %d", all.Accepted, all.Units, units, units)
	case all.Copies < 2*all.Units:
		t.Errorf("%d copies of %d units, want two of each at least", all.Copies, all.Units)
	case all.LiesAccepted == nil || *all.LiesAccepted != 0:
		t.Errorf("lies_accepted is missing or not 0")
	case all.Restarts != 2:
		t.Errorf("%d restarts, want 2", all.Restarts)
	case all.Seconds <= 0:
		t.Errorf("it took %g seconds", all.Seconds)
	}
	if left, err := os.ReadDir(tmp); err != nil || len(left) > 0 {
		t.Errorf("the demo left behind %v, %v", left, err)
	}
}

func TestDemo(t *testing.T) {
	var out struct {
		Lies            int
		Best, Published float64
	}
	runDemo(t, 60, &out)
	if out.Lies == 0 {
		t.Error("the liar told no lie: the demo shows nothing")
	}
	if out.Published != -44.326801 || math.Abs(out.Best-out.Published) > 1e-5 {
		t.Errorf("best %f, published %f: want 1e-5 between them at most", out.Best, out.Published)
	}
}

func TestDemoSearch(t *testing.T) {
	tree := filepath.Join(t.TempDir(), "tree")
	want := plantWords(t, tree)
	var out struct {
		Words map[string]int
		Data  string
	}
	runDemo(t, 30, &out, "--units", "30", "--app", "search", "--data", tree)
	if diff := cmp.Diff(want, out.Words); diff != "" {
		t.Errorf("lines with each word (-planted +found):\n%s", diff)
	}
	if out.Data != tree {
		t.Errorf("it searched %s", out.Data)
	}
	for word, n := range grep(t, tree) {
		if out.Words[word] != n {
			t.Errorf("%s: found on %d lines, grep finds %d", word, out.Words[word], n)
		}
	}
}

// plantWords makes a tree of text files and tells on how many lines each of the
// demo's words stands.
func plantWords(t *testing.T, tree string) map[string]int {
	t.Helper()
	const seed = 7
	r := rand.New(rand.NewPCG(seed, seed))
	words := strings.Split(demoWords, ",")
	lines := map[string]int{}
	write := func(path, text string) {
		path = filepath.Join(tree, filepath.FromSlash(path))
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(text), 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	for i := range 150 {
		var text strings.Builder
		for range r.IntN(200) {
			switch w := words[r.IntN(len(words))]; r.IntN(12) {
			case 0:
				fmt.Fprintf(&text, "of %ss and pre%sfix\n", w, w) // once a line, within words too
				lines[w]++
			case 1:
				fmt.Fprintf(&text, "%s, then %s\n", strings.ToUpper(w), w[1:]) // no match
			default:
				text.WriteString("nothing to see\n")
			}
		}
		write(fmt.Sprintf("%c/%d/file %d.txt", 'a'+rune(i%5), i%7, i), text.String())
	}
	write("binary", "a checksum\x00and a deadlock\n") // binary files hold nothing
	write("last", "a checksum without a line end")
	lines["checksum"]++
	write("empty", "")
	return lines
}

// grep counts the lines in the tree that hold each of the demo's words, where
// there is a grep.
func grep(t *testing.T, tree string) map[string]int {
	t.Helper()
	path, err := exec.LookPath("grep")
	if err != nil {
		t.Logf("not compared with grep: %v", err)
		return nil
	}
	lines := map[string]int{}
	for _, w := range strings.Split(demoWords, ",") {
		cmd := exec.CommandContext(t.Context(), path, "-rnIF", "-e", w, ".")
		cmd.Dir, cmd.Env = tree, []string{"LC_ALL=C"}
		out, err := cmd.Output()
		if err != nil {
			t.Fatalf("grep %s: %v", w, err)
		}
		lines[w] = bytes.Count(out, []byte("\n"))
	}
	return lines
}
