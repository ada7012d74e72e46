//go:build e2e || netlab

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/talka-grid/talka/grid"
	"github.com/talka-grid/talka/workunits"
	"github.com/talka-grid/talka/workunits/apps"
)

// The tests with the tag e2e start real nodes: processes of the program that
// TALKA_TEST_BIN names, on loopback, each with a directory of its own. They run
// one after the other, since each wants all processors.

// testGrid is the nodes of one test, which form a network of their own.
type testGrid struct {
	*testing.T
	ctx     context.Context
	exe     string
	network string
	dir     string
	nodes   []*demoNode
}

// newTestGrid makes a grid without nodes that lives at most so long.
func newTestGrid(t *testing.T, limit time.Duration) *testGrid {
	t.Helper()
	g := &testGrid{T: t, exe: testBinary(t), dir: t.TempDir()}
	// No two tests share a network, not even those of two runs at a time.
	g.network = "e2e-" + strconv.FormatInt(time.Now().UnixNano(), 36)
	ctx, cancel := context.WithTimeoutCause(t.Context(), limit, errors.New("the test took too long"))
	t.Cleanup(cancel)
	g.ctx = ctx
	t.Cleanup(g.stopAll)
	return g
}

// testBinary is the program under test.
func testBinary(t *testing.T) string {
	t.Helper()
	exe := os.Getenv("TALKA_TEST_BIN")
	if exe == "" {
		t.Fatal("TALKA_TEST_BIN names no program: run make test-e2e")
	}
	return exe
}

// testEnv is the environment without settings that are meant for another node.
func testEnv(more ...string) []string {
	return append((&demo{app: &app{env: os.Environ()}}).env(), more...)
}

func (g *testGrid) stopAll() {
	if g.Failed() {
		g.tell()
	}
	for _, n := range g.nodes {
		if err := n.stop(); err != nil {
			g.Errorf("%s: %v", n.name, err)
		}
		if g.Failed() {
			g.Logf("log of %s:\n%s", n.name, tail(filepath.Join(n.dir, "log")))
		}
	}
}

// tell logs what each node that still answers says of its work and its jobs.
func (g *testGrid) tell() {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(g.ctx), 20*time.Second)
	defer cancel()
	for _, n := range g.nodes {
		if n.client == nil {
			continue
		}
		why, err := n.client.Why(ctx)
		if err != nil {
			g.Logf("%s answers no more: %v", n.name, err)
			continue
		}
		g.Logf("%s, %s: %s, %s", n.name, n.status.PeerID, why.State, why.Reason)
		jobs, err := n.client.Jobs(ctx)
		for _, j := range jobs {
			w, err := n.client.JobWhy(ctx, j.Job)
			g.Logf("\t%+v\n\t%+v, %v", j, w, err)
		}
		if err != nil {
			g.Logf("\tits jobs: %v", err)
		}
	}
}

// node describes a node that is not started yet.
func (g *testGrid) node(name string, flags ...string) *demoNode {
	n := &demoNode{name: name, dir: filepath.Join(g.dir, name)}
	n.args = append([]string{
		"up", "--network", g.network, "--preset", "all-out", "--processors", "1",
		"--listen", "/ip4/127.0.0.1/udp/0/quic-v1", "--listen", "/ip4/127.0.0.1/tcp/0",
	}, flags...)
	g.nodes = append(g.nodes, n)
	return n
}

// start starts a node with these variables.
func (g *testGrid) start(n *demoNode, env ...string) {
	g.Helper()
	if err := n.start(g.ctx, g.exe, testEnv(env...)); err != nil {
		g.Fatal(err)
	}
}

// up starts a new node.
func (g *testGrid) up(name string, flags ...string) *demoNode {
	g.Helper()
	n := g.node(name, flags...)
	g.start(n)
	return n
}

// output is what a command came to.
type output struct {
	code           int
	stdout, stderr string
}

// talka runs a command on the node's directory, with --json.
func (g *testGrid) talka(n *demoNode, args ...string) output {
	g.Helper()
	return runTalka(g.ctx, g.T, g.exe, append([]string{"--dir", n.dir, "--json"}, args...)...)
}

func runTalka(ctx context.Context, t *testing.T, exe string, args ...string) output {
	t.Helper()
	var stdout, stderr bytes.Buffer
	cmd := exec.CommandContext(ctx, exe, args...)
	cmd.Stdout, cmd.Stderr, cmd.Env = &stdout, &stderr, testEnv()
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) || ctx.Err() != nil {
		t.Fatalf("talka %s: %v, %v", strings.Join(args, " "), err, context.Cause(ctx))
	}
	return output{cmd.ProcessState.ExitCode(), stdout.String(), stderr.String()}
}

// ok runs a command that must succeed and reads what it printed.
func (g *testGrid) ok(n *demoNode, out any, args ...string) {
	g.Helper()
	got := g.talka(n, args...)
	if got.code != exitOK {
		g.Fatalf("talka %s on %s: exit code %d: %s", strings.Join(args, " "), n.name, got.code, got.stderr)
	}
	if err := json.Unmarshal([]byte(got.stdout), out); err != nil {
		g.Fatalf("talka %s printed %q: %v", strings.Join(args, " "), got.stdout, err)
	}
}

// fails runs a command that must end with the exit code and an error that holds
// all the words.
func (g *testGrid) fails(n *demoNode, code int, words []string, args ...string) {
	g.Helper()
	got := g.talka(n, args...)
	var said struct {
		Error string
		Code  int
	}
	if err := json.Unmarshal([]byte(got.stderr), &said); err != nil {
		g.Errorf("talka %s: the error is no JSON: %q", strings.Join(args, " "), got.stderr)
	}
	if got.code != code || said.Code != code {
		g.Errorf("talka %s: exit code %d, in JSON %d, want %d: %s", strings.Join(args, " "), got.code, said.Code, code, said.Error)
	}
	for _, w := range words {
		if !strings.Contains(said.Error, w) {
			g.Errorf("talka %s: the error %q does not say %q", strings.Join(args, " "), said.Error, w)
		}
	}
}

// until polls until f holds.
func (g *testGrid) until(what string, f func() bool) {
	g.Helper()
	if err := poll(g.ctx, func() (bool, error) { return f(), nil }); err != nil {
		g.Fatalf("waiting until %s: %v", what, err)
	}
}

func (g *testGrid) status(n *demoNode) grid.Status {
	g.Helper()
	st, err := n.client.Status(g.ctx)
	if err != nil {
		g.Fatalf("status of %s: %v", n.name, err)
	}
	return st
}

// job is what a node knows of a job.
func (g *testGrid) job(n *demoNode, id workunits.JobID) grid.JobInfo {
	g.Helper()
	info, err := n.client.Job(g.ctx, id)
	if err != nil {
		g.Fatalf("job on %s: %v", n.name, err)
	}
	return info
}

// meet waits until each of the nodes is connected to all the others.
func (g *testGrid) meet(nodes ...*demoNode) {
	g.Helper()
	for _, n := range nodes {
		g.until(n.name+" knows its peers", func() bool {
			peers, err := n.client.Peers(g.ctx)
			if err != nil {
				g.Fatalf("peers of %s: %v", n.name, err)
			}
			known := map[workunits.NodeID]bool{n.status.PeerID: true}
			for _, p := range peers {
				known[p.PeerID] = true
			}
			for _, other := range nodes {
				if !known[other.status.PeerID] {
					return false
				}
			}
			return true
		})
	}
}

func (g *testGrid) invite(n *demoNode) string {
	g.Helper()
	var out struct{ Invite string }
	g.ok(n, &out, "invite")
	return out.Invite
}

func (g *testGrid) project(n *demoNode, name string) string {
	g.Helper()
	var out struct{ Project string }
	g.ok(n, &out, "project", "new", name)
	return out.Project
}

// submit publishes a job file of the project.
func (g *testGrid) submit(n *demoNode, project, file string) workunits.JobID {
	g.Helper()
	var out struct{ Job workunits.JobID }
	g.ok(n, &out, "job", "submit", file, "--project", project)
	return out.Job
}

// ljJob writes a job file: clusters of some atoms, from as many starts. Mode is
// the verification's.
func (g *testGrid) ljJob(units, atoms int, mode string) string {
	g.Helper()
	g.write("lj.wasm", string(apps.LJ()))
	return g.write(fmt.Sprintf("lj-%d-%d-%s.toml", units, atoms, mode), fmt.Sprintf(`name    = "lj-%d"
program = "lj.wasm"

[units]
count = %d
args  = ["--atoms", "%d", "--seed", "{unit}", "--out", "/out"]

[limits]
memory = "64MiB"
time   = "20s"
output = "1MiB"

[verify]
mode  = %q
error = 0.01
`, atoms, units, atoms, mode))
}

// write writes a file of the test and returns its path.
func (g *testGrid) write(name, text string) string {
	g.Helper()
	path := filepath.Join(g.dir, "files", name)
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		g.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		g.Fatal(err)
	}
	return path
}
