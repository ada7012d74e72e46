package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/talka-grid/talka/workunits/apps"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"talka": main, spoiled: spoiledMain, sourceCommand: sourceMain})
}

// The scripts run the real command in processes of its own, as users do.
func TestScripts(t *testing.T) {
	t.Parallel()
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/script",
		RequireExplicitExec: true,
		UpdateScripts:       os.Getenv("TALKA_TEST_UPDATE") != "",
		Setup: func(e *testscript.Env) error {
			python, err := filepath.Abs(pythonPath)
			if err != nil {
				return err
			}
			e.Setenv("PYTHON", python)
			e.Setenv("TALKA_DIR", e.WorkDir+"/node")
			e.Values[nodesKey{}] = map[string]*running{}
			return programs(e.WorkDir)
		},
		Condition: func(name string) (bool, error) {
			_, err := os.Stat(pythonPath)
			return name == "python" && err == nil, nil
		},
		Cmds: map[string]func(ts *testscript.TestScript, neg bool, args []string){
			"code": code, "start": start, "end": end, "field": field, "until": until, "fails": fails,
		},
	})
}

// programs puts those of the scripts into a folder: the demo's, testdata/tool, one
// that traps at once, and one that imports what nobody has.
func programs(dir string) error {
	tool, err := buildTool()
	if err != nil {
		return err
	}
	const module = "\x00asm\x01\x00\x00\x00" + "\x01\x04\x01\x60\x00\x00" // and the type of _start
	const start = "\x07\x0a\x01\x06_start\x00"                            // its export, but for the index
	for name, code := range map[string][]byte{
		"lj.wasm": apps.LJ(), "tool.wasm": tool,
		"trap.wasm":    []byte(module + "\x03\x02\x01\x00" + start + "\x00" + "\x0a\x05\x01\x03\x00\x00\x0b"),
		"imports.wasm": []byte(module + "\x02\x09\x01\x03env\x01f\x00\x00" + "\x03\x02\x01\x00" + start + "\x01" + "\x0a\x04\x01\x02\x00\x0b"),
	} {
		if err := os.WriteFile(filepath.Join(dir, name), code, 0o600); err != nil {
			return err
		}
	}
	return nil
}

// buildTool compiles testdata/tool once.
var buildTool = sync.OnceValues(func() ([]byte, error) {
	dir, err := os.MkdirTemp("", "tool-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	name := filepath.Join(dir, "tool.wasm")
	build := exec.CommandContext(context.Background(), "go", "build", "-trimpath", "-buildvcs=false", "-o", name, "./testdata/tool")
	build.Env = append(os.Environ(), "GOOS=wasip1", "GOARCH=wasm", "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("build the tool: %w\n%s", err, out)
	}
	return os.ReadFile(name)
})

// code runs a command that must end with the given exit code: code 2 talka x.
func code(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: code EXITCODE COMMAND [ARG]...")
	}
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	if got := exitCodeOf(ts, ts.Exec(args[1], args[2:]...)); got != want {
		ts.Fatalf("exit code %d, want %d", got, want)
	}
}

func exitCodeOf(ts *testscript.TestScript, err error) int {
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return exit.ExitCode()
	}
	ts.Check(err)
	return 0
}

// until runs a command, which must end well, until its output matches a pattern, or
// with ! does not any longer: ! until PATTERN COMMAND [ARG]...
func until(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) < 2 {
		ts.Fatalf("usage: [!] until PATTERN COMMAND [ARG]...")
	}
	pattern, err := regexp.Compile(args[0])
	ts.Check(err)
	again(ts, "the output did not change", func() bool {
		ts.Check(ts.Exec(args[1], args[2:]...))
		return pattern.MatchString(ts.ReadFile("stdout")) != neg
	})
}

// again looks again and again, for a minute.
func again(ts *testscript.TestScript, failed string, look func() bool) {
	for begun := time.Now(); time.Since(begun) < time.Minute; {
		if look() {
			return
		}
	}
	ts.Fatalf("%s in a minute", failed)
}

// fails runs a command until it ends badly: fails COMMAND [ARG]...
func fails(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) == 0 {
		ts.Fatalf("usage: fails COMMAND [ARG]...")
	}
	again(ts, "the command did not fail", func() bool { return exitCodeOf(ts, ts.Exec(args[0], args[1:]...)) != 0 })
}

// running is a node that start has started.
type running struct {
	cmd *exec.Cmd
	log string
}

// start runs a node on the directory of its name until end or the script's end,
// and waits until it says that it is up: start NAME [FLAG]...
func start(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 1 {
		ts.Fatalf("usage: start NAME [FLAG]...")
	}
	exe, err := exec.LookPath(filepath.Join(filepath.SplitList(ts.Getenv("PATH"))[0], "talka"))
	ts.Check(err)
	dir := ts.MkAbs(args[0])
	log, err := os.CreateTemp(filepath.Dir(dir), args[0]+"-log-")
	ts.Check(err)
	cmd := exec.Command(exe, append([]string{"--dir", dir, "--json", "up", "--network", "test", "--preset", "all-out",
		"--listen", "/ip4/127.0.0.1/udp/0/quic-v1", "--listen", "/ip4/127.0.0.1/tcp/0"}, args[1:]...)...)
	cmd.Stderr = log
	out, err := cmd.StdoutPipe()
	ts.Check(err)
	ts.Check(cmd.Start())
	r := &running{cmd, log.Name()}
	ts.Defer(func() {
		_ = cmd.Process.Kill() // gone already after end
		_ = log.Close()
	})
	var banner struct {
		PID int `json:"pid"`
	}
	line, err := bufio.NewReader(out).ReadBytes('\n')
	if err == nil {
		err = json.Unmarshal(line, &banner)
	}
	if err != nil || banner.PID != cmd.Process.Pid {
		said, _ := os.ReadFile(r.log) // what there is
		ts.Fatalf("node %s: %v, banner %q, log:\n%s", args[0], err, line, said)
	}
	ts.Setenv("PID_"+args[0], strconv.Itoa(banner.PID))
	nodes(ts)[args[0]] = r
}

// end interrupts a node, which must end well: end NAME. (testscript's own stop ends
// the script.)
func end(ts *testscript.TestScript, neg bool, args []string) {
	r := nodes(ts)[args[0]]
	ts.Check(r.cmd.Process.Signal(os.Interrupt))
	if got := exitCodeOf(ts, r.cmd.Wait()); got != 0 {
		said, _ := os.ReadFile(r.log) // what there is
		ts.Fatalf("node %s ended with exit code %d, log:\n%s", args[0], got, said)
	}
}

type nodesKey struct{}

// nodes are the script's nodes by name.
func nodes(ts *testscript.TestScript) map[string]*running {
	return ts.Value(nodesKey{}).(map[string]*running)
}

// field puts a field of the last command's JSON into a variable: field VAR NAME.
func field(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: field VAR NAME")
	}
	var v map[string]any
	ts.Check(json.Unmarshal([]byte(ts.ReadFile("stdout")), &v))
	if v[args[1]] == nil {
		ts.Fatalf("no field %q", args[1])
	}
	ts.Setenv(args[0], fmt.Sprint(v[args[1]]))
}
