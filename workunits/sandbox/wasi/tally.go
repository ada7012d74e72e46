package wasi

import (
	"fmt"
	"path"
	"strings"
)

// Tally counts what a program asked for. It is the same on every machine.
type Tally struct {
	Calls   uint64 `cbor:"calls"`   // of the functions of the interface
	Read    uint64 `cbor:"read"`    // bytes of files
	Written uint64 `cbor:"written"` // bytes, those to standard output and error included
	Dropped uint64 `cbor:"dropped"` // of these, bytes of standard error over its limit
}

// Tally is what the program has asked for so far.
func (p *Process) Tally() Tally { return p.tally }

// count counts a call, and ends the program at one too many.
func (p *Process) count() bool {
	p.tally.Calls++
	if p.calls == 0 || p.tally.Calls <= p.calls {
		return true
	}
	p.end(Stop{Kind: StopCalls, Detail: fmt.Sprintf("more than %d host calls", p.calls)})
	return false
}

// refused is a path that the program could not open.
type refused struct {
	path     string // from the top
	readOnly bool   // something is there, or could be, but for reading alone
}

// refuse remembers the last path that could not be opened, which is what most
// programs fail for that fail.
func (p *Process) refuse(num, ptr, n uint64, e Errno) {
	if e != eNoent && e != eRofs {
		return
	}
	dir, e1 := p.fd(num)
	text, e2 := p.text(ptr, n)
	if e1 == ok && e2 == ok {
		p.refusal = &refused{path.Join(dir.node.guestPath(), text), e == eRofs}
	}
}

// Refusal says for people which path the program could not open last, and what
// there is instead; empty if it opened all that it asked for.
func (p *Process) Refusal() string {
	if p.refusal == nil {
		return ""
	}
	name := "/" + p.refusal.path
	if p.refusal.readOnly {
		return name + " cannot be written: results go to /out, other files to /scratch"
	}
	dir := p.top
	for part := range strings.SplitSeq(p.refusal.path, "/") {
		child := dir.children[part]
		if child == nil || child.kind != typeDir {
			break
		}
		dir = child
	}
	if p.load(dir) != nil {
		return name + " is not there"
	}
	const most = 12
	names := dir.names()
	more := ""
	if len(names) > most {
		names, more = names[:most], ", ..."
	}
	where := "/" + dir.guestPath()
	if len(names) == 0 {
		return fmt.Sprintf("%s is not there, and %s is empty", name, where)
	}
	return fmt.Sprintf("%s is not there; in %s there is %s%s", name, where, strings.Join(names, ", "), more)
}
