//go:build e2e

package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/talka-grid/talka/grid"
)

// stageTime bounds the test.
const stageTime = 2 * time.Minute

// The pieces of a file are the standard inputs of the units, and a second stage
// adds up what they found: one publisher, four volunteers, real programs.
func TestStandardInputAndSecondStage(t *testing.T) {
	g := newTestGrid(t, stageTime)
	wasm := g.write("tally.wasm", "") // and its folder
	build := exec.CommandContext(g.ctx, "go", "build", "-o", wasm, "./testdata/tally")
	build.Env = append(os.Environ(), "GOOS=wasip1", "GOARCH=wasm", "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build the program: %v\n%s", err, out)
	}
	const units, lines = 7, 95 // 14 lines a unit, the last one has 11
	var text strings.Builder
	words := 0
	for i := range lines {
		text.WriteString(strings.Repeat("word ", i%5) + "end\n")
		words += i%5 + 1
	}
	g.write("text", text.String())
	file := g.write("tally.toml", `name = "tally"
program = "tally.wasm"
[units]
split = "text"
by = "lines"
size = 14
args = ["count"]
stdin = "text"
[limits]
time = "30s"
[reduce]
program = "tally.wasm"
args = ["add"]
`)

	p := g.up("p", "--seed")
	project := g.project(p, "words")
	flags := []string{"--join", g.invite(p), "--trust", project}
	nodes := []*demoNode{p}
	for _, name := range []string{"a", "b", "c", "d"} {
		nodes = append(nodes, g.up(name, flags...))
	}
	g.meet(nodes...)
	id := g.submit(p, "words", file)
	g.until("the job is done", func() bool { return g.job(p, id).State != grid.JobRunning })
	info := g.job(p, id)
	if info.State != grid.JobDone || info.Reduce != grid.StageAccepted || info.Units != (grid.UnitCounts{Total: units, Accepted: units}) {
		t.Fatalf("the job came to %+v", info)
	}

	want := fmt.Sprintf("%d units, %d words, traces of %d bytes\n", units, words, 4000*units+words)
	cat := g.talka(p, "job", "fetch", id.String(), "--cat")
	if cat.code != exitOK || cat.stdout != want {
		t.Errorf("--cat gives %q with code %d, want %q: %s", cat.stdout, cat.code, want, cat.stderr)
	}
	dir := filepath.Join(g.dir, "results")
	var sum fetched
	g.ok(p, &sum, "job", "fetch", id.String(), "-o", dir)
	if sum.Units != units || sum.Results != units || sum.Missing != 0 || sum.Reduce != grid.StageAccepted {
		t.Errorf("fetched %+v", sum)
	}
	for name, text := range map[string]string{
		"reduce/stdout": want,
		"reduce/units":  "[/units/000000 /units/000001 /units/000002 /units/000003 /units/000004 /units/000005 /units/000006]\n",
		"6/stdout":      "35\n", // lines 84 to 94
	} {
		if b, err := os.ReadFile(filepath.Join(dir, name)); err != nil || string(b) != text {
			t.Errorf("%s holds %q, %v; want %q", name, b, err, text)
		}
	}
}
