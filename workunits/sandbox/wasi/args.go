package wasi

func (p *Process) argsGet(a []uint64) Errno      { return p.putBlock(p.args, a[0], a[1]) }
func (p *Process) argsSizesGet(a []uint64) Errno { return p.putSizes(p.args, a[0], a[1]) }
func (p *Process) environGet(a []uint64) Errno   { return p.putBlock(p.env, a[0], a[1]) }

func (p *Process) environSizesGet(a []uint64) Errno { return p.putSizes(p.env, a[0], a[1]) }

func (p *Process) putSizes(list [][]byte, count, size uint64) Errno {
	sum := 0
	for _, s := range list {
		sum += len(s)
	}
	if e := p.put32(count, uint32(len(list))); e != ok {
		return e
	}
	return p.put32(size, uint32(sum))
}

// putBlock writes the strings one after the other from ptr on, and the address
// of each from ptrs on.
func (p *Process) putBlock(list [][]byte, ptrs, ptr uint64) Errno {
	for i, s := range list {
		b, e := p.bytes(ptr, uint64(len(s)))
		if e != ok {
			return e
		}
		copy(b, s)
		if e := p.put32(ptrs+4*uint64(i), uint32(ptr)); e != ok {
			return e
		}
		ptr += uint64(len(s))
	}
	return ok
}
