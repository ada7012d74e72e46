package wasi

import (
	"encoding/binary"
	"io"
)

// fd is one open descriptor.
type fd struct {
	node    *inode
	rights  uint64
	inherit uint64
	flags   uint16
	off     uint64
	preopen bool
	list    []entry // listing that fd_readdir goes through
}

// entry is one line of a listing.
type entry struct {
	name string
	ino  uint64
	kind filetype
}

func (p *Process) fd(num uint64) (*fd, Errno) {
	n := uint32(num)
	if n >= uint32(len(p.fds)) || p.fds[n] == nil {
		return nil, eBadf
	}
	return p.fds[n], ok
}

// file is the descriptor of a file that is open for what right says.
func (p *Process) file(num, right uint64) (*fd, Errno) {
	f, e := p.fd(num)
	switch {
	case e != ok:
		return nil, e
	case f.node.kind == typeDir:
		return nil, eIsdir
	case f.rights&right == 0:
		return nil, eBadf
	}
	if err := f.node.stat(); err != nil {
		return nil, p.fail("stat", err)
	}
	return f, ok
}

// free finds the lowest free number.
func (p *Process) free() (uint32, Errno) {
	for i, f := range p.fds {
		if f == nil {
			return uint32(i), ok
		}
	}
	if len(p.fds) >= maxFDs {
		return 0, eMfile
	}
	p.fds = append(p.fds, nil)
	return uint32(len(p.fds) - 1), ok
}

func (p *Process) fdClose(a []uint64) Errno {
	f, e := p.fd(a[0])
	if e != ok {
		return e
	}
	p.fds[uint32(a[0])] = nil
	if err := p.release(f.node); err != nil {
		return p.fail("close", err)
	}
	return ok
}

func (p *Process) fdRenumber(a []uint64) Errno {
	f, e := p.fd(a[0])
	if e != ok {
		return e
	}
	if _, e := p.fd(a[1]); e != ok {
		return e
	}
	if uint32(a[0]) == uint32(a[1]) {
		return ok
	}
	if e := p.fdClose(a[1:]); e != ok {
		return e
	}
	p.fds[uint32(a[1])], p.fds[uint32(a[0])] = f, nil
	return ok
}

func (p *Process) fdRead(a []uint64) Errno {
	f, e := p.file(a[0], rightRead)
	if e != ok {
		return e
	}
	n, e := p.readAt(f.node, f.off, a[1], a[2])
	if e != ok {
		return e
	}
	f.off += n
	return p.put32(a[3], uint32(n))
}

func (p *Process) fdPread(a []uint64) Errno {
	f, e := p.file(a[0], rightRead)
	if e != ok {
		return e
	}
	n, e := p.readAt(f.node, a[3], a[1], a[2])
	if e != ok {
		return e
	}
	return p.put32(a[4], uint32(n))
}

// readAt fills buffers from a file, as far as it goes.
func (p *Process) readAt(n *inode, off, iovs, count uint64) (done uint64, e Errno) {
	list, _, e := p.iovecs(iovs, count)
	if e != ok {
		return 0, e
	}
	for _, v := range list {
		want := min(uint64(v.n), n.size-min(n.size, off))
		if want == 0 {
			continue
		}
		b, e := p.bytes(uint64(v.ptr), want)
		if e != ok {
			return done, e
		}
		host, err := n.open()
		if err != nil {
			return done, p.fail("open", err)
		}
		if got, err := host.ReadAt(b, int64(off)); uint64(got) != want {
			if err == io.EOF {
				err = io.ErrUnexpectedEOF
			}
			return done, p.fail("read", err)
		}
		off += want
		done += want
	}
	p.tally.Read += done
	return done, ok
}

func (p *Process) fdWrite(a []uint64) Errno {
	f, e := p.file(a[0], rightWrite)
	if e != ok {
		return e
	}
	if f.flags&flagAppend != 0 {
		f.off = f.node.size
	}
	n, e := p.writeAt(f.node, f.off, a[1], a[2])
	if e != ok {
		return e
	}
	f.off += n
	return p.put32(a[3], uint32(n))
}

func (p *Process) fdPwrite(a []uint64) Errno {
	f, e := p.file(a[0], rightWrite)
	if e != ok {
		return e
	}
	n, e := p.writeAt(f.node, a[3], a[1], a[2])
	if e != ok {
		return e
	}
	return p.put32(a[4], uint32(n))
}

// writeAt writes all of the buffers or nothing.
func (p *Process) writeAt(n *inode, off, iovs, count uint64) (uint64, Errno) {
	list, sum, e := p.iovecs(iovs, count)
	if e != ok || sum == 0 {
		return 0, e
	}
	if off > maxSize {
		return 0, eFbig
	}
	end := off + sum
	if n.quota.drop {
		end = min(end, max(n.size, n.quota.bytes))
		p.tally.Dropped += off + sum - max(end, off)
	}
	if end > n.size {
		if e := p.room(n, end); e != ok {
			return 0, e
		}
	}
	host, err := n.open()
	if err != nil {
		return 0, p.fail("open", err)
	}
	for _, v := range list {
		want := min(uint64(v.n), end-min(end, off))
		if want == 0 {
			continue
		}
		b, e := p.bytes(uint64(v.ptr), want)
		if e != ok {
			return 0, e
		}
		if _, err := host.WriteAt(b, int64(off)); err != nil {
			return 0, p.fail("write", err)
		}
		off += want
	}
	n.size = max(n.size, end)
	p.tally.Written += sum
	return sum, ok
}

func (p *Process) fdSeek(a []uint64) Errno {
	f, e := p.fd(a[0])
	if e != ok {
		return e
	}
	if f.node.kind == typeDir {
		return eBadf
	}
	if f.rights&rightSeek == 0 {
		return eNotcapable
	}
	if err := f.node.stat(); err != nil {
		return p.fail("stat", err)
	}
	base := int64(0)
	switch uint32(a[2]) {
	case 0:
	case 1:
		base = int64(f.off)
	case 2:
		base = int64(f.node.size)
	default:
		return eInval
	}
	at := base + int64(a[1])
	if at < 0 || int64(a[1]) > 0 && at < base {
		return eInval
	}
	f.off = uint64(at)
	return p.put64(a[3], f.off)
}

func (p *Process) fdTell(a []uint64) Errno {
	f, e := p.fd(a[0])
	if e != ok {
		return e
	}
	if f.node.kind == typeDir {
		return eBadf
	}
	return p.put64(a[1], f.off)
}

// fdSync makes a checkpoint durable; other files need not outlive the run.
func (p *Process) fdSync(a []uint64) Errno {
	f, e := p.fd(a[0])
	if e != ok || f.node.quota != &p.state || f.node.host == nil {
		return e
	}
	if err := f.node.host.Sync(); err != nil {
		return p.fail("sync", err)
	}
	return ok
}

func (p *Process) fdAdvise(a []uint64) Errno {
	f, e := p.fd(a[0])
	switch {
	case e != ok:
		return e
	case f.node.kind == typeDir:
		return eBadf
	case uint32(a[3]) > 5:
		return eInval
	}
	return ok
}

func (p *Process) fdAllocate(a []uint64) Errno {
	f, e := p.file(a[0], rightAllocate)
	switch {
	case e != ok:
		return e
	case a[2] == 0:
		return eInval
	case a[1] > maxSize || a[2] > maxSize:
		return eFbig
	case a[1]+a[2] <= f.node.size:
		return ok
	}
	return p.resize(f.node, a[1]+a[2])
}

func (p *Process) fdFilestatSetSize(a []uint64) Errno {
	f, e := p.file(a[0], rightSetSize)
	switch {
	case e != ok:
		return e
	case a[1] > maxSize:
		return eFbig
	}
	return p.resize(f.node, a[1])
}

// resize cuts a file or fills it up with zeros.
func (p *Process) resize(n *inode, size uint64) Errno {
	if e := p.room(n, size); e != ok {
		return e
	}
	host, err := n.open()
	if err == nil {
		err = host.Truncate(int64(size))
	}
	if err != nil {
		return p.fail("truncate", err)
	}
	n.size = size
	return ok
}

func (p *Process) fdFdstatGet(a []uint64) Errno {
	f, e := p.fd(a[0])
	if e != ok {
		return e
	}
	b, e := p.bytes(a[1], 24)
	if e != ok {
		return e
	}
	clear(b)
	b[0] = byte(f.node.kind)
	binary.LittleEndian.PutUint16(b[2:], f.flags)
	binary.LittleEndian.PutUint64(b[8:], f.rights)
	binary.LittleEndian.PutUint64(b[16:], f.inherit)
	return ok
}

func (p *Process) fdFdstatSetFlags(a []uint64) Errno {
	f, e := p.fd(a[0])
	if e != ok {
		return e
	}
	if uint32(a[1]) > uint32(flagsAll) {
		return eInval
	}
	f.flags = uint16(a[1])
	return ok
}

// fdFdstatSetRights gives rights up; none are gained.
func (p *Process) fdFdstatSetRights(a []uint64) Errno {
	f, e := p.fd(a[0])
	if e != ok {
		return e
	}
	if a[1]&^f.rights != 0 || a[2]&^f.inherit != 0 {
		return eNotcapable
	}
	f.rights, f.inherit = a[1], a[2]
	return ok
}

func (p *Process) fdFilestatGet(a []uint64) Errno {
	f, e := p.fd(a[0])
	if e != ok {
		return e
	}
	return p.putStat(f.node, a[1])
}

func (p *Process) fdFilestatSetTimes(a []uint64) Errno {
	f, e := p.fd(a[0])
	if e != ok {
		return e
	}
	return p.setTimes(f.node, a[1], a[2], a[3])
}

// setTimes sets what the flags name, to what is given or to now.
func (p *Process) setTimes(n *inode, accessed, changed, flags uint64) Errno {
	flags = uint64(uint32(flags))
	switch {
	case flags > 15, flags&setAtim != 0 && flags&setAtimNow != 0, flags&setMtim != 0 && flags&setMtimNow != 0:
		return eInval
	case n.quota == nil:
		return eRofs
	}
	t := times{Epoch, Epoch}
	if n.times != nil {
		t = *n.times
	}
	for _, s := range []struct {
		at          *uint64
		given       uint64
		set, setNow uint64
	}{{&t.accessed, accessed, setAtim, setAtimNow}, {&t.changed, changed, setMtim, setMtimNow}} {
		if flags&s.set != 0 {
			*s.at = s.given
		}
		if flags&s.setNow != 0 {
			*s.at = p.clock(clockReal)
		}
	}
	n.times = &t
	return ok
}

// putStat writes the metadata of a file: what programs may rely on is real,
// the rest is fixed.
func (p *Process) putStat(n *inode, ptr uint64) Errno {
	if err := n.stat(); err != nil {
		return p.fail("stat", err)
	}
	b, e := p.bytes(ptr, 64)
	if e != ok {
		return e
	}
	links := uint64(1)
	if n.gone {
		links = 0
	}
	t := times{Epoch, Epoch}
	if n.times != nil {
		t = *n.times
	}
	for i, v := range [8]uint64{1, n.ino, uint64(n.kind), links, n.size, t.accessed, t.changed, Epoch} {
		binary.LittleEndian.PutUint64(b[8*i:], v)
	}
	return ok
}

func (p *Process) fdPrestatGet(a []uint64) Errno {
	f, e := p.fd(a[0])
	switch {
	case e != ok:
		return e
	case !f.preopen:
		return eBadf
	}
	b, e := p.bytes(a[1], 8)
	if e == ok {
		binary.LittleEndian.PutUint64(b, uint64(len(p.preopen))<<32) // a folder, and the length of its name
	}
	return e
}

func (p *Process) fdPrestatDirName(a []uint64) Errno {
	f, e := p.fd(a[0])
	switch {
	case e != ok:
		return e
	case !f.preopen:
		return eBadf
	case uint32(a[2]) < uint32(len(p.preopen)):
		return eNameTooLong
	}
	b, e := p.bytes(a[1], uint64(len(p.preopen)))
	copy(b, p.preopen)
	return e
}

// direntSize is the size of an entry of a listing before its name.
const direntSize = 24

func (p *Process) fdReaddir(a []uint64) Errno {
	f, e := p.fd(a[0])
	switch {
	case e != ok:
		return e
	case f.node.kind != typeDir:
		return eNotdir
	}
	b, e := p.bytes(a[1], a[2])
	if e != ok {
		return e
	}
	cookie := a[3]
	if cookie == 0 || f.list == nil {
		if f.list, e = p.listing(f.node); e != ok {
			return e
		}
	}
	if cookie > uint64(len(f.list)) {
		return eInval
	}
	size := len(b)
	for i := cookie; i < uint64(len(f.list)) && len(b) > 0; i++ {
		var head [direntSize]byte
		entry := f.list[i]
		binary.LittleEndian.PutUint64(head[0:], i+1)
		binary.LittleEndian.PutUint64(head[8:], entry.ino)
		binary.LittleEndian.PutUint32(head[16:], uint32(len(entry.name)))
		head[20] = byte(entry.kind)
		b = b[copy(b, head[:]):]
		b = b[copy(b, entry.name):]
	}
	return p.put32(a[4], uint32(size-len(b)))
}

func (p *Process) listing(n *inode) ([]entry, Errno) {
	if err := p.load(n); err != nil {
		return nil, p.fail("read folder", err)
	}
	up := n
	if n.parent != nil {
		up = n.parent
	}
	list := []entry{{".", n.ino, typeDir}, {"..", up.ino, typeDir}}
	for _, name := range n.names() {
		child := n.children[name]
		list = append(list, entry{name, child.ino, child.kind})
	}
	return list, ok
}
