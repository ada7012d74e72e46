package verdict

import (
	"cmp"
	"slices"

	"github.com/talka-grid/talka/workunits"
)

func (s *snapshot) grant(r ref, v **grant) {
	if s.reading {
		*v = s.b.grantAt(r)
	}
	g := *v
	s.said(&g.expiry)
	if s.bool(&g.known); g.known {
		number(&s.coder, &g.life)
		s.digest(&g.hash)
		x := &g.body
		s.node(&x.To)
		s.ascending(&x.Units)
		s.digest(&x.Inputs)
		s.uint(&x.Lease)
		list(&s.coder, &x.Custodians, s.node)
		text(&s.coder, &x.Arch)
		s.bool(&x.Canonical)
	}
	if s.reading {
		if g.known {
			g.by = s.b.author(r.Author)
		}
		s.b.endings(g)
	}
}

func (s *snapshot) commit(r ref, v **commit) {
	if s.reading {
		*v = s.b.commitAt(r)
	}
	c := *v
	if s.bool(&c.known); c.known {
		s.digest(&c.hash)
		s.bool(&c.surplus)
		s.commitBody(&c.body)
		if s.reading {
			c.by, c.grant = s.b.author(r.Author), s.b.grantAt(c.body.Grant)
			c.grant.naming = append(c.grant.naming, c)
			s.b.lived(c)
		}
		s.openings(c)
	}
	slices.SortFunc(c.marks, func(x, y mark) int { return x.id.Compare(y.id) })
	list(&s.coder, &c.marks, func(m *mark) { s.mark(c, m) })
	slices.SortFunc(c.early, func(x, y early) int { return compareRefs(*x.at, *y.at) })
	list(&s.coder, &c.early, func(e *early) {
		s.opening(&e.at)
		list(&s.coder, &e.units, func(o *workunits.OpenUnit) {
			number(&s.coder, &o.Unit)
			s.fixed(o.Nonce[:])
			s.result(&o.Result)
		})
	})
}

func (s *snapshot) commitBody(x *workunits.Commit) {
	s.ref(&x.Grant)
	s.digest(&x.Bound)
	s.ascending(&x.Units)
	list(&s.coder, &x.Hashes, s.digest)
	list(&s.coder, &x.Void, func(v *workunits.VoidUnit) { number(&s.coder, &v.Unit); text(&s.coder, &v.Reason) })
	list(&s.coder, &x.Sealed, func(v *workunits.Sealed) { s.node(&v.To); s.bytes(&v.Data) })
	s.uint(&x.Millis)
	s.bytes(&x.Trace)
}

// result codes a result, which mostly is a digest alone.
func (s *snapshot) result(r *workunits.Result) {
	s.digest(&r.Digest)
	raw := []byte(nil)
	if !s.reading && (r.Storage != nil || r.Encryption != "") {
		raw = workunits.Encode(*r)
	}
	if s.bytes(&raw); s.reading && len(raw) > 0 {
		x, err := workunits.Decode[workunits.Result](raw, len(raw))
		if *r = x; err != nil {
			s.err = err
		}
	}
}

// openings codes what openings of a commit gave.
func (s *snapshot) openings(c *commit) {
	n := s.size(len(c.opened))
	if s.reading && n > 0 {
		if n != len(c.body.Units) {
			s.err = errSnapshot
			return
		}
		c.opened = make([]opened, n)
	}
	for i := range n {
		o := &c.opened[i]
		is := o.first != nil
		if s.bool(&is); !is {
			continue
		}
		s.opening(&o.first)
		slices.SortFunc(o.more, func(x, y *ref) int { return compareRefs(*x, *y) })
		list(&s.coder, &o.more, s.opening)
		s.digest(&o.digest)
		for _, at := range append([]*ref{o.first}, o.more...) {
			s.resultAt(storedAt{at, c.body.Units[i]})
		}
		if s.reading {
			c.open++
		}
	}
}

// resultAt codes the result that an opening names, if that is more than a digest.
func (s *snapshot) resultAt(at storedAt) {
	r, more := s.b.stored[at]
	if s.bool(&more); !more {
		return
	}
	if s.result(&r); s.reading {
		s.b.stored[at] = r
	}
}

func (s *snapshot) mark(c *commit, m *mark) {
	s.author(&m.author)
	if s.bool(&m.got); m.got {
		s.uint(&m.receipt)
		number(&s.coder, &m.index)
		same := m.hash == c.hash
		if s.bool(&same); same {
			m.hash = c.hash
		} else {
			s.digest(&m.hash)
		}
	}
	if s.bool(&m.drew); m.drew {
		s.uint(&m.draw)
		number(&s.coder, &m.drawn)
		s.digest(&m.value)
		s.rare(&m.head)
		s.uint(&m.anchor)
		s.node(&m.with)
		if s.reading && !m.head.IsZero() {
			h := s.b.headAt(m.head)
			h.needed = append(h.needed, c)
		}
	}
}

// pages codes every page with what it is called by.
func (s *snapshot) pages() {
	n := 0
	for i := range s.b.pages {
		if p := &s.b.pages[i]; p.units != nil || p.packed != nil {
			n++
		}
	}
	n = s.size(n)
	for i := 0; i < len(s.b.pages) && n > 0; i++ {
		p := &s.b.pages[i]
		some := p.units != nil || p.packed != nil
		if s.bool(&some); !some {
			continue
		}
		n--
		var raw []byte
		if !s.reading {
			raw = s.b.pack(i)
		}
		size := s.size(len(raw))
		if s.reading {
			p.packed = s.take(uint64(size))
		} else {
			s.coder.b = append(s.coder.b, raw...)
		}
		s.summary(&p.summary)
	}
	if n > 0 {
		s.err = errSnapshot
	}
}

func (s *snapshot) summary(x *summary) {
	if s.bool(&x.settled); x.settled {
		number(&s.coder, &x.failed)
		s.authors(&x.keepers)
		s.float(&x.sum)
		number(&s.coder, &x.doubts.units)
		number(&s.coder, &x.copies)
	}
}

// page codes the units of a page. Those of a batch have most in common: what is as with
// the unit before takes a byte.
func (s *snapshot) page(i int) {
	var last unit
	units := s.b.pages[i].units
	for u := range units {
		r := &units[u]
		some := r.named || len(r.kept) > 0 // what is kept may be said first
		if s.bool(&some); !some {
			continue
		}
		s.bool(&r.named)
		number(&s.coder, &r.state)
		s.rare(&r.result)
		slices.SortFunc(r.grants, func(x, y *grant) int { return compareRefs(x.ref, y.ref) })
		slices.SortFunc(r.kept, func(x, y keeper) int {
			return cmp.Or(x.by.id.Compare(y.by.id), compareRefs(*x.opening, *y.opening))
		})
		repeated(&s.coder, &r.commits, &last.commits, s.commitOf)
		repeated(&s.coder, &r.grants, &last.grants, s.grantOf)
		repeated(&s.coder, &r.kept, &last.kept, func(k *keeper) { s.author(&k.by); s.opening(&k.opening) })
		repeated(&s.coder, &r.credit, &last.credit, s.lifeOf)
	}
}

// repeated is list for what often is as it was in the last one.
func repeated[T comparable](c *coder, v, last *[]T, one func(*T)) {
	same := slices.Equal(*v, *last)
	c.bool(&same)
	if !same {
		list(c, v, one)
	} else if c.reading {
		*v = slices.Clone(*last)
	}
	*last = *v
}
