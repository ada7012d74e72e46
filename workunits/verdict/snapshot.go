package verdict

import (
	"cmp"
	"fmt"
	"maps"
	"slices"

	"github.com/talka-grid/talka/workunits"
)

// snapshotVersion is to change with what snapshots say.
const snapshotVersion = 1

// Snapshot encodes all that the book knows, so that a restart need not read a million
// statements again. Books of equal statements have equal snapshots. What is settled and
// was so at the last one is kept encoded from then on, see page.
func (b *Book) Snapshot() []byte {
	b.settle()
	s := snapshot{b: b}
	s.book()
	return s.coder.b
}

// Restore is the book of which Snapshot is an encoding: of the same job with the same
// standing. The caller knows that nobody changed it. It keeps the snapshot.
func Restore(job workunits.JobID, m workunits.Manifest, standing workunits.StakeTable, raw []byte) (*Book, error) {
	b := NewWith(job, m, standing)
	b.named, b.counts, b.dirty = 0, [4]int{}, nil
	b.makePages()
	s := snapshot{coder: coder{b: raw, reading: true}, b: b}
	s.book()
	if s.err == nil && len(s.coder.b) > 0 {
		s.err = errSnapshot
	}
	if s.err != nil {
		return nil, fmt.Errorf("snapshot of job %s: %w", job, s.err)
	}
	b.touch(b.Unsettled()) // for their views
	b.settle()
	return b, nil
}

// Known is how many statements of each author the book has read.
func (b *Book) Known() map[workunits.NodeID]uint64 {
	known := map[node]uint64{}
	for n, a := range b.authors {
		if a.read > 0 {
			known[n] = a.read
		}
	}
	return known
}

// snapshot writes a book or reads it, see coder. Lists whose order says nothing are
// sorted where they are.
type snapshot struct {
	coder
	b *Book
}

// book codes everything. What others refer to comes before them.
func (s *snapshot) book() {
	b := s.b
	version := uint64(snapshotVersion)
	if s.uint(&version); version != snapshotVersion {
		s.err = fmt.Errorf("%w: version %d", errSnapshot, version)
	}
	text(&s.coder, &b.home)
	list(&s.coder, &b.list, func(x *workunits.Steward) { s.node(&x.Node); s.fixed(x.Enc[:]) })
	for _, n := range []*int{&b.keepers, &b.named, &b.counts[Open], &b.counts[Pending], &b.counts[Accepted], &b.counts[Failed], &b.copies} {
		number(&s.coder, n)
	}
	number(&s.coder, &b.stage.state)
	s.rare(&b.stage.inputs)
	s.bool(&b.stage.stale)
	s.bool(&b.collected)
	optional(&s.coder, &b.seal, func(x *workunits.Seal) {
		number(&s.coder, &x.Accepted)
		number(&s.coder, &x.Failed)
		s.digest(&x.Results)
		s.digest(&x.Head)
	})
	optional(&s.coder, &b.cancelled, func(x *workunits.Cancel) { text(&s.coder, &x.Reason) })
	table(&s.coder, b.retries, cmp.Compare[uint32], s.index, func(_ uint32, n *int) { number(&s.coder, n) })
	table(&s.coder, b.authors, node.Compare, s.node, s.authorAt)
	for _, a := range s.sorted() {
		s.about(a)
	}
	table(&s.coder, b.heads, compareDigests, s.digest, s.head)
	table(&s.coder, b.grants, compareRefs, s.ref, s.grant)
	table(&s.coder, b.commits, compareRefs, s.ref, s.commit)
	table(&s.coder, b.alone, cmp.Compare[uint32], s.index, func(_ uint32, x *lone) {
		s.author(&x.by)
		s.float(&x.lot)
		s.bool(&x.waits)
	})
	table(&s.coder, b.answers, comparePairs, s.pair, s.answers)
	table(&s.coder, b.disputed, cmp.Compare[uint32], s.index, s.dispute)
	s.pages()
}

// index codes what maps are keyed by: units, and the numbers of chains.
func (s *snapshot) index(n *uint32) { number(&s.coder, n) }

func compareAuthors(x, y *author) int { return x.id.Compare(y.id) }

func compareDigests(x, y digest) int { return slices.Compare(x[:], y[:]) }

func comparePairs(x, y pair) int {
	return cmp.Or(cmp.Compare(x.unit, y.unit), compareDigests(x.a, y.a), compareDigests(x.b, y.b))
}

// optional codes what may be nil.
func optional[T any](c *coder, v **T, one func(*T)) {
	some := *v != nil
	if c.bool(&some); !some {
		return
	}
	if c.reading {
		*v = new(T)
	}
	one(*v)
}

// table codes a map in the order of its keys.
func table[K comparable, V any](c *coder, m map[K]V, compare func(x, y K) int, key func(*K), value func(K, *V)) {
	keys := slices.SortedFunc(maps.Keys(m), compare)
	for i, n := 0, c.size(len(keys)); i < n && c.err == nil; i++ {
		var k K
		if !c.reading {
			k = keys[i]
		}
		key(&k)
		v := m[k]
		if value(k, &v); c.reading {
			m[k] = v
		}
	}
}

// sorted lists all authors.
func (s *snapshot) sorted() []*author {
	return slices.SortedFunc(maps.Values(s.b.authors), compareAuthors)
}

// author codes whom something is of.
func (s *snapshot) author(a **author) {
	var n node
	if !s.reading {
		n = (*a).id
	}
	if s.node(&n); s.reading {
		*a = s.b.author(n)
	}
}

func (s *snapshot) authors(l *[]*author) {
	slices.SortFunc(*l, compareAuthors)
	list(&s.coder, l, s.author)
}

// authorAt codes nothing but that there is such an author; about is what is known of it.
func (s *snapshot) authorAt(n node, a **author) {
	if s.reading {
		*a = s.b.author(n)
	}
}

func (s *snapshot) about(a *author) {
	s.uint(&a.read)
	optional(&s.coder, &a.identity, func(id *workunits.Identity) {
		s.fixed(id.Enc[:])
		s.digest(&id.Anchor)
		number(&s.coder, &id.Length)
		text(&s.coder, &id.Arch)
		s.bytes(&id.Proof)
	})
	number(&s.coder, &a.chain.index)
	s.rare(&a.chain.value)
	for _, f := range []*bool{&a.listed, &a.forked, &a.badDraw, &a.cheap, &a.free, &a.jobKept} {
		s.bool(f)
	}
	s.authors(&a.gone)
	s.authors(&a.owing)
	if s.reading {
		a.anchors = map[uint32]anchor{}
	}
	table(&s.coder, a.anchors, cmp.Compare[uint32], s.index, func(_ uint32, x *anchor) {
		s.digest(&x.value)
		s.uint(&x.at)
	})
	list(&s.coder, &a.faulted, func(f *fault) { s.uint(&f.seq); s.node(&f.against) })
	list(&s.coder, &a.stated, func(x *stated) { s.uint(&x.seq); s.headOf(&x.head) })
	number(&s.coder, &a.missing)
	n := s.size(len(a.lives))
	for i := range n {
		s.aLife(a.life(i))
	}
}

func (s *snapshot) aLife(l *life) {
	number(&s.coder, &l.credit)
	if number(&s.coder, &l.burned); l.burned > 0 && s.reading {
		s.b.burned[l] = true
	}
	if s.reading {
		l.party, l.loses = map[uint32]*commit{}, map[uint32]int{}
	}
	table(&s.coder, l.loses, cmp.Compare[uint32], s.index, func(_ uint32, n *int) { number(&s.coder, n) })
	table(&s.coder, l.party, cmp.Compare[uint32], s.index, func(_ uint32, c **commit) { s.commitOf(c) })
	first := l.first != nil
	if s.bool(&first); first {
		s.commitOf(&l.first)
	}
}

// lifeOf codes whose life something is of.
func (s *snapshot) lifeOf(l **life) {
	var a *author
	n := 0
	if !s.reading {
		a, n = (*l).by, (*l).number
	}
	s.author(&a)
	if number(&s.coder, &n); s.reading && n < len(a.lives) {
		*l = a.lives[n]
	} else if s.reading {
		*l, s.err = a.life(0), errSnapshot
	}
}

// commitOf, grantOf and headOf code a reference to what comes later.
func (s *snapshot) commitOf(c **commit) {
	var r ref
	if !s.reading {
		r = (*c).ref
	}
	if s.ref(&r); s.reading {
		*c = s.b.commitAt(r)
	}
}

func (s *snapshot) grantOf(g **grant) {
	var r ref
	if !s.reading {
		r = (*g).ref
	}
	if s.ref(&r); s.reading {
		*g = s.b.grantAt(r)
	}
}

func (s *snapshot) headOf(h **head) {
	var d digest
	if !s.reading {
		d = (*h).id
	}
	if s.digest(&d); s.reading {
		*h = s.b.headAt(d)
	}
}

// said codes places in logs.
func (s *snapshot) said(l *[]by) {
	slices.SortFunc(*l, func(x, y by) int { return cmp.Or(x.id.Compare(y.id), cmp.Compare(x.seq, y.seq)) })
	list(&s.coder, l, func(x *by) { s.author(&x.author); s.uint(&x.seq) })
}

func (s *snapshot) head(d digest, h **head) {
	if s.reading {
		*h = s.b.headAt(d)
	}
	x := *h
	s.said(&x.by)
	list(&s.coder, &x.credit, func(c *credit) { s.node(&c.node); s.uint(&c.copies) })
	s.float(&x.bar)
}

func (s *snapshot) opening(o **ref) {
	var r ref
	if !s.reading {
		r = **o
	}
	if s.ref(&r); s.reading {
		*o = s.b.openingAt(r)
	}
}

func (s *snapshot) answers(_ pair, l *[]answer) {
	slices.SortFunc(*l, func(x, y answer) int { return x.by.id.Compare(y.by.id) })
	list(&s.coder, l, func(x *answer) { s.author(&x.by); s.bool(&x.equal) })
}

func (s *snapshot) pair(p *pair) {
	number(&s.coder, &p.unit)
	s.digest(&p.a)
	s.digest(&p.b)
}

func (s *snapshot) dispute(_ uint32, d **dispute) {
	if s.reading {
		*d = &dispute{}
	}
	list(&s.coder, &(*d).parties, s.lifeOf)
}
