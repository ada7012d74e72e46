package verdict

import (
	"cmp"
	"slices"

	"github.com/talka-grid/talka/workunits"
	"github.com/talka-grid/talka/workunits/ledger"
)

func (b *Book) amend(a *author, s workunits.Amendment) []uint32 {
	if a.id != b.manifest.Publisher {
		return nil
	}
	for _, s := range s.Stewards {
		known := slices.ContainsFunc(b.list, func(t workunits.Steward) bool { return t.Node == s.Node })
		if !known && len(b.list) < workunits.MaxStewards {
			b.list = append(b.list, s)
			x := b.author(s.Node)
			x.listed, x.free = true, x.free || b.manifest.Policy.Mode == workunits.VerifyNone
		}
	}
	b.keepers = b.wanted()
	for _, g := range b.grants {
		b.endings(g)
	}
	for _, a := range b.authors {
		a.missing = 0
	}
	for _, c := range b.commits {
		b.absent(c, 1)
	}
	return b.allNamed()
}

// allNamed lists the units that statements name.
func (b *Book) allNamed() (units []uint32) {
	for u := range b.total {
		if b.look(u).named {
			units = append(units, u)
		}
	}
	return units
}

func (b *Book) grantAt(r ref) *grant {
	g := b.grants[r]
	if g == nil {
		g = &grant{ref: r}
		b.grants[r] = g
	}
	return g
}

func (b *Book) grant(a *author, e ledger.Entry, s workunits.Grant) (units []uint32) {
	g := b.grantAt(e.Ref)
	g.known, g.by, g.hash, g.body = true, a, e.Hash, s
	for _, f := range a.faulted {
		if f.against == s.To {
			g.life = min(g.life+1, strikesOut)
		}
	}
	for _, u := range s.Units {
		if u < b.total {
			if r := b.unit(u); r.grantedBy(a.id) < maxGrants {
				r.grants = append(r.grants, g)
			}
		}
	}
	for _, c := range g.naming {
		b.lived(c)
		units = append(units, c.units()...)
	}
	return append(units, s.Units...)
}

func (b *Book) expire(a *author, e ledger.Entry, s workunits.Expiry) (units []uint32) {
	g := b.grantAt(s.Grant)
	g.expiry = append(g.expiry, by{a, e.Seq})
	b.endings(g)
	for _, c := range g.naming {
		units = append(units, c.units()...)
	}
	return append(units, g.body.Units...)
}

// endings works out whether the grant was given up: by its grantor, by the
// publisher, or by two other stewards.
func (b *Book) endings(g *grant) {
	g.ended = slices.ContainsFunc(g.expiry, func(x by) bool { return x.listed && x.id == g.Author }) ||
		b.word(g.expiry, func(by) bool { return true })
}

func (b *Book) retry(a *author, s workunits.Retry) []uint32 {
	if a.id != b.manifest.Publisher {
		return nil
	}
	for _, u := range s.Units {
		if u < b.total {
			b.retries[u]++
		}
	}
	return s.Units
}

func (b *Book) commitAt(r ref) *commit {
	c := b.commits[r]
	if c == nil {
		c = &commit{ref: r}
		b.commits[r] = c
	}
	return c
}

// units lists what a commit names, void copies included.
func (c *commit) units() []uint32 {
	units := c.body.Units
	for _, v := range c.body.Void {
		units = append(units[:len(units):len(units)], v.Unit)
	}
	return units
}

func (b *Book) commit(a *author, e ledger.Entry, s workunits.Commit) []uint32 {
	c := b.commitAt(e.Ref)
	b.absent(c, -1)
	c.known, c.by, c.hash, c.body = true, a, e.Hash, s
	c.grant = b.grantAt(s.Grant)
	c.grant.naming = append(c.grant.naming, c)
	units := c.units()
	b.copies += len(units)
	for _, u := range units {
		if u >= b.total {
			continue
		}
		r := b.unit(u)
		if r.committedBy(a.id) >= maxCommits {
			c.surplus = true
			continue
		}
		i, _ := slices.BinarySearchFunc(r.commits, c, func(x, y *commit) int { return compareRefs(x.ref, y.ref) })
		r.commits = slices.Insert(r.commits, i, c)
	}
	b.lived(c)
	for _, o := range c.early {
		b.fit(c, o.at, o.units)
	}
	c.early = nil
	return units
}

// lived notes whose life a commit belongs to, once its grant is here.
func (b *Book) lived(c *commit) {
	if !c.known || !c.grant.known {
		return
	}
	c.life = c.by.life(c.grant.life)
	c.life.units = append(c.life.units, c.units()...)
}

func compareRefs(x, y ref) int {
	return cmp.Or(x.Author.Compare(y.Author), cmp.Compare(x.Seq, y.Seq))
}

// mark is what a steward said about the commit so far.
func (c *commit) mark(a *author) *mark {
	i := slices.IndexFunc(c.marks, func(m mark) bool { return m.author == a })
	if i < 0 {
		i = len(c.marks)
		c.marks = append(c.marks, mark{author: a})
	}
	return &c.marks[i]
}

func (b *Book) receipt(a *author, e ledger.Entry, s workunits.Receipt) []uint32 {
	c := b.commitAt(s.Commit)
	m := c.mark(a)
	a.announce(e.Seq, s)
	if m.got {
		return nil
	}
	b.absent(c, -1)
	m.got, m.receipt, m.hash, m.index = true, e.Seq, s.Hash, s.Index
	b.absent(c, 1)
	if slices.ContainsFunc(c.marks, func(o mark) bool { return o.drew && o.with == a.id }) {
		return c.body.Units // which wait for its value, see outstanding
	}
	return b.beside(c)
}

// beside lists the units of a commit that have another copy, neither of which follows
// the other: which of them came sooner is a matter of receipts. Elsewhere a receipt
// changes nothing until something that follows it in the same log counts by it.
func (b *Book) beside(c *commit) (units []uint32) {
	if c.grant == nil || !c.grant.known {
		return nil
	}
	for _, u := range c.body.Units {
		if slices.ContainsFunc(b.look(u).commits, func(o *commit) bool {
			return o != c && o.grant.known && !follows(copyOf{commit: c}, copyOf{commit: o}) && !follows(copyOf{commit: o}, copyOf{commit: c})
		}) {
			units = append(units, u)
		}
	}
	return units
}

// announce reads the end of the author's next chain; the first word on it counts.
func (a *author) announce(at uint64, r workunits.Receipt) {
	length := a.identity.Length
	if r.Next.IsZero() || r.Index == 0 || r.Index%length != 0 {
		return
	}
	if a.anchors == nil {
		a.anchors = map[uint32]anchor{}
	}
	if _, said := a.anchors[r.Index/length]; !said {
		a.anchors[r.Index/length] = anchor{r.Next, at}
	}
}

// link is what a draw's value is held against: the value revealed last, or the end
// of its chain if that is a later one.
func (a *author) link(index uint32) (from chain, at uint64, ok bool) {
	number := (index - 1) / a.identity.Length
	if number == 0 {
		return a.chain, 0, true
	}
	end, ok := a.anchors[number]
	if from = a.chain; from.index <= number*a.identity.Length {
		from = chain{number * a.identity.Length, end.value}
	}
	return from, end.at, ok
}

func (b *Book) draw(a *author, e ledger.Entry, d workunits.Draw) []uint32 {
	if d.Index <= a.chain.index {
		a.badDraw = true
		return nil
	}
	from, at, ok := a.link(d.Index)
	if !ok || !workunits.ChainLink(from.value, d.Value, d.Index-from.index) {
		a.badDraw = true
		return nil
	}
	a.chain = chain{d.Index, d.Value}
	c := b.commitAt(d.Commit)
	m := c.mark(a)
	m.drew, m.draw, m.drawn, m.value, m.head, m.anchor, m.with = true, e.Seq, d.Index, d.Value, d.Head, at, d.With
	if !d.Head.IsZero() {
		b.headAt(d.Head).needed = append(b.headAt(d.Head).needed, c)
	}
	drew := 0
	for _, m := range c.marks {
		if m.drew {
			drew++
		}
	}
	if drew < 2 && c.open == 0 && a.id != b.manifest.Publisher {
		return nil // it takes another's draw to count
	}
	return c.body.Units
}

func (b *Book) openingAt(r ref) *ref {
	o := b.openings[r]
	if o == nil {
		o = &r
		b.openings[r] = o
	}
	return o
}

func (b *Book) open(e ledger.Entry, s workunits.Opening) []uint32 {
	c, at := b.commitAt(s.Commit), b.openingAt(e.Ref)
	if !c.known {
		c.early = append(c.early, early{at, s.Units})
		return nil
	}
	b.fit(c, at, s.Units)
	units := make([]uint32, 0, len(s.Units))
	for _, o := range s.Units {
		units = append(units, o.Unit)
	}
	return units
}

// fit notes those openings of a commit that are what was committed.
func (b *Book) fit(c *commit, at *ref, units []workunits.OpenUnit) {
	for _, o := range units {
		i, named := slices.BinarySearch(c.body.Units, o.Unit)
		name := workunits.Copy{Network: b.manifest.Network, Job: b.job, Volunteer: c.Author, Unit: o.Unit}
		if !named || name.CommitHash(o.Result.Digest, o.Nonce) != c.body.Hashes[i] {
			continue
		}
		if c.opened == nil {
			c.opened = make([]opened, len(c.body.Units))
		}
		if o.Result.Storage != nil || o.Result.Encryption != "" {
			b.stored[storedAt{at, o.Unit}] = o.Result
		}
		x := &c.opened[i]
		switch {
		case x.first == nil:
			x.digest, x.first = o.Result.Digest, at
			if c.open++; c.open == len(c.opened) {
				c.body.Sealed = nil // has served
			}
		case compareRefs(*at, *x.first) < 0:
			x.more, x.first = append(x.more, x.first), at
		default:
			x.more = append(x.more, at)
		}
	}
}

func (b *Book) storage(a *author, s workunits.StorageReceipt) (units []uint32) {
	if s.Job {
		a.jobKept = true
	}
	for _, st := range s.Results {
		k := keeper{a, b.openingAt(st.Opening)}
		for _, u := range st.Units {
			if u >= b.total {
				continue
			}
			r := b.unit(u)
			if r.kept == nil {
				r.kept = make([]keeper, 0, b.keepers)
			}
			if !slices.Contains(r.kept, k) {
				r.kept = append(r.kept, k)
			}
			if r.state != Accepted && len(r.kept) >= b.keepers {
				units = append(units, u)
			}
		}
	}
	return units
}
