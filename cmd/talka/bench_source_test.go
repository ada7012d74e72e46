package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"strconv"
	"testing"
	"time"

	"github.com/ipfs/go-cid"
	ma "github.com/multiformats/go-multiaddr"

	"github.com/talka-grid/talka/chunkstore"
	"github.com/talka-grid/talka/p2p"
	"github.com/talka-grid/talka/workunits"
)

// sourceCommand is a command of the test binary alone: a node that has a file, in a
// process of its own, so that what it takes is told apart from what fetching takes.
// It says on a line of JSON where it is found, and ends with its standard input.
const sourceCommand = "talka-source"

// sourceOrder is what a source is told by its only argument.
type sourceOrder struct {
	Dir, Listen, Path string
	Delay             time.Duration // of the line to it, each way; 0: there is none
	Rate              float64       // of the line from it, see link
}

// benchSource is a source that runs.
type benchSource struct {
	Peer  p2p.Peer
	Root  cid.Cid
	Bytes int64 // in its store
	pid   string
}

func sourceMain() {
	var order sourceOrder
	err := json.Unmarshal([]byte(os.Args[1]), &order)
	if err == nil {
		err = order.run(context.Background())
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func (o sourceOrder) run(ctx context.Context) (err error) {
	n, closeNode, err := openBenchNode(ctx, o.Dir, o.Listen)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, closeNode()) }()
	n.host.Handle("bench", func(_ workunits.NodeID, s p2p.Stream) {
		buf := make([]byte, 1<<20)
		for range benchSize / len(buf) {
			if _, err := s.Write(buf); err != nil {
				return
			}
		}
		_ = s.Close() // the other end tells
	})
	root, _, _, err := n.data.Add(ctx, o.Path, nil)
	if err := errors.Join(err, n.data.Keep(chunkstore.Lease{Root: root, Reason: "own data"}), n.data.Sync()); err != nil {
		return err
	}
	addr := n.host.Addrs()[0]
	if o.Delay > 0 {
		port, err := tcpPort(addr)
		if err != nil {
			return err
		}
		k, err := openLink(ctx, net.JoinHostPort("127.0.0.1", port), o.Delay, o.Rate)
		if err != nil {
			return err
		}
		defer k.close()
		addr = fmt.Sprint("/ip4/127.0.0.1/tcp/", k.listener.Addr().(*net.TCPAddr).Port)
	}
	said := benchSource{Peer: p2p.Peer{ID: n.host.ID(), Addrs: []string{addr}}, Root: root, Bytes: n.data.Stat().Bytes}
	if err := json.NewEncoder(os.Stdout).Encode(said); err != nil {
		return err
	}
	_, err = io.Copy(io.Discard, os.Stdin)
	return err
}

func tcpPort(addr string) (string, error) {
	a, err := ma.NewMultiaddr(addr)
	if err != nil {
		return "", err
	}
	return a.ValueForProtocol(ma.P_TCP)
}

// startSource starts a source. It ends with the benchmark, or when it is stopped.
func startSource(b *testing.B, o sourceOrder) (s benchSource, stop func()) {
	b.Helper()
	o.Dir = b.TempDir()
	raw, err := json.Marshal(o)
	if err != nil {
		b.Fatal(err)
	}
	exe, err := exec.LookPath(sourceCommand)
	if err != nil {
		b.Fatal(err)
	}
	cmd := exec.CommandContext(b.Context(), exe, string(raw))
	cmd.Stderr = os.Stderr
	in, err1 := cmd.StdinPipe()
	out, err2 := cmd.StdoutPipe()
	if err := errors.Join(err1, err2, cmd.Start()); err != nil {
		b.Fatal(err)
	}
	stop = func() {
		_ = in.Close()
		_ = cmd.Wait() // it may have been stopped before
	}
	b.Cleanup(stop)
	line, err := bufio.NewReader(out).ReadBytes('\n')
	if err == nil {
		err = json.Unmarshal(line, &s)
	}
	if err != nil {
		b.Fatal("the source says nothing of use: ", err)
	}
	s.pid = strconv.Itoa(cmd.Process.Pid)
	return s, stop
}
