package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/talka-grid/talka/workunits"
	"github.com/talka-grid/talka/workunits/apps"
)

// emptyProgram is a command that does nothing: a memory, and a _start that returns.
const emptyProgram = "\x00asm\x01\x00\x00\x00" + // header
	"\x01\x04\x01\x60\x00\x00" + // type () -> ()
	"\x03\x02\x01\x00" + // function 0 of that type
	"\x05\x03\x01\x00\x01" + // memory of one page
	"\x07\x13\x02\x06memory\x02\x00\x06_start\x00\x00" + // exports
	"\x0a\x04\x01\x02\x00\x0b" // code: end

// benchGrid is a publisher and volunteers as processes of their own.
type benchGrid struct {
	b     *testing.B
	demo  *demo
	nodes []*demoNode // the publisher first
	jobs  int         // submitted
}

func newBenchGrid(b *testing.B, volunteers, stewards int) *benchGrid {
	exe := os.Getenv("TALKA_TEST_BIN")
	if exe == "" {
		b.Skip("TALKA_TEST_BIN names no talka to start: use make bench")
	}
	dir, err := os.MkdirTemp("", "tb") //nolint:usetesting // the path of a socket must be short
	if err != nil {
		b.Fatal(err)
	}
	g := &benchGrid{b: b, demo: &demo{app: &app{out: os.Stderr, err: os.Stderr, env: os.Environ()}, exe: exe, dir: dir}}
	b.Cleanup(func() {
		for _, n := range g.nodes {
			if err := n.stop(); err != nil {
				b.Error(err)
			}
		}
		_ = os.RemoveAll(dir)
	})
	ctx := b.Context()
	pub := g.start("p", g.demo.up("up", "--seed")...)
	var invite struct{ Invite string }
	var project struct{ Project workunits.ProjectID }
	if err := errors.Join(g.demo.command(ctx, pub, &invite, "invite"), g.demo.command(ctx, pub, &project, "project", "new", "bench")); err != nil {
		b.Fatal(err)
	}
	for i := range volunteers {
		g.start("v"+strconv.Itoa(i), g.demo.up("up", "--join", invite.Invite, "--trust", project.Project.String(), fmt.Sprintf("--steward=%t", i < stewards))...)
	}
	if err := poll(ctx, func() (bool, error) {
		st, err := pub.client.Status(ctx)
		return st.Peers >= volunteers, err
	}); err != nil {
		b.Fatal(err)
	}
	return g
}

func (g *benchGrid) start(name string, args ...string) *demoNode {
	n := &demoNode{name: name, dir: filepath.Join(g.demo.dir, name), args: args}
	if err := n.start(g.b.Context(), g.demo.exe, g.demo.env()); err != nil {
		g.b.Fatal(err)
	}
	g.nodes = append(g.nodes, n)
	return n
}

// job submits a job of its own name, or it would be done, and waits for its end; it returns the time between and the
// copies executed.
func (g *benchGrid) job(program []byte, file string) (time.Duration, int) {
	g.b.Helper()
	g.jobs++
	work := filepath.Join(g.demo.dir, "job")
	if err := errors.Join(os.MkdirAll(work, 0o700), os.WriteFile(filepath.Join(work, "program.wasm"), program, 0o600),
		os.WriteFile(filepath.Join(work, "job.toml"), fmt.Appendf(nil, "name = \"bench-%d\"\n%s", g.jobs, file), 0o600)); err != nil {
		g.b.Fatal(err)
	}
	ctx := g.b.Context()
	var out struct{ Job workunits.JobID }
	if err := g.demo.command(ctx, g.nodes[0], &out, "job", "submit", filepath.Join(work, "job.toml"), "--project", "bench"); err != nil {
		g.b.Fatal(err)
	}
	begun := time.Now()
	info, err := g.nodes[0].client.WaitJob(ctx, out.Job)
	if err != nil || info.Units.Accepted != info.Units.Total {
		g.b.Fatalf("job came to %+v, %v", info, err)
	}
	return time.Since(begun), info.Copies
}

// processor is the processor time that the nodes used, and that the children
// which execute units did.
func (g *benchGrid) processor() (nodes, children time.Duration) {
	for _, n := range g.nodes {
		pid := strconv.Itoa(n.cmd.Process.Pid)
		nodes += processTime(pid)
		lists, _ := filepath.Glob("/proc/" + pid + "/task/*/children")
		for _, list := range lists {
			b, _ := os.ReadFile(list)
			for _, child := range strings.Fields(string(b)) {
				children += processTime(child)
			}
		}
	}
	return nodes, children
}

// processTime is what a process and its reaped children used so far.
func processTime(pid string) time.Duration {
	b, err := os.ReadFile("/proc/" + pid + "/stat")
	if err != nil {
		return 0
	}
	_, rest, _ := strings.Cut(string(b), ") ")
	f := strings.Fields(rest)
	var ticks int
	for _, i := range []int{11, 12, 13, 14} { // utime, stime, cutime, cstime
		n, _ := strconv.Atoi(f[i])
		ticks += n
	}
	return time.Duration(ticks) * 10 * time.Millisecond
}

const benchJob = `program = "program.wasm"
[units]
count = %d
args  = [%s]
[limits]
memory = "64MiB"
time   = "30s"
[verify]
error = 0.01
mode  = "%s"
`

// BenchmarkUnits measures a thousand units that do nothing, on one publisher and
// six volunteers as processes: what coordination and the sandbox cost.
func BenchmarkUnits(b *testing.B) {
	for _, mode := range []string{"none", "audit"} {
		b.Run(mode, func(b *testing.B) {
			g := newBenchGrid(b, 6, 3)
			for b.Loop() {
				d, copies := g.job([]byte(emptyProgram), fmt.Sprintf(benchJob, 1000, "", mode))
				b.ReportMetric(1000/d.Seconds(), "units/s")
				b.ReportMetric(float64(copies)/1000, "copies/unit")
			}
		})
	}
}

// BenchmarkUsefulShare measures how much of all processor time goes into the
// execution of units of about 100 ms. A first job has the program compiled and
// the children started. An isolated run beside it would mislead: processors that
// share a core are slower together.
func BenchmarkUsefulShare(b *testing.B) {
	const units, args = 200, `"--atoms", "13", "--seed", "{unit}", "--steps", "1650"`
	g := newBenchGrid(b, 6, 3)
	g.job(apps.LJ(), fmt.Sprintf(benchJob, 30, args, "none"))
	for b.Loop() {
		nodes, children := g.processor()
		g.job(apps.LJ(), fmt.Sprintf(benchJob, units, args, "none"))
		nodesAfter, childrenAfter := g.processor()
		own := childrenAfter - children
		b.ReportMetric(100*own.Seconds()/(own+nodesAfter-nodes).Seconds(), "%useful")
		b.ReportMetric(float64(own.Milliseconds())/units, "ms/unit")
	}
}
