package wasi

import (
	"fmt"
	"os"
)

func (p *Process) pathFilestatGet(a []uint64) Errno {
	at, e := p.lookup(a[0], a[2], a[3], a[1]&lookupFollow != 0)
	switch {
	case e != ok:
		return e
	case at.node == nil:
		return eNoent
	}
	return p.putStat(at.node, a[4])
}

func (p *Process) pathFilestatSetTimes(a []uint64) Errno {
	at, e := p.lookup(a[0], a[2], a[3], a[1]&lookupFollow != 0)
	switch {
	case e != ok:
		return e
	case at.node == nil:
		return eNoent
	}
	return p.setTimes(at.node, a[4], a[5], a[6])
}

func (p *Process) pathReadlink(a []uint64) Errno {
	at, e := p.lookup(a[0], a[1], a[2], false)
	switch {
	case e != ok:
		return e
	case at.node == nil:
		return eNoent
	case at.node.kind != typeSymlink:
		return eInval
	}
	b, e := p.bytes(a[3], a[4])
	if e != ok {
		return e
	}
	return p.put32(a[5], uint32(copy(b, at.node.target)))
}

// pathSymlink makes a link that exists in memory alone, which suits what goes
// with the run: a result or a checkpoint holds none.
func (p *Process) pathSymlink(a []uint64) Errno {
	target, e := p.text(a[0], a[1])
	if e != ok {
		return e
	}
	at, e := p.lookup(a[2], a[3], a[4], false)
	switch {
	case e != ok:
		return e
	case at.node != nil:
		return eExist
	case at.must || target == "":
		return eNoent
	case target[0] == '/':
		return ePerm
	}
	if e := at.creatable(); e != ok {
		return e
	}
	q := at.dir.quota
	switch {
	case q != &p.scratch:
		return eNotsup
	case q.usedFiles >= q.files:
		return eNospc
	}
	n := &inode{kind: typeSymlink, ino: p.nextIno(), vol: at.dir.vol, quota: q, target: target, unreal: true, sized: true, loaded: true}
	if e := p.room(n, uint64(len(target))); e != ok {
		return e
	}
	n.size = uint64(len(target))
	q.usedFiles++
	at.dir.add(at.name, n)
	return ok
}

// creatable says whether something new may stand at a place.
func (at place) creatable() Errno {
	switch {
	case at.dir.quota == nil:
		return eRofs
	case at.dir.gone:
		return eNoent
	case len(at.dir.guestPath())+1+len(at.name) > MaxPath:
		return eNameTooLong
	}
	return ok
}

func (p *Process) pathCreateDirectory(a []uint64) Errno {
	at, e := p.lookup(a[0], a[1], a[2], false)
	if e != ok {
		return e
	}
	if at.node != nil {
		return eExist
	}
	if e := at.creatable(); e != ok {
		return e
	}
	if at.dir.quota.usedDirs >= at.dir.quota.dirs {
		return eNospc
	}
	n := &inode{kind: typeDir, ino: p.nextIno(), vol: at.dir.vol, quota: at.dir.quota, loaded: true}
	at.dir.add(at.name, n)
	if err := n.vol.root.Mkdir(n.rel(), 0o700); err != nil {
		return p.fail("make folder", err)
	}
	n.quota.usedDirs++
	return ok
}

func (p *Process) pathOpen(a []uint64) Errno {
	oflags, flags := uint32(a[4]), uint16(a[7])
	if oflags > 15 || uint32(a[7]) > uint32(flagsAll) {
		return eInval
	}
	at, e := p.lookup(a[0], a[2], a[3], a[1]&lookupFollow != 0 && oflags&oExcl == 0)
	if e != ok {
		p.refused(a[0], a[2], a[3], e)
		return e
	}
	num, e := p.free()
	if e != ok {
		return e
	}
	if at.node == nil {
		if e := p.create(&at, oflags); e != ok {
			p.refused(a[0], a[2], a[3], e)
			return e
		}
	} else if oflags&oCreat != 0 && oflags&oExcl != 0 {
		return eExist
	}
	f := &fd{node: at.node, flags: flags}
	if e := p.permit(f, oflags, a[5], a[6]); e != ok {
		p.refused(a[0], a[2], a[3], e)
		return e
	}
	if dir, _ := p.fd(a[0]); oflags&oTrunc != 0 && dir.rights&rightPathSetSize == 0 {
		return eNotcapable
	}
	p.fds[num] = f
	f.node.opens++
	if oflags&oTrunc != 0 && f.node.kind == typeFile {
		if err := f.node.stat(); err != nil {
			return p.fail("stat", err)
		}
		if f.node.size > 0 {
			if e := p.resize(f.node, 0); e != ok {
				return e
			}
		}
	}
	return p.put32(a[8], num)
}

// create makes the file that path_open asks for.
func (p *Process) create(at *place, oflags uint32) Errno {
	switch {
	case oflags&oCreat == 0:
		return eNoent
	case oflags&oDirectory != 0:
		return eInval
	case at.must:
		return eIsdir
	}
	if e := at.creatable(); e != ok {
		return e
	}
	q := at.dir.quota
	if q.usedFiles >= q.files {
		return p.over(q, fmt.Sprintf("more than %d files of output", q.files))
	}
	n := &inode{kind: typeFile, ino: p.nextIno(), vol: at.dir.vol, quota: q, sized: true, loaded: true}
	at.dir.add(at.name, n)
	var err error
	if n.host, err = n.vol.root.OpenFile(n.rel(), os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600); err != nil {
		return p.fail("create", err)
	}
	q.usedFiles++
	at.node = n
	return ok
}

// permit gives f the rights that were asked for, as far as its file has them.
func (p *Process) permit(f *fd, oflags uint32, rights, inherit uint64) Errno {
	n := f.node
	writes := rights&rightWrite != 0 || oflags&oTrunc != 0
	switch n.kind {
	case typeSymlink:
		return eLoop
	case typeDir:
		if rights&rightWrite != 0 || oflags&(oTrunc|oCreat) != 0 && oflags&oDirectory == 0 {
			return eIsdir
		}
		has, hand := rightsDir, rightsAll
		if n.quota == nil && n != p.top {
			has, hand = rightsReadOnlyDir, rightsReadOnlyDir|rightsReadFile
		}
		f.rights, f.inherit = rights&has, inherit&hand
	default:
		if oflags&oDirectory != 0 {
			return eNotdir
		}
		if writes && n.quota == nil {
			return eRofs
		}
		has := rightsReadFile
		if n.quota != nil {
			has |= rightsWriteFile
		}
		f.rights = rights & has
	}
	return ok
}

func (p *Process) pathUnlinkFile(a []uint64) Errno {
	at, e := p.lookup(a[0], a[1], a[2], false)
	switch {
	case e != ok:
		return e
	case at.node == nil:
		return eNoent
	case at.node.kind == typeDir:
		return eIsdir
	}
	if e := at.node.removable(); e != ok {
		return e
	}
	return p.remove(at.node)
}

func (p *Process) pathRemoveDirectory(a []uint64) Errno {
	at, e := p.lookup(a[0], a[1], a[2], false)
	switch {
	case e != ok:
		return e
	case at.node == nil:
		return eNoent
	case at.node.kind != typeDir:
		return eNotdir
	case at.name == "":
		return eInval
	}
	if e := at.node.removable(); e != ok {
		return e
	}
	if len(at.node.children) > 0 {
		return eNotempty
	}
	return p.remove(at.node)
}

// removable says whether n may leave its place: what is read-only, and the
// writable folders themselves, may not.
func (n *inode) removable() Errno {
	if n.quota == nil || n == n.vol.top {
		return eRofs
	}
	return ok
}

func (p *Process) pathRename(a []uint64) Errno {
	from, e := p.lookup(a[0], a[1], a[2], false)
	if e != ok {
		return e
	}
	to, e := p.lookup(a[3], a[4], a[5], false)
	if e != ok {
		return e
	}
	if e := p.renamable(from, to); e != ok {
		return e
	}
	n, old := from.node, to.node
	if n == old {
		return ok
	}
	if old != nil {
		if e := p.keep(old); e != ok {
			return e
		}
	}
	source := n.rel()
	if old != nil && (old.kind == typeDir || n.unreal) {
		// Not every system renames onto an empty folder.
		if e := p.unmake(old); e != ok {
			return e
		}
	}
	if old != nil {
		p.forget(old)
	}
	delete(n.parent.children, n.name)
	to.dir.add(to.name, n)
	if n.unreal {
		return ok
	}
	if err := n.vol.root.Rename(source, n.rel()); err != nil {
		return p.fail("rename", err)
	}
	return ok
}

// renamable says whether from may go to to.
func (p *Process) renamable(from, to place) Errno {
	n, old := from.node, to.node
	if n == nil {
		return eNoent
	}
	if from.name == "" || to.name == "" {
		return eInval
	}
	if e := n.removable(); e != ok {
		return e
	}
	if e := to.creatable(); e != ok {
		return e
	}
	if to.dir.vol != n.vol {
		return eXdev
	}
	if old != nil {
		if e := old.removable(); e != ok {
			return e
		}
		switch {
		case n == old:
			return ok
		case n.kind == typeDir && old.kind != typeDir:
			return eNotdir
		case n.kind != typeDir && old.kind == typeDir:
			return eIsdir
		case len(old.children) > 0:
			return eNotempty
		}
	} else if to.must && n.kind != typeDir {
		return eNotdir
	}
	for up := to.dir; up != nil; up = up.parent {
		if up == n {
			return eInval
		}
	}
	if len(to.dir.guestPath())+1+len(to.name)+n.deepest() > MaxPath {
		return eNameTooLong
	}
	return ok
}

// deepest is the length of the longest path below n, with its leading slash.
func (n *inode) deepest() (longest int) {
	for name, child := range n.children {
		longest = max(longest, 1+len(name)+child.deepest())
	}
	return longest
}
