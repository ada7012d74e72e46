// Package verdict says what a job's ledger implies: which units are accepted,
// with which result, who was proven wrong, and what each unit still needs.
//
// It is a pure function over the set of statements: any order of arrival, any
// duplication gives the same verdicts. A Book reads statements as they come and
// answers for single units at once; it reads no clock and trusts no statement
// further than its author's part in the job allows.
//
// A copy counts if its grant came from a listed steward for just that volunteer
// and unit. One copy follows another if its grantor's log holds the receipt of
// the other's commit before the grant; hash chains make that order binding.
// Agreeing copies support a result as far as they follow one another; those that
// do not count together as one. A result is accepted when its support is enough
// under the law, the draws are in the ledger, and enough stewards keep it.
//
// A steward that gives a grant up after it receipted the commit says that nothing
// more is to be had of that copy: unless it is open it counts for nothing, and an
// agreed result whose copies are all given up wants another copy that has it.
//
// A volunteer on the losing side of a decided dispute is burned: its copies in
// the job count for nothing, and units left without enough support reopen.
//
// The second stage of a job is one more unit. It opens once all others are
// accepted, fails while one of them has failed, and copies of it count only if
// their grant names the results that are accepted now: where an input reopens,
// earlier copies are void, not wrong.
//
// A Book belongs to one goroutine.
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

type grant struct {
	ref
	hash digest
	workunits.Grant
}

type commit struct {
	ref
	hash digest
	workunits.Commit
	receipts map[node]receipt
	draws    map[node]workunits.Draw // verified against the author's chain
	opened   map[uint32][]opening    // by unit, those that fit
}

type receipt struct {
	seq   uint64
	hash  digest
	index uint32
}

type opening struct {
	ref
	workunits.OpenUnit
}

// keeper is a steward that says it keeps the result that an opening names.
type keeper struct {
	by      node
	opening ref
}

// chain tells how far an author's hash chain was revealed, so that each value
// costs only the hashes since the last one.
type chain struct {
	anchor digest
	index  uint32
	value  digest
}

// Book reads a job's statements. Make it with New.
type Book struct {
	job      workunits.JobID
	manifest workunits.Manifest
	law      Law
	inputs   digest // of the manifest's
	stage    stage

	read       map[node]uint64 // statements of each author
	identities map[node]workunits.Identity
	chains     map[node]*chain
	listed     map[node]bool
	list       []workunits.Steward
	keepers    int // storage receipts that acceptance takes

	grants  map[ref]*grant
	commits map[ref]*commit
	waiting map[ref][]func(*commit) // statements that came before the commit they name
	byUnit  map[uint32][]ref        // commits that name the unit
	granted map[uint32][]ref        // grants that name the unit
	expired map[ref][]ref           // expiries of a grant
	kept    map[uint32][]keeper

	units  map[uint32]Unit // what was worked out, for units that statements name
	counts [4]int          // units by state, of those
	mixed  map[uint32]bool // units with more than one opened digest
	party  map[node]bool   // who has copies of those
	burned map[node]bool
	stakes map[node]int // from accepted units
	copies int          // committed, void ones included

	seal      *workunits.Seal
	cancelled *workunits.Cancel
	badDraws  map[node]bool
	jobKept   map[node]bool
	forked    map[node]bool
}

// New returns the empty book of a job.
func New(job workunits.JobID, m workunits.Manifest) *Book {
	b := &Book{
		job: job, manifest: m, law: Law{m.Policy}, inputs: m.InputsDigest(), stage: stage{state: Pending},
		read: map[node]uint64{}, identities: map[node]workunits.Identity{}, chains: map[node]*chain{},
		listed: map[node]bool{m.Publisher: true}, keepers: 1,
		grants: map[ref]*grant{}, commits: map[ref]*commit{}, waiting: map[ref][]func(*commit){},
		byUnit: map[uint32][]ref{}, granted: map[uint32][]ref{}, expired: map[ref][]ref{}, kept: map[uint32][]keeper{},
		units: map[uint32]Unit{}, mixed: map[uint32]bool{}, party: map[node]bool{}, burned: map[node]bool{}, stakes: map[node]int{},
		badDraws: map[node]bool{}, jobKept: map[node]bool{}, forked: map[node]bool{},
	}
	b.touch([]uint32{m.Units}) // the second stage, if there is one, waits from the beginning
	return b
}

// Read is the book of a ledger up to the given heads, nil if the ledger does
// not hold all of them.
func Read(job workunits.JobID, m workunits.Manifest, l *ledger.Ledger, heads []workunits.LogHead) *Book {
	b := New(job, m)
	if !l.Walk(heads, func(e ledger.Entry) { b.Apply(e) }) {
		return nil
	}
	for _, f := range l.Forks() {
		b.Forked(f.Author)
	}
	return b
}

// Forked tells that an author is proven to have equivocated: its copies count
// for nothing from then on. It returns the units whose verdict changed.
func (b *Book) Forked(a node) []uint32 {
	if b.forked[a] {
		return nil
	}
	b.forked[a] = true
	return b.settle()
}

// Apply reads one statement and returns the units whose verdicts it may change. The
// statements of one author come in order; authors may be mixed in any way, and
// what was read before may come again.
func (b *Book) Apply(e ledger.Entry) (units []uint32) {
	if e.Seq < b.read[e.Author] {
		return nil
	}
	b.read[e.Author] = e.Seq + 1
	if e.Body == nil {
		return nil
	}
	if id, ok := e.Body.(workunits.Identity); ok {
		if e.Seq == 0 {
			b.identities[e.Author] = id
			b.chains[e.Author] = &chain{anchor: id.Anchor, value: id.Anchor}
		}
		return nil
	}
	if _, ok := b.identities[e.Author]; !ok {
		return nil // a log that does not begin with an identity says nothing
	}
	switch s := e.Body.(type) {
	case workunits.Amendment:
		return b.amend(e.Author, s)
	case workunits.Grant:
		g := &grant{e.Ref, e.Hash, s}
		b.grants[e.Ref] = g
		for _, u := range s.Units {
			b.granted[u] = append(b.granted[u], e.Ref)
		}
		units = s.Units
	case workunits.Expiry:
		b.expired[s.Grant] = append(b.expired[s.Grant], e.Ref)
		if g := b.grants[s.Grant]; g != nil {
			units = g.Units
		}
	case workunits.Commit:
		units = b.commit(e, s)
	case workunits.Receipt:
		r := receipt{e.Seq, s.Hash, s.Index}
		units = b.about(s.Commit, func(c *commit) {
			if _, dup := c.receipts[e.Author]; !dup {
				c.receipts[e.Author] = r
			}
		})
	case workunits.Draw:
		units = b.draw(e.Author, s)
	case workunits.Opening:
		units = b.open(e, s)
	case workunits.StorageReceipt:
		units = b.storage(e.Author, s)
	case workunits.Fault, workunits.Comparison, workunits.Head, workunits.Standing:
		// Evidence and fingerprints for others to check; verdicts rest on what
		// the ledger itself shows.
	case workunits.Seal:
		if e.Author == b.manifest.Publisher {
			b.seal = &s
		}
	case workunits.Cancel:
		if e.Author == b.manifest.Publisher {
			b.cancelled = &s
		}
	}
	return b.touch(units)
}

func (b *Book) amend(author node, a workunits.Amendment) []uint32 {
	if author != b.manifest.Publisher {
		return nil
	}
	if len(b.list) == 0 && len(a.Stewards) > 1 && b.manifest.Policy.Mode != workunits.VerifyNone {
		b.keepers = 2
	}
	for _, s := range a.Stewards {
		known := slices.ContainsFunc(b.list, func(t workunits.Steward) bool { return t.Node == s.Node })
		if !known && len(b.list) < workunits.MaxStewards {
			b.list = append(b.list, s)
			b.listed[s.Node] = true
		}
	}
	return b.settle()
}

func (b *Book) commit(e ledger.Entry, s workunits.Commit) []uint32 {
	c := &commit{ref: e.Ref, hash: e.Hash, Commit: s,
		receipts: map[node]receipt{}, draws: map[node]workunits.Draw{},
		opened: map[uint32][]opening{}}
	b.commits[e.Ref] = c
	units := slices.Clone(s.Units)
	for _, v := range s.Void {
		units = append(units, v.Unit)
	}
	b.copies += len(units)
	for _, u := range units {
		b.byUnit[u] = append(b.byUnit[u], e.Ref)
	}
	for _, f := range b.waiting[e.Ref] {
		f(c)
	}
	delete(b.waiting, e.Ref)
	return units
}

// maxWaiting bounds what is remembered for commits that have not come.
const maxWaiting = 1 << 16

// about applies f to a commit now or when it comes.
func (b *Book) about(r ref, f func(*commit)) []uint32 {
	if c := b.commits[r]; c != nil {
		f(c)
		return c.Units
	}
	if len(b.waiting) < maxWaiting {
		b.waiting[r] = append(b.waiting[r], f)
	}
	return nil
}

func (b *Book) draw(author node, d workunits.Draw) []uint32 {
	ch := b.chains[author]
	if d.Index <= ch.index || !workunits.ChainLink(ch.value, d.Value, d.Index-ch.index) {
		b.badDraws[author] = true
		return nil
	}
	ch.index, ch.value = d.Index, d.Value
	return b.about(d.Commit, func(c *commit) { c.draws[author] = d })
}

func (b *Book) open(e ledger.Entry, s workunits.Opening) []uint32 {
	units := make([]uint32, 0, len(s.Units))
	for _, o := range s.Units {
		units = append(units, o.Unit)
	}
	b.about(s.Commit, func(c *commit) {
		for _, o := range s.Units {
			name := workunits.Copy{Network: b.manifest.Network, Job: b.job, Volunteer: c.Author, Unit: o.Unit}
			i, named := slices.BinarySearch(c.Units, o.Unit)
			if named && name.CommitHash(o.Result.Digest, o.Nonce) == c.Hashes[i] {
				c.opened[o.Unit] = append(c.opened[o.Unit], opening{e.Ref, o})
			}
		}
	})
	return units
}

func (b *Book) storage(author node, s workunits.StorageReceipt) (units []uint32) {
	if s.Job {
		b.jobKept[author] = true
	}
	for _, st := range s.Results {
		k := keeper{author, st.Opening}
		for _, u := range st.Units {
			if !slices.Contains(b.kept[u], k) {
				b.kept[u] = append(b.kept[u], k)
			}
		}
		units = append(units, st.Units...)
	}
	return units
}

// Stewards is the succession list.
func (b *Book) Stewards() []workunits.Steward { return b.list }

// Listed reports whether a node is on the succession list.
func (b *Book) Listed(n node) bool { return b.listed[n] }

// KeepersWanted is how many stewards must keep a result before it is accepted.
func (b *Book) KeepersWanted() int { return b.keepers }

// Keepers counts the stewards that keep the job's manifest, program and inputs.
func (b *Book) Keepers() int { return len(b.jobKept) }

// Keeps reports whether a steward said that it keeps the job.
func (b *Book) Keeps(n node) bool { return b.jobKept[n] }

// Sealed is the publisher's seal, nil before it.
func (b *Book) Sealed() *workunits.Seal { return b.seal }

// Cancelled is the publisher's cancellation, nil for none.
func (b *Book) Cancelled() *workunits.Cancel { return b.cancelled }

// Identity is what an author's log began with.
func (b *Book) Identity(n node) (workunits.Identity, bool) {
	id, ok := b.identities[n]
	return id, ok
}
