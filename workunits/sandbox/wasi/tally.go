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

// Refusal is the last path that a program could not open, which is what most
// programs fail for that fail. It is for people.
type Refusal struct {
	Path     string   `cbor:"path" json:"path"`          // from "/"; empty: all were opened
	ReadOnly bool     `cbor:"readonly" json:"read_only"` // there is something, or could be, but for reading alone
	In       string   `cbor:"in" json:"in"`              // else the last folder on the way that there is
	Names    []string `cbor:"names" json:"names"`        // and what lies there, the beginning
	More     bool     `cbor:"more" json:"more"`          // names are left out
}

const maxRefusalNames = 12

// refused remembers a path that could not be opened.
func (p *Process) refused(num, ptr, n uint64, e Errno) {
	if e != eNoent && e != eRofs {
		return
	}
	dir, e1 := p.fd(num)
	text, e2 := p.text(ptr, n)
	if e1 == ok && e2 == ok {
		p.refusal = Refusal{Path: "/" + path.Join(dir.node.guestPath(), text), ReadOnly: e == eRofs}
	}
}

// Refusal answers what the program could not open last.
func (p *Process) Refusal() Refusal {
	r := p.refusal
	if r.Path == "" || r.ReadOnly {
		return r
	}
	dir := p.top
	for part := range strings.SplitSeq(r.Path[1:], "/") {
		child := dir.children[part]
		if child == nil || child.kind != typeDir || p.load(child) != nil {
			break
		}
		dir = child
	}
	r.In, r.Names = "/"+dir.guestPath(), dir.names()
	if len(r.Names) > maxRefusalNames {
		r.Names, r.More = r.Names[:maxRefusalNames], true
	}
	return r
}

// String says it in a sentence.
func (r Refusal) String() string {
	switch {
	case r.Path == "":
		return ""
	case r.ReadOnly:
		return r.Path + " cannot be written: results go to /out, other files to /scratch"
	case len(r.Names) == 0:
		return fmt.Sprintf("%s is not there, and %s is empty", r.Path, r.In)
	}
	more := ""
	if r.More {
		more = ", ..."
	}
	return fmt.Sprintf("%s is not there; in %s there is %s%s", r.Path, r.In, strings.Join(r.Names, ", "), more)
}
