package main

import (
	"bufio"
	"bytes"
	"context"
	"os"
	"os/exec"
	"strings"
	"testing"
)

// kubo is a node of Kubo that knows nobody.
type kubo struct {
	testing.TB
	ctx      context.Context
	exe, dir string
}

// newKubo starts the Kubo that TALKA_TEST_KUBO names, on loopback alone; nothing is
// tested without.
func newKubo(ctx context.Context, tb testing.TB) kubo {
	tb.Helper()
	k := kubo{tb, ctx, os.Getenv("TALKA_TEST_KUBO"), tb.TempDir()}
	if k.exe == "" {
		tb.Skip("TALKA_TEST_KUBO names no Kubo: build one, and use make interop KUBO=…")
	}
	k.run("init", "--profile", "test")
	k.run("config", "Routing.Type", "none")
	k.run("config", "--json", "Bootstrap", "[]")
	daemon := k.command("daemon")
	out, err := daemon.StdoutPipe()
	if err != nil {
		tb.Fatal(err)
	}
	if err := daemon.Start(); err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		_ = daemon.Process.Signal(os.Interrupt)
		_ = daemon.Wait() // it may have been killed for the time that it took
	})
	for lines := bufio.NewScanner(out); lines.Scan(); {
		if strings.Contains(lines.Text(), "Daemon is ready") {
			go func() {
				for lines.Scan() { // what it says later would fill the pipe
				}
			}()
			return k
		}
	}
	tb.Fatal("Kubo does not start")
	return k
}

func (k kubo) command(args ...string) *exec.Cmd {
	cmd := exec.CommandContext(k.ctx, k.exe, args...)
	cmd.Env = append(os.Environ(), "IPFS_PATH="+k.dir)
	return cmd
}

// run runs a command of Kubo and returns what it printed.
func (k kubo) run(args ...string) string {
	k.Helper()
	var stderr bytes.Buffer
	cmd := k.command(args...)
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		k.Fatalf("ipfs %s: %v: %s", strings.Join(args, " "), err, stderr.String())
	}
	return strings.TrimSpace(string(out))
}

// addr is an address of the node.
func (k kubo) addr() string {
	k.Helper()
	addr, _, _ := strings.Cut(k.run("id", "-f", "<addrs>"), "\n")
	return addr
}

// BenchmarkKubo256MiB has one Kubo add a file and another get it, next to each other,
// for comparison with BenchmarkData256MiB of the same run.
func BenchmarkKubo256MiB(b *testing.B) {
	path := benchFile(b)
	for b.Loop() {
		from, to := newKubo(b.Context(), b), newKubo(b.Context(), b)
		var root string
		rate(b, "add-MB/s", func() error {
			root = from.run("add", "-Q", path)
			return nil
		})
		to.run("swarm", "connect", from.addr())
		rate(b, "get-MB/s", func() error {
			to.run("get", "-o", b.TempDir()+"/got", root)
			return nil
		})
	}
}
