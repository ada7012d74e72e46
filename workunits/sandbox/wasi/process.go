package wasi

import (
	"cmp"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"syscall"

	"lukechampine.com/blake3"
)

// Program is what every program finds as its first argument.
const Program = "program"

// Limits on what a program is given.
const (
	MaxArgs    = 1 << 20 // bytes of all arguments, and of the environment
	MaxName    = 255     // bytes of a file name
	MaxPath    = 1024    // bytes of a path, from "/"
	MaxDirs    = 4096    // folders that a program makes in /out, /scratch and /checkpoint each
	MaxScratch = 65536   // files in /scratch, and in /checkpoint
	maxFDs     = 1024
	maxLinks   = 32      // symbolic links followed in one path
	maxSize    = 1 << 62 // bytes of a file
)

// Input is a file or folder of the host that a program sees, read-only.
type Input struct {
	Path string // clean relative path in the program's tree
	Host string // file or folder
}

// Config is what a program is started with. All paths but Stdin are host paths.
type Config struct {
	Args   []string // after the first, which is Program
	Env    []string // NAME=value
	Stdin  string   // path of a file in the program's tree; empty for no input
	Inputs []Input

	Out, Scratch, Checkpoint string // existing folders
	Stdout, Stderr           string // existing empty files

	OutputLimit  uint64 // bytes of /out and standard output together; one more ends the program
	FilesLimit   uint32 // files in /out; one more ends the program
	FileLimit    uint64 // bytes of each file in /out, and of standard output; one more ends the program; 0: OutputLimit
	CallsLimit   uint64 // calls of the interface; one more ends the program; 0: any number
	LogLimit     uint64 // bytes of standard error; the rest is dropped
	ScratchLimit uint64 // bytes of /scratch: ENOSPC

	CheckpointLimit uint64 // bytes of /checkpoint: ENOSPC; 0: ScratchLimit
	CheckpointRoom  uint64 // bytes that the host has for /checkpoint, more is a full disk; 0: any

	Seed [32]byte // of the clock and of randomness
}

// StopKind tells how a program ended within a call.
type StopKind uint8

// The ends. Those of the host are not the program's doing: the copy is void.
const (
	StopExit     StopKind = iota + 1 // proc_exit
	StopOutput                       // over OutputLimit, FilesLimit or FileLimit
	StopCalls                        // over CallsLimit
	StopDiskFull                     // host
	StopHost                         // host
)

// Stop is why a call ended its program.
type Stop struct {
	Kind   StopKind
	Code   uint32 // of StopExit
	Detail string // for people, not deterministic
}

// ErrInput is wrapped by New when an input cannot be opened.
var ErrInput = errors.New("input not found")

// Process is the host's side of one running program.
type Process struct {
	mem  Memory
	iovs []iovec
	stop *Stop

	args, env [][]byte // NUL-terminated

	now  uint64 // nanoseconds since the start
	born uint64 // real time at the start, nanoseconds since 1970
	rand *rand.ChaCha8

	top     *inode
	preopen string // name of top
	fds     []*fd  // nil is free
	created uint64
	volumes []*volume
	out     quota
	scratch quota
	state   quota // /checkpoint
	errs    quota // standard error

	calls   uint64 // at most; 0: any number
	tally   Tally
	refusal Refusal
}

// New opens the inputs and makes the tree.
func New(c Config) (*Process, error) {
	args, err := block(append([]string{Program}, c.Args...))
	if err != nil {
		return nil, fmt.Errorf("arguments: %w", err)
	}
	env, err := block(c.Env)
	if err != nil {
		return nil, fmt.Errorf("environment: %w", err)
	}
	chance, clock := derive(c.Seed, "randomness"), derive(c.Seed, "clock")
	p := &Process{
		mem: noMemory{}, args: args, env: env, preopen: "/",
		now:     monotonicStart,
		born:    Epoch + startOffset(clock),
		rand:    rand.NewChaCha8(chance),
		calls:   c.CallsLimit,
		out:     quota{bytes: c.OutputLimit, each: c.FileLimit, files: uint64(c.FilesLimit), dirs: MaxDirs, fatal: true},
		scratch: quota{bytes: c.ScratchLimit, files: MaxScratch, dirs: MaxDirs},
		state:   quota{bytes: cmp.Or(c.CheckpointLimit, c.ScratchLimit), room: c.CheckpointRoom, files: MaxScratch, dirs: MaxDirs},
		errs:    quota{bytes: c.LogLimit, files: 1, drop: true},
	}
	if err = p.mount(c); err == nil {
		err = p.standard(c)
	}
	if err != nil {
		return nil, errors.Join(err, p.Close())
	}
	return p, nil
}

// derive makes independent seeds of one.
func derive(seed [32]byte, purpose string) (sub [32]byte) {
	blake3.DeriveKey(sub[:], "talka wasi 1 "+purpose, seed[:])
	return sub
}

// block makes the NUL-terminated strings that a program copies into its memory.
func block(list []string) (b [][]byte, err error) {
	sum := 0
	for _, s := range list {
		if strings.ContainsRune(s, 0) {
			return nil, fmt.Errorf("%.40q holds a NUL", s)
		}
		sum += len(s) + 1
		b = append(b, append([]byte(s), 0))
	}
	if sum > MaxArgs {
		return nil, fmt.Errorf("%d bytes, the limit is %d", sum, MaxArgs)
	}
	return b, nil
}

// Stopped tells why the last call ended the program, if it did.
func (p *Process) Stopped() (Stop, bool) {
	if p.stop == nil {
		return Stop{}, false
	}
	return *p.stop, true
}

// Close releases what the process holds of the host. Contents stay on disk.
func (p *Process) Close() (err error) {
	for i, f := range p.fds {
		if f != nil {
			err = errors.Join(err, p.release(f.node))
			p.fds[i] = nil
		}
	}
	for _, v := range p.volumes {
		err = errors.Join(err, v.root.Close())
	}
	p.volumes = nil
	return err
}

// end stops the program; the first reason stays.
func (p *Process) end(s Stop) {
	if p.stop == nil {
		p.stop = &s
	}
}

// fail ends the program for an error of the host.
func (p *Process) fail(op string, err error) Errno {
	kind := StopHost
	if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) {
		kind = StopDiskFull
	}
	p.end(Stop{Kind: kind, Detail: op + ": " + err.Error()})
	return eIO
}

// standard opens descriptors 0 to 3.
func (p *Process) standard(c Config) error {
	in := &inode{kind: typeFile, sized: true, ino: pathIno("stdin")}
	if c.Stdin != "" {
		// Through the tree, so that no symbolic link leads out of it.
		at, e := p.walk(p.top, c.Stdin, true)
		if e != ok || at.node == nil || at.node.kind != typeFile {
			return fmt.Errorf("standard input: %s is no file of the tree: %w", c.Stdin, ErrInput)
		}
		in = at.node
	}
	out := &inode{kind: typeFile, direct: c.Stdout, quota: &p.out, sized: true, ino: pathIno("stdout")}
	errs := &inode{kind: typeFile, direct: c.Stderr, quota: &p.errs, sized: true, ino: pathIno("stderr")}
	for _, f := range []*fd{
		{node: in, rights: rightsReadFile},
		{node: out, rights: rightsReadFile&^rightRead | rightWrite, flags: flagAppend},
		{node: errs, rights: rightsReadFile&^rightRead | rightWrite, flags: flagAppend},
		{node: p.top, rights: rightsDir, inherit: rightsAll, preopen: true},
	} {
		f.node.opens++
		p.fds = append(p.fds, f)
	}
	return nil
}
