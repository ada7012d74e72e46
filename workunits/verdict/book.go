package verdict

import (
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
	cheap    bool              // shows too little work: its copies count for nothing
	free     bool              // its grants count without bound: the publisher's, and where nothing is verified
	gone     []*author         // who says that it is absent
	owing    []*author         // who says that it withholds what it owes
	anchors  map[uint32]anchor // of its second chain and those after it
	jobKept  bool
	trusted  bool   // the publisher trusts its copies
	brought  uint64 // stake from earlier jobs, in milliseconds
	history  uint64 // as much of it as counts, in units of this job
	strikes  uint32 // that it brought
	faulted  []fault
	stated   []stated // heads
	lives    []*life
	missing  int // commits that enough stewards receipted and that are not here
}

// fault is an author's word that somebody was proven wrong.
type fault struct {
	seq     uint64
	against node
}

// stated is a place in an author's log with a head.
type stated struct {
	seq  uint64
	head *head
}

// life is a volunteer between two of its burns: what it earned, and how it ended.
type life struct {
	by     *author
	number int
	units  []uint32           // of its commits, void ones included
	credit int                // copies in accepted units
	burned int                // round of settling that burned it, 0 for none
	loses  map[uint32]int     // disputed units that burn it, each with the round
	party  map[uint32]*commit // disputed units of which it has a copy, with that copy
	first  *commit            // the first of these
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
	by      *author
	known   bool
	surplus bool // of some unit its author has maxCommits without it
	hash    digest
	grant   *grant
	life    *life // nil while its grant is not here
	body    workunits.Commit
	marks   []mark
	opened  []opened // one for each unit once the first is open
	early   []early  // openings that came before the commit
	open    int      // units that are open
}

// anchor is the end of a chain that was announced at a place of its author's log.
type anchor struct {
	value digest
	at    uint64
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
	anchor  uint64 // place that announced the draw's chain, 0 for the first one
	with    node
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
	home     string // the publisher's architecture
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

	room struct { // of work
		all, list, open []copyOf
		lives           []*life
	}
	who     []*mark           // of drawers
	chances map[asked]float64 // see chance

	pages    []page
	run      uint32 // units of a page
	none     unit   // of which nothing is said
	dirty    []uint32
	fresh    []uint32 // judged last: their views are kept for who asks at once
	disputes []uint32 // whose losers may have changed
	disputed map[uint32]*dispute
	burned   map[*life]bool
	alone    map[uint32]lone
	named    int // units that statements name
	counts   [4]int
	copies   int // committed, void ones included

	seal      *workunits.Seal
	cancelled *workunits.Cancel
	collected bool
	retries   map[uint32]int // of units that the publisher gave further tries, how often
}

type storedAt struct {
	*ref
	unit uint32
}

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
		disputed: map[uint32]*dispute{}, burned: map[*life]bool{}, alone: map[uint32]lone{}, chances: map[asked]float64{},
		retries: map[uint32]int{},
	}
	b.makePages()
	b.author(m.Publisher).listed, b.author(m.Publisher).free = true, true
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
	if !b.ReadOn(l, heads) {
		return nil
	}
	return b
}

// ReadOn reads what the ledger holds up to the given heads and the book has not read
// yet. It reports whether the ledger holds all of that, and all that the book has read:
// if not, the book is not to be used any more.
func (b *Book) ReadOn(l *ledger.Ledger, heads []workunits.LogHead) bool {
	known := b.Known()
	for n, read := range known {
		if l.Len(n) < read {
			return false // it was cut since
		}
	}
	if !l.WalkSince(known, heads, func(e ledger.Entry) { b.Learn(e) }) {
		return false
	}
	for _, f := range l.Forks() {
		b.fork(f.Author)
	}
	b.settle()
	return true
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

// Forked tells that an author is proven to have equivocated: its copies count
// for nothing from then on. It returns the units whose verdict changed.
func (b *Book) Forked(n node) []uint32 {
	units := b.fork(n)
	return append(units, b.settle()...)
}

func (b *Book) fork(n node) (units []uint32) {
	a := b.author(n)
	if a.forked {
		return nil
	}
	a.forked = true
	for _, l := range a.lives {
		units = append(units, l.units...)
	}
	return b.touch(units)
}

// Apply reads statements and returns the units whose verdicts they may change,
// ascending. The statements of one author come in order; authors may be mixed in
// any way, and what was read before may come again.
func (b *Book) Apply(entries ...ledger.Entry) (units []uint32) {
	for _, e := range entries {
		units = append(units, b.Learn(e)...)
	}
	units = append(units, b.settle()...)
	slices.Sort(units)
	beyond, _ := slices.BinarySearch(units, b.total)
	return slices.Compact(units[:beyond])
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
			a.cheap = !b.manifest.Admits(e.Author, id.Proof)
			if e.Author == b.manifest.Publisher {
				b.home = id.Arch
				return b.touch(b.allNamed())
			}
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
		if a.cheap {
			return nil
		}
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
		switch s.Name {
		case workunits.FaultWrong:
			a.faulted = append(a.faulted, fault{e.Seq, s.Against})
		case workunits.FaultAbsent:
			return b.miss(a, b.author(s.Against))
		case workunits.FaultWithheld:
			return b.withheld(a, b.author(s.Against))
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
	case workunits.Collected:
		b.collected = b.collected || e.Author == b.manifest.Publisher
	case workunits.Retry:
		return b.retry(a, s)
	}
	return nil
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
		if !r.dirty && (len(r.commits) > 0 || b.manifest.Reduces(u)) {
			r.dirty = true
			b.dirty = append(b.dirty, u)
		}
	}
	return units
}
