package chunkstore

import (
	"context"
	"fmt"
	"slices"

	"github.com/ipfs/boxo/ipld/merkledag"
	"github.com/ipfs/boxo/ipld/unixfs"
	blocks "github.com/ipfs/go-block-format"
	"github.com/ipfs/go-cid"
	ipld "github.com/ipfs/go-ipld-format"
)

// Scope is how much of what a path leads to is selected.
type Scope int

// The scopes, as those of dag-scope in
// https://specs.ipfs.tech/http-gateways/trustless-gateway/.
const (
	ScopeAll    Scope = iota // it and all below
	ScopeEntity              // a file, or a folder without what is in it
	ScopeBlock               // its first chunk
)

// Range is bytes of a file, the first and the last. Those below zero count from its
// end: -1 is the last byte.
type Range struct{ From, To int64 }

// everything is all bytes of a file.
var everything = Range{0, -1}

// within is a range in a file of so many bytes; empty if From is above To.
func (r Range) within(size int64) Range {
	if r.From < 0 {
		r.From = max(r.From+size, 0)
	}
	if r.To < 0 {
		r.To += size
	}
	r.To = min(r.To, size-1)
	return r
}

// Selection is a part of what is below a root: the chunks that lead along a path of
// names to a file or folder, and of that as much as Scope says. The zero value is all.
type Selection struct {
	Path  []string
	Scope Scope
	Bytes *Range // of a file, whose Scope is ScopeEntity then; nil: all of them
}

// First is the step to what the path of a selection leads to.
func (s Selection) First(c cid.Cid) Step {
	first := Step{Cid: c, scope: s.Scope, bytes: everything}
	if s.Bytes != nil {
		first.scope, first.bytes = ScopeEntity, *s.Bytes
	}
	return first
}

// Step is a chunk of a selection, and how much is selected of what is below it. Equal
// steps have equal ones below them.
type Step struct {
	Cid   cid.Cid
	scope Scope
	bytes Range
}

// Below lists the steps from a chunk, which b is, to those that it refers to, in order.
// Of a file only two of them select less than all of what is below, so that few chunks
// are met in more than one way. The error wraps ErrForeign.
func (s Step) Below(b blocks.Block) ([]Step, error) {
	if s.Cid.Prefix().Codec != cid.DagProtobuf || s.scope == ScopeBlock {
		return nil, nil
	}
	if s.scope == ScopeAll {
		return s.links(b, func(string) bool { return true })
	}
	node, err := merkledag.DecodeProtobuf(b.RawData())
	if err != nil {
		return nil, fmt.Errorf("%s: %w: %w", s.Cid, ErrForeign, err)
	}
	shape, err := unixfs.FSNodeFromBytes(node.Data())
	if err != nil {
		return nil, nil //nolint:nilerr // of what is neither a file nor a folder the entity is one chunk
	}
	switch shape.Type() {
	case unixfs.TFile, unixfs.TRaw:
		if s.bytes == everything {
			return s.links(b, func(string) bool { return true })
		}
		return s.parts(b)
	case unixfs.THAMTShard: // names of other shards are a number alone
		digits := len(fmt.Sprintf("%X", shape.Fanout()-1))
		s.bytes = everything
		return s.links(b, func(name string) bool { return len(name) == digits })
	}
	return nil, nil
}

// links are the steps to what is below that has such a name.
func (s Step) links(b blocks.Block, named func(string) bool) (list []Step, err error) {
	node, err := merkledag.DecodeProtobuf(b.RawData())
	if err != nil {
		return nil, fmt.Errorf("%s: %w: %w", b.Cid(), ErrForeign, err)
	}
	for _, l := range node.Links() {
		if named(l.Name) {
			list = append(list, Step{l.Cid, s.scope, s.bytes})
		}
	}
	return list, nil
}

// parts are the steps to the parts of a file in which selected bytes are.
func (s Step) parts(b blocks.Block) (list []Step, err error) {
	file, err := ParseFile(b)
	if err != nil {
		return nil, err
	}
	want, at := s.bytes.within(file.Size), int64(len(file.Bytes))
	for _, p := range file.Parts {
		in := Range{max(want.From-at, 0), min(want.To-at, p.Size-1)}
		if in.From <= in.To {
			if in == everything.within(p.Size) || p.Cid.Prefix().Codec != cid.DagProtobuf {
				in = everything
			}
			list = append(list, Step{p.Cid, ScopeEntity, in})
		}
		at += p.Size
	}
	return list, nil
}

// walk visits what a step leads to and all that it selects below, parents first, in the
// order of links; a chunk that is met in several ways more than once. Nodes that are
// not here or malformed are errors; leaves are for visit to look at.
func (s *Store) walk(ctx context.Context, first Step, visit func(cid.Cid) error) error {
	seen := map[Step]bool{}
	for todo := []Step{first}; len(todo) > 0; {
		at := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if seen[at] {
			continue
		}
		seen[at] = true
		if err := visit(at.Cid); err != nil {
			return err
		}
		if at.Cid.Prefix().Codec != cid.DagProtobuf {
			continue
		}
		b, err := s.Get(ctx, at.Cid)
		if err != nil {
			return err
		}
		below, err := at.Below(b)
		if err != nil {
			return err
		}
		for _, next := range slices.Backward(below) {
			if !seen[next] {
				todo = append(todo, next)
			}
		}
		if len(seen)+len(todo) > maxVisits {
			return errVisits
		}
	}
	return nil
}

// selected visits the chunks of a selection, each once, in the order of walk.
func (s *Store) selected(ctx context.Context, root cid.Cid, sel Selection, visit func(cid.Cid) error) error {
	met := map[cid.Cid]bool{}
	once := func(c cid.Cid) error {
		if met[c] {
			return nil
		}
		met[c] = true
		return visit(c)
	}
	for _, name := range sel.Path {
		dag := &noting{DAGService: s.dag()}
		next, err := entry(ctx, dag, root, name)
		if err != nil {
			return err
		}
		for _, c := range dag.got {
			if err := once(c); err != nil {
				return err
			}
		}
		root = next
	}
	return s.walk(ctx, sel.First(root), once)
}

// noting notes which nodes are read. It is for one goroutine.
type noting struct {
	ipld.DAGService
	got []cid.Cid
}

func (n *noting) Get(ctx context.Context, c cid.Cid) (ipld.Node, error) {
	n.got = append(n.got, c)
	return n.DAGService.Get(ctx, c)
}
