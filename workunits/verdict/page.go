package verdict

import "slices"

// Bounds on pages, whatever a job's shards are.
const (
	maxRun   = 1 << 10 // units of a page, in jobs that have not more pages for it
	maxPages = 1 << 14
)

// page is the records of a shard's units, or of a part of it; they are made when a
// statement names one. Where all are settled, and nothing was said of them for a while,
// they are kept as they are encoded until somebody needs one: that is a fraction of the
// room.
type page struct {
	units   []unit // nil: there are none, or they are in packed
	packed  []byte // nil: there are none, or units changed since
	changed bool   // since the last snapshot
	summary
}

// makePages makes the pages of a job.
func (b *Book) makePages() {
	for b.run = min(max(b.manifest.Shard, 1), maxRun); b.total/b.run >= maxPages; b.run *= 2 {
	}
	b.pages = make([]page, (b.total+b.run-1)/b.run)
}

// first and end are the first unit of a page and the first after it.
func (b *Book) first(i int) uint32 { return uint32(i) * b.run }
func (b *Book) end(i int) uint32   { return uint32(min(uint64(i+1)*uint64(b.run), uint64(b.total))) }

// summary is what is asked most about a page that is packed.
type summary struct {
	settled bool      // all its units are accepted or have failed
	failed  int       // so many of them
	keepers []*author // of all its results
	doubts
}

// doubts are those of accepted units, see Bound.
type doubts struct {
	sum           float64
	units, copies int
}

// unit is the record of a unit that the job has, to be changed.
func (b *Book) unit(u uint32) *unit {
	p := b.page(u)
	if p.units == nil {
		p.units = b.empty(u)
	}
	p.packed, p.changed = nil, true
	return &p.units[u%b.run]
}

// empty is units of the page that a unit is in, before anything is known of them.
func (b *Book) empty(u uint32) []unit {
	i := int(u / b.run)
	return make([]unit, b.end(i)-b.first(i))
}

// look is unit for those who only read; it may be shared.
func (b *Book) look(u uint32) *unit {
	if u >= b.total {
		return &b.none
	}
	p := b.page(u)
	if p.units == nil {
		return &b.none
	}
	return &p.units[u%b.run]
}

// page is the page of a unit, unpacked.
func (b *Book) page(u uint32) *page {
	p := &b.pages[u/b.run]
	if p.units == nil && p.packed != nil {
		b.unpack(int(u / b.run))
	}
	return p
}

// still reports whether a page has no units at hand that are not settled: none at all, or
// those that are packed.
func (p *page) still() bool { return p.units == nil && (p.packed == nil || p.settled) }

// asleep reports whether a unit is in a page that is packed and settled.
func (b *Book) asleep(u uint32) (p *page, asleep bool) {
	if u >= b.total {
		return nil, false
	}
	p = &b.pages[u/b.run]
	return p, p.packed != nil && p.still()
}

// summarise looks at all units of a page, if they are settled.
func (b *Book) summarise(i int) (s summary) {
	for u := b.first(i); u < b.end(i); u++ {
		switch b.look(u).state {
		case Accepted:
		case Failed:
			s.failed++
		default:
			return summary{}
		}
	}
	s.settled, s.doubts = true, b.doubtsIn(i)
	for u := b.first(i); u < b.end(i); u++ {
		r := b.look(u)
		if r.state != Accepted {
			continue
		}
		keeping := b.keeping(u, r.result)
		if s.keepers == nil {
			s.keepers = append([]*author{}, keeping...)
		}
		s.keepers = slices.DeleteFunc(s.keepers, func(a *author) bool { return !slices.Contains(keeping, a) })
	}
	return s
}

// doubtsIn adds up the doubts in a page.
func (b *Book) doubtsIn(i int) (d doubts) {
	if p := &b.pages[i]; p.still() {
		return p.doubts
	}
	for u := b.first(i); u < b.end(i); u++ {
		if b.look(u).state == Accepted {
			doubt, copies := b.doubt(u)
			d.sum, d.units, d.copies = d.sum+doubt, d.units+1, d.copies+copies
		}
	}
	return d
}

// pack encodes a page, and lets go of its units if they are settled and did not
// change for a while.
func (b *Book) pack(i int) []byte {
	p := &b.pages[i]
	raw := p.packed
	if raw == nil {
		p.summary = b.summarise(i)
		s := snapshot{b: b}
		s.page(i)
		raw = s.coder.b
	}
	if p.settled {
		p.packed = raw
		if !p.changed {
			p.units = nil
		}
	}
	p.changed = false
	return raw
}

// unpack is the inverse of pack. What it reads this book wrote.
func (b *Book) unpack(i int) {
	s := snapshot{coder: coder{b: b.pages[i].packed, reading: true}, b: b}
	b.pages[i].units = b.empty(b.first(i))
	if s.page(i); s.err != nil {
		panic(s.err)
	}
}

// Unsettled lists the units that statements name and that are neither accepted nor
// have failed, ascending.
func (b *Book) Unsettled() (units []uint32) {
	b.settle()
	for i := range b.pages {
		if b.pages[i].still() {
			continue
		}
		for u := b.first(i); u < b.end(i); u++ {
			if r := b.look(u); r.named && r.state != Accepted && r.state != Failed {
				units = append(units, u)
			}
		}
	}
	return units
}

// State is the state of Unit(u), at less cost.
func (b *Book) State(u uint32) State {
	b.settle()
	if p, asleep := b.asleep(u); asleep && p.failed == 0 {
		return Accepted
	}
	return b.look(u).state
}
