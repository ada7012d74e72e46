package wasi

// Confine makes /scratch the whole tree, under a name: what public tests of
// conformance expect is one preopened folder in which a program may do everything.
// Units are never confined. To be called before the program's first call.
func (p *Process) Confine(name string) {
	p.preopen = name
	p.top = p.top.children["scratch"]
	p.top.parent, p.top.name = nil, ""
	p.fds[3].node.opens--
	p.fds[3].node = p.top
	p.top.opens++
}
