package verdict

import (
	"cmp"
	"maps"
	"math"
	"slices"

	"github.com/talka-grid/talka/workunits"
	"github.com/talka-grid/talka/workunits/ledger"
)

// head is a stated head: who stated it, and the stakes that it tells.
type head struct {
	id     digest
	by     []by
	credit []credit  // ascending by author
	bar    float64   // of the stakes, those of the standing among them
	needed []*commit // whose draws name it
}

type credit struct {
	node
	copies uint64
}

func (b *Book) headAt(d digest) *head {
	h := b.heads[d]
	if h == nil {
		h = &head{id: d}
		b.heads[d] = h
	}
	return h
}

// head reads a head and returns the units whose draws name it.
func (b *Book) head(a *author, place uint64, s workunits.Head) (units []uint32) {
	h := b.headAt(s.ID())
	h.by = append(h.by, by{a, place})
	a.stated = append(a.stated, stated{place, h})
	if len(h.by) == 1 {
		stakes := make([]uint64, len(s.Logs))
		for i, l := range s.Logs {
			if s.Credit[i] > 0 {
				h.credit = append(h.credit, credit{l.Author, s.Credit[i]})
			}
			if stakes[i] = s.Credit[i]; b.authors[l.Author] != nil {
				stakes[i] += b.authors[l.Author].history
			}
		}
		h.bar = b.law.Bar(stakes)
	}
	if a.listed {
		units = b.due(h)
	}
	for _, c := range h.needed {
		units = append(units, c.body.Units...)
	}
	return units
}

// cosigned reports whether the author of a draw had stated the head before, and
// another steward did at any time.
func (h *head) cosigned(b *Book, m *mark) bool {
	return h.seconded(m.author, b.manifest.Publisher) &&
		slices.ContainsFunc(h.by, func(x by) bool { return x.author == m.author && x.seq < m.draw })
}

// seconded reports whether another steward than its author states a head; the publisher's
// word is enough by itself.
func (h *head) seconded(a *author, publisher node) bool {
	return a.id == publisher || slices.ContainsFunc(h.by, func(x by) bool { return x.author != a && x.listed })
}

// tells is the stake that a head tells of a volunteer.
func (h *head) tells(n node) uint64 {
	if i, ok := slices.BinarySearchFunc(h.credit, n, func(c credit, n node) int { return c.node.Compare(n) }); ok {
		return h.credit[i].copies
	}
	return 0
}

// told is the stake of a volunteer that a steward's draw names.
func (b *Book) told(n node, m *mark) uint64 {
	if h := b.heads[m.head]; h != nil && h.cosigned(b, m) {
		return h.tells(n)
	}
	return 0
}

// stakeAt is a volunteer's stake as the draws on a copy saw it, in units of this
// job.
func (b *Book) stakeAt(k copyOf, who []*mark) float64 { return b.stakeBy(k, who, b.told) }

// stakeBy is the lowest stake of a copy's volunteer that its drawers tell, and what it
// brought. A volunteer that was burned has nothing, and did not pay for its identity
// again.
func (b *Book) stakeBy(k copyOf, who []*mark, told func(node, *mark) uint64) float64 {
	if k.life.number > 0 {
		return -b.manifest.Policy.Price
	}
	var least uint64
	for i, m := range who {
		if n := told(k.Author, m); i == 0 || n < least {
			least = n
		}
	}
	return float64(least) + float64(k.by.history)
}

// bar is that of the stakes which the draws on a copy saw, the highest that their
// heads tell, so that naming an old head does not lower it.
func (b *Book) bar(who []*mark) (bar float64) {
	for _, m := range who {
		if h := b.heads[m.head]; h != nil && h.cosigned(b, m) {
			bar = max(bar, h.bar)
		}
	}
	return bar
}

// stand reads the standing that the job starts from.
func (b *Book) stand(t workunits.StakeTable) {
	nominal := b.manifest.Nominal
	for _, s := range t.Stakes {
		a := b.author(s.Node)
		a.strikes, a.brought = s.Strikes, s.Millis
		if nominal > 0 {
			a.history = s.Millis / nominal
		}
		if c := uint64(b.manifest.Policy.HistoryCap); c > 0 {
			a.history = min(a.history, c)
		}
	}
}

// absent counts a commit that is not here though enough stewards received it:
// who withholds its end of the log has no stake.
func (b *Book) absent(c *commit, delta int) {
	if c.known {
		return
	}
	got, publisher := 0, false
	for _, m := range c.marks {
		if m.got && m.listed {
			got++
			publisher = publisher || m.id == b.manifest.Publisher
		}
	}
	if got >= 2 || publisher {
		b.author(c.Author).missing += delta
	}
}

// Stake is a volunteer's count of copies in accepted units since it was last
// burned, 0 for who equivocated or withholds a commit.
func (b *Book) Stake(n workunits.NodeID) int {
	b.settle()
	if a := b.authors[n]; a != nil {
		return a.credit()
	}
	return 0
}

func (a *author) credit() (sum int) {
	if a.forked || a.missing > 0 || a.closed() {
		return 0
	}
	for _, l := range a.lives {
		if l.burned > 0 {
			sum = 0
		} else {
			sum += l.credit
		}
	}
	return sum
}

// burns counts the lives that ended in this job.
func (a *author) burns() (n int) {
	for _, l := range a.lives {
		if l.burned > 0 {
			n++
		}
	}
	return n
}

func (a *author) closed() bool { return int(a.strikes)+a.burns() >= strikesOut }

// Closed reports whether a volunteer can earn nothing more: it equivocated, or
// this was its third strike.
func (b *Book) Closed(n workunits.NodeID) bool {
	b.settle()
	a := b.authors[n]
	return a != nil && (a.forked || a.closed())
}

// Stale reports whether copies granted by a steward now would not count, since
// the volunteer was burned and the steward's log does not hold the fault yet.
func (b *Book) Stale(n, by workunits.NodeID) bool {
	b.settle()
	a, g := b.authors[n], b.authors[by]
	if a == nil || g == nil {
		return false
	}
	life := 0
	for _, f := range g.faulted {
		if f.against == n {
			life++
		}
	}
	return life < len(a.lives) && a.lives[life].burned > 0
}

// Staked reports whether a volunteer is more than a newcomer: trusted by the
// publisher, or with a stake.
func (b *Book) Staked(n workunits.NodeID) bool {
	a := b.authors[n]
	return a != nil && (a.trusted || a.history > 0 && a.burns() == 0 || b.Stake(n) > 0)
}

// Trusted reports whether the publisher trusts a volunteer's copies, as it does its own.
func (b *Book) Trusted(n workunits.NodeID) bool {
	a := b.authors[n]
	return a != nil && a.trusted
}

// Crowd tells what a steward's choice of volunteers goes by: the bar of all stakes,
// see [Law.Bar], and how many copies burned lives have made. It looks at everybody.
func (b *Book) Crowd() (bar float64, burned int) {
	b.settle()
	var stakes []uint64
	for _, a := range b.authors {
		stakes = append(stakes, a.worth())
		for _, l := range a.lives {
			if l.burned > 0 {
				burned += len(l.units)
			}
		}
	}
	return b.law.Bar(stakes), burned
}

// worth is what an author earned here and brought, unless it was burned.
func (a *author) worth() uint64 {
	n := uint64(a.credit())
	if a.burns() == 0 && !a.forked {
		n += a.history
	}
	return n
}

// Poor is Law.Poor for a volunteer, never for one that the publisher trusts.
func (b *Book) Poor(n workunits.NodeID, bar float64) bool {
	b.settle()
	a := b.authors[n]
	if a == nil {
		a = &author{}
	}
	return !a.trusted && b.law.Poor(float64(a.worth()), bar)
}

// Stakes is the table of stakes with which the project's next job may start,
// ascending by volunteer: what each brought and what it earned here. Who was
// burned stands in it with its strikes.
func (b *Book) Stakes() workunits.StakeTable {
	b.settle()
	var t workunits.StakeTable
	for _, a := range b.authors {
		s := workunits.Stake{Node: a.id, Strikes: a.strikes + uint32(a.burns()), Millis: uint64(a.credit()) * b.manifest.Nominal}
		if a.burns() == 0 && !a.forked {
			s.Millis += a.brought
		}
		if s.Millis > 0 || s.Strikes > 0 {
			t.Stakes = append(t.Stakes, s)
		}
	}
	slices.SortFunc(t.Stakes, func(x, y workunits.Stake) int { return x.Node.Compare(y.Node) })
	return t
}

// Head is the fingerprint of this book's verdict over the given logs, all of
// what it read.
func (b *Book) Head(logs []workunits.LogHead) workunits.Head {
	h := workunits.Head{Logs: logs, Set: workunits.Sum(workunits.Encode(logs)), Credit: make([]uint64, len(logs))}
	for i, l := range logs {
		h.Credit[i] = uint64(b.Stake(l.Author))
	}
	return h
}

// FalseHeads lists the authors of heads that the ledger refutes, ascending: they
// told other stakes than the statements give. It costs a reading of the ledger
// for each different head, and skips those over logs that are not here.
func FalseHeads(job workunits.JobID, m workunits.Manifest, standing workunits.StakeTable, l *ledger.Ledger) []workunits.NodeID {
	right, liars := map[digest]bool{}, map[node]bool{}
	var heads []ledger.Entry
	l.Walk(l.Heads(), func(e ledger.Entry) {
		if e.Kind == workunits.KindHead && e.Body != nil {
			heads = append(heads, e)
		}
	})
	for _, e := range heads {
		h := e.Body.(workunits.Head)
		id := h.ID()
		if _, done := right[id]; !done {
			b := ReadWith(job, m, standing, l, h.Logs)
			right[id] = b == nil || slices.Equal(b.Head(h.Logs).Credit, h.Credit)
		}
		liars[e.Author] = liars[e.Author] || !right[id]
	}
	maps.DeleteFunc(liars, func(_ node, lied bool) bool { return !lied })
	return slices.SortedFunc(maps.Keys(liars), workunits.NodeID.Compare)
}

// Bound is the wrong rate that a job's verdicts can be vouched for with, as far
// as at most the assumed share of volunteers colludes. Conditional says that
// nobody whom the publisher trusts, and nobody with a stake, has checked
// anything: then the share of honest newcomers decides, too.
type Bound struct {
	Rate        float64
	Conditional bool
}

// Bound works out the bound from the accepted units; it looks at all of them that
// are not packed.
func (b *Book) Bound() Bound {
	b.settle()
	var d doubts
	bound := Bound{Conditional: true}
	for _, a := range b.authors {
		bound.Conditional = bound.Conditional && (len(a.lives) == 0 || !a.trusted && a.history == 0)
	}
	for i := range b.pages {
		x := b.doubtsIn(i)
		d.sum, d.units, d.copies = d.sum+x.sum, d.units+x.units, d.copies+x.copies
	}
	if d.units > 0 {
		bound.Rate = min(1, d.sum/float64(d.units)*max(1, float64(d.copies)/float64(d.units)))
	}
	return bound
}

// doubt is the chance of a wrong result that an accepted unit's copies leave, and
// how many count.
func (b *Book) doubt(u uint32) (chance float64, copies int) {
	list, _ := b.counting(u, b.current(u), everyRound)
	if slices.ContainsFunc(list, func(k copyOf) bool { return k.by.trusted }) {
		return 0, len(list)
	}
	chain := longest(openOf(list))
	if len(chain) == 0 {
		return 0, len(list)
	}
	who := b.drawers(chain[len(chain)-1], list)
	return b.law.Vouches(len(chain), b.stakeAt(chain[0], who), b.bar(who)), len(list)
}

// leastDoubt is that of results of volunteers whom the publisher trusts, when it
// comes to checking some.
const leastDoubt = 1e-9

// Sample picks up to n accepted units of which the publisher has no copy, each
// the sooner the more it is in doubt, ascending. Whoever chooses the seed at random
// after the units were accepted picks units that nobody could foresee.
func (b *Book) Sample(n int, seed [32]byte) []uint32 {
	b.settle()
	type entry struct {
		unit uint32
		lot  float64 // exponential with the doubt as its rate: the least n are the sample
	}
	var list []entry
	for u := range b.total {
		if b.look(u).state != Accepted || b.Committed(u, b.manifest.Publisher) {
			continue
		}
		doubt, _ := b.doubt(u)
		lot := -math.Log1p(-fraction(b.job, u, digest(seed), digest(seed)))
		list = append(list, entry{u, lot / max(doubt, leastDoubt)})
	}
	slices.SortFunc(list, func(x, y entry) int { return cmp.Or(cmp.Compare(x.lot, y.lot), cmp.Compare(x.unit, y.unit)) })
	var units []uint32
	for _, e := range list[:min(max(n, 0), len(list))] {
		units = append(units, e.unit)
	}
	slices.Sort(units)
	return units
}
