//go:build e2e

package main

import (
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// same fails unless two files or folders hold the same.
func (g *testGrid) same(a, b string) {
	g.Helper()
	if out, err := exec.CommandContext(g.ctx, "diff", "-r", a, b).CombinedOutput(); err != nil {
		g.Errorf("%s and %s differ: %v %s", a, b, err, out)
	}
}

// TestE2EKubo has a node and a Kubo get files and folders from one another by CID,
// come to the same CIDs, and read each other's archives.
func TestE2EKubo(t *testing.T) {
	g := newTestGrid(t, 3*time.Minute)
	k := newKubo(g.ctx, t)
	n := g.up("talka")
	tree := func(name string, seed byte) string {
		dir := filepath.Join(g.dir, name)
		large := make([]byte, 3<<20+5)
		rand.NewChaCha8([32]byte{seed}).Read(large) //nolint:errcheck // it never fails
		for path, data := range map[string][]byte{"large": large, "sub/small": {seed}, "sub/empty": nil} {
			path = filepath.Join(dir, path)
			if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(path, data, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		return dir
	}
	dest := func(name string) string { return filepath.Join(g.dir, name) }

	// Kubo gets from Talka.
	ours := tree("ours", 1)
	var folder, file struct{ Cid string }
	g.ok(n, &folder, "data", "add", ours)
	g.ok(n, &file, "data", "add", filepath.Join(ours, "large"))
	k.run("swarm", "connect", g.status(n).Addrs[0])
	k.run("get", "-o", dest("folder"), folder.Cid)
	g.same(ours, dest("folder"))
	k.run("get", "-o", dest("file"), file.Cid)
	g.same(filepath.Join(ours, "large"), dest("file"))
	if got := k.run("add", "-rQn", "--hash", "blake3", "--cid-version", "1", "--raw-leaves", "--chunker", "size-1048576", "--max-file-links", "1024", ours); got != folder.Cid {
		t.Errorf("Kubo comes to %s, Talka to %s", got, folder.Cid)
	}

	// Talka gets from Kubo, in its old shape and in the new one.
	addr := k.addr()
	theirs := tree("theirs", 2)
	for i, options := range [][]string{{}, {"--cid-version", "1"}} {
		root := k.run(append([]string{"add", "-rQ"}, append(options, theirs)...)...)
		var got gotten
		to := dest("theirs-" + string(rune('0'+i)))
		g.ok(n, &got, "data", "get", root, "-o", to, "--from", addr)
		g.same(theirs, to)
		if len(got.Sources) != 1 || got.Sources[0].Protocol != "bitswap" || !strings.HasSuffix(addr, got.Sources[0].Peer) || got.Sources[0].Bytes < 3<<20 {
			t.Errorf("it came from %+v", got.DataOrigin)
		}
	}

	// Each reads the other's archives.
	last := tree("last", 3)
	root := k.run("add", "-rQ", last)
	raw, err := k.command("dag", "export", root).Output()
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(dest("theirs.car"), raw, 0o600); err != nil {
		t.Fatal(err)
	}
	var in struct{ Roots []string }
	g.ok(n, &in, "data", "import", dest("theirs.car"))
	var got gotten
	g.ok(n, &got, "data", "get", root, "-o", dest("last-got"))
	g.same(last, dest("last-got"))
	if len(got.Sources) != 0 || len(in.Roots) != 1 || in.Roots[0] != root {
		t.Errorf("imported %v, got from %+v", in.Roots, got.DataOrigin)
	}
	g.ok(n, &got, "data", "export", folder.Cid, "-o", dest("ours.car"))
	if out := k.run("dag", "import", dest("ours.car")); !strings.Contains(out, folder.Cid) {
		t.Errorf("Kubo imported %s", out)
	}
}
