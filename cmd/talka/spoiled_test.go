package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/talka-grid/talka/grid"
	"github.com/talka-grid/talka/grid/keep"
)

// spoiled is a command of the test binary alone: talka whose node goes wrong as
// arguments anywhere on its command line say:
//
//	--test-crash=N   it ends at once before its N-th effect, as by a power cut
//	--test-lie=SEED  its copies are wrong on units that the seed draws
//	--test-crook=WAY:NODE,NODE
//	                 it is a steward that lies to these
//	--test-hasty     it takes seconds of silence for a day's, and repairs at once
//	--test-copycat   it looks for others' results before it executes a copy
const spoiled = "talka-spoiled"

// hastyKeep are times of replicas for tests.
func hastyKeep() keep.Times {
	t := keep.DefaultTimes()
	t.Tick, t.Settle, t.Recent, t.Silence = 200*time.Millisecond, time.Second, 2*time.Second, 4*time.Second
	t.Again, t.Audit, t.Probe = time.Second, time.Second, 3*time.Second
	return t
}

func spoiledMain() {
	a := &app{in: os.Stdin, out: os.Stdout, err: os.Stderr, env: os.Environ()}
	var args []string
	var crash, seed uint64
	var lies string
	var copies, hasty bool
	for _, arg := range os.Args[1:] {
		switch {
		case strings.HasPrefix(arg, "--test-crash="):
			_, _ = fmt.Sscan(strings.TrimPrefix(arg, "--test-crash="), &crash)
		case strings.HasPrefix(arg, "--test-lie="):
			_, _ = fmt.Sscan(strings.TrimPrefix(arg, "--test-lie="), &seed)
		case strings.HasPrefix(arg, "--test-crook="):
			lies = strings.TrimPrefix(arg, "--test-crook=")
		case arg == "--test-copycat":
			copies = true
		case arg == "--test-hasty":
			hasty = true
		default:
			args = append(args, arg)
		}
	}
	a.change = func(c *grid.Config) {
		if seed > 0 {
			c.Exec = liar{c.Exec, seed, filepath.Join(c.Dir, "lies")}
		}
		if hasty {
			c.KeepTimes = hastyKeep()
		}
		if copies {
			c.Exec = newCopycat(c, filepath.Join(c.Dir, "seen"))
		}
		if lies != "" {
			c.Net = newCrook(c, lies)
		}
		if crash > 0 {
			c.Effect = func() {
				if crash--; crash == 0 {
					_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
					select {}
				}
			}
		}
	}
	os.Exit(a.run(untilSignal(), args))
}
