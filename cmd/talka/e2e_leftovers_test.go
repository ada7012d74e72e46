//go:build e2e && linux

package main

import (
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// leftoversTime bounds the test.
const leftoversTime = 2 * time.Minute

// TestNothingIsLeftOfAKill kills a node, and then a command, in the middle of a unit
// that has written files: its children end by themselves, and after the next start
// nothing of the run is on the disk.
func TestNothingIsLeftOfAKill(t *testing.T) {
	g := newTestGrid(t, leftoversTime)
	tool, err := buildTool()
	if err != nil {
		t.Fatal(err)
	}
	g.write("tool.wasm", string(tool))
	job := func(verb string) string {
		return g.write(verb+".toml", fmt.Sprintf(`name = %q
program = "tool.wasm"
[units]
count = 1
args = [%q]
[limits]
time = "10m"
[verify]
mode = "none"
`, verb, verb))
	}
	hold, quick := job("hold"), job("fill")

	n := g.up("n", "--seed")
	g.project(n, "held")
	id := g.submit(n, "held", hold)
	g.until("the unit has written its files", func() bool { return len(g.glob(n, "runs/*/run/out/x")) > 0 })
	pid := n.cmd.Process.Pid
	alive := g.childrenOf(pid)
	before := g.files(n)
	n.kill()
	g.ended(alive)
	g.start(n)
	for path, old := range before {
		// The unit may have been begun again, in a folder of the same name.
		if now, err := os.Stat(path); err == nil && os.SameFile(old, now) && old.ModTime().Equal(now.ModTime()) {
			t.Errorf("%s stays behind", path)
		}
	}
	g.ok(n, &struct{}{}, "job", "cancel", id.String())
	if err := n.stop(); err != nil {
		t.Fatal(err)
	}

	try := exec.CommandContext(g.ctx, g.exe, "--dir", n.dir, "job", "try", hold)
	try.Env = testEnv()
	if err := try.Start(); err != nil {
		t.Fatal(err)
	}
	g.until("the unit that is tried has written its files", func() bool { return len(g.glob(n, "submit-*/run-1/out/x")) > 0 })
	alive = g.childrenOf(try.Process.Pid)
	if err := try.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = try.Wait() // killed is what it was meant to be
	g.ended(alive)
	if out := g.talka(n, "job", "try", quick); out.code != exitOK {
		t.Errorf("%+v", out)
	}
	if left := g.glob(n, "submit-*"); len(left) > 0 {
		t.Errorf("%q stay behind", left)
	}
}

// glob lists what is below a node's working directory.
func (g *testGrid) glob(n *demoNode, pattern string) []string {
	g.Helper()
	list, err := filepath.Glob(filepath.Join(n.dir, workDir, pattern))
	if err != nil {
		g.Fatal(err)
	}
	return list
}

// files are those of a node's runs, and what compiles in its cache.
func (g *testGrid) files(n *demoNode) map[string]fs.FileInfo {
	g.Helper()
	found := map[string]fs.FileInfo{}
	for _, top := range append(g.glob(n, "runs"), g.glob(n, "../"+cacheDir+"/new-*")...) {
		err := filepath.WalkDir(top, func(path string, d fs.DirEntry, err error) error {
			if err == nil && !d.IsDir() {
				found[path], err = d.Info()
			}
			return err
		})
		if err != nil {
			g.Fatal(err)
		}
	}
	if len(found) < 4 { // standard output, the log, and a file in /out and in /scratch
		g.Errorf("only %d files of the run", len(found))
	}
	return found
}

// childrenOf are the children of a process that executes a unit.
func (g *testGrid) childrenOf(pid int) (list []int) {
	g.Helper()
	children(g.T, pid, func(child int, _ []string) { list = append(list, child) })
	if len(list) == 0 {
		g.Error("it has no children")
	}
	return list
}

// ended waits until processes have ended.
func (g *testGrid) ended(list []int) {
	g.Helper()
	for _, pid := range list {
		g.until("child "+strconv.Itoa(pid)+" has ended", func() bool {
			state, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
			return err != nil || strings.Contains(string(state), "State:\tZ") // nobody has asked for it yet
		})
	}
}
