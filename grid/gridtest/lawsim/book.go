package lawsim

import (
	"encoding/binary"
	"fmt"
	"maps"
	"slices"

	"github.com/talka-grid/talka/workunits"
	"github.com/talka-grid/talka/workunits/ledger"
	"github.com/talka-grid/talka/workunits/verdict"
	"github.com/talka-grid/talka/workunits/verdict/oracle"
)

// Book lets verdict's Book decide: nodes' own code, statement by statement. It
// says what a publisher who is its own only steward would say, without
// signatures, and states a head before every draw.
type Book struct {
	manifest workunits.Manifest
	standing map[workunits.NodeID]uint64
	draws    *draws
	book     *verdict.Book // made with the first copy, when the standing is known
	inputs   workunits.Digest
	length   map[workunits.NodeID]uint64 // of each log
	ids      []workunits.NodeID
	people   map[workunits.NodeID]int
	copies   map[workunits.Ref]copied
	accepted []bool
	burned   map[int]bool
	changed  []int

	// TakenBack counts burns that later statements took back: a verdict is of all
	// statements, and those of somebody burned later may have decided a dispute.
	// A Light never looks back.
	TakenBack int
}

// bookJob is the job whose draws decide where a Book does.
var bookJob = workunits.JobID(workunits.Sum([]byte("job of the law simulator")))

// draws are the publisher's, of which each decides about one copy.
type draws struct {
	chain *workunits.Chain
	next  uint32
}

// maxDraws bounds how many copies one Book can take.
const maxDraws = 1 << 18

func newDraws() *draws { return &draws{chain: workunits.NewChain([32]byte(bookJob), maxDraws)} }

// Next is the number of the next copy's draw.
func (d *draws) Next() int { d.next++; return int(d.next) }

// Of is what a draw says of a unit, as a Book will work it out.
func (d *draws) Of(number, u int) float64 {
	v := d.chain.Value(uint32(number))
	return oracle.Fraction(bookJob, uint32(u), v, v)
}

// NewBook returns the scheme for so many units under a policy.
func NewBook(p workunits.Policy, units int) *Book {
	m := workunits.Manifest{Network: "sim", Publisher: nodeID("publisher", 0), Units: uint32(units), Nominal: 1, Limits: workunits.Limits{Tries: 3}, Policy: p}
	return &Book{manifest: m, standing: map[workunits.NodeID]uint64{}, draws: newDraws(), inputs: m.InputsDigest(), length: map[workunits.NodeID]uint64{},
		people: map[workunits.NodeID]int{}, copies: map[workunits.Ref]copied{}, accepted: make([]bool, units), burned: map[int]bool{}}
}

func nodeID(kind string, i int) workunits.NodeID {
	return workunits.NodeID(workunits.Sum(fmt.Appendf(nil, "%s %d", kind, i)))
}

func (b *Book) begin() {
	var t workunits.StakeTable
	for _, n := range slices.SortedFunc(maps.Keys(b.standing), workunits.NodeID.Compare) {
		t.Stakes = append(t.Stakes, workunits.Stake{Node: n, Millis: b.standing[n]})
	}
	b.book = verdict.NewWith(bookJob, b.manifest, t)
	p := b.manifest.Publisher
	b.say(p, workunits.Identity{Arch: "amd64", Anchor: b.draws.chain.Value(0), Length: maxDraws})
	b.say(p, workunits.Amendment{Stewards: []workunits.Steward{{Node: p}}})
}

// say has the book read a statement; a volunteer's first is its identity.
func (b *Book) say(n workunits.NodeID, body workunits.Body) ledger.Entry {
	if b.length[n] == 0 && body.Kind() != workunits.KindIdentity {
		b.say(n, workunits.Identity{Arch: "amd64", Anchor: workunits.Digest(n), Length: 1})
	}
	r := workunits.Ref{Author: n, Seq: b.length[n]}
	b.length[n]++
	e := ledger.Entry{Ref: r, Hash: workunits.Sum(binary.BigEndian.AppendUint64(n[:], r.Seq)), Body: body}
	for _, u := range b.book.Apply(e) {
		b.changed = append(b.changed, int(u))
	}
	return e
}

// Join adds the next volunteer.
func (b *Book) Join() { b.name(nodeID("volunteer", len(b.ids)), len(b.ids)) }

func (b *Book) name(id workunits.NodeID, who int) {
	b.people[id] = who
	b.ids = append(b.ids[:who], id)
}

// Grant gives a volunteer stake from earlier jobs, before the first copy.
func (b *Book) Grant(who, stake int) {
	if stake > 0 {
		b.standing[b.ids[who]] = uint64(stake)
	}
}

// Trust makes the volunteer that joined last the publisher.
func (b *Book) Trust(who int) { b.name(b.manifest.Publisher, who) }

func outcome(u int, d Digest) workunits.Digest {
	return workunits.Sum(fmt.Appendf(nil, "unit %d: %d", u, d))
}

// Poor reports whether a volunteer is poor among the others.
func (b *Book) Poor(who int) bool {
	if b.book == nil {
		b.begin()
	}
	bar, _ := b.book.Crowd()
	return b.book.Poor(b.ids[who], bar)
}

// Begins reports whether the poor may be given first copies.
func (b *Book) Begins() bool {
	_, burned := b.book.Crowd()
	return verdict.LawOf(b.manifest.Policy).Begins(burned, b.book.Counts()[verdict.Accepted])
}

// Checks reports whether the poor may be given further copies after so many.
func (b *Book) Checks(poor, all int) bool { return verdict.LawOf(b.manifest.Policy).Checks(poor, all) }

// Commit is a volunteer's copy of a unit.
func (b *Book) Commit(u, who int, d Digest) (changed, burned []int) {
	if b.book == nil {
		b.begin()
	}
	b.changed = nil
	p, id, units := b.manifest.Publisher, b.ids[who], []uint32{uint32(u)}
	g := b.say(p, workunits.Grant{To: id, Units: units, Inputs: b.inputs, Lease: 1, Arch: "amd64"})
	name := workunits.Copy{Network: b.manifest.Network, Job: bookJob, Volunteer: id, Unit: units[0]}
	c := b.say(id, workunits.Commit{Grant: g.Ref, Bound: g.Hash, Units: units, Hashes: []workunits.Digest{name.CommitHash(outcome(u, d), [16]byte{})}})
	b.copies[c.Ref] = copied{who: int32(who), digest: d}
	h := b.head()
	b.say(p, h)
	i := uint32(b.draws.Next())
	b.say(p, workunits.Receipt{Commit: c.Ref, Hash: c.Hash, Index: i})
	b.say(p, workunits.Draw{Commit: c.Ref, Index: i, Value: b.draws.chain.Value(i), Head: h.ID()})
	changed = b.follow()
	now := b.book.BurnedNodes()
	for _, id := range now {
		if i := b.people[id]; !b.burned[i] {
			b.burned[i] = true
			burned = append(burned, i)
		}
	}
	b.TakenBack = max(b.TakenBack, len(b.burned)-len(now))
	slices.Sort(burned)
	return changed, burned
}

// head tells the stakes as they are.
func (b *Book) head() (h workunits.Head) {
	var logs []workunits.LogHead
	for _, id := range b.ids {
		if b.book.Staked(id) {
			logs = append(logs, workunits.LogHead{Author: id, Len: b.length[id]})
		}
	}
	slices.SortFunc(logs, func(x, y workunits.LogHead) int { return x.Author.Compare(y.Author) })
	return b.book.Head(logs)
}

// follow opens and stores what the verdicts ask for.
func (b *Book) follow() (toggled []int) {
	for len(b.changed) > 0 {
		units := b.changed
		b.changed = nil
		slices.Sort(units)
		for _, u := range slices.Compact(units) {
			v := b.book.Unit(uint32(u))
			if now := v.State == verdict.Accepted; now != b.accepted[u] {
				b.accepted[u] = now
				toggled = append(toggled, u)
			}
			for _, r := range v.Unsealed {
				open := workunits.OpenUnit{Unit: uint32(u), Result: workunits.Result{Digest: outcome(u, b.copies[r].digest)}}
				b.say(b.manifest.Publisher, workunits.Opening{Commit: r, Units: []workunits.OpenUnit{open}})
			}
			if v.Agreed() && v.State != verdict.Accepted {
				b.say(b.manifest.Publisher, workunits.StorageReceipt{Results: []workunits.StoredUnits{{Opening: v.Opening, Units: []uint32{uint32(u)}}}})
			}
		}
	}
	return toggled
}

// Result is the accepted result of a unit.
func (b *Book) Result(u int) (Digest, bool) {
	if !b.accepted[u] {
		return 0, false
	}
	return b.copies[b.book.Supporters(uint32(u))[0]].digest, true
}

// Shown reports whether everybody sees that results of the unit differ.
func (b *Book) Shown(u int) bool { return b.book != nil && b.book.Unit(uint32(u)).Contested }

// Opened reports whether any of a unit's copies is open.
func (b *Book) Opened(u int) bool { return b.book != nil && len(b.book.Digests(uint32(u))) > 0 }

// Waits reports whether a further copy of a unit had better wait.
func (b *Book) Waits(u int) bool { return b.book != nil && b.book.Waits(uint32(u)) }

// Stake is a volunteer's count of copies in accepted units, and what it brought.
func (b *Book) Stake(who int) int {
	if b.book == nil {
		return int(b.standing[b.ids[who]])
	}
	if b.burned[who] {
		return 0
	}
	history := b.standing[b.ids[who]]
	if c := uint64(b.manifest.Policy.HistoryCap); c > 0 {
		history = min(history, c)
	}
	return b.book.Stake(b.ids[who]) + int(history)
}
