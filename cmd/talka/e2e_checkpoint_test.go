//go:build e2e

package main

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/talka-grid/talka/grid"
)

// checkpointTime bounds the test.
const checkpointTime = 4 * time.Minute

// A program that saves its steps goes on behind the last one when its node is
// killed and comes back, comes to what it comes to undisturbed, and leaves nothing
// on the disk.
func TestCheckpointSurvivesAKill(t *testing.T) {
	g := newTestGrid(t, checkpointTime)
	tool, err := buildTool()
	if err != nil {
		t.Fatal(err)
	}
	g.write("tool.wasm", string(tool))
	p := g.up("p", "--seed")
	g.ok(p, &grid.Status{}, "pause") // its units are for n
	project := g.project(p, "steps")
	n := g.up("n", "--join", g.invite(p), "--trust", project, "--steward=false")
	g.meet(p, n)
	file := g.write("count.toml", fmt.Sprintf(`name = "count"
program = "tool.wasm"
[units]
count = 1
args = ["count", "300"]
[limits]
time = "10m"
checkpoint = "1KiB"
[verify]
mode = "none"
trusted = [%q]
`, g.status(n).PeerID))
	undisturbed := runTalka(g.ctx, t, g.exe, "--dir", filepath.Join(g.dir, "undisturbed"), "job", "try", file, "--cat")
	if undisturbed.code != exitOK || undisturbed.stdout == "" {
		t.Fatalf("undisturbed: %+v", undisturbed)
	}
	id := g.submit(p, "steps", file)
	saved := func() (starts, done int) {
		paths, err := filepath.Glob(filepath.Join(n.dir, workDir, "checkpoints", id.String(), "0-*", "state"))
		if err != nil {
			t.Fatal(err)
		}
		for _, path := range paths {
			if b, err := os.ReadFile(path); err == nil {
				if _, err := fmt.Sscan(string(b), &starts, &done); err != nil {
					t.Errorf("%q: %v", b, err)
				}
			}
		}
		return starts, done
	}
	g.until("some steps are saved", func() bool { _, done := saved(); return done >= 5 })
	n.kill()
	starts, before := saved()
	if starts != 1 || before >= 300 {
		t.Fatalf("%d starts, %d steps: too late to kill anybody", starts, before)
	}
	g.start(n)
	g.until("the program was started again and went on", func() bool {
		starts, done := saved()
		if starts > 0 && done < before {
			t.Errorf("%d steps after %d starts, there were %d", done, starts, before)
		}
		return starts == 2 || g.job(p, id).State == grid.JobDone
	})
	g.until("the job is done", func() bool { return g.job(p, id).State == grid.JobDone })
	if got := g.talka(p, "job", "fetch", id.String(), "--cat").stdout; got != undisturbed.stdout {
		t.Errorf("it came to %q, undisturbed to %q", got, undisturbed.stdout)
	}
	g.until("nothing is left", func() bool {
		left, err := filepath.Glob(filepath.Join(n.dir, workDir, "checkpoints", "*"))
		return err == nil && len(left) == 0
	})
}
