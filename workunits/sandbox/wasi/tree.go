package wasi

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path"
	"slices"
	"strings"
	"syscall"
	"unicode"
	"unicode/utf8"

	"lukechampine.com/blake3"
)

// quota is what one writable part of the tree may hold, and holds.
type quota struct {
	bytes, files, dirs             uint64 // at most
	usedBytes, usedFiles, usedDirs uint64
	each                           uint64 // bytes of one file at most; 0: as many as of all
	room                           uint64 // bytes that the host has; 0: any
	fatal                          bool   // going over ends the program
	drop                           bool   // bytes over it are dropped in silence
}

// volume is a folder of the host that stands somewhere in the tree.
type volume struct {
	root  *os.Root
	top   *inode
	quota *quota // nil: read-only
}

// inode is a file, folder or symbolic link of the tree.
type inode struct {
	kind     filetype
	ino      uint64
	parent   *inode // of the top: nil
	name     string
	vol      *volume // nil: made of nothing, or of direct
	direct   string  // host path of a file outside any volume
	quota    *quota  // nil: read-only
	children map[string]*inode
	loaded   bool // children are known
	size     uint64
	sized    bool   // size is known
	target   string // of a symbolic link
	unreal   bool   // a link that the program made: the host has none
	times    *times // nil: Epoch
	gone     bool   // no longer in the tree
	opens    int    // descriptors
	host     *os.File
}

// times are those of access and change that a program has set, in nanoseconds
// since 1970. They end with the run.
type times struct{ accessed, changed uint64 }

// pathIno is the inode number of what the program did not make.
func pathIno(guest string) uint64 {
	sum := blake3.Sum256([]byte(guest))
	return binary.LittleEndian.Uint64(sum[:])>>2 | 1<<62
}

// nextIno is the inode number of what the program makes.
func (p *Process) nextIno() uint64 { p.created++; return p.created }

// guestPath is the path from the top, without a leading slash.
func (n *inode) guestPath() string {
	if n.parent == nil {
		return ""
	}
	return path.Join(n.parent.guestPath(), n.name)
}

// rel is the path below the folder of the volume.
func (n *inode) rel() string {
	if n == n.vol.top {
		return "."
	}
	return path.Join(n.parent.rel(), n.name)
}

// add puts a new child into a folder.
func (n *inode) add(name string, child *inode) *inode {
	child.parent, child.name = n, name
	if child.ino == 0 {
		child.ino = pathIno(child.guestPath())
	}
	if n.children == nil {
		n.children = map[string]*inode{}
	}
	n.children[name] = child
	return child
}

// names lists the children in the order in which programs see them.
func (n *inode) names() []string {
	names := make([]string, 0, len(n.children))
	for name := range n.children {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// mount builds the tree of inputs and writable folders.
func (p *Process) mount(c Config) error {
	p.top = &inode{kind: typeDir, loaded: true, ino: pathIno("")}
	inputs := slices.Clone(c.Inputs)
	slices.SortFunc(inputs, func(a, b Input) int { return strings.Compare(a.Path, b.Path) })
	for _, in := range inputs {
		if err := p.mountInput(in); err != nil {
			return fmt.Errorf("input %s: %w", in.Path, err)
		}
	}
	for _, w := range []struct {
		name, host string
		quota      *quota
	}{{"out", c.Out, &p.out}, {"scratch", c.Scratch, &p.scratch}, {"checkpoint", c.Checkpoint, &p.state}} {
		if p.top.children[w.name] != nil {
			return fmt.Errorf("input %s: the name is taken by a writable folder", w.name)
		}
		node := p.top.add(w.name, &inode{kind: typeDir, quota: w.quota})
		if err := p.mountDir(node, w.host); err != nil {
			return err
		}
		if err := p.loadAll(node); err != nil {
			return err
		}
	}
	return nil
}

func (p *Process) mountDir(node *inode, host string) error {
	root, err := os.OpenRoot(host)
	if err != nil {
		return err
	}
	node.vol = &volume{root: root, top: node, quota: node.quota}
	p.volumes = append(p.volumes, node.vol)
	return nil
}

func (p *Process) mountInput(in Input) error {
	info, err := os.Stat(in.Host)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrInput, err)
	}
	if len(in.Path) > MaxPath || path.Clean("/"+in.Path) != "/"+in.Path || in.Path == "" {
		return errors.New("want a clean relative path")
	}
	dir, parts := p.top, strings.Split(in.Path, "/")
	for i, name := range parts {
		if !validName(name) {
			return fmt.Errorf("name %.40q: want UTF-8 of at most %d bytes without control characters", name, MaxName)
		}
		if err := p.load(dir); err != nil {
			return err
		}
		child := dir.children[name]
		switch {
		case i == len(parts)-1:
			if child != nil && (child.direct != "" || child.vol != nil && child.vol.top == child) {
				return errors.New("another input has this path")
			}
		case child == nil:
			child = dir.add(name, &inode{kind: typeDir, loaded: true})
		case child.kind != typeDir:
			return errors.New("another input is a file on the way")
		}
		if i < len(parts)-1 {
			dir = child
		}
	}
	name := parts[len(parts)-1]
	switch {
	case info.IsDir():
		return p.mountDir(dir.add(name, &inode{kind: typeDir}), in.Host)
	case info.Mode().IsRegular():
		dir.add(name, &inode{kind: typeFile, direct: in.Host, size: uint64(info.Size()), sized: true})
		return nil
	}
	return fmt.Errorf("%s is neither file nor folder: %w", in.Host, ErrInput)
}

func validName(s string) bool {
	return s != "" && s != "." && s != ".." && len(s) <= MaxName && utf8.ValidString(s) &&
		!strings.Contains(s, "/") && !strings.ContainsFunc(s, unicode.IsControl)
}

// load reads a folder of the host on first use. What is neither file, folder
// nor symbolic link does not exist for programs, nor do names that are not valid.
func (p *Process) load(n *inode) error {
	if n.loaded {
		return nil
	}
	dir, err := n.vol.root.Open(n.rel())
	if err != nil {
		return err
	}
	defer dir.Close()
	entries, err := dir.ReadDir(-1)
	if err != nil {
		return err
	}
	n.loaded = true
	for _, e := range entries {
		if !validName(e.Name()) || n.children[e.Name()] != nil {
			continue
		}
		child := &inode{vol: n.vol, quota: n.quota}
		switch mode := e.Type(); {
		case mode.IsRegular():
			child.kind = typeFile
		case mode.IsDir():
			child.kind = typeDir
		case mode&os.ModeSymlink != 0:
			child.kind, child.loaded = typeSymlink, true
			if child.target, err = n.vol.root.Readlink(path.Join(n.rel(), e.Name())); err != nil {
				return err
			}
			child.size, child.sized = uint64(len(child.target)), true
		default:
			continue
		}
		n.add(e.Name(), child)
	}
	return nil
}

// loadAll reads a writable folder at the start, since what it holds counts.
func (p *Process) loadAll(n *inode) error {
	if err := p.load(n); err != nil {
		return err
	}
	for _, name := range n.names() {
		child := n.children[name]
		switch child.kind {
		case typeDir:
			n.quota.usedDirs++
			if err := p.loadAll(child); err != nil {
				return err
			}
		default:
			if err := child.stat(); err != nil {
				return err
			}
			n.quota.usedFiles++
			n.quota.usedBytes += child.size
		}
	}
	return nil
}

// stat learns a file's size.
func (n *inode) stat() error {
	if n.sized || n.kind == typeDir {
		return nil
	}
	var info os.FileInfo
	var err error
	switch {
	case n.vol != nil:
		info, err = n.vol.root.Lstat(n.rel())
	case n.direct != "":
		info, err = os.Stat(n.direct)
	default:
		n.sized = true // made of nothing
		return nil
	}
	if err != nil {
		return err
	}
	n.size, n.sized = uint64(info.Size()), true
	return nil
}

// open gives the file's handle on the host, one for all descriptors, opened on
// first use.
func (n *inode) open() (_ *os.File, err error) {
	if n.host != nil {
		return n.host, nil
	}
	mode := os.O_RDONLY
	if n.quota != nil {
		mode = os.O_RDWR
	}
	switch {
	case n.vol != nil:
		n.host, err = n.vol.root.OpenFile(n.rel(), mode, 0)
	default:
		n.host, err = os.OpenFile(n.direct, mode, 0)
	}
	return n.host, err
}

// release gives up one descriptor of a file.
func (p *Process) release(n *inode) (err error) {
	if n.opens--; n.opens > 0 {
		return nil
	}
	if n.gone && n.kind == typeFile {
		n.quota.usedBytes -= n.size
	}
	if n.host != nil {
		err = n.host.Close()
		n.host = nil
	}
	return err
}

// room makes sure that a file may have the given size, and counts it.
func (p *Process) room(n *inode, size uint64) Errno {
	if size <= n.size {
		n.quota.usedBytes -= n.size - size
		return ok
	}
	if grow := size - n.size; size > 1<<62 || grow > n.quota.bytes-min(n.quota.bytes, n.quota.usedBytes) {
		return p.over(n.quota, fmt.Sprintf("more than %d bytes of output", n.quota.bytes))
	}
	if n.quota.each > 0 && size > n.quota.each {
		return p.over(n.quota, fmt.Sprintf("more than %d bytes in one file of output", n.quota.each))
	}
	if grown := n.quota.usedBytes + size - n.size; n.quota.room > 0 && grown > n.quota.room {
		return p.fail("checkpoint", fmt.Errorf("more than %d bytes: %w", n.quota.room, syscall.ENOSPC))
	}
	n.quota.usedBytes += size - n.size
	return ok
}

// over is what happens when a quota is used up.
func (p *Process) over(q *quota, detail string) Errno {
	if q.fatal {
		p.end(Stop{Kind: StopOutput, Detail: detail})
	}
	return eNospc
}

// remove takes a file or an empty folder out of the tree and off the disk.
func (p *Process) remove(n *inode) Errno {
	if e := p.keep(n); e != ok {
		return e
	}
	if e := p.unmake(n); e != ok {
		return e
	}
	p.forget(n)
	return ok
}

// unmake takes a file, link or empty folder off the disk.
func (p *Process) unmake(n *inode) Errno {
	if n.unreal {
		return ok
	}
	if err := n.vol.root.Remove(n.rel()); err != nil {
		return p.fail("remove", err)
	}
	return ok
}

// keep opens a file that descriptors refer to before its name goes away.
func (p *Process) keep(n *inode) Errno {
	if n.kind != typeFile || n.opens == 0 {
		return ok
	}
	if _, err := n.open(); err != nil {
		return p.fail("open", err)
	}
	return ok
}

// forget takes n out of the tree; its bytes count until its last descriptor.
func (p *Process) forget(n *inode) {
	delete(n.parent.children, n.name)
	n.gone = true
	if n.kind == typeDir {
		n.quota.usedDirs--
		return
	}
	n.quota.usedFiles--
	if n.opens == 0 {
		n.quota.usedBytes -= n.size
	}
}
