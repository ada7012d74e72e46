package verdict

import (
	"cmp"
	"slices"

	"github.com/talka-grid/talka/workunits"
	"github.com/talka-grid/talka/workunits/ledger"
)

type (
	node   = workunits.NodeID
	ref    = workunits.Ref
	digest = workunits.Digest
)

// author is what is known of one node in the job.
type author struct {
	id       node
	read     uint64 // statements
	identity *workunits.Identity
	chain    chain
	listed   bool
	forked   bool
	badDraw  bool
	jobKept  bool
	trusted  bool   // the publisher trusts its copies
	history  uint64 // stake that it brought, in units of this job
	strikes  uint32 // that it brought
	faulted  []fault
	lives    []*life
	missing  int // commits that enough stewards receipted and that are not here
}

// fault is an author's word that somebody was proven wrong.
type fault struct {
	seq     uint64
	against node
}

// life is a volunteer between two of its burns: what it earned, and how it ended.
type life struct {
	by     *author
	number int
	units  []uint32        // of its commits
	credit int             // copies in accepted units
	burned int             // round of settling that burned it, 0 for none
	loses  map[uint32]int  // disputed units that burn it, each with the round
	party  map[uint32]bool // disputed units of which it has a copy
}

// chain tells how far an author's hash chain was revealed, so that each value
// costs only the hashes since the last one.
type chain struct {
	index uint32
	value digest
}

type grant struct {
	ref
	by     *author
	known  bool
	life   int // of the volunteer, as far as its author's log tells
	hash   digest
	body   workunits.Grant
	ended  bool      // a listed steward gave it up, see expiries
	expiry []by      // who gave it up, where in its log
	naming []*commit // commits under this grant
}

// by is a place in an author's log.
type by struct {
	*author
	seq uint64
}

type commit struct {
	ref
	by     *author
	known  bool
	hash   digest
	grant  *grant
	life   *life // nil while its grant is not here
	body   workunits.Commit
	marks  []mark
	opened []opened // one for each unit once the first is open
	early  []early  // openings that came before the commit
	open   int      // units that are open
}

// mark is what one steward said about a commit.
type mark struct {
	*author
	receipt uint64 // place in its log; valid with got
	hash    digest // of the commit that it received
	index   uint32
	got     bool
	drew    bool
	draw    uint64 // place in its log
	drawn   uint32 // index of the draw
	value   digest
	head    digest
}

// opened is a unit of a commit that openings fit.
type opened struct {
	digest
	first *ref // the least place of an opening, nil while the unit is sealed
	more  []*ref
}

type early struct {
	at    *ref
	units []workunits.OpenUnit
}

// keeper is a steward that says it keeps the result that an opening names.
type keeper struct {
	by      *author
	opening *ref
}

// unit is what statements say of one unit, and its verdict.
type unit struct {
	named   bool
	dirty   bool
	state   State
	result  digest    // once it is agreed
	commits []*commit // that name it, ascending by author and place
	grants  []*grant
	kept    []keeper
	view    *Unit   // its verdict, as long as more is to come
	credit  []*life // whose stakes it raises
}

// Book reads a job's statements. Make it with New.
type Book struct {
	job      workunits.JobID
	manifest workunits.Manifest
	law      Law
	inputs   digest // of the manifest's
	total    uint32 // units, the second stage among them
	stage    stage

	authors map[node]*author
	list    []workunits.Steward
	keepers int // storage receipts that acceptance takes

	grants   map[ref]*grant
	commits  map[ref]*commit
	openings map[ref]*ref
	stored   map[storedAt]workunits.Result // results that name more than a digest
	heads    map[digest]*head
	answers  map[pair][]answer

	pages    []*page
	dirty    []uint32
	disputes []uint32 // whose losers may have changed
	disputed map[uint32]*dispute
	named    int // units that statements name
	counts   [4]int
	copies   int // committed, void ones included

	seal      *workunits.Seal
	cancelled *workunits.Cancel
}

type storedAt struct {
	*ref
	unit uint32
}

// pageUnits are units of a page; pages are made when a statement names a unit.
const pageUnits = 1 << 10

type page [pageUnits]unit

// New returns the empty book of a job that stands by itself.
func New(job workunits.JobID, m workunits.Manifest) *Book {
	return NewWith(job, m, workunits.StakeTable{})
}

// NewWith returns the empty book of a job whose manifest names a standing. The
// caller checked that the table has the standing's CID.
func NewWith(job workunits.JobID, m workunits.Manifest, standing workunits.StakeTable) *Book {
	b := &Book{
		job: job, manifest: m, law: Law{m.Policy}, inputs: m.InputsDigest(), total: m.Total(), stage: stage{state: Pending, stale: true},
		authors: map[node]*author{}, keepers: 1,
		grants: map[ref]*grant{}, commits: map[ref]*commit{}, openings: map[ref]*ref{}, stored: map[storedAt]workunits.Result{},
		heads: map[digest]*head{}, answers: map[pair][]answer{},
		pages: make([]*page, (m.Total()+pageUnits-1)/pageUnits), disputed: map[uint32]*dispute{},
	}
	b.author(m.Publisher).listed = true
	for _, n := range append([]node{m.Publisher}, m.Policy.Trusted...) {
		b.author(n).trusted = true
	}
	b.stand(standing)
	if m.Reduce != nil {
		b.touch([]uint32{m.Units}) // it waits from the beginning
	}
	return b
}

// Read is the book of a ledger up to the given heads, nil if the ledger does
// not hold all of them.
func Read(job workunits.JobID, m workunits.Manifest, l *ledger.Ledger, heads []workunits.LogHead) *Book {
	return ReadWith(job, m, workunits.StakeTable{}, l, heads)
}

// ReadWith is Read for a job whose manifest names a standing, see NewWith.
func ReadWith(job workunits.JobID, m workunits.Manifest, standing workunits.StakeTable, l *ledger.Ledger, heads []workunits.LogHead) *Book {
	b := NewWith(job, m, standing)
	if !l.Walk(heads, func(e ledger.Entry) { b.Learn(e) }) {
		return nil
	}
	for _, f := range l.Forks() {
		b.author(f.Author).forked = true
	}
	b.settle()
	return b
}

// life is an author's life with the number, counted from 0.
func (a *author) life(n int) *life {
	for len(a.lives) <= n {
		a.lives = append(a.lives, &life{by: a, number: len(a.lives)})
	}
	return a.lives[n]
}

func (b *Book) author(n node) *author {
	a := b.authors[n]
	if a == nil {
		a = &author{id: n}
		b.authors[n] = a
	}
	return a
}

// unit is the record of a unit that the job has.
func (b *Book) unit(u uint32) *unit {
	p := &b.pages[u/pageUnits]
	if *p == nil {
		*p = new(page)
	}
	return &(*p)[u%pageUnits]
}

// look is unit for those who only read; it may be shared.
func (b *Book) look(u uint32) *unit {
	if u >= b.total || b.pages[u/pageUnits] == nil {
		return &unit{}
	}
	return &b.pages[u/pageUnits][u%pageUnits]
}

// Forked tells that an author is proven to have equivocated: its copies count
// for nothing from then on. It returns the units whose verdict changed.
func (b *Book) Forked(n node) []uint32 {
	a := b.author(n)
	if a.forked {
		return nil
	}
	a.forked = true
	var units []uint32
	for _, l := range a.lives {
		units = append(units, l.units...)
	}
	b.touch(units)
	return append(units, b.settle()...)
}

// Apply reads one statement and returns the units whose verdicts it may change. The
// statements of one author come in order; authors may be mixed in any way, and
// what was read before may come again.
func (b *Book) Apply(e ledger.Entry) []uint32 {
	units := b.Learn(e)
	return append(units[:len(units):len(units)], b.settle()...)
}

// Learn is Apply for many statements in a row: it leaves it to the next question
// to work out verdicts, and returns the units that the statement is about.
func (b *Book) Learn(e ledger.Entry) []uint32 {
	a := b.author(e.Author)
	if e.Seq < a.read {
		return nil
	}
	a.read = e.Seq + 1
	if e.Body == nil {
		return nil
	}
	if id, ok := e.Body.(workunits.Identity); ok {
		if e.Seq == 0 {
			a.identity, a.chain = &id, chain{value: id.Anchor}
		}
		return nil
	}
	if a.identity == nil {
		return nil // a log that does not begin with an identity says nothing
	}
	return b.touch(b.say(a, e))
}

// say reads the statement of an author and returns the units that it is about.
func (b *Book) say(a *author, e ledger.Entry) []uint32 {
	switch s := e.Body.(type) {
	case workunits.Amendment:
		return b.amend(a, s)
	case workunits.Grant:
		return b.grant(a, e, s)
	case workunits.Expiry:
		return b.expire(a, e, s)
	case workunits.Commit:
		return b.commit(a, e, s)
	case workunits.Receipt:
		return b.receipt(a, e, s)
	case workunits.Draw:
		return b.draw(a, e, s)
	case workunits.Opening:
		return b.open(e, s)
	case workunits.StorageReceipt:
		return b.storage(a, s)
	case workunits.Comparison:
		return b.comparison(a, s)
	case workunits.Head:
		return b.head(a, e.Seq, s)
	case workunits.Fault:
		if s.Name == workunits.FaultWrong {
			a.faulted = append(a.faulted, fault{e.Seq, s.Against})
		}
	case workunits.Standing:
		// For the project's next job.
	case workunits.Seal:
		if e.Author == b.manifest.Publisher {
			b.seal = &s
		}
	case workunits.Cancel:
		if e.Author == b.manifest.Publisher {
			b.cancelled = &s
		}
	}
	return nil
}

func (b *Book) amend(a *author, s workunits.Amendment) (units []uint32) {
	if a.id != b.manifest.Publisher {
		return nil
	}
	if len(b.list) == 0 && len(s.Stewards) > 1 && b.manifest.Policy.Mode != workunits.VerifyNone {
		b.keepers = 2
	}
	for _, s := range s.Stewards {
		known := slices.ContainsFunc(b.list, func(t workunits.Steward) bool { return t.Node == s.Node })
		if !known && len(b.list) < workunits.MaxStewards {
			b.list = append(b.list, s)
			b.author(s.Node).listed = true
		}
	}
	for _, g := range b.grants {
		b.endings(g)
	}
	for _, a := range b.authors {
		a.missing = 0
	}
	for _, c := range b.commits {
		b.absent(c, 1)
	}
	for i, p := range b.pages {
		for j := 0; p != nil && j < pageUnits; j++ {
			if p[j].named {
				units = append(units, uint32(i*pageUnits+j))
			}
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
			r := b.unit(u)
			r.grants = append(r.grants, g)
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

// endings works out whether a listed steward gave the grant up.
func (b *Book) endings(g *grant) {
	g.ended = slices.ContainsFunc(g.expiry, func(x by) bool { return x.listed })
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
	c.life.units = append(c.life.units, c.body.Units...)
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
	if m.got {
		return nil
	}
	b.absent(c, -1)
	m.got, m.receipt, m.hash, m.index = true, e.Seq, s.Hash, s.Index
	b.absent(c, 1)
	return c.body.Units
}

func (b *Book) draw(a *author, e ledger.Entry, d workunits.Draw) []uint32 {
	if d.Index <= a.chain.index || !workunits.ChainLink(a.chain.value, d.Value, d.Index-a.chain.index) {
		a.badDraw = true
		return nil
	}
	a.chain = chain{d.Index, d.Value}
	c := b.commitAt(d.Commit)
	m := c.mark(a)
	m.drew, m.draw, m.drawn, m.value, m.head = true, e.Seq, d.Index, d.Value, d.Head
	if !d.Head.IsZero() {
		b.headAt(d.Head).needed = append(b.headAt(d.Head).needed, c)
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
			c.open++
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
			if r := b.unit(u); !slices.Contains(r.kept, k) {
				r.kept = append(r.kept, k)
			}
		}
		units = append(units, st.Units...)
	}
	return units
}

// touch notes that the verdicts on units are to be worked out.
func (b *Book) touch(units []uint32) []uint32 {
	for _, u := range units {
		if u >= b.total {
			continue
		}
		r := b.unit(u)
		if !r.named {
			r.named = true
			b.named++
			b.counts[Open]++
		}
		if !r.dirty {
			r.dirty = true
			b.dirty = append(b.dirty, u)
		}
	}
	return units
}
