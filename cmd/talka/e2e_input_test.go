//go:build e2e

package main

import (
	"bytes"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/talka-grid/talka/grid"
	"github.com/talka-grid/talka/workunits"
)

// inputTestTime bounds each of these tests; they take seconds.
const inputTestTime = 2 * time.Minute

// nowhere is the CID of content that nobody has.
const nowhere = "bafkr4iaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"

// importing is a module that imports one function from a module that is not there.
const importing = "\x00asm\x01\x00\x00\x00" + // header
	"\x01\x04\x01\x60\x00\x00" + // type () -> ()
	"\x02\x10\x01\x03env\x08teleport\x00\x00" // import env.teleport of that type

func TestBadJobFilesAreRefused(t *testing.T) {
	g := newTestGrid(t, inputTestTime)
	n := g.up("n", "--seed")
	project := g.project(n, "atoms")
	good := g.ljJob(2, 13, "none")
	id := g.submit(n, "atoms", good)
	g.write("text.wasm", "this is no program\n")
	g.write("import.wasm", importing)
	const head = "name = \"x\"\nprogram = \"lj.wasm\"\n"
	for name, c := range map[string]struct {
		text  string
		words []string
	}{
		"unknown":    {head + "colour = \"red\"\n[units]\ncount = 1\n", []string{"unknown.toml:3:1: colour"}},
		"noprogram":  {"name = \"x\"\n[units]\ncount = 1\n", []string{"noprogram.toml:1:1: program"}},
		"lost":       {"name = \"x\"\nprogram = \"lost.wasm\"\n[units]\ncount = 1\n", []string{"lost.toml:2:1: program", "lost.wasm: no such file"}},
		"zero":       {head + "[units]\ncount = 0\n", []string{"zero.toml:4:1: units.count", "0"}},
		"manifold":   {head + "[units]\ncount = 99999999999\n", []string{"manifold.toml:4:1: units.count"}},
		"nounits":    {head, []string{"nounits.toml:1:1: units"}},
		"input":      {head + "[units]\ncount = 1\n[inputs]\n\"in\" = \"lost.txt\"\n", []string{"input.toml:6:1: inputs.in", "lost.txt: no such file"}},
		"table":      {head + "[units]\ntable = \"text.wasm\"\n", []string{"table.toml:4:1: units.table", "at least one row"}},
		"text":       {strings.ReplaceAll(head, "lj", "text") + "[units]\ncount = 1\n", []string{"text.toml:2:1: program", "not WebAssembly"}},
		"import":     {strings.ReplaceAll(head, "lj", "import") + "[units]\ncount = 1\n", []string{"import.toml:2:1: program", "env", "teleport"}},
		"nottoml":    {"name = \n", []string{"nottoml.toml:1:", "not TOML"}},
		"two-things": {"nome = \"x\"\nprogram = 7\n[units]\ncount = 1\n", []string{"two-things.toml:1:1: nome", "two-things.toml:2:1: program"}},
	} {
		g.fails(n, exitUsage, c.words, "job", "submit", g.write(name+".toml", c.text))
	}
	g.fails(n, exitUsage, []string{"nothing.toml"}, "job", "submit", filepath.Join(g.dir, "nothing.toml"))
	g.fails(n, exitUsage, []string{"no project", "lost"}, "job", "submit", good, "--project", "lost")

	// Nothing was lost, nothing was added.
	g.until("the good job is done", func() bool { return g.job(n, id).State == grid.JobDone })
	var jobs []grid.JobInfo
	if g.ok(n, &jobs, "job", "ls"); len(jobs) != 1 || jobs[0].Job != id {
		t.Errorf("jobs are %+v, want %s alone", jobs, id)
	}
	if !strings.HasPrefix(project, "atoms@") {
		t.Errorf("project is %q", project)
	}
}

// What nobody has is an error when the time is up, not before and not much later.
func TestContentThatNobodyHas(t *testing.T) {
	g := newTestGrid(t, inputTestTime)
	a := g.up("a", "--seed")
	b := g.up("b", "--join", g.invite(a))
	g.meet(a, b)
	g.project(a, "atoms")
	byInput := g.write("input.toml", "name = \"x\"\nprogram = \""+g.addLJ(a)+"\"\n[units]\ncount = 1\n[inputs]\nin = \""+nowhere+"\"\n")
	byProgram := g.write("program.toml", "name = \"x\"\nprogram = \""+nowhere+"\"\n[units]\ncount = 1\n")
	const wait = 2 * time.Second
	dest := filepath.Join(g.dir, "dest")
	for _, args := range [][]string{
		{"data", "get", nowhere, "-o", dest, "--timeout", wait.String()},
		{"job", "submit", byInput, "--timeout", wait.String()},
		{"job", "submit", byProgram, "--timeout", wait.String()},
	} {
		begun := time.Now()
		got := g.talka(a, args...)
		took := time.Since(begun)
		if got.code != exitTimeout && got.code != exitNotFound || !strings.Contains(got.stderr, nowhere) {
			t.Errorf("talka %v: exit code %d: %s", args, got.code, got.stderr)
		}
		if got.code == exitTimeout && took < wait || took > wait+time.Minute {
			t.Errorf("talka %v: took %v, want %v or little more", args, took, wait)
		}
	}
	if _, err := os.Lstat(dest); err == nil {
		t.Error("it left a file behind")
	}
	// A job that nobody knows.
	got := g.talka(a, "job", "show", workunits.JobID{1}.String())
	if got.code != exitTimeout && got.code != exitNotFound {
		t.Errorf("an unknown job: exit code %d: %s", got.code, got.stderr)
	}
	var jobs []grid.JobInfo
	if g.ok(a, &jobs, "job", "ls"); len(jobs) > 0 {
		t.Errorf("there are jobs: %+v", jobs)
	}
}

func (g *testGrid) addLJ(n *demoNode) string {
	g.Helper()
	g.ljJob(1, 13, "none") // writes the program
	var added struct{ Cid string }
	g.ok(n, &added, "data", "add", filepath.Join(g.dir, "files", "lj.wasm"))
	return added.Cid
}

// A full store refuses what does not fit, says why, keeps what it has, and the
// node goes on.
func TestFullDisk(t *testing.T) {
	g := newTestGrid(t, inputTestTime)
	giver := g.up("a", "--seed")
	n := g.node("n", "--join", g.invite(giver))
	g.start(n, "TALKA_DISK=64MiB") // the smallest
	g.meet(giver, n)
	g.project(n, "atoms")

	kept := g.random("kept", 30<<20)
	var added, large struct{ Cid string }
	g.ok(n, &added, "data", "add", kept)
	g.fails(n, exitError, []string{"full", "disk"}, "data", "add", g.random("large", 70<<20))
	// Nor does it fit when it comes from a peer.
	g.ok(giver, &large, "data", "add", filepath.Join(g.dir, "files", "large"))
	dest := filepath.Join(g.dir, "dest")
	g.fails(n, exitError, []string{"full", "disk"}, "data", "get", large.Cid, "-o", dest)
	if _, err := os.Lstat(dest); err == nil {
		t.Error("it left a file behind")
	}
	if st := g.status(n); st.StoreBytes > 64<<20 {
		t.Errorf("the store holds %d bytes, more than its quota", st.StoreBytes)
	}
	// What failed took no room for good, what was there is there, and units run.
	g.ok(n, &struct{}{}, "data", "add", g.random("more", 20<<20))
	g.ok(n, &struct{}{}, "data", "get", added.Cid, "-o", dest)
	sameFile(t, kept, dest)
	var info grid.JobInfo
	g.ok(n, &info, "job", "submit", "--wait", g.ljJob(2, 13, "none"))
	if info.State != grid.JobDone {
		t.Errorf("a job on the node is %s", info.State)
	}
}

// random writes a file that nothing compresses or shares.
func (g *testGrid) random(name string, size int) string {
	g.Helper()
	var seed [32]byte
	copy(seed[:], name)
	b := make([]byte, size)
	_, _ = rand.NewChaCha8(seed).Read(b) // never fails
	return g.write(name, string(b))
}

func sameFile(t *testing.T, a, b string) {
	t.Helper()
	x, err := os.ReadFile(a)
	if err != nil {
		t.Fatal(err)
	}
	y, err := os.ReadFile(b)
	if err != nil || !bytes.Equal(x, y) {
		t.Errorf("%s and %s differ: %d and %d bytes, %v", a, b, len(x), len(y), err)
	}
}

func TestSecondNodeOnADirectory(t *testing.T) {
	g := newTestGrid(t, inputTestTime)
	n := g.up("n")
	g.fails(n, exitError, []string{"running on " + n.dir, "pid " + strconv.Itoa(n.cmd.Process.Pid), "--dir"}, n.args...)
	if st := g.status(n); st.PeerID != n.status.PeerID {
		t.Errorf("the first node became %s", st.PeerID)
	}
	// A node that was killed leaves its lock and its socket; neither is in the way.
	n.kill()
	g.fails(n, exitNotRunning, []string{"talka up"}, "status")
	first := n.status.PeerID
	if g.start(n); n.status.PeerID != first {
		t.Errorf("the node became %s after a crash", n.status.PeerID)
	}
}

func TestInvitesThatDoNotFit(t *testing.T) {
	g, other := newTestGrid(t, inputTestTime), newTestGrid(t, inputTestTime)
	n := g.up("n")
	invite := other.invite(other.up("o"))
	both := []string{g.network, other.network}
	g.fails(n, exitUsage, both, "join", invite)
	fresh := g.node("fresh", "--join", invite)
	g.fails(fresh, exitUsage, append(both, "--network "+other.network), fresh.args...)
	damaged := []byte(invite)
	if damaged[60]++; damaged[60] == 'z'+1 || damaged[60] == '7'+1 {
		damaged[60] = 'a' // of base32 it is still
	}
	for text, word := range map[string]string{
		"":                     "invite",
		"hello":                "talka1",
		"talka9abc":            "another version",
		invite[:len(invite)-9]: "copy it again",
		string(damaged):        "copy it again",
	} {
		g.fails(n, exitUsage, []string{word}, "join", text)
	}
	if peers := g.status(n).Peers; peers > 0 {
		t.Errorf("the node has %d peers", peers)
	}
	// One of its own network is welcome, whatever was tried before.
	var st grid.Status
	other.ok(other.up("f"), &st, "join", invite)
	if st.Network != other.network || st.Peers != 1 {
		t.Errorf("joined %q with %d peers", st.Network, st.Peers)
	}
}
