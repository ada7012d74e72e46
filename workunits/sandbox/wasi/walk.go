package wasi

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

// place is where a path leads: a folder, the last name in it, and what stands
// there, nil for nothing.
type place struct {
	dir  *inode
	name string // empty: the path leads to dir itself
	node *inode
	must bool // a trailing slash: it has to be a folder
}

// text reads a path from the program's memory.
func (p *Process) text(ptr, n uint64) (string, Errno) {
	if uint32(n) > MaxPath {
		return "", eNameTooLong
	}
	b, e := p.bytes(ptr, n)
	switch {
	case e != ok:
		return "", e
	case !utf8.Valid(b) || strings.ContainsFunc(string(b), unicode.IsControl):
		return "", eIlseq
	}
	return string(b), ok
}

// lookup resolves the path at ptr from a folder's descriptor.
func (p *Process) lookup(num, ptr, n uint64, follow bool) (at place, e Errno) {
	f, e := p.fd(num)
	if e != ok {
		return at, e
	}
	if f.node.kind != typeDir {
		return at, eNotdir
	}
	text, e := p.text(ptr, n)
	if e != ok {
		return at, e
	}
	return p.walk(f.node, text, follow)
}

// walker resolves one path. Nothing above floor is reachable.
type walker struct {
	p       *Process
	floor   *inode
	at      *inode
	todo    []string // components still to go, the next one last
	links   int
	follow  bool // the last component too
	trailed bool
}

func (p *Process) walk(from *inode, text string, follow bool) (place, Errno) {
	switch {
	case text == "":
		return place{}, eNoent
	case text[0] == '/':
		return place{}, ePerm
	case from.gone:
		return place{}, eNoent
	}
	w := walker{p: p, floor: from, at: from, follow: follow, trailed: strings.HasSuffix(text, "/")}
	w.push(text)
	return w.run()
}

func (w *walker) push(text string) {
	parts := strings.Split(text, "/")
	for i := len(parts) - 1; i >= 0; i-- {
		if parts[i] != "" && parts[i] != "." {
			w.todo = append(w.todo, parts[i])
		}
	}
}

func (w *walker) run() (place, Errno) {
	for len(w.todo) > 0 {
		name := w.todo[len(w.todo)-1]
		w.todo = w.todo[:len(w.todo)-1]
		last := len(w.todo) == 0
		if name == ".." {
			if w.at == w.floor {
				return place{}, ePerm
			}
			w.at = w.at.parent
			continue
		}
		if len(name) > MaxName {
			return place{}, eNameTooLong
		}
		if err := w.p.load(w.at); err != nil {
			return place{}, w.p.fail("read folder", err)
		}
		child := w.at.children[name]
		switch {
		case child == nil && last:
			return place{dir: w.at, name: name, must: w.trailed}, ok
		case child == nil:
			return place{}, eNoent
		case child.kind == typeSymlink && (!last || w.follow || w.trailed):
			if e := w.link(child); e != ok {
				return place{}, e
			}
		case child.kind == typeDir && !last:
			w.at = child
		case !last:
			return place{}, eNotdir
		case w.trailed && child.kind != typeDir:
			return place{}, eNotdir
		default:
			return place{dir: w.at, name: name, node: child, must: w.trailed}, ok
		}
	}
	return place{dir: w.at, node: w.at}, ok
}

// link goes on with the target of a symbolic link, read as a path of the
// program's tree.
func (w *walker) link(n *inode) Errno {
	if w.links++; w.links > maxLinks {
		return eLoop
	}
	if !utf8.ValidString(n.target) || n.target == "" || len(n.target) > MaxPath {
		return eNoent
	}
	if n.target[0] == '/' {
		if w.floor.parent != nil {
			return ePerm
		}
		w.at = w.floor
	}
	w.push(n.target)
	return ok
}
