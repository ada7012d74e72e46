package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	"github.com/talka-grid/talka/grid"
	"github.com/talka-grid/talka/grid/api"
)

// demoNode is a node of the demo: a process of this program with a directory.
type demoNode struct {
	name   string
	dir    string
	args   []string // of the command that starts it
	client *api.Client
	cmd    *exec.Cmd
	status grid.Status
	exited chan error
	log    *os.File
}

// startTime bounds the start of a node.
const startTime = 30 * time.Second

// start runs the node's process and waits until it says that it is up.
func (n *demoNode) start(ctx context.Context, exe string, env []string) (err error) {
	if err := os.MkdirAll(n.dir, 0o700); err != nil {
		return err
	}
	if n.log, err = os.OpenFile(filepath.Join(n.dir, "log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600); err != nil {
		return err
	}
	// The node outlives ctx: stop and kill end it.
	n.cmd = exec.CommandContext(context.WithoutCancel(ctx), exe, append([]string{"--dir", n.dir, "--json"}, n.args...)...)
	n.cmd.Env, n.cmd.Stderr = env, n.log
	n.cmd.SysProcAttr = ownGroup()
	out, err := n.cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := n.cmd.Start(); err != nil {
		return err
	}
	n.exited = make(chan error, 1)
	banner := make(chan error, 1)
	go func() {
		r := bufio.NewReader(out)
		line, err := r.ReadBytes('\n')
		if err == nil {
			err = json.Unmarshal(line, &n.status)
		}
		banner <- err
		_, _ = io.Copy(io.Discard, r)
		n.exited <- n.cmd.Wait()
	}()
	ctx, cancel := context.WithTimeout(ctx, startTime)
	defer cancel()
	select {
	case err = <-banner:
	case <-ctx.Done():
		err = ctx.Err()
	}
	if err != nil {
		n.kill()
		return fmt.Errorf("node %s did not come up (%w): %s", n.name, err, tail(filepath.Join(n.dir, "log")))
	}
	n.client = api.NewClient(n.dir)
	return nil
}

// tail is the end of a log, for an error message.
func tail(path string) string {
	b, err := os.ReadFile(path)
	if err != nil {
		return err.Error()
	}
	return string(b[max(0, len(b)-2000):])
}

// kill ends the process at once, as a power cut would, and waits for its end.
func (n *demoNode) kill() {
	if n.cmd == nil || n.cmd.Process == nil {
		return
	}
	_ = n.cmd.Process.Kill()
	<-n.exited //nolint:errcheck // killed is what it was meant to be
	n.cmd = nil
	_ = n.log.Close()
}

// stop asks the process to end, and kills it if it does not.
func (n *demoNode) stop() error {
	if n.cmd == nil {
		return nil
	}
	_ = n.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case err := <-n.exited:
		n.cmd = nil
		return errors.Join(err, n.log.Close())
	case <-time.After(10 * time.Second):
		n.kill()
		return fmt.Errorf("node %s did not stop when asked to", n.name)
	}
}

// poll calls f every now and then until it says that it is done.
func poll(ctx context.Context, f func() (done bool, err error)) error {
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		if done, err := f(); done || err != nil {
			return err
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}
